"""KernelCutLoss: normalised cut and DenseCRF on one lattice (Tang et al., ECCV 2018) as a Caffe layer."""

from rloss_caffe.layers._loss import ImageSegmentationLoss
from rloss_caffe.losses import kernel_cut

__all__ = ["KernelCutLoss"]


class KernelCutLoss(ImageSegmentationLoss):
    """Value and gradient of the kernel cut loss, a weighted sum of NormalizedCutLoss and DenseCRFLoss.

    Bottoms: the image (N, C, H, W), mean-subtracted, as the network sees it; the segmentation (N, K, H, W), class
    probabilities; optionally the labels (N, 1, H, W), whose classes then take part, and a region of interest
    (N, 1, H, W), 0 outside. Top: the loss, shape (1, 1, 1, 1). There is no implicit loss_weight: write one.

    Parameters (param_str)
    ----------------------
    {parameters}

    Example
    -------
    ::

        layer {
          name: "kernel_cut_loss"  type: "Python"
          bottom: "data"  bottom: "fc8_interp_softmax"  bottom: "label"  top: "kernel_cut_loss"
          propagate_down: false  propagate_down: true  propagate_down: false
          loss_weight: 0.3
          python_param {
            module: "rloss_caffe.layers"  layer: "KernelCutLoss"
            param_str: "bi_xy_std: 30\\nbi_rgb_std: 15\\nnormalization: AFFINITY"
          }
        }
    """

    PARAMETERS = kernel_cut.PARAMETERS
    LOSS = staticmethod(kernel_cut.kernel_cut_loss)
