"""The quickstart's network, which is no part of the package: it lies in the project's checkout, in exper/quickstart."""

import contextlib
import importlib
import os
import sys
from pathlib import Path

__all__ = ["NET", "is_net", "weights"]

FOLDER = Path(__file__).resolve().parents[2] / "exper" / "quickstart"
NET = FOLDER / "trainwithdensecrfloss.prototxt"


def is_net(path):
    """Whether a prototxt is one of the quickstart's."""
    return Path(path).resolve().parent == FOLDER


def weights():
    """The weights after the quickstart's phase one, which is run if it has not been.

    Raises
    ------
    ValueError
        There is no checkout.
    """
    if not NET.is_file():
        raise ValueError(
            f"the quickstart's network needs the project's checkout, there is no {FOLDER}; give --model and --weights, "
            "--probabilities or --labels"
        )
    path = FOLDER / "output" / "phase_one.caffemodel"
    if path.is_file():
        return path
    print(f"no {path} yet: training the quickstart's network once, a minute or two", file=sys.stderr)
    _load("data_layer")  # Caffe looks for it by this name
    script = _load("run")
    path.parent.mkdir(exist_ok=True)
    title = script.trainings()["phase_one"].title
    with _inside(FOLDER):  # its solvers name their nets relative to there
        script.train(script.SOLVERS["phase_one"], None, path, title, quick=False)
    return path


def _load(name):
    """A module of the quickstart's, with those that lie beside it."""
    sys.path.insert(0, str(FOLDER))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(FOLDER))


@contextlib.contextmanager
def _inside(folder):
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
