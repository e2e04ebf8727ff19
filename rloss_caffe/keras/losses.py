"""The losses as objects of Keras: a weight, options, and a call with images, segmentations, labels and a region."""

from __future__ import annotations

from typing import Any, Mapping

import keras

from rloss_caffe.keras import _backends
from rloss_caffe.losses._configured import ConfiguredLoss
from rloss_caffe.losses._tensors import WITH_IMAGES

__all__ = [
    "DenseCRFLoss",
    "ImageLoss",
    "KernelCutLoss",
    "LocalPottsLoss",
    "NormalizedCutLoss",
    "SelfLabelLoss",
    "SizeConstraintLoss",
]

_serializable = keras.saving.register_keras_serializable(package="rloss_caffe")


class ImageLoss(ConfiguredLoss):
    """What the losses share: they are called, saved and compared alike.

    A loss is no `keras.losses.Loss`: it looks at the image, which that never sees. `RegularizedModel` calls it, or
    a ``compute_loss`` or a training loop of your own.
    """

    @property
    def name(self) -> str:
        """What `RegularizedModel` calls its value: ``densecrf_loss``."""
        return f"{self.LOSS}_loss"

    def __call__(
        self,
        images: Any,
        segmentations: Any,
        labels: Any = None,
        roi: Any = None,
        data_format: str | None = None,
    ) -> Any:
        """The loss times the weight, a tensor without axes.

        Parameters
        ----------
        images : tensor, shape (N, H, W, C)
            C >= 1 channels of any real dtype, 0 to 255 or as the network sees them, with bandwidths in their units.
            The size constraint does not look at them: None will do.
        segmentations : tensor, shape (N, H, W, K)
            Class probabilities, usually a softmax.
        labels : tensor, shape (N, H, W) or (N, H, W, 1), optional
            Whole numbers: classes, or ``ignore_label``.
        roi : tensor, shape (N, H, W) or (N, H, W, 1), optional
            Region of interest, >= 0; default: everywhere.
        data_format : {"channels_last", "channels_first"}, optional
            Default: Keras's ``image_data_format``.

        Returns
        -------
        tensor
            Of the segmentations' dtype. It is computed in single precision.

        Raises
        ------
        ValueError
            Shapes or types do not fit; NaN or infinity in an image or a segmentation (the message says which of the
            batch). In a compiled function, what only the numbers tell comes as the framework's own error.
        """
        data_format = data_format or keras.backend.image_data_format()
        images = images if self.LOSS in WITH_IMAGES else None
        return _backends.loss(self.LOSS, self, images, segmentations, labels, roi, data_format)

    def get_config(self) -> dict[str, Any]:
        """The weight and all options, for Keras's saving."""
        return {"weight": self.weight, **{name: getattr(self, name) for name in self._declared}}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> ImageLoss:
        """The loss with this weight and these options."""
        return cls(**config)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.described()})"


@_serializable
class DenseCRFLoss(ImageLoss):
    """The DenseCRF loss, `rloss_caffe.densecrf_loss`.

    Parameters
    ----------
    weight : float
        What value and gradient are multiplied by: about 1e-8, or with normalization AFFINITY about 1.
    {parameters}
    """

    LOSS = "densecrf"


@_serializable
class NormalizedCutLoss(ImageLoss):
    """The normalised cut loss, `rloss_caffe.normalized_cut_loss`.

    Parameters
    ----------
    weight : float
        What value and gradient are multiplied by: of the order of 0.1 to 1.
    {parameters}
    """

    LOSS = "normalized_cut"


@_serializable
class KernelCutLoss(ImageLoss):
    """The kernel cut loss, `rloss_caffe.kernel_cut_loss`: a weighted sum of the normalised cut and the DenseCRF loss.

    Parameters
    ----------
    weight : float
        What value and gradient are multiplied by.
    {parameters}
    """

    LOSS = "kernel_cut"


@_serializable
class LocalPottsLoss(ImageLoss):
    """The local Potts loss, `rloss_caffe.local_potts_loss`: pairs of pixels inside a window.

    Parameters
    ----------
    weight : float
        What value and gradient are multiplied by: 0.1 for Gated CRF.
    {parameters}
    """

    LOSS = "local_potts"


@_serializable
class SelfLabelLoss(ImageLoss):
    """Soft self-labelling, `rloss_caffe.self_label_loss`.

    Parameters
    ----------
    weight : float
        What value and gradient are multiplied by.
    {parameters}

    Notes
    -----
    Python has the word ``lambda`` for itself: the option and the attribute are called ``lambda_``.
    """

    LOSS = "self_label"


@_serializable
class SizeConstraintLoss(ImageLoss):
    """The size constraint, `rloss_caffe.size_constraint_loss`: bounds on how large a class is.

    Parameters
    ----------
    weight : float
        What value and gradient are multiplied by: 1e-2 with the bounds of tags.
    {parameters}
    """

    LOSS = "size_constraint"
