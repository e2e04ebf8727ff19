"""The permutohedral lattice against the reference, its slow twin, brute force, and its own laws."""

import threading

import numpy as np
import pytest
from helpers.images import REFERENCE_CASES, smooth_image
from helpers.paths import shared_path
from helpers.slow_lattice import brute_force, embed, slow_filter
from hypothesis import given, settings
from hypothesis import strategies as st

import rloss_caffe
from rloss_caffe import PermutohedralLattice, bilateral_features, bilateral_filter, bilateral_filter_batch


def relative_error(found, expected):
    return np.linalg.norm(found - expected) / np.linalg.norm(expected)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("case", REFERENCE_CASES)
def test_reference_filter(case, threads):
    reference = np.load(shared_path("reference/densecrf_loss.npz"))
    image, segmentation, xy, rgb, expected = (
        reference[f"{case}/{key}"] for key in ("image", "segmentation", "bi_xy_std", "bi_rgb_std", "filtered")
    )
    roi = rloss_caffe.region_of_interest(image)
    found = bilateral_filter_batch(image, segmentation, xy, rgb, roi=roi, num_threads=threads)
    np.testing.assert_array_equal(found, expected)  # the same operations in the same order: bit for bit


@pytest.mark.parametrize("dimension", range(1, 9))
@pytest.mark.parametrize("points", [1, 4, 23])
def test_slow_twin(dimension, points):
    rng = np.random.RandomState(10 * dimension + points)
    features = (rng.randn(points, dimension) * 2).astype(np.float32)
    values = rng.randn(points, 3).astype(np.float32)
    lattice = PermutohedralLattice(features.T)
    for reverse in (False, True):
        expected = slow_filter(features, values, reverse)
        np.testing.assert_allclose(lattice.filter(values.T, reverse=reverse).T, expected, rtol=0, atol=1e-6)


def test_slow_twin_with_wide_keys():
    """A range of coordinates too wide for keys of one word."""
    rng = np.random.RandomState(3)
    features = (rng.randn(30, 6) * 600).astype(np.float32)
    features[15:] = features[:15] + (rng.randn(15, 6) * 0.3).astype(np.float32)
    values = rng.randn(30, 2).astype(np.float32)
    found = PermutohedralLattice(features.T).filter(values.T).T
    np.testing.assert_allclose(found, slow_filter(features, values), rtol=0, atol=1e-6)


def test_twin_obeys_the_lattice_laws():
    """Weights in [0, 1] that sum to 1, and vertices whose coordinates agree modulo d + 1."""
    features = np.random.RandomState(0).randn(200, 5).astype(np.float32) * 3
    vertices, weights = embed(features)
    assert weights.min() >= -1e-5 and weights.max() <= 1 + 1e-5
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-5)
    assert (vertices % 6 == np.arange(6)[None, :, None]).all()


@pytest.mark.parametrize("channels, xy, rgb", [(1, 6, 30), (3, 8, 40), (3, 20, 60)])
def test_brute_force_after_a_fitted_scale(channels, xy, rgb):
    image = smooth_image(40, 37, channels)
    features = bilateral_features(image, xy, rgb)
    values = np.random.RandomState(0).rand(4, 40, 37).astype(np.float32)
    values[0] = smooth_image(40, 37, 1)[0] > 0
    found = PermutohedralLattice(features).filter(values).reshape(4, -1).T.astype(float)
    expected = brute_force(features.reshape(2 + channels, -1).T, values.reshape(4, -1).T)
    cosine = (found * expected).sum() / np.linalg.norm(found) / np.linalg.norm(expected)
    assert cosine > 0.99
    scale = (found * expected).sum() / (expected**2).sum()
    assert 0.3 < scale < 1.2


def test_positional_filter_is_a_gaussian_blur():
    gaussian_filter = pytest.importorskip("scipy.ndimage").gaussian_filter
    values = np.zeros((64, 64), np.float32)
    values[20:40, 25:50] = 1
    lattice = PermutohedralLattice(rloss_caffe.positional_features(64, 64, 4))
    found = lattice.filter(values) / lattice.filter(np.ones_like(values))
    expected = gaussian_filter(values, 4, mode="constant") / gaussian_filter(np.ones_like(values), 4, mode="constant")
    assert np.abs(found - expected).max() < 0.06


