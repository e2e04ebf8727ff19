"""Bilinear interpolation between grids whose corners coincide, and its adjoint: the arithmetic of the Interp layer.

A sample ``h`` of the output lies at ``h * (input - 1) / (output - 1)`` of the input. There is no antialiasing: a
shrunk map is a sampled map. Weights are computed in single precision, as in DeepLab's layer, so that results agree.
"""

import numpy as np

from rloss_caffe.numerics import threads
from rloss_caffe.numerics.compiling import jit

__all__ = ["MODES", "interpolate", "interpolate_adjoint", "interpolated_size", "is_blending"]

MODES = ("bilinear", "nearest")


def interpolated_size(size, height=None, width=None, zoom_factor=None, shrink_factor=None, pad_beg=0, pad_end=0):
    """Rows and columns after interpolation; ``None`` stands for a parameter that is not given.

    With L the input's rows or columns plus `pad_beg` plus `pad_end`, the first of these that applies decides:

    1. `shrink_factor` alone: ``(L - 1) // shrink_factor + 1``;
    2. `zoom_factor` alone: ``L + (L - 1) * (zoom_factor - 1)``;
    3. `height` and `width`: these;
    4. `shrink_factor` and `zoom_factor`: first the one, then the other.

    Parameters
    ----------
    size : (int, int)
        Rows and columns of the input.
    height, width, zoom_factor, shrink_factor : int, optional
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
    if pad_beg > 0 or pad_end > 0:
        raise ValueError(f"pad_beg and pad_end can only crop: they must be <= 0, found {pad_beg} and {pad_end}")
    for name, factor in (("shrink_factor", shrink_factor), ("zoom_factor", zoom_factor)):
        if factor is not None and factor < 1:
            raise ValueError(f"{name} must be >= 1, found {factor}")
    cropped = tuple(length + pad_beg + pad_end for length in size)
    if min(cropped) < 1:
        raise ValueError(
            f"nothing is left of an input of {size[0]} x {size[1]} after pad_beg {pad_beg} and pad_end {pad_end}"
        )

    shrink, zoom = shrink_factor is not None, zoom_factor is not None
    if shrink and not zoom:
        return tuple(_shrunk(length, shrink_factor) for length in cropped)
    if zoom and not shrink:
        return tuple(_zoomed(length, zoom_factor) for length in cropped)
    if height is not None and width is not None:
        if height < 1 or width < 1:
            raise ValueError(f"height and width must be >= 1, found {height} and {width}")
        return height, width
    if shrink and zoom:
        return tuple(_zoomed(_shrunk(length, shrink_factor), zoom_factor) for length in cropped)
    if height is None and width is None:
        raise ValueError("the output's size is not given: give zoom_factor, shrink_factor, or height and width")
    missing, present = ("height", "width") if height is None else ("width", "height")
    raise ValueError(f"{missing} must be given with {present}")


def _shrunk(length, factor):
    return (length - 1) // factor + 1


def _zoomed(length, factor):
    return length + (length - 1) * (factor - 1)


def is_blending(length, output_length):
    """Whether an output sample lies between input samples, so that a shrunk label map would hold blended classes."""
    first, second, fraction = _samples(length, output_length, "bilinear")
    return bool(np.any((fraction != 0) & (first != second)))


def interpolate(values, size, pad_beg=0, pad_end=0, mode="bilinear", out=None):
    """Interpolate every channel to `size`.

    Parameters
    ----------
    values : array (..., H, W), float32
    size : (int, int)
        Rows and columns of the result.
    pad_beg, pad_end : int <= 0
        Minus the number of rows and columns of `values` to leave out at the top and left, at the bottom and right.
    mode : {"bilinear", "nearest"}
        "nearest" takes the input sample nearest to the point, the one before it if two are equally near.
    out : array (..., rows, columns), float32, C-contiguous, optional
        Where to write the result.

    Returns
    -------
    array (..., rows, columns), float32

    Raises
    ------
    ValueError
        `out` has a wrong shape or type, or `mode` is unknown.
    """
    values = np.ascontiguousarray(values, np.float32)
    out = _output(out, (*values.shape[:-2], *size))
    samples, start = _plan(values.shape[-2:], size, pad_beg, pad_end, mode)
    if samples is None:
        out[...] = values[(..., *start)]
        return out
    source, target = _planes(values), _planes(out)
    bounds = threads.bounds(len(source), threads.get_num_threads())
    threads.run(_interpolate_planes, [(source, target, -pad_beg, *samples, *bound) for bound in bounds])
    return out


def interpolate_adjoint(gradient, size, pad_beg=0, pad_end=0, mode="bilinear", out=None):
    """The adjoint of `interpolate`: from the gradient of its result to the gradient of its input.

    Parameters
    ----------
    gradient : array (..., rows, columns), float32
    size : (int, int)
        Rows and columns of the input of `interpolate`.
    pad_beg, pad_end, mode
        As in `interpolate`.
    out : array (..., H, W), float32, C-contiguous, optional
        Where to write the result; it is overwritten.

    Returns
    -------
    array (..., H, W), float32
        0 in rows and columns that were left out.
    """
    gradient = np.ascontiguousarray(gradient, np.float32)
    out = _output(out, (*gradient.shape[:-2], *size))
    samples, start = _plan(size, gradient.shape[-2:], pad_beg, pad_end, mode)
    if samples is None:
        out[...] = 0
        out[(..., *start)] = gradient
        return out
    source, target = _planes(gradient), _planes(out)
    bounds = threads.bounds(len(source), threads.get_num_threads())
    threads.run(_scatter_planes, [(source, target, -pad_beg, *samples, *bound) for bound in bounds])
    return out


def _output(out, shape):
    if out is None:
        return np.empty(shape, np.float32)
    if out.shape != shape or out.dtype != np.float32 or not out.flags.c_contiguous:
        raise ValueError(f"out must be a C-contiguous float32 array of shape {shape}, found {out.dtype} {out.shape}")
    return out


def _planes(array):
    """The leading axes as one; always a view, as the array is contiguous."""
    return array.reshape(-1, *array.shape[-2:])


def _plan(size, output_size, pad_beg, pad_end, mode):
    """The samples of both axes, or None and the region to copy where the sizes are equal."""
    if mode not in MODES:
        raise ValueError(f"mode must be one of {', '.join(MODES)}, found {mode!r}")
    cropped = tuple(length + pad_beg + pad_end for length in size)
    if cropped == tuple(output_size):
        return None, tuple(slice(-pad_beg, -pad_beg + length) for length in cropped)
    samples = []
    for length, output_length in zip(cropped, output_size):
        samples.extend(_samples(length, output_length, mode))
    return samples, None


def _samples(length, output_length, mode):
    """For every output position: the input samples before and after it, and the weight of the latter."""
    ratio = np.float32(length - 1) / np.float32(output_length - 1) if output_length > 1 else np.float32(0)
    position = ratio * np.arange(output_length, dtype=np.float32)
    first = position.astype(np.int64)
    fraction = position - first.astype(np.float32)
    if mode == "nearest":
        fraction = (fraction > 0.5).astype(np.float32)
    # Rounding may put the last position a little beyond the last sample: it has no neighbour, and needs none.
    return first, np.minimum(first + 1, length - 1), fraction


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
