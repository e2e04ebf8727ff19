"""The losses in tensor operations, for tensors that are not on the CPU: values and gradients as `rloss_caffe.losses`.

The formulas are in the modules of `rloss_caffe.losses`, and so are the checks. A call looks once at the ranges of its
tensors, all together, and waits for the device there. What is out of the ordinary (NaN, numbers beyond 1e10, a shape
or an option that does not fit) goes to the NumPy function: it says what is wrong, or computes the loss.

Labelled classes: all classes are filtered, and those that take no part are left out of the sums. So nothing waits for
the labels. Soft self-labelling is always the NumPy function's: its tensors go to the CPU and come back.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Callable, Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from rloss_caffe.filtering.window import pair_offsets
from rloss_caffe.losses import LOSSES
from rloss_caffe.losses._pairwise import takes_labelled
from rloss_caffe.losses.densecrf import DenseTerm
from rloss_caffe.losses.size_constraint import Bounds
from rloss_caffe.numerics.interpolation import rescaling_samples
from rloss_caffe.numerics.parameters import parameters_of
from rloss_caffe.torch import _ops
from rloss_caffe.torch._lattice import MEMORY, TensorLattice

__all__ = ["evaluate"]

_LARGEST, _LEAST_REGION = 1e10, 1e-6  # of ordinary numbers: no sum of products of them leaves single precision
_SMALLEST, _LEAST_SIZE = 1e-30, 1e-37  # of what is divided by, as in the functions; the latter in the local Potts loss


def evaluate(
    name: str,
    options: Mapping[str, Any],
    images: Tensor | None,
    segmentations: Tensor,
    labels: Tensor | None = None,
    roi: Tensor | None = None,
    with_gradient: bool = True,
) -> tuple[Tensor, Tensor | None]:
    """A loss's value and gradient, on the segmentations' device.

    Parameters
    ----------
    name : str
        A key of `rloss_caffe.losses.LOSSES`.
    options : mapping
        Keyword parameters of that function.
    images : tensor, shape (N, C, H, W), or None
        None for the size constraint.
    segmentations : tensor, shape (N, K, H, W)
    labels, roi : tensor, optional
        As the function takes them. All tensors are on one device.
    with_gradient : bool

    Returns
    -------
    tensor without axes, float64 (on MPS float32), and tensor (N, K, H, W), float32, or None

    Raises
    ------
    ValueError
        What the function raises.

    Notes
    -----
    Images are taken in groups whose lattice and intermediate results fit into `MEMORY` bytes (6 GiB) even where all
    pixels are unlike, one image at least; photographs take about a third. The same input gives the same numbers each
    time, on any device but MPS.
    """
    if name in _LOSSES:
        try:
            with torch.no_grad():
                chosen = _checked(name, options)
                batch = _read(name, chosen, images, segmentations, labels, roi)
                return _LOSSES[name](batch, chosen, with_gradient)
        except ValueError:
            pass  # the function says why
    return _by_numpy(name, options, images, segmentations, labels, roi, with_gradient)


def _by_numpy(name, options, images, segmentations, labels, roi, with_gradient):
    tensors = [None if each is None else each.detach().cpu() for each in (images, segmentations, labels, roi)]
    value, gradient = _ops._on_cpu(name, options, 1.0, *tensors, with_gradient)
    device = segmentations.device
    return value.to(_double(device)).to(device), None if gradient is None else gradient.to(device)


@dataclass(frozen=True)
class _Batch:
    """The tensors of a call, checked: float32, labels int64 (N, H, W), the region of interest (N, H, W)."""

    images: Any
    segmentations: Any
    labels: Any
    region: Any

    def groups(self, count: int) -> Iterator[tuple[slice, _Batch]]:
        """So many images at a time."""
        for first in range(0, len(self.segmentations), max(1, count)):
            part = slice(first, first + max(1, count))
            given = self.images, self.segmentations, self.labels, self.region
            yield part, _Batch(*(None if each is None else each[part] for each in given))


def _checked(name, options):
    """All options of a loss; a ValueError where one does not fit, or is unknown."""
    parameters = {each.name: each for each in parameters_of(LOSSES[name])}
    if not set(options) <= set(parameters):
        raise ValueError
    chosen = {key: options.get(key, each.default) for key, each in parameters.items()}
    return {
        key: value if value is None or value == parameters[key].default else parameters[key].checked(value)
        for key, value in chosen.items()
    }


def _read(name, options, images, segmentations, labels, roi):
    """The batch; a ValueError where something does not fit or is out of the ordinary."""
    is_size = name == "size_constraint"
    tensors = [each for each in (images, segmentations, labels, roi) if each is not None]
    if segmentations.ndim != 4 or any(0 in each.shape or each.is_complex() for each in tensors):
        raise ValueError
    batch, classes, height, width = segmentations.shape
    shapes = (batch, height, width), (batch, 1, height, width)
    fits = roi is None or roi.shape in shapes
    if is_size:
        known = labels is None or (labels.ndim in (3, 4) and len(labels) == batch and labels.shape[1:-2] in ((), (1,)))
    else:
        fits = fits and images.ndim == 4 and (images.shape[0], *images.shape[2:]) == shapes[0]
        known = labels is None or labels.shape in shapes
    fits = fits and known
    if not fits:
        raise ValueError
    segmentations = segmentations.detach().float()
    ranges, conditions = [*segmentations.aminmax()], []
    if images is not None:
        images = images.detach().float()
        ranges += images.aminmax()
    if labels is not None:
        labels = labels.detach().reshape(batch, *labels.shape[-2:])
        whole = labels.long()
        if labels.is_floating_point():
            conditions.append((whole == labels).all())
        labels = whole
        conditions.append(((labels == options["ignore_label"]) | ((labels >= 0) & (labels < classes))).all())
    if roi is not None:
        roi = roi.detach().float().reshape(shapes[0])
        ranges += roi.aminmax()
        conditions.append(((roi == 0) | ((roi >= _LEAST_REGION) & (roi <= 1 / _LEAST_REGION))).all())
    elif not is_size:
        roi = (images.abs() >= 1).any(1).float()
    if name in ("normalized_cut", "kernel_cut"):
        conditions.append(ranges[0] >= 0)  # else a class's volume may be anything
    least_and_largest = torch.stack(ranges)
    conditions.append((least_and_largest.abs() <= _LARGEST).all())
    if not torch.stack(conditions).all():  # waits for the device
        raise ValueError
    return _Batch(images, segmentations, labels, roi)


def _double(device):
    return torch.float32 if device.type == "mps" else torch.float64


def _sum(tensor, axes):
    return tensor.sum(axes, dtype=_double(tensor.device))


def _mean(values, gradients):
    """Of the images' values, and their gradients over the number of images."""
    values = torch.cat(values)
    return values.sum() / len(values), None if gradients is None else gradients.div_(len(values))


