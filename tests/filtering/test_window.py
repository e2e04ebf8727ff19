"""Sums over the pairs of a window: against a matrix of all pairs, in both sets of inner loops, for any shape."""

import math

import numba
import numpy as np
import pytest
from helpers.images import smooth_image
from helpers.window_twin import window_matrix
from hypothesis import given, settings
from hypothesis import strategies as st

from rloss_caffe.filtering import _choice, _pairs, _plain_pairs
from rloss_caffe.filtering.window import FORM, PairWindow, pair_offsets
from rloss_caffe.numerics.memory import Memory


def twin(matrix, values, roi, form):
    """The three forms and the degree, from a matrix of weights."""
    weights = matrix * roi.ravel()
    planes = values.reshape(len(values), -1).astype(float)
    degree = weights.sum(axis=1)
    sums = planes @ weights.T
    if form == "difference":
        sums = planes * degree - sums
    elif form == "sign":
        sums = (np.sign(planes[:, :, None] - planes[:, None]) * weights).sum(axis=2)
    return sums.reshape(values.shape), degree.reshape(roi.shape)


CASES = [*(("sum", channels) for channels in (1, 3, 5, 13, 21, 34)), ("difference", 21), ("sign", 21), ("sign", 3)]


@pytest.mark.parametrize("form, channels", CASES)
def test_every_width(form, channels):
    rng = np.random.RandomState(channels)
    image, values = smooth_image(7, 70), rng.rand(channels, 7, 70).astype(np.float32)
    values[:, :, 30:40] = values[:, :, 30:31]  # equal neighbours
    roi = (rng.rand(7, 70) * (rng.rand(7, 70) > 0.2)).astype(np.float32)
    found = np.empty_like(values)
    product, weights = PairWindow(image, 3, 2.5, 40, roi=roi).products(values, form, found)
    sums, degree = twin(window_matrix(image, 3, 2.5, 40), values, roi, form)
    np.testing.assert_allclose(found, sums, atol=2e-6 * np.abs(sums).max())
    assert product == pytest.approx((roi * values * sums).sum(), rel=1e-5, abs=1e-6 * (roi * values * abs(sums)).sum())
    assert weights == pytest.approx((roi * degree).sum(), rel=1e-6)


@pytest.mark.parametrize("channels, size, radius", [(3, (4, 67), 2), (21, (9, 17), 6)])
@pytest.mark.parametrize("form", FORM.choices)
def test_generated_and_plain_loops_agree_bit_for_bit(monkeypatch, form, channels, size, radius):
    window = PairWindow(smooth_image(*size), radius, 2, 30)
    values = np.random.RandomState(0).randint(0, 4, (channels, *size)).astype(np.float32) / 4  # with ties
    results = []
    for is_plain in (False, True):
        monkeypatch.setattr(_choice, "_is_plain", is_plain)
        results.append(window.apply(values, form))
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("radius", [1, 2, 5])
@pytest.mark.parametrize("width", [1, 2, 16, 17, 31, 33, 48, 50])
def test_what_memory_held_before_does_not_matter(monkeypatch, radius, width):
    """Sums for a few pixels together reach beyond the image, where nothing may be read that nobody wrote."""
    values = np.random.RandomState(0).rand(3, 7, width).astype(np.float32)
    expected = PairWindow(smooth_image(7, width), radius, num_threads=2).apply(values)
    give = Memory.array

    def give_dirty(self, shape, dtype):
        array = give(self, shape, dtype)
        array.view(np.uint8)[...] = 255  # NaN
        return array

    monkeypatch.setattr(Memory, "array", give_dirty)
    np.testing.assert_array_equal(PairWindow(smooth_image(7, width), radius, num_threads=2).apply(values), expected)


def test_more_pairs_than_are_held_at_a_time():
    image, values = smooth_image(15, 16), np.random.RandomState(0).rand(2, 15, 16).astype(np.float32)
    assert len(pair_offsets((9, 9), 5).rows) > 2 * _pairs.CHUNK
    found = PairWindow(image, 9, 5, 60).apply(values)
    expected, _ = twin(window_matrix(image, 9, 5, 60), values, np.ones((15, 16)), "sum")
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@settings(max_examples=40, deadline=None)
@given(
    channels=st.integers(1, 5),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    radius=st.integers(1, 11),
    contrast=st.sampled_from(["fixed", "image"]),
    space=st.sampled_from(["gaussian", "inverse_distance"]),
    seed=st.integers(0, 1000),
)
def test_any_shape(channels, height, width, radius, contrast, space, seed):
    """Also windows larger than the image; with unit vectors as values, the result is the matrix, and symmetric."""
    rng = np.random.RandomState(seed)
    image = (rng.randn(channels, height, width) * 30).astype(np.float32)
    roi = (rng.rand(height, width) > 0.2).astype(np.float32)
    window = PairWindow(image, radius, 3, 50, contrast, space, roi, num_threads=rng.randint(1, 4))
    size = height * width
    found = window.apply(np.eye(size, dtype=np.float32).reshape(size, height, width)).reshape(size, size)
    expected = window_matrix(image, radius, 3, 50, contrast, space, roi.ravel()) * roi.ravel()
    np.testing.assert_allclose(found.T, expected, rtol=2e-5, atol=1e-7)
    inside = roi.ravel() > 0
    kept = found[np.ix_(inside, inside)]
    np.testing.assert_allclose(kept, kept.T, rtol=1e-6)
    assert not found.diagonal().any()


