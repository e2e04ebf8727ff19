"""DenseCRFLoss: the DenseCRF loss (Tang et al., ECCV 2018) as a Caffe layer."""

from rloss_caffe.layers._loss import ImageSegmentationLoss
from rloss_caffe.losses import densecrf

__all__ = ["DenseCRFLoss"]


class DenseCRFLoss(ImageSegmentationLoss):
    """Value and gradient of the DenseCRF loss of a segmentation under its image.

    Bottoms: the image (N, C, H, W), mean-subtracted, as the network sees it; the segmentation (N, K, H, W), class
    probabilities; optionally the labels (N, 1, H, W), and a region of interest (N, 1, H, W), 0 outside. Top: the loss,
    shape (1, 1, 1, 1). There is no implicit loss_weight: write one, about 1e-8.

    Parameters (param_str)
    ----------------------
    {parameters}

    Example
    -------
    ::

        layer {
          name: "densecrf_loss"  type: "Python"
          bottom: "data"  bottom: "fc8_interp_softmax"  top: "densecrf_loss"
          propagate_down: false  propagate_down: true
          loss_weight: 1e-8
          python_param {
            module: "rloss_caffe.layers"  layer: "DenseCRFLoss"
            param_str: "bi_xy_std: 100\\nbi_rgb_std: 15"
          }
        }
    """

    PARAMETERS = densecrf.PARAMETERS
    LOSS = staticmethod(densecrf.densecrf_loss)
