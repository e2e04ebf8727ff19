"""Read images with OpenCV, as the original does, and label maps with Pillow, which knows a palette's indices.

Both give the pixels as they are stored: an EXIF orientation turns nothing, neither image nor label map, so that the
two stay on each other. OpenCV 2.4 under the original knew of no orientation.
"""

import io
import re

import numpy as np

from rloss_caffe.data.files import printable
from rloss_caffe.data.palette import palette_values
from rloss_caffe.installation import add_extra

__all__ = ["read_image", "read_label"]


def import_cv2():
    try:
        import cv2
    except ImportError as error:
        raise ImportError(
            f"images are read with OpenCV, and 'import cv2' failed: {error}; this brings it: {add_extra('images')}"
        ) from error
    return cv2


def read_image(path, is_color=True):
    """Read an image file: array (H, W, 3) in BGR, or (H, W, 1) grey, uint8, with the pixels as they are stored.

    Raises
    ------
    ValueError
        The file cannot be opened or decoded, or ends too early.
    """
    cv2 = import_cv2()
    # OpenCV gets bytes, not a name: some names end the process in it.
    data = _read_bytes(path, "image")
    if data.startswith(b"\xff\xd8") and not _jpeg_has_end(data):
        raise ValueError(f"could not open or decode the image {printable(path)}: this JPEG is cut off before its end")
    flags = (cv2.IMREAD_COLOR if is_color else cv2.IMREAD_GRAYSCALE) | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    except (cv2.error, MemoryError) as error:
        raise ValueError(
            f"could not open or decode the image {printable(path)}: {' '.join(str(error).split())}"
        ) from None
    if image is None:
        raise ValueError(f"could not open or decode the image {printable(path)}")
    if image.dtype != np.uint8 or image.shape[2:] != ((3,) if is_color else ()):
        raise ValueError(
            f"the image {printable(path)} must have 8 bits a channel, OpenCV made {image.dtype} {image.shape} of it"
        )
    return image if is_color else image[:, :, np.newaxis]


def read_label(path):
    """Read a label map: array (H, W), uint8, as it is stored.

    A grey picture gives its greys, as OpenCV reads them, however few bits hold them: one of 1 bit gives 0 and 255, and
    a palette of greys means those greys. Other palettes must be VOC's: where it stands in VOC's own order the indices
    count, elsewhere each colour is the class that has it in VOC's palette. So a label map reads the same however a
    program has stored it, or it is refused.

    Raises
    ------
    ValueError
        The file cannot be opened or decoded, has more than one channel of 8 bits, or a palette that says no classes.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError(
            f"label maps are read with Pillow, and importing it failed: {error}; this brings it: {add_extra('images')}"
        ) from error
    data = _read_bytes(path, "label map")
    try:
        with Image.open(io.BytesIO(data)) as image:
            stored = image.palette.getdata() if image.mode == "P" else ("", b"")
            image.load()
            mode, label = image.mode, np.asarray(image)
            # Older versions of Pillow fill a palette with colours of their own when they load the image.
            palette = list(stored[1]) if stored[0] == "RGB" else image.getpalette()
    # Pillow's readers raise more than they name: struct.error, IndexError, KeyError and others on damaged files.
    except Exception as error:
        raise ValueError(f"could not open or decode the label map {printable(path)}: {error}") from None
    if mode == "1":
        return np.where(label, np.uint8(255), np.uint8(0))
    if mode == "L":
        return np.array(label, np.uint8)
    if mode != "P":
        raise ValueError(
            f"the label map {printable(path)} must have one channel of 8 bits with class numbers (grey or palette), "
            f"found the mode {mode!r}"
        )
    try:
        return palette_values(np.reshape(palette, (-1, 3)), np.flatnonzero(np.bincount(label.ravel())))[label]
    except ValueError as error:
        raise ValueError(f"the label map {printable(path)} {error}") from None


def _read_bytes(path, what):
    try:
        with open(path, "rb") as file:
            return file.read()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name, or a letter that the system's names lack
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"could not open or decode the {what} {printable(path)}: {reason}") from None


_MARKER = re.compile(rb"\xff[\x02-\xcf\xd9-\xfe]")  # with a length behind it, or the end


def _jpeg_has_end(data):
    """Some versions of OpenCV fill with grey what is missing of a JPEG, and say nothing."""
    place = 2
    while True:
        marker = _MARKER.search(data, place)
        if not marker:
            return False
        if marker.group() == b"\xff\xd9":
            return True
        place = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2], "big")
