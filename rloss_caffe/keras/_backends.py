"""A loss on whatever Keras computes with: each framework has its own way to call Python and to be told a gradient."""

from __future__ import annotations

from typing import Any

import keras

__all__ = ["can_compile", "loss", "replicas"]


def loss(name: str, settings: Any, images: Any, segmentations: Any, labels: Any, roi: Any, data_format: str) -> Any:
    """A loss of `rloss_caffe.losses`, differentiable by the segmentations; see `rloss_caffe.tensorflow._ops.loss`."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        from rloss_caffe.tensorflow._ops import loss as by_tensorflow

        return by_tensorflow(name, settings, images, segmentations, labels, roi, data_format)
    if backend == "jax":
        from rloss_caffe.jax import loss_of

        return loss_of(name, settings, images, segmentations, labels, roi, data_format)
    if backend == "torch":
        return _by_torch(name, settings, images, segmentations, labels, roi, data_format)
    raise ValueError(f"Keras must compute with tensorflow, jax or torch, found the backend {backend}")


def _by_torch(name, settings, images, segmentations, labels, roi, data_format):
    from rloss_caffe.losses._tensors import WITH_IMAGES, Layout
    from rloss_caffe.torch import _ops

    layout = Layout(data_format)
    given = {"images": images, "segmentations": segmentations, "labels": labels, "roi": roi}
    given = {
        key: keras.ops.convert_to_tensor(value)
        for key, value in given.items()
        if value is not None and (key != "images" or name in WITH_IMAGES)
    }
    layout.check(name, {key: tuple(tensor.shape) for key, tensor in given.items()})
    for key, tensor in given.items():
        if layout.is_last and tensor.ndim == 4:
            given[key] = tensor.permute(0, 3, 1, 2)
    given.setdefault("images", None)
    return _ops.loss(name, settings.options, **given, weight=settings.weight)


def replicas() -> int:
    """How many share a batch and add up their gradients: those of a tf.distribute strategy."""
    if keras.backend.backend() != "tensorflow":
        return 1
    import tensorflow as tf

    return int(tf.distribute.get_strategy().num_replicas_in_sync)


def can_compile() -> bool:
    """Whether a model that computes a loss may be compiled as a whole; TensorFlow's XLA cannot call Python."""
    return keras.backend.backend() != "tensorflow"
