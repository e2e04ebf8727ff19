"""`segment_from_scribbles`: what cross entropy on strokes plus a loss makes of an image."""

import numpy as np
import pytest

from rloss_caffe.drawing._distance import nearest_labels
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


def test_an_exception_in_progress_ends_the_call():
    def progress(done, steps):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        segment_from_scribbles(*two_halves(), progress=progress)


def test_one_class_takes_all():
    image, labels = two_halves()
    labels[labels == 1] = 255
    found = segment_from_scribbles(image, labels)
    assert (found.labels == 3).all() and (found.probabilities[3] == 1).all() and not found.gradient.any()
    assert found.num_classes == 4 and found.classes == (3,)


@pytest.mark.parametrize("loss", [name for name in LOSSES if name != "size_constraint"])
def test_an_image_without_anything_unlabelled_keeps_its_labels(loss):
    image, labels = two_halves()
    labels[:, :16], labels[:, 16:] = 0, 2
    np.testing.assert_array_equal(segment_from_scribbles(image, labels, loss=loss).labels, labels)


@pytest.mark.parametrize("loss", [name for name in LOSSES if name != "size_constraint"])
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 1), (2, 2)])
def test_tiny_images(loss, size):
    labels = np.full(size, 255)
    labels[0, 0], labels[-1, -1] = 0, 1
    for scale in (1, 0.5, 0.01):
        found = segment_from_scribbles(np.zeros((*size, 3), np.uint8), labels, 2, loss, scale=scale)
        assert found.labels.shape == size and np.isfinite(found.probabilities).all() and np.isfinite(found.value)


@pytest.mark.parametrize("scale", [1, 0.5, 1 / 3, 0.3, 0.25, 0.1, 0.01])
def test_no_stroke_is_lost_at_a_small_scale(scale):
    """One pixel of each of two classes, anywhere, also beyond the last pixel of the grid."""
    rng = np.random.RandomState(0)
    for size in ((11, 30), (12, 31), (13, 32)):
        labels = np.full(size, 255)
        labels[rng.randint(size[0]), 1], labels[-1, -1] = 4, 2
        found = segment_from_scribbles(rng.randint(0, 255, (*size, 3)).astype(np.uint8), labels, scale=scale)
        assert found.labels.shape == size and set(np.unique(found.labels)) <= {2, 4}
        if scale >= 0.25:
            assert found.cross_entropy < 0.5 and set(np.unique(found.labels)) == {2, 4}


def test_grey_is_as_good_as_colours():
    image, labels = two_halves()
    grey = image[:, :, 0]
    expected = segment_from_scribbles(np.repeat(grey[:, :, np.newaxis], 3, axis=2), labels)
    for given in (grey, grey[:, :, np.newaxis], grey.astype(float), grey.tolist()):
        np.testing.assert_array_equal(segment_from_scribbles(given, labels).probabilities, expected.probabilities)


def test_a_large_photograph_is_bounded():
    labels = np.full((2400, 3100), 255, np.uint8)
    labels[100:103, 100:400], labels[2000:2003, 2000:2400] = 0, 1
    image = np.zeros((2400, 3100, 3), np.uint8)
    image[1200:] = 200
    found = segment_from_scribbles(image, labels, steps=5)
    assert found.scale == 1 / 3 and (found.labels[1203:] == 1).all() and not found.labels[:1197].any()


def test_scores_of_a_network_are_gone_on_with():
    """Where no stroke speaks, the classes are those of the scores; all may take part, or those of the strokes."""
    image, labels = two_halves()
    nothing = np.full_like(labels, 255)
    scores = np.zeros((3, 24, 32), np.float32)
    scores[2, :, :12], scores[0, :, 20:] = 4, 4
    found = segment_from_scribbles(image, nothing, scores=scores)
    assert set(np.unique(found.labels)) == {0, 2} and found.classes == (0, 1, 2)
    assert (found.labels[:, :16] == 2).all() and not found.labels[:, 16:].any()
    labels = np.where(labels == 3, 2, labels)
    assert segment_from_scribbles(image, labels, scores=scores, classes="labelled").classes == (1, 2)
    with pytest.raises(ValueError, match="labels must have a labelled pixel: found none"):
        segment_from_scribbles(image, nothing, scores=scores, classes="labelled")


