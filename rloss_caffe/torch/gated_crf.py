"""Gated CRF (Obukhov, Georgoulis, Dai, Van Gool 2019) with its authors' signature, on the local Potts loss.

With kernels k, the masks s (source) and d (destination), and pairs j != i inside the window and inside the image:

    k_ij = sum over kernels of weight exp(-sum over modalities |f_i - f_j|^2 / (2 sigma^2))
    loss = sum_ij d_i s_j k_ij (1 - S_i . S_j) / z          with a compatibility matrix M: S_i . M S_j in the brackets
    z    = the pixels of the batch, or where a mask is given its sum over the batch, at least 1

The local Potts loss L has one region m for both ends of a pair, and the cost 1 - S_i . S_j. It says all of the above:
where d = s, the loss is L with m = d. Otherwise it is a bilinear form of two maps u and v, the sum over ij of
k_ij u_i . v_j, and that is L((u - v) / 2) - L((u + v) / 2), because k is symmetric. Nothing is unfolded.
"""

from __future__ import annotations

import math
from typing import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, interpolate, normalize

from rloss_caffe.filtering.window import RADIUS
from rloss_caffe.torch import _ops

__all__ = ["ModelLossSemsegGatedCRF"]

_WORDS = "images=sample segmentations=y_hat_softmax"  # what messages call the arguments of the loss beneath
_EVERYWHERE = 1e15  # a spatial bandwidth under which distance does not count


class ModelLossSemsegGatedCRF(torch.nn.Module):
    """Gated CRF loss, for the call that WSL4MIS, PyMIC and others have.

    >>> loss = ModelLossSemsegGatedCRF()
    >>> kernels = [{"weight": 1, "xy": 6, "rgb": 0.1}]
    >>> value = 0.1 * loss(probabilities, kernels, 5, images, 256, 256)["loss"]
    """

    def forward(
        self,
        y_hat_softmax: Tensor,
        kernels_desc: Sequence[Mapping[str, float]],
        kernels_radius: int,
        sample: Tensor | Mapping[str, Tensor],
        height_input: int,
        width_input: int,
        mask_src: Tensor | None = None,
        mask_dst: Tensor | None = None,
        compatibility: Tensor | None = None,
        custom_modality_downsamplers: Mapping[str, Callable[..., Tensor]] | None = None,
        out_kernels_vis: bool = False,
    ) -> dict[str, Tensor]:
        """The loss, in a dict.

        Parameters
        ----------
        y_hat_softmax : Tensor, shape (N, C, H, W)
            Class probabilities. The loss stands on their resolution.
        kernels_desc : sequence of dict
            For each kernel its ``weight``, and the bandwidth of every modality in it: ``xy`` in the segmentations'
            pixels, others (``rgb``) in the sample's units.
        kernels_radius : int
            Rows and columns that a pixel's window reaches to each side, >= 1.
        sample : Tensor, shape (N, channels, height, width), or a dict of such by modality
            A tensor stands for every modality but xy. It is reduced to H x W by area.
        height_input, width_input : int
            The sample's size: the same multiple of H and of W.
        mask_src, mask_dst : Tensor, shape (N, 1, height, width), optional
            Which pixels give, and which receive. What is below 1 after the reduction, or NaN, is 0.
        compatibility : Tensor, shape (C, C), optional
            What a pair of classes costs: >= 0, and 0 on the diagonal. Each row is divided by its mean off the diagonal.
            Default: 1 for every two classes.
        custom_modality_downsamplers : dict, optional
            By modality, or ``mask``: from a tensor and (H, W) to the reduced tensor.
        out_kernels_vis : bool
            Return a picture of the kernels, as well.

        Returns
        -------
        dict
            ``loss``, a tensor without axes, of the segmentations' device and dtype; and ``kernels_vis``, shape
            (N, 1, height_input, width_input): windows side by side, each with the kernel of the pixel in its middle.

        Raises
        ------
        ValueError
            Shapes or values do not fit; the sample lacks a modality; NaN or infinity in an image or a segmentation.

        Notes
        -----
        Where there is no source mask, the authors' file also counts pairs with the zeros that it pads the image by.
        That adds a constant to its value and nothing to its gradient. Here such pairs do not count.
        """
        if y_hat_softmax.ndim != 4:
            raise ValueError(f"y_hat_softmax must have shape (N, C, H, W), found shape {tuple(y_hat_softmax.shape)}")
        batch, _, height, width = y_hat_softmax.shape
        if height_input % height or width_input % width or height_input * width != width_input * height:
            raise ValueError(
                f"height_input and width_input must be the same multiple of the segmentations' size {height} x "
                f"{width}, found {height_input} x {width_input}"
            )
        radius = _radius(kernels_radius)
        is_half = y_hat_softmax.dtype in (torch.float16, torch.bfloat16)
        probabilities = y_hat_softmax.float() if is_half else y_hat_softmax
        reduce = _Reduction(probabilities, custom_modality_downsamplers or {})
        kernels = [_Kernel(description, sample, reduce) for description in kernels_desc]
        if not kernels:
            raise ValueError("kernels_desc must describe at least one kernel, found none")
        source = None if mask_src is None else reduce.mask("mask_src", mask_src)
        destination = None if mask_dst is None else reduce.mask("mask_dst", mask_dst)
        if mask_dst is mask_src:
            source = destination
        pairs = _Pairs(probabilities, source, destination, _matrix(compatibility, probabilities))
        total = sum(kernel.weight * pairs.loss(kernel, radius) for kernel in kernels)
        counted = source if destination is None else destination
        size = batch * height * width if counted is None else counted.sum().clamp(min=1)
        out = {"loss": (total / size).to(y_hat_softmax.dtype)}
        if out_kernels_vis:
            picture = sum(kernel.weight * kernel.picture(radius, source, destination) for kernel in kernels)
            out["kernels_vis"] = interpolate(picture, (height_input, width_input))
        return out


