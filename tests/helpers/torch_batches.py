"""The batch of `loss_batches` as PyTorch's tensors."""

import torch

from helpers import loss_batches
from helpers.loss_batches import IMAGE_LOSSES, OPTIONS, SIZE, SIZES

__all__ = ["IMAGE_LOSSES", "OPTIONS", "SIZE", "SIZES", "LossOfItem", "batch"]


def batch(**made):
    """Images, scores, labels and a region."""
    return tuple(map(torch.from_numpy, loss_batches.batch(**made)))


class LossOfItem(torch.utils.data.Dataset):
    """A dataset that computes a loss for every item, in whatever process asks for it."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        from rloss_caffe.torch import DenseCRFLoss

        images, scores, _, _ = batch(seed=index)
        scores.requires_grad_()
        value = DenseCRFLoss(1e-3, 40, 5)(images, scores.softmax(1))
        value.backward()
        return value.detach(), scores.grad
