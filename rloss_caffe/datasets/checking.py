"""Check images and label maps file by file, and count the labels."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Tuple

import numpy as np

from rloss_caffe.data.files import printable, write_text
from rloss_caffe.data.lists import Entry
from rloss_caffe.data.progress import in_threads
from rloss_caffe.data.reading import read_image, read_label
from rloss_caffe.datasets.voc import IGNORE

__all__ = ["ClassShare", "Problem", "Statistics", "check_entries", "label_statistics", "write_problems"]


@dataclass(frozen=True)
class Problem:
    """What is wrong with an entry of a list."""

    kind: str  # a few words to count by
    entry: Entry
    text: str  # names the file


@dataclass(frozen=True)
class _File:
    """What a look at a file has found: its size, or what is wrong with it."""

    size: Tuple[int, ...] = ()  # rows and columns
    counts: Optional[np.ndarray] = None  # of a label map: how often each of the 256 values occurs
    kind: str = ""
    text: str = ""


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
        if not image.kind and not label.kind:
            counts[entry.label] = label.counts
        wrong = image if image.kind else label if label.kind else _compare(entry, image, label, n_classes)
        if wrong:
            problems.append(Problem(wrong.kind, entry, wrong.text))
    return problems, counts


def _look_at_image(path):
    if not os.path.isfile(path):
        return _File(kind="missing image", text=f"no such file: {printable(path)}")
    try:
        return _File(read_image(path).shape[:2])
    except ValueError as error:
        return _File(kind="unreadable image", text=str(error))


def _look_at_label(path):
    if not os.path.isfile(path):
        return _File(kind="missing label", text=f"no such file: {printable(path)}")
    try:
        label = read_label(path)
    except ValueError as error:
        return _File(kind="unreadable label", text=str(error))
    return _File(label.shape, np.bincount(label.ravel(), minlength=256))


def _compare(entry, image, label, n_classes):
    """What is wrong with two files that can be read, or None."""
    name = printable(entry.label)
    if image.size != label.size:
        (h, w), (label_h, label_w) = image.size, label.size
        text = f"{printable(entry.image)} has {w} x {h} pixels, {name} has {label_w} x {label_h}"
        return _File(kind="sizes differ", text=text)
    values = np.flatnonzero(label.counts)
    wrong = values[(values >= n_classes) & (values != IGNORE)]
    if len(wrong):
        shown = ", ".join(map(str, wrong[:8])) + (", ..." if len(wrong) > 8 else "")
        text = f"{name} has the values {shown}; allowed are 0 to {n_classes - 1} and {IGNORE}"
        return _File(kind="wrong label value", text=text)
    if label.counts[:n_classes].sum() == 0:
        return _File(kind="nothing labelled", text=f"{name} holds nothing but {IGNORE}")
    return None


def write_problems(problems, path):
    """Write problems to a file, one a line with its kind; a file of an earlier run goes when there are none.

    Parameters
    ----------
    problems : list of (str, Problem)
        With the name of the problem's list.
    path : path

    Returns
    -------
    list of str
        The lines, without the kinds.
    """
    path = Path(path)
    lines = [f"{name}, line {problem.entry.line}: {problem.text}" for name, problem in problems]
    if problems:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, "".join(f"{problem.kind}\t{line}\n" for (_, problem), line in zip(problems, lines)))
    elif path.exists():
        path.unlink()
    return lines


@dataclass(frozen=True)
class ClassShare:
    """How much of a data set has a label."""

    label: int
    images: int  # that have it
    pixels: int


@dataclass(frozen=True)
class Statistics:
    """What the label maps of a data set hold."""

    images: int
    pixels: int
    labelled: int  # pixels that are not ignored
    shares: np.ndarray  # (images,): the labelled share of each, 0 to 1
    classes: Tuple[ClassShare, ...]  # each class, and what is ignored as the last


def label_statistics(counts, n_classes):
    """Count classes over a data set.

    Parameters
    ----------
    counts : integer array (images, 256)
        How often each value occurs in each label map.
    n_classes : int

    Returns
    -------
    Statistics
    """
    counts = np.asarray(counts)
    labelled = counts[:, :n_classes].sum(1)
    return Statistics(
        len(counts),
        int(counts.sum()),
        int(labelled.sum()),
        labelled / counts.sum(1),
        tuple(
            ClassShare(label, int((counts[:, label] > 0).sum()), int(counts[:, label].sum()))
            for label in [*range(n_classes), IGNORE]
        ),
    )
