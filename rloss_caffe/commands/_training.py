"""Run one of Caffe's solvers, and do what signals ask for between two iterations."""

import os
import signal

import numpy as np

from rloss_caffe.commands import _log as log

__all__ = ["Requests", "check_snapshot_folder", "solve"]


class Requests:
    """What signals have asked for. Used as a context: handlers are put in place, and put back.

    Parameters
    ----------
    effects : dict
        Signal number to "snapshot", "stop" or "none".
    """

    def __init__(self, effects):
        self._effects = effects
        self._pending = set()

    def __enter__(self):
        self._previous = {number: signal.signal(number, self._note) for number in self._effects}
        return self

    def __exit__(self, *_):
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number, _):
        self._pending.add(self._effects[number])

    def take(self, effect):
        """Whether `effect` was asked for since the last time."""
        asked = effect in self._pending
        self._pending.discard(effect)
        return asked


class _Stop(Exception):
    pass


def solve(solver, parameters, requests, is_root=True):
    """``solver.solve()``, that can be interrupted.

    Signals that come in the middle of an iteration take effect at its end: what is saved is always a whole number of
    iterations. An error in a layer does not lose the training either: a snapshot is saved first.

    Parameters
    ----------
    solver : caffe.Solver
    parameters : SolverParameter
        Its settings; pycaffe's ``solver.param`` has only a few of them.
    requests : Requests
    is_root : bool
        Of several solvers that train together only the root, that of rank 0, saves snapshots.

    Returns
    -------
    bool
        Whether training went on to its end.
    """

    def between_iterations():
        if requests.take("snapshot"):
            solver.snapshot()
        if requests.take("stop"):
            raise _Stop

    solver.add_callback(between_iterations, lambda: None)
    try:
        if is_root:
            solver.solve()
        else:
            solver.step(parameters.max_iter - solver.iter)  # solve() is the root's in Caffe, too
        between_iterations()
        return True
    except _Stop:
        if solver.iter >= parameters.max_iter:
            return True
        has_just_saved = parameters.snapshot and solver.iter % parameters.snapshot == 0
        if parameters.snapshot_after_train and not has_just_saved and is_root:
            solver.snapshot()
        log.info("Optimization stopped early.", "solver.cpp:1")
        return False
    except Exception:
        if is_root:
            _rescue(solver)
        raise


def _rescue(solver):
    if solver.iter == 0:
        return
    if all(np.isfinite(blob.data).all() for blobs in solver.net.params.values() for blob in blobs):
        log.warning(f"Training failed in iteration {solver.iter}; the state before it is saved.")
        solver.snapshot()
    else:
        log.warning(f"Training failed in iteration {solver.iter} with weights that are not finite; nothing is saved.")


def check_snapshot_folder(parameters, solver_path):
    """Find out at the start, not after hours, that snapshots cannot be written."""
    if not parameters.snapshot and not parameters.snapshot_after_train:
        return
    prefix = parameters.snapshot_prefix or solver_path  # Caffe's own default
    folder = (prefix if os.path.isdir(prefix) else os.path.dirname(prefix)) or "."
    if not os.path.isdir(folder):
        raise ValueError(
            f"snapshot_prefix is {prefix!r}, but there is no folder {folder!r} (seen from {os.getcwd()}): make it first"
        )
    if not os.access(folder, os.W_OK):
        raise ValueError(f"snapshots cannot be written into the folder {folder!r} of snapshot_prefix")
