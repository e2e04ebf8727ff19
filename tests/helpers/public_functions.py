"""The public functions that take arrays or numbers. Whoever adds one adds it here: `tests/test_hostile_input.py` runs
through the list, and fails for a public name that is missing."""

import numpy as np

import rloss_caffe
from helpers.hostile import Case
from rloss_caffe import bilateralfilter as swig
from rloss_caffe.filtering.window import PairWindow
from rloss_caffe.losses import gradients, self_label
from rloss_caffe.numerics import confusion, interpolation

_CHANNELS = (1, 2, 3, 4, 5, 8, 9, 21, 33, 70)  # more than 32 are filtered in groups


def _size(rng):
    """Rows and columns; now and then enough pixels for two bands of threads."""
    return (130, 140) if rng.rand() < 0.1 else tuple(int(side) for side in rng.randint(2, 12, 2))


def _image(rng, *leading_and_size):
    return (rng.rand(*leading_and_size) * 200 - 90).astype(np.float32)


def _values(rng, *shape):
    return rng.rand(*shape).astype(np.float32)


def _threads(rng):
    return int(rng.randint(1, 4))


def _bandwidths(rng):
    return {"bi_xy_std": float(rng.uniform(2, 50)), "bi_rgb_std": float(rng.uniform(4, 50))}


def _filter_arguments(rng):
    size = _size(rng)
    return {
        "image": _image(rng, rng.randint(1, 5), *size),
        "values": _values(rng, rng.choice(_CHANNELS), *size),
        "roi": (rng.rand(*size) > 0.3).astype(np.float32),
        **_bandwidths(rng),
        "num_threads": _threads(rng),
    }


def _batch_arguments(rng):
    size, batch = _size(rng), rng.randint(1, 4)
    return {
        "images": _image(rng, batch, rng.randint(1, 5), *size),
        "values": _values(rng, batch, rng.choice(_CHANNELS), *size),
        "roi": (rng.rand(batch, *size) > 0.3).astype(np.float32),
        **_bandwidths(rng),
        "num_threads": _threads(rng),
    }


def _lattice(features, num_threads=None, compatible=True):
    lattice = rloss_caffe.PermutohedralLattice(features, num_threads, compatible)
    return lattice.filter(np.linspace(0, 1, lattice.num_points, dtype=np.float32))


def _lattice_arguments(rng):
    return {
        "features": (rng.randn(rng.randint(1, 8), *_size(rng)) * 3).astype(np.float32),
        "num_threads": _threads(rng),
        "compatible": bool(rng.randint(2)),
    }


def _lattice_filter(features, **arguments):
    return rloss_caffe.PermutohedralLattice(features).filter(**arguments)


def _lattice_filter_arguments(rng):
    size = _size(rng)
    return {
        "features": (rng.randn(3, *size) * 3).astype(np.float32),
        "values": _values(rng, rng.choice(_CHANNELS), *size),
        "reverse": bool(rng.randint(2)),
        "roi": _values(rng, *size),
    }


def _mean_field_arguments(rng):
    size = _size(rng)
    return {
        "scores": rng.randn(rng.randint(2, 6), *size).astype(np.float32),
        "image": _image(rng, 3, *size),
        "max_iter": int(rng.randint(0, 4)),
        "positional": ((3.0, 3.0),),
        "bilateral": ((5.0, 30.0, 10.0), (1.0, 5.0, 20.0)),
        "num_threads": _threads(rng),
    }


def _bad_kernels(*valid):
    """Kernels of `len(valid)` numbers, spoiled."""
    yield from (None, 3, "text", {}, [valid[:-1]], [(*valid, 1.0)], [None], ["text"], [3], [{}], np.zeros(4))
    for position in range(len(valid)):
        bad_numbers = (np.nan, np.inf, -np.inf, 1e39, 10**400, "3", None, True, 1j, [3.0], np.datetime64(3, "s"))
        for bad in (*bad_numbers, *((0, -1) if position else ())):
            yield [(*valid[:position], bad, *valid[position + 1 :])]


