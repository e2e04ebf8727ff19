"""The normalised cut loss: its value by brute force, its gradients by finite differences, and its laws."""

import inspect

import numpy as np
import pytest
from helpers.images import batch, probabilities, smooth_image
from helpers.random_shapes import RANDOM_SHAPES
from helpers.twins import affinity_matrix, normalized_cut_value, numeric_gradient, relative_error
from hypothesis import given, settings
from hypothesis import strategies as st

from rloss_caffe import normalized_cut_loss, region_of_interest
from rloss_caffe.losses import Workspace, normalized_cut

XY, RGB = 4, 60


def twin(images, segmentations, labels):
    """The value in double precision by dense matrices, as a function of the segmentations."""
    n, k, height, width = segmentations.shape
    matrices = [affinity_matrix(image, XY, RGB) for image in images]
    regions = region_of_interest(images).reshape(n, -1).astype(float)
    classes = [range(k) if labels is None else set(labels[index].ravel()) - {255} for index in range(n)]

    def value(given):
        planes = given.reshape(n, k, -1)
        parts = [normalized_cut_value(*each) for each in zip(matrices, planes.astype(float), regions, classes)]
        return sum(parts) / n

    return value


@pytest.mark.parametrize("labelled", [False, True])
def test_value_and_exact_gradient_against_the_twin(labelled):
    images, segmentations, labels = batch()
    labels = labels if labelled else None
    value = twin(images, segmentations, labels)
    expected = numeric_gradient(value, segmentations)
    result = normalized_cut_loss(images, segmentations, XY, RGB, labels=labels, exact_gradient=True)
    assert result.value == pytest.approx(value(segmentations), rel=1e-5)
    assert relative_error(result.gradient(), expected) < 1e-5
    compatible = normalized_cut_loss(images, segmentations, XY, RGB, labels=labels)
    assert compatible.value == result.value
    assert 1e-5 < relative_error(compatible.gradient(), expected) < 0.1


def test_only_the_image_s_labelled_classes_take_part():
    images, segmentations, labels = batch(n=2, k=4)
    gradient = normalized_cut_loss(images, segmentations, XY, RGB, labels=labels).gradient()
    for index, classes in enumerate([{0, 1}, {1, 2}]):
        assert {k for k in range(4) if gradient[index, k].any()} == classes
    without = normalized_cut_loss(images, segmentations, XY, RGB, "all", labels=labels).gradient()
    np.testing.assert_array_equal(without, normalized_cut_loss(images, segmentations, XY, RGB).gradient())
    assert without.any(axis=(2, 3)).all()


def test_labels_outside_the_region_do_not_count():
    images, segmentations, labels = batch(n=1)
    labels[0, 0, 0] = 2  # in the padded corner
    result = normalized_cut_loss(images, segmentations, XY, RGB, labels=labels)
    assert not result.gradient()[0, 2].any()
    everywhere = normalized_cut_loss(images, segmentations, XY, RGB, labels=labels, roi=np.ones((1, 8, 9)))
    assert everywhere.gradient()[0, 2].any()


def test_an_image_without_labels_takes_no_part():
    images, segmentations, labels = batch()
    labels[1] = 255
    result = normalized_cut_loss(images, segmentations, XY, RGB, labels=labels)
    alone = normalized_cut_loss(images[:1], segmentations[:1], XY, RGB, labels=labels[:1])
    assert result.value == pytest.approx(alone.value / 2, rel=1e-12)
    assert not result.gradient()[1].any()
    assert relative_error(result.gradient()[:1], alone.gradient() / 2) < 1e-6
    labels[...] = 7
    nothing = normalized_cut_loss(images, segmentations, XY, RGB, labels=labels, ignore_label=7)
    assert nothing.value == 0 and not nothing.gradient().any()


def test_classes_without_mass_and_regions_without_pixels_take_no_part():
    images, segmentations, _ = batch()
    segmentations[:, 1] = 0
    value, gradient = normalized_cut_loss(images, segmentations, XY, RGB)
    assert 0 < value < 2 and np.isfinite(gradient).all() and not gradient[:, 1].any()
    value, gradient = normalized_cut_loss(images, segmentations, XY, RGB, roi=np.zeros((2, 8, 9)))
    assert value == 0 and not gradient.any()
    segmentations[:, 1] = 1e-38
    assert np.isfinite(normalized_cut_loss(images, segmentations, XY, RGB).gradient()).all()


def test_one_class_everywhere_is_not_cut():
    images, segmentations, _ = batch(k=1)
    segmentations[...] = 1
    value, gradient = normalized_cut_loss(images, segmentations, XY, RGB)
    assert value == pytest.approx(0, abs=1e-6)
    np.testing.assert_allclose(gradient.sum(), -1, rtol=1e-5)  # d/dc of 1 - c, with c the constant


