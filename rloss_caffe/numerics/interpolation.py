"""Bilinear interpolation between grids whose corners coincide, and its adjoint: the arithmetic of the Interp layer.

A sample ``h`` of the output lies at ``h * (input - 1) / (output - 1)`` of the input. There is no antialiasing: a
shrunk map is a sampled map. Weights are computed in single precision, as in DeepLab's layer, so that results agree.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rloss_caffe.numerics import threads
from rloss_caffe.numerics.arrays import INT_MAX, output_array, real_array, whole_number
from rloss_caffe.numerics.compiling import jit

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "MODES",
    "interpolate",
    "interpolate_adjoint",
    "interpolated_size",
    "is_blending",
    "rescale",
    "rescale_adjoint",
    "rescaling_samples",
]

MODES = ("bilinear", "nearest")
_EXACT_LENGTH = 1 << 22  # samples beyond which a float32 has no room left for a position's fraction


def interpolated_size(
    size: tuple[int, int],
    height: int | None = None,
    width: int | None = None,
    zoom_factor: int | None = None,
    shrink_factor: int | None = None,
    pad_beg: int = 0,
    pad_end: int = 0,
) -> tuple[int, int]:
    """Rows and columns after interpolation; ``None`` stands for a parameter that is not given.

    With L the input's rows or columns plus `pad_beg` plus `pad_end`, the first of these that applies decides:

    1. `shrink_factor` alone: ``(L - 1) // shrink_factor + 1``;
    2. `zoom_factor` alone: ``L + (L - 1) * (zoom_factor - 1)``;
    3. `height` and `width`: these;
    4. `shrink_factor` and `zoom_factor`: first the one, then the other.

    Parameters
    ----------
    size : (int, int)
        Rows and columns of the input, >= 1.
    height, width, zoom_factor, shrink_factor : int >= 1, optional
    pad_beg, pad_end : int <= 0
        Minus the number of rows and columns to crop at the top and left, and at the bottom and right.

    Returns
    -------
    (int, int)

    Raises
    ------
    ValueError
        A value out of range, a combination that says nothing about the size, or nothing left after cropping.
    """
    cropped = _cropped("size", _size("size", size), pad_beg, pad_end)
    height, width, zoom_factor, shrink_factor = (
        None if value is None else whole_number(name, value, 1)
        for name, value in (
            ("height", height),
            ("width", width),
            ("zoom_factor", zoom_factor),
            ("shrink_factor", shrink_factor),
        )
    )

    result = _rule(cropped, height, width, zoom_factor, shrink_factor)
    if max(result) > INT_MAX:
        given = f"height {height}, width {width}, zoom_factor {zoom_factor}, size {tuple(size)}"
        raise ValueError(f"{result[0]} x {result[1]} is too large: at most {INT_MAX} rows and columns ({given})")
    return result


def _rule(size, height, width, zoom_factor, shrink_factor):
    shrink, zoom = shrink_factor is not None, zoom_factor is not None
    if shrink and not zoom:
        return tuple(_shrunk(length, shrink_factor) for length in size)
    if zoom and not shrink:
        return tuple(_zoomed(length, zoom_factor) for length in size)
    if height is not None and width is not None:
        return height, width
    if shrink and zoom:
        return tuple(_zoomed(_shrunk(length, shrink_factor), zoom_factor) for length in size)
    if height is None and width is None:
        raise ValueError("the output's size is not given: give zoom_factor, shrink_factor, or height and width")
    missing, present = ("height", "width") if height is None else ("width", "height")
    raise ValueError(f"{missing} must be given with {present}")


def _size(name: str, size: Any) -> tuple[int, int]:
    """Rows and columns, each a whole number >= 1."""
    try:
        rows, columns = size
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be two whole numbers >= 1 (rows, columns)") from None
    return whole_number(f"{name}[0]", rows, 1), whole_number(f"{name}[1]", columns, 1)


def _cropped(name: str, size: tuple[int, ...], pad_beg: int, pad_end: int) -> tuple[int, int]:
    """Rows and columns that cropping leaves."""
    pad_beg, pad_end = whole_number("pad_beg", pad_beg), whole_number("pad_end", pad_end)
    if pad_beg > 0 or pad_end > 0:
        raise ValueError(f"pad_beg and pad_end can only crop: they must be <= 0, found {pad_beg} and {pad_end}")
    rows, columns = (length + pad_beg + pad_end for length in size)
    if min(rows, columns) < 1:
        found = f"{size[0]} x {size[1]} ({name})"
        raise ValueError(f"nothing is left of an input of {found} after pad_beg {pad_beg} and pad_end {pad_end}")
    return rows, columns


def _shrunk(length, factor):
    return (length - 1) // factor + 1


def _zoomed(length, factor):
    return length + (length - 1) * (factor - 1)


def is_blending(length: int, output_length: int) -> bool:
    """Whether an output sample lies between input samples, so that a shrunk label map would hold blended classes.

    Parameters
    ----------
    length, output_length : int >= 1
        Samples of one axis before and after.

    Raises
    ------
    ValueError
        A length is no whole number >= 1.
    """
    length, output_length = whole_number("length", length, 1), whole_number("output_length", output_length, 1)
    first, second, fraction = _samples(length, output_length, "bilinear")
    return bool(np.any((fraction != 0) & (first != second)))


def interpolate(
    values: ArrayLike,
    size: tuple[int, int],
    pad_beg: int = 0,
    pad_end: int = 0,
    mode: str = "bilinear",
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Interpolate every channel to `size`.

    Parameters
    ----------
    values : array (..., H, W), float32
    size : (int, int)
        Rows and columns of the result, >= 1.
    pad_beg, pad_end : int <= 0
        Minus the number of rows and columns of `values` to leave out at the top and left, at the bottom and right.
    mode : {"bilinear", "nearest"}
        "nearest" takes the input sample nearest to the point, the one before it if two are equally near.
    out : array (..., rows, columns), float32, C-contiguous, optional
        Where to write the result; it must not overlap `values`.

    Returns
    -------
    array (..., rows, columns), float32

    Raises
    ------
    ValueError
        An array, a size or `mode` does not fit, or cropping leaves nothing.

    Notes
    -----
    NaN and infinity are interpolated like numbers: they spread to the samples between.
    """
    values = real_array("values", values, (..., "height", "width"))
    size = _size("size", size)
    cropped = _cropped("values", values.shape[-2:], pad_beg, pad_end)
    out = output_array("out", out, (*values.shape[:-2], *size), apart_from={"values": values})
    samples, start = _plan(cropped, size, pad_beg, _mode(mode))
    if samples is None:
        out[...] = values[(..., *start)]
        return out
    source, target = _planes(values), _planes(out)
    bounds = threads.bounds(len(source), threads.get_num_threads())
    threads.run(_interpolate_planes, [(source, target, -pad_beg, *samples, *bound) for bound in bounds])
    return out


