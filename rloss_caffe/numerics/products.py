"""Kernels of the losses over planar blobs: a masked dot product and a masked scaling, in threads."""

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


def scale_rows(values, mask, factor, out, num_threads=None):
    """``out = factor * mask * values`` for values (N, K, H, W) and a mask (N, H, W)."""
    n, k = values.shape[:2]
    planes, mask, result = values.reshape(n * k, -1), mask.reshape(n, -1), out.reshape(n * k, -1)
    pieces = bounds(n * k, resolve_num_threads(num_threads))
    run(_scale, [(planes, mask, k, np.float32(factor), start, end, result) for start, end in pieces])


# Sums may be reordered; NaN and infinity keep their meaning. Inlined, so that there is one order: a process that
# compiles the kernels would else run another copy of this function, in another order, than one that finds them cached.
@jit(fastmath={"reassoc", "contract", "nsz"}, forceinline=True)
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


@jit
def _scale(values, mask, channels, factor, start, end, out):
    for row in range(start, end):
        source, weight, target = values[row], mask[row // channels], out[row]
        for pixel in range(weight.shape[0]):
            target[pixel] = factor * weight[pixel] * source[pixel]
