"""Net files in either dialect as Caffe is to get them: read once, checked for what would end the process."""

import contextlib
import os
import re
import tempfile
from dataclasses import dataclass
from typing import Any

try:
    import fcntl
except ImportError:  # no Unix
    fcntl = None  # type: ignore[assignment]

from rloss_caffe.data.files import write_text
from rloss_caffe.nets.net_conversion import NetConversion
from rloss_caffe.nets.prototxt import DialectError, check_filled_in, is_net, parse, read_text, to_stock, to_text

__all__ = ["COPY_PREFIX", "FolderForCaffe", "NetFile", "read_net_file"]

_FIRST_DESCRIPTOR = 100  # above those that programs usually have open: the same number in each run
# What usually stands before a user's path when Caffe is given a copy; logs that are for people leave it out.
COPY_PREFIX = f"/proc/self/fd/{_FIRST_DESCRIPTOR}/"


_NOT_PLAIN = re.compile(r"[\0-\x08\x0e-\x1f\x7f]|\\(?![abfnrtv\\?'\"0-7])")


@dataclass
class NetFile:
    """A net that has been read.

    Attributes
    ----------
    path : str
    message : NetParameter
        In the extended schema, but with nothing of the fork's in it.
    is_as_written : bool
        Whether Caffe can be given the file itself.
    """

    path: str
    message: Any
    is_as_written: bool


def read_net_file(path, check_types=False, must_be_new=False):
    """Read a net in either dialect.

    Parameters
    ----------
    path : str
    check_types : bool
        Refuse layers that the installed Caffe does not know.
    must_be_new : bool
        Put a net in the old form, ``layers``, into the new one, even if Caffe could do that itself.

    Returns
    -------
    NetFile

    Raises
    ------
    DialectError
        The file cannot be read or is no net, a placeholder is not filled in, or something has no counterpart.
    """
    text = read_text(path)
    if not is_net(text):
        raise DialectError(f"{path}: expected a net, found a solver or nothing")
    check_filled_in(text, path)
    prototxt = parse(text, "NetParameter", path)
    conversion = NetConversion(prototxt, prototxt.message, (0, len(text)), lambda _: None)
    changed = conversion.convert(must_be_new=must_be_new)
    unknown = conversion.unknown_types() if check_types else ()
    if unknown:
        raise DialectError(unknown[0])
    return NetFile(path, prototxt.message, not changed and _is_plain(path, text))


class FolderForCaffe:
    """A temporary folder for what Caffe is given in place of a user's files. Used as a context.

    Caffe's log names the files, and readers of logs tell trainings apart by that. So the path that Caffe gets is the
    user's own behind a beginning that is the same in each run, ``/proc/self/fd/100/``; `prefix` has it. On systems
    without such paths the beginning is the folder's random name.
    """

    def __enter__(self):
        self._stack = contextlib.ExitStack()
        self._folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="rloss_caffe_"))
        self.prefix = f"{self._descriptor_path() or self._folder}/"
        return self

    def __exit__(self, *_):
        self._stack.close()

    def put(self, path, text):
        """Write a text; returns the path for Caffe."""
        inner = path if _stays_inside(path) else os.path.abspath(path)
        target = f"{self._folder}/{inner}"
        os.makedirs(os.path.dirname(target), exist_ok=True)
        write_text(target, text)
        return f"{self.prefix}{inner}"

    def net_path(self, net):
        """The path for Caffe of a `NetFile`."""
        return net.path if net.is_as_written else self.put(net.path, to_text(to_stock(net.message, "NetParameter")))

    def _descriptor_path(self):
        if fcntl is None:
            return None
        opened = os.open(self._folder, os.O_RDONLY)
        try:
            descriptor = fcntl.fcntl(opened, fcntl.F_DUPFD_CLOEXEC, _FIRST_DESCRIPTOR)
        except OSError:  # the process may not have that many
            return None
        finally:
            os.close(opened)
        self._stack.callback(os.close, descriptor)
        path = f"/proc/self/fd/{descriptor}"
        return path if os.path.isdir(path) else None


def _stays_inside(path):
    return os.pardir not in path.split(os.sep)


def _is_plain(path, text):
    """Whether a file has nothing that protobuf reads in Python and refuses in C++.

    That are byte-order marks, control characters, and backslashes before characters that need none.
    """
    if _NOT_PLAIN.search(text):
        return False
    with open(path, "rb") as file:
        return file.read(1) not in (b"\xef", b"\xff", b"\xfe", b"\0")