@pytest.mark.parametrize("dimension", [1, 2, 3, 5, 8])
def test_reversed_axes_are_the_exact_transpose(dimension):
    rng = np.random.RandomState(dimension)
    lattice = PermutohedralLattice(rng.randn(dimension, 120) * 1.5)
    identity = np.eye(120, dtype=np.float32)
    matrix, transpose = lattice.filter(identity), lattice.filter(identity, reverse=True)
    np.testing.assert_allclose(matrix, transpose.T, atol=1e-6)
    if dimension > 1:
        assert np.abs(matrix - matrix.T).max() > 1e-4  # that is why the transpose is offered
    assert matrix.min() >= 0


# Any number of dimensions with a few channels, and any number of channels on the lattice of grey and of colour images:
# kernels are compiled for each number of both. tests/filtering/test_plain_kernels.py tries all widths in another.
DIMENSION_AND_CHANNELS = st.one_of(
    st.tuples(st.integers(1, 6), st.integers(0, 4)), st.tuples(st.sampled_from([3, 5]), st.integers(5, 70))
)


@settings(max_examples=60, deadline=None)
@given(
    size=DIMENSION_AND_CHANNELS,
    points=st.integers(1, 60),
    spread=st.floats(0.01, 50),
    seed=st.integers(0, 1000),
)
def test_laws_on_random_shapes(size, points, spread, seed):
    dimension, channels = size
    rng = np.random.RandomState(seed)
    lattice = PermutohedralLattice(rng.randn(dimension, points) * spread)
    assert dimension + 1 <= lattice.num_vertices <= (points + 1) * (dimension + 1)
    values = rng.rand(channels, points).astype(np.float32)
    found = lattice.filter(values)
    assert found.shape == values.shape and np.isfinite(found).all()
    if channels:
        other = rng.rand(channels, points).astype(np.float32)
        total = lattice.filter(values + 2 * other)  # linear
        np.testing.assert_allclose(total, found + 2 * lattice.filter(other), rtol=1e-4, atol=1e-4)
        one_by_one = np.array([lattice.filter(plane) for plane in values])  # channels do not mix
        np.testing.assert_array_equal(one_by_one, found)
        left = (found.astype(float) * other).sum()
        right = (values.astype(float) * lattice.filter(other, reverse=True)).sum()
        assert left == pytest.approx(right, rel=1e-4)
    ones = lattice.filter(np.ones(points))
    np.testing.assert_allclose(lattice.filter(np.full(points, 3.0)) / ones, 3, rtol=1e-5)


def test_region_of_interest_is_a_factor():
    image, values = smooth_image(20, 30), np.random.RandomState(0).rand(5, 20, 30).astype(np.float32)
    roi = (np.random.RandomState(1).rand(20, 30) > 0.4).astype(np.float32)
    found = bilateral_filter(image, values, 9, 30, roi=roi)
    np.testing.assert_array_equal(found, bilateral_filter(image, values * roi, 9, 30))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("size", [(1, 3, 4), (3, 40, 37), (3, 5, 16), (3, 150, 160)])
