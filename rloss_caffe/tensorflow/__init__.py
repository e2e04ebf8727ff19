"""The losses as differentiable functions of TensorFlow's tensors, without a build.

>>> from rloss_caffe.tensorflow import densecrf_loss
>>> value = 1e-8 * densecrf_loss(images, tf.nn.softmax(scores), bi_xy_std=100, bi_rgb_std=15)

The images are those that the network sees: 0 to 255 or with the mean subtracted, when bandwidths of 15 and 100 are what
the papers mean, or otherwise scaled, when `bi_rgb_std` is in that scale. All pixels count, unless a region is given.
`rloss_caffe.keras` has a model to train with.
"""

try:
    from tensorflow import custom_gradient as _  # noqa: F401
except ImportError as error:
    raise ImportError(
        f"rloss_caffe.tensorflow needs TensorFlow 2.16 or newer: {error}. \"pip install 'rloss_caffe[tensorflow]'\" "
        "installs it; the functions of rloss_caffe work without it."
    ) from error

from rloss_caffe.tensorflow.functions import (
    densecrf_loss,
    kernel_cut_loss,
    local_potts_loss,
    normalized_cut_loss,
    self_label_loss,
    size_constraint_loss,
)

__all__ = [
    "densecrf_loss",
    "kernel_cut_loss",
    "local_potts_loss",
    "normalized_cut_loss",
    "self_label_loss",
    "size_constraint_loss",
]
