"""ScribbleSup's XML files of polylines, made into label maps.

A file holds <filename>, <size> and one <polygon> a stroke: <tag> with the class and <point>s with <X> and <Y>, in
pixels.
"""

import math
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np

from rloss_caffe.data.files import printable, replacing
from rloss_caffe.datasets.strokes import draw_polyline
from rloss_caffe.datasets.voc import CLASSES, IGNORE

__all__ = ["convert", "save"]

# What other VOC-like data sets and labelling programs call the classes, besides VOC's own names.
_SYNONYMS = {
    "airplane": "aeroplane",
    "plane": "aeroplane",
    "bike": "bicycle",
    "couch": "sofa",
    "monitor": "tvmonitor",
    "motorcycle": "motorbike",
    "plant": "pottedplant",
    "table": "diningtable",
    "tv": "tvmonitor",
}
_LABELS = {name: label for label, name in enumerate(CLASSES)}
_LABELS.update({synonym: _LABELS[name] for synonym, name in _SYNONYMS.items()})

_LARGEST_FILE = 10_000_000  # bytes; ScribbleSup's files have some ten thousand
_LARGEST_SIDE = 20_000  # pixels


def convert(path, width=3, images=None, origin=0):
    """The label map of an XML file.

    Parameters
    ----------
    path : Path
    width : float
        Of the strokes, in pixels: a pixel belongs to a stroke if its centre is at most half of it from the line.
    images : Path, optional
        The folder of the images NAME.jpg, to check sizes, or to take them from.
    origin : float
        The coordinates of the centre of the top-left pixel: 0, or 1 where a program counted as MATLAB does.

    Returns
    -------
    array (H, W), uint8
        255 is unlabelled. Later strokes lie over earlier ones; what is outside the image is clipped.

    Raises
    ------
    ValueError
        The file is no such XML, or sizes, classes or points in it are wrong: the message names it.
    """
    try:
        root = _read_xml(path)
        name = (root.findtext(".//filename") or "").strip()
        if name and Path(name).stem != path.stem:
            raise ValueError(f"it is about another image, {name!r}")
        height, width_of_image = _image_size(root, images and images / f"{path.stem}.jpg")
        strokes = [_read_stroke(polygon, number) for number, polygon in enumerate(root.iter("polygon"), 1)]
        if not strokes:
            raise ValueError("there is no <polygon> in it, so that nothing would be labelled")
        label = np.full((height, width_of_image), IGNORE, np.uint8)
        for value, points in strokes:
            draw_polyline(label, np.subtract(points, origin), value, width)
    except OSError as error:
        reason = f"{error.strerror}: {printable(error.filename)}" if error.filename else error
        raise ValueError(f"{printable(path)}: {reason}") from None
    except ValueError as error:
        raise ValueError(f"{printable(path)}: {error}") from None
    return label


def _read_xml(path):
    """The root element. DOCTYPE is refused: entities, which can grow without end, can only be declared there."""
    if path.stat().st_size > _LARGEST_FILE:
        raise ValueError(f"it has more than {_LARGEST_FILE} bytes, which no file of strokes needs")
    parser = ET.XMLParser(target=_Builder())
    data = path.read_bytes()
    if not data.strip():
        raise ValueError("it is empty")
    try:
        # In small pieces, since an error of the builder shows only at the end of one.
        for start in range(0, len(data), 512):
            parser.feed(data[start : start + 512])
        return parser.close()
    except (ET.ParseError, LookupError) as error:
        raise ValueError(f"it is no valid XML: {error}") from None


class _Builder(ET.TreeBuilder):
    def doctype(self, name, pubid, system):
        raise ValueError("it has a DOCTYPE, which files of strokes have no use for; it is not read")


def _image_size(root, image):
    """Height and width, from <size>, which must agree with the image if one is given, or from that alone."""
    size = root.find(".//size")
    written = None if size is None else tuple(_number(size, name, "<size>") for name in ("height", "width"))
    if written and not all(side == int(side) and 1 <= side <= _LARGEST_SIDE for side in written):
        raise ValueError(
            f"<size> must be whole numbers from 1 to {_LARGEST_SIDE}, found {written[1]:g} x {written[0]:g}"
        )
    if image is None and written is None:
        raise ValueError("there is no <size> in it; --images FOLDER takes sizes from the images")
    if image is not None:
        from PIL import Image

        with Image.open(image) as opened:
            true = opened.size[::-1]
        if written and true != tuple(map(int, written)):
            raise ValueError(f"<size> is {written[1]:g} x {written[0]:g}, {image} has {true[1]} x {true[0]} pixels")
        return true
    return tuple(map(int, written))


def _read_stroke(polygon, number_of_stroke):
    place = f"stroke {number_of_stroke}"
    tag = (polygon.findtext("tag") or "").strip()
    value = _LABELS.get("".join(c for c in tag.lower() if c.isalnum()))
    if value is None:
        raise ValueError(f"{place} has the unknown class {tag!r}; known are {', '.join(_LABELS)}")
    points = [tuple(_number(point, axis, place) for axis in "XY") for point in polygon.iter("point")]
    if not points:
        raise ValueError(f"{place} ({tag}) has no points")
    return value, points


def _number(element, name, place):
    text = element.findtext(name)
    try:
        value = float(text)
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{place}: <{name}> must be a number, found {text!r}")
    return value


def save(label, path):
    """Write a label map as a grey PNG, whole or not at all."""
    from PIL import Image

    with replacing(path) as temporary:
        Image.fromarray(label).save(temporary, format="PNG")
