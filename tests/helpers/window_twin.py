"""The local Potts loss said anew, as sums over a matrix of all pairs of pixels, in double precision."""

import numpy as np


def window_matrix(image, radius, xy_std=6.0, rgb_std=15.0, contrast="fixed", space="gaussian", roi=None):
    """W of one image (C, H, W): row i, column j the weight of the pair; without the region's factors."""
    height, width = image.shape[1:]
    rows, columns = (axis.ravel().astype(float) for axis in np.mgrid[:height, :width])
    down, right = rows[:, None] - rows, columns[:, None] - columns
    inside = (np.maximum(abs(down), abs(right)) <= radius) & ~np.eye(rows.size, dtype=bool)
    colours = image.reshape(len(image), -1).astype(float)
    squares = ((colours[:, :, None] - colours[:, None]) ** 2).sum(axis=0)
    if contrast == "image":
        both = inside if roi is None else inside * np.outer(roi, roi)
        total = (both * squares).sum()
        rgb_std = np.sqrt(total / both.sum()) if total > 0 else np.inf
    if space == "gaussian":
        spatial = np.exp(-(down**2 + right**2) / (2 * xy_std**2))
    else:
        spatial = 1 / np.sqrt(down**2 + right**2 + np.eye(rows.size))
    return inside * spatial * np.exp(-squares / (2 * rgb_std**2))


def local_potts_value(
    images,
    segmentations,
    radius=5,
    xy_std=6.0,
    rgb_std=15.0,
    relaxation="bilinear",
    normalization="VALID",
    contrast="fixed",
    classes="all",
    space="gaussian",
    labels=None,
    roi=None,
    ignore_label=255,
):
    """The loss, pair by pair."""
    values = []
    for index, (image, segmentation) in enumerate(zip(images, np.asarray(segmentations, float))):
        region = (abs(image) >= 1).any(axis=0) if roi is None else np.asarray(roi[index])
        mask = region.ravel().astype(float)
        if classes == "labelled":
            named = set(np.asarray(labels[index]).ravel()[mask > 0].astype(int)) - {ignore_label}
            segmentation = segmentation[sorted(named)]
        weights = window_matrix(image, radius, xy_std, rgb_std, contrast, space, mask) * np.outer(mask, mask)
        planes = segmentation.reshape(len(segmentation), mask.size)
        differences = planes[:, :, None] - planes[:, None]
        cost = {
            "bilinear": 1 - planes.T @ planes,
            "quadratic": (differences**2).sum(axis=0) / 2,
            "absolute": abs(differences).sum(axis=0) / 2,
        }[relaxation]
        size = {"VALID": mask.sum(), "WEIGHTS": weights.sum(), "BATCH_SIZE": 1}[normalization]
        values.append((weights * cost).sum() / size if size > 0 and len(planes) else 0.0)
    return np.mean(values)
