"""Read images with OpenCV, as the original does, and label maps with Pillow, which keeps a palette's indices."""

import numpy as np

__all__ = ["read_image", "read_label"]

_INSTALL = "pip install 'rloss_caffe[images]' brings it"


def import_cv2():
    try:
        import cv2
    except ImportError as error:
        raise ImportError(f"images are read with OpenCV, and 'import cv2' failed: {error}; {_INSTALL}") from error
    return cv2


def read_image(path, is_color=True):
    """Read an image file: array (H, W, 3) in BGR, or (H, W, 1) grey, uint8.

    Raises
    ------
    ValueError
        The file cannot be opened or decoded.
    """
    cv2 = import_cv2()
    image = cv2.imread(path, cv2.IMREAD_COLOR if is_color else cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise ValueError(f"could not open or decode the image {path}")
    return image if is_color else image[:, :, np.newaxis]


def read_label(path):
    """Read a label map: array (H, W), uint8.

    A palette image gives its indices (VOC's SegmentationClass is of that kind), a grey one its values.

    Raises
    ------
    ValueError
        The file cannot be opened or decoded, or has colours or more than 8 bits.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError(f"label maps are read with Pillow, and importing it failed: {error}; {_INSTALL}") from error
    try:
        with Image.open(path) as image:
            mode, label = image.mode, np.array(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"could not open or decode the label map {path}: {error}") from None
    if mode not in ("P", "L", "1"):
        raise ValueError(
            f"the label map {path} must have one channel of 8 bits with class numbers (grey or palette), "
            f"found the mode {mode!r}"
        )
    return label.astype(np.uint8, copy=False)
