"""The dense losses in plain PyTorch, in double precision: the lattice is a matrix, filtered from unit vectors.

As other projects' modules: S reduced bilinearly, image, region and labels to their nearest pixels.
"""

import numpy as np
import torch
from torch.nn.functional import interpolate

from rloss_caffe import bilateral_filter


def affinity(image, sigma_rgb, sigma_xy):
    """A of one image (C, H, W), a matrix (H W, H W)."""
    height, width = image.shape[1:]
    pixels = height * width
    units = np.eye(pixels, dtype=np.float32).reshape(pixels, height, width)
    filtered = bilateral_filter(image.detach().float().numpy(), units, float(sigma_xy), float(sigma_rgb))
    return torch.tensor(filtered.reshape(pixels, pixels).T.copy(), dtype=torch.float64)


def reduced(tensor, scale_factor, recompute, mode="nearest"):
    return interpolate(tensor.double(), scale_factor=scale_factor, mode=mode, recompute_scale_factor=recompute)


def dense_loss(
    images, segmentations, sigma_rgb, sigma_xy, region, scale_factor=1.0, recompute=False, unlabelled=None, gated=False
):
    """The value, and a scalar whose derivative by the segmentations is the published gradient -2/N m G A (m S).

    `region` and `unlabelled`: (N, H, W). The gate G is 1 where not `gated`.
    """
    images = reduced(images, scale_factor, recompute)
    segmentations = reduced(segmentations, scale_factor, recompute, "bilinear")
    region = reduced(region[:, None], scale_factor, recompute)
    gate = torch.ones_like(region)
    if gated:
        gate = region - segmentations.detach().max(dim=1, keepdim=True)[0]
        gate[reduced(unlabelled[:, None], scale_factor, recompute) > 0] = 1
        gate = gate.clamp(min=0)
    batch = len(images)
    value, through = 0.0, 0.0
    for image, probabilities, mask, doubt in zip(images, segmentations, region, gate):
        inside = (mask * probabilities).flatten(1)
        filtered = doubt.flatten() * (inside.detach() @ affinity(image, sigma_rgb, sigma_xy * scale_factor).T)
        value = value - (inside * filtered).sum().item() / batch
        through = through - 2 * (inside * filtered).sum() / batch
    return value, through
