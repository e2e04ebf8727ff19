"""The gated DenseCRF loss as RRM and its descendants have it: AFA, ToCo, SeCo, MoRe, LOC-BE, CTFA, SCSW.

Zhang, Xiao, Wei, Sun, Huang, "Reliability Does Matter", AAAI 2020. Where a project has ``DenseEnergyLoss`` and
``get_energy_loss``, these take the same arguments; nothing is built, and nothing is moved to a GPU that is not there.
"""

from __future__ import annotations

from typing import Any, Callable, Sequence

import torch
from torch import Tensor

from rloss_caffe.torch import _ops
from rloss_caffe.torch.modules import DenseCRFLoss

__all__ = ["DenseEnergyLoss", "DenseEnergyLossFunction", "get_energy_loss"]

_IGNORE = 255
# Of ImageNet's colours from 0 to 255.
_MEAN = (123.675, 116.28, 103.53)
_STD = (58.395, 57.12, 57.375)


class DenseEnergyLoss(DenseCRFLoss):
    """The DenseCRF loss in which pixels count by their doubt; `rloss_caffe.densecrf_loss` with ``gate=True``.

    Parameters
    ----------
    weight : float
        What value and gradient are multiplied by: 1e-7 in the projects that have it.
    sigma_rgb : float
        Colour bandwidth, in the images' units: 15 for images from 0 to 255.
    sigma_xy : float
        Spatial bandwidth in pixels, before the images are scaled: 100.
    scale_factor : float
        Resolution at which the loss is computed, as a share of the images': 0.5.
    recompute_scale_factor : bool
        As of ``torch.nn.functional.interpolate``, for sizes that scale_factor does not divide evenly. True, as here
        when nothing is given: samples are spread over the whole image, as ToCo, SeCo, MoRe and SCSW ask for, and as
        RRM had it with the PyTorch of its time. False: they lie 1 / scale_factor pixels apart, as in the files of RRM
        and AFA with PyTorch since 1.6.
    {parameters}
    """

    ignore_label: int
    WORDS = "roi=ROIs labels=seg_label"

    def __init__(
        self,
        weight: float,
        sigma_rgb: float,
        sigma_xy: float,
        scale_factor: float = 1.0,
        recompute_scale_factor: bool = True,
        **options: Any,
    ) -> None:
        options = {"gate": True, **options}
        super().__init__(weight, sigma_rgb, sigma_xy, scale_factor, recompute_scale_factor, **options)

    def forward(
        self, images: Tensor, segmentations: Tensor, ROIs: Tensor | None = None, seg_label: Tensor | None = None
    ) -> Tensor:
        """The loss times the weight, a tensor of shape (1,).

        Parameters
        ----------
        images : Tensor, shape (N, C, H, W)
            Of any real dtype, on any device. They must not require a gradient.
        segmentations : Tensor, shape (N, K, H, W)
            Class probabilities, usually a softmax.
        ROIs : Tensor, shape (N, H, W) or (N, 1, H, W), optional
            Region of interest, >= 0; default: everywhere.
        seg_label : Tensor, shape (N, 1, H, W) or (N, H, W), optional
            Pixels count by ``ROIs - max_k S_k``, at least 0, and those where this is 255 (``ignore_label``) by 1.

        Returns
        -------
        Tensor, shape (1,)
            Of the segmentations' device and dtype. It is computed in single precision.

        Raises
        ------
        ValueError
            As `DenseCRFLoss`.
        """
        if isinstance(seg_label, Tensor) and self.classes == "all":
            # Other labels do not matter, and need not be classes.
            known = 0.0 if self.ignore_label else 1.0
            seg_label = torch.where(seg_label.long() == self.ignore_label, float(self.ignore_label), known)
        return super().forward(images, segmentations, ROIs, seg_label)


