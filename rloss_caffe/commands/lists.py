#!/usr/bin/env python
"""Make the lists of the VOC scribble experiments from a VOC tree, and check every file they name.

Usage: python tools/make_lists.py --data-root VOC2012 [--output exper/pascal_scribble/list]

The tree holds JPEGImages/, SegmentationClassAug/, pascal_2012_scribble/ and ImageSets/Segmentation/val.txt. Written:

    train.txt       training images with scribbles: 10582 lines on the complete data
    train_full.txt  the same images with their full masks, for full supervision
    train_aug.txt   every training image that has a full mask, with it, whether it has scribbles or not
    val.txt         VOC's 1449 validation images with their full masks
    train_id.txt, val_id.txt   the ids of train.txt and val.txt, one a line

Training images are all that have a mask in SegmentationClassAug/ and are not in val. A tree without ImageSets/ that
brings its own list/ of files like train.txt is accepted too: its lists are checked and copied.
Nothing is written while files are missing or wrong, unless --skip-missing leaves those lines out.
"""

import argparse
import os
import sys
from pathlib import Path

from rloss_caffe.data.lists import Entry
from rloss_caffe.datasets.checking import check_entries, read_names, report

OUTPUT = Path(__file__).resolve().parents[2] / "exper" / "pascal_scribble" / "list"
IMAGES, MASKS, SCRIBBLES = "JPEGImages", "SegmentationClassAug", "pascal_2012_scribble"
ID_LISTS = ("train", "val")  # these get a list of ids, too


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data-root", default=os.environ.get("DATA_ROOT"), help="the VOC tree (default: $DATA_ROOT)", metavar="FOLDER"
    )
    parser.add_argument("--output", type=Path, default=OUTPUT, metavar="FOLDER", help=f"default: {show(OUTPUT)}")
    parser.add_argument("--ids", metavar="FILE", help="train on these ids, one a line, instead of all")
    parser.add_argument("--from-lists", metavar="FOLDER", help="check and copy the lists in this folder")
    parser.add_argument("--skip-missing", action="store_true", help="leave out what is missing or wrong, and go on")
    arguments = parser.parse_args()
    if not arguments.data_root:
        parser.error("say where the data is: --data-root FOLDER, or set DATA_ROOT")
    if arguments.ids and arguments.from_lists:
        parser.error("--ids chooses images of a VOC tree, --from-lists takes lists as they are: give one of them")
    try:
        return make(arguments)
    except ValueError as error:
        print(f"make_lists: {error}", file=sys.stderr)
        return 1


def make(arguments):
    root = Path(arguments.data_root)
    if not root.is_dir():
        raise ValueError(f"the data root {root} is not a folder")
    own_lists = Path(arguments.from_lists) if arguments.from_lists else root / "list"
    ready = not (root / "ImageSets").exists() and not arguments.ids and own_lists.is_dir()
    if arguments.from_lists or ready:
        print(f"taking the lists of {own_lists}")
        lists = copied_lists(own_lists)
    else:
        lists = voc_lists(root, arguments.ids)

    # One check of all lists, so that a file that several of them name is read once.
    flat = [(name, entry) for name, entries in lists.items() for entry in entries]
    problems, _ = check_entries([entry for _, entry in flat], root)
    wrong = {id(problem.entry): problem for problem in problems}
    named = [(f"{name}.txt", wrong[id(entry)]) for name, entry in flat if id(entry) in wrong]
    report(named, arguments.output / "problems.txt", f"{len(named)} of {len(flat)} lines are missing a file or wrong")
    if named and not arguments.skip_missing:
        print("no list was written; --skip-missing would leave these lines out")
        return 1

    lists = {name: [entry for entry in entries if id(entry) not in wrong] for name, entries in lists.items()}
    if "train_full" in lists and not (arguments.from_lists or ready):
        kept = {entry.image for entry in lists["train"]}  # "the same images" also where scribbles were left out
        lists["train_full"] = [entry for entry in lists["train_full"] if entry.image in kept]
    write(lists, arguments.output)
    return 0 if any(lists.values()) else 1


def voc_lists(root, ids_file=None):
    """The lists of a VOC tree: names to entries. Lines are numbered as they would stand in the complete list."""
    for name in (IMAGES, MASKS, SCRIBBLES):
        if not (root / name).is_dir():
            print(f"there is no {name}/ in {root}; tools/fetch_data.py brings it", file=sys.stderr)
    val = read_ids(root / "ImageSets" / "Segmentation" / "val.txt")
    if ids_file:
        train = read_ids(ids_file)
        both = sorted(set(train) & set(val))
        if both:
            raise ValueError(f"{ids_file} has {len(both)} ids of the validation set, the first is {both[0]}")
    else:
        train = sorted({path.stem for path in (root / MASKS).glob("*.png")} - set(val))
        if not train:
            raise ValueError(f"no training images: {root / MASKS} holds no mask that is not of the validation set")
    odd = [name for name in train if len(name.split()) != 1]
    if odd:
        raise ValueError(f"lists cannot hold names with spaces, found {odd[0]!r}")
    return {
        "train": entries(train, SCRIBBLES),
        "train_full": entries(train, MASKS),
        "train_aug": entries(train, MASKS),
        "val": entries(val, MASKS),
    }


def entries(ids, labels):
    return [Entry(line, f"{IMAGES}/{name}.jpg", f"{labels}/{name}.png") for line, name in enumerate(ids, 1)]


def read_ids(path):
    """The first word of every line, each once."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ValueError(f"cannot read the ids in {path}: {error.strerror}") from None
    ids = list(dict.fromkeys(line.split()[0] for line in lines if line.strip()))
    if not ids:
        raise ValueError(f"there are no ids in {path}")
    return ids


def copied_lists(folder):
    """All lists of a folder of the form of train.txt; those of ids are made anew."""
    paths = [path for path in sorted(folder.glob("*.txt")) if not path.stem.endswith("_id")]
    paths = [path for path in paths if path.name != "problems.txt"]
    if not paths:
        raise ValueError(f"there are no lists (NAME.txt) in {folder}")
    return {path.stem: read_names(path) for path in paths}


def write(lists, folder):
    folder.mkdir(parents=True, exist_ok=True)
    for name, lines in lists.items():
        put(folder / f"{name}.txt", [f"{entry.image} {entry.label}" for entry in lines])
        if name in ID_LISTS:
            put(folder / f"{name}_id.txt", [Path(entry.image).stem for entry in lines])
        print(f"{show(folder / name)}.txt: {len(lines)} images" + ("" if lines else " - this list is EMPTY"))


def put(path, lines):
    """All of a file or nothing of it, however this program ends."""
    new = path.with_suffix(".new")
    new.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    os.replace(new, path)


def show(path):
    """A path as seen from here, where that is shorter."""
    return min(str(path), os.path.relpath(path), key=len)


if __name__ == "__main__":
    sys.exit(main())
