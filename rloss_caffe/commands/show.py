#!/usr/bin/env python
"""Show image, scribble, predictions and ground truth side by side, the worst first, as a contact sheet.

Usage:
  python tools/show_segmentations.py --list val.txt --root VOC2012 --prediction ours=results/ours --output sheet.png
  python tools/show_segmentations.py --list val.txt --root VOC2012 --order best --count 4 \\
      --model without=test.prototxt,phase1.caffemodel --model with=test.prototxt,phase2.caffemodel

Each line of the list holds an image and its label map. Predictions are label PNGs, FOLDER/ID.png with the image's ID,
or computed by a net. The IoU of an image is the mean over the classes in its label map; 255 is not counted.
"""

import argparse
import math
import os
import sys
import tempfile
import textwrap
import warnings
from collections import namedtuple
from pathlib import Path

os.environ.setdefault("GLOG_minloglevel", "2")  # before caffe is loaded: its log would bury ours

import numpy as np

from rloss_caffe.data.lists import read_list
from rloss_caffe.data.reading import read_label
from rloss_caffe.datasets import voc
from rloss_caffe.numerics.confusion import ConfusionMatrix
from rloss_caffe.pictures.overlays import draw_scribbles, shrink_scribbles
from rloss_caffe.pictures.pyplot import import_pyplot

DPI = 100
MARGIN, GAP, GROUP_GAP = 14, 8, 30  # pixels of the sheet
HEAD, HEADING, LINE = 62, 22, 15
TALLEST = 1.0  # of a panel: its height by its width; taller pictures become narrower instead

# name, and a folder of label PNGs, or a net and its weights
Source = namedtuple("Source", "name folder net weights")
# confusions: for each source the ConfusionMatrix of this image
Item = namedtuple("Item", "id image mask confusions")


def main():
    arguments = parse_arguments()
    import_pyplot()  # what is missing is said before hours of work
    names = [source.name for source in arguments.sources]
    entries = read_list(arguments.list, arguments.root)
    with tempfile.TemporaryDirectory() as temporary:
        computed = arguments.save_predictions or temporary
        folders = {source.name: source.folder or Path(computed, source.name) for source in arguments.sources}
        for source in arguments.sources:
            if source.net:
                segment(source, entries, folders[source.name], arguments)
        items = [judge(entry, folders, arguments.classes) for entry in entries]
        by = names.index(arguments.by or names[-1])
        shown = choose(items, by, arguments.order, arguments.count)
        report(shown, names, items)
        figure = draw(shown, folders, items, by, arguments)
        figure.savefig(arguments.output, dpi=DPI)
    print(f"wrote {arguments.output}", file=sys.stderr)