def _interpolation_arguments(name, rng):
    crop = -rng.randint(0, 3, 2)
    size = [int(side) for side in rng.randint(1, 30, 2)]
    output_size = [int(side) for side in rng.randint(1, 30, 2)]
    source = tuple(side - int(crop.sum()) for side in size)
    forward = name == "values"
    shape = source if forward else output_size
    return {
        name: rng.randn(*rng.randint(1, 4, rng.randint(0, 3)), *shape).astype(np.float32),
        "size": tuple(output_size) if forward else source,
        "pad_beg": int(crop[0]),
        "pad_end": int(crop[1]),
        "mode": str(rng.choice(interpolation.MODES)),
    }


_BAD_SIZES = (
    None,
    3,
    "ab",
    (3,),
    (3, 4, 5),
    (0, 3),
    (3, -1),
    (2.0, 3),
    ("2", 3),
    (2**31, 10**6),
    (2**62, 2**62),
    10**9,
)
_BAD_PADS = (1, 2, -30, -40, -60, -(10**9), -(2**62))


def _confusion(n_classes=4):
    matrix = confusion.ConfusionMatrix(n_classes)
    matrix.add(np.eye(n_classes, dtype=np.float32), np.arange(n_classes, dtype=np.float32))
    return matrix.counts


def _confusion_add(scores, labels, ignore_label):
    matrix = confusion.ConfusionMatrix(5)
    matrix.add(scores, labels, ignore_label)
    return matrix.counts, matrix.has_seen_nan


def _confusion_arguments(rng):
    batch, size = rng.randint(1, 4), rng.randint(1, 40, 2)
    labels = rng.choice([0, 1, 2, 3, 4, 255, -1], (batch, 1, *size)).astype(np.float32)
    return {"scores": rng.randn(batch, 5, *size).astype(np.float32), "labels": labels, "ignore_label": (255, -1)}


def _set_num_threads(num_threads):
    try:
        rloss_caffe.set_num_threads(num_threads)
        return rloss_caffe.get_num_threads() if num_threads is not None else 0
    finally:
        rloss_caffe.set_num_threads(None)


def _swig(image, values, out=None, **arguments):
    out = np.empty(_count(values), np.float32) if out is None else out
    swig.bilateralfilter(image, values, out, **arguments)
    return out


def _swig_batch(images, values, outs=None, **arguments):
    outs = np.empty(_count(values), np.float32) if outs is None else outs
    swig.bilateralfilter_batch(images, values, outs, **arguments)
    return outs


def _count(values):
    try:
        return np.size(values)
    except ValueError:  # a ragged list
        return 1


def _swig_arguments(rng):
    height, width = _size(rng)
    return {
        "image": _image(rng, 3 * height * width),
        "values": _values(rng, rng.randint(1, 5) * height * width),
        "H": height,
        "W": width,
        "sigma_rgb": float(rng.uniform(4, 50)),
        "sigma_xy": float(rng.uniform(2, 50)),
    }


def _swig_batch_arguments(rng):
    (height, width), batch, channels = _size(rng), int(rng.randint(1, 4)), int(rng.randint(1, 5))
    return {
        "images": _image(rng, batch, 3, height, width),
        "values": _values(rng, batch * channels * height * width),
        "N": batch,
        "K": channels,
        "H": height,
        "W": width,
        "sigma_rgb": float(rng.uniform(4, 50)),
        "sigma_xy": float(rng.uniform(2, 50)),
    }


def _loss(work=None, **arguments):
    result = rloss_caffe.densecrf_loss(**arguments, work=work)
    return result.value, result.gradient()


