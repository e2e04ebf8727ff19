"""Flags as the ``caffe`` program takes them: ``-x v``, ``-x=v``, ``--x v``, ``--x=v``."""

import os

__all__ = ["add_flags", "existing_file", "existing_files", "names", "nonnegative", "positive"]

# name: (default, meaning), as in the caffe program, but for the last, which is ours
_FLAGS = {
    "solver": (None, "the solver's prototxt"),
    "model": (None, "the net's prototxt"),
    "weights": ("", "weights to start from or to score: .caffemodel files, separated by commas"),
    "snapshot": ("", "a .solverstate to go on from"),
    "gpu": ("", "ids of GPUs, separated by commas, or 'all'; none: the CPU, when training what solver_mode says"),
    "iterations": (50, "how many batches"),
    "phase": ("", "TRAIN or TEST"),
    "level": (0, "the net's level"),
    "stage": ("", "the net's stages, separated by commas"),
    "sigint_effect": ("stop", "what SIGINT (Ctrl-C) and SIGTERM do: snapshot, stop or none"),
    "sighup_effect": ("snapshot", "what SIGHUP does: snapshot, stop or none"),
    "allow_nonfinite": (False, "go on when a loss, a score or a weight is NaN or infinite"),
}
_CHOICES = {"phase": ("", "TRAIN", "TEST"), "sigint_effect": None, "sighup_effect": None}
_EFFECTS = ("snapshot", "stop", "none")


def add_flags(parser, *names):
    """Give an argparse parser some of the caffe program's flags."""
    for name in names:
        default, meaning = _FLAGS[name]
        if default is False:
            parser.add_argument(f"--{name}", f"-{name}", action="store_true", help=meaning)
            continue
        kind = {"iterations": positive, "level": nonnegative}.get(name, str)
        choices = (_CHOICES[name] or _EFFECTS) if name in _CHOICES else None
        suffix = "" if default in (None, "") else f" (default {default})"
        parser.add_argument(
            f"--{name}", f"-{name}", default=default, type=kind, choices=choices, help=meaning + suffix, metavar="X"
        )


def positive(text):
    """A whole number >= 1."""
    if int(text) < 1:
        raise ValueError
    return int(text)


def nonnegative(text):
    """A whole number >= 0."""
    if int(text) < 0:
        raise ValueError
    return int(text)


def existing_file(flag, path):
    """The path, if there is a file: without one Caffe itself would end the process."""
    if not os.path.isfile(path):
        raise ValueError(f"--{flag}: no such file: {path}")
    return path


def existing_files(flag, text):
    """The files of a comma list."""
    return [existing_file(flag, path) for path in names(text)]


def names(text):
    """The names of a comma list."""
    return [name for name in map(str.strip, text.split(",")) if name]
