"""Put a module 'bilateralfilter' into this Python, so that projects that import it run without an edit.

rloss for PyTorch, RRM, AFA, ToCo and others import a C++/SWIG module of that name, which has to be built. The module
that is put here has three lines and hands the two functions of rloss_caffe.bilateralfilter on. It goes into this
Python's site-packages, or into --target. Another module of that name, anywhere on the import path, is never replaced
nor hidden: the command names it and does nothing. --remove takes away what this command has put, and nothing else.
"""

import contextlib
import importlib
import importlib.util
import os
import site
import subprocess
import sys
import sysconfig
from importlib.machinery import PathFinder
from pathlib import Path

from rloss_caffe.data.files import printable, write_text
from rloss_caffe.installation import PACKAGE, pip_install

__all__ = ["EXAMPLE", "add_arguments", "run"]

EXAMPLE = "rloss-caffe provide-bilateralfilter"
NAME = "bilateralfilter"
# What is ours is known by this text, whole: one that somebody has edited is theirs. If it ever changes, --remove must
# still know it.
TEXT = '''\
"""Put here by 'rloss-caffe provide-bilateralfilter'; the same with --remove takes it away."""
from rloss_caffe.bilateralfilter import bilateralfilter, bilateralfilter_batch
__all__ = ["bilateralfilter", "bilateralfilter_batch"]
'''


def add_arguments(parser):
    parser.add_argument("--remove", action="store_true", help="take the module away again")
    parser.add_argument(
        "--target", type=Path, metavar="FOLDER", help="where to put it (default: this Python's site-packages)"
    )


def run(arguments):
    """0 if the module is there, with --remove if it is not; an error where another one is in the way."""
    folder = Path(arguments.target or sysconfig.get_path("purelib")).absolute()
    path = folder / f"{NAME}.py"
    if arguments.remove:
        return _remove(path)
    others = [other for other in _found(folder) if not _is_ours(other)]
    if os.path.lexists(path) and not _is_ours(path) and str(path) not in others:  # a link that leads nowhere, say
        others.append(str(path))
    if others:
        raise ValueError(
            f"there is another module {NAME}, which stays as it is: {', '.join(map(printable, others))}. Projects that "
            f"import {NAME} take that one; remove it, and give the command again, if they shall take this package's."
        )
    if _is_ours(path):
        print(f"it is there already: {printable(path)}")
    else:
        _check_the_package(folder)
        with _explained(folder):
            write_text(path, TEXT)
        print(f"written: {printable(path)}")
    if not any(_is_same(entry, folder) for entry in sys.path):
        print(f"this folder is not on the import path yet: add it to PYTHONPATH, {printable(folder)}")
    return 0


def _remove(path):
    if not os.path.lexists(path):
        print(f"there is nothing to remove: no {printable(path)}")
        return 0
    if not _is_ours(path):
        raise ValueError(f"{printable(path)} stays: it is not, or no longer, what provide-bilateralfilter has written")
    with _explained(path.parent):
        path.unlink()
    with contextlib.suppress(OSError):
        os.unlink(importlib.util.cache_from_source(str(path)))
    print(f"removed: {printable(path)}")
    return 0


def _found(folder):
    """The files of all modules of that name that Python can import, or could if `folder` were on its path."""
    importlib.invalidate_caches()
    specs = [PathFinder.find_spec(NAME, [entry]) for entry in dict.fromkeys([str(folder), *sys.path])]
    for finder in sys.meta_path:  # those that packages in development bring along, which look up no path
        with contextlib.suppress(AttributeError, ImportError):
            specs.append(finder.find_spec(NAME, None))
    # A folder without __init__.py has no origin; it gives way to any module.
    return list(dict.fromkeys(os.path.abspath(spec.origin) for spec in specs if spec is not None and spec.origin))


def _is_ours(path):
    try:
        return Path(path).read_bytes() == TEXT.encode()
    except OSError:
        return False


def _is_same(entry, folder):
    try:
        return os.path.samefile(entry or os.curdir, folder)
    except OSError:
        return False


def _check_the_package(folder):
    """The module would be of no use where this package can be imported from its own checkout only."""
    command = [sys.executable, "-c", "import rloss_caffe.bilateralfilter"]
    done = subprocess.run(command, cwd=folder if folder.is_dir() else None, capture_output=True, text=True)
    if done.returncode:
        reason = done.stderr.strip().rpartition("\n")[2]
        install = pip_install("-e", str(PACKAGE.parent)) if (PACKAGE.parent / "setup.py").is_file() else None
        raise ValueError(
            f"rloss_caffe must be installed first, as the module imports it; outside its own folder: {reason}"
            + (f"; this installs it: {install}" if install else "")
        )


@contextlib.contextmanager
def _explained(folder):
    """An error of writing, with what may be done about it."""
    try:
        yield
    except OSError as error:
        ways = ["--target FOLDER takes a folder that you may write to and that is on PYTHONPATH"]
        if site.ENABLE_USER_SITE and not _is_same(site.getusersitepackages(), folder):
            ways.insert(0, f"--target {site.getusersitepackages()} is your own folder, which this Python looks into")
        reason = os.strerror(error.errno) if error.errno else error
        raise OSError(f"cannot change {printable(folder)}: {reason}; {', or '.join(ways)}") from None
