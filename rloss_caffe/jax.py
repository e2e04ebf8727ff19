"""The losses as differentiable functions of JAX's arrays: a NumPy function under `jax.pure_callback`.

>>> from rloss_caffe.jax import loss
>>> value = 1e-8 * loss("densecrf", images, jax.nn.softmax(scores), bi_xy_std=100, bi_rgb_std=15)
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

try:
    import jax
    import jax.numpy as jnp
except ImportError as error:
    raise ImportError(f'rloss_caffe.jax needs JAX: {error}. "pip install jax" installs it.') from error

from rloss_caffe.losses import LOSSES
from rloss_caffe.losses._configured import checked_options
from rloss_caffe.losses._tensors import WITH_IMAGES, Layout, Settings, evaluate

__all__ = ["loss"]


def loss(
    name: str,
    images: Any,
    segmentations: Any,
    labels: Any = None,
    roi: Any = None,
    data_format: str = "channels_last",
    **options: Any,
) -> jax.Array:
    """A loss of `rloss_caffe.losses`, for jax.grad and jax.jit. It is computed on the CPU.

    Parameters
    ----------
    name : str
        A key of `rloss_caffe.losses.LOSSES`.
    images : array, shape (N, H, W, C), real, or None
        None for the size constraint.
    segmentations : array, shape (N, H, W, K), floating point
        Class probabilities, usually a softmax.
    labels, roi : array, shape (N, H, W) or (N, H, W, 1), optional
        No roi: everywhere.
    data_format : {"channels_last", "channels_first"}
    **options
        The function's parameters.

    Returns
    -------
    array without axes, of the segmentations' dtype
        It is computed in single precision. Nothing but the segmentations gets a gradient.

    Raises
    ------
    TypeError
        There is no such parameter.
    ValueError
        Shapes or options do not fit. Inside jax.jit, what only the numbers tell becomes JAX's own error with its text.
    """
    if name not in LOSSES:
        raise ValueError(f"name must be one of {', '.join(LOSSES)}, found {name!r}")
    settings = Settings(checked_options("loss()", name, options, "labels", "roi", "data_format"))
    return loss_of(name, settings, images, segmentations, labels, roi, data_format)


def loss_of(name, settings, images, segmentations, labels=None, roi=None, data_format="channels_last"):
    """As `loss`, with an object's ``weight`` and ``options``, which are read at each call."""
    given = {"segmentations": segmentations, "labels": labels, "roi": roi}
    given = {"images": images, **given} if name in WITH_IMAGES else given
    arrays = {key: jnp.asarray(value) for key, value in given.items() if value is not None}
    layout = Layout(data_format)
    layout.check(name, {key: array.shape for key, array in arrays.items()})
    return _loss((name, settings, layout), arrays.pop("segmentations"), arrays)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _loss(how, segmentations, others):
    return _forward(how, segmentations, others)[0]


def _forward(how, segmentations, others):
    name, settings, layout = how
    blobs = {key: _blob(key, array, layout) for key, array in {**others, "segmentations": segmentations}.items()}

    def call(arrays):
        arrays = {key: np.asarray(arrays[key]) for key in ("images", "segmentations", "labels", "roi") if key in arrays}
        value, gradient = evaluate(name, settings, layout, arrays)
        return value.astype(np.float32), gradient

    shape = blobs["segmentations"].shape
    results = jax.ShapeDtypeStruct((), np.float32), jax.ShapeDtypeStruct(shape, np.float32)
    value, gradient = jax.pure_callback(call, results, blobs)
    return value.astype(segmentations.dtype), (gradient, jnp.zeros((0,), segmentations.dtype))


def _backward(how, kept, above):
    gradient, like = kept
    found = gradient * above.astype(np.float32)
    found = found.transpose(0, 2, 3, 1) if how[2].is_last else found
    return found.astype(like.dtype), None


_loss.defvjp(_forward, _backward)


def _blob(argument, array, layout):
    """An array as the functions take it: channels first, and no halves."""
    if jnp.issubdtype(array.dtype, jnp.floating):
        array = array.astype(np.float32)
    return array.transpose(0, 3, 1, 2) if layout.is_last and argument in ("images", "segmentations") else array
