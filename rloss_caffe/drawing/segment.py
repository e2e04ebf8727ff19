"""What the cross entropy on strokes plus a loss makes of one image, without a network and without training.

Every pixel has free scores. Their softmax p goes down

    - (1/n) sum_labelled ln p_i[c_i]  +  weight * loss(image, p)

with n labelled pixels of classes c. So this is the objective of a training with that loss, whose network can say
anything of any pixel. The steps are Adam's, as in the trainings; `exper/voc_mini/bandwidths.py` asks with the same
descent what losses want of a whole data set.

**Start.** The losses have many minima, and from equal scores everywhere a descent finds poor ones: normalised cut then
floods the image. So the scores start at what one bilateral filter makes of the strokes, `START`: the logarithm of how
many labelled pixels of a class are near and alike, beside the other classes, and at most `SURE`.

**Push.** Weights of losses cannot be compared: 1e-8 is strong for one, 100 weak for another. So the weight is found
from a `push`, which means the same for all of them: how hard the loss pulls on the scores, sum |dloss/ds| over all
pixels and classes, beside the cross entropy at equal scores, 2 (1 - 1/K). It is measured where each pixel has the class
of the nearest stroke, with a score `SURE` above the others. This does not change with the size of the image, and little
with a stroke more or less. From strokes alone the push decides little, since where there is no stroke nothing pulls
against the loss: it decides where the loss may overrule a stroke.
"""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Callable, Mapping

import numpy as np

from rloss_caffe.data.samples import MEAN_BGR
from rloss_caffe.drawing._distance import nearest_labels
from rloss_caffe.drawing.descent import descend, softmax
from rloss_caffe.filtering import PermutohedralLattice, bilateral_features
from rloss_caffe.losses import LOSSES, Workspace
from rloss_caffe.losses.gradients import find_loss, push, score_gradient, takes_images
from rloss_caffe.numerics.arrays import allocate, finite_number, real_array, shown, whole_number
from rloss_caffe.numerics.interpolation import interpolate
from rloss_caffe.numerics.parameters import parameters_of
from rloss_caffe.numerics.threads import resolve_num_threads

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["DEFAULT_OPTIONS", "DEFAULT_PUSH", "PreparedImage", "Segmentation", "segment_from_scribbles"]

DEFAULT_OPTIONS: dict[str, dict[str, Any]] = {
    "densecrf": {"bi_xy_std": 30.0, "bi_rgb_std": 15.0},
    "kernel_cut": {"bi_xy_std": 30.0, "bi_rgb_std": 15.0, "normalization": "AFFINITY"},
    "local_potts": {
        "radius": 1,
        "contrast": "image",
        "space": "inverse_distance",
        "relaxation": "absolute",
        "normalization": "WEIGHTS",
    },
    "normalized_cut": {"bi_xy_std": 30.0, "bi_rgb_std": 15.0},
    "self_label": {"contrast": "image", "labelled_weight": 0.0, "steps": 20},
    "size_constraint": {"normalization": "FRACTION"},
}
DEFAULT_PUSH = 0.6  # times the cross entropy
RATE = 0.2
STEPS, MORE_STEPS = 50, 20  # from the start, and from an earlier result
# Of these steps each has steps of its own. On 24 photographs of the study the label map differs in 0.8 % of the pixels
# from that of 50 and 20, with as good a mean IoU (68.7 against 68.5), in a quarter of the time.
LATENT_STEPS, MORE_LATENT_STEPS = 25, 3
START = {"bi_xy_std": 0.19, "bi_rgb_std": 8.0}  # the former as a share of the longer side
SURE = 2.0  # of the scores before the first step: from -SURE to SURE
ABSENT = -10.0  # the score of a class that takes no part, for those who want scores of all
MOST_PIXELS = 2**20  # at which the descent is computed, unless a scale says more
_IN_PIXELS = ("bi_xy_std", "xy_std", "radius")  # what shrinks with the image


