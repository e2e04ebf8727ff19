"""The losses as PyTorch modules, on the CPU and on a GPU, without a build.

>>> from rloss_caffe.torch import DenseCRFLoss
>>> loss = DenseCRFLoss(weight=1e-8, sigma_rgb=15, sigma_xy=100, scale_factor=0.5)
>>> loss(images, scores.softmax(dim=1)).backward()

The images are those that the network sees: 0 to 255 or with the mean subtracted, when bandwidths of 15 and 100 are what
the papers mean, or otherwise scaled, when `sigma_rgb` is in that scale. All pixels count, unless a region is given.
"""

try:
    from torch.library import custom_op as _  # noqa: F401
except ImportError as error:
    raise ImportError(
        f"rloss_caffe.torch needs PyTorch 2.4 or newer: {error}. \"pip install 'rloss_caffe[torch]'\" installs it; "
        "the functions of rloss_caffe work without it."
    ) from error

from rloss_caffe.torch.energy_loss import DenseEnergyLoss, DenseEnergyLossFunction, get_energy_loss
from rloss_caffe.torch.gated_crf import ModelLossSemsegGatedCRF
from rloss_caffe.torch.modules import (
    DenseCRFLoss,
    DenseCRFLossFunction,
    KernelCutLoss,
    LocalPottsLoss,
    NormalizedCutLoss,
    SelfLabelLoss,
    SizeConstraintLoss,
)

__all__ = [
    "DenseCRFLoss",
    "DenseCRFLossFunction",
    "DenseEnergyLoss",
    "DenseEnergyLossFunction",
    "KernelCutLoss",
    "LocalPottsLoss",
    "ModelLossSemsegGatedCRF",
    "NormalizedCutLoss",
    "SelfLabelLoss",
    "SizeConstraintLoss",
    "get_energy_loss",
]
