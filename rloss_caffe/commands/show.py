"""Show image, scribble, predictions and ground truth side by side, the worst first, as a contact sheet.

  rloss-caffe show --list val.txt --root VOC2012 --order best --count 4 \\
      --model without=test.prototxt,phase1.caffemodel --model with=test.prototxt,phase2.caffemodel

Each line of the list holds an image and its label map. Predictions are label PNGs, FOLDER/ID.png with the image's ID,
or computed by a net. The IoU of an image is the mean over the classes in its label map; 255 is not counted.
Classes have VOC's names where there are 21 of them; else --names names them.
"""

import argparse
import math
import os
import tempfile
import textwrap
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rloss_caffe.commands._outputs import FOLDER, output_path, say_written
from rloss_caffe.commands._words import class_names, find_classes, numbers, word_list
from rloss_caffe.data.files import printable
from rloss_caffe.data.lists import read_list
from rloss_caffe.data.progress import in_threads, progress_bar
from rloss_caffe.data.reading import read_image, read_label
from rloss_caffe.datasets import voc
from rloss_caffe.numerics.confusion import ConfusionMatrix
from rloss_caffe.pictures.figures import check_matplotlib, save
from rloss_caffe.pictures.overlays import draw_labels, draw_scribbles, shrink_scribbles
from rloss_caffe.pictures.panel_table import Picture, Table, label_legend, resized
from rloss_caffe.pictures.sheet import shorten

__all__ = ["add_arguments", "run"]

EXAMPLE = "rloss-caffe show --list val.txt --root VOC2012 --prediction ours=results/ours"
NAME = "segmentations.png"


@dataclass
class Source:
    """Where predictions come from: a folder of label PNGs, or a net and its weights."""

    name: str
    folder: "Path | None" = None
    net: "str | None" = None
    weights: "str | None" = None


@dataclass
class Item:
    """An image of the list, and for each source its confusion: {(label, prediction): pixels}."""

    id: str
    image: str
    mask: str
    counts: list


