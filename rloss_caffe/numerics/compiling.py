"""How kernels are compiled: lazily, cached on disk, with the GIL released, and on a terminal with a word."""

import sys
import types
import zlib
from pathlib import Path

import numba

from rloss_caffe.numerics.terminal import is_terminal

try:
    from numba.core import event
except ImportError:  # another Numba: then nothing is said
    event = None  # type: ignore[assignment]

__all__ = ["jit"]

# Numba's cache looks at the time of the file a kernel is in, not at the other files whose code goes into it. With this
# in every name, a change of any file in the rooms that have kernels makes all of them new.
_ROOMS = ("numerics", "filtering", "losses")
_FILES = sorted(path for room in _ROOMS for path in (Path(__file__).parents[1] / room).glob("*.py"))
_SOURCES = f"{zlib.crc32(b''.join(path.read_bytes() for path in _FILES)):08x}"


def jit(function=None, special=(), inner=None, entry=True, **options):
    """``numba.njit`` with the package's options; without a disk cache where no folder for it can be written.

    A kernel that is made several times, for several constants in its closure, must give them as ``special``: they
    become part of its name. Numba names compiled code by the function's name and a counter of the process, so that two
    specialisations of one name, cached by two processes, would meet as one symbol in a third.

    `inner` is a module, or a dictionary, whose names take the place of the kernel's globals: the functions that it
    calls. In its closure they would be a part of the cache's key, and another one in every process: it is refused.

    A function that only kernels call has no ``entry`` for calls from Python, which takes as long to compile as some
    functions; it is kept on disk as a part of those kernels. Python that calls it all the same ends the process.
    """
    if function is None:
        return lambda function: jit(function, special, inner, entry, **options)
    if inner is not None:
        names = inner if isinstance(inner, dict) else {name: getattr(inner, name) for name in inner.__all__}
        function = _with_globals(function, names)
    cells = zip(function.__code__.co_freevars, function.__closure__ or ())
    functions = [name for name, cell in cells if callable(cell.cell_contents)]
    if functions:
        raise TypeError(f"{function.__name__} must get the function {functions[0]} as inner: it would never be cached")
    function.__qualname__ = "_".join([function.__qualname__, *map(str, special), _SOURCES])
    if not entry:
        return numba.njit(no_cpython_wrapper=True, no_cfunc_wrapper=True, **options)(function)
    options.update(nogil=True, no_cfunc_wrapper=True)  # that is for calls from C, which nobody makes
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # Numba's "no locator available": neither beside the file nor in the user's cache
        return numba.njit(**options)(function)


def _with_globals(function, names):
    code, names = function.__code__, {**function.__globals__, **names}
    bound = types.FunctionType(code, names, function.__name__, function.__defaults__, function.__closure__)
    bound.__module__, bound.__qualname__, bound.__doc__ = function.__module__, function.__qualname__, function.__doc__
    return bound


if event is not None:

    class _Announcer(event.Listener):
        """Says on a terminal that kernels are compiled: their user waits for some seconds, the first time only.

        Numba sends the event when it has not found a function in its cache on disk.
        """

        def __init__(self):
            self._has_spoken = False

        def on_start(self, event):
            function = getattr((event.data or {}).get("dispatcher"), "py_func", None)
            # A function that Numba 0.56 writes itself has no module: None.
            of_ours = (getattr(function, "__module__", None) or "").startswith("rloss_caffe.")
            if of_ours and not self._has_spoken and is_terminal():
                self._has_spoken = True
                sys.stderr.write("rloss_caffe: compiling the kernels, once\n")
                sys.stderr.flush()

        def on_end(self, event):
            pass

    event.register("numba:compile", _Announcer())
