"""Fast high-dimensional Gaussian filtering on a permutohedral lattice. Knows nothing of losses or of Caffe."""

from rloss_caffe.filtering.bilateral import bilateral_filter, bilateral_filter_batch
from rloss_caffe.filtering.features import bilateral_features, positional_features
from rloss_caffe.filtering.lattice import PermutohedralLattice

__all__ = [
    "PermutohedralLattice",
    "bilateral_features",
    "bilateral_filter",
    "bilateral_filter_batch",
    "positional_features",
]