@settings(max_examples=25, deadline=None)
@given(
    **RANDOM_SHAPES,
    factor=st.sampled_from([0.25, 3.0]),
)
def test_laws_on_random_shapes(n, c, k, height, width, xy, rgb, factor, seed):
    random = np.random.RandomState(seed)
    images = (random.randn(n, c, height, width) * 60).astype(np.float32)
    segmentations = probabilities(n, k, height, width, seed)
    roi = region_of_interest(images)
    labels = random.choice([*range(k), 255], (n, height, width))
    value, gradient = normalized_cut_loss(images, segmentations, xy, rgb, labels=labels)
    taking_part = [len(set(each[inside > 0]) - {255}) for each, inside in zip(labels, roi)]
    assert -1e-6 <= value <= sum(taking_part) / n + 1e-6
    # The ratio grows with S, and its derivative stays.
    scaled = normalized_cut_loss(images, np.float32(factor) * segmentations, xy, rgb, labels=labels)
    mean = sum(taking_part) / n
    assert mean - scaled.value == pytest.approx(factor * (mean - value), rel=1e-4, abs=1e-6)
    np.testing.assert_allclose(scaled.gradient(), gradient, rtol=1e-3, atol=1e-4 * np.abs(gradient).max())
    # Euler: the derivative along S is the ratio itself.
    assert (gradient.astype(float) * segmentations).sum() == pytest.approx(value - mean, rel=1e-3, abs=1e-5)
    # A permutation of the classes.
    order = random.permutation(k)
    moved_labels = np.where(labels == 255, 255, np.argsort(order)[np.minimum(labels, k - 1)])
    moved = normalized_cut_loss(images, segmentations[:, order], xy, rgb, labels=moved_labels)
    assert moved.value == pytest.approx(value, rel=1e-5, abs=1e-6)
    np.testing.assert_allclose(moved.gradient(), gradient[:, order], rtol=1e-3, atol=1e-4 * np.abs(gradient).max())


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_and_memory_change_nothing(threads):
    images, segmentations, labels = batch(n=3, k=21, height=40, width=45)
    expected = normalized_cut_loss(images, segmentations, 12, 25, labels=labels, num_threads=1)
    workspace = Workspace()
    for _ in range(2):
        found = normalized_cut_loss(images, segmentations, 12, 25, labels=labels, num_threads=threads, work=workspace)
        assert found.value == pytest.approx(expected.value, rel=1e-6)
        np.testing.assert_allclose(found.gradient(), expected.gradient(), rtol=1e-4, atol=1e-9)


def test_batch_of_two_is_the_mean_of_two_batches():
    images, segmentations, labels = batch()
    both = normalized_cut_loss(images, segmentations, XY, RGB, labels=labels)
    parts = zip(images, segmentations, labels)
    single = [normalized_cut_loss([one], [two], XY, RGB, labels=[three]) for one, two, three in parts]
    assert both.value == pytest.approx(sum(each.value for each in single) / 2, rel=1e-9)
    expected = np.concatenate([each.gradient() for each in single]) / 2
    assert relative_error(both.gradient(), expected) < 1e-6


def test_follows_edges():
    image = smooth_image(20, 20)[None]
    follows = np.concatenate([image[:, :1] > 40, image[:, :1] <= 40], axis=1).astype(np.float32)
    crosses = np.roll(follows, 7, axis=3)
    assert normalized_cut_loss(image, follows, 15, 30).value < normalized_cut_loss(image, crosses, 15, 30).value


def test_bad_input():
    images, segmentations, labels = batch()
    bad_labels = labels.copy()
    bad_labels[1, 2, 3] = 3
    bad_values = segmentations.copy()
    bad_values[1, 2, 0, 0] = np.nan
    for arguments, message in [
        (
            {"labels": bad_labels},
            "image 1 of the batch: labels must be whole numbers from 0 to 2, or ignore_label 255, found 3",
        ),
        ({"labels": labels[:1]}, "labels must have shape"),
        ({"classes": "labelled"}, "labels must be given where classes is labelled"),
        ({"classes": "some"}, "classes must be one of all, labelled, found 'some'"),
        ({"ignore_label": 1.5}, "ignore_label must be"),
        ({"roi": np.ones((2, 8, 8))}, "roi must have shape"),
        (
            {"segmentations": bad_values, "labels": labels},
            r"image 1 of the batch: segmentations must be finite, found nan at \(2, 0, 0\)",
        ),
        ({"segmentations": bad_values}, "image 1 of the batch: segmentations must be finite"),
    ]:
        with pytest.raises(ValueError, match=message):
            normalized_cut_loss(**{"images": images, "segmentations": segmentations, **arguments})


def test_defaults_and_docstring_come_from_the_declarations():
    signature = inspect.signature(normalized_cut_loss).parameters
    for parameter in normalized_cut.PARAMETERS:
        assert signature[parameter.name].default == parameter.default
        assert f"{parameter.name} : {parameter.expectation()}, default" in normalized_cut_loss.__doc__
