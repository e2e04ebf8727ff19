"""Slow, obvious twins of the losses' values, in double precision, and derivatives by finite differences."""

import numpy as np

from rloss_caffe import PermutohedralLattice, bilateral_features


def affinity_matrix(image, bi_xy_std, bi_rgb_std):
    """The lattice's A for one image as a matrix (H W, H W), got by filtering unit vectors."""
    size = image.shape[1:]
    pixels = size[0] * size[1]
    lattice = PermutohedralLattice(bilateral_features(image, bi_xy_std, bi_rgb_std))
    return (
        lattice.filter(np.eye(pixels, dtype=np.float32).reshape(pixels, *size)).reshape(pixels, pixels).T.astype(float)
    )


def symmetric_kernel(affinity, region):
    """D^-1/2 A D^-1/2 with d = A m, and 0 where d is 0."""
    degree = affinity @ region
    root = np.array([1 / np.sqrt(d) if d > 0 else 0 for d in degree])
    return root[:, None] * affinity * root[None]


def normalized_cut_value(affinity, segmentation, region, classes):
    """One image's sum over the classes of 1 - (S'_k . A S'_k) / (A m . S'_k); S (K, P), m (P,)."""
    value = 0.0
    for k in classes:
        inside = region * segmentation[k]
        volume = (affinity @ region) @ inside
        if volume > 0:
            value += 1 - inside @ affinity @ inside / volume
    return value


def numeric_gradient(value, start, step=1e-3):
    """The derivative of `value` at `start` by central differences, one number at a time."""
    start = np.asarray(start, float)
    gradient = np.empty(start.shape)
    for place in np.ndindex(*start.shape):
        moved = start.copy()
        moved[place] = start[place] + step
        above = value(moved)
        moved[place] = start[place] - step
        gradient[place] = (above - value(moved)) / (2 * step)
    return gradient


def relative_error(found, expected):
    """The norm of the difference over the norm of what is expected."""
    return np.linalg.norm(np.asarray(found, float) - expected) / np.linalg.norm(expected)


def densecrf_value(
    affinity,
    segmentation,
    region,
    classes,
    relaxation="bilinear",
    normalization="BATCH_SIZE",
    non_negative=False,
    gate=1.0,
):
    """One image's DenseCRF loss; S (K, P), m (P,), the gate's G (P,)."""
    if not len(classes):
        return 0.0
    value = 0.0
    degree = affinity @ region
    for k in classes:
        inside = region * segmentation[k]
        value -= inside @ (gate * (affinity @ inside))
        if relaxation == "quadratic":
            value += degree @ (region * segmentation[k] ** 2)
    if non_negative and relaxation == "bilinear":
        value += (gate * region) @ degree
    return value / {"BATCH_SIZE": 1, "VALID": region.sum(), "AFFINITY": region @ degree}[normalization]


class ExactSum:
    """In the lattice's place: the sum over all pairs of pixels, which no other pixel changes."""

    def __init__(self, features, num_threads=None):
        points = features.reshape(len(features), -1).T.astype(float)
        self.matrix = np.exp(-((points[:, None] - points[None]) ** 2).sum(2) / 2)

    def filter(self, values, reverse=False, roi=None, out=None):
        masked = (values if roi is None else values * roi).reshape(len(values), -1)
        result = (masked @ self.matrix.T).reshape(values.shape).astype(np.float32)
        if out is None:
            return result
        out[...] = result
        return out
