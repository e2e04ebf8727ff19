"""Convert a solver file: the nets that it names are converted with it, beside the result."""

import json
import os
from dataclasses import dataclass, field
from typing import Dict, List, Optional

from rloss_caffe.nets.net_conversion import NetConversion, edited_text
from rloss_caffe.nets.prototxt import parse, read_text
from rloss_caffe.nets.text import PLACEHOLDER, Edits, Field, fields

__all__ = [
    "ConvertedSolver",
    "InlineNets",
    "NamedNet",
    "convert_inline_nets",
    "convert_solver",
    "find_net",
    "is_same_file",
    "named_nets",
]

_NAMING_FIELDS = ("net", "train_net", "test_net")
_INLINE_FIELDS = ("net_param", "train_net_param", "test_net_param")


@dataclass
class ConvertedSolver:
    """What comes of a solver file.

    Attributes
    ----------
    text : str
        The solver's.
    inputs : list of str
        The paths of all that was read.
    nets : dict of str to str
        The texts of the nets that go with it, by the paths that the solver's text now has for them.
    """

    text: str
    inputs: List[str]
    nets: Dict[str, str] = field(default_factory=dict)


@dataclass
class InlineNets:
    """What was found in the nets inside of a solver: whether anything changed, a line for each unknown layer."""

    changed: bool = False
    unknown_types: List[str] = field(default_factory=list)


@dataclass
class NamedNet:
    """A net's path in a solver."""

    field: str
    index: int  # among the fields of that name
    path: str
    place: Optional[Field] = None  # None if it is not known

    def rename(self, solver, path, edits=None):
        """Give the net another path in the solver's message, and note the same for its text if there are edits."""
        if self.field == "test_net":
            solver.test_net[self.index] = path
        else:
            setattr(solver, self.field, path)
        if edits and self.place:
            edits.replace(self.place.value, self.place.end, json.dumps(path, ensure_ascii=False))


def convert_solver(text, name, target, convert, warn):
    """Convert a solver's text.

    Parameters
    ----------
    text, name : str
        The text, and the file's path.
    target : str or None
        Where the result will be; None: the nets keep their paths.
    convert : callable
        `rloss_caffe.nets.convert.convert_text`.
    warn : callable

    Returns
    -------
    ConvertedSolver
    """
    prototxt, edits = parse(text, "SolverParameter", name), Edits(text)
    solver = prototxt.message
    inline = convert_inline_nets(prototxt, warn, edits)
    for line in inline.unknown_types:
        warn(line)
    changed = inline.changed
    result = ConvertedSolver(text, [name])
    for named, content in _converted_nets(prototxt, result, target, convert, warn):
        path = _free_path(named.path, content, result, target)
        result.nets[path], changed = content, True
        named.rename(solver, path, edits)
    if changed:
        result.text = edited_text(edits, solver, "SolverParameter", prototxt.placeholders)
    return result


def convert_inline_nets(prototxt, warn, edits=None):
    """Convert the nets that a solver's message has in it; returns `InlineNets`.

    Caffe does not change the old form of such nets to the new one, as it does with files: that is done here, too.
    """
    found = InlineNets()
    places = _by_name(prototxt.text, _INLINE_FIELDS)
    for name in _INLINE_FIELDS:
        value = getattr(prototxt.message, name)
        nets = value if name == "test_net_param" else [value] * prototxt.message.HasField(name)
        for net, place in zip(nets, _padded(places[name], len(nets))):
            conversion = NetConversion(prototxt, net, place and place.body, warn)
            found.changed |= conversion.convert(edits, must_be_new=True)
            found.unknown_types += conversion.unknown_types()
    return found


def named_nets(solver, text=""):
    """The nets that a solver names, as a list of `NamedNet`; with the solver's text, their places are known."""
    places = _by_name(text, _NAMING_FIELDS)
    found = []
    for name in _NAMING_FIELDS:
        value = getattr(solver, name)
        paths = list(value) if name == "test_net" else [value] * solver.HasField(name)
        for index, (path, place) in enumerate(zip(paths, _padded(places[name], len(paths)))):
            found.append(NamedNet(name, index, path, place))
    return found


def find_net(path, solver_path):
    """Where a net named in a solver is: from the working directory, as Caffe sees it, else from the solver's folder."""
    beside = os.path.join(os.path.dirname(solver_path), path)
    return path if _exists(path) or not _exists(beside) else beside


def is_same_file(path, other):
    """Whether two paths are one file, which need not exist."""
    return os.path.realpath(path) == os.path.realpath(other)


def _converted_nets(prototxt, result, target, convert, warn):
    """The named nets that need converting, and their new texts; notes all that is read in the result's inputs."""
    found = []
    for named in named_nets(prototxt.message, prototxt.text):
        label = f"{prototxt.name}: {named.field}"
        if PLACEHOLDER.search(named.path):
            warn(f"{label} is {named.path!r}, which cannot be followed; convert that net by itself")
            continue
        path = find_net(named.path, prototxt.name)
        result.inputs.append(path)
        before = read_text(path)
        after = convert(before, path, warn)
        if after != before and target is None:
            warn(f"{label} {named.path!r} is in the fork's dialect; convert it, too, or give an output file")
        elif after != before:
            found.append((named, after))
    return found


def _free_path(path, content, result, target):
    """Where a converted net goes: beside the target, under a name that no other file of this conversion has."""
    stem = os.path.splitext(os.path.basename(path))[0]
    new = os.path.join(os.path.dirname(target), f"{stem}_stock.prototxt")
    taken = [*result.inputs, target]
    while result.nets.get(new, content) != content or any(is_same_file(new, other) for other in taken):
        new = f"{os.path.splitext(new)[0]}_.prototxt"
    return new


def _by_name(text, names):
    places = {name: [] for name in names}
    for place in fields(text):
        if place.name in places:
            places[place.name].append(place)
    return places


def _padded(places, count):
    """As many places as there are values; where they cannot be told apart, none."""
    return places if len(places) == count else [None] * count


def _exists(path):
    try:
        return os.path.exists(path)
    except ValueError:  # a NUL in the path
        return False
