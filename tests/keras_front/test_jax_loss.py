"""The losses as a function of JAX's arrays: their numbers, traced and not, and what it says to mistakes."""

import numpy as np
import pytest

jax = pytest.importorskip("jax", reason="needs JAX")

from helpers.loss_batches import IMAGE_LOSSES, OPTIONS, batch, softmax  # noqa: E402

from rloss_caffe.jax import loss  # noqa: E402
from rloss_caffe.losses import LOSSES  # noqa: E402


def given(name, **made):
    """The NumPy function's keywords, and the same for JAX, channels last."""
    images, scores, labels, roi = batch(**made)
    arrays = {"images": images, "segmentations": softmax(scores), "labels": labels, "roi": roi}
    if name not in IMAGE_LOSSES:
        del arrays["images"]
    moved = {key: np.moveaxis(array, 1, -1) if array.ndim == 4 else array for key, array in arrays.items()}
    return arrays, {"images": None, **moved}


def value_and_grad(name, moved, **options):
    def value(segmentations):
        return loss(name, **{**moved, "segmentations": segmentations}, **{**OPTIONS[name], **options})

    return jax.value_and_grad(value)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("traced", [False, True])
def test_value_and_gradient_are_the_functions(name, traced):
    arrays, moved = given(name)
    function = value_and_grad(name, moved)
    value, gradient = (jax.jit(function) if traced else function)(moved["segmentations"])
    result = LOSSES[name](**arrays, **OPTIONS[name])
    assert value.shape == () and value == np.float32(result.value)
    np.testing.assert_array_equal(np.moveaxis(gradient, -1, 1), result.gradient())


def test_all_arguments_may_be_traced_and_large():
    """A batch of a usual size in a compiled step; images and maps are arguments, too."""
    arrays, moved = given("densecrf", images=4, classes=21, size=(97, 103))

    @jax.jit
    def step(images, segmentations, labels, roi):
        def value(segmentations):
            return 3 * loss("densecrf", images, segmentations, labels, roi, bi_xy_std=20)

        return jax.value_and_grad(value)(segmentations)

    result = LOSSES["densecrf"](**arrays, bi_xy_std=20)
    for _ in range(3):
        value, gradient = step(**moved)
        assert value == 3 * np.float32(result.value)
        np.testing.assert_array_equal(np.moveaxis(gradient, -1, 1), 3 * result.gradient())


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision(dtype):
    _, moved = given("normalized_cut")
    exact = value_and_grad("normalized_cut", moved)(moved["segmentations"])
    found = value_and_grad("normalized_cut", moved)(jax.numpy.asarray(moved["segmentations"], dtype))
    for one, other in zip(found, exact):
        assert one.dtype == dtype
        np.testing.assert_allclose(np.asarray(one, float), other, rtol=0.05, atol=1e-2 * np.abs(other).max())


def test_mistakes():
    _, moved = given("densecrf")
    for changed, options, error, message in (
        ({}, {"sigma": 3}, TypeError, "unexpected argument 'sigma'; it takes labels, roi, data_format, bi_xy_std"),
        ({}, {"bi_xy_std": -1}, ValueError, "bi_xy_std must be float > 0"),
        ({}, {"data_format": "NCHW"}, ValueError, "data_format must be"),
        ({"labels": moved["labels"][:, 1:]}, {}, ValueError, r"labels must have shape \(2, 9, 11\)"),
        ({"images": moved["images"] * np.nan}, {}, Exception, "image 0 of the batch: images must be finite"),
    ):
        with pytest.raises(error, match=message):
            loss("densecrf", **{**moved, **changed}, **options)
    with pytest.raises(ValueError, match="name must be one of densecrf, "):
        loss("dense", **moved)
