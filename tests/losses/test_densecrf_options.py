"""The DenseCRF loss's options: each value by brute force, each gradient by finite differences, and their laws."""

import numpy as np
import pytest
from helpers.images import probabilities, smooth_image
from helpers.twins import affinity_matrix, densecrf_value, numeric_gradient, relative_error, symmetric_kernel

from rloss_caffe import densecrf_loss, region_of_interest

XY, RGB = 4, 60


def batch(n=2, k=3, height=8, width=9, seed=0):
    """Images of which the first has a corner outside the region, probabilities, and labels of two classes each."""
    images = np.array([smooth_image(height, width, seed=seed + index) for index in range(n)]) + 300
    images[0, :, :3, :4] = 0
    labels = np.full((n, height, width), 255)
    for index in range(n):
        labels[index, -2, 2:5], labels[index, -1, 4:] = index % k, (index + 1) % k
    return images, probabilities(n, k, height, width, seed), labels


def twin(images, labels, kernel_normalization="none", classes="all"):
    """The value in double precision by dense matrices, as a function of the segmentations."""
    n = len(images)
    regions = region_of_interest(images).reshape(n, -1).astype(float)
    matrices = [affinity_matrix(image, XY, RGB) for image in images]
    if kernel_normalization == "symmetric":
        matrices = [symmetric_kernel(*each) for each in zip(matrices, regions)]

    def value(given):
        planes = given.reshape(*given.shape[:2], -1).astype(float)
        taking_part = [
            range(given.shape[1]) if classes == "all" else set(labels[index].ravel()) - {255} for index in range(n)
        ]
        return sum(densecrf_value(*each) for each in zip(matrices, planes, regions, taking_part)) / n

    return value


OPTIONS = [
    {},
    {"kernel_normalization": "symmetric"},
    {"classes": "labelled"},
    {"kernel_normalization": "symmetric", "classes": "labelled"},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_values_and_exact_gradients_against_the_twin(options):
    images, segmentations, labels = batch()
    value = twin(images, labels, **options)
    expected = numeric_gradient(value, segmentations)
    result = densecrf_loss(images, segmentations, XY, RGB, exact_gradient=True, labels=labels, **options)
    assert result.value == pytest.approx(value(segmentations), rel=1e-5)
    assert relative_error(result.gradient(), expected) < 1e-5
    compatible = densecrf_loss(images, segmentations, XY, RGB, labels=labels, **options)
    assert compatible.value == result.value
    assert 1e-5 < relative_error(compatible.gradient(), expected) < 0.1


def test_labels_alone_change_nothing():
    images, segmentations, labels = batch()
    plain = densecrf_loss(images, segmentations, XY, RGB)
    labelled = densecrf_loss(images, segmentations, XY, RGB, labels=labels)
    assert labelled.value == plain.value
    np.testing.assert_array_equal(labelled.gradient(), plain.gradient())


def test_an_image_without_labels_takes_no_part():
    images, segmentations, labels = batch()
    labels[0] = 255
    value, gradient = densecrf_loss(images, segmentations, XY, RGB, classes="labelled", labels=labels)
    assert value < 0 and not gradient[0].any() and gradient[1].any()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"classes": "labelled"}, "labels must be given where classes is labelled"),
        ({"classes": None}, "classes must be one of all, labelled, found None"),
        ({"kernel_normalization": "row"}, "kernel_normalization must be one of none, symmetric, found 'row'"),
        ({"labels": np.full((2, 8, 9), 3)}, "image 0 of the batch: labels must be whole numbers from 0 to 2"),
    ],
)
def test_options_are_checked(options, message):
    images, segmentations, _ = batch()
    with pytest.raises(ValueError, match=message):
        densecrf_loss(images, segmentations, XY, RGB, **options)


def test_symmetric_degrees_a_little_below_0_give_no_nan():
    """Outside the region A m can be -1e-8, as barycentric weights can be just below 0."""
    images = np.array([smooth_image(60, 70, seed=seed) for seed in range(2)])
    images[:, :, 25:] = 0
    images[:, :, 25:] += np.linspace(0, 0.9, 70, dtype=np.float32)
    segmentations = probabilities(2, 4, 60, 70)
    value, gradient = densecrf_loss(images, segmentations, 1.5, 3, kernel_normalization="symmetric")
    assert np.isfinite(value) and np.isfinite(gradient).all() and not gradient[:, :, 25:].any()