class DenseEnergyLossFunction:
    """What RRM's module calls; for code that calls it itself."""

    @staticmethod
    def apply(
        images: Tensor,
        segmentations: Tensor,
        sigma_rgb: float,
        sigma_xy: float,
        ROIs: Tensor | None = None,
        unlabel_region: Tensor | None = None,
    ) -> Tensor:
        """The gated DenseCRF loss, a tensor of shape (1,), of images and segmentations of one size.

        Parameters
        ----------
        images : Tensor, shape (N, C, H, W)
        segmentations : Tensor, shape (N, K, H, W)
        sigma_rgb, sigma_xy : float
            Bandwidths, in the images' units and in pixels.
        ROIs : Tensor, shape (N, H, W) or (N, 1, H, W), optional
            Region of interest, >= 0; default: everywhere.
        unlabel_region : Tensor of bool, shape (N, H, W) or (N, 1, H, W), optional
            Where pixels count fully.

        Returns
        -------
        Tensor, shape (1,)

        Raises
        ------
        ValueError
            As `DenseCRFLoss`.
        """
        labels = unlabel_region.bool().float() * _IGNORE if isinstance(unlabel_region, Tensor) else unlabel_region
        words = "roi=ROIs labels=unlabel_region bi_rgb_std=sigma_rgb bi_xy_std=sigma_xy"
        options = {"bi_rgb_std": sigma_rgb, "bi_xy_std": sigma_xy, "gate": True, "ignore_label": _IGNORE}
        return _ops.loss("densecrf", options, images, segmentations, labels, ROIs, words=words).reshape(1)


def get_energy_loss(*arguments: Any, device: torch.device | str | int | None = None, **options: Any) -> Tensor:
    """The energy loss of scores and normalised images, in both forms that projects have.

    ``get_energy_loss(img, logit, label, img_box, loss_layer, mean=..., std=...)``
        AFA, ToCo, SeCo, MoRe, LOC-BE, CTFA.
    ``get_energy_loss(device, img, logit, label, img_box, loss_layer, mean=..., std=...)``
        SCSW.

    Parameters
    ----------
    device : torch.device, str or int
        Where the result goes. Without it: to the scores' device.
    img : Tensor, shape (N, C, H, W)
        Normalised. ``img * std + mean`` is what the loss looks at.
    logit : Tensor, shape (N, K, H, W)
        Scores; the loss takes their softmax.
    label : Tensor, shape (N, H, W)
        255 where a pixel has none.
    img_box : sequence or Tensor of N rows [top, bottom, left, right], or None
        The part of each image that is no padding, bottom and right excluded. None: all of it.
    loss_layer : callable
        A `DenseEnergyLoss`, or what takes the same arguments.
    mean, std : sequence of float, one for each channel
        Default: ImageNet's, for colours from 0 to 255.

    Returns
    -------
    Tensor
        What the layer returns.

    Raises
    ------
    ValueError
        There is another number of boxes than of images, or of means or deviations than of channels; the first argument
        is neither images nor a device; what the layer raises.
    """
    if device is None and arguments and not isinstance(arguments[0], Tensor):
        device, arguments = arguments[0], arguments[1:]
        if not isinstance(device, (torch.device, str, int)):
            found = type(device).__name__
            raise ValueError(f"the first argument must be images (a Tensor) or a device, found {found}")
    loss = _energy_loss(*arguments, **options)
    return loss if device is None else loss.to(device)


def _energy_loss(
    img: Tensor,
    logit: Tensor,
    label: Tensor,
    img_box: Sequence[Sequence[int]] | Tensor | None,
    loss_layer: Callable[..., Tensor],
    mean: Sequence[float] = _MEAN,
    std: Sequence[float] = _STD,
) -> Tensor:
    probabilities = logit.softmax(dim=1)
    channels = img.shape[1]
    if not len(mean) == len(std) == channels:
        raise ValueError(
            f"mean and std must have a number for each of {channels} channels of img, found {len(mean)} and {len(std)}"
        )
    shift, scale = (torch.tensor([float(each) for each in values], device=img.device) for values in (mean, std))
    images = img.float() * scale[:, None, None] + shift[:, None, None]
    labels = label.to(torch.uint8)
    labels = labels[:, None] if labels.ndim == 3 else labels
    return loss_layer(images, probabilities, _inside(img_box, probabilities[:, 0]), labels).to(logit.device)


def _inside(boxes: Sequence[Sequence[int]] | Tensor | None, like: Tensor) -> Tensor:
    """1 inside each image's box, else 0, shape (N, H, W)."""
    if boxes is None:
        return torch.ones_like(like)
    rows = boxes.tolist() if isinstance(boxes, Tensor) else list(boxes)
    if len(rows) != len(like):
        raise ValueError(f"img_box must have a row for each of {len(like)} images, found {len(rows)}")
    region = torch.zeros_like(like)
    for index, (top, bottom, left, right) in enumerate(rows):
        region[index, int(top) : int(bottom), int(left) : int(right)] = 1
    return region
