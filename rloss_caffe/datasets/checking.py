"""Check lists of images and label maps file by file, and tell a person what is wrong with them."""

import os
from collections import Counter, namedtuple
from pathlib import Path

import numpy as np

from rloss_caffe.data.lists import Entry
from rloss_caffe.data.progress import in_threads
from rloss_caffe.data.reading import read_image, read_label
from rloss_caffe.datasets.voc import IGNORE

__all__ = ["Problem", "check_entries", "read_names", "report"]

# kind: one of a few words to count by. entry: the line of the list. text: names the file.
Problem = namedtuple("Problem", "kind entry text")


def read_names(source):
    """The entries of a list with names as they stand there, less a leading slash; no file is looked at.

    Raises
    ------
    ValueError
        The list is missing or empty, or a line is not an image and a label.
    """
    try:
        lines = Path(source).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read the list {source}: {error}") from None
    entries = []
    for number, line in enumerate(lines, 1):
        words = line.split()
        if len(words) == 1:
            raise ValueError(f"{source}, line {number}: expected an image and a label, found {words[0]!r} alone")
        if words:
            entries.append(Entry(number, *(word.lstrip("/") for word in words[:2])))
    if not entries:
        raise ValueError(f"the list {source} is empty")
    return entries


def check_entries(entries, root_folder, n_classes=21):
    """Check that images and label maps exist, decode, agree in size, and hold only classes and 255, not 255 alone.

    A file that several entries share is read once.

    Parameters
    ----------
    entries : list of Entry
        With names below `root_folder`.
    root_folder : path
    n_classes : int
        Labels 0 to ``n_classes - 1`` and 255 are allowed.

    Returns
    -------
    problems : list of Problem
        At most one an entry.
    counts : dict
        From a label map's name to how often each of the 256 values occurs in it: int64 array (256,).
    """
    jobs = [(_look_at_image, name) for name in dict.fromkeys(entry.image for entry in entries)]
    jobs += [(_look_at_label, name) for name in dict.fromkeys(entry.label for entry in entries)]

    def look(job):
        function, name = job
        return function(os.path.join(root_folder, name))

    found = dict(zip(jobs, in_threads(look, jobs, "checking files")))
    problems, counts = [], {}
    for entry in entries:
        image, label = found[_look_at_image, entry.image], found[_look_at_label, entry.label]
        kind, text = image[0] or label[0], image[1] if image[0] else label[1]
        if not kind:
            counts[entry.label] = label[2]
            kind, text = _compare(entry, image[1], label[1], label[2], n_classes)
        if kind:
            problems.append(Problem(kind, entry, text))
    return problems, counts


def _look_at_image(path):
    """(kind, text) of a problem, or (None, size)."""
    if not os.path.isfile(path):
        return "missing image", f"no such file: {path}"
    try:
        from PIL import Image

        with Image.open(path) as image:
            image.load()  # OpenCV is content with half a file, and fills the rest with grey
        return None, read_image(path).shape[:2]
    except (OSError, SyntaxError, ValueError) as error:
        return "unreadable image", f"{path}: {error}"


def _look_at_label(path):
    """(kind, text) of a problem, or (None, size, counts of the 256 values)."""
    if not os.path.isfile(path):
        return "missing label", f"no such file: {path}"
    try:
        label = read_label(path)
    except ValueError as error:
        return "unreadable label", str(error)
    return None, label.shape, np.bincount(label.ravel(), minlength=256)


def _compare(entry, image_size, label_size, counts, n_classes):
    if image_size != label_size:
        (h, w), (label_h, label_w) = image_size, label_size
        return "sizes differ", f"{entry.image} has {w} x {h} pixels, {entry.label} has {label_w} x {label_h}"
    values = np.flatnonzero(counts)
    wrong = values[(values >= n_classes) & (values != IGNORE)]
    if len(wrong):
        shown = ", ".join(map(str, wrong[:8])) + (", ..." if len(wrong) > 8 else "")
        text = f"{entry.label} has the values {shown}; allowed are 0 to {n_classes - 1} and {IGNORE}"
        return "wrong label value", text
    if counts[:n_classes].sum() == 0:
        return "nothing labelled", f"{entry.label} holds nothing but {IGNORE}"
    return None, None


def report(problems, path, title):
    """Print how many problems of which kind there are and the first ten; write all to a file, one a line.

    `problems` are pairs of a list's name and a Problem. A file of an earlier run is removed when there are none.
    """
    path = Path(path)
    if not problems:
        if path.exists():
            path.unlink()
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"{name}, line {problem.entry.line}: {problem.text}" for name, problem in problems]
    kinds = [problem.kind for _, problem in problems]
    path.write_text("".join(f"{kind}\t{line}\n" for kind, line in zip(kinds, lines)), encoding="utf-8")
    print(f"{title}: " + ", ".join(f"{count} x {kind}" for kind, count in Counter(kinds).most_common()))
    for line in lines[:10]:
        print(f"  {line}")
    if len(lines) > 10:
        print(f"  ... and {len(lines) - 10} more")
    print(f"all of them: {path}")
