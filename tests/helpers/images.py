"""Pictures and probabilities for tests, and the names of the reference cases."""

import numpy as np

REFERENCE_CASES = [
    "noise_small",
    "photo_21_classes",
    "mean_padded",
    "default_bandwidths",
    "constant_image_one_hot",
    "one_row",
    "narrow_bandwidths",
]


def smooth_image(height, width, channels=3, seed=0):
    """A picture-like image: soft blobs, an edge, some noise."""
    rng = np.random.RandomState(seed)
    y, x = np.mgrid[:height, :width] / max(height, width)
    planes = [
        120 * np.sin(5 * x + c) + 90 * (y > 0.4 + 0.1 * c) + 6 * rng.randn(height, width) for c in range(channels)
    ]
    return np.array(planes, np.float32)


def probabilities(n, k, height, width, seed=0):
    scores = np.random.RandomState(seed).randn(n, k, height, width)
    e = np.exp(scores)
    return (e / e.sum(1, keepdims=True)).astype(np.float32)


def batch(n=2, k=3, height=8, width=9, seed=0):
    """Images of which the first has a corner outside the region, probabilities, and labels of two classes each."""
    images = np.array([smooth_image(height, width, seed=seed + index) for index in range(n)]) + 300
    images[0, :, :3, :4] = 0
    labels = np.full((n, height, width), 255)
    for index in range(n):
        labels[index, -2, 2:5], labels[index, -1, 4:] = index % k, (index + 1) % k
    return images, probabilities(n, k, height, width, seed), labels
