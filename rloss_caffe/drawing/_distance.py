"""The nearest labelled pixel of each pixel, nearly: the two passes of a chamfer distance (Borgefors, 1986)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rloss_caffe.numerics.compiling import jit

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["nearest_labels"]


def nearest_labels(labels: NDArray[Any], ignore_label: int) -> NDArray[np.int32]:
    """A label map (H, W) in which every pixel has the label of a labelled pixel that is nearest or nearly so.

    Straight steps count 3 and diagonal ones 4. There must be a labelled pixel.
    """
    result = np.ascontiguousarray(labels, np.int32).copy()
    distance = np.where(result == ignore_label, np.int32(2**30), np.int32(0))
    _pass(result, distance)
    _pass(result[::-1, ::-1], distance[::-1, ::-1])
    return result


@jit
def _pass(labels, distance):
    height, width = labels.shape
    for row in range(height):
        for column in range(width):
            best, label = distance[row, column], labels[row, column]
            for down, right in ((-1, -1), (-1, 0), (-1, 1), (0, -1)):
                y, x = row + down, column + right
                if y >= 0 and 0 <= x < width:
                    found = distance[y, x] + (4 if down * right else 3)
                    if found < best:
                        best, label = found, labels[y, x]
            distance[row, column], labels[row, column] = best, label
