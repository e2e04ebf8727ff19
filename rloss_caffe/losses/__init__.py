"""The losses, free of any framework: NumPy arrays in, value and gradient out."""

from __future__ import annotations

from typing import Any, Callable

from rloss_caffe.losses._pairwise import PairwiseResult, Workspace, region_of_interest
from rloss_caffe.losses.densecrf import densecrf_loss
from rloss_caffe.losses.kernel_cut import kernel_cut_loss
from rloss_caffe.losses.local_potts import local_potts_loss
from rloss_caffe.losses.normalized_cut import normalized_cut_loss
from rloss_caffe.losses.self_label import self_label_loss
from rloss_caffe.losses.size_constraint import size_constraint_loss

__all__ = [
    "LOSSES",
    "PairwiseResult",
    "Workspace",
    "densecrf_loss",
    "kernel_cut_loss",
    "local_potts_loss",
    "normalized_cut_loss",
    "region_of_interest",
    "self_label_loss",
    "size_constraint_loss",
]

# By the name that commands and experiments call a loss; its function has that name with _loss behind it.
LOSSES: dict[str, Callable[..., Any]] = {
    "densecrf": densecrf_loss,
    "kernel_cut": kernel_cut_loss,
    "local_potts": local_potts_loss,
    "normalized_cut": normalized_cut_loss,
    "self_label": self_label_loss,
    "size_constraint": size_constraint_loss,
}