def add_arguments(parser):
    add = parser.add_argument
    add("--list", required=True, metavar="LIST", help="an image and its label map a line")
    add("--root", default="", metavar="FOLDER", help="put before every path of the list")
    add("--scribbles", type=Path, metavar="FOLDER", help="label PNGs of scribbles, FOLDER/ID.png; 255: not drawn")
    add(
        "--prediction",
        action="append",
        dest="sources",
        type=_folder_source,
        metavar="NAME=FOLDER",
        help="label PNGs, FOLDER/ID.png; may be given several times",
    )
    add(
        "--model",
        action="append",
        dest="sources",
        type=_net_source,
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
    add("--names", type=word_list, metavar="A,B,...", help="names of all classes, from 0; 'voc' means VOC's 21")
    add("--classes", type=word_list, metavar="A,B,...", help="names or numbers: count these alone; default: all")
    add("--output", type=Path, help=f"picture; default {FOLDER / NAME}")


def _folder_source(text):
    name, folder = _name_and_value(text, "NAME=FOLDER")
    if not Path(folder).is_dir():
        raise argparse.ArgumentTypeError(f"no such folder: {folder}")
    return Source(name, folder=Path(folder))


def _net_source(text):
    name, files = _name_and_value(text, "NAME=NET.prototxt,WEIGHTS.caffemodel")
    net, comma, weights = files.partition(",")
    if not comma or not weights:
        raise argparse.ArgumentTypeError(f"expected NAME=NET.prototxt,WEIGHTS.caffemodel, found {text}")
    return Source(name, net=net, weights=weights)


def _name_and_value(text, form):
    name, equals, value = text.partition("=")
    if not name or not value or os.path.basename(name) != name or name.startswith("."):
        raise argparse.ArgumentTypeError(f"expected {form} with a name that can be a folder's, found {text}")
    return name, value


def run(arguments):
    """Segment what has to be, count, print the scores of the images that are shown, and draw them."""
    os.environ.setdefault("GLOG_minloglevel", "2")  # before caffe is loaded: its log would bury ours
    _check(arguments)
    check_matplotlib()  # what is missing is said before hours of work
    entries = read_list(arguments.list, arguments.root)
    _check_ids(arguments.list, entries)
    with tempfile.TemporaryDirectory() as temporary:
        computed = arguments.save_predictions or Path(temporary)
        folders = {source.name: source.folder or computed / source.name for source in arguments.sources}
        sizes = [segment(each, entries, folders[each.name], arguments) for each in arguments.sources if each.net]
        items = list(in_threads(lambda entry: judge(entry, folders), entries, "comparing"))
        ranking = Ranking.of(items, arguments, sizes)
        if arguments.save_predictions:
            say_written(arguments.save_predictions)
        ranking.report()
        figure = draw(ranking, folders, arguments)
    path = output_path(arguments.output, NAME)
    save(figure, path)
    say_written(path)
    return 0


def _check(arguments):
    if not arguments.sources:
        raise ValueError("give at least one --prediction or --model")
    names = [source.name for source in arguments.sources]
    if len(set(names)) < len(names):
        raise ValueError(f"each prediction and model needs a name of its own, found {', '.join(names)}")
    if arguments.by and arguments.by not in names:
        raise ValueError(f"--by must be one of {', '.join(names)}, found {arguments.by}")
    for name, least in (("count", 1), ("columns", 1), ("width", 600)):
        value = getattr(arguments, name)
        if value is not None and value < least:
            raise ValueError(f"--{name} must be >= {least}, found {value}")
    if arguments.save_predictions and not any(source.net for source in arguments.sources):
        raise ValueError("--save-predictions keeps what nets predict: there is no --model")


def _check_ids(path, entries):
    """Predictions are found by an image's ID, so each may be there once."""
    lines = {}
    for entry in entries:
        name = Path(entry.image).stem
        first = lines.setdefault(name, entry.line)
        if first != entry.line:
            raise ValueError(
                f"{path}, lines {first} and {entry.line}: two images have the ID {printable(name)}, by which "
                "predictions are found"
            )


def segment(source, entries, folder, arguments):
    """Write a net's label maps of all images, as palette PNGs; returns the number of its classes."""
    from PIL import Image

    from rloss_caffe.commands import _devices as devices
    from rloss_caffe.nets.segmenter import Segmenter

    (device,) = [None] if arguments.gpu is None else devices.gpu_ids(str(arguments.gpu))
    devices.use(device)
    segmenter = Segmenter(source.net, source.weights, arguments.score, arguments.mean)
    folder.mkdir(parents=True, exist_ok=True)
    with progress_bar(len(entries), source.name, "image") as bar:
        for entry in entries:
            label = Image.fromarray(segmenter.predict(entry.image))
            label.putpalette(voc.palette().tobytes())
            label.save(folder / f"{Path(entry.image).stem}.png")
            bar.update()
    return segmenter.n_classes


def judge(entry, folders):
    """Compare all predictions of an image with its label map."""
    mask = read_label(entry.label)
    known = mask != voc.IGNORE
    counts = []
    name = Path(entry.image).stem
    for folder in folders.values():
        prediction = read_label(folder / f"{name}.png")
        if prediction.shape != mask.shape:
            raise ValueError(
                f"{folder / name}.png is {prediction.shape[1]} x {prediction.shape[0]}, "
                f"but {entry.label} {mask.shape[1]} x {mask.shape[0]}"
            )
        pairs, pixels = np.unique(mask[known].astype(int) * 256 + prediction[known], return_counts=True)
        counts.append({divmod(pair, 256): n for pair, n in zip(pairs.tolist(), pixels.tolist())})
    return Item(name, entry.image, entry.label, counts)


@dataclass
class Ranking:
    """The images of a list with their scores, and which of them are shown."""

    items: list
    names: list  # of the sources
    classes: list  # names of all classes
    counted: list  # numbers of the classes that count
    by: int
    order: str
    shown: list

    @classmethod
    def of(cls, items, arguments, sizes=()):
        """Rank the items as the arguments ask; sizes: numbers of classes of the nets."""
        largest = max((label for item in items for label, _ in item.counts[0]), default=0)
        classes = class_names(arguments.names, max(largest + 1, *sizes) if sizes else largest + 1)
        for item in items:
            label = max((label for label, _ in item.counts[0]), default=0)
            if label >= len(classes):
                raise ValueError(f"{item.mask} has the label {label}, but --names names {len(classes)} classes")
        counted = find_classes(arguments.classes, classes) if arguments.classes else list(range(len(classes)))
        names = [source.name for source in arguments.sources]
        ranking = cls(items, names, classes, counted, names.index(arguments.by or names[-1]), arguments.order, [])
        ranking.shown = ranking.first(arguments.count)
        return ranking

    def confusion(self, items, index):
        """Of some images; everything predicted that is no class, 255 too, is wrong: it has a column behind."""
        n_classes = len(self.classes)
        confusion = ConfusionMatrix(n_classes + 1)
        for item in items:
            for (label, prediction), pixels in item.counts[index].items():
                confusion.counts[label, min(prediction, n_classes)] += pixels
        return confusion

    def class_iou(self, items, index):
        """IoU in per cent of the counted classes in these images' label maps: {class: IoU}."""
        confusion = self.confusion(items, index)
        present, values = confusion.present(), 100 * confusion.class_iou()
        return {k: float(values[k]) for k in self.counted if present[k]}

    def iou(self, items, index):
        """The mean of `class_iou`; nan if nothing counts."""
        values = self.class_iou(items, index).values()
        return sum(values) / len(values) if values else math.nan

    def first(self, number):
        """The first images in the order; those in which nothing counts are last."""
        items = self.items
        if self.order != "list":
            sign = 1 if self.order == "worst" else -1
            values = {id(item): self.iou([item], self.by) for item in items}
            items = sorted(items, key=lambda item: (math.isnan(values[id(item)]), sign * values[id(item)]))
        return items[:number]

    def mean_of_images(self, index):
        values = [self.iou([item], index) for item in self.items]
        values = [value for value in values if not math.isnan(value)]
        return sum(values) / len(values) if values else math.nan

    def absent(self):
        """What is said of an image in which nothing counts."""
        if len(self.counted) == len(self.classes):
            return "nothing to count"
        return f"no {' or '.join(self.classes[k] for k in self.counted)} in it"

    def report(self):
        """The scores of the images that are shown, and of the whole list."""
        width = max(10, *(len(item.id) for item in self.shown))
        print(f"{'IoU in %':{width}} " + " ".join(f"{name:>10}" for name in self.names))
        for name, items in [*((item.id, [item]) for item in self.shown), ("whole list", self.items)]:
            values = [self.iou(items, index) for index in range(len(self.names))]
            words = [f"{'-':>10}" if math.isnan(value) else f"{value:10.1f}" for value in values]
            absent = f"  {self.absent()}" if math.isnan(values[0]) else ""
            print(f"{printable(name):{width}} {' '.join(words)}{absent}")


def draw(ranking, folders, arguments):
    """The sheet, a matplotlib Figure."""
    scribbles = arguments.scribbles
    if scribbles and not any(_scribble_path(scribbles, item).is_file() for item in ranking.shown):
        raise ValueError(
            f"no image that is shown has a scribble; expected, for instance, "
            f"{_scribble_path(scribbles, ranking.shown[0])}"
        )
    headings = ["image", *(["scribble"] if scribbles else []), *folders, "ground truth"]
    table = Table(arguments.width, headings, len(ranking.shown), arguments.columns)
    occurring = set()
    rows = [
        _panels(table, ranking, place, item, folders, scribbles, occurring) for place, item in enumerate(ranking.shown)
    ]
    counted = "the classes in the image's label map, without 255"
    if len(ranking.counted) < len(ranking.classes):
        counted = f"{' and '.join(ranking.classes[k] for k in ranking.counted)} where the image's label map has them"
    bold = "; bold: the best" if len(folders) > 1 else ""
    return table.draw(
        rows,
        _title(ranking, shorten(ranking.names[ranking.by], arguments.width / 40)),
        f"IoU in %: mean over {counted}{bold}",
        label_legend(occurring, ranking.classes),
        [_summary(ranking, index, name) for index, name in enumerate(ranking.names)],
    )


def _scribble_path(folder, item):
    return folder / f"{item.id}.png"


def _panels(table, ranking, place, item, folders, scribbles, occurring):
    """One image's pictures; the labels that occur are added to a set."""
    photo = np.ascontiguousarray(read_image(item.image)[:, :, ::-1])
    size = table.size_of(photo.shape[1], photo.shape[0])
    photo = resized(photo, size)
    total = len(ranking.items)
    where = (
        f"{place + 1} of {total} in the list" if ranking.order == "list" else f"{ranking.order} {place + 1} of {total}"
    )
    panels = [Picture(photo, [shorten(item.id, table.room), where])]
    if scribbles:
        panels.append(_scribble_panel(photo, _scribble_path(scribbles, item), occurring))
    values = [ranking.iou([item], index) for index in range(len(folders))]
    for index, folder in enumerate(folders.values()):
        pixels = _coloured(read_label(folder / f"{item.id}.png"), size, occurring)
        is_best = len(set(values)) > 1 and values[index] == max(values)
        panels.append(Picture(pixels, _caption(ranking, item, index, table.room), is_best))
    panels.append(Picture(_coloured(read_label(item.mask), size, occurring), [""]))
    return panels


def _scribble_panel(photo, path, occurring):
    if not path.is_file():
        return Picture(photo, ["no scribble"])
    scribbles = read_label(path)
    drawn = scribbles != voc.IGNORE
    occurring.update(np.unique(scribbles[drawn]).tolist())
    pixels = draw_scribbles(photo, shrink_scribbles(scribbles, photo.shape[:2]))
    return Picture(pixels, [f"{100 * drawn.mean():.1f} % of pixels"])


def _coloured(label, size, occurring):
    from PIL import Image

    occurring.update(np.unique(label).tolist())
    return draw_labels(np.array(Image.fromarray(label).resize(size, Image.NEAREST)))


def _caption(ranking, item, index, room):
    """The image's IoU, and that of each of its classes."""
    values = ranking.class_iou([item], index)
    if not values:
        return textwrap.wrap(ranking.absent(), max(room, 12))
    parts = [f"{ranking.classes[k]}\xa0{value:.0f}" for k, value in values.items()]
    return [f"IoU {ranking.iou([item], index):.1f}", *textwrap.wrap(", ".join(parts), max(room, 12))]


def _title(ranking, name):
    which = {"worst": "lowest", "best": "highest"}.get(ranking.order)
    ordered = f"those with the {which} IoU of '{name}' first" if which else "in the list's order"
    return f"{len(ranking.shown)} of {len(ranking.items)} images, {ordered}"


def _summary(ranking, index, name):
    """The scores of the whole list."""
    return (
        f"{shorten(name, 30)}: IoU {ranking.iou(ranking.items, index):.1f} over the whole list "
        f"({len(ranking.items)} images taken together, mean over the classes that occur); mean of the images' IoU "
        f"{ranking.mean_of_images(index):.1f}"
    )
