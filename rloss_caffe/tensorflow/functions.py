"""The functions of `rloss_caffe.losses`, of tensors. Their parameters and defaults are those of the NumPy functions."""

from __future__ import annotations

import inspect
from typing import Any, Callable

import tensorflow as tf

from rloss_caffe.losses import LOSSES
from rloss_caffe.losses._configured import attribute_of, checked_options
from rloss_caffe.losses._tensors import Settings
from rloss_caffe.numerics.parameters import fill, parameters_of
from rloss_caffe.tensorflow import _ops

__all__ = [
    "densecrf_loss",
    "kernel_cut_loss",
    "local_potts_loss",
    "normalized_cut_loss",
    "self_label_loss",
    "size_constraint_loss",
]

_TENSORS = """segmentations : Tensor, shape (N, H, W, K)
    Class probabilities, usually a softmax.
labels : Tensor, shape (N, H, W) or (N, H, W, 1), optional
    Whole numbers: classes, or ``ignore_label``.
roi : Tensor, shape (N, H, W) or (N, H, W, 1), optional
    Region of interest, >= 0; default: everywhere. (The NumPy functions leave out pixels that are near 0 in all
    channels, as padding is in Caffe.)
data_format : {"channels_last", "channels_first"}
    With channels_first the shapes are (N, C, H, W), (N, K, H, W), (N, H, W) or (N, 1, H, W)."""
_IMAGES = """images : Tensor, shape (N, H, W, C)
    C >= 1 channels of any real dtype, with bandwidths in their units. They get no gradient."""
_REST = """Returns
-------
Tensor without axes, of the segmentations' dtype
    It is computed in single precision, as its gradient is. Nothing but the segmentations gets a gradient.

Raises
------
TypeError
    There is no such parameter.
ValueError
    Shapes, types or values do not fit. Inside tf.function, what is not known before the numbers are there becomes an
    InvalidArgumentError with the same text."""


def _documented(function: Callable[..., tf.Tensor]) -> Callable[..., tf.Tensor]:
    """Give a function the parameters of the loss that it is called after."""
    name = function.__name__.replace("_loss", "")
    found = inspect.signature(function)
    keywords = [
        inspect.Parameter(attribute_of(each), inspect.Parameter.KEYWORD_ONLY, default=each.default)
        for each in parameters_of(LOSSES[name])
    ]
    plain = [each for each in found.parameters.values() if each.kind != each.VAR_KEYWORD]
    function.__signature__ = found.replace(parameters=plain + keywords)  # type: ignore[attr-defined]
    if function.__doc__ is not None:  # not with python -OO
        first, _, rest = function.__doc__.partition("\n")
        tensors = ([_IMAGES] if "images" in found.parameters else []) + [_TENSORS]
        section = "\n".join(["Parameters", "----------", *tensors, "{parameters}", "", _REST])
        text = "\n\n".join(filter(None, [first, section, inspect.cleandoc(rest)]))
        function.__doc__ = fill(text, parameters_of(LOSSES[name]))
    return function


def _loss(name, images, segmentations, labels, roi, data_format, options):
    checked = checked_options(f"{name}_loss()", name, options, "labels", "roi", "data_format")
    return _ops.loss(name, Settings(checked), images, segmentations, labels, roi, data_format)


@_documented
def densecrf_loss(
    images: Any,
    segmentations: Any,
    labels: Any = None,
    roi: Any = None,
    data_format: str = "channels_last",
    **options: Any,
) -> tf.Tensor:
    """The DenseCRF loss, `rloss_caffe.densecrf_loss`.

    Notes
    -----
    Published loss weights are about 1e-8; with normalization AFFINITY about 1. The value is negative, as the constant
    of the Potts model is dropped. Half precision cannot hold it without AFFINITY.
    """
    return _loss("densecrf", images, segmentations, labels, roi, data_format, options)


@_documented
def kernel_cut_loss(
    images: Any,
    segmentations: Any,
    labels: Any = None,
    roi: Any = None,
    data_format: str = "channels_last",
    **options: Any,
) -> tf.Tensor:
    """The kernel cut loss, `rloss_caffe.kernel_cut_loss`: a weighted sum of normalised cut and DenseCRF loss."""
    return _loss("kernel_cut", images, segmentations, labels, roi, data_format, options)


@_documented
def local_potts_loss(
    images: Any,
    segmentations: Any,
    labels: Any = None,
    roi: Any = None,
    data_format: str = "channels_last",
    **options: Any,
) -> tf.Tensor:
    """The local Potts loss, `rloss_caffe.local_potts_loss`: pairs of pixels inside a window."""
    return _loss("local_potts", images, segmentations, labels, roi, data_format, options)


@_documented
def normalized_cut_loss(
    images: Any,
    segmentations: Any,
    labels: Any = None,
    roi: Any = None,
    data_format: str = "channels_last",
    **options: Any,
) -> tf.Tensor:
    """The normalised cut loss, `rloss_caffe.normalized_cut_loss`."""
    return _loss("normalized_cut", images, segmentations, labels, roi, data_format, options)


@_documented
def self_label_loss(
    images: Any,
    segmentations: Any,
    labels: Any = None,
    roi: Any = None,
    data_format: str = "channels_last",
    **options: Any,
) -> tf.Tensor:
    """Soft self-labelling, `rloss_caffe.self_label_loss`.

    Notes
    -----
    Python has the word ``lambda`` for itself: the option is called ``lambda_``.
    """
    return _loss("self_label", images, segmentations, labels, roi, data_format, options)


@_documented
def size_constraint_loss(
    segmentations: Any, labels: Any = None, roi: Any = None, data_format: str = "channels_last", **options: Any
) -> tf.Tensor:
    """The size constraint, `rloss_caffe.size_constraint_loss`: bounds on how large a class is.

    Notes
    -----
    The label maps may have another height and width than the segmentations. Each image's tags are the classes that
    occur.
    """
    return _loss("size_constraint", None, segmentations, labels, roi, data_format, options)
