"""What the loss layers share: a small base for a loss over scores alone, and one for a loss over an image as well.

A loss layer names its function and the function's parameters:

    class SomeLoss(ImageSegmentationLoss):
        PARAMETERS = some_loss.PARAMETERS
        LOSS = staticmethod(some_loss.some_loss)
"""

from __future__ import annotations

import re
from typing import Any, Callable, Sequence

from rloss_caffe.layers.base import Layer
from rloss_caffe.losses import Workspace

__all__ = ["ImageSegmentationLoss", "SegmentationLoss"]

_KEYWORDS = {"label?": "labels", "roi?": "roi"}  # what the functions call the bottoms behind the segmentation


class SegmentationLoss(Layer):
    """A loss over a segmentation: one number as top, its gradient to the bottom ``segmentation``.

    A subclass sets ``LOSS`` to a function of `rloss_caffe.losses`. It is called with the bottoms up to the
    segmentation, those behind it by name where the net gives them (``labels``, ``roi``), and the parameters by name.
    """

    BOTTOMS: Sequence[str] = ("segmentation",)
    TOPS: Sequence[str] = ("loss",)
    LOSS: Callable[..., Any] | None = None

    def setup(self, bottom, top):
        super().setup(bottom, top)
        self._result = self._shapes = None
        self._options = {each.name: getattr(self.parameters, each.name) for each in self.PARAMETERS}

    def reshape(self, bottom, top):
        shapes = [tuple(bottom[index].data.shape) for index in range(len(bottom))]
        if shapes != self._shapes:
            self._result = None  # its gradient has another shape
            self.check_shapes(shapes)
            self._shapes = shapes
        top[0].reshape(1, 1, 1, 1)

    def check_shapes(self, shapes):
        """Raise an error if the bottoms' shapes do not fit the layer, or one another."""
        target = self.BOTTOMS.index("segmentation")
        for index, shape in enumerate(shapes[: target + 1]):
            if len(shape) != 4 or 0 in shape:
                raise self.error(f"{self.blob_name(index)} must have shape (N, C, H, W), found {shape}")
        batch, _, height, width = shapes[target]
        for index, shape in enumerate(shapes[target + 1 :], target + 1):
            if shape != (batch, 1, height, width):
                raise self.error(
                    f"{self.blob_name(index)} must have shape {(batch, 1, height, width)}, one number a pixel of "
                    f"{self.blob_name(target)}, found {shape}"
                )

    def forward(self, bottom, top):
        self._result = None  # should the call fail, there is nothing to backpropagate
        target = self.BOTTOMS.index("segmentation")
        arrays = [bottom[index].data for index in range(target + 1)]
        maps = {_KEYWORDS[self.BOTTOMS[index]]: bottom[index].data[:, 0] for index in range(target + 1, len(bottom))}
        try:
            self._result = self.LOSS(*arrays, **maps, **self._options)
        except ValueError as error:
            raise self.error(self._with_blob_names(str(error))) from error
        top[0].data[...] = self._result.value

    def _with_blob_names(self, text):
        """What a function calls "segmentations", in the layer's words: "bottom 1 (segmentation)"."""
        for index, name in enumerate(self.BOTTOMS):
            text = re.sub(rf"\b{_KEYWORDS.get(name, name + 's')} must\b", f"{self.blob_name(index)} must", text)
        return text

    def backward(self, top, propagate_down, bottom):
        target = self.BOTTOMS.index("segmentation")
        for index, wanted in enumerate(propagate_down):
            if wanted and index != target:
                flags = " ".join(f"propagate_down: {str(i == target).lower()}" for i in range(len(propagate_down)))
                raise self.error(
                    f"cannot backpropagate to the {self.BOTTOMS[index].rstrip('?')} (bottom {index}). Write '{flags}' "
                    "in the layer; where that is written, the net's 'force_backward: true' overrides it: remove that "
                    "line"
                )
        if not propagate_down[target]:
            return
        if self._result is None or tuple(bottom[target].diff.shape) != self._result.shape:
            raise self.error(
                f"has no gradient for {self.blob_name(target)}: there was no forward pass, it failed, or the blobs "
                "were reshaped after it; run the net forward first"
            )
        try:
            self._result.gradient(float(top[0].diff.flat[0]), out=bottom[target].diff)
        except ValueError as error:
            raise self.error(f"top 0 (loss), whose diff is the scale: {error}") from error


class ImageSegmentationLoss(SegmentationLoss):
    """A loss over an image and its segmentation, which must agree in batch, height and width.

    Two more bottoms are optional, each (N, 1, H, W): labels, and a region of interest, 0 outside. Its function also
    gets ``work``, memory that the layer keeps.
    """

    BOTTOMS = ("image", "segmentation", "label?", "roi?")

    def setup(self, bottom, top):
        super().setup(bottom, top)
        self._options["work"] = Workspace()

    def check_shapes(self, shapes):
        super().check_shapes(shapes)
        image, segmentation = shapes[:2]
        if image[0] != segmentation[0] or image[2:] != segmentation[2:]:
            raise self.error(
                f"{self.blob_name(0)} and {self.blob_name(1)} must agree in batch, height and width, "
                f"found {image} and {segmentation}; interpolate the scores to the image's size before the softmax"
            )
