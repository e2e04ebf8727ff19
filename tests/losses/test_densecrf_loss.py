"""The DenseCRF loss as a function: reference, brute force, exact derivative, region of interest, bad input."""

import inspect

import numpy as np
import pytest
from helpers.images import REFERENCE_CASES, probabilities, smooth_image
from helpers.paths import shared_path
from helpers.random_shapes import RANDOM_SHAPES
from helpers.slow_lattice import brute_force
from helpers.twins import ExactSum
from hypothesis import given, settings

from rloss_caffe import bilateral_features, densecrf_loss, region_of_interest
from rloss_caffe.losses import Workspace, densecrf


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("case", REFERENCE_CASES)
def test_reference(case, threads):
    reference = np.load(shared_path("reference/densecrf_loss.npz"))
    image, segmentation, xy, rgb, loss, expected = (
        reference[f"{case}/{key}"] for key in ("image", "segmentation", "bi_xy_std", "bi_rgb_std", "loss", "gradient")
    )
    value, gradient = densecrf_loss(image, segmentation, xy, rgb, num_threads=threads)
    assert value == pytest.approx(float(loss), rel=1e-6)
    assert np.linalg.norm(gradient - expected) <= 1e-6 * np.linalg.norm(expected)
    assert np.abs(gradient - expected).max() <= 1e-5 * np.abs(expected).max()


def test_brute_force_after_a_fitted_scale():
    image, segmentation = smooth_image(36, 40), probabilities(1, 4, 36, 40)[0]
    features = bilateral_features(image, 10, 40).reshape(5, -1).T
    planes = segmentation.reshape(4, -1).T
    exact = brute_force(features, planes)
    value, gradient = densecrf_loss(image[None], segmentation[None], 10, 40, roi=np.ones((1, 36, 40)))
    scale = gradient.ravel().dot(-2 * exact.T.ravel()) / (4 * exact**2).sum()
    assert 0.3 < scale < 1.2
    shape_error = np.linalg.norm(gradient.ravel() - scale * -2 * exact.T.ravel()) / np.linalg.norm(gradient)
    assert shape_error < 0.14  # a cosine of 0.99
    assert value == pytest.approx(-scale * (planes * exact).sum(), rel=0.02)


def directional_errors(exact_gradient):
    images = np.array([smooth_image(24, 21, seed=n) for n in range(2)])
    segmentations = probabilities(2, 3, 24, 21)

    def value(s):
        return densecrf_loss(images, s, 12, 25, exact_gradient=exact_gradient).value

    gradient = densecrf_loss(images, segmentations, 12, 25, exact_gradient=exact_gradient).gradient().astype(float)
    errors = []
    for seed in range(5):
        direction = np.random.RandomState(seed).randn(*segmentations.shape).astype(np.float32)
        step = np.float32(0.25)  # the loss is quadratic: central differences are exact for any step
        numeric = (value(segmentations + step * direction) - value(segmentations - step * direction)) / (2 * step)
        scale = np.linalg.norm(gradient) * np.linalg.norm(direction) / np.sqrt(direction.size)
        errors.append(abs(numeric - (gradient * direction).sum()) / scale)
    return max(errors)


def test_exact_gradient_is_the_derivative_to_single_precision():
    assert directional_errors(exact_gradient=True) < 2e-5


def test_compatible_gradient_is_the_derivative_up_to_the_asymmetry():
    """The original's gradient is known to be off by up to 14 % in random directions on images as small as this."""
    assert 1e-4 < directional_errors(exact_gradient=False) < 0.15


def test_region_of_interest_drops_what_truncates_to_zero():
    images = np.zeros((1, 3, 2, 3), np.float32)
    images[0, :, 0, 0] = [0.99, -0.99, 0.5]
    images[0, :, 0, 1] = [0, 1, 0]
    images[0, :, 1, 2] = [0, 0, -1.5]
    np.testing.assert_array_equal(region_of_interest(images), [[[0, 1, 0], [0, 0, 1]]])


