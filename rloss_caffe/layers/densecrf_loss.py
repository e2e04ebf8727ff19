"""DenseCRFLoss: the DenseCRF loss (Tang et al., ECCV 2018) as a Caffe layer."""

from rloss_caffe.layers.base import Layer
from rloss_caffe.layers.param_str import Parameter
from rloss_caffe.losses import densecrf_loss

__all__ = ["DenseCRFLoss"]


class DenseCRFLoss(Layer):
    """Value and gradient of the DenseCRF loss of a segmentation under its image.

    Bottoms: the image (N, C, H, W), mean-subtracted, as the network sees it; the segmentation (N, K, H, W), class
    probabilities. Top: the loss, shape (1, 1, 1, 1). There is no implicit loss_weight: write one, about 1e-8.

    Parameters (param_str)
    ----------------------
    bi_xy_std : float > 0, default 15
        Spatial bandwidth in pixels.
    bi_rgb_std : float > 0, default 40
        Colour bandwidth in the image blob's units.
    exact_gradient : bool, default false
        true: the exact derivative -(A + A^T) S; false: the original's -2 A S.

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

    PARAMETERS = [
        Parameter("bi_xy_std", "float", 15.0, above=0, doc="spatial bandwidth in pixels"),
        Parameter("bi_rgb_std", "float", 40.0, above=0, doc="colour bandwidth in the image blob's units"),
        Parameter("exact_gradient", "bool", False, doc="the exact derivative instead of the original's"),
    ]
    BOTTOMS = ("image", "segmentation")
    TOPS = ("loss",)

    def setup(self, bottom, top):
        super().setup(bottom, top)
        self._result = None

    def reshape(self, bottom, top):
        image, segmentation = tuple(bottom[0].data.shape), tuple(bottom[1].data.shape)
        for index, shape in enumerate((image, segmentation)):
            if len(shape) != 4 or 0 in shape:
                raise self.error(f"{self.blob_name(index)} must have shape (N, C, H, W), found {shape}")
        if image[0] != segmentation[0] or image[2:] != segmentation[2:]:
            raise self.error(
                f"{self.blob_name(0)} and {self.blob_name(1)} must agree in batch, height and width, "
                f"found {image} and {segmentation}; interpolate the scores to the image's size before the softmax"
            )
        top[0].reshape(1, 1, 1, 1)

    def forward(self, bottom, top):
        parameters = self.parameters
        try:
            self._result = densecrf_loss(
                bottom[0].data,
                bottom[1].data,
                parameters.bi_xy_std,
                parameters.bi_rgb_std,
                exact_gradient=parameters.exact_gradient,
                work=None if self._result is None else self._result.filtered,
            )
        except ValueError as error:
            raise self.error(error) from error
        top[0].data[...] = self._result.value

    def backward(self, top, propagate_down, bottom):
        if propagate_down[0]:
            raise self.error(
                "cannot backpropagate to the image (bottom 0). Write 'propagate_down: false propagate_down: true' in "
                "the layer; where that is written, the net's 'force_backward: true' overrides it: remove that line"
            )
        if propagate_down[1]:
            self._result.gradient(float(top[0].diff.flat[0]), out=bottom[1].diff)