@dataclass(frozen=True)
class Segmentation:
    """What `segment_from_scribbles` has found.

    Attributes
    ----------
    labels : ndarray, shape (H, W), uint8
        The most probable class of each pixel; the first one among equals.
    classes : tuple of int
        Those that took part. The others have the probability 0.
    num_classes : int
        K.
    value, cross_entropy, loss : float
        What was minimised, and its parts: ``value = cross_entropy + weight * loss``. Of the last scores, at the
        resolution of the descent.
    weight : float
        Of the loss.
    push : float
        What the weight amounts to; see the module.
    steps : int
        How many were taken.
    finished : bool
        False where `progress` ended the descent.
    scale : float
        The resolution of the descent, as a share of the image's.
    """

    labels: NDArray[np.uint8]
    classes: tuple[int, ...]
    num_classes: int
    value: float
    cross_entropy: float
    loss: float
    weight: float
    push: float
    steps: int
    finished: bool
    scale: float
    _grid: _Grid = field(repr=False)
    _scores: NDArray[np.float32] = field(repr=False)  # at the grid, of the classes that took part
    _gradient: NDArray[np.float32] = field(repr=False)

    @property
    def probabilities(self) -> NDArray[np.float32]:
        """Of all classes, shape (K, H, W), float32; they add up to 1. Made anew at each call."""
        return self._of_all_classes(softmax(self._grid.blow_up(self._scores)), 0.0)

    @property
    def scores(self) -> NDArray[np.float32]:
        """Before the softmax, shape (K, H, W), float32; far below the others for a class that took no part."""
        return self._of_all_classes(self._grid.blow_up(self._scores), float(self._scores.min()) + ABSENT)

    @property
    def gradient(self) -> NDArray[np.float32]:
        """Of the loss with respect to the scores, times the weight, shape (K, H, W), float32.

        Of one pixel of the descent: with a scale below 1, a pixel there stands for many of the image.
        """
        return self._of_all_classes(self._grid.blow_up(self._gradient), 0.0)

    def gradient_of(self, label: int) -> NDArray[np.float32]:
        """The plane (H, W) of `gradient` that one class has: of a large image, all would take gigabytes."""
        if label not in self.classes:
            return np.zeros(self.labels.shape, np.float32)
        plane: NDArray[np.float32] = self._grid.blow_up(self._gradient[self.classes.index(label)][np.newaxis])[0]
        return plane

    def _of_all_classes(self, values, others):
        result = allocate("the result", (self.num_classes, *values.shape[1:]))
        result[...] = others
        result[list(self.classes)] = values
        return result


class PreparedImage:
    """A photograph with what does not change from call to call: its reductions and their lattices.

    Handed to `segment_from_scribbles` in the photograph's place, it makes each call after the first one quicker. One
    thread at a time may use it.

    Parameters
    ----------
    image : ndarray, shape (H, W, 3), (H, W, 1) or (H, W), uint8
        RGB or grey, as stored.

    Raises
    ------
    ValueError
        It is no such array.
    """

    def __init__(self, image: ArrayLike) -> None:
        self.pixels = _image_array(image)
        self.size = self.pixels.shape[:2]
        self._blobs: dict[int, NDArray[np.float32]] = {}
        self._known: dict[int, dict[str, Any]] = {}
        self._start = KeptLattice()

    def blob(self, grid: _Grid) -> NDArray[np.float32]:
        """BGR minus the mean, (3, h, w), as networks see it; each pixel the mean of those that it stands for."""
        if grid.factor not in self._blobs:
            planes = [grid.reduce(self.pixels[:, :, channel]) for channel in range(self.pixels.shape[2])[::-1]]
            planes = planes if len(planes) == 3 else planes * 3
            self._blobs[grid.factor] = np.stack(planes) - np.array(MEAN_BGR, np.float32)[:, np.newaxis, np.newaxis]
        return self._blobs[grid.factor]

    def known(self, grid: _Grid) -> dict[str, Any]:
        """Arguments of losses that are kept from call to call."""
        return self._known.setdefault(grid.factor, {"work": Workspace(), "lattice": KeptLattice()})

    def spread(self, lines: NDArray[np.int32], count: int, grid: _Grid, num_threads: int) -> NDArray[np.float32]:
        """The scores (K, h, w) that strokes start with: of each class how much of it is near and alike."""
        features = bilateral_features(self.blob(grid), START["bi_xy_std"] * max(grid.shape), START["bi_rgb_std"])
        strokes = (np.arange(count)[:, np.newaxis, np.newaxis] == lines).astype(np.float32)
        near = np.maximum(self._start(features, num_threads).filter(strokes), 0)
        scores = np.log(near + np.float32(1e-4 * near.max() + 1e-20))
        scores -= scores.mean(axis=0)
        return np.clip(scores, -SURE, SURE, out=scores)