def _loss_arguments(rng):
    size, batch, classes = _size(rng), int(rng.randint(1, 4)), int(rng.choice(_CHANNELS))
    return {
        "images": _image(rng, batch, rng.randint(1, 5), *size),
        "segmentations": _values(rng, batch, classes, *size),
        **_bandwidths(rng),
        "roi": (rng.rand(batch, *size) > 0.3).astype(np.float32),
        "exact_gradient": bool(rng.randint(2)),
        "num_threads": _threads(rng),
        **_dense_options(rng),
        "classes": "labelled",
        "labels": _labels(rng, classes, batch, *size),
        "ignore_label": 255,
    }


def _dense_options(rng):
    relaxation = str(rng.choice(["bilinear", "quadratic"]))
    return {
        "relaxation": relaxation,
        "normalization": str(rng.choice(["BATCH_SIZE", "VALID", "AFFINITY"])),
        "kernel_normalization": str(rng.choice(["none", "symmetric"])),
        "non_negative": bool(rng.randint(2)),
        "gate": bool(rng.randint(2)) and relaxation == "bilinear",
        "scale_factor": float(rng.choice([0.5, 1.0])),
    }


def _normalized_cut(work=None, **arguments):
    result = rloss_caffe.normalized_cut_loss(**arguments, work=work)
    return result.value, result.gradient()


def _normalized_cut_arguments(rng):
    size, batch, classes = _size(rng), int(rng.randint(1, 4)), int(rng.choice(_CHANNELS))
    return {
        "images": _image(rng, batch, rng.randint(1, 5), *size),
        "segmentations": _values(rng, batch, classes, *size),
        **_bandwidths(rng),
        "classes": "labelled",
        "exact_gradient": bool(rng.randint(2)),
        "scale_factor": float(rng.choice([0.5, 1.0])),
        "labels": _labels(rng, classes, batch, *size),
        "roi": (rng.rand(batch, *size) > 0.3).astype(np.float32),
        "ignore_label": 255,
        "num_threads": _threads(rng),
    }


def _size_loss(**arguments):
    result = rloss_caffe.size_constraint_loss(**arguments)
    return result.value, result.gradient()


def _size_arguments(rng):
    batch, classes, size = rng.randint(1, 4), int(rng.choice(_CHANNELS)), _size(rng)
    return {
        "segmentations": _values(rng, batch, classes, *size),
        "lower": tuple(float(value) for value in rng.uniform(0, 5, classes)),
        "upper": tuple(float(value) for value in rng.uniform(5, 20, classes)),
        "unit": "PIXEL",
        "tags": bool(rng.randint(2)),
        "penalty": str(rng.choice(["quadratic", "log_barrier"])),
        "t": 5.0,
        "normalization": str(rng.choice(["VALID", "FRACTION", "BATCH_SIZE"])),
        "labels": _labels(rng, classes, batch, *size),
        "roi": (rng.rand(batch, *size) > 0.3).astype(np.float32),
        "ignore_label": 255,
        "num_threads": _threads(rng),
    }


_BAD_BOUNDS = ("12", {}, {1.0}, 1j, [None], [np.nan], [1e39], [-2], [-0.5], [[1.0]], [True], list(range(1000)))


def _size_gradient(segmentations, scale, out=None):
    return rloss_caffe.size_constraint_loss(segmentations, 3, 9).gradient(scale, out)


def _kernel_cut(work=None, **arguments):
    result = rloss_caffe.kernel_cut_loss(**arguments, work=work)
    return result.value, result.gradient()


def _kernel_cut_arguments(rng):
    weights = {"normalized_cut_weight": float(rng.rand()), "densecrf_weight": float(1e-3 * rng.rand())}
    return {**_normalized_cut_arguments(rng), **weights, **_dense_options(rng)}


def _loss_gradient(images, segmentations, scale, out=None):
    return rloss_caffe.densecrf_loss(images, segmentations, 9, 20).gradient(scale, out)