def _radius(value):
    try:
        return RADIUS.checked(value)
    except ValueError as error:
        raise ValueError(str(error).replace("radius", "kernels_radius", 1)) from None


def _number(name, value, above=-math.inf):
    """A number of a kernel's description. In Python's own terms, which torch.compile can follow."""
    try:
        number = math.nan if isinstance(value, (bool, str)) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not above < number < math.inf:
        bound = "" if above == -math.inf else f" > {above}"
        raise ValueError(f"{name} of a kernel of kernels_desc must be a finite number{bound}, found {value!r}")
    return number


def _matrix(compatibility, probabilities):
    """M, its rows divided by their means off the diagonal."""
    if compatibility is None:
        return None
    classes = probabilities.shape[1]
    if tuple(compatibility.shape) != (classes, classes):
        shape = tuple(compatibility.shape)
        raise ValueError(f"compatibility must have shape ({classes}, {classes}), found shape {shape}")
    if not (compatibility >= 0).all() or compatibility.diagonal().any():
        raise ValueError("compatibility must hold values >= 0, and 0 on its diagonal")
    return (classes - 1) * normalize(compatibility.detach().to(probabilities), p=1, dim=1)


class _Reduction:
    """To the segmentations' size and device, by area or as the caller says."""

    def __init__(self, probabilities, ways):
        self.batch, self.size, self.device = len(probabilities), tuple(probabilities.shape[2:]), probabilities.device
        self._ways = ways

    def __call__(self, name, tensor):
        tensor = tensor.to(self.device)
        tensor = tensor if tensor.dtype == torch.float64 else tensor.float()
        return self._ways.get(name, adaptive_avg_pool2d)(tensor, self.size)

    def modality(self, name, sample):
        if not isinstance(sample, Tensor):
            if name not in sample:
                known = ", ".join(sample) or "nothing"
                raise ValueError(f"sample must hold the modality {name} of kernels_desc, found {known}")
            sample = sample[name]
        reduced = self(name, sample)
        if reduced.ndim != 4 or len(reduced) != self.batch or tuple(reduced.shape[2:]) != self.size:
            raise ValueError(
                f"the modality {name} of sample must have shape ({self.batch}, channels, height, width), found shape "
                f"{tuple(sample.shape)}, and {tuple(reduced.shape)} after its reduction"
            )
        return reduced

    def mask(self, name, mask):
        """Shape (N, 1, H, W), 0 where the mask is NaN or below 1; the caller's stays as it is."""
        if mask.ndim != 4 or tuple(mask.shape[:2]) != (self.batch, 1):
            shape = tuple(mask.shape)
            raise ValueError(f"{name} must have shape ({self.batch}, 1, height, width), found shape {shape}")
        mask = mask.detach().to(self.device).float()
        mask = mask if tuple(mask.shape[2:]) == self.size else self("mask", mask)
        return torch.where(mask >= 1, mask, 0.0)


