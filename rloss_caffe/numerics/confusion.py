"""Confusion of classes between label maps and scores, and the scores read off it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Iterable

import numpy as np

from rloss_caffe.numerics import threads
from rloss_caffe.numerics.arrays import real_array, whole_number
from rloss_caffe.numerics.compiling import jit

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["ConfusionMatrix", "UnexpectedLabelError"]

MAX_CLASSES = 16384  # counts of 2 GB
_TILE = 256  # pixels whose best scores are found together, a class at a time


class UnexpectedLabelError(ValueError):
    """A label that is neither a class nor ignored."""


class ConfusionMatrix:
    """Counts of pixels by true class (rows) and predicted class (columns).

    Parameters
    ----------
    n_classes : int
        From 1 to 16384.

    Attributes
    ----------
    counts : array (n_classes, n_classes), int64
        May be read and written.
    has_seen_nan : bool
        Whether a score was NaN since the last reset.

    Raises
    ------
    ValueError
        `n_classes` is not such a number.
    """

    def __init__(self, n_classes: int) -> None:
        n_classes = whole_number("n_classes", n_classes, 1, MAX_CLASSES)
        self.counts: NDArray[np.int64] = np.zeros((n_classes, n_classes), np.int64)
        self.has_seen_nan = False

    @property
    def n_classes(self) -> int:
        return len(self.counts)

    def reset(self) -> None:
        """Forget every pixel."""
        self.counts[...] = 0
        self.has_seen_nan = False

    def add(self, scores: ArrayLike, labels: ArrayLike, ignore_label: int | Iterable[int] = ()) -> None:
        """Count every pixel whose label is not ignored.

        The predicted class is that of the largest score, the *last* one among equals, as in DeepLab's SegAccuracy.
        Where scores are NaN, those after the last NaN compete, and only if there are none that NaN's class wins.

        Parameters
        ----------
        scores : array (N, n_classes, ...), float32
            One or more axes of pixels.
        labels : array, float32
            As many values as there are pixels, in their order; fractions are cut off.
        ignore_label : int or sequence of int
            Labels that are not counted; tested before the range.

        Raises
        ------
        UnexpectedLabelError
            A label that is not ignored lies outside ``0 .. n_classes - 1``. Nothing has been counted then.
        ValueError
            Shapes do not fit.
        """
        scores = real_array("scores", scores)
        if scores.ndim < 2 or scores.shape[1] != self.n_classes:
            raise ValueError(f"scores must have shape (N, {self.n_classes}, ...), found {scores.shape}")
        pixels = scores.shape[2:]
        labels = real_array("labels", labels)
        if labels.size * self.n_classes != scores.size:
            raise ValueError(f"labels of shape {labels.shape} do not fit scores of shape {scores.shape}")
        scores = scores.reshape(len(scores), self.n_classes, -1)
        labels = labels.reshape(len(scores), -1)
        ignored = _whole_labels(ignore_label)

        bounds = threads.bounds(labels.shape[1], threads.get_num_threads(), _TILE)
        parts = [np.zeros((self.n_classes, self.n_classes), np.int64) for _ in bounds]
        results = threads.run(_count, [(scores, labels, ignored, part, *bound) for part, bound in zip(parts, bounds)])
        bad = [(image, pixel) for image, pixel, _ in results if image >= 0]
        if bad:
            raise UnexpectedLabelError(self._describe(labels, *min(bad), pixels))
        for part in parts:
            self.counts += part
        self.has_seen_nan |= any(seen for _, _, seen in results)

    def _describe(self, labels, image, pixel, pixels):
        place = np.unravel_index(pixel, pixels) if pixels else ()
        names = ("row", "col") if len(place) == 2 else [f"axis {axis}" for axis in range(2, 2 + len(place))]
        where = "".join(f". {name}: {position}" for name, position in zip(names, place))
        return (
            f"Unexpected label {labels[image, pixel]:g}. num: {image}{where}. Labels must be whole numbers from 0 to "
            f"{self.n_classes - 1}, or be listed as ignore_label"
        )

    def pixel_accuracy(self) -> float:
        """Share of the pixels that are right; 0 if there are none."""
        total = self.counts.sum()
        return float(np.trace(self.counts) / total) if total else 0.0

    def present(self) -> NDArray[np.bool_]:
        """Which classes occur in the labels: array (n_classes,), bool."""
        return self.counts.sum(axis=1) > 0

    def class_recall(self) -> NDArray[np.float64]:
        """Share of each class's pixels that are right: array (n_classes,), NaN for classes not in the labels."""
        return _divide(np.diag(self.counts), self.counts.sum(axis=1))

    def class_iou(self) -> NDArray[np.float64]:
        """Intersection over union (Jaccard index) of each class: array (n_classes,).

        NaN for classes neither in the labels nor predicted; 0 for those that are only predicted.
        """
        right = np.diag(self.counts)
        return _divide(right, self.counts.sum(axis=0) + self.counts.sum(axis=1) - right)

    def mean_recall(self) -> float:
        """Mean recall of the classes that occur in the labels; 0 if there are none."""
        present = self.present()
        return float(self.class_recall()[present].mean()) if present.any() else 0.0

    def mean_iou(self) -> float:
        """Mean intersection over union of the classes that occur in the labels; 0 if there are none.

        Over a whole data set in which all classes occur, this is the benchmark's score.
        """
        present = self.present()
        return float(self.class_iou()[present].mean()) if present.any() else 0.0

    def mean_jaccard(self) -> float:
        """DeepLab's mean over *all* classes, in which a class that neither occurs nor is predicted counts as 1.

        Over a small batch that is far too high: use `mean_iou`.
        """
        iou = self.class_iou()
        return float(np.where(np.isnan(iou), 1.0, iou).mean())


