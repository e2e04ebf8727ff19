"""Where commands write what they make: one default place, which git ignores."""

import sys
from pathlib import Path

from rloss_caffe.data.files import printable

__all__ = ["FOLDER", "output_path", "say_written"]

FOLDER = Path("rloss_output")


def output_path(given, default):
    """The path to write to, its folder made.

    Parameters
    ----------
    given : str, path or None
        What the user asked for.
    default : str
        The name in `FOLDER`, a folder of the working folder, if nothing was asked for.
    """
    path = Path(given) if given else FOLDER / default
    path.parent.mkdir(parents=True, exist_ok=True)
    if not given:
        ignore = FOLDER / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n", encoding="utf-8")  # in any repository, not in this project's alone
    return path


def say_written(path, what=""):
    """One line for people, on standard error."""
    print(f"wrote {printable(path)}{what and f': {what}'}", file=sys.stderr)
