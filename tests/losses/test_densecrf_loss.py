"""The DenseCRF loss as a function: reference, brute force, exact derivative, region of interest, bad input."""

import numpy as np
import pytest
from helpers.images import REFERENCE_CASES, probabilities, smooth_image
from helpers.paths import shared_path
from helpers.slow_lattice import brute_force
from hypothesis import given, settings
from hypothesis import strategies as st

from rloss_caffe import bilateral_features, densecrf_loss, region_of_interest


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
    with pytest.raises(ValueError, match="image 1 of the batch: the (image|segmentation) holds NaN or infinity"):
        densecrf_loss(images, segmentations, 5, 5)


def test_overflow_is_told_apart():
    with pytest.raises(ValueError, match="too large for single precision"):
        densecrf_loss(smooth_image(8, 8)[None], np.full((1, 2, 8, 8), 3e38, np.float32), 5, 5)


def test_shapes_are_checked():
    image, segmentation = np.ones((2, 3, 5, 6)), np.ones((2, 4, 5, 6))
    for bad in (segmentation[:1], segmentation[:, :, :4], segmentation[0], segmentation[:, :0], np.ones((2, 4, 6, 5))):
        with pytest.raises(ValueError, match=r"segmentations.*found"):
            densecrf_loss(image, bad)
    for roi, message in [(np.ones((2, 5)), "roi must have shape"), (-np.ones((2, 5, 6)), "roi must hold")]:
        with pytest.raises(ValueError, match=message):
            densecrf_loss(image, segmentation, roi=roi)
    with pytest.raises(ValueError, match="real numbers"):
        densecrf_loss(image, segmentation.astype(complex))


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 3),
    c=st.integers(1, 4),
    k=st.integers(1, 34),
    height=st.integers(1, 12),
    width=st.integers(1, 12),
    xy=st.floats(0.5, 100),
    rgb=st.floats(0.5, 100),
    seed=st.integers(0, 100),
)
def test_laws_on_random_shapes(n, c, k, height, width, xy, rgb, seed):
    images = (np.random.RandomState(seed).randn(n, c, height, width) * 60).astype(np.float32)
    segmentations = probabilities(n, k, height, width, seed)
    value, gradient = densecrf_loss(images, segmentations, xy, rgb)
    assert value <= 0 and (gradient <= 0).all() and gradient.shape == segmentations.shape
    assert (gradient.astype(float) * segmentations).sum() == pytest.approx(2 * value, rel=1e-4, abs=1e-12)
    assert densecrf_loss(images, 2 * segmentations, xy, rgb).value == pytest.approx(4 * value, rel=1e-5, abs=1e-12)
