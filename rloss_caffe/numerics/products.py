"""Kernels of the losses over planar blobs: masked dot products and masked scaling, in threads."""

import numpy as np

from rloss_caffe.numerics.compiling import jit
from rloss_caffe.numerics.threads import bounds, resolve_num_threads, run

__all__ = ["dot", "scale_rows"]

_BLOCK = 4096  # pixels of one partial sum
_RUN = 128  # products summed in single precision before they go into a double


def dot(a, mask, b, num_threads=None):
    """``sum_k (mask a_k) . b_k`` of planes (K, H, W), in double precision; the result does not depend on threads."""
    planes = a.reshape(len(a), -1), mask.reshape(-1), b.reshape(len(b), -1)
    partial = np.empty(-(-planes[1].size // _BLOCK))
    pieces = bounds(len(partial), resolve_num_threads(num_threads))
    run(_dot, [(*planes, start, end, partial) for start, end in pieces])
    return float(partial.sum())


def scale_rows(values, mask, factors, out, rows=None, num_threads=None, added=None):
    """``out[n, k] = factors[n] * mask[n] * values[n, k]`` for out (N, K, H, W), a mask (N, H, W) and factors (N,).

    `rows`, whole numbers (N, K), says which plane of ``values[n]`` takes the place of plane k; -1 gives 0. With
    `added`, numbers (N, K), the factors are (N, K), too, and ``added[n, k] * mask[n]`` times the plane of ``values[n]``
    behind all that `rows` names is added.
    """
    n, k = out.shape[:2]
    if rows is None:
        rows = np.broadcast_to(np.arange(k), (n, k))
    planes, mask, result = values.reshape(n, values.shape[1], -1), mask.reshape(n, -1), out.reshape(n * k, -1)
    rows, factors = np.ascontiguousarray(rows, np.int64), np.asarray(factors, np.float32)
    pieces = bounds(n * k, resolve_num_threads(num_threads))
    if added is None:
        run(_scale, [(planes, mask, factors, rows, start, end, result) for start, end in pieces])
    else:
        scales = factors, np.asarray(added, np.float32), rows, rows.max(axis=1) + 1
        run(_scale_and_add, [(planes, mask, *scales, start, end, result) for start, end in pieces])


# Sums may be reordered; NaN and infinity keep their meaning. Inlined, so that there is one order: a process that
# compiles the kernels would else run another copy of this function, in another order, than one that finds them cached.
@jit(fastmath={"reassoc", "contract", "nsz"}, forceinline=True, entry=False)
def _short_dot(a, mask, b):
    total = np.float32(0)
    for pixel in range(mask.shape[0]):
        total += mask[pixel] * a[pixel] * b[pixel]
    return total


@jit
def _dot(a, mask, b, first_block, last_block, partial):
    for block in range(first_block, last_block):
        start = block * _BLOCK
        end = min(start + _BLOCK, mask.shape[0])
        total = 0.0
        for channel in range(a.shape[0]):
            row, other = a[channel], b[channel]
            for first in range(start, end, _RUN):
                last = min(first + _RUN, end)
                total += np.float64(_short_dot(row[first:last], mask[first:last], other[first:last]))
        partial[block] = total


def _scale(values, mask, factors, rows, start, end, out):
    """NumPy is as fast as a kernel here, and needs no compiling."""
    channels = rows.shape[1]
    weight, weighted = np.empty_like(mask[0]), -1
    for position in range(start, end):
        image, channel = divmod(position, channels)
        row = rows[image, channel]
        if row < 0:
            out[position] = 0
            continue
        if weighted != image:
            np.multiply(mask[image], factors[image], out=weight)
            weighted = image
        np.multiply(values[image, row], weight, out=out[position])


@jit
def _scale_and_add(values, mask, factors, added, rows, behind, start, end, out):
    channels = rows.shape[1]
    for position in range(start, end):
        image, channel = position // channels, position % channels
        weight, target, row = mask[image], out[position], rows[image, channel]
        if row < 0:
            for pixel in range(weight.shape[0]):
                target[pixel] = np.float32(0)
        else:
            source, other = values[image, row], values[image, behind[image]]
            factor, second = factors[image, channel], added[image, channel]
            for pixel in range(weight.shape[0]):
                target[pixel] = weight[pixel] * (factor * source[pixel] + second * other[pixel])
