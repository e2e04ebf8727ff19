"""List files: one image a line, with its label map or label behind it."""

import os
from collections import namedtuple

__all__ = ["LABEL_TYPES", "Entry", "read_list"]

LABEL_TYPES = ("NONE", "IMAGE", "PIXEL")

# line: number in the file, from 1. label: a path (PIXEL), a number from 0 to 255 (IMAGE) or None (NONE).
Entry = namedtuple("Entry", "line image label")


def read_list(source, root_folder="", label_type="PIXEL"):
    """Read a list file and check every line of it.

    A line holds an image's path and, behind white space, its label; what follows is ignored, and so are empty lines.
    `root_folder` and path are joined as they stand, with one slash between them.

    Parameters
    ----------
    source : str or path
        The list file.
    root_folder : str
        Put before every path.
    label_type : {"PIXEL", "IMAGE", "NONE"}
        What the second word is: the path of a label map, a number for the whole image, or not looked at.

    Returns
    -------
    list of Entry

    Raises
    ------
    ValueError
        The list is missing or empty, or a line lacks its label or names a file that does not exist: the message has
        list, line and path.
    """
    source = os.fspath(source)
    try:
        with open(source, encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().splitlines()
    except OSError as error:
        raise ValueError(f"cannot read the list {source!r} (seen from {os.getcwd()}): {error.strerror}") from None
    entries = [
        _read_line(f"{source}, line {number}", number, line.split(), root_folder, label_type)
        for number, line in enumerate(lines, 1)
        if line.strip()
    ]
    if not entries:
        raise ValueError(f"the list {source!r} is empty")
    return entries


def _read_line(place, number, words, root_folder, label_type):
    image = _join(root_folder, words[0])
    _check_file(place, image)
    if label_type == "NONE":
        return Entry(number, image, None)
    if len(words) < 2:
        raise ValueError(
            f"{place}: expected an image and a label, found {words[0]!r} alone; label_type is {label_type}"
        )
    if label_type == "PIXEL":
        label = _join(root_folder, words[1])
        _check_file(place, label)
        return Entry(number, image, label)
    try:
        return Entry(number, image, min(max(int(words[1]), 0), 255))
    except ValueError:
        raise ValueError(
            f"{place}: with label_type IMAGE, the default, the label is a number for the whole image, found "
            f"{words[1]!r}; for label maps write label_type: PIXEL"
        ) from None


def _join(root_folder, path):
    separator = "" if not root_folder or root_folder.endswith("/") or path.startswith("/") else "/"
    return f"{root_folder}{separator}{path}"


def _check_file(place, path):
    if not os.path.isfile(path):
        problem = "no such file" if not os.path.exists(path) else "not a file"
        raise ValueError(f"{place}: {problem}: {path}")