def _local_potts(**arguments):
    result = rloss_caffe.local_potts_loss(**arguments)
    return result.value, result.gradient()


def _local_potts_arguments(rng):
    size, batch = _size(rng), rng.randint(1, 4)
    return {
        "images": _image(rng, batch, rng.randint(1, 5), *size),
        "segmentations": _values(rng, batch, rng.choice(_CHANNELS[:7]), *size),
        "radius": int(rng.randint(1, 4)),
        "xy_std": float(rng.uniform(1, 9)),
        "rgb_std": float(rng.uniform(4, 50)),
        "relaxation": str(rng.choice(["bilinear", "quadratic", "absolute"])),
        "normalization": str(rng.choice(["VALID", "WEIGHTS", "BATCH_SIZE"])),
        "contrast": str(rng.choice(["fixed", "image"])),
        "space": str(rng.choice(["gaussian", "inverse_distance"])),
        "labels": rng.choice([0, 255], (batch, *size)).astype(np.float32),
        "classes": "labelled",
        "roi": (rng.rand(batch, *size) > 0.3).astype(np.float32),
        "num_threads": _threads(rng),
    }


def _self_label(**arguments):
    result = rloss_caffe.self_label_loss(**arguments)
    return result.value, result.gradient(), result.latent


def _self_label_arguments(rng):
    size, batch, classes = _size(rng), int(rng.randint(1, 4)), int(rng.choice(_CHANNELS[:8]))
    segmentations = _values(rng, batch, classes, *size)
    return {
        "images": _image(rng, batch, rng.randint(1, 5), *size),
        "segmentations": segmentations / segmentations.sum(axis=1, keepdims=True),
        "relaxation": str(rng.choice(self_label.RELAXATION.choices)),
        "cross_entropy": str(rng.choice(["collision", "forward"])),
        "eta": 0.3,
        "lambda": float(rng.uniform(0, 20)),
        "steps": int(rng.randint(0, 4)),
        "kernel": str(rng.choice(["pairs", "dense"])),
        "radius": int(rng.randint(1, 4)),
        "xy_std": float(rng.uniform(1, 9)),
        "rgb_std": float(rng.uniform(4, 50)),
        "contrast": str(rng.choice(["fixed", "image"])),
        "contrast_scale": float(rng.uniform(0.2, 2)),
        "space": str(rng.choice(["gaussian", "inverse_distance"])),
        **_bandwidths(rng),
        "normalization": str(rng.choice(["VALID", "BATCH_SIZE"])),
        "labelled_weight": 1.0,
        "labels": _labels(rng, classes, batch, *size),
        "roi": (rng.rand(batch, *size) > 0.3).astype(np.float32),
        "ignore_label": 255,
        "num_threads": _threads(rng),
    }


def _window(values, form="sum", out=None, **arguments):
    return PairWindow(**arguments).apply(values, form, out)


def _window_arguments(rng):
    size = _size(rng)
    return {
        "image": _image(rng, rng.randint(1, 5), *size),
        "radius": int(rng.randint(1, 4)),
        "xy_std": float(rng.uniform(1, 9)),
        "rgb_std": float(rng.uniform(4, 50)),
        "contrast": str(rng.choice(["fixed", "image"])),
        "space": str(rng.choice(["gaussian", "inverse_distance"])),
        "roi": (rng.rand(*size) > 0.3).astype(np.float32),
        "num_threads": _threads(rng),
        "values": _values(rng, rng.choice(_CHANNELS[:7]), *size),
        "form": str(rng.choice(["sum", "difference", "sign"])),
    }


def _gradients(**arguments):
    found = gradients.densecrf_gradients(**arguments)
    return found.value, found.probability, found.score


def _gradients_of_any(**arguments):
    found = gradients.loss_gradients("densecrf", **arguments)
    return found.value, found.probability, found.score


def _compare_push(**arguments):
    found = gradients.compare_push(**arguments)
    return found.loss, found.cross_entropy, found.labelled