@pytest.mark.parametrize("factor", [1e-30, 1e-18, 1, 1e18, 1e36])
def test_own_contrast_of_faint_and_glaring_images(factor):
    """Squares that single precision does not hold: the weights stay those of the image in ordinary units."""
    image = smooth_image(8, 9).astype(float)
    expected = PairWindow(image, 2, contrast="image")
    found = PairWindow(image * factor, 2, contrast="image")
    assert found.rgb_std == pytest.approx(factor * expected.rgb_std, rel=1e-5)
    values = np.random.RandomState(0).rand(2, 8, 9).astype(np.float32)
    np.testing.assert_allclose(found.apply(values), expected.apply(values), rtol=1e-4)


def test_own_contrast_does_not_see_an_offset():
    """Small differences on a large offset: the square of the difference, not a difference of squares."""
    steps = np.random.RandomState(0).randint(0, 5, (1, 8, 9)).astype(np.float32)
    assert PairWindow(steps + 1e6, 2, contrast="image").rgb_std == pytest.approx(
        PairWindow(steps, 2, contrast="image").rgb_std, rel=1e-6
    )


def test_without_contrast_only_space_counts():
    values = np.random.RandomState(0).rand(2, 6, 7).astype(np.float32)
    window = PairWindow(np.full((3, 6, 7), 31), 2, 3, contrast="image")
    assert window.rgb_std == 0
    np.testing.assert_array_equal(window.apply(values), PairWindow(np.zeros((1, 6, 7)), 2, 3).apply(values))


@pytest.mark.parametrize("xy_std, rgb_std", [(1e-38, 15), (1e-3, 1e-45), (1e38, 3e38), (3, 1e-30)])
def test_extreme_bandwidths(xy_std, rgb_std):
    image = smooth_image(6, 7)
    image[:, :2] = 5
    found = PairWindow(image, 2, xy_std, rgb_std).apply(np.ones((1, 6, 7)))
    assert np.isfinite(found).all() and (found >= 0).all()
    np.testing.assert_allclose(found[0], window_matrix(image, 2, xy_std, rgb_std).sum(1).reshape(6, 7), rtol=1e-5)


@pytest.mark.parametrize("huge", [1e20, 1e30, 3e38])
def test_one_huge_value_changes_no_other_pair(huge):
    """What marks missing data, say."""
    image = smooth_image(6, 7)
    image[1, 2, 3] = huge
    found = PairWindow(image, 2, 3, 30).apply(np.ones((1, 6, 7)))
    expected = window_matrix(image, 2, 3, 30).sum(1).reshape(6, 7)
    np.testing.assert_allclose(found[0], expected, rtol=1e-5)


def test_exponential():
    @numba.njit
    def each(powers, out):
        for i in range(len(powers)):
            out[i] = _plain_pairs.exp2_of_negative(powers[i])

    powers = np.append(-np.random.RandomState(0).rand(100000) * 125, [0, -0.0, -125, -0.5, -1]).astype(np.float32)
    found = np.empty_like(powers)
    each(powers, found)
    expected = np.exp2(powers.astype(float))
    assert (np.abs(found - expected) / expected).max() < 1.2e-7
    beyond = np.array([-127, -1e5, -3e38, -math.inf], np.float32)
    each(beyond, found[:4])
    assert not found[:4].any()
    near = np.linspace(-127, -125, 1000).astype(np.float32)
    each(near, found[:1000])
    assert (found[:1000] >= 0).all() and (found[:1000] <= 2.0**-125).all()


def test_output_and_values():
    image, values = smooth_image(6, 7), np.random.RandomState(0).rand(2, 6, 7).astype(np.float32)
    window = PairWindow(image, 2)
    expected = window.apply(values, "difference")
    assert window.apply(values, "difference", values) is values
    np.testing.assert_array_equal(values, expected)
    with pytest.raises(ValueError, match=r"values must have shape \(channels, 6, 7\)"):
        window.apply(values[:, 1:])
    with pytest.raises(ValueError, match="form must be one of sum, difference, sign, found 'all'"):
        window.apply(values, "all")
