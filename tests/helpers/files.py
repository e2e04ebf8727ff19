"""Small images and label maps on disk."""

import cv2
import numpy as np

from rloss_caffe.data.lists import Entry


def write_pair(folder, name, height, width, seed=0):
    """A noisy image and a label map that is a function of it: label = blue // 16."""
    image = np.random.RandomState(seed).randint(0, 256, (height, width, 3), np.uint8)
    cv2.imwrite(str(folder / f"{name}.png"), image)
    cv2.imwrite(str(folder / f"{name}_label.png"), image[:, :, 0] // 16)
    return Entry(seed + 1, str(folder / f"{name}.png"), str(folder / f"{name}_label.png"))
