"""The losses as differentiable functions of TensorFlow's tensors: a NumPy function under a gradient of its own.

`tf.numpy_function` calls the function of `rloss_caffe.losses`, with the tensors' own memory inside tf.function and with
a copy where TensorFlow runs eagerly. It gives value and gradient at once; the gradient waits for what comes from above.
"""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import tensorflow as tf

from rloss_caffe.losses import LOSSES
from rloss_caffe.losses._tensors import WITH_IMAGES, Layout, evaluate

__all__ = ["loss"]


@tf.autograph.experimental.do_not_convert
def loss(
    name: str,
    settings: Any,
    images: Any,
    segmentations: Any,
    labels: Any = None,
    roi: Any = None,
    data_format: str = "channels_last",
) -> tf.Tensor:
    """A loss of `rloss_caffe.losses` as a differentiable function of tensors.

    Parameters
    ----------
    name : str
        A key of `rloss_caffe.losses.LOSSES`.
    settings : object
        With ``weight`` and ``options``. They are read at each call, inside tf.function as well.
    images : tensor, shape (N, H, W, C), real, or None
        None for the size constraint.
    segmentations : tensor, shape (N, H, W, K), floating point
    labels, roi : tensor, shape (N, H, W) or (N, H, W, 1), optional
        No roi: everywhere.
    data_format : {"channels_last", "channels_first"}

    Returns
    -------
    tensor without axes, of the segmentations' dtype
        It is computed in single precision, and so is its gradient. There is no second derivative.

    Raises
    ------
    ValueError
        Types or shapes do not fit, as far as they are known; XLA compiles the caller. What only the numbers tell is
        a ValueError where TensorFlow runs eagerly, and inside tf.function an InvalidArgumentError with its text.
    """
    if name not in LOSSES:
        raise ValueError(f"name must be one of {', '.join(LOSSES)}, found {name!r}")
    layout = Layout(data_format)
    given = {"segmentations": segmentations, "labels": labels, "roi": roi}
    if name in WITH_IMAGES:
        given = {"images": images, **given}
    tensors = {
        argument: _tensor(argument, value)
        for argument, value in given.items()
        if value is not None or argument in ("images", "segmentations")
    }
    layout.check(name, {argument: _static_shape(tensor) for argument, tensor in tensors.items()})
    _refuse_xla()
    segmentations = tensors.pop("segmentations")
    others = {
        argument: _channels_first(tensor, layout) if argument == "images" else tensor
        for argument, tensor in tensors.items()
    }
    dtype = segmentations.dtype if segmentations.dtype.is_floating else tf.float32

    def call(*arrays):
        return evaluate(name, settings, layout, dict(zip([*others, "segmentations"], arrays)))

    @tf.custom_gradient
    def differentiable(probabilities):
        blob = _channels_first(probabilities, layout)
        value, gradient = tf.numpy_function(call, [*others.values(), blob], [tf.float64, tf.float32])
        value.set_shape(())
        gradient.set_shape(blob.shape)

        def backward(above):
            return _product(gradient, above, probabilities, layout)

        return tf.cast(value, dtype), backward

    with tf.name_scope(f"{name}_loss"):
        return differentiable(segmentations)


def _product(gradient, above, segmentations, layout):
    """The gradient times what comes from above, in the segmentations' type and layout."""

    @tf.custom_gradient
    def product(above, segmentations):
        exact = tf.float64 if segmentations.dtype == tf.float64 else tf.float32
        found = tf.cast(gradient, exact) * tf.cast(above, exact)
        found = tf.transpose(found, (0, 2, 3, 1)) if layout.is_last else found

        def second(above_second):
            inputs = above, segmentations
            return [tf.numpy_function(_refuse_second, [above_second, each], each.dtype) for each in inputs]

        return tf.cast(found, segmentations.dtype), second

    return product(above, segmentations)


def _refuse_second(above, like):
    """Zeros where nobody asks for a second derivative: tf.function computes it all the same, of zeros."""
    if above.any():
        raise NotImplementedError("rloss_caffe's losses have a first derivative only")
    return np.zeros_like(like)


def _tensor(argument, value):
    """A tensor of real numbers, which halves are made whole of."""
    try:
        tensor = tf.convert_to_tensor(value)
    except (TypeError, ValueError) as error:
        found = type(value).__name__
        raise ValueError(f"{argument} must be a dense tensor or an array, found {found}: {error}") from None
    dtype = tensor.dtype
    if not (dtype.is_floating or dtype.is_integer or dtype.is_bool) or dtype.is_quantized:
        raise ValueError(f"{argument} must hold real numbers, found dtype {dtype.name}")
    if argument == "segmentations" or dtype in (tf.float32, tf.float64) or not dtype.is_floating:
        return tensor
    return tf.cast(tensor, tf.float32)


def _static_shape(tensor):
    return None if tensor.shape.rank is None else tensor.shape.as_list()


def _channels_first(tensor, layout):
    if tensor.dtype.is_floating and tensor.dtype.size < 4:
        tensor = tf.cast(tensor, tf.float32)
    return tf.transpose(tensor, (0, 3, 1, 2)) if layout.is_last else tensor


def _refuse_xla():
    """Raise ValueError where tf.function(jit_compile=True) is being traced: XLA cannot call Python."""
    with contextlib.suppress(ImportError, AttributeError):  # no public function tells
        from tensorflow.python.ops.control_flow_util import GraphOrParentsInXlaContext as is_compiled

        if not tf.executing_eagerly() and is_compiled(tf.compat.v1.get_default_graph()):
            raise ValueError(
                "rloss_caffe's losses call Python, which XLA cannot compile: set jit_compile=False in this tf.function"
            )
