"""List files: one image a line, with its label map or label behind it."""

import os
import re
from dataclasses import dataclass
from typing import Union

from rloss_caffe.data.files import printable, quoted, read_lines, shortened

__all__ = ["LABEL_TYPES", "Entry", "read_list", "read_names"]

LABEL_TYPES = ("NONE", "IMAGE", "PIXEL")

_BLANKS = " \t\v\f"  # as C++ reads words: others, such as a wide Chinese space, belong to a name
_GAP = re.compile(f"[{_BLANKS}]+")
_LONGEST = 20_000  # characters of a line with blanks in its paths; systems know paths of some 4,000


@dataclass(frozen=True)
class Entry:
    """A line of a list."""

    line: int  # its number in the file, from 1
    image: str  # a path
    label: Union[str, int, None]  # a path (PIXEL), a number from 0 to 255 (IMAGE), or nothing (NONE)


def read_list(source, root_folder="", label_type="PIXEL"):
    """Read a list file and check every line of it.

    A line holds an image's path and, behind a blank, its label. `root_folder` and path are joined as they stand, with
    one slash between them. Empty lines are left out, and a byte-order mark at the file's beginning too.

    A line of more than two words is read as DeepLab's fork does if such files exist: two words, the rest ignored.
    Otherwise the last blank separates, as in stock Caffe since 2016, or an earlier one: paths may hold blanks where
    the files tell which one is meant.

    Parameters
    ----------
    source : str or path
        The list file.
    root_folder : str
        Put before every path.
    label_type : {"PIXEL", "IMAGE", "NONE"}
        What the label is: the path of a label map, a number for the whole image, or not looked at.

    Returns
    -------
    list of Entry

    Raises
    ------
    ValueError
        The list is missing or empty, or a line lacks its label or names a file that does not exist: the message has
        list, line and path.
    """
    entries = []
    for number, line in _lines(source):
        place = f"{printable(source)}, line {number}"
        entry, is_there = _read_line(place, number, line, root_folder, label_type)
        if not is_there:
            raise ValueError(f"{place}: {_what_is_missing(entry, line)}")
        entries.append(entry)
    return entries


def read_names(source, root_folder=""):
    """The entries of a list with names as they stand there, less a leading slash; files may be missing.

    Lines are read as by `read_list` with label_type PIXEL.

    Raises
    ------
    ValueError
        The list is missing or empty, or a line is not an image and a label.
    """
    folder = os.fspath(root_folder)
    entries = []
    for number, line in _lines(source):
        entry, _ = _read_line(f"{printable(source)}, line {number}", number, line, folder, "PIXEL")
        # What _join put before the names goes again.
        names = (path[len(folder) :].lstrip("/") for path in (entry.image, entry.label))
        entries.append(Entry(number, *names))
    return entries


def _lines(source):
    """The lines that are not empty, with their numbers."""
    source = os.fspath(source)
    try:
        lines = read_lines(source)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"cannot read the list {quoted(source)} (seen from {os.getcwd()}): {reason}") from None
    lines = [(number, line.strip(_BLANKS)) for number, line in enumerate(lines, 1)]
    lines = [(number, line) for number, line in lines if line]
    if not lines:
        raise ValueError(f"the list {quoted(source)} is empty")
    return lines


def _read_line(place, number, line, root_folder, label_type):
    """The entry of a line, with paths below the root folder, and whether they exist: that decides between readings."""
    first = None
    for image, label in _readings(line, with_label=label_type != "NONE"):
        if label_type == "PIXEL":
            label = _join(root_folder, label)
        elif label_type == "IMAGE":
            if not re.fullmatch(r"[-+]?[0-9]{1,18}", label):
                continue
            label = min(max(int(label), 0), 255)
        entry = Entry(number, _join(root_folder, image), label)
        if all(map(os.path.isfile, _paths(entry))):
            return entry, True
        first = first or entry
    if first:
        return first, False
    if not _GAP.search(line):
        raise ValueError(
            f"{place}: expected an image and a label, found {quoted(line)} alone; label_type is {label_type}"
        )
    raise ValueError(
        f"{place}: with label_type IMAGE, the default, the label is a number for the whole image, found "
        f"{quoted(_GAP.split(line, 2)[1])}; for label maps write label_type: PIXEL"
    )


def _readings(line, with_label):
    """What a line may mean, pairs of an image and a label (or None): two words first, then the last blank backwards."""
    gaps = [match.span() for match in _GAP.finditer(line)]
    ends = [start for start, _ in gaps[:2]] + [len(line)] * 2
    if not with_label:
        yield line[: ends[0]], None
    elif gaps:
        yield line[: ends[0]], line[gaps[0][1] : ends[1]]
    if len(line) > _LONGEST:
        return
    if not with_label and gaps:
        yield line, None
    for start, end in reversed(gaps if len(gaps) > 1 or not with_label else []):
        yield line[:start], line[end:] if with_label else None


def _join(root_folder, path):
    separator = "" if not root_folder or root_folder.endswith("/") or path.startswith("/") else "/"
    return f"{root_folder}{separator}{path}"


def _paths(entry):
    return [path for path in (entry.image, entry.label) if isinstance(path, str)]


def _what_is_missing(entry, line):
    path = next(path for path in _paths(entry) if not os.path.isfile(path))
    problem = "not a file" if os.path.exists(path) else "no such file"
    hint = ""
    if len(_GAP.findall(line)) > 1:
        hint = f"; the line {quoted(line)} has several blanks, and at none of them it parts into files that exist"
    return f"{problem}: {shortened(path)}{hint}"
