"""How kernels are compiled: lazily, cached on disk, with the GIL released."""

import zlib
from pathlib import Path

import numba

__all__ = ["jit"]

# Numba's cache looks at the time of the file a kernel is in, not at the other files whose code goes into it. With this
# in every name, a change of any file in the rooms that have kernels makes all of them new.
_ROOMS = ("numerics", "filtering", "losses")
_FILES = sorted(path for room in _ROOMS for path in (Path(__file__).parents[1] / room).glob("*.py"))
_SOURCES = f"{zlib.crc32(b''.join(path.read_bytes() for path in _FILES)):08x}"


def jit(function=None, special=(), **options):
    """``numba.njit`` with the package's options; without a disk cache where no folder for it can be written.

    A kernel that is made several times, for several constants in its closure, must give them as ``special``: they
    become part of its name. Numba names compiled code by the function's name and a counter of the process, so that two
    specialisations of one name, cached by two processes, would meet as one symbol in a third.
    """
    if function is None:
        return lambda function: jit(function, special, **options)
    function.__qualname__ = "_".join([function.__qualname__, *map(str, special), _SOURCES])
    try:
        return numba.njit(cache=True, nogil=True, **options)(function)
    except RuntimeError:  # Numba's "no locator available": neither beside the file nor in the user's cache
        return numba.njit(nogil=True, **options)(function)
