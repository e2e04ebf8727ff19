"""The joint loss of soft self-labelling said anew: over a matrix of all pairs of pixels, in double precision."""

import numpy as np

from helpers.window_twin import window_matrix

FLOOR, LOG_QUADRATIC_FLOOR = 1e-20, 1e-5


def pair_costs(labels, relaxation):
    """Of every pair of pixels: labels (K, P), result (P, P)."""
    products = labels.T @ labels
    lengths = np.sqrt((labels**2).sum(axis=0))
    squares = ((labels[:, :, None] - labels[:, None]) ** 2).sum(axis=0)
    both = np.outer(lengths, lengths)
    return {
        "bilinear": 1 - products,
        "quadratic": squares / 2,
        "normalized_quadratic": 1 - products / both,
        "collision_cross_entropy": -np.log(products + FLOOR),
        "collision_divergence": -np.log((products + FLOOR) / both),
        "log_quadratic": -np.log(1 - np.minimum(squares / 2, 1) + LOG_QUADRATIC_FLOOR),
    }[relaxation]


def joint_loss(
    images,
    segmentations,
    latent,
    relaxation="log_quadratic",
    cross_entropy="collision",
    eta=0.3,
    strength=6.0,
    normalization="VALID",
    labelled_weight=1.0,
    labels=None,
    roi=None,
    contrast_scale=1.0,
    **window,
):
    """Its three terms, for latent labels that are given."""
    terms = np.zeros(3)
    for n, (image, segmentation, found) in enumerate(zip(images, np.asarray(segmentations, float), latent)):
        region = (abs(image) >= 1).any(axis=0) if roi is None else np.asarray(roi[n])
        m = region.ravel().astype(float)
        s, y = segmentation.reshape(len(segmentation), -1), found.reshape(len(found), -1).astype(float)
        c = np.full(m.size, 255) if labels is None else np.asarray(labels[n]).ravel().astype(int)
        is_given = c != 255
        costs = np.zeros(m.size)
        for i in range(m.size):
            if is_given[i]:
                costs[i] = -np.log(s[c[i], i] + FLOOR)
            elif cross_entropy == "collision":
                costs[i] = -np.log(y[:, i] @ s[:, i] + FLOOR)
            else:
                costs[i] = -y[:, i] @ np.log(s[:, i] + FLOOR)
        w = window_matrix(image, roi=m, **window)
        if window["contrast"] == "image":  # exp(-d / (2 s^2)) to the power of 1 / scale^2
            space = window_matrix(np.zeros_like(image), roi=m, **window)
            w = space * np.divide(w, space, out=np.ones_like(w), where=space > 0) ** (1 / contrast_scale**2)
        w = w * np.outer(m, m)
        w[np.outer(is_given, is_given)] = 0
        pairs = (w * pair_costs(y, relaxation)).sum() / 2  # each once
        size = m.sum() if normalization == "VALID" else 1.0
        if size > 0:
            own = [labelled_weight * (m * costs)[is_given].sum(), eta * (m * costs)[~is_given].sum(), strength * pairs]
            terms += np.array(own) / size / len(images)
    return terms
