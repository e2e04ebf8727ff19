"""The border: what users hand in and where results go, checked once. Messages name the argument.

Behind these checks every array is float32, C-contiguous, aligned and writeable, and kernels trust what they get.
"""

from __future__ import annotations

import contextlib
import math
import operator
from numbers import Real
from typing import TYPE_CHECKING, Any, Mapping, Sequence

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "allocate",
    "bandwidth",
    "finite_number",
    "flag",
    "image_array",
    "output_array",
    "real_array",
    "shown",
    "whole_number",
]

INT_MAX = 2**31 - 1  # what Caffe's sizes are held in
_SHOWN = 80  # characters of a value that a message quotes


def real_array(
    name: str, value: Any, shape: Sequence[Any] | None = None, *, finite: bool = False, allow_empty: bool = False
) -> NDArray[np.float32]:
    """What a user hands in, as float32 that kernels may trust; a copy only where it is not that already.

    Parameters
    ----------
    name : str
        The argument's name, for messages.
    value : array_like
        Integers, floats or truth values. No complex, object, string or time types, and nothing masked.
    shape : sequence of int and str, optional
        For each axis its size, or a name where any size will do: ``(2, "channels", "height", "width")``. An
        Ellipsis in front stands for any number of axes. None: any shape.
    finite : bool
        Refuse NaN and infinity.
    allow_empty : bool
        Accept axes of size 0.

    Returns
    -------
    ndarray, float32, C-contiguous, aligned, writeable

    Raises
    ------
    ValueError
        The type, the shape or a value does not fit; also a finite number beyond the range of float32.
    """
    try:
        array = np.asarray(value)
    except Exception as error:  # whatever an object's own conversion raises
        raise ValueError(f"{name} must be an array of real numbers, found {shown(value)}: {error}") from error
    if array.dtype.kind not in "fiub":
        found = f"dtype {array.dtype}" if isinstance(value, np.ndarray) else f"{shown(value)} (dtype {array.dtype})"
        raise ValueError(f"{name} must hold real numbers, found {found}")
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise ValueError(f"{name} must have a value everywhere, found a masked array: fill it first")
    if shape is not None and not _fits(array.shape, shape):
        raise ValueError(f"{name} must have shape {_shape_text(shape)}, found shape {array.shape}")
    if array.size == 0 and not allow_empty:
        raise ValueError(f"{name} is empty: its shape is {array.shape}")
    with np.errstate(over="ignore"):
        single = np.require(array, np.float32, ["C", "A", "W"])
    if finite or array.dtype.itemsize > 4:
        _check_values(name, array, single, finite)
    return single


def _fits(found: tuple[int, ...], shape: Sequence[Any]) -> bool:
    if shape and shape[0] is Ellipsis:
        shape = shape[1:]
        found = found[max(0, len(found) - len(shape)) :]
    return len(found) == len(shape) and all(isinstance(e, str) or e == size for e, size in zip(shape, found))


def _shape_text(shape: Sequence[Any]) -> str:
    axes = ["..." if axis is Ellipsis else str(axis) for axis in shape]
    return f"({axes[0]},)" if len(axes) == 1 else f"({', '.join(axes)})"


def _check_values(name: str, array: NDArray[Any], single: NDArray[np.float32], finite: bool) -> None:
    bad = np.isfinite(single)
    if bad.all():
        return
    np.logical_not(bad, out=bad)
    if not finite:  # what came as NaN or infinity may stay
        bad &= np.isfinite(array)
        if not bad.any():
            return
    place = tuple(int(axis) for axis in np.unravel_index(int(bad.argmax()), bad.shape))
    found, where = array[place], f" at {place}" if place else ""
    if np.isfinite(found):
        raise ValueError(f"{name} must fit into single precision (up to 3.4e38), found {found}{where}")
    raise ValueError(f"{name} must be finite, found {found}{where}")


def image_array(image: Any, name: str = "image", *, finite: bool = True) -> NDArray[np.float32]:
    """One image (C, H, W), float32, with at least one channel and one pixel."""
    return real_array(name, image, ("channels", "height", "width"), finite=finite)