def test_padding_gets_no_gradient_and_adds_no_value():
    image = smooth_image(16, 18)[None] + 200
    image[:, :, 10:] = 0
    segmentation = probabilities(1, 3, 16, 18)
    value, gradient = densecrf_loss(image, segmentation, 10, 30)
    assert not gradient[:, :, 10:].any() and gradient[:, :, :10].all()
    other = segmentation.copy()
    other[:, :, 10:] = 0.7
    assert densecrf_loss(image, other, 10, 30).value == value
    everywhere = densecrf_loss(image, segmentation, 10, 30, roi=np.ones((1, 16, 18)))
    assert everywhere.value < value and everywhere.gradient().all()


def test_batch_is_averaged_over_images_only():
    image, segmentation = smooth_image(14, 15)[None], probabilities(1, 3, 14, 15)
    value, gradient = densecrf_loss(image, segmentation, 10, 30)
    twice = densecrf_loss(np.repeat(image, 2, 0), np.repeat(segmentation, 2, 0), 10, 30)
    assert twice.value == pytest.approx(value, rel=1e-12)
    np.testing.assert_allclose(twice.gradient()[1], gradient[0] / 2, rtol=1e-6)


def test_one_label_everywhere_has_the_lowest_value():
    image = smooth_image(20, 20)[None]
    uniform = np.full((1, 2, 20, 20), 0.5, np.float32)
    one = np.concatenate([np.ones((1, 1, 20, 20)), np.zeros((1, 1, 20, 20))], axis=1)
    follows_edge = np.concatenate([image[:, :1] > 40, image[:, :1] <= 40], axis=1).astype(np.float32)
    crosses_edge = np.roll(follows_edge, 7, axis=3)
    values = [densecrf_loss(image, s, 15, 30).value for s in (one, follows_edge, crosses_edge, uniform)]
    assert values == sorted(values) and values[-1] < 0


def test_default_bandwidths_are_the_original_schemas():
    image, segmentation = smooth_image(10, 10)[None], probabilities(1, 2, 10, 10)
    assert densecrf_loss(image, segmentation).value == densecrf_loss(image, segmentation, 15, 40).value


def test_gradient_scale_and_output():
    result = densecrf_loss(smooth_image(9, 9)[None], probabilities(1, 2, 9, 9), 5, 20)
    out = np.full((1, 2, 9, 9), 7, np.float32)
    assert result.gradient(3.0, out=out) is out
    np.testing.assert_allclose(out, 3 * result.gradient(), rtol=1e-6)
    loss, gradient = result
    assert loss == result.value and gradient.shape == out.shape


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("rows", [1, 7, 40])
def test_an_image_whose_first_rows_are_no_numbers_is_refused(rows, threads):
    """Also where all are: nothing that can be compared is among the lattice's coordinates then."""
    images, segmentations = np.full((1, 3, 40, 50), 60, np.float32), np.full((1, 2, 40, 50), 0.5, np.float32)
    images[:, :, :rows] = np.nan
    with pytest.raises(ValueError, match="image 0 of the batch: images must be finite, found nan at"):
        densecrf_loss(images, segmentations, num_threads=threads)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["image", "segmentation", "masked"])
def test_non_finite_input_names_the_image(bad, where):
    images = np.array([smooth_image(8, 8)] * 3) + 300
    segmentations = probabilities(3, 2, 8, 8)
    if where == "image":
        images[1, 0, 3, 3] = bad
    else:
        segmentations[1, 1, 3, 3] = bad
        if where == "masked":
            images[1, :, 3, 3] = 0
    with pytest.raises(
        ValueError, match=r"image 1 of the batch: (images|segmentations) must be finite, found .* at \([01], 3, 3\)"
    ):
        densecrf_loss(images, segmentations, 5, 5)


