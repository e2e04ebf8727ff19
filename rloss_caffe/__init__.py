"""The DenseCRF loss for stock Caffe, and the permutohedral lattice under it.

The public names are loaded on first use, so that importing the package stays quick and never needs Caffe:

>>> import rloss_caffe
>>> rloss_caffe.bilateral_filter    # numba is imported here, kernels compile at the first call
"""

import importlib

from rloss_caffe.version import __version__

_HOME_OF = {
    "Net": "rloss_caffe.nets",
    "get_solver": "rloss_caffe.nets",
    "PermutohedralLattice": "rloss_caffe.filtering",
    "bilateral_features": "rloss_caffe.filtering",
    "bilateral_filter": "rloss_caffe.filtering",
    "bilateral_filter_batch": "rloss_caffe.filtering",
    "positional_features": "rloss_caffe.filtering",
    "densecrf_loss": "rloss_caffe.losses",
    "mean_field": "rloss_caffe.filtering.mean_field",
    "region_of_interest": "rloss_caffe.losses",
    "get_num_threads": "rloss_caffe.numerics.threads",
    "set_num_threads": "rloss_caffe.numerics.threads",
}

__all__ = ["__version__", *sorted(_HOME_OF)]


def __getattr__(name):
    if name not in _HOME_OF:
        raise AttributeError(f"module 'rloss_caffe' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__():
    return sorted(set(globals()) | set(_HOME_OF))
