"""The masked dot product: against double precision, and the same number in every process."""

import os
import subprocess
import sys

import numpy as np
import pytest

from rloss_caffe.numerics.products import dot

PROBE = """
import numpy as np
from rloss_caffe.numerics.products import dot
random = np.random.RandomState(0)
a, mask, b = (random.rand(*shape).astype(np.float32) for shape in ((21, 65, 65), (65, 65), (21, 65, 65)))
print(dot(a, mask, b, 1).hex())
"""


@pytest.mark.parametrize("threads", [1, 3])
def test_double_precision(threads):
    random = np.random.RandomState(0)
    a, b = random.randn(2, 5, 90, 91).astype(np.float32)
    mask = random.rand(90, 91).astype(np.float32)
    expected = (mask.astype(float) * a * b).sum()
    assert dot(a, mask, b, threads) == pytest.approx(expected, rel=1e-5, abs=1e-3)
    assert dot(a, mask, b, threads) == dot(a, mask, b, 1)


def test_a_process_that_compiles_gives_what_later_ones_give(tmp_path):
    environment = dict(os.environ, NUMBA_CACHE_DIR=str(tmp_path))
    run = [sys.executable, "-c", PROBE]
    first, second = (
        subprocess.run(run, env=environment, capture_output=True, text=True, check=True).stdout for _ in range(2)
    )
    assert first == second and first.startswith("0x")
