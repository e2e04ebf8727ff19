"""The name that figures.py had; for what is not yet merged."""

from rloss_caffe.pictures.figures import check_matplotlib as import_pyplot
from rloss_caffe.pictures.figures import save

__all__ = ["import_pyplot", "save"]