def test_overflow_is_told_apart():
    with pytest.raises(ValueError, match="image 0 of the batch: segmentations must not be so large"):
        densecrf_loss(smooth_image(8, 8)[None], np.full((1, 2, 8, 8), 3e38, np.float32), 5, 5)


def test_shapes_are_checked():
    image, segmentation = np.ones((2, 3, 5, 6)), np.ones((2, 4, 5, 6))
    for bad in (segmentation[:1], segmentation[:, :, :4], segmentation[0], segmentation[:, :0], np.ones((2, 4, 6, 5))):
        with pytest.raises(ValueError, match=r"segmentations (must have shape.*found|is empty)"):
            densecrf_loss(image, bad)
    for roi, message in [
        (np.ones((2, 5)), "roi must have shape"),
        (-np.ones((2, 5, 6)), "roi must hold"),
        (np.full((2, 5, 6), np.nan), "roi must be finite"),
        ("all", "roi must hold real numbers"),
    ]:
        with pytest.raises(ValueError, match=message):
            densecrf_loss(image, segmentation, roi=roi)
    with pytest.raises(ValueError, match="segmentations must hold real numbers"):
        densecrf_loss(image, segmentation.astype(complex))
    with pytest.raises(ValueError, match="exact_gradient must be True or False"):
        densecrf_loss(image, segmentation, exact_gradient="no")
    with pytest.raises(ValueError, match="bi_rgb_std must be a finite number"):
        densecrf_loss(image, segmentation, bi_rgb_std=1e39)


def bad_outputs(shape, filtered):
    """Arrays that cannot take a gradient of this shape, and what the message must say."""
    n, k, h, w = shape
    read_only = np.zeros(shape, np.float32)
    read_only.flags.writeable = False
    return {
        "smaller": (np.zeros((n, k, h, w - 1), np.float32), "out must be a C-contiguous float32 array of shape"),
        "larger": (np.zeros((n, k, h + 1, w), np.float32), "out must be a C-contiguous float32 array of shape"),
        "flat": (np.zeros(n * k * h * w, np.float32), "out must be"),
        "transposed": (np.zeros((w, h, k, n), np.float32).T, "not C-contiguous"),
        "strided": (np.zeros((n, k, h, 2 * w), np.float32)[..., ::2], "not C-contiguous"),
        "integers": (np.zeros(shape, np.int32), "found int32"),
        "double": (np.zeros(shape), "found float64"),
        "complex": (np.zeros(shape, np.complex64), "found complex64"),
        "read-only": (read_only, "read-only"),
        "a list": (np.zeros(shape).tolist(), "out must be an ndarray.*found list"),
        "a number": (3.0, "found float"),
        "masked": (np.ma.zeros(shape, np.float32), "found MaskedArray"),
        "the filtered": (filtered, "must not share memory with filtered"),
    }


@pytest.mark.parametrize("kind", bad_outputs((2, 2, 8, 9), None))
def test_outputs_that_cannot_take_the_gradient(kind):
    images = np.array([smooth_image(8, 9)] * 2)
    result = densecrf_loss(images, probabilities(2, 2, 8, 9), 5, 20, roi=np.ones((2, 8, 9)))
    expected = result.gradient()
    out, message = bad_outputs((2, 2, 8, 9), result.filtered)[kind]
    with pytest.raises(ValueError, match=message):
        result.gradient(1.0, out)
    np.testing.assert_array_equal(result.gradient(), expected)


@pytest.mark.parametrize("scale", [np.nan, np.inf, 1e39, "2", None, [1.0], 2j])
def test_scales_that_are_no_numbers(scale):
    result = densecrf_loss(smooth_image(8, 9)[None], probabilities(1, 2, 8, 9), 5, 20)
    with pytest.raises(ValueError, match="scale must be a"):
        result.gradient(scale)


