"""The batch of `loss_batches` for the functions of TensorFlow, and what the NumPy functions make of it."""

import numpy as np
import tensorflow as tf

import rloss_caffe.tensorflow as rloss_tensorflow
from helpers.loss_batches import IMAGE_LOSSES, batch, softmax
from rloss_caffe.losses import LOSSES


def arrays_of(name, **made):
    """The keywords of a NumPy function but for its options: channels first."""
    images, scores, labels, roi = batch(**made)
    given = {"images": images} if name in IMAGE_LOSSES else {}
    return {**given, "segmentations": softmax(scores), "labels": labels, "roi": roi}


def expected(name, arrays, options):
    """Value and gradient of the NumPy function."""
    result = LOSSES[name](**arrays, **options)
    return result.value, result.gradient()


def channels_last(arrays):
    """The same keywords as TensorFlow lays them out."""
    return {key: np.moveaxis(array, 1, -1) if array.ndim == 4 else array for key, array in arrays.items()}


def value_and_gradient(name, tensors, options, **how):
    """Of a function for TensorFlow."""
    with tf.GradientTape() as tape:
        tape.watch(tensors["segmentations"])
        value = getattr(rloss_tensorflow, f"{name}_loss")(**tensors, **how, **options)
    return value, tape.gradient(value, tensors["segmentations"])
