"""The DenseCRF loss for stock Caffe, and the permutohedral lattice under it.

The public names are loaded on first use, so that importing the package stays quick and never needs Caffe:

>>> import rloss_caffe
>>> rloss_caffe.bilateral_filter    # numba is imported here, kernels compile at the first call
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from rloss_caffe.version import __version__

if TYPE_CHECKING:  # for type checkers and editors, which cannot see what __getattr__ does
    from rloss_caffe.drawing.segment import segment_from_scribbles as segment_from_scribbles
    from rloss_caffe.filtering import PermutohedralLattice as PermutohedralLattice
    from rloss_caffe.filtering import bilateral_features as bilateral_features
    from rloss_caffe.filtering import bilateral_filter as bilateral_filter
    from rloss_caffe.filtering import bilateral_filter_batch as bilateral_filter_batch
    from rloss_caffe.filtering import positional_features as positional_features
    from rloss_caffe.filtering.mean_field import mean_field as mean_field
    from rloss_caffe.losses import densecrf_loss as densecrf_loss
    from rloss_caffe.losses import kernel_cut_loss as kernel_cut_loss
    from rloss_caffe.losses import local_potts_loss as local_potts_loss
    from rloss_caffe.losses import normalized_cut_loss as normalized_cut_loss
    from rloss_caffe.losses import region_of_interest as region_of_interest
    from rloss_caffe.losses import self_label_loss as self_label_loss
    from rloss_caffe.losses import size_constraint_loss as size_constraint_loss
    from rloss_caffe.nets import Net as Net
    from rloss_caffe.nets import get_solver as get_solver
    from rloss_caffe.numerics.threads import get_num_threads as get_num_threads
    from rloss_caffe.numerics.threads import set_num_threads as set_num_threads

_HOME_OF = {
    "Net": "rloss_caffe.nets",
    "get_solver": "rloss_caffe.nets",
    "PermutohedralLattice": "rloss_caffe.filtering",
    "bilateral_features": "rloss_caffe.filtering",
    "bilateral_filter": "rloss_caffe.filtering",
    "bilateral_filter_batch": "rloss_caffe.filtering",
    "positional_features": "rloss_caffe.filtering",
    "densecrf_loss": "rloss_caffe.losses",
    "kernel_cut_loss": "rloss_caffe.losses",
    "local_potts_loss": "rloss_caffe.losses",
    "mean_field": "rloss_caffe.filtering.mean_field",
    "normalized_cut_loss": "rloss_caffe.losses",
    "region_of_interest": "rloss_caffe.losses",
    "segment_from_scribbles": "rloss_caffe.drawing.segment",
    "self_label_loss": "rloss_caffe.losses",
    "size_constraint_loss": "rloss_caffe.losses",
    "get_num_threads": "rloss_caffe.numerics.threads",
    "set_num_threads": "rloss_caffe.numerics.threads",
}

__all__ = ["__version__", *sorted(_HOME_OF)]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'rloss_caffe' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(_HOME_OF))