class KeptLattice:
    """The lattice of the features that were asked for last: most of the time of a step on the same image."""

    def __init__(self) -> None:
        self._features: Any = None
        self._lattice: Any = None

    def __call__(self, features: NDArray[np.float32], num_threads: int) -> PermutohedralLattice:
        if self._features is None or not np.array_equal(features, self._features):
            self._features, self._lattice = features.copy(), PermutohedralLattice(features, num_threads)
        return self._lattice


def segment_from_scribbles(
    image: ArrayLike | PreparedImage,
    labels: ArrayLike,
    num_classes: int | None = None,
    loss: str | Callable[..., Any] = "densecrf",
    options: Mapping[str, Any] | None = None,
    weight: float | None = None,
    ignore_label: int = 255,
    scores: ArrayLike | Segmentation | None = None,
    steps: int | None = None,
    scale: float | None = None,
    num_threads: int | None = None,
    progress: Callable[[int, int], Any] | None = None,
    *,
    push: float | None = None,
    classes: str | None = None,
) -> Segmentation:
    """Segment an image from a few labelled pixels: minimise their cross entropy plus a loss over free scores.

    For a preview that is there at once, call it twice: with ``scale=0.25``, and then with that result as `scores`.

    Parameters
    ----------
    image : array_like, shape (H, W, 3), (H, W, 1) or (H, W), uint8, or PreparedImage
        RGB or grey, 0 to 255, as stored.
    labels : array_like, shape (H, W)
        Strokes: classes from 0, and `ignore_label` where nothing is said.
    num_classes : int, optional
        K, from 1 to 255. Default: as many as `scores` has, else one more than the largest label.
    loss : str or callable
        A name of `rloss_caffe.losses.LOSSES`, as ``"densecrf"``, or the function.
    options : mapping, optional
        Parameters of the loss, bandwidths in pixels of the image. What is missing has the value of
        `DEFAULT_OPTIONS`, else the loss's own default.
    weight : float, optional
        The loss is multiplied by it, at the resolution of the descent. Default: what gives the `push`.
    ignore_label : int
    scores : array_like, shape (K, H, W), or Segmentation, optional
        Where the descent begins: scores before the softmax, or logarithms of probabilities, of a network; or an
        earlier result for this image. Default: what a bilateral filter makes of the strokes. Zeros: blank scores.
    steps : int, optional
        Of the descent. Default 50, or 20 where `scores` are an earlier result; of self-labelling 25 and 3.
    scale : float, optional
        The resolution of the descent, as a share of the image's, above 0, at most 1; the nearest 1/n, n whole, is
        taken. Default: 1, or what leaves at most a million pixels.
    num_threads : int, optional
        Default `rloss_caffe.get_num_threads()`.
    progress : callable, optional
        Called as ``progress(done, steps)`` after each step. Where it returns False, the rest is left out, and what was
        reached is returned, with `finished` False. An exception in it ends the call.
    push : float, optional
        Instead of a weight: how hard the loss pushes beside the cross entropy, >= 0; see the module. Default 0.6.
    classes : {"labelled", "all"}, optional
        Which classes an unlabelled pixel may have: those of the strokes, or all. Default: labelled, or all where
        `scores` are an array.

    Returns
    -------
    Segmentation

    Raises
    ------
    ValueError
        There is no stroke and there are no scores; shapes, types, values or options do not fit; there is no such
        loss; something is not finite.

    Notes
    -----
    Strokes are not put into the result: where it differs from them, the loss was stronger than they were.

    Examples
    --------
    >>> import numpy as np
    >>> from rloss_caffe import segment_from_scribbles
    >>> image = np.zeros((8, 12, 3), np.uint8)
    >>> image[:, 6:] = 200
    >>> labels = np.full((8, 12), 255)
    >>> labels[4, 1], labels[4, 10] = 0, 1
    >>> found = segment_from_scribbles(image, labels)
    >>> found.labels[0]
    array([0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1], dtype=uint8)
    """
    prepared = image if isinstance(image, PreparedImage) else PreparedImage(image)
    ignore_label = whole_number("ignore_label", ignore_label)
    threads = resolve_num_threads(num_threads)
    number, given = _number_of_classes(num_classes, labels, scores, prepared.size, ignore_label)
    lines, present = _label_map(labels, prepared.size, number, ignore_label)
    chosen = _classes(classes, present, number, isinstance(given, np.ndarray), given is not None)
    grid = _Grid(prepared.size, _factor(scale, prepared.size))
    lines = grid.reduce_labels(lines, chosen)
    term = _Term(find_loss(loss), options, chosen, number, prepared, grid, lines, threads)
    steps = term.usual_steps(isinstance(scores, Segmentation)) if steps is None else steps
    steps = whole_number("steps", steps, 0, 100_000)
    if weight is not None and push is not None:
        raise ValueError("weight and push are two ways to say the same: give one of them")
    current = prepared.spread(lines, len(chosen), grid, threads) if given is None else _start(given, chosen, grid)
    weight, push = term.weigh(weight, push, current)

    def add_gradient(scores: NDArray[np.float32], gradient: NDArray[np.float32]) -> None:
        if weight:
            gradient += np.float32(weight) * term.score_gradient(scores)[1]
        if not np.abs(gradient).max() < _LARGEST:
            raise ValueError("weight or push must not be so large that the gradient exceeds single precision")

    done = 0
    for found in descend(current, lines, add_gradient, steps, RATE, _NOTHING):
        current, done = found, done + 1
        if progress is not None and progress(done, steps) is False:
            break
    value, gradient = term.score_gradient(current)
    cross_entropy = _cross_entropy(current, lines)
    return Segmentation(
        grid.label_map(current, chosen), tuple(map(int, chosen)), number, cross_entropy + weight * value,
        cross_entropy, value, weight, push, done, done == steps, 1 / grid.factor, grid, current,
        np.float32(weight) * gradient,
    )  # fmt: skip