def parse_arguments(words=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--list", required=True, metavar="LIST", help="an image and its label map a line")
    add("--root", default="", metavar="FOLDER", help="put before every path of the list")
    add("--scribbles", type=Path, metavar="FOLDER", help="label PNGs of scribbles, FOLDER/ID.png; 255: not drawn")
    add(
        "--prediction",
        action="append",
        dest="sources",
        type=folder_source,
        metavar="NAME=FOLDER",
        help="label PNGs, FOLDER/ID.png; may be given several times",
    )
    add(
        "--model",
        action="append",
        dest="sources",
        type=net_source,
        metavar="NAME=NET,WEIGHTS",
        help="a test net's prototxt and its .caffemodel; the lists in it are not used; may be given several times",
    )
    add("--score", metavar="BLOB", help="of the nets; default: what their SegAccuracy layer is given")
    add("--mean", type=numbers, metavar="B,G,R", help="subtracted from images; default: as in the net's data layer")
    add("--gpu", type=int, metavar="ID", help="run nets there; default: on the CPU")
    add("--save-predictions", type=Path, metavar="FOLDER", help="keep what the nets predict: FOLDER/NAME/ID.png")
    add("--order", choices=["worst", "best", "list"], default="worst", help="which images come first; default worst")
    add("--by", metavar="NAME", help="whose IoU decides that; default: the last one")
    add("--count", type=int, default=8, metavar="N", help="how many images; default 8")
    add("--columns", type=int, metavar="N", help="images side by side; default: as many as can be read")
    add("--width", type=int, default=1200, metavar="PIXELS", help="of the sheet; default 1200")
    add("--classes", type=lambda text: text.split(","), metavar="A,B,...", help="class names; default: VOC's 21")
    add("--output", type=Path, default=Path("segmentations.png"), help="picture; default segmentations.png")
    arguments = parser.parse_args(words)
    if not arguments.sources:
        parser.error("give at least one --prediction or --model")
    names = [source.name for source in arguments.sources]
    if len(set(names)) < len(names):
        parser.error(f"each prediction and model needs a name of its own, found {', '.join(names)}")
    if arguments.by and arguments.by not in names:
        parser.error(f"--by must be one of {', '.join(names)}, found {arguments.by}")
    for name, least in (("count", 1), ("columns", 1), ("width", 600)):
        value = getattr(arguments, name)
        if value is not None and value < least:
            parser.error(f"--{name} must be >= {least}, found {value}")
    arguments.classes = arguments.classes or list(voc.CLASSES)
    return arguments


def folder_source(text):
    name, folder = name_and_value(text, "NAME=FOLDER")
    if not Path(folder).is_dir():
        raise argparse.ArgumentTypeError(f"no such folder: {folder}")
    return Source(name, Path(folder), None, None)


def net_source(text):
    name, files = name_and_value(text, "NAME=NET.prototxt,WEIGHTS.caffemodel")
    net, comma, weights = files.partition(",")
    if not comma or not weights:
        raise argparse.ArgumentTypeError(f"expected NAME=NET.prototxt,WEIGHTS.caffemodel, found {text}")
    return Source(name, None, net, weights)


def name_and_value(text, form):
    name, equals, value = text.partition("=")
    if not name or not value or os.path.basename(name) != name or name.startswith("."):
        raise argparse.ArgumentTypeError(f"expected {form} with a name that can be a folder's, found {text}")
    return name, value


def numbers(text):
    return [float(word) for word in text.split(",")]


def segment(source, entries, folder, arguments):
    """Write a net's label maps of all images, as palette PNGs."""
    from PIL import Image

    from rloss_caffe.commands import _devices as devices
    from rloss_caffe.nets.segmenter import Segmenter

    (device,) = [None] if arguments.gpu is None else devices.gpu_ids(str(arguments.gpu))
    devices.use(device)
    segmenter = Segmenter(source.net, source.weights, arguments.score, arguments.mean)
    folder.mkdir(parents=True, exist_ok=True)
    for entry in with_progress(entries, source.name):
        label = Image.fromarray(segmenter.predict(entry.image))
        label.putpalette(voc.palette().tobytes())
        label.save(folder / f"{Path(entry.image).stem}.png")


def with_progress(entries, title):
    try:
        from tqdm import tqdm
    except ImportError:
        return entries
    return tqdm(entries, desc=title, unit="image", file=sys.stderr)


def judge(entry, folders, classes):
    """Compare all predictions of an image with its label map."""
    mask = read_label(entry.label)
    known = mask != voc.IGNORE
    if known.any() and mask[known].max() >= len(classes):
        raise ValueError(
            f"{entry.label} has the label {mask[known].max()}, found {len(classes)} classes; --classes names them"
        )
    confusions = []
    name = Path(entry.image).stem
    for folder in folders.values():
        prediction = read_label(folder / f"{name}.png")
        if prediction.shape != mask.shape:
            raise ValueError(
                f"{folder / name}.png is {prediction.shape[1]} x {prediction.shape[0]}, "
                f"but {entry.label} {mask.shape[1]} x {mask.shape[0]}"
            )
        confusions.append(count(prediction[known], mask[known], len(classes)))
    return Item(name, entry.image, entry.label, confusions)


def count(prediction, mask, n_classes):
    """The confusion of labels; everything predicted that is no class, 255 too, is wrong: it has a column behind."""
    confusion = ConfusionMatrix(n_classes + 1)
    pairs = mask.astype(np.int64) * (n_classes + 1) + np.minimum(prediction, n_classes)
    confusion.counts[...] = np.bincount(pairs, minlength=(n_classes + 1) ** 2).reshape(confusion.counts.shape)
    return confusion


def iou(item, index):
    """An image's IoU in per cent, nan if nothing in it counts."""
    confusion = item.confusions[index]
    return 100 * confusion.mean_iou() if confusion.present().any() else math.nan


def choose(items, by, order, number):
    """The first images in that order; those in which nothing counts are last."""
    if order != "list":
        sign = 1 if order == "worst" else -1
        items = sorted(items, key=lambda item: (math.isnan(iou(item, by)), sign * iou(item, by)))
    return items[:number]


def over_list(items, index):
    """IoU in per cent over all images together, and the mean of the images' own."""
    total = ConfusionMatrix(items[0].confusions[index].n_classes)
    for item in items:
        total.counts += item.confusions[index].counts
    values = [iou(item, index) for item in items]
    values = [value for value in values if not math.isnan(value)]
    return 100 * total.mean_iou(), sum(values) / len(values) if values else math.nan


def report(shown, names, items):
    width = max(len(item.id) for item in shown)
    print(f"{'IoU in %':{width}} " + " ".join(f"{name:>10}" for name in names))
    for item in shown:
        print(f"{item.id:{width}} " + " ".join(f"{iou(item, k):10.1f}" for k in range(len(names))))
    print(f"{'whole list':{width}} " + " ".join(f"{over_list(items, k)[0]:10.1f}" for k in range(len(names))))


# From here on, everything is laid out in pixels of the sheet: what is drawn is what one sees, nothing is resampled.


def draw(shown, folders, items, by, arguments):
    """The sheet: a matplotlib Figure with one axes a picture."""
    pyplot = import_pyplot()
    headings = ["image", *(["scribble"] if arguments.scribbles else []), *folders, "ground truth"]
    columns = min(arguments.columns or max(1, arguments.width // (190 * len(headings))), len(shown))
    inside = arguments.width - 2 * MARGIN - (columns - 1) * GROUP_GAP
    width = (inside // columns - (len(headings) - 1) * GAP) // len(headings)
    if width < 60:
        raise ValueError(
            f"{columns} x {len(headings)} pictures do not fit into {arguments.width} pixels; see --columns"
        )
    occurring = set()
    if arguments.scribbles and not any(scribble_path(arguments, item).is_file() for item in shown):
        raise ValueError(
            f"no image that is shown has a scribble; expected, for instance, {scribble_path(arguments, shown[0])}"
        )
    cells = [cell(item, folders, width, arguments, occurring) for item in shown]
    for index, (panels, item) in enumerate(zip(cells, shown)):
        panels[0][1][1:] = [place(index, arguments.order, len(items))]
        mark_best(panels, item, len(folders))
    rows = [cells[start : start + columns] for start in range(0, len(cells), columns)]
    sizes = [
        (max(p[0].shape[0] for c in row for p in c), 10 + LINE * max(len(p[1]) for c in row for p in c)) for row in rows
    ]
    handles = legend_handles(occurring, arguments.classes)
    legend_columns = max(1, min(len(handles), (arguments.width - 2 * MARGIN) // 150))
    legend_height = 24 * math.ceil(len(handles) / legend_columns) + 8
    room = int((arguments.width - 2 * MARGIN) / 7)
    notes = [line for note in summary(list(folders), items) for line in textwrap.wrap(note, room)]
    foot = legend_height + 18 * len(notes) + 14
    height = HEAD + HEADING + sum(map(sum, sizes)) + foot

    figure = pyplot.figure(figsize=(arguments.width / DPI, height / DPI), dpi=DPI)
    sheet = _Sheet(figure, arguments.width, height)
    sheet.write(MARGIN, 12, title(shown, items, shorten(list(folders)[by], arguments.width / 40), arguments.order), 11)
    bold = "; bold: the best" if len(folders) > 1 else ""
    sheet.write(MARGIN, 34, f"IoU in %: mean over the classes in the image's label map, without 255{bold}", 9)
    stride = len(headings) * (width + GAP) - GAP + GROUP_GAP
    for group in range(columns):
        for index, heading in enumerate(headings):
            x = MARGIN + group * stride + index * (width + GAP) + width / 2
            sheet.write(x, HEAD, shorten(heading, width / 7.5), 10, "center")
    top = HEAD + HEADING
    for row, (row_height, caption_height) in zip(rows, sizes):
        for group, panels in enumerate(row):
            for index, (picture, lines, bold) in enumerate(panels):
                left = MARGIN + group * stride + index * (width + GAP) + (width - picture.shape[1]) // 2
                sheet.show(left, top, picture, lines, bold)
        top += row_height + caption_height
    figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(MARGIN / arguments.width, 1 - top / height),
        borderaxespad=0,
        borderpad=0,
        ncols=legend_columns,
        frameon=False,
        fontsize=9,
        handlelength=1.6,
        handleheight=1.1,
    )
    for index, note in enumerate(notes):
        sheet.write(MARGIN, top + legend_height + 18 * index, note, 9)
    return figure


class _Sheet:
    """Puts pictures and text where they belong, in pixels from the top left corner."""

    def __init__(self, figure, width, height):
        self._figure, self._width, self._height = figure, width, height

    def write(self, x, y, text, size, align="left", weight="normal"):
        position = x / self._width, 1 - y / self._height
        self._figure.text(*position, text, size=size, ha=align, va="top", weight=weight)

    def show(self, left, top, picture, lines, bold):
        height, width = picture.shape[:2]
        bottom = self._height - top - height
        bounds = left / self._width, bottom / self._height, width / self._width, height / self._height
        axes = self._figure.add_axes(bounds, xticks=[], yticks=[])
        axes.imshow(picture, interpolation="nearest", aspect="auto")
        for spine in axes.spines.values():
            spine.set(color="0.6", linewidth=0.5)
        for index, line in enumerate(lines):
            weight = "bold" if bold and not index else "normal"
            axes.annotate(
                line,
                (0.5, 0),
                (0, -(3 + LINE * index) * 72 / DPI),
                xycoords="axes fraction",
                textcoords="offset points",
                ha="center",
                va="top",
                size=8.5 if not index else 8,
                weight=weight,
                color="0" if not index else "0.25",
            )


def cell(item, folders, width, arguments, occurring):
    """One image's pictures: a list of [array, caption's lines, bold]; adds the labels that occur to a set."""
    from PIL import Image

    with Image.open(item.image) as file:
        photo = file.convert("RGB")
    scale = min(width / photo.width, TALLEST * width / photo.height)
    size = max(1, round(photo.width * scale)), max(1, round(photo.height * scale))
    photo = np.array(photo.resize(size, Image.LANCZOS))

    def coloured(label):
        occurring.update(np.unique(label).tolist())
        return colour(np.array(Image.fromarray(label).resize(size, Image.NEAREST)))

    room = int(width / 6.2)
    panels = [[photo, [shorten(item.id, room), ""], False]]
    if arguments.scribbles:
        path = scribble_path(arguments, item)
        if path.is_file():
            scribbles = read_label(path)
            drawn = scribbles != voc.IGNORE
            occurring.update(np.unique(scribbles[drawn]).tolist())
            panels.append(
                [
                    draw_scribbles(photo, shrink_scribbles(scribbles, photo.shape[:2])),
                    [f"{100 * drawn.mean():.1f} % of pixels"],
                    False,
                ]
            )
        else:
            panels.append([photo, ["no scribble"], False])
    for index, folder in enumerate(folders.values()):
        prediction = read_label(folder / f"{item.id}.png")
        panels.append([coloured(prediction), caption(item.confusions[index], arguments.classes, room), False])
    panels.append([coloured(read_label(item.mask)), [""], False])
    return panels


def scribble_path(arguments, item):
    return arguments.scribbles / f"{item.id}.png"


def colour(label):
    """A label map in VOC's palette; 255 white, hatched."""
    picture = voc.palette()[label]
    y, x = np.indices(label.shape)
    ignored = label == voc.IGNORE
    picture[ignored] = 255
    picture[ignored & ((x + y) % 8 < 2)] = 140
    return picture


def caption(confusion, classes, room):
    """The image's IoU, and that of each of its classes."""
    present, values = confusion.present(), 100 * confusion.class_iou()
    if not present.any():
        return ["nothing to count"]
    parts = [f"{classes[k]}\xa0{values[k]:.0f}" for k in map(int, np.flatnonzero(present))]
    return [f"IoU {100 * confusion.mean_iou():.1f}", *textwrap.wrap(", ".join(parts), max(room, 12))]


def place(index, order, total):
    return f"{index + 1} of {total} in the list" if order == "list" else f"{order} {index + 1} of {total}"


def mark_best(panels, item, n_sources):
    """The best of several predictions has its IoU in bold."""
    values = [iou(item, index) for index in range(n_sources)]
    if n_sources > 1 and len(set(values)) > 1:
        panels[len(panels) - 1 - n_sources + int(np.nanargmax(values))][2] = True


def title(shown, items, name, order):
    which = {"worst": "lowest", "best": "highest"}.get(order)
    ordered = f"those with the {which} IoU of '{name}' first" if which else "in the list's order"
    return f"{len(shown)} of {len(items)} images, {ordered}"


def summary(names, items):
    """The figures of the whole list, a line a prediction."""
    figures = [over_list(items, index) for index in range(len(names))]
    return [
        f"{shorten(name, 30)}: IoU {total:.1f} over the whole list ({len(items)} images taken together, mean over "
        f"the classes that occur); mean of the images' IoU {mean:.1f}"
        for name, (total, mean) in zip(names, figures)
    ]


def legend_handles(occurring, classes):
    from matplotlib.patches import Patch

    palette = voc.palette() / 255
    handles = [
        Patch(facecolor=palette[k], edgecolor="0.6", label=classes[k] if k < len(classes) else f"label {k}")
        for k in sorted(occurring - {voc.IGNORE})
    ]
    if voc.IGNORE in occurring:
        handles.append(Patch(facecolor="white", edgecolor="0.55", hatch="//////", label="255, not counted"))
    return handles


def shorten(text, room):
    """Text with its middle cut out if it is too long."""
    room = max(int(room), 5)
    return text if len(text) <= room else f"{text[: room // 2 - 1]}\u2026{text[-(room - room // 2) :]}"


if __name__ == "__main__":
    warnings.formatwarning = lambda message, *_: f"show_segmentations: warning: {message}\n"
    try:
        main()
    except (ImportError, OSError, ValueError, RuntimeError) as error:
        sys.exit(f"show_segmentations: {error}")
