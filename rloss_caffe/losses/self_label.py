"""Soft self-labelling (Zhang and Boykov, CVPR 2025; before it ADM, Marin, Tang, Ben Ayed, Boykov, CVPR 2019).

Latent labels y are found for the pixels without a label, from what the network says, the labels that there are, and
pairs of pixels that look alike; then they teach the network. With s the network's probabilities, c the given labels, m
the region of interest, and pairs of neighbours ij, each once:

    loss = (1/N) sum_n (1/z_n) [ - labelled_weight sum_labelled m_i ln s_i[c_i]
                                 + eta sum_others m_i H(y_i, s_i) + lambda sum_pairs m_i m_j w_ij P(y_i, y_j) ]
    z: VALID sum_i m_i; BATCH_SIZE 1
    H: collision -ln sum_k y_k s_k; forward -sum_k y_k ln s_k
    w: as in the local Potts loss

    P: bilinear                 1 - p.q
       quadratic                |p - q|^2 / 2
       normalized_quadratic     1 - p.q / (|p| |q|)
       collision_cross_entropy  -ln p.q
       collision_divergence     -ln (p.q / (|p| |q|))
       log_quadratic            -ln (1 - |p - q|^2 / 2)

The labels y start at s, are the given ones where there are any, and go down this loss by `steps` steps, none of which
raises it. Then they are held constant: the loss's gradient goes to s alone, and pairs give none.

    dloss/ds_i = -labelled_weight m_i / (N z) / s_i[c_i] for the class of a label
                 -eta m_i / (N z) y_i / (y_i . s_i) elsewhere; forward -eta m_i / (N z) y_i / s_i

With the dense kernel the labels come from mean-field inference instead, y <- softmax(ln s + (lambda / eta) A m y / A m)
with A the bilateral filter, the given labels fixed. In the place of the pairs the loss then has
(lambda / 2) sum_i m_i (1 - y_i . (A m y)_i / (A m)_i).

With the labelled classes alone, y is 0 for all others, and starts at s divided by its sum over those that are named.
An image without labels then has the value 0 and no gradient.

To sums of products under a logarithm 1e-20 is added, and 1e-5 to 1 - |p - q|^2 / 2, so that all is finite.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Callable

import numpy as np

from rloss_caffe.filtering import PermutohedralLattice
from rloss_caffe.filtering.window import CONTRAST, RADIUS, RGB_STD, SPACE, XY_STD, PairWindow
from rloss_caffe.losses._latent import FLOOR, RELAXATIONS, Pairs, descend, energy
from rloss_caffe.losses._pairwise import (
    BI_RGB_STD,
    BI_XY_STD,
    CLASSES,
    IGNORE_LABEL,
    choose_labelled,
    image_lattice,
    label_array,
    regions,
    takes_labelled,
)
from rloss_caffe.losses._result import Result
from rloss_caffe.numerics.arrays import allocate, real_array
from rloss_caffe.numerics.parameters import Parameter, documented
from rloss_caffe.numerics.threads import for_each_image

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from rloss_caffe.losses._pairwise import Workspace

_LARGEST = 1.001  # of a probability, with what a softmax rounds
_TOO_LARGE = "roi, eta, lambda and labelled_weight must not be so large that the loss is not finite"

__all__ = ["PARAMETERS", "JointTerms", "SelfLabelResult", "self_label_loss"]

RELAXATION = Parameter(
    "relaxation",
    "string",
    "log_quadratic",
    choices=RELAXATIONS,
    doc="What a pair with labels p and q costs: 1 - p.q, |p - q|^2 / 2, 1 - cos(p, q), -ln p.q, -ln cos(p, q), or "
    "-ln(1 - |p - q|^2 / 2).",
)
CROSS_ENTROPY = Parameter(
    "cross_entropy",
    "string",
    "collision",
    choices=("collision", "forward"),
    doc="Of latent labels y and the network's s: -ln y.s, where neither copies the other's doubt, or -y.ln s.",
)
ETA = Parameter(
    "eta", "float", 0.3, minimum=1e-6, maximum=1e6, doc="Weight of the cross entropy with the latent labels."
)
LAMBDA = Parameter(
    "lambda", "float", 6.0, minimum=0, maximum=1e6, doc="Weight of the pairs in the search for latent labels."
)
STEPS = Parameter(
    "steps", "int", 40, minimum=0, maximum=10000, doc="Of the descent to the latent labels, or of mean-field inference."
)
KERNEL = Parameter(
    "kernel",
    "string",
    "pairs",
    choices=("pairs", "dense"),
    doc="pairs: of neighbours within the radius; dense: all, with the bilateral kernel, by mean-field inference.",
)
NEAREST = replace(RADIUS, default=1)
CONTRAST_SCALE = Parameter(
    "contrast_scale",
    "float",
    1.0,
    above=0,
    maximum=1e6,
    doc="With contrast image: the colour bandwidth is this times the image's own.",
)
NORMALIZATION = Parameter(
    "normalization",
    "string",
    "VALID",
    choices=("VALID", "BATCH_SIZE"),
    doc="What each image's sum is divided by, besides the batch size: VALID its region's pixels, BATCH_SIZE nothing.",
)
LABELLED_WEIGHT = Parameter(
    "labelled_weight",
    "float",
    1.0,
    minimum=0,
    maximum=1e6,
    doc="Weight of the labelled pixels' cross entropy. 0: they count in the search for latent labels only, for nets "
    "with a SoftmaxWithLoss of their own.",
)
LATENT_CLASSES = replace(
    CLASSES,
    doc="labelled: latent labels only of classes that the image's own labels name inside the region of interest, for "
    "scribbles that leave no class out. It is quicker, too.",
)

PARAMETERS = (
    RELAXATION,
    CROSS_ENTROPY,
    ETA,
    LAMBDA,
    STEPS,
    KERNEL,
    NEAREST,
    XY_STD,
    RGB_STD,
    CONTRAST,
    CONTRAST_SCALE,
    SPACE,
    BI_XY_STD,
    BI_RGB_STD,
    NORMALIZATION,
    LABELLED_WEIGHT,
    LATENT_CLASSES,
    IGNORE_LABEL,
)


@dataclass(frozen=True)
class JointTerms:
    """What the joint loss is the sum of, weights and normalisation included.

    Attributes
    ----------
    labelled : float
        The cross entropy of the given labels.
    latent : float
        The cross entropy of the latent labels.
    pairs : float
        What pairs of latent labels cost. It has no gradient.
    """

    labelled: float
    latent: float
    pairs: float

    @property
    def value(self) -> float:
        """The joint loss."""
        return self.labelled + self.latent + self.pairs


@documented(PARAMETERS)
def self_label_loss(
    images: ArrayLike,
    segmentations: ArrayLike,
    relaxation: str = RELAXATION.default,
    cross_entropy: str = CROSS_ENTROPY.default,
    eta: float = ETA.default,
    lambda_: float = LAMBDA.default,
    steps: int = STEPS.default,
    kernel: str = KERNEL.default,
    radius: int = NEAREST.default,
    xy_std: float = XY_STD.default,
    rgb_std: float = RGB_STD.default,
    contrast: str = CONTRAST.default,
    *,
    contrast_scale: float = CONTRAST_SCALE.default,
    space: str = SPACE.default,
    bi_xy_std: float = BI_XY_STD.default,
    bi_rgb_std: float = BI_RGB_STD.default,
    normalization: str = NORMALIZATION.default,
    labelled_weight: float = LABELLED_WEIGHT.default,
    classes: str = LATENT_CLASSES.default,
    labels: ArrayLike | None = None,
    roi: ArrayLike | None = None,
    ignore_label: int = IGNORE_LABEL.default,
    num_threads: int | None = None,
    work: Workspace | None = None,
    lattice: Callable[..., Any] = PermutohedralLattice,
    **prototxt: float,
) -> SelfLabelResult:
    """Value and gradient of soft self-labelling, and the latent labels that it finds.

    Parameters
    ----------
    images : array_like, shape (N, C, H, W)
        C >= 1 channels, mean-subtracted, as the network sees them, at the segmentations' size.
    segmentations : array_like, shape (N, K, H, W)
        Class probabilities, usually softmax outputs at the scores' own resolution. Not negative.
    {parameters}
    labels : array_like, shape (N, H, W) or (N, 1, H, W), optional
        Classes, or `ignore_label`: scribbles, say. Without them nothing is known but what the network says.
    roi : array_like, shape (N, H, W) or (N, 1, H, W), optional
        Region of interest, >= 0; default `region_of_interest` of the images. All ones takes every pixel.
    num_threads : int, optional
        Default `rloss_caffe.get_num_threads()`. The result does not depend on it.
    work : rloss_caffe.losses.Workspace, optional
        Memory that the caller keeps, so that it need not be fresh.
    lattice : callable, optional
        What filters for the dense kernel, as in `rloss_caffe.densecrf_loss`.
    lambda_ : float
        Python has the word ``lambda`` for itself; ``**{"lambda": 6}`` works as well.

    Returns
    -------
    SelfLabelResult
        ``value`` (float), ``gradient(scale=1.0, out=None)``, an array (N, K, H, W), ``latent``, the latent labels, and
        ``terms``. Unpacks as ``loss, gradient = self_label_loss(...)``.

    Raises
    ------
    ValueError
        Shapes, types or values do not fit; NaN or infinity in an image or a segmentation (the message says which of
        the batch).

    Notes
    -----
    The labels follow the network: start when it knows something, after a phase of cross entropy on the labels alone.
    An image outside whose region there is nothing has the value 0 and no gradient.
    """
    if "lambda" in prototxt:
        lambda_ = prototxt.pop("lambda")
    if prototxt:
        raise TypeError(f"self_label_loss() got an unexpected keyword argument {next(iter(prototxt))!r}")
    options = _Options(
        RELAXATION.checked(relaxation),
        CROSS_ENTROPY.checked(cross_entropy) == "forward",
        ETA.checked(eta),
        LAMBDA.checked(lambda_),
        STEPS.checked(steps),
        LABELLED_WEIGHT.checked(labelled_weight),
        NORMALIZATION.checked(normalization) == "VALID",
    )
    is_dense = KERNEL.checked(kernel) == "dense"
    radius, xy_std = NEAREST.checked(radius), XY_STD.checked(xy_std)
    rgb_std = RGB_STD.checked(rgb_std)
    contrast, space = CONTRAST.checked(contrast), SPACE.checked(space)
    contrast_scale = CONTRAST_SCALE.checked(contrast_scale)
    sharpness = contrast_scale if contrast == "image" else 1.0
    bi_xy_std, bi_rgb_std = BI_XY_STD.checked(bi_xy_std), BI_RGB_STD.checked(bi_rgb_std)
    ignore_label = IGNORE_LABEL.checked(ignore_label)
    images = real_array("images", images, ("batch", "channels", "height", "width"))
    batch, _, height, width = images.shape
    segmentations = real_array("segmentations", segmentations, (batch, "classes", height, width))
    shape = segmentations.shape
    only_labelled = takes_labelled(LATENT_CLASSES.checked(classes), labels)
    given = np.full((batch, height, width), -1, np.int32)
    if labels is not None:
        maps = label_array(labels, shape, ignore_label)
        given[maps != ignore_label] = maps[maps != ignore_label]
    rois = regions(roi, images)
    gradients = work.take(shape) if work is not None else allocate("the gradient", shape)
    latent = allocate("the latent labels", shape)

    def one(index: int, threads: int) -> JointTerms:
        image, region = images[index], rois[index]
        real_array("images", image, finite=True)
        probabilities = real_array("segmentations", segmentations[index], finite=True)
        least, largest = probabilities.min(), probabilities.max()
        if least < 0 or largest > _LARGEST:
            raise ValueError(
                f"segmentations must hold probabilities, from 0 to 1, found {least if least < 0 else largest:g}"
            )
        chosen: Any = slice(None)
        label_map = given[index]
        if only_labelled:
            rows = np.empty(len(probabilities), np.int64)
            chosen = choose_labelled(rows, label_map, region, -1)
            gradients[index], latent[index] = 0, 0
            if not len(chosen):
                return JointTerms(0.0, 0.0, 0.0)
            label_map = np.where(label_map < 0, -1, rows[label_map])
        scene = _Scene(probabilities[chosen], label_map, region, options)
        if is_dense:
            pairs = scene.infer(image_lattice(lattice, image, bi_xy_std, bi_rgb_std, threads))
        else:
            window = PairWindow(image, radius, xy_std, rgb_std, contrast, space, region, threads)
            pairs = scene.descend(Pairs(image, region, window, sharpness))
        latent[index, chosen] = scene.labels.transpose(1, 0, 2)
        slopes, terms = scene.finish(pairs, batch)
        gradients[index, chosen] = slopes
        if not (math.isfinite(terms.value) and np.isfinite(gradients[index]).all()):
            raise ValueError(_TOO_LARGE)
        return terms

    terms = for_each_image(one, batch, num_threads)
    sums = JointTerms(*(sum(getattr(each, name) for each in terms) for name in ("labelled", "latent", "pairs")))
    return SelfLabelResult(sums, latent, gradients, work)


@dataclass(frozen=True)
class _Options:
    """The function's, checked."""

    relaxation: str
    forward: bool
    eta: float
    strength: float
    steps: int
    labelled_weight: float
    per_pixel: bool


