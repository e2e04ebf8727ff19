"""The lattice in tensor operations against the reference, the Numba lattice, and its own laws."""

import re

import numpy as np
import pytest
from helpers.images import REFERENCE_CASES, smooth_image
from helpers.paths import shared_path
from helpers.slow_lattice import slow_filter
from helpers.twins import relative_error
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="the lattice in tensor operations needs PyTorch")

from rloss_caffe import PermutohedralLattice, bilateral_features, region_of_interest  # noqa: E402
from rloss_caffe.torch import _lattice  # noqa: E402
from rloss_caffe.torch._lattice import TensorLattice  # noqa: E402


def filtered(features, values, reverse=False, **options):
    """Of arrays (B, d, n) and (B, K, n), by tensors."""
    lattice = TensorLattice(torch.from_numpy(features), **options)
    return lattice.filter(torch.from_numpy(values), reverse).numpy(), lattice


def by_numba(features, values, reverse=False):
    lattices = [PermutohedralLattice(each) for each in features]
    return np.array([lattice.filter(v, reverse) for lattice, v in zip(lattices, values)]), lattices


def random_points(rng, batch, dimension, points, spread):
    """Clusters, so that points share simplices and vertices."""
    centres = rng.randn(batch, dimension, 1 + points // 5) * spread
    nearest = rng.randint(0, centres.shape[2], points)
    return (centres[:, :, nearest] + rng.randn(batch, dimension, points) * 0.2).astype(np.float32)


@pytest.mark.parametrize("case", REFERENCE_CASES)
def test_reference(case):
    reference = np.load(shared_path("reference/densecrf_loss.npz"))
    images, segmentations, xy, rgb, expected = (
        reference[f"{case}/{key}"] for key in ("image", "segmentation", "bi_xy_std", "bi_rgb_std", "filtered")
    )
    features = np.array([bilateral_features(image, xy, rgb) for image in images])
    values = segmentations * region_of_interest(images)[:, np.newaxis]
    flat = [each.reshape(*each.shape[:2], -1) for each in (features, values)]
    found, lattice = filtered(*flat)
    assert relative_error(found.reshape(expected.shape), expected) < 1e-6
    assert lattice.num_vertices == sum(PermutohedralLattice(each).num_vertices for each in features)


@settings(deadline=None, max_examples=50)
@given(
    batch=st.integers(1, 3),
    dimension=st.integers(1, 7),
    points=st.integers(1, 30),
    channels=st.integers(1, 5),
    spread=st.sampled_from([0.1, 1, 10, 100, 1000]),
    reverse=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_slow_twin(batch, dimension, points, channels, spread, reverse, seed):
    """In every dimension, also where keys need several words; images of a batch do not mix."""
    rng = np.random.RandomState(seed)
    features = random_points(rng, batch, dimension, points, spread)
    values = rng.randn(batch, channels, points).astype(np.float32)
    expected = [slow_filter(each.T, value.T, reverse).T for each, value in zip(features, values)]
    found = filtered(features, values, reverse)[0]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * max(1, np.abs(expected).max()))


@settings(deadline=None, max_examples=40)
@given(
    batch=st.integers(1, 3),
    dimension=st.sampled_from([2, 5]),
    points=st.integers(1, 500),
    spread=st.sampled_from([0.1, 3, 100, 10000]),
    reverse=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_it_is_the_numba_lattice(batch, dimension, points, spread, reverse, seed):
    rng = np.random.RandomState(seed)
    features = random_points(rng, batch, dimension, points, spread)
    values = rng.rand(batch, 3, points).astype(np.float32)
    for image, each in enumerate(features):
        try:
            PermutohedralLattice(each)
        except ValueError as error:
            with pytest.raises(ValueError) as found:
                filtered(features, values)
            found, expected = (re.sub(r"coordinate \d+", "", str(each)) for each in (found.value, error))  # some beyond
            assert found == f"image {image} of the batch: {expected}"
            return
    expected, lattices = by_numba(features, values, reverse)
    found, lattice = filtered(features, values, reverse)
    assert lattice.num_vertices == sum(each.num_vertices for each in lattices)
    assert relative_error(found, expected) < 1e-6


def test_keys_of_several_words(monkeypatch):
    rng = np.random.RandomState(0)
    words, groups = [], _lattice._Groups.__init__
    monkeypatch.setattr(
        _lattice._Groups, "__init__", lambda self, given: (words.append(len(given)), groups(self, given))[1]
    )
    for dimension, spread in ((3, 1), (5, 1000), (15, 300)):
        features = random_points(rng, 3, dimension, 40, spread)
        values = rng.randn(3, 2, 40).astype(np.float32)
        expected = np.array([slow_filter(f.T, v.T).T for f, v in zip(features, values)])
        found, _ = filtered(features, values)
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6)
    assert words[:2] == [1, 1] and words[4] > words[2] > 1


@settings(deadline=None, max_examples=30)
@given(dimension=st.integers(1, 6), points=st.integers(1, 50), seed=st.integers(0, 1000))
def test_reverse_is_the_transpose(dimension, points, seed):
    rng = np.random.RandomState(seed)
    lattice = TensorLattice(torch.from_numpy(random_points(rng, 2, dimension, points, 2)))
    one, other = (torch.from_numpy(rng.randn(2, 3, points).astype(np.float32)) for _ in range(2))
    forward = (one.double() * lattice.filter(other).double()).sum()
    backward = (other.double() * lattice.filter(one, reverse=True).double()).sum()
    assert abs(forward - backward) < 1e-5 * one.norm() * lattice.filter(other).norm()


def test_without_the_vertices_around_zero():
    rng = np.random.RandomState(1)
    features, values = random_points(rng, 2, 3, 21, 3) + 2, rng.randn(2, 2, 21).astype(np.float32)
    found, lattice = filtered(features, values, compatible=False)
    plain = [PermutohedralLattice(each, compatible=False) for each in features]
    expected = np.array([each.filter(v) for each, v in zip(plain, values)])
    assert relative_error(found, expected) < 1e-6
    assert lattice.num_vertices == sum(each.num_vertices for each in plain)
    assert TensorLattice(torch.from_numpy(features)).num_vertices > lattice.num_vertices


def test_little_memory_means_groups_of_channels():
    rng = np.random.RandomState(2)
    features, values = random_points(rng, 2, 5, 300, 2), rng.randn(2, 7, 300).astype(np.float32)
    expected, _ = filtered(features, values)
    for memory in (1, 20_000, 50_000):
        np.testing.assert_array_equal(filtered(features, values, memory=memory)[0], expected)


@pytest.mark.parametrize("points", [5, 1200, 3001])
def test_sums_of_many_pixels_at_one_vertex(points):
    """A plain image: all meet in a few vertices, whose sums are made in pieces."""
    features = np.full((1, 3, points), 0.3, np.float32)
    values = np.random.RandomState(0).rand(1, 2, points).astype(np.float32)
    found = filtered(features, values)[0]
    assert relative_error(found, by_numba(features, values)[0]) < 1e-5
    assert (found == found[:, :, :1]).all()


def test_plain_sums(monkeypatch):
    """What a device without bags of rows takes, in the same place."""
    rng = np.random.RandomState(3)
    features, values = random_points(rng, 2, 5, 1301, 2), rng.randn(2, 4, 1301).astype(np.float32)
    expected, _ = filtered(features, values)
    monkeypatch.setattr(_lattice, "_sum_rows", lambda *arguments: _lattice._sum_rows_plainly(*(*arguments, None)[:4]))
    assert relative_error(filtered(features, values)[0], expected) < 1e-6


def test_equal_numbers_each_time():
    features = np.array([bilateral_features(smooth_image(33, 35, seed=s), 9, 30) for s in range(2)]).reshape(2, 5, -1)
    values = np.random.RandomState(0).rand(2, 3, 33 * 35).astype(np.float32)
    expected, _ = filtered(features, values)
    threads = torch.get_num_threads()
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            np.testing.assert_array_equal(filtered(features, values)[0], expected)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_features_that_are_not_finite(bad):
    features = np.ones((3, 2, 9), np.float32)
    features[1, 1, 4] = bad
    with pytest.raises(ValueError, match="image 1 of the batch: features must be finite"):
        TensorLattice(torch.from_numpy(features))


@pytest.mark.parametrize("large", [2e4, 1e6, 3e38])
def test_features_out_of_range(large):
    features = np.ones((2, 3, 9), np.float32)
    features[1, 0, 3] = -large
    with pytest.raises(
        ValueError, match=r"image 1 of the batch: the features reach .* lattice, whose range is \+-32767"
    ):
        TensorLattice(torch.from_numpy(features))


def test_shapes_and_types():
    features = torch.zeros(2, 3, 8)
    lattice = TensorLattice(features)
    for wrong in (features[0], features[:0], features[:, :, :0], features.double()):
        with pytest.raises(ValueError, match="features must be float32 of shape"):
            TensorLattice(wrong)
    for wrong in (torch.zeros(2, 1, 7), torch.zeros(1, 1, 8), torch.zeros(2, 8)):
        with pytest.raises(ValueError, match=r"values must have shape \(2, channels, 8\)"):
            lattice.filter(wrong)
    with pytest.raises(ValueError, match="values must be float32"):
        lattice.filter(torch.zeros(2, 1, 8, dtype=torch.float64))
    assert lattice.filter(torch.zeros(2, 0, 8)).shape == (2, 0, 8)
