#!/usr/bin/env python
"""Convert ScribbleSup's XML files of polylines to label maps: one PNG an image, class numbers, 255 unlabelled.

Usage: python tools/scribbles_to_png.py scribble_annotation/pascal_2012 --output VOC2012/pascal_2012_scribble

A file holds <filename>, <size> and one <polygon> a stroke: <tag> with the class and <point>s with <X> and <Y>, in
pixels from the top-left one, (0, 0). Strokes are three pixels wide (a pixel belongs to one if its centre is at most
1.5 pixels from the line); later strokes lie over earlier ones; what is outside the image is clipped.
Files that are wrong are named, the others converted; the exit status is then 1.
"""

import argparse
import math
import os
import sys
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

import numpy as np

from rloss_caffe.data.progress import in_threads
from rloss_caffe.datasets.strokes import draw_polyline
from rloss_caffe.datasets.voc import CLASSES, IGNORE

# What other VOC-like data sets and labelling programs call the classes, besides VOC's own names.
SYNONYMS = {
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
LABELS = {name: label for label, name in enumerate(CLASSES)}
LABELS.update({synonym: LABELS[name] for synonym, name in SYNONYMS.items()})

LARGEST_FILE = 10_000_000  # bytes; ScribbleSup's files have some ten thousand
LARGEST_SIDE = 20_000  # pixels


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("xml", nargs="+", type=Path, metavar="XML", help="files, or folders of *.xml")
    parser.add_argument("--output", required=True, type=Path, metavar="FOLDER", help="for ID.png")
    parser.add_argument("--width", type=float, default=3, help="of the strokes in pixels (default 3)")
    parser.add_argument(
        "--images", type=Path, metavar="FOLDER", help="JPEGImages: check sizes, or take them from there"
    )
    arguments = parser.parse_args()
    if not 1 <= arguments.width <= 100:
        parser.error(f"--width is in pixels, from 1 to 100, found {arguments.width:g}")
    paths = [p for given in arguments.xml for p in (sorted(given.glob("*.xml")) if given.is_dir() else [given])]
    if not paths:
        parser.error(f"there are no .xml files in {', '.join(map(str, arguments.xml))}")
    repeated = [name for name, count in Counter(path.stem for path in paths).items() if count > 1]
    if repeated:
        parser.error(f"several files would become {repeated[0]}.png")
    arguments.output.mkdir(parents=True, exist_ok=True)

    def work(path):
        try:
            label = convert(path, arguments.width, arguments.images)
            save(label, arguments.output / f"{path.stem}.png")
        except (OSError, ValueError) as error:
            return None, str(error)
        return np.mean(label != IGNORE), None

    shares, errors = [], []
    for share, error in in_threads(work, paths, "converting"):
        shares.append(share) if error is None else errors.append(error)
    for error in errors:
        print(f"scribbles_to_png: {error}", file=sys.stderr)
    labelled = f", {100 * np.mean(shares):.2f} % of their pixels labelled" if shares else ""
    print(f"{len(shares)} label maps in {arguments.output}{labelled}; {len(errors)} files were wrong")
    return 1 if errors else 0


def convert(path, width=3, images=None):
    """The label map of an XML file, (H, W) uint8.

    Raises
    ------
    ValueError
        The file is no such XML, or sizes, classes or points in it are wrong: the message names it.
    """
    try:
        root = read_xml(path)
        name = (root.findtext(".//filename") or "").strip()
        if name and Path(name).stem != path.stem:
            raise ValueError(f"it is about another image, {name!r}")
        height, width_of_image = image_size(root, images and images / f"{path.stem}.jpg")
        strokes = [read_stroke(polygon, number) for number, polygon in enumerate(root.iter("polygon"), 1)]
        if not strokes:
            raise ValueError("there is no <polygon> in it, so that nothing would be labelled")
        label = np.full((height, width_of_image), IGNORE, np.uint8)
        for value, points in strokes:
            draw_polyline(label, points, value, width)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return label


def read_xml(path):
    """The root element. DOCTYPE is refused: entities, which can grow without end, can only be declared there."""
    if path.stat().st_size > LARGEST_FILE:
        raise ValueError(f"it has more than {LARGEST_FILE} bytes, which no file of strokes needs")
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


def image_size(root, image):
    """Height and width, from <size>, which must agree with the image if one is given, or from that alone."""
    size = root.find(".//size")
    written = None if size is None else tuple(number(size, name, "<size>") for name in ("height", "width"))
    if written and not all(side == int(side) and 1 <= side <= LARGEST_SIDE for side in written):
        raise ValueError(
            f"<size> must be whole numbers from 1 to {LARGEST_SIDE}, found {written[1]:g} x {written[0]:g}"
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


def read_stroke(polygon, number_of_stroke):
    place = f"stroke {number_of_stroke}"
    tag = (polygon.findtext("tag") or "").strip()
    value = LABELS.get("".join(c for c in tag.lower() if c.isalnum()))
    if value is None:
        raise ValueError(f"{place} has the unknown class {tag!r}; known are {', '.join(LABELS)}")
    points = [tuple(number(point, axis, place) for axis in "XY") for point in polygon.iter("point")]
    if not points:
        raise ValueError(f"{place} ({tag}) has no points")
    return value, points


def number(element, name, place):
    text = element.findtext(name)
    try:
        value = float(text)
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{place}: <{name}> must be a number, found {text!r}")
    return value


def save(label, path):
    """Write a label map: all of the file or nothing of it, however this program ends."""
    from PIL import Image

    new = path.with_suffix(".new")
    Image.fromarray(label).save(new, format="PNG")
    os.replace(new, path)


if __name__ == "__main__":
    sys.exit(main())
