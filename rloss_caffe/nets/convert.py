"""Turn nets and solvers of the fork's dialect into stock Caffe's: files and texts that stay as they were written."""

import os
import sys

from rloss_caffe.data.files import write_text
from rloss_caffe.nets.net_conversion import NetConversion, edited_text
from rloss_caffe.nets.net_file import read_net_file
from rloss_caffe.nets.prototxt import DialectError, is_net, parse, read_text, to_stock
from rloss_caffe.nets.solver_conversion import convert_solver, is_same_file
from rloss_caffe.nets.text import Edits

__all__ = ["convert_file", "convert_text", "read_net", "to_stderr"]


def convert_text(text, name="prototxt", warn=None):
    """Convert a net.

    Parameters
    ----------
    text : str
    name : str
        What messages call it.
    warn : callable, optional
        Gets a line of text for everything that is left out, and for layers that the installed Caffe does not know.

    Returns
    -------
    str
        The same text, comments and all, but for the fork's layers in it. A net in the old form, ``layers``, is put into
        the new one if it has any of them.

    Raises
    ------
    DialectError
    """
    warn = warn or _silent
    prototxt = parse(text, "NetParameter", name)
    edits = Edits(text)
    conversion = NetConversion(prototxt, prototxt.message, (0, len(text)), warn)
    changed = conversion.convert(edits)
    for line in conversion.unknown_types() if warn is not _silent else ():
        warn(line)
    return edited_text(edits, prototxt.message, "NetParameter", prototxt.placeholders) if changed else text


def convert_file(source, target=None, warn=None):
    """Convert a net or solver file.

    Parameters
    ----------
    source : path
    target : path, optional
        The result. The nets of a solver that need converting are written beside it, as ``NAME_stock.prototxt``.
        None: nothing is written; the nets of a solver keep their paths.
    warn : callable, optional
        As for `convert_text`.

    Returns
    -------
    str
        The converted text.

    Raises
    ------
    DialectError
        Nothing has been written then.
    """
    source, warn = os.fspath(source), warn or _silent
    target = None if target is None else os.fspath(target)
    text = read_text(source)
    if is_net(text):
        result, inputs, nets = convert_text(text, source, warn), [source], {}
    else:
        solver = convert_solver(text, source, target, convert_text, warn)
        result, inputs, nets = solver.text, solver.inputs, solver.nets
    if target is not None:
        _write_all(target, result, nets, inputs, warn)
    return result


def read_net(path):
    """A net in either dialect, as a stock NetParameter; its placeholders must be filled in."""
    return to_stock(read_net_file(os.fspath(path)).message, "NetParameter")


def to_stderr(line):
    """A `warn` for commands."""
    print(line, file=sys.stderr)


def _write_all(target, text, nets, inputs, warn):
    for path in inputs:
        if is_same_file(target, path):
            raise DialectError(f"{target}: this is an input; give the result another name")
    for path, content in [*nets.items(), (target, text)]:
        try:
            write_text(path, content)
        except OSError as error:
            raise DialectError(error.strerror) from None
        if path in nets:
            warn(f"wrote {path}")


def _silent(_):
    pass