class _Kernel:
    """One kernel: its features over their bandwidths, and the bandwidth of positions, which the loss knows itself."""

    def __init__(self, description, sample, reduce):
        if "weight" not in description:
            raise ValueError(f"a kernel of kernels_desc must have a weight, found {dict(description)}")
        self.weight = _number("weight", description["weight"])
        sigmas = {name: _number(name, given, above=0) for name, given in description.items() if name != "weight"}
        self.xy_std = sigmas.pop("xy", _EVERYWHERE)
        features = [reduce.modality(name, sample) / sigma for name, sigma in sigmas.items()]
        if not features:
            features = [torch.zeros((reduce.batch, 1, *reduce.size), device=reduce.device)]
        self.features = torch.cat(features, dim=1)

    def picture(self, radius, source, destination):
        """Windows side by side, shape (N, 1, H, W): each with the kernel of the pixel in its middle.

        There is nothing where the middle would be outside.
        """
        top, rows = _middles(self.features.shape[2], radius, self.features.device)
        left, columns = _middles(self.features.shape[3], radius, self.features.device)

        def at_middles(values):
            return values[:, :, top][:, :, :, left]

        squares = (self.features - at_middles(self.features)).square().sum(dim=1, keepdim=True)
        apart = rows.square()[:, None] + columns.square()
        picture = (-0.5 * (squares + apart / self.xy_std**2)).exp()
        picture = picture * ((apart > 0) & (rows.abs() <= radius)[:, None] & (columns.abs() <= radius))
        picture = picture if source is None else picture * source
        return picture if destination is None else picture * at_middles(destination)


def _middles(length, radius, device):
    """For each place along an axis the middle of its window, and the way from there: beyond the radius if none."""
    places, diameter = torch.arange(length, device=device), 2 * radius + 1
    middles = places // diameter * diameter + radius
    inside = middles < length
    return middles.clamp(max=length - 1), torch.where(inside, places - middles, diameter)


class _Pairs:
    """The loss over all pairs of a kernel, from as few local Potts losses as will do."""

    def __init__(self, probabilities, source, destination, matrix):
        self._batch = len(probabilities)
        everywhere = torch.ones_like(probabilities[:, :1])
        if matrix is None and source is destination:
            self._terms = [(1, probabilities)]
            self._region = everywhere if source is None else source
            return
        source = everywhere if source is None else source
        destination = everywhere if destination is None else destination
        if matrix is None:  # one channel more, for the 1 in 1 - S_i . S_j
            first = torch.cat([probabilities, everywhere], dim=1)
            second = torch.cat([-probabilities, everywhere], dim=1)
        else:
            with torch.autocast(probabilities.device.type, enabled=False):
                first, second = probabilities, torch.einsum("ab,nbhw->nahw", matrix, probabilities)
        first, second = destination * first, source * second
        self._terms = [(1, (first - second) / 2), (-1, (first + second) / 2)]
        self._region = ((source > 0) | (destination > 0)).float()

    def loss(self, kernel, radius):
        options = {"radius": radius, "xy_std": kernel.xy_std, "rgb_std": 1.0, "normalization": "BATCH_SIZE"}
        losses = [
            sign * _ops.loss("local_potts", options, kernel.features, values, roi=self._region, words=_WORDS)
            for sign, values in self._terms
        ]
        return self._batch * sum(losses)