_NOTHING = -1  # in label maps of the classes that take part


class _Term:
    """The loss of the classes that take part, on the grid."""

    def __init__(self, function, options, chosen, number, prepared, grid, lines, threads):
        name = function.__name__[: -len("_loss")]
        known = {each.name: each for each in parameters_of(function)}
        values = {**DEFAULT_OPTIONS.get(name, {}), **(options or {})}
        for option in values:
            if option not in known:
                raise ValueError(f"{function.__name__} has no parameter {option!r:.80}; it has {', '.join(known)}")
        values = {option: known[option].checked(value) for option, value in values.items()}
        for option in _IN_PIXELS:
            if option in known and grid.factor > 1:
                value = values.get(option, known[option].default) / grid.factor
                values[option] = max(1, round(value)) if known[option].kind == "int" else value
        for option, value in values.items():
            if known[option].repeated and np.ndim(value) and len(value) == number:
                values[option] = [value[k] for k in chosen]
        if "lambda" in values:
            values["lambda_"] = values.pop("lambda")
        taken = inspect.signature(function).parameters
        more = {key: value for key, value in prepared.known(grid).items() if key in taken}
        if "labels" in taken:
            more["labels"] = lines[np.newaxis]
            values["ignore_label"] = _NOTHING
        if "roi" in taken:
            more["roi"] = np.ones((1, *grid.shape), np.float32)
        self._images = [prepared.blob(grid)[np.newaxis]] if takes_images(function) else []
        self._function, self._arguments = function, {**values, **more, "num_threads": threads}
        self._lines, self._count = lines, len(chosen)

    def usual_steps(self, has_result):
        """Of a descent from the start, or from an earlier result."""
        if self._function is LOSSES["self_label"]:
            return MORE_LATENT_STEPS if has_result else LATENT_STEPS
        return MORE_STEPS if has_result else STEPS

    def score_gradient(self, scores):
        """The value and the gradient with respect to the scores, for a weight of 1."""
        probabilities = softmax(scores)
        result = self._function(*self._images, probabilities[np.newaxis], **self._arguments)
        return result.value, score_gradient(probabilities, result.gradient()[0])

    def weigh(self, weight, wanted, scores):
        """The weight and the push, from one of them or from neither."""
        if weight is not None:
            weight = float(finite_number("weight", weight))
        elif wanted is not None:
            wanted = float(finite_number("push", wanted))
        for name, value in (("weight", weight), ("push", wanted)):
            if value is not None and value < 0:
                raise ValueError(f"{name} must be at least 0, found {value:g}")
        wanted = DEFAULT_PUSH if wanted is None else wanted
        if self._count < 2:  # nothing competes
            return (0.0, 0.0) if weight is None else (weight, 0.0)
        if (self._lines != _NOTHING).any():
            nearest = nearest_labels(self._lines, _NOTHING)
            scores = SURE * (np.arange(self._count)[:, np.newaxis, np.newaxis] == nearest)
        found = push(self.score_gradient(scores.astype(np.float32))[1]) / (2 * (1 - 1 / self._count))
        if weight is not None:
            return weight, weight * found
        return (wanted / found, wanted) if found > _SMALLEST else (0.0, 0.0)


