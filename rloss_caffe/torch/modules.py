"""The losses as modules.

A module's options are its function's parameters. They are attributes: what is set later is checked, and used from then
on, so that weights and barriers can follow a schedule.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from rloss_caffe.losses._configured import ConfiguredLoss
from rloss_caffe.numerics.arrays import flag
from rloss_caffe.torch import _ops

__all__ = [
    "DenseCRFLoss",
    "DenseCRFLossFunction",
    "ImageLoss",
    "KernelCutLoss",
    "LocalPottsLoss",
    "LossModule",
    "NormalizedCutLoss",
    "SelfLabelLoss",
    "SizeConstraintLoss",
]


class LossModule(ConfiguredLoss, torch.nn.Module):
    """What the modules share; see `ConfiguredLoss`."""

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name in self._declared:
            self._encoded = _ops.encode(self._options)

    def extra_repr(self) -> str:
        """The weight, what the constructor asks for, and the options that differ from their defaults."""
        return self.described()


class ImageLoss(LossModule):
    """A loss over images and their segmentations."""

    def forward(
        self, images: Tensor, segmentations: Tensor, labels: Tensor | None = None, roi: Tensor | None = None
    ) -> Tensor:
        """The loss times the weight, a tensor without axes.

        Parameters
        ----------
        images : Tensor, shape (N, C, H, W)
            C >= 1 channels of any real dtype, on any device, as the network sees them: they need not be changed back.
            They must not require a gradient.
        segmentations : Tensor, shape (N, K, H, W)
            Class probabilities, usually a softmax.
        labels : Tensor, shape (N, H, W) or (N, 1, H, W), optional
            Whole numbers: classes, or ``ignore_label``.
        roi : Tensor, shape (N, H, W) or (N, 1, H, W), optional
            Region of interest, >= 0; default: everywhere.

        Returns
        -------
        Tensor
            Of the segmentations' device and dtype. It is computed in single precision.

        Raises
        ------
        ValueError
            Shapes or types do not fit; NaN or infinity in an image or a segmentation (the message says which of the
            batch).
        """
        return _ops.loss(self.LOSS, self._encoded, images, segmentations, labels, roi, self.weight)


class NormalizedCutLoss(ImageLoss):
    """The normalised cut loss, `rloss_caffe.normalized_cut_loss`.

    Parameters
    ----------
    weight : float
        What value and gradient are multiplied by: of the order of 0.1 to 1.
    {parameters}
    """

    LOSS = "normalized_cut"


class KernelCutLoss(ImageLoss):
    """The kernel cut loss, `rloss_caffe.kernel_cut_loss`: a weighted sum of the normalised cut and the DenseCRF loss.

    Parameters
    ----------
    weight : float
        What value and gradient are multiplied by.
    {parameters}
    """

    LOSS = "kernel_cut"


class LocalPottsLoss(ImageLoss):
    """The local Potts loss, `rloss_caffe.local_potts_loss`: pairs of pixels inside a window.

    Parameters
    ----------
    weight : float
        What value and gradient are multiplied by: 0.1 for Gated CRF.
    {parameters}

    Notes
    -----
    Gated CRF is ``LocalPottsLoss(0.1, radius=5, xy_std=6, rgb_std=0.1)``, for images with a standard deviation of 1
    that were reduced to the segmentations' size by area.
    """

    LOSS = "local_potts"


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

    It is computed on the CPU: tensors on a GPU go there, and the gradient comes back.
    """

    LOSS = "self_label"


class SizeConstraintLoss(LossModule):
    """The size constraint, `rloss_caffe.size_constraint_loss`: bounds on how large a class is.

    Parameters
    ----------
    weight : float
        What value and gradient are multiplied by: 1e-2 with the bounds of tags.
    {parameters}
    """

    LOSS = "size_constraint"

    def forward(self, segmentations: Tensor, labels: Tensor | None = None, roi: Tensor | None = None) -> Tensor:
        """The loss times the weight, a tensor without axes.

        Parameters
        ----------
        segmentations : Tensor, shape (N, K, H, W)
            Class probabilities, usually a softmax.
        labels : Tensor, shape (N, H', W') or (N, 1, H', W'), optional
            Whole numbers: classes, or ``ignore_label``. Each image's tags are the classes that occur.
        roi : Tensor, shape (N, H, W) or (N, 1, H, W), optional
            Region of interest, >= 0; default: everywhere.

        Returns
        -------
        Tensor
            Of the segmentations' device and dtype.

        Raises
        ------
        ValueError
            There is neither a bound nor a label map; shapes or types do not fit; NaN or infinity in a segmentation.
        """
        return _ops.loss(self.LOSS, self._encoded, None, segmentations, labels, roi, self.weight)


