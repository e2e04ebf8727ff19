"""Interp: bilinear resizing with aligned corners, as a Caffe layer."""

import warnings

from rloss_caffe.layers.base import Layer
from rloss_caffe.numerics.interpolation import MODES, interpolate, interpolate_adjoint, interpolated_size, is_blending
from rloss_caffe.numerics.parameters import Parameter

__all__ = ["Interp"]

_SIZES = ("height", "width", "zoom_factor", "shrink_factor")


class Interp(Layer):
    """Every channel resized: the centres of the corner pixels stay where they are.

    Bottom: (N, C, H, W); missing trailing axes count as 1. Top: (N, C, rows, columns). With L = H + pad_beg + pad_end
    (for the columns: W), the first that applies decides the top's size:

    1. shrink_factor alone: (L - 1) // shrink_factor + 1;
    2. zoom_factor alone: L + (L - 1) * (zoom_factor - 1);
    3. height and width: these;
    4. shrink_factor and zoom_factor: the size after the one, then the other, reached in one interpolation.

    A parameter counts when it is written, even with its default value. The gradient is the exact adjoint.

    Parameters (param_str)
    ----------------------
    {parameters}

    Example
    -------
    ::

        layer {
          name: "fc8_interp"  type: "Python"  bottom: "fc8"  top: "fc8_interp"
          python_param { module: "rloss_caffe.layers"  layer: "Interp"  param_str: "zoom_factor: 8" }
        }
    """

    PARAMETERS = [
        Parameter("height", "int", minimum=1, doc="Rows of the top, together with width."),
        Parameter("width", "int", minimum=1, doc="Columns of the top, together with height."),
        Parameter("zoom_factor", "int", 1, minimum=1, doc="8 makes 321 of 41."),
        Parameter("shrink_factor", "int", 1, minimum=1, doc="8 makes 41 of 321."),
        Parameter("pad_beg", "int", 0, maximum=0, doc="Minus the rows and columns to crop at the top and left."),
        Parameter("pad_end", "int", 0, maximum=0, doc="Minus the rows and columns to crop at the bottom and right."),
        Parameter(
            "mode",
            "string",
            "bilinear",
            choices=MODES,
            doc="nearest is for label maps whose size less 1 is no multiple of the shrink_factor; not in the fork.",
        ),
    ]
    BOTTOMS = ("values",)
    TOPS = ("interpolated",)

    def setup(self, bottom, top):
        super().setup(bottom, top)
        parameters = self.parameters
        self._size_options = {name: getattr(parameters, name) for name in _SIZES if name in parameters.given}
        self._crop = {"pad_beg": parameters.pad_beg, "pad_end": parameters.pad_end}
        self._warned = False

    def reshape(self, bottom, top):
        self._shape = self.shape4(bottom, 0)
        try:
            size = interpolated_size(self._shape[2:], **self._size_options, **self._crop)
        except ValueError as error:
            raise self.error(error) from error
        self.reshape_top(top, 0, (*self._shape[:2], *size))
        if top[0].data.ctypes.data == bottom[0].data.ctypes.data:
            raise self.error("cannot work in place: give the top a name of its own")
        self._warn_of_blended_labels(size)

    def _warn_of_blended_labels(self, size):
        """One channel that shrinks is most often a label map, and the classes between two ids are neither."""
        if self._warned or self._shape[1] != 1 or self.parameters.mode != "bilinear":
            return
        lengths = [length + sum(self._crop.values()) for length in self._shape[2:]]
        if any(new < old and is_blending(old, new) for old, new in zip(lengths, size)):
            self._warned = True
            warnings.warn(
                f"Interp: from {lengths[0]} x {lengths[1]} to {size[0]} x {size[1]} blends neighbouring pixels; if "
                f"{self.blob_name(0)} is a label map, that makes wrong classes: use a size that is a multiple of the "
                "shrink_factor plus 1, or 'mode: nearest'",
                stacklevel=1,
            )

    def forward(self, bottom, top):
        values, out = bottom[0].data.reshape(self._shape), top[0].data
        interpolate(values, out.shape[2:], **self._crop, mode=self.parameters.mode, out=out)

    def backward(self, top, propagate_down, bottom):
        if not propagate_down[0]:
            return
        found = self.shape4(bottom, 0)
        if found != self._shape:
            raise self.error(
                f"{self.blob_name(0)} was reshaped from {self._shape} to {found} after the last forward pass; run the "
                "net forward first"
            )
        gradient = bottom[0].diff.reshape(self._shape)
        interpolate_adjoint(top[0].diff, self._shape[2:], **self._crop, mode=self.parameters.mode, out=gradient)
