"""The losses, free of any framework: NumPy arrays in, value and gradient out."""

from rloss_caffe.losses.densecrf import densecrf_loss, region_of_interest

__all__ = ["densecrf_loss", "region_of_interest"]
