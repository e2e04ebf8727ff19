"""Check a data set and draw samples of it to look at.

Reads every image and label map of a list, reports what is missing or wrong, prints how many pixels each class has,
and writes overlays of some samples, drawn at random: ID.png one by one, and contact_sheet.png with all of them.
Exit status 1 if something is wrong.

Classes are numbers, unless --names has names for them, the data root has them in classes.txt, as rloss-caffe draw
writes it, or the images have VOC's ids and 21 classes.
"""

import os
import random
from pathlib import Path

import numpy as np

from rloss_caffe.commands._data_root import add_data_root, data_root
from rloss_caffe.commands._outputs import FOLDER, output_path, say_written
from rloss_caffe.commands._problems import report
from rloss_caffe.data.files import printable, replacing
from rloss_caffe.data.lists import read_names
from rloss_caffe.data.progress import in_threads
from rloss_caffe.data.reading import read_image, read_label
from rloss_caffe.datasets.checking import check_entries, label_statistics
from rloss_caffe.datasets.voc import CLASSES, IGNORE, is_voc_id, palette
from rloss_caffe.drawing.folder import written_classes
from rloss_caffe.pictures import contact_sheet
from rloss_caffe.pictures.figures import check_matplotlib, save
from rloss_caffe.pictures.overlays import draw_mask, draw_scribbles, is_scribble

__all__ = ["add_arguments", "run"]

EXAMPLE = "rloss-caffe check VOC2012/list/train.txt --data-root VOC2012"


def add_arguments(parser):
    parser.add_argument("list", metavar="LIST", help="lines of an image and a label map, below the data root")
    add_data_root(parser)
    parser.add_argument("--output", type=Path, metavar="FOLDER", help=f"default: {FOLDER / 'check'}")
    parser.add_argument("--count", type=int, default=12, help="of samples (default: 12; 0 draws none)")
    parser.add_argument("--seed", type=int, default=1, help="of the choice of samples (default: 1)")
    parser.add_argument(
        "--classes", type=int, metavar="N", help="of the labels (default: as many as have names, or 21)"
    )
    parser.add_argument("--names", metavar="A,B", help="names of all classes, or 'voc'")


def run(arguments):
    """0 if the list and all its files are right."""
    root = data_root(arguments)
    names = _given_names(arguments) or (None if arguments.classes else written_classes(root))
    n_classes = arguments.classes or (len(names) if names else len(CLASSES))
    if not 1 <= n_classes <= IGNORE:
        raise ValueError(f"--classes must be from 1 to {IGNORE}, found {n_classes}")
    if names and len(names) != n_classes:
        raise ValueError(f"--names has {len(names)} names, --classes says {n_classes}")
    if arguments.count > 0:
        check_matplotlib("; --count 0 checks without pictures")
    entries = read_names(arguments.list, root)
    if not names:
        is_voc = n_classes == len(CLASSES) and all(is_voc_id(Path(entry.image).stem) for entry in entries)
        names = CLASSES if is_voc else [f"class {label}" for label in range(n_classes)]

    problems, counts = check_entries(entries, root, n_classes)
    bad = {id(problem.entry) for problem in problems}
    good = [entry for entry in entries if id(entry) not in bad]
    named = [(os.path.basename(arguments.list), problem) for problem in problems]
    folder = arguments.output or FOLDER / "check"
    if problems:
        folder = output_path(arguments.output, "check")
    report(named, folder / "problems.txt", f"{len(problems)} of {len(entries)} lines are wrong")
    if good:
        _print_statistics(label_statistics([counts[entry.label] for entry in good], n_classes), names)
    chosen = sorted(
        random.Random(arguments.seed).sample(good, max(0, min(arguments.count, len(good)))),
        key=lambda entry: entry.line,
    )
    if chosen:
        _write_pictures(chosen, root, output_path(arguments.output, "check"), names)
    return 1 if problems else 0


def _given_names(arguments):
    if not arguments.names:
        return None
    names = list(CLASSES) if arguments.names.lower() == "voc" else [n.strip() for n in arguments.names.split(",")]
    if "" in names:
        raise ValueError(f"--names expects names with commas between them, found {arguments.names!r}")
    return names


def _print_statistics(found, names):
    share, n_labelled = 100 * found.shares, max(found.labelled, 1)
    print(
        f"{found.images} images, {found.pixels / 1e6:.1f} million pixels, "
        f"{100 * found.labelled / found.pixels:.2f} % labelled"
    )
    print(f"labelled share of an image: {share.min():.2f} to {share.max():.2f} %, median {np.median(share):.2f} %\n")
    width = max(12, *map(len, names))
    print(f"{'label':>5}  {'class':{width}} {'images':>7} {'pixels':>12} {'% of labelled':>14} {'% of all':>9}")
    absent = []
    for each in found.classes:
        if each.label == IGNORE:
            name, of_labelled = "unlabelled", ""
        else:
            name, of_labelled = names[each.label], f"{100 * each.pixels / n_labelled:.2f}"
            if not each.pixels:
                absent.append(name)
                continue
        of_all = 100 * each.pixels / found.pixels
        print(f"{each.label:5}  {name:{width}} {each.images:7} {each.pixels:12} {of_labelled:>14} {of_all:9.2f}")
    if absent:
        print(f"absent: {', '.join(absent)}")
    print()


def _write_pictures(entries, root, folder, names):
    from PIL import Image

    folder.mkdir(exist_ok=True)
    shown = set()  # labels of the legend

    def draw(entry):
        image = np.ascontiguousarray(read_image(os.path.join(root, entry.image))[..., ::-1])
        label = read_label(os.path.join(root, entry.label))
        picture = (draw_scribbles if is_scribble(label) else draw_mask)(image, label)
        name = Path(entry.image).stem
        with replacing(folder / f"{name}.png") as temporary:
            Image.fromarray(picture).save(temporary, format="PNG")
        present = [int(value) for value in np.unique(label)]
        # The photograph itself stands for 255 among strokes, for the background among masks.
        shown.update(set(present) - {IGNORE if is_scribble(label) else 0})
        classes = ", ".join(names[value] for value in present if value not in (0, IGNORE)) or names[0]
        return contact_sheet.Sample(
            printable(name), f"{100 * np.mean(label != IGNORE):.1f} % labelled: {classes}", picture
        )

    samples = list(in_threads(draw, entries, "drawing"))
    colours = palette() / 255.0
    legend = [
        contact_sheet.Cell("255, ignored" if value == IGNORE else names[value], tuple(colours[value]))
        for value in sorted(shown)
    ]
    path = folder / "contact_sheet.png"
    save(contact_sheet.draw(samples, legend), path)
    say_written(path, f"and {len(entries)} overlays beside it")
