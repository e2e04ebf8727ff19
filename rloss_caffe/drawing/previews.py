"""What the page shows beside the strokes: `segment_from_scribbles`, coarse and then full, and only the newest wish."""

import collections
import math
import threading
from dataclasses import dataclass, field
from typing import Any, Dict, Tuple

import numpy as np

from rloss_caffe.drawing.segment import (
    DEFAULT_OPTIONS,
    DEFAULT_PUSH,
    MOST_PIXELS,
    PreparedImage,
    segment_from_scribbles,
)
from rloss_caffe.losses import LOSSES
from rloss_caffe.numerics.parameters import parameters_of

__all__ = ["CHOICES", "Choice", "Previews", "Slider", "Superseded", "coarse_scale", "described", "quantized"]

# From strokes alone, any push above 0 gives nearly the same until strokes are overruled. On four photographs of the
# study, against 0.6: 0.1 changes 0.05 to 0.6 % of the pixels, 3 less than 0.2 %, and neither a stroke's pixel; 100
# overrules up to 2.3 % of these, 1000 hardly more; local Potts and self-labelling overrule none. 0 changes 3 to 14 %.
SMALLEST_PUSH, LARGEST_PUSH = 0.1, 100.0  # of the slider; besides there is 0
COARSE = 0.25  # the first answer's scale, as a share of the second one's
_KEPT = 6  # results, of all stages
_KEPT_SCORES = 2  # of a net: they take the classes times the photograph's pixels times 4 bytes


class Superseded(Exception):
    """A newer wish of the same page has come."""


@dataclass(frozen=True)
class Slider:
    """A parameter of a loss that the page has a slider for, from `low` to `high`, on a logarithmic scale."""

    name: str
    label: str
    low: float
    high: float


_SPACE = Slider("bi_xy_std", "Spatial bandwidth", 2, 200)
_COLOUR = Slider("bi_rgb_std", "Colour bandwidth", 2, 100)
_RADIUS = Slider("radius", "Radius", 1, 8)


@dataclass(frozen=True)
class Choice:
    """A loss with settings, under the name that people choose it by."""

    label: str
    loss: str
    sliders: Tuple[Slider, ...]
    options: Dict[str, Any] = field(default_factory=dict)


CHOICES = {
    "densecrf": Choice("Dense CRF", "densecrf", (_SPACE, _COLOUR)),
    "symmetric": Choice("Dense CRF, symmetric", "densecrf", (_SPACE, _COLOUR), {"kernel_normalization": "symmetric"}),
    "normalized_cut": Choice("Normalised cut", "normalized_cut", (_SPACE, _COLOUR)),
    "kernel_cut": Choice("Kernel cut", "kernel_cut", (_SPACE, _COLOUR)),
    "local_potts": Choice("Local Potts", "local_potts", (_RADIUS,)),
    "self_label": Choice("Self-labelling", "self_label", (_RADIUS,)),
}


def described():
    """The choices as the page wants them: {name: {label, sliders}}, with defaults and meanings."""
    found = {}
    for name, choice in CHOICES.items():
        declared = {each.name: each for each in parameters_of(LOSSES[choice.loss])}
        sliders = []
        for slider in choice.sliders:
            parameter = declared[slider.name]
            default = DEFAULT_OPTIONS[choice.loss].get(slider.name, parameter.default)
            sliders.append({
                "name": slider.name, "label": slider.label, "low": slider.low, "high": slider.high,
                "default": default, "whole": parameter.kind == "int", "meaning": parameter.doc,
            })  # fmt: skip
        found[name] = {"label": choice.label, "sliders": sliders}
    return {"choices": found, "push": {"default": DEFAULT_PUSH, "low": SMALLEST_PUSH, "high": LARGEST_PUSH}}