def _whole_labels(ignore_label: Any) -> NDArray[np.int64]:
    """The labels that are not counted, as an array."""
    try:
        labels = [ignore_label] if np.ndim(ignore_label) == 0 else list(ignore_label)
    except (TypeError, ValueError):
        raise ValueError("ignore_label must be a whole number or a sequence of whole numbers") from None
    least = -(2**31)
    return np.array(sorted({whole_number("ignore_label", label, least, -least - 1) for label in labels}), np.int64)


def _divide(numerator, denominator):
    """Quotients in double precision, NaN where nothing is divided by nothing."""
    quotient = np.full(len(numerator), np.nan)
    np.divide(numerator, denominator, out=quotient, where=denominator > 0)
    return quotient


@jit
def _count(scores, labels, ignored, counts, start, end):
    """Count the pixels ``start .. end`` of every image.

    Returns the image and pixel of the first unexpected label, or -1 and -1, and whether a score was NaN.
    """
    n_classes = scores.shape[1]
    best = np.empty(_TILE, np.float32)
    predicted = np.empty(_TILE, np.int32)
    seen_nan = False
    for image in range(scores.shape[0]):
        for first in range(start, end, _TILE):
            size = min(_TILE, end - first)
            best[:] = -np.inf
            predicted[:] = 0
            nans = 0
            for channel in range(n_classes):
                values = scores[image, channel, first : first + size]
                for pixel in range(size):
                    value = values[pixel]
                    # Not "value >= best": this takes a NaN, and whatever comes after one.
                    better = not (value < best[pixel])
                    best[pixel] = value if better else best[pixel]
                    predicted[pixel] = channel if better else predicted[pixel]
                    nans += value != value
            seen_nan |= nans > 0
            for pixel in range(size):
                value = labels[image, first + pixel]
                if not (abs(value) < 2147483648.0):
                    return image, first + pixel, seen_nan
                label = int(value)
                skip = False
                for other in ignored:
                    skip |= label == other
                if skip:
                    continue
                if label < 0 or label >= n_classes:
                    return image, first + pixel, seen_nan
                counts[label, predicted[pixel]] += 1
    return -1, -1, seen_nan