class _Scene:
    """One image on its way to latent labels.

    Parameters
    ----------
    probabilities : ndarray, shape (K, H, W)
    given : ndarray, shape (H, W), int32
        Classes, -1 where there is no label.
    region : ndarray, shape (H, W)
    options : _Options

    Attributes
    ----------
    labels : ndarray, shape (H, K, W), float32
        The latent labels; at first the probabilities, and the labels that are given.
    """

    def __init__(self, probabilities, given, region, options):
        self.probabilities = np.ascontiguousarray(probabilities.transpose(1, 0, 2))
        self.given, self.region, self.options = given, region, options
        self.is_given = given >= 0
        self.share = np.where(self.is_given, np.float32(0), region)
        sums = self.probabilities.sum(axis=1, keepdims=True)
        equal = np.full_like(self.probabilities, 1 / len(probabilities))  # where there are no probabilities at all
        self.labels = np.divide(self.probabilities, sums, out=equal, where=sums > FLOOR)
        classes = np.arange(probabilities.shape[0])[:, np.newaxis]
        np.copyto(self.labels, given[:, np.newaxis] == classes, where=self.is_given[:, np.newaxis])

    def descend(self, pairs):
        """Find the labels by descent; return what the pairs cost."""
        if not np.isfinite(pairs.weights).all():
            raise ValueError(_TOO_LARGE)
        pairs.leave_out(self.is_given)
        own = self.options
        cost = own.relaxation, own.forward, own.eta, own.strength
        descend(self.labels, self.probabilities, self.share, pairs, *cost, own.steps)
        return energy(self.labels, self.probabilities, self.share, pairs, *cost)[1]

    def infer(self, lattice):
        """Find the labels by mean-field inference; return what the kernel costs."""
        own = self.options
        degree = lattice.filter(np.ones((1, *self.region.shape), np.float32), roi=self.region)[0]
        inverse = np.where(degree > FLOOR, 1 / np.maximum(degree, FLOOR), 0)
        unary = np.log(self.probabilities.transpose(1, 0, 2) + FLOOR)
        labels = np.ascontiguousarray(self.labels.transpose(1, 0, 2))
        free = (self.share > 0)[np.newaxis]
        for step in range(own.steps + 1):
            messages = lattice.filter(labels, roi=self.region) * inverse
            if step == own.steps:
                break
            messages *= np.float32(own.strength / own.eta)
            messages += unary
            messages -= messages.max(axis=0)
            np.exp(messages, out=messages)
            messages /= messages.sum(axis=0)
            np.copyto(labels, messages, where=free)
        self.labels = np.ascontiguousarray(labels.transpose(1, 0, 2))
        agreement = (labels * messages).sum(axis=0, dtype=float)
        return 0.5 * own.strength * float((self.region * (1 - agreement)).sum())

    def finish(self, pairs, batch):
        """The gradient (K, H, W), and the terms of the image's share of the loss."""
        own = self.options
        amount = float(self.region.sum(dtype=float)) if own.per_pixel else 1.0
        if not amount > 0:
            return 0.0, JointTerms(0.0, 0.0, 0.0)
        scale = 1.0 / (amount * batch)
        one = self.probabilities.astype(float)
        labels = self.labels.astype(float)
        floor = float(FLOOR)
        weights = np.where(self.is_given, own.labelled_weight, own.eta) * self.region * scale
        if own.forward:
            costs = -(labels * np.log(one + floor)).sum(axis=1)
            slopes = labels / (one + floor)
        else:
            agreement = (labels * one).sum(axis=1) + floor
            costs = -np.log(agreement)
            slopes = labels / agreement[:, np.newaxis]
        slopes *= -weights[:, np.newaxis]
        costs *= weights
        terms = JointTerms(float(costs[self.is_given].sum()), float(costs[~self.is_given].sum()), float(pairs * scale))
        return slopes.transpose(1, 0, 2), terms


class SelfLabelResult(Result):
    """The joint loss's value, its gradient on demand, and the latent labels.

    Attributes
    ----------
    value : float
        The loss.
    terms : JointTerms
        Its parts.
    latent : ndarray, shape (N, K, H, W), float32
        The latent labels: in every pixel they sum to 1. Where a label is given they are that label; outside the region
        they are the segmentations. Of the labelled classes alone, they are 0 for all others, and 0 throughout where an
        image has no labels.
    """

    def __init__(self, terms, latent, gradients, workspace):
        super().__init__(terms.value, latent.shape, {"the latent labels": latent, "the gradient": gradients})
        self.terms, self.latent = terms, latent
        self._gradients = gradients
        self._workspace, self._use = workspace, workspace.uses if workspace else 0

    def _write_gradient(self, scale: float, out: NDArray[np.float32]) -> None:
        if self._workspace and self._workspace.uses != self._use:
            raise ValueError("a later call took this result's workspace: ask for the gradient before that call")
        with np.errstate(over="ignore"):
            np.multiply(self._gradients, np.float32(scale), out=out)
