"""Every public name for PyTorch, used as a typed program would; as ../public_names.py does for the package's own.

With PyTorch installed, ``mypy --strict`` knows these types; test_public_torch_names.py runs what is here.
"""

from __future__ import annotations

import torch
from torch import Tensor

import rloss_caffe.torch as rloss_torch


def own_losses() -> float:
    images, scores = torch.full((1, 3, 6, 7), 50.0), torch.zeros(1, 2, 6, 7, requires_grad=True)
    labels, region = torch.zeros(1, 6, 7, dtype=torch.long), torch.ones(1, 6, 7)
    segmentations = scores.softmax(1)
    modules: list[torch.nn.Module] = [
        rloss_torch.NormalizedCutLoss(0.5, bi_xy_std=5.0, bi_rgb_std=10.0),
        rloss_torch.KernelCutLoss(0.5, normalization="AFFINITY"),
        rloss_torch.LocalPottsLoss(0.1, radius=2),
        rloss_torch.SelfLabelLoss(lambda_=2.0, steps=2),
    ]
    value: Tensor = sum((module(images, segmentations, labels, region) for module in modules), torch.zeros(()))
    value = value + rloss_torch.SizeConstraintLoss(upper=[20.0, 5.0], tags=False)(segmentations)
    value = value + rloss_torch.DenseCRFLoss(1e-3, 15, 100, 0.5)(images, segmentations, region).sum()
    function: Tensor = rloss_torch.DenseCRFLossFunction.apply(images, segmentations, 15, 100, region)
    torch.autograd.grad(value + function.sum(), scores)
    return value.item()


def losses_of_others() -> float:
    images, scores = torch.full((1, 3, 6, 7), 0.5), torch.zeros(1, 2, 6, 7, requires_grad=True)
    labels, region = torch.full((1, 6, 7), 255), torch.ones(1, 6, 7)
    layer = rloss_torch.DenseEnergyLoss(1e-3, 15, 100, 0.5)
    value: Tensor = rloss_torch.get_energy_loss(images, scores, labels, [[0, 6, 0, 7]], layer)
    function: Tensor = rloss_torch.DenseEnergyLossFunction.apply(
        images, scores.softmax(1), 15, 100, region, labels == 255
    )
    gated: dict[str, Tensor] = rloss_torch.ModelLossSemsegGatedCRF()(
        scores.softmax(1), [{"weight": 1, "xy": 6, "rgb": 0.1}], 2, {"rgb": images}, 6, 7
    )
    torch.autograd.grad(value.sum() + function.sum() + gated["loss"], scores)
    return value.item()