def test_memory_that_is_reused():
    images, first, second = smooth_image(9, 8)[None], probabilities(1, 3, 9, 8, 1), probabilities(1, 3, 9, 8, 2)
    expected = densecrf_loss(images, second, 5, 20)
    old = densecrf_loss(images, first, 5, 20)
    new = densecrf_loss(images, second, 5, 20, work=old.filtered)
    assert new.filtered is not None and np.shares_memory(new.filtered, old.filtered)
    np.testing.assert_array_equal(new.gradient(), expected.gradient())
    other = densecrf_loss(images, probabilities(1, 5, 9, 8), 5, 20, work=old.filtered)  # another shape: left alone
    assert not np.shares_memory(other.filtered, old.filtered)
    for work, message in [
        (second, "work must not share memory with segmentations"),
        (images, "work must not share memory with images"),
        (np.zeros(second.shape), "work must be a C-contiguous float32"),
        (second.tolist(), "work must be an ndarray"),
    ]:
        segmentations = second if message.endswith("segmentations") else probabilities(1, 3, 9, 8)
        with pytest.raises(ValueError, match=message):
            densecrf_loss(images, segmentations, 5, 20, work=work)


def test_a_workspace_serves_one_result_at_a_time():
    images, workspace = smooth_image(9, 8)[None], Workspace()
    old = densecrf_loss(images, probabilities(1, 3, 9, 8, 1), 5, 20, work=workspace)
    expected = densecrf_loss(images, probabilities(1, 3, 9, 8, 1), 5, 20)
    np.testing.assert_array_equal(old.gradient(2.0), expected.gradient(2.0))
    for classes in (3, 4):
        new = densecrf_loss(images, probabilities(1, classes, 9, 8, 2), 5, 20, work=workspace)
        expected = densecrf_loss(images, probabilities(1, classes, 9, 8, 2), 5, 20)
        assert new.value == expected.value
        np.testing.assert_array_equal(new.gradient(), expected.gradient())
        with pytest.raises(ValueError, match="a later call took this result's workspace"):
            old.gradient()


def test_another_lattice_takes_the_place_of_ours():
    """The exact Gaussian sum, one matrix: loss and gradient are those of that matrix."""
    images, segmentations = smooth_image(9, 8)[None], probabilities(1, 3, 9, 8)

    roi = np.random.RandomState(0).rand(1, 9, 8).astype(np.float32)
    result = densecrf_loss(images, segmentations, 5, 20, roi=roi, lattice=ExactSum)
    matrix = ExactSum(bilateral_features(images[0], 5, 20), 1).matrix
    planes = (segmentations * roi[:, None]).reshape(3, -1).astype(float)
    assert result.value == pytest.approx(-(planes * (planes @ matrix)).sum(), rel=1e-5)
    expected = -2 * roi * (planes @ matrix).reshape(1, 3, 9, 8)
    np.testing.assert_allclose(result.gradient(), expected, rtol=1e-4)


def test_defaults_and_docstring_come_from_the_declarations():
    signature = inspect.signature(densecrf_loss).parameters
    for parameter in densecrf.PARAMETERS:
        assert signature[parameter.name].default == parameter.default
        assert f"{parameter.name} : {parameter.expectation()}, default" in densecrf_loss.__doc__
    assert [parameter.default for parameter in densecrf.PARAMETERS[:3]] == [15, 40, False]  # the original schema's


@settings(max_examples=40, deadline=None)
@given(
    **RANDOM_SHAPES,
)
def test_laws_on_random_shapes(n, c, k, height, width, xy, rgb, seed):
    images = (np.random.RandomState(seed).randn(n, c, height, width) * 60).astype(np.float32)
    segmentations = probabilities(n, k, height, width, seed)
    value, gradient = densecrf_loss(images, segmentations, xy, rgb)
    assert value <= 0 and (gradient <= 0).all() and gradient.shape == segmentations.shape
    assert (gradient.astype(float) * segmentations).sum() == pytest.approx(2 * value, rel=1e-4, abs=1e-12)
    assert densecrf_loss(images, 2 * segmentations, xy, rgb).value == pytest.approx(4 * value, rel=1e-5, abs=1e-12)
