"""A small batch for the losses in any framework, and the settings that their tests go through."""

import numpy as np

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

# Settings with which the gradient is the value's exact derivative.
EXACT = [
    ("densecrf", {"exact_gradient": True}),
    ("densecrf", {"exact_gradient": True, "relaxation": "quadratic", "normalization": "AFFINITY"}),
    ("densecrf", {"exact_gradient": True, "scale_factor": 0.6}),
    ("kernel_cut", {"exact_gradient": True, "densecrf_weight": 0.1}),
    ("local_potts", {"radius": 2, "rgb_std": 60.0}),
    ("normalized_cut", {"exact_gradient": True}),
    ("size_constraint", {"upper": [3.0, 9.0], "penalty": "log_barrier"}),
    ("self_label", {"steps": 0}),  # with a label everywhere: latent labels count as constants
]


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
    scores = random.randn(images, classes, *size)
    return image.astype(np.float32), scores.astype(np.float32), labels, roi.astype(np.float32)


def softmax(scores, axis=1):
    """Class probabilities, in double precision within."""
    powers = np.exp(np.asarray(scores, float) - np.max(scores, axis, keepdims=True))
    return (powers / powers.sum(axis, keepdims=True)).astype(np.float32)
