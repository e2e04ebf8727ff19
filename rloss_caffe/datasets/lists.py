"""The lists of the VOC scribble experiments: made from a VOC tree, or copied, with every file checked."""

import os
from pathlib import Path

from rloss_caffe.data.files import quoted, read_lines, write_text
from rloss_caffe.data.lists import Entry, read_names
from rloss_caffe.datasets.checking import check_entries

__all__ = ["FOLDERS", "check_lists", "copied_lists", "read_ids", "voc_lists", "without", "write_lists"]

FOLDERS = IMAGES, MASKS, SCRIBBLES = "JPEGImages", "SegmentationClassAug", "pascal_2012_scribble"
_ID_LISTS = ("train", "val")  # these get a list of ids, too


def voc_lists(root, ids_file=None):
    """The lists of a VOC tree. Lines are numbered as they would stand in the complete list; no image is looked at.

    Parameters
    ----------
    root : path
    ids_file : path, optional
        Train on these ids instead of all that have a mask and are not of the validation set.

    Returns
    -------
    dict
        ``train`` (with scribbles), ``train_full``, ``train_aug``, ``val`` (with masks): lists of Entry.

    Raises
    ------
    ValueError
        There are no ids, or ids of both sets.
    """
    root = Path(root)
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
        raise ValueError(f"lists cannot hold names with spaces, found {quoted(odd[0])}")
    return {
        "train": _entries(train, SCRIBBLES),
        "train_full": _entries(train, MASKS),
        "train_aug": _entries(train, MASKS),
        "val": _entries(val, MASKS),
    }


def _entries(ids, labels):
    return [Entry(line, f"{IMAGES}/{name}.jpg", f"{labels}/{name}.png") for line, name in enumerate(ids, 1)]


def read_ids(path):
    """The first word of every line, each once.

    Raises
    ------
    ValueError
        The file cannot be read or holds no word.
    """
    try:
        lines = read_lines(path)
    except OSError as error:
        raise ValueError(f"cannot read the ids in {path}: {error.strerror}") from None
    ids = list(dict.fromkeys(line.split()[0] for line in lines if line.strip()))
    if not ids:
        raise ValueError(f"there are no ids in {path}")
    return ids


def copied_lists(folder, root):
    """All lists of a folder (NAME.txt) of images and label maps below `root`; those of ids are made anew.

    Raises
    ------
    ValueError
        There is none, or one cannot be read.
    """
    paths = [path for path in sorted(Path(folder).glob("*.txt")) if not path.stem.endswith("_id")]
    paths = [path for path in paths if path.name != "problems.txt"]
    if not paths:
        raise ValueError(f"there are no lists (NAME.txt) in {folder}")
    return {path.stem: read_names(path, root) for path in paths}


def check_lists(lists, root):
    """The problems of all lists, as pairs of a list's name and a Problem; a file that several name is read once."""
    flat = [(name, entry) for name, entries in lists.items() for entry in entries]
    problems, _ = check_entries([entry for _, entry in flat], root)
    by_entry = {id(problem.entry): problem for problem in problems}
    return [(f"{name}.txt", by_entry[id(entry)]) for name, entry in flat if id(entry) in by_entry]


def without(lists, problems, same_images):
    """The lists less the entries that have problems.

    Parameters
    ----------
    same_images : bool
        Leave out of train_full what train lost, too.
    """
    wrong = {id(problem.entry) for _, problem in problems}
    lists = {name: [entry for entry in entries if id(entry) not in wrong] for name, entries in lists.items()}
    if same_images:
        kept = {entry.image for entry in lists["train"]}
        lists["train_full"] = [entry for entry in lists["train_full"] if entry.image in kept]
    return lists


def write_lists(lists, folder):
    """Write NAME.txt for each list, and NAME_id.txt for train and val, each whole or not at all.

    Returns
    -------
    dict
        From each list's name to its path.
    """
    folder = Path(folder)
    os.makedirs(folder, exist_ok=True)
    paths = {}
    for name, lines in lists.items():
        paths[name] = folder / f"{name}.txt"
        write_text(paths[name], "".join(f"{entry.image} {entry.label}\n" for entry in lines))
        if name in _ID_LISTS:
            write_text(folder / f"{name}_id.txt", "".join(f"{Path(entry.image).stem}\n" for entry in lines))
    return paths
