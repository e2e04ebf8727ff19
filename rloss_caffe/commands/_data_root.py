"""The option that says where the data is."""

import os
from pathlib import Path

__all__ = ["add_data_root", "data_root"]


def add_data_root(parser):
    parser.add_argument("--data-root", metavar="FOLDER", help="the folder of the data (default: $DATA_ROOT)")


def data_root(arguments, must_exist=True):
    """The folder; ValueError where none is said, or none is there."""
    given = arguments.data_root or os.environ.get("DATA_ROOT")
    if not given:
        raise ValueError("say where the data is, or is to go: --data-root FOLDER, or set DATA_ROOT")
    if must_exist and not os.path.isdir(given):
        raise ValueError(f"the data root {given} is not a folder")
    return Path(given)
