"""NormalizedCutLoss: the normalised cut loss (Tang et al., CVPR 2018) as a Caffe layer."""

from rloss_caffe.layers._loss import ImageSegmentationLoss
from rloss_caffe.losses import normalized_cut

__all__ = ["NormalizedCutLoss"]


class NormalizedCutLoss(ImageSegmentationLoss):
    """Value and gradient of the normalised cut loss of a segmentation under its image.

    Bottoms: the image (N, C, H, W), mean-subtracted, as the network sees it; the segmentation (N, K, H, W), class
    probabilities; optionally the labels (N, 1, H, W), whose classes then take part, and a region of interest
    (N, 1, H, W), 0 outside. Top: the loss, shape (1, 1, 1, 1), from 0 to the number of classes that take part. There is
    no implicit loss_weight: write one, 0.1 to 1.

    Parameters (param_str)
    ----------------------
    {parameters}

    Example
    -------
    ::

        layer {
          name: "normalized_cut_loss"  type: "Python"
          bottom: "data"  bottom: "fc8_interp_softmax"  bottom: "label"  top: "normalized_cut_loss"
          propagate_down: false  propagate_down: true  propagate_down: false
          loss_weight: 0.3
          python_param {
            module: "rloss_caffe.layers"  layer: "NormalizedCutLoss"
            param_str: "bi_xy_std: 30\\nbi_rgb_std: 15"
          }
        }
    """

    PARAMETERS = normalized_cut.PARAMETERS
    LOSS = staticmethod(normalized_cut.normalized_cut_loss)
