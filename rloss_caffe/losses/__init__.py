"""The losses, free of any framework: NumPy arrays in, value and gradient out."""

from rloss_caffe.losses._pairwise import Workspace, region_of_interest
from rloss_caffe.losses.densecrf import densecrf_loss

__all__ = ["Workspace", "densecrf_loss", "region_of_interest"]
