"""Products and combinations on the lattice against the same in planes, by the lattice's filter."""

import numpy as np
import pytest
from helpers.images import smooth_image

from rloss_caffe import PermutohedralLattice, bilateral_features
from rloss_caffe.filtering import _passes
from rloss_caffe.filtering.applied import Combination, Filtered, OnLattice, apply_to

HEIGHT, WIDTH = 150, 121  # enough points for two bands


@pytest.fixture(scope="module", params=[1, 2])
def lattice(request):
    return PermutohedralLattice(bilateral_features(smooth_image(HEIGHT, WIDTH), 30, 20), num_threads=request.param)


def scene(count):
    rng = np.random.RandomState(count)
    roi = rng.rand(HEIGHT, WIDTH).astype(np.float32) * (rng.rand(HEIGHT, WIDTH) > 0.3)
    return rng.randn(count, HEIGHT, WIDTH).astype(np.float32), roi


def both(lattice, count, with_degree, reverse=False):
    given = (lattice, *scene(count), with_degree, reverse)
    return OnLattice(*given), Filtered(*given)


def assert_close(found, expected):
    assert np.abs(np.subtract(found, expected)).max() <= 2e-5 * np.abs(expected).max()


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("with_degree", [False, True])
@pytest.mark.parametrize("count", [1, 5, 32, 40])
def test_products_and_slices(lattice, count, with_degree, reverse):
    ours, twin = both(lattice, count, with_degree, reverse)
    products, expected = ours.products(), twin.products()
    assert products.shape == (2, count + with_degree)
    assert_close(products[: 1 + with_degree], expected[: 1 + with_degree])
    found, sliced = np.empty((2, count + with_degree, HEIGHT, WIDTH), np.float32)
    ours.slice(found), twin.slice(sliced)
    assert_close(found, sliced)


@pytest.mark.parametrize("count", [1, 5, 32, 40])
def test_the_mean_of_both_directions(lattice, count):
    found, expected = np.empty((2, count + 1, HEIGHT, WIDTH), np.float32)
    for applied, out in zip(both(lattice, count, True), (found, expected)):
        applied.symmetrise()
        applied.slice(out)
    assert_close(found, expected)


@pytest.mark.parametrize("count", [1, 5, 32, 40])
def test_factors_of_the_classes(lattice, count):
    own, added = np.random.RandomState(0).randn(2, count).astype(np.float32)
    found, expected = np.empty((2, count + 1, HEIGHT, WIDTH), np.float32)
    for applied, out in zip(both(lattice, count, True), (found, expected)):
        applied.scale(own, added)
        applied.slice(out)
    assert_close(found, expected)


@pytest.mark.parametrize("count", [1, 5, 32, 40])
def test_a_combination_that_needs_no_values(lattice, count):
    own, added = np.random.RandomState(0).randn(2, count).astype(np.float32)
    terms = Combination(own, added, np.random.RandomState(1).rand(HEIGHT, WIDTH).astype(np.float32))
    found, expected = np.full((2, count, HEIGHT, WIDTH), 3, np.float32)
    for applied, out in zip(both(lattice, count, True), (found, expected)):
        applied.combine(terms, None, out, None, keep=True)
    assert_close(found, expected)


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("with_degree", [False, True])
@pytest.mark.parametrize("count", [1, 5, 32, 40])
def test_combinations(lattice, count, with_degree, keep):
    rng = np.random.RandomState(0)
    terms = Combination(*rng.randn(2, count).astype(np.float32), rng.rand(HEIGHT, WIDTH).astype(np.float32), -0.4)
    inside = rng.rand(HEIGHT, WIDTH).astype(np.float32)
    results = []
    for applied in both(lattice, count, with_degree):
        out = np.full((count, HEIGHT, WIDTH), 3, np.float32)
        degree = np.empty((HEIGHT, WIDTH), np.float32) if with_degree else None
        results.append((*applied.combine(terms, inside, out, degree, keep), out, 0 if degree is None else degree))
    for found, expected in zip(*results):
        assert_close(found, expected)


@pytest.mark.parametrize("count", [5, 40])
def test_the_blur_in_pieces(monkeypatch, lattice, count):
    """On a lattice with many points the threads share each step of the blur: every number is the same."""
    results = []
    for small in (1 << 30, 0):
        monkeypatch.setattr(_passes, "_SMALL_BLUR", small)
        ours, _ = both(lattice, count, True)
        products = ours.products()
        ours.symmetrise()
        out = np.empty((count + 1, HEIGHT, WIDTH), np.float32)
        ours.slice(out)
        results.append((products, out, lattice.filter(scene(count)[0], reverse=True)))
    for found, expected in zip(*results):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("place", [(0, 0), (75, 60), (149, 120)])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_left_out_are_checked_too(lattice, bad, place):
    values, roi = scene(3)
    roi[place], values[(1, *place)] = 0, bad
    with pytest.raises(ValueError, match="values must be finite, found (nan|inf)"):
        apply_to(lattice, values, roi)
    np.testing.assert_array_equal(
        lattice.filter(values, roi=roi), lattice.filter(np.nan_to_num(values, True, 0, 0), roi=roi)
    )
