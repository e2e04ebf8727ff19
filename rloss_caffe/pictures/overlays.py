"""Label maps drawn over photographs, in VOC's colours."""

import numpy as np

from rloss_caffe.datasets.voc import IGNORE, palette

__all__ = ["draw_labels", "draw_mask", "draw_scribbles", "is_scribble", "shrink_scribbles"]

_RIM = 235


def is_scribble(label):
    """Whether a label map looks drawn by strokes: less than a third of it says something."""
    return np.mean(label != IGNORE) < 1 / 3


def draw_scribbles(image, label, colours=None):
    """The labelled pixels in their colours on the photograph, with a light rim that shows them on any ground.

    Parameters
    ----------
    image : uint8 array (H, W, 3)
        RGB.
    label : uint8 array (H, W)
        255 is unlabelled.
    colours : uint8 array (256, 3), optional
        VOC's palette if left out.

    Returns
    -------
    uint8 array (H, W, 3)
    """
    colours = palette() if colours is None else colours
    padded = np.pad(label != IGNORE, 1)
    rim = padded[:-2, 1:-1] | padded[2:, 1:-1] | padded[1:-1, :-2] | padded[1:-1, 2:]
    result = image.copy()
    result[rim] = _RIM
    shown = padded[1:-1, 1:-1]
    result[shown] = colours[label[shown]]
    return result


def shrink_scribbles(label, shape):
    """Scribbles on a smaller grid of shape (H, W), 3 pixels wide at least, so that none is lost."""
    if label.shape == tuple(shape):
        return label
    y, x = np.nonzero(label != IGNORE)
    shrunk = np.full(shape, IGNORE, np.uint8)
    shrunk[y * shape[0] // label.shape[0], x * shape[1] // label.shape[1]] = label[y, x]
    padded = np.pad(shrunk, 1, constant_values=IGNORE)
    for dy in range(3):
        for dx in range(3):
            other = padded[dy : dy + shape[0], dx : dx + shape[1]]
            shrunk = np.where(shrunk == IGNORE, other, shrunk)
    return shrunk


def draw_mask(image, label, colours=None, strength=0.6):
    """The classes' colours laid over the photograph, background (0) left clear, 255 light; a light line between labels.

    Arguments and result as in `draw_scribbles`; `strength` from 0 (photograph alone) to 1 (colours alone).
    """
    colours = palette() if colours is None else colours
    shown = label != 0
    mixed = (1 - strength) * image + strength * colours[label]
    result = np.where(shown[..., np.newaxis], mixed, image).astype(np.uint8)
    result[_edges(label)] = _RIM
    return result


def draw_labels(label, colours=None):
    """A label map in its colours alone, 255 white and hatched, with a light line between labels.

    Without the line VOC's cat (64, 0, 0) and others of its dark classes could not be seen on the black background.

    Parameters
    ----------
    label : uint8 array (H, W)
    colours : uint8 array (256, 3), optional
        VOC's palette if left out.

    Returns
    -------
    uint8 array (H, W, 3)
    """
    picture = (palette() if colours is None else colours)[label]
    picture[_edges(label, IGNORE)] = _RIM
    y, x = np.indices(label.shape)
    ignored = label == IGNORE
    picture[ignored] = 255
    picture[ignored & ((x + y) % 8 < 2)] = 140
    return picture


def _edges(label, without=None):
    """The pixels whose left or upper neighbour has another label, and none of the two is `without`: array (H, W)."""
    edges = np.zeros(label.shape, bool)
    for one, other, result in ((label[:, 1:], label[:, :-1], edges[:, 1:]), (label[1:], label[:-1], edges[1:])):
        result |= (one != other) & (one != without) & (other != without)
    return edges
