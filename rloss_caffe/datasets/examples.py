"""The quickstart's photographs (scikit-image ships them) and their labels (drawn by hand, in labels/)."""

from pathlib import Path

import numpy as np
from PIL import Image

LABELS = Path(__file__).resolve().parent / "labels"
MEAN = np.array([104.008, 116.669, 122.675], np.float32)  # BGR, as in the big experiments
CLASSES = ["background", "person", "cat", "cup", "rocket"]
PHOTOS = {
    "astronaut": "astronaut.png",
    "camera": "camera.png",
    "chelsea": "chelsea.png",
    "coffee": "coffee.png",
    "rocket": "rocket.jpg",
}
IGNORE = 255


def load_label(name, kind):
    """``scribbles`` or ``masks`` of a photograph, (H, W) uint8: a class, or 255 where nothing is said."""
    return np.array(Image.open(LABELS / kind / f"{name}.png"))


def load_photo(name):
    """A photograph at the size of its labels, (H, W, 3) uint8 RGB."""
    from skimage import data

    height, width = load_label(name, "masks").shape
    path = Path(data.__file__).parent / PHOTOS[name]
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: this scikit-image does not ship {PHOTOS[name]}")
    return np.array(Image.open(path).convert("RGB").resize((width, height), Image.LANCZOS))


def as_blob(photo):
    """BGR minus the mean, (3, H, W) float32: what networks see."""
    return np.ascontiguousarray((photo[:, :, ::-1] - MEAN).transpose(2, 0, 1))