def _segment(**arguments):
    found = rloss_caffe.segment_from_scribbles(**arguments)
    return found.labels, found.probabilities, found.scores, found.gradient, found.value


def _segment_arguments(rng):
    size, classes = _size(rng), int(rng.randint(2, 5))
    labels = _labels(rng, classes, *size)
    labels[0, :2] = 0, 1
    return {
        "image": rng.randint(0, 256, (*size, 3)).astype(np.float32),
        "labels": labels,
        "num_classes": classes,
        "loss": str(rng.choice(["densecrf", "normalized_cut", "kernel_cut", "local_potts"])),
        "weight": float(rng.rand()),
        "ignore_label": 255,
        "scores": _values(rng, classes, *size),
        "steps": 2,
        "scale": float(rng.choice([0.5, 1.0])),
        "num_threads": _threads(rng),
        "classes": str(rng.choice(["labelled", "all"])),
    }


def _labels(rng, classes, *shape):
    labels = rng.randint(0, classes, shape).astype(np.float32)
    labels[rng.rand(*shape) < 0.5] = 255
    return labels


# By module and name below rloss_caffe.
CASES = {
    "drawing.segment.segment_from_scribbles": Case(
        _segment,
        _segment_arguments,
        may_be_none=("num_classes", "weight", "scores", "steps", "scale", "num_threads", "classes"),
        positive=("scale",),
        not_huge=("steps",),
        refused={"scale": (1.5,), "weight": (-1.0,), "image": (np.full((2, 2, 3), 0.5), np.full((2, 2, 3), 256))},
    ),
    "losses.densecrf.densecrf_loss": Case(
        _loss,
        _loss_arguments,
        may_be_none=("roi", "num_threads"),
        positive=("bi_xy_std", "bi_rgb_std", "scale_factor"),
        refused={"num_threads": (0, -1), "roi": (-np.ones((1, 2, 2)),), "labels": (np.full((1, 2, 2), 300),)},
    ),
    "losses.normalized_cut.normalized_cut_loss": Case(
        _normalized_cut,
        _normalized_cut_arguments,
        may_be_none=("roi", "num_threads", "classes"),
        positive=("bi_xy_std", "bi_rgb_std", "scale_factor"),
        refused={"num_threads": (0, -1), "roi": (-np.ones((1, 2, 2)),), "labels": (np.full((1, 2, 2), 300),)},
    ),
    "losses.kernel_cut.kernel_cut_loss": Case(
        _kernel_cut,
        _kernel_cut_arguments,
        may_be_none=("roi", "num_threads", "classes"),
        positive=("bi_xy_std", "bi_rgb_std", "scale_factor"),
        refused={"num_threads": (0, -1), "labels": (np.full((1, 2, 2), 300),), "scale_factor": (1.5,)},
    ),
    "losses._pairwise.PairwiseResult.gradient": Case(
        _loss_gradient,
        lambda rng: {"images": _image(rng, 2, 3, 8, 9), "segmentations": _values(rng, 2, 3, 8, 9), "scale": 0.5},
        out="out",
    ),
    "losses.size_constraint.size_constraint_loss": Case(
        _size_loss,
        _size_arguments,
        may_be_none=("labels", "roi", "num_threads", "lower", "upper"),
        positive=("t",),
        any_shape=("labels",),
        refused={
            "num_threads": (0, -1),
            "roi": (-np.ones((1, 2, 2)),),
            "lower": (*_BAD_BOUNDS, (1e9,)),
            "upper": _BAD_BOUNDS,
            "labels": (np.full((1, 3, 3), 1.5), np.full((1, 3, 3), 200), np.zeros((1, 2, 3, 3)), np.zeros(3)),
        },
    ),
    "losses.size_constraint.SizeConstraintResult": Case(
        _size_gradient, lambda rng: {"segmentations": _values(rng, 2, 3, 8, 9), "scale": 0.5}, out="out"
    ),
    "losses.local_potts.local_potts_loss": Case(
        _local_potts,
        _local_potts_arguments,
        may_be_none=("roi", "num_threads"),
        positive=("xy_std", "rgb_std"),
        refused={"num_threads": (0, -1), "radius": (0, -1), "roi": (-np.ones((1, 2, 2)),)},
    ),
    "losses.self_label.self_label_loss": Case(
        _self_label,
        _self_label_arguments,
        may_be_none=("roi", "labels", "num_threads"),
        positive=("eta", "xy_std", "rgb_std", "contrast_scale", "bi_xy_std", "bi_rgb_std"),
        refused={
            "num_threads": (0, -1),
            "radius": (0, -1),
            "steps": (-1, 10**6),
            "lambda": (-1.0,),
            "roi": (-np.ones((1, 2, 2)),),
            "segmentations": (-np.ones((1, 2, 2, 2)),),
        },
    ),
    "losses.self_label.SelfLabelResult": Case(
        lambda images, segmentations, scale, out=None: rloss_caffe.self_label_loss(images, segmentations).gradient(
            scale, out
        ),
        lambda rng: {"images": _image(rng, 2, 3, 8, 9), "segmentations": _values(rng, 2, 3, 8, 9), "scale": 0.5},
        out="out",
    ),
    "filtering.window.PairWindow": Case(
        _window,
        _window_arguments,
        may_be_none=("roi", "num_threads"),
        positive=("xy_std", "rgb_std"),
        refused={"num_threads": (0, -1), "radius": (0, -1)},
    ),
    "filtering.window.PairWindow.apply": Case(
        lambda image, values, form, out=None: PairWindow(image, 2, 3.0, 20.0).apply(values, form, out),
        lambda rng: {"image": _image(rng, 3, 8, 9), "values": _values(rng, 4, 8, 9), "form": "difference"},
        out="out",
    ),
    "losses.gradients.densecrf_gradients": Case(
        _gradients,
        lambda rng: {
            "image": _image(rng, 3, 8, 9),
            "probabilities": _values(rng, 4, 8, 9),
            **_bandwidths(rng),
            "loss_weight": 0.5,
            "exact_gradient": bool(rng.randint(2)),
            "num_threads": _threads(rng),
        },
        may_be_none=("num_threads",),
        positive=("bi_xy_std", "bi_rgb_std"),
    ),
    "losses.gradients.loss_gradients": Case(
        _gradients_of_any,
        lambda rng: {
            "image": _image(rng, 3, 8, 9),
            "probabilities": _values(rng, 4, 8, 9),
            **_bandwidths(rng),
            "loss_weight": 0.5,
            "roi": (rng.rand(8, 9) > 0.3).astype(np.float32),
            "num_threads": _threads(rng),
        },
        may_be_none=("num_threads", "roi"),
        positive=("bi_xy_std", "bi_rgb_std"),
    ),
    "losses.gradients.compare_push": Case(
        _compare_push,
        lambda rng: {
            "gradient": _values(rng, 4, 8, 9),
            "probabilities": _values(rng, 4, 8, 9),
            "labels": _labels(rng, 4, 8, 9),
            "ignore_label": 255,
        },
    ),
    "losses.gradients.score_gradient": Case(
        gradients.score_gradient,
        lambda rng: {"probabilities": _values(rng, 4, 8, 9), "gradient": _values(rng, 4, 8, 9)},
    ),
    "losses._pairwise.region_of_interest": Case(
        rloss_caffe.region_of_interest,
        lambda rng: {"images": _image(rng, 2, 3, 8, 9)},
        may_be_infinite=("images",),
    ),
    "filtering.features.bilateral_features": Case(
        rloss_caffe.bilateral_features,
        lambda rng: {"image": _image(rng, rng.randint(1, 5), *_size(rng)), **_bandwidths(rng)},
        positive=("bi_xy_std", "bi_rgb_std"),
    ),
    "filtering.features.positional_features": Case(
        rloss_caffe.positional_features,
        lambda rng: {"height": int(rng.randint(1, 9)), "width": int(rng.randint(1, 9)), "pos_xy_std": 3.5},
        positive=("pos_xy_std",),
        refused={"height": (0, -1), "width": (0, -1)},
    ),
    "filtering.bilateral.bilateral_filter": Case(
        rloss_caffe.bilateral_filter,
        _filter_arguments,
        out="out",
        may_be_none=("roi", "num_threads"),
        may_be_empty=("values",),
        skipped_outside=("values",),
        positive=("bi_xy_std", "bi_rgb_std"),
        refused={"num_threads": (0, -1)},
    ),
    "filtering.bilateral.bilateral_filter_batch": Case(
        rloss_caffe.bilateral_filter_batch,
        _batch_arguments,
        out="out",
        may_be_none=("roi", "num_threads"),
        may_be_empty=("values",),
        skipped_outside=("values",),
        positive=("bi_xy_std", "bi_rgb_std"),
        refused={"num_threads": (0, -1)},
    ),
    "filtering.lattice.PermutohedralLattice": Case(
        _lattice, _lattice_arguments, may_be_none=("num_threads",), refused={"num_threads": (0, -1)}
    ),
    "filtering.lattice.PermutohedralLattice.filter": Case(
        _lattice_filter,
        _lattice_filter_arguments,
        out="out",
        may_be_none=("roi",),
        may_be_empty=("values",),
        skipped_outside=("values",),
    ),
    "filtering.mean_field.mean_field": Case(
        rloss_caffe.mean_field,
        _mean_field_arguments,
        may_be_none=("num_threads",),
        not_huge=("max_iter",),
        refused={
            "num_threads": (0, -1),
            "max_iter": (-1,),
            "positional": list(_bad_kernels(3.0, 3.0)),
            "bilateral": list(_bad_kernels(5.0, 30.0, 10.0)),
        },
    ),
    "numerics.interpolation.interpolate": Case(
        interpolation.interpolate,
        lambda rng: _interpolation_arguments("values", rng),
        out="out",
        may_be_infinite=("values",),
        any_leading=("values",),
        refused={"size": _BAD_SIZES, "pad_beg": _BAD_PADS, "pad_end": _BAD_PADS},
    ),
    "numerics.interpolation.interpolate_adjoint": Case(
        interpolation.interpolate_adjoint,
        lambda rng: _interpolation_arguments("gradient", rng),
        out="out",
        may_be_infinite=("gradient",),
        any_leading=("gradient",),
        refused={"size": _BAD_SIZES, "pad_beg": _BAD_PADS, "pad_end": _BAD_PADS},
    ),
    "numerics.interpolation.interpolated_size": Case(
        interpolation.interpolated_size,
        lambda rng: {
            "size": (int(rng.randint(3, 90)), 41),
            **({"height": 9, "width": 8} if rng.rand() < 0.5 else {"zoom_factor": 8}),
            "pad_beg": 0,
            "pad_end": -1,
        },
        refused={"size": (None, 3, (3,), (0, 3), (2.0, 3), "ab"), "pad_beg": _BAD_PADS[:2]},
    ),
    "numerics.interpolation.is_blending": Case(
        interpolation.is_blending, lambda rng: {"length": int(rng.randint(2, 900)), "output_length": 41}
    ),
    "numerics.confusion.ConfusionMatrix": Case(
        _confusion, lambda rng: {"n_classes": int(rng.randint(1, 9))}, refused={"n_classes": (0, -1)}
    ),
    "numerics.confusion.ConfusionMatrix.add": Case(
        _confusion_add,
        _confusion_arguments,
        may_be_infinite=("scores",),
        any_shape=("labels",),
        refused={
            "ignore_label": (None, 1.5, "255", [None], ["a"], [1.5], [np.nan], [2**70], [True], {"a": 1}, [[255]])
        },
    ),
    "numerics.threads.set_num_threads": Case(
        _set_num_threads, lambda rng: {"num_threads": 2}, may_be_none=("num_threads",), refused={"num_threads": (0, -1)}
    ),
    "bilateralfilter.bilateralfilter": Case(
        _swig,
        _swig_arguments,
        out="out",
        positive=("sigma_rgb", "sigma_xy"),
        any_shape=("image", "values", "out"),
        refused={"H": (0, -1), "W": (0, -1)},
    ),
    "bilateralfilter.bilateralfilter_batch": Case(
        _swig_batch,
        _swig_batch_arguments,
        out="outs",
        positive=("sigma_rgb", "sigma_xy"),
        any_shape=("images", "values", "outs"),
        refused={"N": (0, -1), "K": (0, -1), "H": (0, -1), "W": (0, -1)},
    ),
}

