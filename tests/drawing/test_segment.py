"""`segment_from_scribbles`: what cross entropy on strokes plus a loss makes of an image."""

import numpy as np
import pytest

from rloss_caffe.drawing.segment import PreparedImage, segment_from_scribbles
from rloss_caffe.losses import LOSSES


def two_halves(height=24, width=32):
    """An image of a dark and a light half with some noise, and a stroke in each: classes 3 and 1."""
    image = np.random.RandomState(0).randint(0, 20, (height, width, 3)).astype(np.uint8)
    image[:, width // 2 :] += 180
    labels = np.full((height, width), 255, np.uint8)
    labels[height // 2 - 1 : height // 2 + 2, 2:6], labels[height // 2, -6:-2] = 3, 1
    return image, labels


@pytest.mark.parametrize("scale", [1, 0.5])
@pytest.mark.parametrize("loss", [name for name in LOSSES if name != "size_constraint"])
def test_strokes_spread_to_the_edge(loss, scale):
    image, labels = two_halves()
    found = segment_from_scribbles(image, labels, num_classes=5, loss=loss, scale=scale)
    expected = np.where(np.arange(32) < 16, 3, 1) * np.ones((24, 1))
    assert (found.labels != expected)[:, [*range(14), *range(18, 32)]].mean() == 0  # but for a pixel of the grid
    assert found.labels.dtype == np.uint8 and found.classes == (1, 3) and found.finished
    probabilities, gradient = found.probabilities, found.gradient
    assert probabilities.shape == gradient.shape == (5, 24, 32)
    np.testing.assert_allclose(probabilities.sum(axis=0), 1, rtol=1e-5)
    for label, plane in enumerate(gradient):
        np.testing.assert_array_equal(found.gradient_of(label), plane)
    assert not probabilities[[0, 2, 4]].any() and not gradient[[0, 2, 4]].any() and gradient.any()
    assert found.value == pytest.approx(found.cross_entropy + found.weight * found.loss)


def test_an_earlier_result_is_gone_on_with():
    image, labels = two_halves(60, 80)
    prepared = PreparedImage(image)
    coarse = segment_from_scribbles(prepared, labels, scale=0.25)
    full = segment_from_scribbles(prepared, labels, scores=coarse, steps=20)
    assert coarse.scale == 0.25 and full.scale == 1 and full.num_classes == 4
    np.testing.assert_array_equal(full.labels[:, 40:], 1)
    np.testing.assert_array_equal(full.labels[:, :40], 3)


def test_progress_ends_the_descent():
    image, labels = two_halves()
    calls = []

    def progress(done, steps):
        calls.append((done, steps))
        return done < 3

    found = segment_from_scribbles(image, labels, steps=10, progress=progress)
    assert calls == [(1, 10), (2, 10), (3, 10)] and found.steps == 3 and not found.finished
