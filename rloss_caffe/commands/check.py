#!/usr/bin/env python
"""Check a data set and draw samples of it to look at.

Usage: python tools/check_dataset.py exper/pascal_scribble/list/train.txt --data-root VOC2012 --count 12

Reads every image and label map of a list, reports what is missing or wrong, prints how many pixels each class has,
and writes overlays of some samples, drawn at random: ID.png one by one, and contact_sheet.png with all of them.
Exit status 1 if something is wrong.
"""

import argparse
import os
import random
import sys
import textwrap
from pathlib import Path

import numpy as np

from rloss_caffe.data.progress import in_threads
from rloss_caffe.data.reading import read_image, read_label
from rloss_caffe.datasets.checking import check_entries, read_names, report
from rloss_caffe.datasets.voc import CLASSES, IGNORE, class_name, palette
from rloss_caffe.installation import add_extra
from rloss_caffe.pictures.overlays import draw_mask, draw_scribbles, is_scribble

COLUMNS = 4  # of the contact sheet
INCHES = 3.4  # the width of one


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("list", metavar="LIST", help="lines of an image and a label map, below the data root")
    parser.add_argument(
        "--data-root", default=os.environ.get("DATA_ROOT"), help="the VOC tree (default: $DATA_ROOT)", metavar="FOLDER"
    )
    parser.add_argument("--output", type=Path, default=Path("check_dataset"), help="folder (default: %(default)s)")
    parser.add_argument("--count", type=int, default=12, help="of samples (default: 12; 0 draws none)")
    parser.add_argument("--seed", type=int, default=1, help="of the choice of samples (default: 1)")
    parser.add_argument("--classes", type=int, default=len(CLASSES), help="of the labels (default: 21, VOC's)")
    arguments = parser.parse_args()
    if not arguments.data_root:
        parser.error("say where the data is: --data-root FOLDER, or set DATA_ROOT")
    if not 1 <= arguments.classes <= IGNORE:
        parser.error(f"--classes must be from 1 to {IGNORE}, found {arguments.classes}")
    try:
        entries = read_names(arguments.list)
    except ValueError as error:
        parser.error(str(error))

    problems, counts = check_entries(entries, arguments.data_root, arguments.classes)
    bad = {id(problem.entry) for problem in problems}
    good = [entry for entry in entries if id(entry) not in bad]
    named = [(os.path.basename(arguments.list), problem) for problem in problems]
    report(named, arguments.output / "problems.txt", f"{len(problems)} of {len(entries)} lines are wrong")
    if good:
        show_statistics(np.array([counts[entry.label] for entry in good]), arguments.classes)
    chosen = sorted(random.Random(arguments.seed).sample(good, max(0, min(arguments.count, len(good)))))
    if chosen:
        write_pictures(chosen, arguments.data_root, arguments.output, arguments.classes)
    return 1 if problems else 0


def show_statistics(counts, n_classes):
    """Print a table. counts: (images, 256)."""
    pixels, labelled = counts.sum(), counts[:, :n_classes].sum(1)
    shares = 100 * labelled / counts.sum(1)
    print(f"{len(counts)} images, {pixels / 1e6:.1f} million pixels, {100 * labelled.sum() / pixels:.2f} % labelled")
    print(f"labelled share of an image: {shares.min():.2f} to {shares.max():.2f} %, median {np.median(shares):.2f} %\n")
    print(f"{'label':>5}  {'class':12} {'images':>7} {'pixels':>12} {'% of labelled':>14} {'% of all':>9}")
    for label in [*range(n_classes), IGNORE]:
        count, images = counts[:, label].sum(), (counts[:, label] > 0).sum()
        name, of_labelled = "unlabelled", ""
        if label != IGNORE:
            name, of_labelled = class_name(label, n_classes), f"{100 * count / labelled.sum():.2f}"
        if count or label == IGNORE:
            print(f"{label:5}  {name:12} {images:7} {count:12} {of_labelled:>14} {100 * count / pixels:9.2f}")
    absent = [class_name(label, n_classes) for label in range(n_classes) if not counts[:, label].any()]
    if absent:
        print(f"absent: {', '.join(absent)}")
    print()


def write_pictures(entries, root, folder, n_classes):
    try:
        import matplotlib
        from PIL import Image
    except ImportError as error:
        message = f"pictures need matplotlib and Pillow ({error}); this brings them: {add_extra('pictures')}"
        raise SystemExit(message) from None
    matplotlib.use("Agg")
    folder.mkdir(parents=True, exist_ok=True)

    def draw(entry):
        image = np.ascontiguousarray(read_image(os.path.join(root, entry.image))[..., ::-1])
        label = read_label(os.path.join(root, entry.label))
        picture = (draw_scribbles if is_scribble(label) else draw_mask)(image, label)
        name = Path(entry.image).stem
        Image.fromarray(picture).save(folder / f"{name}.png")
        return name, picture, label

    write_sheet(folder / "contact_sheet.png", list(in_threads(draw, entries, "drawing")), n_classes)
    print(f"{len(entries)} overlays and contact_sheet.png in {folder}")


def write_sheet(path, drawn, n_classes):
    """All overlays on one page, each under its id, labelled share and classes; drawn: (id, overlay, label map)."""
    import matplotlib.pyplot as plt
    from matplotlib.patches import Patch

    columns = min(COLUMNS, len(drawn))
    lines = [drawn[start : start + columns] for start in range(0, len(drawn), columns)]
    heights = [max(picture.shape[0] / picture.shape[1] for _, picture, _ in line) for line in lines]
    heights = [INCHES * min(height, 1.4) + 0.45 for height in heights]  # with two lines of text
    figure, axes = plt.subplots(
        len(lines),
        columns,
        figsize=(INCHES * columns, sum(heights) + 0.6),
        height_ratios=heights,
        squeeze=False,
        layout="constrained",
        dpi=100,
    )
    for axis in axes.flat:
        axis.axis("off")
    shown = {}
    for axis, (name, picture, label) in zip(axes.flat, drawn):
        present = [int(value) for value in np.unique(label)]
        names = ", ".join(class_name(value, n_classes) for value in present if value not in (0, IGNORE)) or "background"
        axis.imshow(picture)
        share = 100 * np.mean(label != IGNORE)
        axis.set_title("\n".join(textwrap.wrap(f"{name}, {share:.1f} % labelled: {names}", 48)), fontsize=9)
        # The photograph itself stands for 255 among strokes, for the background among masks.
        shown.update(dict.fromkeys(set(present) - {IGNORE if is_scribble(label) else 0}))
    colours = palette() / 255.0
    handles = [
        Patch(facecolor=colours[value], edgecolor="grey", label=legend_name(value, n_classes))
        for value in sorted(shown)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 2 * columns), frameon=False)
    figure.savefig(path)
    plt.close(figure)


def legend_name(value, n_classes):
    return "ignored (255)" if value == IGNORE else class_name(value, n_classes)


if __name__ == "__main__":
    sys.exit(main())
