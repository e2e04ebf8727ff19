"""Draw polylines of a true width into a label map."""

import math

import numpy as np

from rloss_caffe.numerics.compiling import jit

__all__ = ["draw_polyline"]

_FARTHEST = 1e6  # pixels; keeps the arithmetic exact enough whatever a file holds


def draw_polyline(label, points, value, width=3):
    """Set to `value` every pixel of `label` whose centre is at most ``width / 2`` from the polyline.

    Strokes along rows and columns are then exactly `width` pixels wide for odd widths, slanted ones on average, and a
    single point is a disc (of 3 x 3 pixels for width 3). Line drawing with a thickness is no substitute: some OpenCV
    versions make five pixels of a thickness of 3, and growing a thin line by a 3 x 3 square makes slanted strokes up
    to a fifth too wide. What lies outside is clipped.

    Parameters
    ----------
    label : uint8 array (H, W)
        Changed in place.
    points : array_like (N, 2), N >= 1
        x and y in pixels; (0, 0) is the centre of the top-left pixel. Rounded to whole pixels.
    value : int
        0 to 255.
    width : float > 0
        In pixels.

    Raises
    ------
    ValueError
        There is no point, or one is not finite or more than a million pixels away.
    """
    points = np.asarray(points, np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or not len(points):
        raise ValueError(f"a polyline needs at least one point with x and y, found an array of shape {points.shape}")
    if not (np.abs(points) <= _FARTHEST).all():
        bad = points[~(np.abs(points) <= _FARTHEST).all(axis=1)][0]
        raise ValueError(f"a point of a polyline is at ({bad[0]}, {bad[1]}), which cannot be meant")
    _draw(label, np.floor(points + 0.5), value, width / 2)


@jit
def _draw(label, points, value, radius):
    height, width = label.shape
    for k in range(max(len(points) - 1, 1)):
        ax, ay = points[k]
        bx, by = points[min(k + 1, len(points) - 1)]
        dx, dy = bx - ax, by - ay
        length = dx * dx + dy * dy
        for y in range(max(math.ceil(min(ay, by) - radius), 0), min(math.floor(max(ay, by) + radius), height - 1) + 1):
            for x in range(
                max(math.ceil(min(ax, bx) - radius), 0), min(math.floor(max(ax, bx) + radius), width - 1) + 1
            ):
                along = 0.0  # of the nearest point of the segment, from 0 to 1
                if length > 0:
                    along = min(max(((x - ax) * dx + (y - ay) * dy) / length, 0.0), 1.0)
                ex, ey = x - ax - along * dx, y - ay - along * dy
                if ex * ex + ey * ey <= radius * radius:
                    label[y, x] = value