def _named(labels, region, classes, ignore_label):
    """Which classes each image's labels name inside its region: (N, K), truth values."""
    inside = labels != ignore_label
    if region is not None:
        inside &= region > 0
    marks = torch.where(inside, labels, classes).flatten(1)  # a class more, for what is outside
    named = torch.zeros(len(labels), classes + 1, dtype=torch.bool, device=labels.device)
    return named.scatter_(1, marks, True)[:, :classes]


# Losses with the bilateral kernel


@dataclass(frozen=True)
class _Filtered:
    """A group of images with A applied once: S (B, K, h, w), the region and `roi` (B, h, w), A (roi S) and A roi.

    `roi` is the region, or with the symmetric kernel the region times D^-1/2.
    """

    lattice: TensorLattice
    segmentations: Tensor
    region: Tensor
    roi: Tensor
    filtered: Tensor
    degree: Any

    @classmethod
    def by(cls, lattice, segmentations, region, roi, with_degree):
        values = segmentations * roi[:, None]
        if with_degree:
            values = torch.cat([values, roi[:, None]], 1)
        filtered = _filter(lattice, values)
        count = segmentations.shape[1]
        degree = filtered[:, count] if with_degree else None
        return cls(lattice, segmentations, region, roi, filtered[:, :count], degree)

    def symmetrised(self, filtered, gate=None):
        """The mean of `filtered`, which is A S' or G A S', and its transpose."""
        roi = self.roi if gate is None else self.roi * gate
        return 0.5 * (filtered + _filter(self.lattice, self.segmentations * roi[:, None], reverse=True))


