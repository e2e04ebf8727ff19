"""Compiled kernels are kept on disk, and specialisations cached by different processes do not get mixed up."""

import os
import subprocess
import sys

PROGRAM = """
import sys
import numpy as np
import rloss_caffe
for dimension in map(int, sys.argv[1:]):
    rng = np.random.RandomState(dimension)
    lattice = rloss_caffe.PermutohedralLattice(rng.randn(dimension, 50), num_threads=1)
    print(dimension, lattice.filter(rng.rand(3, 50)).sum())
"""


def run(folder, *dimensions):
    environment = dict(os.environ, NUMBA_CACHE_DIR=str(folder))
    command = [sys.executable, "-c", PROGRAM, *map(str, dimensions)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()


def files(folder):
    return sorted((path, path.stat().st_mtime_ns) for path in folder.rglob("*.nb?"))


def test_kernels_are_cached_and_stay_apart(tmp_path):
    alone = run(tmp_path, 2) + run(tmp_path, 3)
    cached = files(tmp_path)
    assert cached
    assert run(tmp_path, 2, 3) == alone
    assert run(tmp_path, 3, 2) == alone[::-1]
    assert files(tmp_path) == cached  # nothing was compiled again
