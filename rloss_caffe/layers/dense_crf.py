"""DenseCRF: mean-field inference as a Caffe layer, for test time."""

import numpy as np

from rloss_caffe.filtering.mean_field import mean_field
from rloss_caffe.layers.base import Layer
from rloss_caffe.numerics.parameters import Parameter

__all__ = ["DenseCRF"]


class DenseCRF(Layer):
    """Class probabilities after mean-field inference in a fully connected CRF.

    Bottoms: scores (N, K, H, W), used as log-probabilities; data_dim (N, 1, 1, 2), the rows and columns of each image
    inside the crop, as ImageSegData gives them; the image (N, 3, H, W), needed when bilateral kernels are given.
    Top: like the scores; 0 outside an image's data_dim. There is no backward pass.

    Parameters (param_str)
    ----------------------
    {parameters}

    The parameters of one kind of kernel are numbers or lists of equal length, one entry a kernel.

    Example
    -------
    ::

        layer {
          name: "crf_inf"  type: "Python"
          bottom: "fc8_interp"  bottom: "data_dim"  bottom: "data"  top: "crf_inf"
          python_param {
            module: "rloss_caffe.layers"  layer: "DenseCRF"
            param_str: "{pos_w: 3, pos_xy_std: 3, bi_w: 5, bi_xy_std: 50, bi_rgb_std: 10}"
          }
        }
    """

    PARAMETERS = [
        Parameter("max_iter", "int", 10, minimum=0, doc="Mean-field iterations."),
        Parameter("pos_w", "float", [], repeated=True, doc="Weights of the positional kernels."),
        Parameter("pos_xy_std", "float", [], above=0, repeated=True, doc="Their bandwidths in pixels."),
        Parameter("bi_w", "float", [], repeated=True, doc="Weights of the bilateral kernels."),
        Parameter("bi_xy_std", "float", [], above=0, repeated=True, doc="Their spatial bandwidths in pixels."),
        Parameter(
            "bi_rgb_std", "float", [], above=0, repeated=True, doc="Their colour bandwidths in the image's units."
        ),
        Parameter("output_probability", "bool", True, doc="true: probabilities; false: their logarithms."),
    ]
    BOTTOMS = ("scores", "data_dim", "image?")
    TOPS = ("probabilities",)

    def setup(self, bottom, top):
        super().setup(bottom, top)
        for names in (("pos_w", "pos_xy_std"), ("bi_w", "bi_xy_std", "bi_rgb_std")):
            counts = [len(getattr(self.parameters, name)) for name in names]
            if len(set(counts)) > 1:
                raise self.error(f"{', '.join(names)} must have equal lengths, found {', '.join(map(str, counts))}")
        if self.parameters.bi_w and len(bottom) < 3:
            raise self.error("bilateral kernels (bi_w, bi_xy_std, bi_rgb_std) need the image as third bottom")

    def reshape(self, bottom, top):
        scores, data_dim = tuple(bottom[0].data.shape), tuple(bottom[1].data.shape)
        if len(scores) != 4 or 0 in scores:
            raise self.error(f"{self.blob_name(0)} must have shape (N, K, H, W), found {scores}")
        if data_dim != (scores[0], 1, 1, 2):
            raise self.error(f"{self.blob_name(1)} must have shape {(scores[0], 1, 1, 2)}, found {data_dim}")
        if len(bottom) > 2:
            expected, image = (scores[0], 3, *scores[2:]), tuple(bottom[2].data.shape)
            if image != expected:
                raise self.error(f"{self.blob_name(2)} must have shape {expected} like the scores, found {image}")
        self.reshape_top(top, 0, scores)

    def forward(self, bottom, top):
        result = np.zeros(bottom[0].data.shape, np.float32)
        for index, (rows, columns) in enumerate(bottom[1].data.reshape(-1, 2)):
            height, width = self._region(index, rows, columns, result.shape[2:])
            region = (index, slice(None), slice(height), slice(width))
            image = bottom[2].data[region] if len(bottom) > 2 else None
            result[region] = self._infer(index, bottom[0].data[region], image)
        top[0].data[...] = result

    def _region(self, index, rows, columns, size):
        if not (1 <= rows <= size[0] and 1 <= columns <= size[1]):
            raise self.error(
                f"image {index} of the batch: {self.blob_name(1)} must hold rows and columns from 1 to "
                f"{size[0]} and {size[1]}, found {rows:g} and {columns:g}"
            )
        return int(rows), int(columns)

    def _infer(self, index, scores, image):
        parameters = self.parameters
        try:
            probabilities = mean_field(
                scores,
                image,
                parameters.max_iter,
                list(zip(parameters.pos_w, parameters.pos_xy_std)),
                list(zip(parameters.bi_w, parameters.bi_xy_std, parameters.bi_rgb_std)),
            )
        except ValueError as error:
            raise self.error(f"image {index} of the batch: {error}") from error
        if parameters.output_probability:
            return probabilities
        return np.log(np.maximum(probabilities, np.finfo(np.float32).tiny))

    def backward(self, top, propagate_down, bottom):
        self.refuse_gradients(propagate_down)
