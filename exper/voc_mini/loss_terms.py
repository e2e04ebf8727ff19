"""Losses that are written on the command line: one, or a sum, each with its parameters, and its weight or its push.

    densecrf
    densecrf: {bi_xy_std: 30, bi_rgb_std: 15}
    local_potts: {radius: 1, push: 0.3} + densecrf: {bi_xy_std: 30, bi_rgb_std: 15, weight: 3e-8}

A name is one of `rloss_caffe.losses.LOSSES`; the parameters are its function's, read as those of its layer. Three more
are known of each:

    weight  the loss is multiplied by it
    push    instead of a weight: the loss's gradient on the scores, summed over its absolute values, beside that of the
            cross entropy, before the first step
    shrink  the loss sees every so many-th row and column of the image, and the scores at that size, as behind an Interp
            layer with this shrink_factor
"""

import inspect
import re
from dataclasses import dataclass, field

import numpy as np
from scipy.special import softmax

from rloss_caffe.drawing.segment import KeptLattice
from rloss_caffe.layers.param_str import Parameter, read_parameters
from rloss_caffe.losses import LOSSES, Workspace
from rloss_caffe.losses.gradients import score_gradient, takes_images
from rloss_caffe.numerics.interpolation import interpolate, interpolate_adjoint
from rloss_caffe.numerics.parameters import parameters_of

__all__ = ["Term", "add_losses", "kernel_text", "losses_of", "read_terms"]

MORE = (
    Parameter("weight", "float", above=0, doc="The loss is multiplied by it."),
    Parameter("push", "float", above=0, doc="Instead of a weight: how hard it pushes beside the cross entropy."),
    Parameter("shrink", "int", 1, minimum=1, doc="The loss sees every so many-th row and column."),
)


def add_losses(parser):
    """--loss TERM + TERM ..., which may be given several times."""
    parser.add_argument(
        "--loss",
        action="append",
        default=[],
        metavar="TERMS",
        help="such as 'densecrf: {bi_xy_std: 30, bi_rgb_std: 15}'; may be given several times; see loss_terms.py",
    )


def losses_of(arguments, kernels):
    """The texts of all --loss, and of --kernel; of `kernels` where neither is given."""
    kernels = arguments.kernel or ([] if arguments.loss else kernels)
    return [*arguments.loss, *(kernel_text(*kernel) for kernel in kernels)]


def kernel_text(xy_std, rgb_std):
    """The DenseCRF loss with these bandwidths."""
    return f"densecrf: {{bi_xy_std: {xy_std:g}, bi_rgb_std: {rgb_std:g}}}"


def read_terms(text):
    """The terms of a sum; ValueError says what cannot be read."""
    return [_read_term(part) for part in re.split(r"\s\+\s", text.strip())]


def _read_term(text):
    name, _, options = (part.strip() for part in text.partition(":"))
    if name not in LOSSES:
        raise ValueError(f"a loss must be one of {', '.join(LOSSES)}, found {name!r} in {text!r}")
    given = read_parameters(options, (*parameters_of(LOSSES[name]), *MORE), name)
    if {"weight", "push"} <= given.given:
        raise ValueError(f"{name}: weight and push are two ways to say the same, found both in {text!r}")
    own = {each: getattr(given, each) for each in given.given - {each.name for each in MORE}}
    return Term(name, own, given.weight, given.push, given.shrink)


@dataclass
class Term:
    """A loss of a sum. Its weight is None until it is known."""

    name: str
    options: dict = field(default_factory=dict)  # what is not a default
    weight: float = None
    push: float = None
    shrink: int = 1

    def option(self, name):
        """As it is given, or its default."""
        return self.options.get(
            name, next(each.default for each in parameters_of(LOSSES[self.name]) if each.name == name)
        )

    def __post_init__(self):
        self._known = {"work": Workspace(), "lattice": KeptLattice()}

    def result(self, image, probabilities, labels=None):
        """Of one image (C, H, W) with its probabilities (K, H, W); labels (H, W) go to losses that take some."""
        function = LOSSES[self.name]
        taken = inspect.signature(function).parameters
        more = {name: value for name, value in self._known.items() if name in taken}
        if labels is not None and "labels" in taken:
            more["labels"] = labels[None]
        images = [image[None]] if takes_images(self.name) else []
        return function(*images, probabilities[None], **self.options, **more)

    def value(self, image, probabilities, labels=None):
        """For a weight of 1."""
        return self.result(*self._shrunk(image, probabilities, labels)).value

    def score_result(self, image, scores, labels=None):
        """Of scores (K, h, w), which are blown up to the image's size and made probabilities as in a network."""
        image, labels = self._shrunk(image, labels)
        return self.result(image, _blown_up(scores, image), labels)

    def score_gradient(self, image, scores, labels=None):
        """For a weight of 1, with respect to scores (K, h, w) as above."""
        image, labels = self._shrunk(image, labels)
        probabilities = _blown_up(scores, image)
        gradient = self.result(image, probabilities, labels).gradient()[0]
        return interpolate_adjoint(score_gradient(probabilities, gradient)[None], scores.shape[1:])[0]

    def _shrunk(self, *maps):
        step = slice(None, None, self.shrink)
        return [None if each is None else np.ascontiguousarray(each[..., step, step]) for each in maps]


def _blown_up(scores, image):
    return softmax(interpolate(scores[None], image.shape[1:])[0], axis=0)
