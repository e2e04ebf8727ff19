"""How kernels are compiled: lazily, cached on disk, with the GIL released."""

import numba

__all__ = ["jit"]


def jit(function=None, **options):
    """``numba.njit`` with the package's options; without a disk cache where no folder for it can be written."""
    if function is None:
        return lambda function: jit(function, **options)
    try:
        return numba.njit(cache=True, nogil=True, **options)(function)
    except RuntimeError:  # Numba's "no locator available": neither beside the file nor in the user's cache
        return numba.njit(nogil=True, **options)(function)
