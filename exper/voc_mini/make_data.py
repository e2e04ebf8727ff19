#!/usr/bin/env python
"""Make the study's data from PASCAL VOC 2012: 600 small photographs with scribbles, 150 with masks.

Usage: python exper/voc_mini/make_data.py --data-root VOC2012 [--output FOLDER]

VOC2012 holds JPEGImages and SegmentationClassAug, as 'rloss-caffe fetch' leaves them. Which photographs are taken
stands in exper/voc_mini/ids. FOLDER gets:

    JPEGImages             RGB, the longer side 320 pixels (Lanczos), JPEG of quality 90
    SegmentationClassAug   full masks on the same grid (nearest), label maps with VOC's palette
    pascal_2012_scribble   synthetic scribbles of the training photographs, each seeded by its id
    list                   train.txt, train_full.txt, val.txt, train_id.txt, val_id.txt

The study also needs SqueezeNet's weights, FOLDER/squeezenet_v1.0.caffemodel; README.md says where they are.
"""

import argparse
import sys
import zlib
from pathlib import Path

import numpy as np
from command_line import run
from PIL import Image
from synthetic_scribbles import draw_scribbles

from rloss_caffe.data.files import read_lines, replacing, write_text
from rloss_caffe.data.progress import in_threads
from rloss_caffe.data.reading import read_image, read_label
from rloss_caffe.datasets import voc

HERE = Path(__file__).resolve().parent
IDS = HERE / "ids"
PHOTOS, MASKS, SCRIBBLES = "JPEGImages", "SegmentationClassAug", "pascal_2012_scribble"
LONG_SIDE, QUALITY = 320, 90
LABELS = 0, 8, 10, 12, 13, 15, 17, 255  # background, cat, cow, dog, horse, person, sheep, ignored
WEIGHTS = "squeezenet_v1.0.caffemodel"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True, metavar="VOC2012")
    parser.add_argument("--output", type=Path, default=HERE / "data", metavar="FOLDER", help="default: %(default)s")
    parser.add_argument("--ids", type=Path, default=IDS, metavar="FOLDER", help="train.txt and val.txt; %(default)s")
    arguments = parser.parse_args()
    ids = {name: read_ids(arguments.ids / f"{name}.txt") for name in ("train", "val")}
    check_files(arguments.data_root, [*ids["train"], *ids["val"]])
    for folder in (PHOTOS, MASKS, SCRIBBLES, "list"):
        (arguments.output / folder).mkdir(parents=True, exist_ok=True)
    made = {}
    for name in ids:

        def work(identity, scribbles=name == "train"):
            return make_one(arguments.data_root, arguments.output, identity, scribbles)

        made.update(zip(ids[name], in_threads(work, ids[name], name)))
    write_lists(arguments.output / "list", ids)
    unexpected = [identity for identity, (_, labels) in made.items() if not labels.issubset(LABELS)]
    if unexpected:
        warning = f"{len(unexpected)} masks hold other classes, such as {unexpected[0]}"
        print(f"make_data: {warning}; they are not those by which the photographs were chosen", file=sys.stderr)
    share = np.mean([made[identity][0] for identity in ids["train"]])
    print(f"wrote {len(ids['train'])} photographs with scribbles, on {100 * share:.2f} % of their pixels,", end=" ")
    print(f"and {len(ids['val'])} with masks into {arguments.output}")
    if not (arguments.output / WEIGHTS).is_file():
        print(f"the study also needs {arguments.output / WEIGHTS}; {HERE / 'README.md'} says where it comes from")


def read_ids(path):
    return [line.strip() for line in read_lines(path) if line.strip()]


def check_files(root, ids):
    """All that will be read is there."""
    paths = [root / PHOTOS / f"{identity}.jpg" for identity in ids]
    paths += [root / MASKS / f"{identity}.png" for identity in ids]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of {len(paths)} files are missing, such as {missing[0]}; 'rloss-caffe fetch --data-root "
            f"{root} voc masks' fetches them"
        )


def make_one(root, output, identity, scribbles):
    """Write a photograph, its mask and, if wanted, its scribbles; the share of scribbled pixels, the mask's labels."""
    photo = Image.fromarray(read_image(root / PHOTOS / f"{identity}.jpg")[:, :, ::-1])
    path = root / MASKS / f"{identity}.png"
    mask = Image.fromarray(read_label(path))
    if mask.size != photo.size:
        raise ValueError(f"{path} is {mask.width} x {mask.height}, its photograph {photo.width} x {photo.height}")
    size = [max(1, round(length * LONG_SIDE / max(photo.size))) for length in photo.size]
    with replacing(output / PHOTOS / f"{identity}.jpg") as temporary:
        photo.resize(size, Image.LANCZOS).save(temporary, "JPEG", quality=QUALITY)
    mask = np.array(mask.resize(size, Image.NEAREST))
    save_label(mask, output / MASKS / f"{identity}.png")
    share = 0.0
    if scribbles:
        label = draw_scribbles(mask, np.random.RandomState(zlib.crc32(identity.encode())))
        save_label(label, output / SCRIBBLES / f"{identity}.png")
        share = np.mean(label != voc.IGNORE)
    return share, set(np.unique(mask).tolist())


def save_label(label, path):
    picture = Image.fromarray(label)
    picture.putpalette(voc.palette().tobytes())  # newer versions of Pillow take no array
    with replacing(path) as temporary:
        picture.save(temporary, "PNG")


def write_lists(folder, ids):
    labels = {"train": SCRIBBLES, "train_full": MASKS, "val": MASKS}
    for name, labelled in labels.items():
        lines = [f"{PHOTOS}/{identity}.jpg {labelled}/{identity}.png\n" for identity in ids[name.split("_")[0]]]
        write_text(folder / f"{name}.txt", "".join(lines))
    for name, chosen in ids.items():
        write_text(folder / f"{name}_id.txt", "".join(f"{identity}\n" for identity in chosen))


if __name__ == "__main__":
    run(main)