def output_array(
    name: str,
    out: Any,
    shape: Sequence[int],
    *,
    apart_from: Mapping[str, NDArray[Any] | None] | None = None,
    may_be: Mapping[str, NDArray[Any] | None] | None = None,
) -> NDArray[np.float32]:
    """Where a result goes: the user's array if it can take the result, or fresh memory for None.

    Parameters
    ----------
    name : str
        The argument's name, for messages.
    out : ndarray or None
    shape : sequence of int
        The result's shape.
    apart_from : mapping of str to ndarray, optional
        Inputs, by name, that must share no memory with `out`, because they are still read when it is written.
    may_be : mapping of str to ndarray, optional
        Inputs, by name, that may be `out` exactly, element for element, but not overlap it otherwise.

    Returns
    -------
    ndarray, shape `shape`, float32, C-contiguous, aligned, writeable

    Raises
    ------
    ValueError
        `out` is no such array, or shares memory with an input. Inputs must be C-contiguous, as `real_array` gives
        them; then the test is exact.
    """
    shape = tuple(shape)
    if out is None:
        return allocate(name, shape)
    if not isinstance(out, np.ndarray) or isinstance(out, np.ma.MaskedArray):
        found = type(out).__name__
        raise ValueError(f"{name} must be an ndarray that receives the result, float32 of shape {shape}, found {found}")
    if out.shape != shape or out.dtype != np.float32 or not (out.flags.c_contiguous and out.flags.aligned):
        layout = "C-contiguous" if out.flags.c_contiguous else "not C-contiguous"
        layout += "" if out.flags.aligned else ", not aligned"
        raise ValueError(
            f"{name} must be a C-contiguous float32 array of shape {shape}, "
            f"found {out.dtype} of shape {out.shape}, {layout}"
        )
    if not out.flags.writeable:
        raise ValueError(f"{name} must be writeable, found a read-only array")
    for other, array in (apart_from or {}).items():
        if array is not None and np.may_share_memory(out, array):
            raise ValueError(f"{name} must not share memory with {other}")
    for other, array in (may_be or {}).items():
        if array is not None and np.may_share_memory(out, array) and not _same_memory(out, array):
            raise ValueError(f"{name} may be {other} itself, but must not overlap it otherwise")
    return out


def _same_memory(a: NDArray[Any], b: NDArray[Any]) -> bool:
    return bool(a.ctypes.data == b.ctypes.data and a.nbytes == b.nbytes)


def allocate(name: str, shape: Sequence[int]) -> NDArray[np.float32]:
    """Fresh float32 memory; the error, where there is not that much, is a ValueError with `name`."""
    try:
        return np.empty(tuple(shape), np.float32)
    except (MemoryError, ValueError, OverflowError) as error:
        text = shown(tuple(shape))
        raise ValueError(f"the size is too large: {name} of shape {text} is more than fits into memory") from error


def whole_number(name: str, value: Any, minimum: int = -INT_MAX, maximum: int = INT_MAX) -> int:
    """`value` as an int within its bounds; truth values and floats are no whole numbers.

    Raises
    ------
    ValueError
        It is none, or out of bounds.
    """
    number = None
    if not isinstance(value, (bool, np.bool_)):
        with contextlib.suppress(TypeError):
            number = operator.index(value)
    if number is None or not minimum <= number <= maximum:
        bounds = "" if minimum == -INT_MAX else f" >= {minimum}"
        if maximum != INT_MAX or (number is not None and number > maximum):
            bounds = f" from {minimum} to {maximum}"
        raise ValueError(f"{name} must be a whole number{bounds}, found {shown(value)}")
    return number


def flag(name: str, value: Any) -> bool:
    """`value` as a bool: True, False, 1 or 0, but no text and nothing else that only counts as true.

    Raises
    ------
    ValueError
        It is none of them.
    """
    if not isinstance(value, (bool, np.bool_)):
        try:
            if operator.index(value) not in (0, 1):
                raise TypeError
        except TypeError:
            raise ValueError(f"{name} must be True or False, found {shown(value)}") from None
    return bool(value)


def finite_number(name: str, value: Any) -> np.float32:
    """`value` as float32: a number that is finite there.

    Raises
    ------
    ValueError
        It is no number, NaN, infinite, or beyond the range of float32.
    """
    single = _single(value)
    if single is None:
        raise ValueError(f"{name} must be a number, found {shown(value)}")
    if not math.isfinite(single):
        raise ValueError(f"{name} must be a finite number (up to 3.4e38), found {shown(value)}")
    return single


def bandwidth(name: str, value: Any) -> np.float32:
    """`value` as float32; it must be a finite number > 0 there.

    Raises
    ------
    ValueError
        It is not.
    """
    single = _single(value)
    if single is None:
        raise ValueError(f"{name} must be a number > 0, found {shown(value)}")
    if not (math.isfinite(single) and single > 0):
        raise ValueError(f"{name} must be a finite number > 0, found {shown(value)}")
    return single


def _single(value: Any) -> np.float32 | None:
    """A real number as float32, infinite where it is too large; None for what is no number."""
    if isinstance(value, np.ndarray):
        if value.ndim != 0 or value.dtype.kind not in "fiu":
            return None
    elif isinstance(value, (bool, np.bool_)) or not isinstance(value, Real):
        return None
    with np.errstate(over="ignore"):
        try:
            return np.float32(float(value))
        except OverflowError:  # an int beyond the range of float64
            return np.float32(np.inf)


def shown(value: Any) -> str:
    """A value as a message quotes it: short, whatever it is."""
    if isinstance(value, np.ndarray) and value.ndim:
        return f"an array of shape {value.shape}"
    try:
        text = repr(value)
    except Exception:  # an int of more digits than Python prints, or an object's own failure
        text = f"<{type(value).__name__}>"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
