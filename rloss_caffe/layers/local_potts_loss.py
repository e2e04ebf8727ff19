"""LocalPottsLoss: the Potts model over pairs of pixels inside a window, as a Caffe layer."""

from rloss_caffe.layers._loss import ImageSegmentationLoss
from rloss_caffe.losses import local_potts

__all__ = ["LocalPottsLoss"]


class LocalPottsLoss(ImageSegmentationLoss):
    """Value and exact gradient of the local Potts loss of a segmentation under its image.

    Bottoms: the image (N, C, H, W), mean-subtracted, as the network sees it; the segmentation (N, K, H, W), class
    probabilities; optionally the labels (N, 1, H, W) and a region of interest (N, 1, H, W). Top: the loss, shape
    (1, 1, 1, 1). There is no implicit loss_weight: write one. Gated CRF and grid Potts are settings of this layer.

    Parameters (param_str)
    ----------------------
    {parameters}

    Example
    -------
    Grid Potts::

        layer {
          name: "local_potts_loss"  type: "Python"
          bottom: "data"  bottom: "fc8_interp_softmax"  top: "local_potts_loss"
          propagate_down: false  propagate_down: true
          loss_weight: 1
          python_param {
            module: "rloss_caffe.layers"  layer: "LocalPottsLoss"
            param_str: "{radius: 1, space: inverse_distance, contrast: image, relaxation: quadratic,
                         normalization: WEIGHTS}"
          }
        }
    """

    PARAMETERS = local_potts.PARAMETERS
    LOSS = staticmethod(local_potts.local_potts_loss)