def _filter(lattice, values, reverse=False):
    return lattice.filter(values.flatten(2), reverse).view_as(values)


def _over_pairs(batch, options, with_gradient):
    """DenseCRF, normalised cut, and their sum, by which options there are."""
    has_dense = "relaxation" in options
    has_cut = "normalized_cut_weight" in options or not has_dense
    term: Any = None
    if has_dense:
        names = "exact_gradient", "relaxation", "normalization", "non_negative", "gate"
        term = DenseTerm.checked(*(options[name] for name in names))
    only_labelled = takes_labelled(options["classes"], batch.labels)
    segmentations, scale_factor = batch.segmentations, options["scale_factor"]
    height, width = segmentations.shape[2:]
    samples = None
    if scale_factor < 1:
        samples = [
            _samples((height, width), scale_factor, mode, segmentations.device) for mode in ("nearest", "bilinear")
        ]
        height, width = (len(samples[0][axis]) for axis in (0, 3))
    xy, rgb = options["bi_xy_std"] * (scale_factor if scale_factor < 1 else 1), options["bi_rgb_std"]
    xy, rgb = float(np.float32(xy)), float(np.float32(rgb))
    dimension = 2 + batch.images.shape[1]
    taken = TensorLattice.building_bytes(dimension, height * width)
    taken += 4 * 8 * (segmentations.shape[1] + 1) * segmentations[0, 0].numel()
    values, gradients = [], segmentations.new_empty(segmentations.shape) if with_gradient else None
    for part, group in batch.groups(MEMORY // taken):
        images, given, region = group.images, group.segmentations, group.region
        keep = _named(group.labels, region, given.shape[1], options["ignore_label"]) if only_labelled else None
        unlabelled = None if group.labels is None else group.labels == options["ignore_label"]
        if samples is not None:
            images, region = _nearest(images, samples[0]), _nearest(region, samples[0])
            given = _bilinear(given, samples[1])
            unlabelled = None if unlabelled is None else _nearest(unlabelled, samples[0])
        lattice = TensorLattice(_features(images, xy, rgb))
        parts = []
        is_symmetric = has_dense and options["kernel_normalization"] == "symmetric"
        scene = None
        if has_cut or not is_symmetric:
            scene = _Filtered.by(lattice, given, region, region, has_cut or term.needs_degree)
        if has_cut:
            weight = options.get("normalized_cut_weight", 1.0)
            parts.append(_cut(scene, keep, options["exact_gradient"], with_gradient, weight))
        if has_dense:
            if is_symmetric:
                degree = _filter(lattice, region[:, None])[:, 0] if scene is None else scene.degree
                root = torch.where(degree > 0, degree, 1).rsqrt() * (degree > 0)
                scene = _Filtered.by(lattice, given, region, region * root, term.needs_degree)
            gate = _gate(given, region, unlabelled) if term.gate else None
            parts.append(_dense(scene, keep, term, gate, with_gradient, options.get("densecrf_weight", 1.0)))
        del scene, lattice
        values.append(sum(value for value, _ in parts))
        if with_gradient:
            gradient = parts[0][1] if len(parts) == 1 else parts[0][1] + parts[1][1]
            if keep is not None:
                gradient *= keep[:, :, None, None]
            gradients[part] = gradient if samples is None else _bilinear_adjoint(gradient, samples[1], gradients[part])
    return _mean(values, gradients)


def _features(images, xy, rgb):
    """Positions and colours over their bandwidths, (B, 2 + C, h w).

    By tensors: over a number of the host's a GPU multiplies by its reciprocal, which rounds elsewhere.
    """
    batch, channels, height, width = images.shape
    xy, rgb = (torch.full((1,), each, device=images.device) for each in (xy, rgb))
    features = images.new_empty(batch, 2 + channels, height, width)
    features[:, 0] = torch.arange(width, device=images.device, dtype=torch.float32) / xy
    features[:, 1] = (torch.arange(height, device=images.device, dtype=torch.float32) / xy)[:, None]
    torch.div(images, rgb, out=features[:, 2:])
    return features.flatten(2)


def _cut(scene, keep, exact_gradient, with_gradient, weight):
    inside = scene.segmentations * scene.roi[:, None]
    association = _sum(inside * scene.filtered, (2, 3))
    volume = _sum(inside * scene.degree[:, None], (2, 3))
    takes_part = volume > _SMALLEST
    if keep is not None:
        takes_part &= keep
    inverse = takes_part / torch.where(takes_part, volume, 1)
    ratio = association * inverse
    value = weight * (takes_part.sum(1) - ratio.sum(1))
    if not with_gradient:
        return value, None
    filtered = scene.symmetrised(scene.filtered) if exact_gradient else scene.filtered
    own, added = ((weight * each).float()[:, :, None, None] for each in (-2 * inverse, ratio * inverse))
    return value, (own * filtered + added * scene.degree[:, None]) * scene.roi[:, None]


def _dense(scene, keep, term, gate, with_gradient, weight):
    segmentations, roi = scene.segmentations, scene.roi
    filtered = scene.filtered if gate is None else scene.filtered * gate[:, None]
    costs = filtered - scene.degree[:, None] * segmentations if term.quadratic else filtered
    costs = -_sum(segmentations * roi[:, None] * costs, (2, 3))
    value = (costs if keep is None else costs * keep).sum(1)
    if term.non_negative and not term.quadratic:
        value = value + _sum((roi if gate is None else roi * gate) * scene.degree, (1, 2))
    factor = torch.full_like(value, weight)
    if term.normalization != "BATCH_SIZE":
        is_valid = term.normalization == "VALID"
        size = _sum(scene.region, (1, 2)) if is_valid else _sum(roi * scene.degree, (1, 2))
        factor = factor * (size > _SMALLEST) / torch.where(size > _SMALLEST, size, 1)
    if keep is not None:
        factor = factor * keep.any(1)
    if not with_gradient:
        return value * factor, None
    if term.exact_gradient:
        filtered = scene.symmetrised(filtered, gate)
    if term.quadratic:
        filtered = filtered - scene.degree[:, None] * segmentations
    return value * factor, filtered * (roi * (-2 * factor).float()[:, None, None])[:, None]


def _gate(segmentations, region, unlabelled):
    gate = (region - segmentations.amax(1)).clamp_(min=0)
    return gate if unlabelled is None else gate.masked_fill_(unlabelled, 1)


# Another resolution


@lru_cache(maxsize=8)
def _samples(size, scale_factor, mode, device):
    """`rescaling_samples` on the device."""
    return [torch.from_numpy(each).to(device) for each in rescaling_samples(size, scale_factor, mode)]


def _nearest(tensor, samples):
    return tensor.index_select(-2, samples[0]).index_select(-1, samples[3])


def _bilinear(tensor, samples):
    for axis, (first, second, weight) in ((-1, samples[3:]), (-2, samples[:3])):
        weight = weight if axis == -1 else weight[:, None]
        tensor = (1 - weight) * tensor.index_select(axis, first) + weight * tensor.index_select(axis, second)
    return tensor


def _bilinear_adjoint(gradient, samples, like):
    """Of `_bilinear`. A row or column gets at most two terms from each sum, so the order does not matter."""
    for axis, (first, second, weight) in ((-2, samples[:3]), (-1, samples[3:])):
        weight = weight if axis == -1 else weight[:, None]
        shape = list(gradient.shape)
        shape[axis] = like.shape[axis]
        sums = gradient.new_zeros(shape).index_add_(axis, first, (1 - weight) * gradient)
        gradient = sums.index_add_(axis, second, weight * gradient)
    return gradient


# Pairs of neighbours


def _local_potts(batch, options, with_gradient):
    only_labelled = takes_labelled(options["classes"], batch.labels)
    count, height, width = batch.segmentations.shape[1:]
    reach = min(options["radius"], height - 1), min(options["radius"], width - 1)
    offsets = pair_offsets(reach, options["xy_std"], options["space"])
    half = (offsets.rows > 0) | ((offsets.rows == 0) & (offsets.columns > 0))  # each pair once
    pairs = [
        (*_ends(row, column, height, width), logarithm)
        for row, column, logarithm in zip(*(each[half].tolist() for each in vars(offsets).values()))
    ]
    values, gradients = [], batch.segmentations.new_empty(batch.segmentations.shape) if with_gradient else None
    taken = 4 * height * width * (4 * count + 2 * batch.images.shape[1] + 8)
    for part, group in batch.groups(MEMORY // taken):
        keep = _named(group.labels, group.region, count, options["ignore_label"]) if only_labelled else None
        contrast = _contrast(group, options, pairs)
        value, gradient = _sum_pairs(group, options, pairs, contrast, keep, with_gradient)
        values.append(value)
        if with_gradient:
            gradients[part] = gradient
    return _mean(values, gradients)


def _ends(row, column, height, width):
    """Where the first pixels of an offset's pairs are, and where the second ones."""
    one = slice(0, height - row), slice(max(0, -column), width - max(0, column))
    return (..., *one), (..., slice(row, height), slice(max(0, column), width - max(0, -column)))


def _contrast(group, options, pairs):
    """1 / (sqrt(2) rgb_std) of every image, (B, 1, 1)."""
    images, region = group.images, group.region
    if options["contrast"] == "fixed":
        factor = min(1 / (math.sqrt(2) * options["rgb_std"]), float(np.finfo(np.float32).max))
        return torch.full((len(images), 1, 1), factor, device=images.device)
    total = amount = torch.zeros(len(images), dtype=_double(images.device), device=images.device)
    for one, other, _ in pairs:
        both = region[one] * region[other]
        amount = amount + _sum(both, (1, 2))
        total = total + _sum((images[one] - images[other]).square_().sum(1) * both, (1, 2))
    there = total > 0
    factor = (amount / (2 * torch.where(there, total, 1))).sqrt() * there
    return factor.clamp_(max=float(np.finfo(np.float32).max)).float()[:, None, None]


def _sum_pairs(group, options, pairs, contrast, keep, with_gradient):
    images, segmentations, region = group.images, group.segmentations, group.region
    form = options["relaxation"]
    degree, sums = torch.zeros_like(region), torch.zeros_like(segmentations)
    for one, other, logarithm in pairs:
        power = ((images[one] - images[other]) * contrast[:, None]).square_().sum(1)
        weight = torch.exp(logarithm - power)
        to_one, to_other = weight * region[other], weight * region[one]
        degree[one] += to_one
        degree[other] += to_other
        if form == "bilinear":
            sums[one].addcmul_(to_one[:, None], segmentations[other])
            sums[other].addcmul_(to_other[:, None], segmentations[one])
        else:
            difference = segmentations[one] - segmentations[other]
            if form == "absolute":
                difference.sign_()
            sums[one].addcmul_(to_one[:, None], difference)
            sums[other].addcmul_(to_other[:, None], difference, value=-1)
    value = _sum(segmentations * region[:, None] * sums, (2, 3))
    value = (value if keep is None else value * keep).sum(1)
    weights = _sum(region * degree, (1, 2))
    if form == "bilinear":
        value = weights - value
    sizes = {"VALID": _sum(region, (1, 2)), "WEIGHTS": weights, "BATCH_SIZE": torch.ones_like(value)}
    size = sizes[options["normalization"]]
    inverse = (size > _LEAST_SIZE) / torch.where(size > _LEAST_SIZE, size, 1)
    if keep is not None:
        inverse = inverse * keep.any(1)
    if not with_gradient:
        return value * inverse, None
    factor = {"bilinear": -2, "quadratic": 2, "absolute": 1}[form] * inverse.float()[:, None, None]
    sums *= (region * factor)[:, None]
    return value * inverse, sums if keep is None else sums * keep[:, :, None, None]


# Sizes


def _size_constraint(batch, options, with_gradient):
    segmentations, region = batch.segmentations, batch.region
    count, classes, height, width = segmentations.shape
    bounds = Bounds(options["lower"], options["upper"], options["unit"], classes)
    has_tags = options["tags"] and batch.labels is not None
    if bounds.are_none and not has_tags:
        raise ValueError
    if any(each[np.isfinite(each)].max(initial=0) > _LARGEST for each in (bounds.lower, bounds.upper)):
        raise ValueError
    double, device = _double(segmentations.device), segmentations.device
    if region is None:
        pixels = torch.full((count, 1), float(height * width), dtype=double, device=device)
        sizes = _sum(segmentations, (2, 3))
    else:
        pixels = _sum(region, (1, 2))[:, None]
        sizes = _sum(segmentations * region[:, None], (2, 3))
    ends = (torch.from_numpy(each).to(double).to(device) for each in (bounds.lower, bounds.upper))
    low, high = (each.expand(count, -1) for each in ends)
    there = pixels > 0
    pixels = torch.where(there, pixels, 1)
    if bounds.is_fraction:
        low, high = low * pixels, high * pixels
    if has_tags:
        present = _named(batch.labels, None, classes, options["ignore_label"])
        known = present.any(1, keepdim=True)
        within = torch.minimum(low.clamp(min=1), high)
        low = torch.where(known, torch.where(present, within, 0), low)
        high = torch.where(known & ~present, 0, high)
    length = pixels if options["normalization"] == "FRACTION" else 1
    above, down = _penalty((sizes - high) / length, options)
    below, up = _penalty((low - sizes) / length, options)
    bounded = (low.isfinite() | high.isfinite()).sum(1, keepdim=True).clamp(min=1)
    factor = there / (bounded * (pixels if options["normalization"] == "VALID" else 1))
    value = (factor * (above + below)).sum(1)
    gradient = None
    if with_gradient:
        slopes = (factor / length * (down - up)).float()[:, :, None, None]
        gradient = slopes.expand_as(segmentations).clone() if region is None else slopes * region[:, None]
    return _mean([value], gradient)


def _penalty(excess, options):
    """The penalty of what is beyond a bound (-inf: there is none) and its derivative."""
    if options["penalty"] == "quadratic":
        excess = excess.clamp(min=0)
        return excess.square(), 2 * excess
    t = options["t"]
    is_bound, is_inside = excess.isfinite(), excess <= -1 / t**2
    excess = torch.where(is_bound, excess, -1)
    within = torch.where(is_inside, -excess, 1)
    value = torch.where(is_inside, -within.log() / t, t * excess + (2 * math.log(t) + 1) / t)
    return value * is_bound, torch.where(is_inside, 1 / (t * within), t) * is_bound


_LOSSES: dict[str, Callable[..., tuple[Tensor, Any]]] = {
    "densecrf": _over_pairs,
    "kernel_cut": _over_pairs,
    "local_potts": _local_potts,
    "normalized_cut": _over_pairs,
    "size_constraint": _size_constraint,
}
