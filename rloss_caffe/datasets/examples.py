"""Five photographs to try things on: scikit-image ships them; the scribbles and masks were drawn by hand."""

from pathlib import Path

import numpy as np

from rloss_caffe.data.samples import MEAN_BGR

__all__ = ["CLASSES", "IGNORE", "PHOTOS", "as_blob", "load_label", "load_photo"]

LABELS = Path(__file__).resolve().parent / "example_labels"
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
    """The ``scribbles`` or the ``masks`` of a photograph, (H, W) uint8: a class, or 255 where nothing is said."""
    from PIL import Image

    return np.array(Image.open(LABELS / kind / f"{name}.png"))


def load_photo(name):
    """A photograph at the size of its labels, (H, W, 3) uint8 RGB."""
    from PIL import Image
    from skimage import data

    height, width = load_label(name, "masks").shape
    path = Path(data.__file__).parent / PHOTOS[name]
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: this scikit-image does not ship {PHOTOS[name]}")
    return np.array(Image.open(path).convert("RGB").resize((width, height), Image.LANCZOS))


def as_blob(photo):
    """BGR minus the mean, (3, H, W) float32: what networks see."""
    return np.ascontiguousarray((photo[:, :, ::-1] - np.float32(MEAN_BGR)).transpose(2, 0, 1))