# Names, or modules, that are not in the list, and why.
NOT_CALLED = {
    "drawing.segment.KeptLattice": "takes what a lattice takes",
    "drawing.segment.PreparedImage": "takes an image as segment_from_scribbles does; tests/drawing/test_segment.py",
    "drawing.segment.Segmentation": "a record",
    "filtering.applied": "what the losses make of arrays that were checked; tests/filtering/test_applied.py",
    "filtering.features.positions": "the lattices' own, of sizes that were checked",
    "filtering.lattice.check_range": "the lattices' own, of a coordinate that they have found",
    "filtering.lattice.elevation_scales": "the lattices' own, of a dimension that they have checked",
    "filtering.window.pair_offsets": "takes a reach that the window has checked",
    "filtering.window.PairWindow.products": "takes arrays that the loss has checked",
    "losses.gradients.Gradients": "a record",
    "losses._pairwise.PairwiseResult": "what the losses make",
    "losses.gradients.Push": "a record",
    "losses.gradients.push": "takes an array of any shape, through real_array; tests/losses/test_gradients.py",
    "losses.gradients.find_loss": "takes a loss's name; tests/losses/test_gradients.py",
    "losses.gradients.takes_images": "takes a loss's name",
    "losses.self_label.JointTerms": "a record",
    "losses._pairwise.Workspace": "memory whose shape the loss decides",
    "numerics.arrays": "the checks themselves: tests/numerics/test_arrays.py",
    "numerics.compiling": "takes functions",
    "numerics.interpolation.rescale": "the losses' own, of arrays that were checked",
    "numerics.interpolation.rescaling_samples": "the losses' own, of sizes that were checked",
    "numerics.interpolation.rescale_adjoint": "the losses' own, of arrays that were checked",
    "losses.densecrf.DenseTerm": "a formula, for the losses' own arrays",
    "losses.normalized_cut.normalized_cut": "a formula, for the losses' own arrays",
    "numerics.memory": "memory whose sizes the lattice decides; tests/numerics/test_memory.py",
    "numerics.parameters": "declarations, which the package's own modules make",
    "numerics.products": "loops of the losses over arrays that were checked",
    "numerics.terminal": "asks whether somebody is looking; takes no arrays",
    "numerics.threads.bounds": "splits ranges for the package's own loops",
    "numerics.threads.for_each_image": "takes a function",
    "numerics.threads.get_num_threads": "takes no argument",
    "numerics.threads.resolve_num_threads": "what every num_threads goes through, in the other cases",
    "numerics.threads.run": "takes a function",
    "numerics.confusion.UnexpectedLabelError": "an exception",
}


def is_listed(name):
    """Whether a public name is called in the list, or is excused, alone or with its module."""
    parts = name.split(".")
    return name in CASES or any(".".join(parts[:count]) in NOT_CALLED for count in range(1, len(parts) + 1))
