"""The losses for Keras 3, and a model to train with them, on TensorFlow, JAX or PyTorch.

>>> from rloss_caffe.keras import DenseCRFLoss, RegularizedModel
>>> model = RegularizedModel(network, [DenseCRFLoss(1e-8, bi_xy_std=100, bi_rgb_std=15)], from_logits=True)
>>> model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=255))
>>> model.fit(dataset)
"""

try:
    from keras import __version__ as _version

    if int(_version.split(".")[0]) < 3:
        raise ImportError(f"this is Keras {_version}")
except ImportError as error:
    raise ImportError(
        f"rloss_caffe.keras needs Keras 3 and TensorFlow, JAX or PyTorch: {error}. "
        "\"pip install 'rloss_caffe[tensorflow]'\" installs Keras and TensorFlow."
    ) from error

from rloss_caffe.keras.losses import (
    DenseCRFLoss,
    ImageLoss,
    KernelCutLoss,
    LocalPottsLoss,
    NormalizedCutLoss,
    SelfLabelLoss,
    SizeConstraintLoss,
)
from rloss_caffe.keras.model import RegularizedModel

__all__ = [
    "DenseCRFLoss",
    "ImageLoss",
    "KernelCutLoss",
    "LocalPottsLoss",
    "NormalizedCutLoss",
    "RegularizedModel",
    "SelfLabelLoss",
    "SizeConstraintLoss",
]
