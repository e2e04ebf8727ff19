"""The Caffe layers: ``python_param { module: "rloss_caffe.layers" layer: "DenseCRFLoss" }``."""

from rloss_caffe.layers.dense_crf import DenseCRF
from rloss_caffe.layers.densecrf_loss import DenseCRFLoss
from rloss_caffe.layers.image_seg_data import ImageSegData
from rloss_caffe.layers.interp import Interp
from rloss_caffe.layers.seg_accuracy import SegAccuracy

__all__ = ["DenseCRF", "DenseCRFLoss", "ImageSegData", "Interp", "SegAccuracy"]
