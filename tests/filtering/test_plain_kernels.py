"""The generated inner loops and their plain twins: equal bit for bit, and the one stands in for the other."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest
from helpers.images import REFERENCE_CASES, smooth_image
from helpers.paths import shared_path

from rloss_caffe import PermutohedralLattice, bilateral_features, bilateral_filter_batch, region_of_interest
from rloss_caffe.filtering import _choice
from rloss_caffe.filtering.applied import Combination, apply_to

SIZES = (1, 15, 16, 17, 64, 71, 300)


def both(monkeypatch, function):
    """What a function returns on the generated and on the plain loops."""
    results = []
    for is_plain in (False, True):
        monkeypatch.setattr(_choice, "_is_plain", is_plain)
        results.append(function())
    return results


def assert_equal_lattices(monkeypatch, features, channels=(3,)):
    generated, plain = both(monkeypatch, lambda: PermutohedralLattice(features, num_threads=1))
    for name in ("_vertices", "_weights", "_before", "_after"):
        np.testing.assert_array_equal(getattr(generated, name), getattr(plain, name), err_msg=name)
    rng = np.random.RandomState(0)
    for count in channels:
        values = rng.randn(count, features[0].size).astype(np.float32)
        roi = (rng.rand(features[0].size) > 0.3).astype(np.float32)
        for options in ({}, {"reverse": True}, {"roi": roi}):
            found, expected = both(monkeypatch, lambda v=values, o=options: generated.filter(v, **o))
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("dimension", [2, 5, 15])
def test_embedding(monkeypatch, dimension):
    rng = np.random.RandomState(dimension)
    for size in SIZES:
        assert_equal_lattices(monkeypatch, (rng.randn(dimension, size) * 3).astype(np.float32))
    assert_equal_lattices(monkeypatch, rng.randint(-3, 4, (dimension, 200)).astype(np.float32))  # ties in the ranks
    assert_equal_lattices(monkeypatch, np.zeros((dimension, 33), np.float32))
    assert_equal_lattices(monkeypatch, (rng.randn(dimension, 50) * 1e-30).astype(np.float32))


def test_keys_of_several_words(monkeypatch):
    rng = np.random.RandomState(3)
    assert_equal_lattices(monkeypatch, (rng.randn(5, 90) * 1200).astype(np.float32))


def test_every_width(monkeypatch):
    rng = np.random.RandomState(4)
    for size in SIZES:
        features = (rng.randn(2, size) * 2).astype(np.float32)
        assert_equal_lattices(monkeypatch, features, (1, 2, 4, 5, 8, 17, 21, 24, 33))


@pytest.mark.parametrize("count", [1, 3, 8, 21, 32, 33])
def test_combinations(monkeypatch, count):
    """The slice with the gradient's other terms, and the products; 71 points leave a rest beside whole tiles."""
    rng = np.random.RandomState(count)
    lattice = PermutohedralLattice((rng.randn(2, 71) * 2).astype(np.float32), num_threads=1)
    values, (roi, inside, factor) = rng.randn(count, 1, 71).astype(np.float32), rng.rand(3, 1, 71).astype(np.float32)
    terms = Combination(*rng.randn(2, count).astype(np.float32), factor, -0.7)

    def combined():
        applied = apply_to(lattice, values, roi, with_degree=True)
        out, degree = np.ones_like(values), np.empty_like(roi)
        sums = [applied.combine(terms, inside, out, degree, keep) for keep in (False, True)]
        return [applied.products(), sums, out, degree]

    for found, expected in zip(*both(monkeypatch, combined)):
        np.testing.assert_array_equal(found, expected)


def test_an_image_in_bands(monkeypatch):
    features = bilateral_features(smooth_image(150, 160), 40, 12)
    values = np.random.RandomState(0).rand(3, 150, 160).astype(np.float32)
    found, expected = both(monkeypatch, lambda: PermutohedralLattice(features, num_threads=2).filter(values))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("case", REFERENCE_CASES)
def test_reference_on_plain_loops(monkeypatch, case):
    reference = np.load(shared_path("reference/densecrf_loss.npz"))
    image, segmentation, xy, rgb, expected = (
        reference[f"{case}/{key}"] for key in ("image", "segmentation", "bi_xy_std", "bi_rgb_std", "filtered")
    )
    monkeypatch.setattr(_choice, "_is_plain", True)
    found = bilateral_filter_batch(image, segmentation, xy, rgb, roi=region_of_interest(image))
    np.testing.assert_array_equal(found, expected)


PROGRAM = """
import sys
import warnings
import numpy as np
{damage}
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import rloss_caffe
    for _ in range(2):
        lattice = rloss_caffe.PermutohedralLattice(np.random.RandomState(0).randn(2, 40))
        result = lattice.filter(np.random.RandomState(1).rand(3, 40))
print(result.astype(float).sum())
for warning in caught:
    if "plain kernels" in str(warning.message):
        print(warning.category.__name__, warning.message)
"""


@pytest.fixture(scope="module")
def plain_cache(tmp_path_factory):
    """Kernels of processes that compile the plain loops only."""
    return tmp_path_factory.mktemp("plain")


def run_damaged(folder, damage, **environment):
    """The sum of a small result, and the warnings, of a process in which something is missing."""
    environment = dict(os.environ, NUMBA_CACHE_DIR=str(folder), **environment)
    command = [sys.executable, "-c", PROGRAM.format(damage=damage)]
    lines = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()
    return float(lines[0]), lines[1:]


@pytest.mark.parametrize(
    "damage, reason",
    [
        ("import llvmlite.ir; del llvmlite.ir.IRBuilder.shuffle_vector", "cannot compile.*shuffle_vector"),
        ("sys.modules['rloss_caffe.filtering._rows'] = None", "cannot compile.*ModuleNotFoundError.*_rows"),
    ],
)
def test_a_version_on_which_generation_fails(plain_cache, damage, reason):
    """Whatever is missing, one warning says so and the result is the same."""
    found, warned = run_damaged(plain_cache, damage)
    lattice = PermutohedralLattice(np.random.RandomState(0).randn(2, 40))
    assert found == lattice.filter(np.random.RandomState(1).rand(3, 40)).astype(float).sum()
    assert len(warned) == 1
    assert re.search(f"RuntimeWarning rloss_caffe: Numba .*{reason}.*it takes longer", warned[0])


def test_the_environment_asks_for_plain_loops(plain_cache):
    damage = "import llvmlite.ir; del llvmlite.ir.IRBuilder.shuffle_vector"  # nothing generated is needed then
    _, warned = run_damaged(plain_cache, damage, RLOSS_PLAIN_KERNELS="1")
    assert len(warned) == 1 and "RLOSS_PLAIN_KERNELS is set" in warned[0]