@pytest.mark.parametrize("loss", ["densecrf", "normalized_cut", "kernel_cut", "local_potts"])
def test_a_push_means_the_same_for_every_loss_and_size(loss):
    image, labels = two_halves(48, 64)
    weak = segment_from_scribbles(image, labels, loss=loss, push=0.25)
    assert weak.push == 0.25 and weak.weight > 0
    strong = segment_from_scribbles(image, labels, loss=loss, push=0.5)
    assert strong.weight == pytest.approx(2 * weak.weight)
    again = segment_from_scribbles(image, labels, loss=loss, weight=weak.weight)
    assert again.push == pytest.approx(0.25, rel=1e-5)
    np.testing.assert_allclose(again.probabilities, weak.probabilities, atol=1e-4)


def test_bounds_of_sizes_are_those_of_the_classes_that_take_part():
    image, labels = two_halves()
    options = {"upper": [-1, 0.25, -1, -1], "unit": "FRACTION", "tags": False}
    found = segment_from_scribbles(image, labels, loss="size_constraint", options=options, push=2, steps=200)
    assert found.probabilities[1].mean() < 0.4
    free = segment_from_scribbles(image, labels, loss="size_constraint", options=options, push=0)
    assert free.probabilities[1].mean() > 0.4


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"labels": np.full((24, 32), 255)}, "must have a labelled pixel, where there are no scores: found none"),
        ({"labels": np.zeros((24, 31))}, "labels must have shape"),
        ({"labels": np.full((24, 32), 5), "num_classes": 5}, "from 0 to 4, or ignore_label 255, found 5 in row 0"),
        ({"image": np.zeros((24, 32, 4), np.uint8)}, "image must have shape"),
        ({"image": np.full((24, 32, 3), 0.5)}, "image must hold whole numbers from 0 to 255, found 0.5"),
        ({"loss": "crf"}, "loss must be one of densecrf"),
        ({"options": {"radius": 1}}, "densecrf_loss has no parameter 'radius'"),
        ({"options": {"bi_xy_std": -1}}, "bi_xy_std must be float > 0"),
        ({"scores": np.zeros((4, 24, 31))}, "scores must have shape"),
        ({"weight": 1.0, "push": 1.0}, "give one of them"),
        ({"scale": 0}, "scale must be above 0"),
        ({"scale": 1.1}, "scale must be above 0 and at most 1"),
        ({"push": -0.1}, "push must be at least 0"),
        ({"push": 1e38}, "weight or push must not be so large"),
        ({"steps": -1}, "steps must be a whole number from 0"),
        ({"num_classes": 256}, "num_classes must be a whole number from 1 to 255"),
        ({"classes": "some"}, "classes must be 'labelled' or 'all'"),
        ({"loss": "size_constraint", "options": {"tags": False}}, "lower or upper"),
    ],
)
def test_errors_say_what_was_expected(changed, message):
    image, labels = two_halves()
    with pytest.raises(ValueError, match=message):
        segment_from_scribbles(**{"image": image, "labels": labels, **changed})


def test_the_thread_count_changes_no_label():
    image, labels = two_halves(70, 90)
    one, four = (segment_from_scribbles(image, labels, num_threads=count) for count in (1, 4))
    np.testing.assert_array_equal(one.labels, four.labels)
    np.testing.assert_allclose(one.probabilities, four.probabilities, atol=1e-4)


def test_nearest_labels_are_nearly_the_nearest():
    """Against all distances; a chamfer distance is a little off."""
    rng = np.random.RandomState(0)
    labels = np.full((30, 41), -1)
    rows, columns = rng.randint(0, 30, 12), rng.randint(0, 41, 12)
    labels[rows, columns] = np.arange(12)
    found = nearest_labels(labels, -1)
    y, x = np.mgrid[:30, :41]
    distances = np.array([np.hypot(y - row, x - column) for row, column in zip(rows, columns)])
    chosen = np.take_along_axis(distances, found[np.newaxis], 0)[0]
    assert (chosen <= 1.16 * distances.min(axis=0) + 1e-9).all()
