"""A small batch for the losses in PyTorch, and the settings that their tests go through."""

import numpy as np
import torch

SIZE = (9, 11)
IMAGE_LOSSES = ("densecrf", "kernel_cut", "local_potts", "normalized_cut", "self_label")
SIZES = {"upper": [30.0, 8.0, 12.0], "tags": False}  # of the classes of `batch`

# Options that turn each part of a loss on, by the loss's name.
OPTIONS = {
    "densecrf": {"bi_xy_std": 5.0, "bi_rgb_std": 40.0, "relaxation": "quadratic", "normalization": "AFFINITY"},
    "kernel_cut": {"bi_xy_std": 5.0, "bi_rgb_std": 40.0, "densecrf_weight": 0.5, "normalization": "VALID"},
    "local_potts": {"radius": 2, "rgb_std": 60.0, "relaxation": "quadratic"},
    "normalized_cut": {"bi_xy_std": 5.0, "bi_rgb_std": 40.0},
    "self_label": {"rgb_std": 60.0, "steps": 3, "lambda": 2.0},
    "size_constraint": SIZES,
}


def batch(images=2, classes=3, size=SIZE, channels=3, seed=0):
    """Images (0 to 255) with a bright half, scores, labels with a few pixels each, and a region without its border."""
    random = np.random.RandomState(seed)
    image = np.full((images, channels, *size), 60.0)
    image[..., size[1] // 2 :] = 190
    image += random.uniform(-25, 25, image.shape)
    labels = np.full((images, *size), 255)
    labels[:, size[0] // 2, :2] = 0
    labels[:, size[0] // 2, -2:] = min(1, classes - 1)
    roi = np.ones((images, *size))
    roi[:, :, 0] = roi[:, -1] = 0
    scores = torch.tensor(random.randn(images, classes, *size), dtype=torch.float32)
    return (
        torch.tensor(image, dtype=torch.float32),
        scores,
        torch.tensor(labels),
        torch.tensor(roi, dtype=torch.float32),
    )


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
