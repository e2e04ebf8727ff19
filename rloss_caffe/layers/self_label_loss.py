"""SelfLabelLoss: soft self-labelling (Zhang and Boykov, CVPR 2025) as a Caffe layer."""

from rloss_caffe.layers._loss import ImageSegmentationLoss
from rloss_caffe.losses import self_label

__all__ = ["SelfLabelLoss"]


class SelfLabelLoss(ImageSegmentationLoss):
    """Value and gradient of soft self-labelling: the network learns latent labels that the layer finds by itself.

    Bottoms: the image (N, C, H, W), mean-subtracted; the segmentation (N, K, H, W), class probabilities; optionally the
    labels (N, 1, H, W), which the latent labels keep, and a region of interest (N, 1, H, W), 0 outside. All have the
    scores' own size, so reduce the image and the labels to it with Interp: the descent takes `steps` passes over all
    classes and pixels.

    Tops: the loss, shape (1, 1, 1, 1); optionally the latent labels (N, K, H, W), held constant: what a layer behind
    sends back to them goes nowhere. There is no implicit loss_weight: write one, of the order of 1, and with the second
    top a 0 for it; give that top to a layer, a Silence for instance, or the solver prints all its numbers.

    Parameters (param_str)
    ----------------------
    {parameters}

    Example
    -------
    ::

        layer {
          name: "self_label_loss"  type: "Python"
          bottom: "data_shrink"  bottom: "fc8_softmax"  bottom: "label_shrink"  top: "self_label_loss"
          propagate_down: false  propagate_down: true  propagate_down: false
          loss_weight: 1
          python_param {
            module: "rloss_caffe.layers"  layer: "SelfLabelLoss"
            param_str: "lambda: 50\\nlabelled_weight: 0"
          }
        }
    """

    TOPS = ("loss", "latent labels?")
    PARAMETERS = self_label.PARAMETERS
    LOSS = staticmethod(self_label.self_label_loss)

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        if len(top) > 1:
            self.reshape_top(top, 1, bottom[1].data.shape)

    def forward(self, bottom, top):
        super().forward(bottom, top)
        if len(top) > 1:
            top[1].data[...] = self._result.latent
