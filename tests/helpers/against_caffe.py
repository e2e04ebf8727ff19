"""What `caffe_results` wrote, for the tests that compare another framework with it."""

import os
from functools import lru_cache

import numpy as np
import pytest


@lru_cache(maxsize=None)
def _read(path):
    with np.load(path) as file:
        return dict(file)


def found_by_caffe(loss, script):
    """Arrays of one loss, by name; the test is skipped where `script` did not run with Caffe."""
    if "RLOSS_CAFFE_RESULTS" not in os.environ:
        pytest.skip(f"there are no results of Caffe; run {script} where .venv has Caffe")
    arrays = _read(os.environ["RLOSS_CAFFE_RESULTS"])
    return {name.split("/", 1)[1]: array for name, array in arrays.items() if name.startswith(f"{loss}/")}