@pytest.mark.parametrize("rgb", [15, 0.1])  # the second: in wide fields
def test_lattice_of_an_image_is_that_of_its_features(size, rgb, threads):
    image = smooth_image(*size[1:], size[0])
    image[:, :, size[2] // 2 :] *= 0.01
    region = np.full(size[1:], 7, np.float32)
    found = PermutohedralLattice.of_image(image, 9, rgb, threads, region)
    expected = PermutohedralLattice(bilateral_features(image, 9, rgb), threads)
    np.testing.assert_array_equal(region, rloss_caffe.region_of_interest(image[np.newaxis])[0])
    values = np.random.RandomState(0).rand(2, *size[1:]).astype(np.float32)
    np.testing.assert_array_equal(found.filter(values), expected.filter(values))
    assert (found.shape, found.num_vertices, found.nbytes) == (expected.shape, expected.num_vertices, expected.nbytes)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("spread, points", [(0.5, 40_000), (9, 40_000), (60, 2000)])
def test_neighbours_join_the_vertices_of_every_simplex(spread, points, threads):
    """Few lattice points and many, so that tables grow, and keys of one word and of several."""
    features = np.random.RandomState(0).randn(5, points) * spread
    features[:, -1] = 3000 * (spread == 60)
    lattice = PermutohedralLattice(features, threads)
    size, before, after = lattice.num_vertices, lattice._before, lattice._after
    for one, other in ((before, after), (after, before)):
        axis, point = np.nonzero(one < size)
        np.testing.assert_array_equal(other[axis, one[axis, point]], point)
    vertices = [
        lattice._vertices[start:end] if numbers is None else numbers[lattice._vertices[start:end]]
        for start, end, numbers in lattice._bands
    ]
    assert len(vertices) == threads or points < 40_000
    vertices = np.concatenate(vertices)
    for vertex, following in zip(vertices.T, np.roll(vertices, -1, axis=1).T):
        assert ((after[:, vertex] == following).sum(axis=0) == 1).all()  # one step along one axis


def test_vertices_of_the_zero_feature_exist_only_where_the_original_adds_them():
    features = np.random.RandomState(0).randn(5, 31) * 0.4 + 3
    compatible, plain = PermutohedralLattice(features), PermutohedralLattice(features, compatible=False)
    assert compatible.num_vertices == plain.num_vertices + 6
    assert PermutohedralLattice(features[:, :28]).num_vertices == (
        PermutohedralLattice(features[:, :28], compatible=False).num_vertices
    )


def test_number_of_threads_changes_rounding_only():
    image, values = smooth_image(230, 240), np.random.RandomState(0).rand(21, 230, 240).astype(np.float32)
    one = bilateral_filter(image, values, 60, 15, num_threads=1)
    for threads in (2, 3, 5):
        several = bilateral_filter(image, values, 60, 15, num_threads=threads)
        assert relative_error(several, one) < 1e-6
        np.testing.assert_array_equal(several, bilateral_filter(image, values, 60, 15, num_threads=threads))


def test_batches_equal_their_images():
    images = np.array([smooth_image(90, 100, seed=n) for n in range(5)])
    values = np.random.RandomState(0).rand(5, 3, 90, 100).astype(np.float32)
    for threads in (1, 2, 4):
        found = bilateral_filter_batch(images, values, 30, 20, num_threads=threads)
        for index in range(5):
            expected = bilateral_filter(images[index], values[index], 30, 20, num_threads=1)
            assert relative_error(found[index], expected) < 1e-6


def test_several_python_threads_at_once():
    images = [smooth_image(150, 160, seed=n) for n in range(4)]
    values = np.random.RandomState(0).rand(21, 150, 160).astype(np.float32)
    lattice = PermutohedralLattice(bilateral_features(images[0], 40, 15))
    expected = [bilateral_filter(image, values, 40, 15, num_threads=2) for image in images]
    shared_expected = lattice.filter(values)
    failures = []

    def work(index):
        for _ in range(5):
            if not np.array_equal(bilateral_filter(images[index], values, 40, 15, num_threads=2), expected[index]):
                failures.append(index)
            if not np.array_equal(lattice.filter(values), shared_expected):
                failures.append("shared")

    workers = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not failures


def test_the_gil_is_released():
    """Another Python thread makes progress while one long filter call runs."""
    image, values = smooth_image(600, 600), np.random.RandomState(0).rand(32, 600, 600).astype(np.float32)
    bilateral_filter(image, values, 60, 15, num_threads=1)
    inside, ticks, stop = threading.Event(), [], threading.Event()

    def tick():
        while not stop.wait(0.001):
            if inside.is_set():
                ticks.append(1)

    ticker = threading.Thread(target=tick)
    ticker.start()
    lattice = PermutohedralLattice(bilateral_features(image, 60, 15), num_threads=1)
    inside.set()
    lattice.filter(values)  # three kernel calls of several milliseconds each
    inside.clear()
    stop.set()
    ticker.join()
    assert len(ticks) >= 5


def test_memory_is_what_the_formula_says():
    lattice = PermutohedralLattice(bilateral_features(smooth_image(100, 120), 30, 15))
    n, m, d = 12000, lattice.num_vertices, 5
    assert 8 * n * (d + 1) + 8 * m * (d + 1) <= lattice.nbytes <= 1.01 * (8 * n * (d + 1) + 8 * m * (d + 1))


def test_values_of_other_types_and_layouts():
    image, values = smooth_image(12, 14), np.random.RandomState(0).randint(0, 2, (3, 12, 14))
    expected = bilateral_filter(image, values.astype(np.float32), 5, 20)
    np.testing.assert_array_equal(bilateral_filter(image.astype(float), values, 5, 20), expected)
    np.testing.assert_array_equal(bilateral_filter(np.asfortranarray(image), values.astype(bool), 5, 20), expected)
    np.testing.assert_array_equal(bilateral_filter(image, np.asfortranarray(values.astype(">f8")), 5, 20), expected)
    wide = np.zeros((3, 12, 28), np.float32)
    wide[:, :, ::2] = values
    np.testing.assert_array_equal(bilateral_filter(image, wide[:, :, ::2], 5, 20), expected)
    out = values.astype(np.float32)
    assert bilateral_filter(image, out, 5, 20, out=out) is out
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("bad", [0, -1, np.nan, np.inf, "15", None, True, [3], 1e-60])
def test_bandwidths_are_checked(bad):
    with pytest.raises(ValueError, match="bi_xy_std must be a"):
        bilateral_features(smooth_image(3, 3), bad, 10)
    with pytest.raises(ValueError, match="bi_rgb_std must be a"):
        bilateral_features(smooth_image(3, 3), 10, bad)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_images_must_be_finite(bad):
    images = np.array([smooth_image(8, 8)] * 3)
    images[2, 1, 5, 5] = bad
    with pytest.raises(ValueError, match=r"images must be finite, found .* at \(2, 1, 5, 5\)"):
        bilateral_filter_batch(images, np.zeros((3, 1, 8, 8)), 5, 5)


def test_coordinates_out_of_range_are_refused():
    image = smooth_image(8, 8)
    with pytest.raises(ValueError, match="32767.*larger bandwidths"):
        bilateral_filter(image, image, 10, 0.001)
    with pytest.raises(ValueError, match="bi_rgb_std is too small"):
        bilateral_filter(image * 1e30, image, 10, 1e-9)
    for size in (1e5, 1e10, 1e38):  # finite, but sums of it may not be
        for features in ([[size, -size], [size, size]], [[0, 0], [size, 0]], [[-size, 0], [0, 1]]):
            with pytest.raises(ValueError, match="32767"):
                PermutohedralLattice(features)
    found = bilateral_filter(image, image, 10, 0.1)  # still in range: every pixel for itself, nearly
    assert np.isfinite(found).all()


@pytest.mark.parametrize(
    "features, message",
    [
        (np.zeros((5, 0)), "no point"),
        (np.zeros((0, 5)), "1 to 15 dimensions"),
        (np.zeros((16, 5)), "1 to 15 dimensions"),
        (np.zeros(5), "shape"),
        (np.zeros((2, 3), complex), "real numbers"),
        (np.array([["a", "b"]]), "real numbers"),
    ],
)
def test_features_are_checked(features, message):
    with pytest.raises(ValueError, match=message):
        PermutohedralLattice(features)


def test_shapes_of_values_are_checked():
    lattice = PermutohedralLattice(np.zeros((2, 4, 6)))
    for shape in [(3, 4, 5), (25,), (2, 3, 4, 6), ()]:
        with pytest.raises(ValueError, match="values must have shape"):
            lattice.filter(np.zeros(shape))
    for out in (
        np.zeros((1, 4, 6)),
        np.zeros((2, 4, 6), np.float32),
        np.zeros((1, 6, 4), np.float32).transpose(0, 2, 1),
    ):
        with pytest.raises(ValueError, match="out must be"):
            lattice.filter(np.zeros((1, 4, 6)), out=out)
    with pytest.raises(ValueError, match="roi must have shape"):
        lattice.filter(np.zeros((1, 4, 6)), roi=np.zeros((6, 4)))
    with pytest.raises(ValueError, match="empty"):
        bilateral_filter(np.zeros((3, 0, 4)), np.zeros((1, 0, 4)), 3, 3)
    with pytest.raises(ValueError, match="batch size"):
        bilateral_filter_batch(np.zeros((2, 3, 4, 4)), np.zeros((3, 1, 4, 4)), 3, 3)
