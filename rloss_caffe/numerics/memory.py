"""Memory that is used again: the first touch of a fresh page costs more than the work on it.

What a lattice is made of is as large as the image's features, and lives no longer than a call. The C library gives such
memory back to the system and gets it anew, page by page, at every call.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

__all__ = ["Memory"]

MOST_KEPT = 1 << 26  # bytes that are kept for the next user
_SMALLEST = 1 << 15  # bytes: smaller memory is not given back to the system
_LINE = 64  # bytes in a cache line, where every array starts

_kept: dict[int, deque[NDArray[np.uint8]]] = {}  # of each size; each operation on it is atomic, there is no lock


class Memory:
    """A piece of memory for arrays that nobody needs any longer than this object; then another one may get it.

    Parameters
    ----------
    nbytes : int
        Of all arrays together.
    arrays : int
        How many there will be; each starts at a cache line.
    """

    def __init__(self, nbytes: int, arrays: int = 1) -> None:
        nbytes += arrays * _LINE
        step = max(_SMALLEST, 1 << max(0, int(nbytes).bit_length() - 4))  # of the sizes: at most an eighth is not used
        size = -(-nbytes // step) * step
        try:
            self._block = _kept[size].pop()
        except (KeyError, IndexError):
            self._block = np.empty(size, np.uint8)
        self._next = -self._block.__array_interface__["data"][0] % _LINE

    def array(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """The next array of this shape, with whatever values."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        first, self._next = self._next, self._next + -(-size // _LINE) * _LINE
        return self._block[first : first + size].view(dtype).reshape(shape)

    def __del__(self) -> None:
        block = getattr(self, "_block", None)
        if block is None or _kept is None or block.size > MOST_KEPT:  # None: the interpreter is about to end
            return
        if block.size + sum(size * len(blocks) for size, blocks in list(_kept.items())) > MOST_KEPT:
            _kept.clear()  # sizes that are in use come back by themselves
        _kept.setdefault(block.size, deque()).append(block)
