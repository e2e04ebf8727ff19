"""What a segmentation gets wrong: outlines or classes? Scores that several of the study's scripts share."""

import cv2
import numpy as np

from rloss_caffe.numerics.confusion import ConfusionMatrix

__all__ = ["COLUMNS", "OutlineScores", "ShiftedScores", "distance_to", "sides_of", "without_padding"]

COLUMNS = ["mean IoU", "background / foreground", "recall", "precision", "right class"]
COLUMNS += ["missed near outlines", "taken near outlines", "mean IoU, one class an image"]
IGNORE = 255
NEAR = 8  # pixels
SHIFTS = np.exp(np.arange(-2, 2.1, 0.25))  # factors of the background's probability


def without_padding(found):
    """Image and probabilities of a LossInput."""
    rows, columns = found.size
    return tuple(np.ascontiguousarray(part[:, :rows, :columns]) for part in (found.image, found.probabilities))


def sides_of(label):
    """Label map (H, W) of background, 0, and foreground, 1; 255 stays."""
    return np.where(label == IGNORE, label, label > 0).astype(np.uint8)


def distance_to(pixels):
    """Of each pixel to the nearest of those where `pixels` (H, W) is true."""
    return cv2.distanceTransform((~pixels).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)


class OutlineScores:
    """Counts over images, and the scores in COLUMNS, in per cent."""

    def __init__(self, n_classes, near=NEAR):
        self.plain, self.one_class = ConfusionMatrix(n_classes), ConfusionMatrix(n_classes)
        self.near, self._near = ConfusionMatrix(2), near

    def add(self, scores, label):
        """Scores or probabilities (K, H, W) and the full mask (H, W)."""
        self.plain.add(scores[None], label[None], [IGNORE])
        objects = label[(label > 0) & (label < IGNORE)]
        most = np.bincount(objects).argmax() if len(objects) else 0
        only = np.zeros_like(scores)
        only[most] = scores.argmax(axis=0) > 0
        only[0] += 0.5
        self.one_class.add(only[None], label[None], [IGNORE])
        sides = sides_of(label)
        for side in (0, 1):
            # Of one side's pixels: how far is the other side?
            is_near = (sides == side) & (distance_to(sides == 1 - side) <= self._near)
            near = np.where(is_near, sides, IGNORE).astype(np.uint8)
            self.near.add(np.stack([scores[0], scores[1:].max(axis=0)])[None], near[None], [IGNORE])

    def values(self):
        """In the order of COLUMNS."""
        counts, near = self.plain.counts, self.near.counts
        both = ConfusionMatrix(2)
        both.counts[...] = [[counts[0, 0], counts[0, 1:].sum()], [counts[1:, 0].sum(), counts[1:, 1:].sum()]]
        found = both.counts[1, 1]
        shares = [
            self.plain.mean_iou(),
            both.mean_iou(),
            share(found, both.counts[1].sum()),
            share(found, both.counts[:, 1].sum()),
            share(np.trace(counts[1:, 1:]), found),
            share(near[1, 0], near[1].sum()),
            share(near[0, 1], near[0].sum()),
            self.one_class.mean_iou(),
        ]
        return [100 * value for value in shares]


def share(part, whole):
    """NaN of nothing."""
    return part / whole if whole else np.nan


class ShiftedScores:
    """Counts of background and foreground over images, with the background's probability times each of SHIFTS."""

    def __init__(self):
        self.all = [ConfusionMatrix(2) for _ in SHIFTS]

    def add(self, probabilities, label):
        sides = sides_of(label)
        objects = probabilities[1:].max(axis=0)
        for counts, factor in zip(self.all, SHIFTS):
            counts.add(np.stack([factor * probabilities[0], objects])[None], sides[None], [IGNORE])

    def best(self):
        """The highest mean IoU, in per cent."""
        return 100 * max(counts.mean_iou() for counts in self.all)