def interpolate_adjoint(
    gradient: ArrayLike,
    size: tuple[int, int],
    pad_beg: int = 0,
    pad_end: int = 0,
    mode: str = "bilinear",
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """The adjoint of `interpolate`: from the gradient of its result to the gradient of its input.

    Parameters
    ----------
    gradient : array (..., rows, columns), float32
    size : (int, int)
        Rows and columns of the input of `interpolate`, >= 1.
    pad_beg, pad_end, mode
        As in `interpolate`.
    out : array (..., H, W), float32, C-contiguous, optional
        Where to write the result; it is overwritten, and must not overlap `gradient`.

    Returns
    -------
    array (..., H, W), float32
        0 in rows and columns that were left out.

    Raises
    ------
    ValueError
        As `interpolate`.
    """
    gradient = real_array("gradient", gradient, (..., "rows", "columns"))
    size = _size("size", size)
    cropped = _cropped("size", size, pad_beg, pad_end)
    out = output_array("out", out, (*gradient.shape[:-2], *size), apart_from={"gradient": gradient})
    samples, start = _plan(cropped, gradient.shape[-2:], pad_beg, _mode(mode))
    if samples is None:
        out[...] = 0
        out[(..., *start)] = gradient
        return out
    source, target = _planes(gradient), _planes(out)
    bounds = threads.bounds(len(source), threads.get_num_threads())
    threads.run(_scatter_planes, [(source, target, -pad_beg, *samples, *bound) for bound in bounds])
    return out


def rescale(
    values: NDArray[np.float32], scale_factor: float, mode: str, num_threads: int | None = None
) -> NDArray[np.float32]:
    """Every channel at `scale_factor` times its size: PyTorch's ``interpolate`` with ``align_corners=False``.

    Parameters
    ----------
    values : array (..., H, W), float32
    scale_factor : float
        Above 0, at most 1.
    mode : {"bilinear", "nearest"}
    num_threads : int, optional

    Returns
    -------
    array (..., floor(H scale_factor), floor(W scale_factor)), float32

    Raises
    ------
    ValueError
        Nothing is left.

    Notes
    -----
    Sample i of the result lies at ``(i + 0.5) / scale_factor - 0.5`` of the input, not below 0, or for "nearest" at
    ``floor(i / scale_factor)``. There is no antialiasing.
    """
    samples = rescaling_samples(values.shape[-2:], scale_factor, mode)
    out = np.empty((*values.shape[:-2], len(samples[0]), len(samples[3])), np.float32)
    source, target = _planes(values), _planes(out)
    bounds = threads.bounds(len(source), threads.resolve_num_threads(num_threads))
    threads.run(_interpolate_planes, [(source, target, 0, *samples, *bound) for bound in bounds])
    return out


def rescale_adjoint(
    gradient: NDArray[np.float32], scale_factor: float, out: NDArray[np.float32], num_threads: int | None = None
) -> None:
    """The adjoint of bilinear `rescale`: from the gradient of its result to that of its input, `out` (..., H, W)."""
    samples = rescaling_samples(out.shape[-2:], scale_factor, "bilinear")
    source, target = _planes(gradient), _planes(out)
    bounds = threads.bounds(len(source), threads.resolve_num_threads(num_threads))
    threads.run(_scatter_planes, [(source, target, 0, *samples, *bound) for bound in bounds])


def rescaling_samples(size: tuple[int, ...], scale_factor: float, mode: str) -> list[NDArray[Any]]:
    """What `rescale` takes: of the rows and then of the columns the samples before and after, and the latter's weights.

    A ValueError says that nothing is left.
    """
    samples = []
    for length in size:
        output_length = int(length * scale_factor)
        if not output_length:
            height, width = size
            raise ValueError(f"scale_factor must leave a pixel, found {scale_factor:g} for {height} x {width} pixels")
        if mode == "nearest":
            position = np.floor(np.arange(output_length) / scale_factor)
        else:  # pixels are areas: their centres lie half a pixel inside
            position = np.maximum((np.arange(output_length) + 0.5) / scale_factor - 0.5, 0)
        first = np.minimum(position.astype(np.int64), length - 1)
        samples += [first, np.minimum(first + 1, length - 1), (position - first).astype(np.float32)]
    return samples


def _planes(array):
    """The leading axes as one; always a view, as the array is contiguous."""
    return array.reshape(-1, *array.shape[-2:])


def _mode(mode: Any) -> str:
    if not (isinstance(mode, str) and mode in MODES):
        raise ValueError(f"mode must be one of {', '.join(MODES)}, found {repr(mode)[:80]}")
    return mode


def _plan(cropped, output_size, pad_beg, mode):
    """The samples of both axes, or None and the region to copy where the sizes are equal."""
    if cropped == tuple(output_size):
        return None, tuple(slice(-pad_beg, -pad_beg + length) for length in cropped)
    samples = []
    for length, output_length in zip(cropped, output_size):
        samples.extend(_samples(length, output_length, mode))
    return samples, None


def _samples(length, output_length, mode):
    """For every output position: the input samples before and after it, and the weight of the latter."""
    try:
        first, fraction = _positions(length, output_length)
    except MemoryError as error:
        raise ValueError(f"the size {output_length} (output_length) is more than fits into memory") from error
    if mode == "nearest":
        fraction = (fraction > 0.5).astype(np.float32)
    # Rounding may put the last position a little beyond the last sample: it has no neighbour, and needs none.
    return first, np.minimum(first + 1, length - 1), fraction


def _positions(length, output_length):
    """Of every output position in the input: the whole part and the fraction."""
    if max(length, output_length) <= _EXACT_LENGTH:
        ratio = np.float32(length - 1) / np.float32(output_length - 1) if output_length > 1 else np.float32(0)
        position = ratio * np.arange(output_length, dtype=np.float32)
        first = position.astype(np.int64)
        fraction = position - first.astype(np.float32)
    else:  # the same in whole numbers, which do not round
        steps = max(1, output_length - 1)
        first, rest = np.divmod(np.arange(output_length, dtype=np.int64) * (length - 1), steps)
        fraction = (rest / steps).astype(np.float32)
    return first, fraction


@jit
def _interpolate_planes(source, target, offset, first, second, weight, before, after, fraction, start, end):
    """Planes ``start .. end``: first along the rows that are needed, then between them.

    `offset` rows and columns of `source` are left out before the first sample; `first`, `second` and `weight` are the
    samples of the rows, `before`, `after` and `fraction` those of the columns.
    """
    one = np.float32(1)
    n_rows, n_columns = target.shape[1], target.shape[2]
    rows = np.empty((source.shape[1], n_columns), np.float32)
    for plane in range(start, end):
        done = -1  # samples never go back: all needed rows up to this one are interpolated
        for y in range(n_rows):
            for row in range(max(first[y], done + 1), second[y] + 1):
                values, interpolated = source[plane, offset + row], rows[row]
                for x in range(n_columns):
                    left, right = values[offset + before[x]], values[offset + after[x]]
                    interpolated[x] = (one - fraction[x]) * left + fraction[x] * right
                done = row
            below = weight[y]
            above = one - below
            upper, lower, out = rows[first[y]], rows[second[y]], target[plane, y]
            for x in range(n_columns):
                out[x] = above * upper[x] + below * lower[x]


@jit
def _scatter_planes(source, target, offset, first, second, weight, before, after, fraction, start, end):
    """Planes ``start .. end``: the adjoint of `_interpolate_planes`, its two steps in reverse order."""
    one = np.float32(1)
    n_rows, n_columns = source.shape[1], source.shape[2]
    rows = np.empty((second[n_rows - 1] + 1, n_columns), np.float32)
    for plane in range(start, end):
        rows[:] = 0
        target[plane] = 0
        for y in range(n_rows):
            below = weight[y]
            above = one - below
            upper, lower, gradient = rows[first[y]], rows[second[y]], source[plane, y]
            for x in range(n_columns):
                upper[x] += above * gradient[x]
            for x in range(n_columns):
                lower[x] += below * gradient[x]
        for row in range(rows.shape[0]):
            out, sums = target[plane, offset + row], rows[row]
            for x in range(n_columns):
                out[offset + before[x]] += (one - fraction[x]) * sums[x]
                out[offset + after[x]] += fraction[x] * sums[x]