class DenseCRFLoss(LossModule):
    """The DenseCRF loss, `rloss_caffe.densecrf_loss`, with the constructor and the call of the authors' own module.

    Parameters
    ----------
    weight : float
        What value and gradient are multiplied by: about 1e-8, or with normalization AFFINITY about 1.
    sigma_rgb : float
        Colour bandwidth, in the images' units. The experiments use 15 for images from 0 to 255.
    sigma_xy : float
        Spatial bandwidth in pixels, before the images are scaled. The experiments use 100.
    scale_factor : float
        Resolution at which the loss is computed, as a share of the images'. Images and ROIs are reduced to their
        nearest pixels, segmentations bilinearly, and sigma_xy with them.
    recompute_scale_factor : bool
        As of ``torch.nn.functional.interpolate``, for sizes that scale_factor does not divide evenly. False: samples
        lie 1 / scale_factor pixels apart, as in the authors' file with PyTorch 1.6 and later. True: they are spread
        over the whole image, as in that file before, and in AFA and its descendants.
    {parameters}
    """

    LOSS = "densecrf"
    NAMES = {"bi_rgb_std": "sigma_rgb", "bi_xy_std": "sigma_xy"}
    WORDS = "roi=ROIs"  # what messages call the arguments of forward
    sigma_xy: float
    scale_factor: float

    def __init__(
        self,
        weight: float,
        sigma_rgb: float,
        sigma_xy: float,
        scale_factor: float = 1.0,
        recompute_scale_factor: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(weight, sigma_rgb=sigma_rgb, sigma_xy=sigma_xy, scale_factor=scale_factor, **options)
        self.recompute_scale_factor = flag("recompute_scale_factor", recompute_scale_factor)

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name in self._declared:  # here and not in forward, where torch.compile may know numbers by symbols only
            bandwidth = self._options["bi_xy_std"] * self._options["scale_factor"]
            self._encoded_reduced = _ops.encode({**self._options, "scale_factor": 1.0, "bi_xy_std": bandwidth})

    def extra_repr(self) -> str:
        words = super().extra_repr()
        return f"{words}, recompute_scale_factor=True" if self.recompute_scale_factor else words

    def forward(
        self, images: Tensor, segmentations: Tensor, ROIs: Tensor | None = None, labels: Tensor | None = None
    ) -> Tensor:
        """The loss times the weight, a tensor of shape (1,).

        Parameters
        ----------
        images : Tensor, shape (N, C, H, W)
            C >= 1 channels of any real dtype, on any device, 0 to 255 or as the network sees them, with sigma_rgb in
            their units. They must not require a gradient.
        segmentations : Tensor, shape (N, K, H, W)
            Class probabilities, usually a softmax.
        ROIs : Tensor, shape (N, H, W) or (N, 1, H, W), optional
            Region of interest, >= 0; default: everywhere.
        labels : Tensor, shape (N, H, W) or (N, 1, H, W), optional
            Whole numbers: classes, or ``ignore_label``; for the options that look at labels.

        Returns
        -------
        Tensor, shape (1,)
            Of the segmentations' device and dtype. It is computed in single precision. It is negative, as the constant
            of the Potts model is dropped.

        Raises
        ------
        ValueError
            Shapes or types do not fit; NaN or infinity in an image or a segmentation (the message says which of the
            batch).
        """
        if not self.recompute_scale_factor or self.scale_factor == 1:
            loss = _ops.loss(self.LOSS, self._encoded, images, segmentations, labels, ROIs, self.weight, self.WORDS)
            return loss.reshape(1)
        small = reduced(self.scale_factor, images, segmentations, labels, ROIs, self.WORDS)
        loss = _ops.loss(self.LOSS, self._encoded_reduced, *small, self.weight, self.WORDS)
        return (loss.to(segmentations.dtype) if segmentations.is_floating_point() else loss).reshape(1)


def reduced(
    scale_factor: float,
    images: Tensor,
    segmentations: Tensor,
    labels: Tensor | None,
    roi: Tensor | None,
    words: str = "",
) -> tuple[Any, Tensor, Any, Any]:
    """All at `scale_factor` times their size, with samples that are spread over the whole image, as floats.

    Segmentations are interpolated bilinearly, the others take their nearest pixels.
    """
    images, segmentations, labels, roi = _ops.prepare(images, segmentations, labels, roi, words=words)
    size = (len(segmentations), *segmentations.shape[-2:])
    if segmentations.ndim != 4 or images.ndim != 4 or (len(images), *images.shape[-2:]) != size:
        raise ValueError(
            "images and segmentations must have shapes (N, C, H, W) and (N, K, H, W), found shapes "
            f"{tuple(images.shape)} and {tuple(segmentations.shape)}"
        )
    shapes = size, (size[0], 1, *size[1:])
    for argument, tensor in (("labels", labels), ("roi", roi)):
        if tensor is not None and tuple(tensor.shape) not in shapes:
            argument, found = _ops.told(argument, words), tuple(tensor.shape)
            raise ValueError(f"{argument} must have shape {shapes[0]} or {shapes[1]}, found shape {found}")

    def resize(tensor, mode="nearest"):
        if tensor is None:
            return None
        tensor = tensor if tensor.dtype == torch.float64 else tensor.float()
        tensor = tensor[:, None] if tensor.ndim == 3 else tensor
        return interpolate(tensor, scale_factor=scale_factor, mode=mode, recompute_scale_factor=True)

    return resize(images), resize(segmentations, "bilinear"), resize(labels), resize(roi)


class DenseCRFLossFunction:
    """What the authors' module calls; for code that calls it itself."""

    @staticmethod
    def apply(
        images: Tensor, segmentations: Tensor, sigma_rgb: float, sigma_xy: float, ROIs: Tensor | None = None
    ) -> Tensor:
        """The DenseCRF loss, a tensor of shape (1,), of images and segmentations of one size.

        Parameters
        ----------
        images : Tensor, shape (N, C, H, W)
        segmentations : Tensor, shape (N, K, H, W)
        sigma_rgb, sigma_xy : float
            Bandwidths, in the images' units and in pixels.
        ROIs : Tensor, shape (N, H, W) or (N, 1, H, W), optional

        Returns
        -------
        Tensor, shape (1,)

        Raises
        ------
        ValueError
            As `DenseCRFLoss`.
        """
        options = {"bi_rgb_std": sigma_rgb, "bi_xy_std": sigma_xy}
        words = "roi=ROIs bi_rgb_std=sigma_rgb bi_xy_std=sigma_xy"
        return _ops.loss("densecrf", options, images, segmentations, roi=ROIs, words=words).reshape(1)