_SMALLEST = 1e-30  # push: a loss that pushes less does not push
_LARGEST = 1e18  # gradient: it is squared


class _Grid:
    """Every n-th row and column of an image: where scores stand. Each stands for the n x n pixels around it."""

    def __init__(self, size, factor):
        self.size, self.factor = size, factor
        self.shape = tuple(1 + (length - 1) // factor for length in size)

    def reduce(self, plane):
        """The means of a plane (H, W) over what the pixels stand for, (h, w) float32."""
        n, (h, w) = self.factor, self.shape
        if n == 1:
            return plane.astype(np.float32)
        before = n // 2
        after = [max(0, count * n - before - length) for count, length in zip(self.shape, self.size)]
        padded = np.pad(plane, [(before, after[0]), (before, after[1])], mode="edge")[: h * n, : w * n]
        rows = padded.reshape(h, n, w * n).sum(axis=1, dtype=np.uint32)
        return (rows.reshape(h, w, n).sum(axis=2) / np.float32(n * n)).astype(np.float32)

    def reduce_labels(self, labels, chosen):
        """The label map of the grid with the places of the classes in `chosen`: what most of a pixel's strokes say."""
        h, w = self.shape
        rows, columns = np.nonzero(labels >= 0)
        places = np.zeros(chosen.max() + 1, np.int32)
        places[chosen] = np.arange(len(chosen))
        values = places[labels[rows, columns]]
        if self.factor == 1:
            result = np.full((h, w), _NOTHING, np.int32)
            result[rows, columns] = values
            return result
        cells = [
            np.minimum((each + self.factor // 2) // self.factor, most - 1) for each, most in ((rows, h), (columns, w))
        ]
        counts = np.bincount((values * h + cells[0]) * w + cells[1], minlength=len(chosen) * h * w)
        counts = counts.reshape(len(chosen), h, w)
        return np.where(counts.any(axis=0), counts.argmax(axis=0), _NOTHING).astype(np.int32)

    def blow_up(self, values):
        """Planes (k, h, w) at the image's size, (k, H, W)."""
        if self.factor == 1:
            return values
        covered = [1 + (length - 1) * self.factor for length in self.shape]
        result = interpolate(np.ascontiguousarray(values)[np.newaxis], covered)[0]
        beyond = [(0, length - count) for length, count in zip(self.size, covered)]
        return np.pad(result, [(0, 0), *beyond], mode="edge") if any(map(max, beyond)) else result

    def label_map(self, scores, chosen):
        """The class with the highest score, (H, W) uint8, one plane at a time."""
        if self.factor == 1:
            return chosen[scores.argmax(axis=0)].astype(np.uint8)
        best = self.blow_up(scores[:1])[0]
        result = np.full(self.size, chosen[0], np.uint8)
        for k, plane in zip(chosen[1:], scores[1:]):
            plane = self.blow_up(plane[np.newaxis])[0]
            result[plane > best] = k
            np.maximum(best, plane, out=best)
        return result


def _image_array(image):
    """(H, W, 3) or (H, W, 1), uint8."""
    given = image if isinstance(image, np.ndarray) and image.dtype == np.uint8 else real_array("image", image)
    if np.ma.is_masked(given):
        raise ValueError("image must have a value everywhere, found a masked array: fill it first")
    if given.ndim == 2:
        given = given[:, :, np.newaxis]
    if given.ndim != 3 or given.shape[2] not in (1, 3):
        raise ValueError(f"image must have shape (height, width, 3), or (height, width) for grey, found {given.shape}")
    if not given.size:
        raise ValueError(f"image is empty: its shape is {given.shape}")
    if given.dtype != np.uint8:
        wrong = ~((given == np.floor(given)) & (given >= 0) & (given <= 255))
        if wrong.any():
            raise ValueError(f"image must hold whole numbers from 0 to 255, found {given[wrong][0]:g}")
        given = given.astype(np.uint8)
    return given


def _number_of_classes(num_classes, labels, scores, size, ignore_label):
    """K, and the scores checked: None, a Segmentation, or float32 (K, H, W)."""
    if num_classes is not None:
        num_classes = whole_number("num_classes", num_classes, 1, 255)
    if isinstance(scores, Segmentation):
        if scores.labels.shape != size:
            raise ValueError(f"scores must be a result for an image of shape {size}, found {scores.labels.shape}")
        num_classes = num_classes or scores.num_classes
    elif scores is not None:
        scores = real_array("scores", scores, (num_classes or "classes", *size), finite=True)
        num_classes = len(scores)
        if num_classes > 255:
            raise ValueError(f"scores must be of at most 255 classes, found {num_classes}")
    if num_classes is None:
        labels = real_array("labels", labels, size)
        named = labels[labels != ignore_label]
        if not named.size:
            raise ValueError("labels must have a labelled pixel, where there are no scores: found none")
        num_classes = max(1, min(int(named.max()) + 1, 255)) if np.isfinite(named).all() else 1
    return num_classes, scores


def _label_map(labels, size, number, ignore_label):
    """The label map, int32, `_NOTHING` where nothing is said, and the classes in it."""
    given = real_array("labels", labels, size)
    ignored = given == ignore_label
    wrong = ~(ignored | ((given >= 0) & (given < number) & (given == np.floor(given))))
    if wrong.any():
        row, column = np.unravel_index(int(wrong.argmax()), wrong.shape)
        raise ValueError(
            f"labels must be whole numbers from 0 to {number - 1}, or ignore_label {ignore_label}, found "
            f"{given[row, column]:g} in row {row}, column {column}"
        )
    lines = np.where(ignored, np.float32(_NOTHING), given).astype(np.int32)
    return lines, np.flatnonzero(np.bincount(lines[~ignored], minlength=number))


def _classes(classes, present, number, are_scores, has_start):
    """Which classes take part."""
    if classes is not None and not (isinstance(classes, str) and classes in ("labelled", "all")):
        raise ValueError(f"classes must be 'labelled' or 'all', found {shown(classes)}")
    if classes == "all" or (classes is None and are_scores):
        return np.arange(number)
    if not len(present):
        more = "" if has_start else " where there are no scores"
        raise ValueError(f"labels must have a labelled pixel{more}: found none")
    return present


def _factor(scale, size):
    if scale is None:
        return max(1, math.ceil(math.sqrt(size[0] * size[1] / MOST_PIXELS)))
    scale = float(finite_number("scale", scale))
    if not 0 < scale <= 1:
        raise ValueError(f"scale must be above 0 and at most 1, found {scale:g}")
    return int(min(round(1 / scale), max(size)))


def _start(given, chosen, grid):
    """The scores before the first step, (k, h, w), where some are given."""
    if isinstance(given, Segmentation):
        planes = np.empty((len(chosen), *grid.shape), np.float32)
        for place, k in enumerate(chosen):  # one that is new competes as in the beginning
            plane = 0.0
            if k in given.classes:
                plane = given._grid.blow_up(given._scores[given.classes.index(k)][np.newaxis])[0]
                plane = plane[:: grid.factor, :: grid.factor]
            planes[place] = plane
        return planes
    return np.ascontiguousarray(given[chosen, :: grid.factor, :: grid.factor])


def _cross_entropy(scores, lines):
    rows, columns = np.nonzero(lines != _NOTHING)
    if not len(rows):
        return 0.0
    found = scores[:, rows, columns].astype(np.float64)
    highest = found.max(axis=0)
    logarithms = highest + np.log(np.exp(found - highest).sum(axis=0))
    return float((logarithms - found[lines[rows, columns], np.arange(len(rows))]).mean())