class Previews:
    """Computes one preview at a time; of each page the newest wish alone.

    Parameters
    ----------
    num_classes : int
    net : callable, optional
        From a photograph (H, W, 3), RGB, to its scores (K, H, W), float32.
    """

    def __init__(self, num_classes, net=None):
        self.num_classes, self.has_net = num_classes, net is not None
        self._net = net
        self._engine = threading.Lock()
        self._newest = collections.OrderedDict()  # page: number of its newest wish
        self._results, self._scores = collections.OrderedDict(), collections.OrderedDict()
        self._prepared = (None, None)

    def result(self, page, key, pixels, labels, choice, options, push, from_net, stage):
        """What `segment_from_scribbles` makes of the strokes.

        Parameters
        ----------
        page : str
            Who wishes.
        key : tuple
            Of the photograph and of its labels: two with the same key are the same; the first item is the photograph's.
        pixels, labels : arrays
            As `segment_from_scribbles` takes them.
        choice : str
            Of `CHOICES`.
        options : dict
            Of the choice's sliders.
        push : float
        from_net : bool
            Whether the scores begin at the net's.
        stage : {"start", "coarse", "full"}
            Before the first step; at a quarter of the scale that the function chooses; at that scale, from the coarse
            result on.

        Returns
        -------
        Segmentation

        Raises
        ------
        Superseded
            The page wished something else before this was computed.
        ValueError
            As of `segment_from_scribbles`.
        """
        newest = self._newest.get(page, 0) + 1
        self._newest[page] = newest
        self._newest.move_to_end(page)
        while len(self._newest) > 100:
            self._newest.popitem(last=False)

        def go_on(*_):
            if self._newest.get(page) != newest:
                raise Superseded

        with self._engine:
            go_on()
            made_of = (*key, choice, tuple(sorted(options.items())), push, from_net)
            if self._prepared[0] != key[0]:
                self._prepared = (key[0], PreparedImage(pixels))
            scores = self._of_net(key[0], pixels, labels) if from_net else None
            settings = {
                "num_classes": self.num_classes, "loss": CHOICES[choice].loss, "push": push, "progress": go_on,
                "classes": "all" if from_net else "labelled",
                "options": {**CHOICES[choice].options, **options},
            }  # fmt: skip

            def kept(stage, start, **more):
                if (made_of, stage) not in self._results:
                    found = segment_from_scribbles(self._prepared[1], labels, scores=start, **settings, **more)
                    self._results[made_of, stage] = found
                    while len(self._results) > _KEPT:
                        self._results.popitem(last=False)
                return self._results[made_of, stage]

            if stage == "start":
                return kept("start", scores, steps=0)
            coarse = kept("coarse", scores, scale=coarse_scale(labels.shape))
            return kept("full", coarse) if stage == "full" else coarse

    def warm(self):
        """Compile what the first choice needs, which takes a minute once, before anybody waits for it."""
        labels = np.full((16, 16), 255, np.uint8)
        labels[2:4, 2:14], labels[12:14, 2:14] = 0, self.num_classes - 1
        pixels = np.random.RandomState(0).randint(0, 256, (16, 16, 3)).astype(np.uint8)
        with self._engine:
            segment_from_scribbles(pixels, labels, self.num_classes, steps=1)

    def end(self):
        """End what is being computed; nobody waits for it any more."""
        self._newest.clear()

    def _of_net(self, photo, pixels, labels):
        if photo not in self._scores:
            self._scores[photo] = self._net(pixels)
            while len(self._scores) > _KEPT_SCORES:
                self._scores.popitem(last=False)
        return self._scores[photo]


def coarse_scale(size):
    """The first answer's scale for a photograph of (H, W) pixels, with which it comes within half a second."""
    return COARSE / max(1, math.ceil(math.sqrt(size[0] * size[1] / MOST_PIXELS)))


def quantized(gradient):
    """A gradient (H, W) in 127ths of a size that one of a hundred of its pixels has; larger ones are cut.

    Returns
    -------
    array (H, W), int8
    float
        The largest size in the gradient itself.
    """
    sizes = np.abs(gradient)
    reached = sizes[sizes > 0]
    if not reached.size:
        return np.zeros(gradient.shape, np.int8), 0.0
    unit = float(np.percentile(reached, 99)) / 127
    return np.rint(np.clip(gradient / unit, -127, 127)).astype(np.int8), float(sizes.max())
