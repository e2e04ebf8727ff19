"""Snapshots: whether a training can go on from one, which Caffe finds out by ending the process."""

import math
import os
import warnings

from rloss_caffe.nets.weights import (
    blob_shape,
    check_blob,
    check_fits,
    check_hdf5,
    is_hdf5,
    list_shapes,
    read_stored,
    read_weights,
    same_shape,
)

__all__ = ["check_snapshot", "check_solverstate", "is_whole"]

# Blobs of history that a solver keeps for each learned blob.
_HISTORIES = {"SGD": 1, "Nesterov": 1, "AdaGrad": 1, "RMSProp": 1, "AdaDelta": 2, "Adam": 2}


def is_whole(path):
    """Whether a .caffemodel or .solverstate was written to its end, a state's weights, too: see `check_snapshot`."""
    try:
        check_snapshot(path)
    except ValueError:
        return False
    return True


def check_snapshot(path):
    """That a .caffemodel or .solverstate was written to its end. Caffe is not needed.

    A .caffemodel is whole if each of its blobs has as many values as its shape says. Nothing in it says how many layers
    there should be: that the last ones are missing is found out by the .solverstate that belongs to it, or by the net.
    A .solverstate is whole if it has all the fields that Caffe writes, the last one included, and whole weights, with
    one blob for each of its history's. HDF5 files say how long they are.

    Parameters
    ----------
    path : str or path
        A name with ``.solverstate`` in its ending is a state.

    Raises
    ------
    ValueError
        The text says what is wrong with which file.
    """
    path = os.fspath(path)
    if not path.endswith((".solverstate", ".solverstate.h5")):
        check_hdf5(path) if is_hdf5(path) else read_weights(path)
    elif is_hdf5(path):
        check_hdf5(path)
        check_hdf5(_existing(path[: -len(".solverstate.h5")] + ".caffemodel.h5", path))
    else:
        state = _read_state(path)
        weights = read_weights(_existing(state.learned_net, path))
        _check_pair(state, weights, path)


def check_solverstate(path, solver, warn=warnings.warn):
    """That a training can go on from a snapshot.

    Parameters
    ----------
    path : str
        A .solverstate.
    solver : caffe.Solver
        Or its net; then any type of solver will do.
    warn : callable
        Gets a line of text if weights or history are NaN or infinite.

    Raises
    ------
    ValueError
        A file is missing or not whole; the weights do not fit the solver's net, or the history does not fit the solver.
    """
    if is_hdf5(path):
        check_snapshot(path)
        return
    state = _read_state(path)
    learned_net = _existing(state.learned_net, path)
    if is_hdf5(learned_net):
        raise ValueError(f"{path} names weights in HDF5, which belong to a state in HDF5: {learned_net}")
    weights = read_weights(learned_net)
    net = getattr(solver, "net", solver)
    found = check_fits(net, weights, learned_net)
    there = {_address(blob) for name in found for blob in net.params[name]}
    missing = [name for name, blobs in net.params.items() if not there.issuperset(map(_address, blobs))]
    if missing:
        raise ValueError(f"{learned_net} has no weights for the layers {', '.join(missing)}: it is not whole")
    _check_history(state, type(solver).__name__.replace("Solver", ""), net, path)
    blobs = {path: state.history, learned_net: [blob for layer in weights.layer for blob in layer.blobs]}
    for name in blobs:
        if not all(map(_is_finite, blobs[name])):
            warn(f"{name} holds NaN or infinity: the training that was saved had diverged.")


def _read_state(path):
    state = read_stored("SolverState", path)
    for name in ("iter", "learned_net", "current_step"):  # in the order in which they are written
        if not state.HasField(name):
            raise ValueError(f"{path} has no {name}: it was not written to its end, or is no .solverstate")
    for index, blob in enumerate(state.history):
        check_blob(blob, f"{path}: history blob {index}")
    return state


def _existing(weights, path):
    if not os.path.isfile(weights):
        raise ValueError(f"the weights of {path} are missing: {weights}")
    return weights


def _check_pair(state, weights, path):
    """The learned blobs' shapes are those of the history, once or twice; a state of another net's has others."""
    learned = _learned_shapes(weights)
    history = [blob_shape(blob) for blob in state.history]
    if history not in (learned, learned * 2):
        raise ValueError(
            f"{path} and its weights {state.learned_net} do not belong together, or one was not written to its end: "
            f"{len(history)} blobs of history, {len(learned)} of weights"
        )


def _learned_shapes(weights):
    """The shapes of all blobs, of those that layers share by name only the first."""
    shapes, seen = [], set()
    for layer in weights.layer:
        names = [spec.name for spec in layer.param]
        for index, blob in enumerate(layer.blobs):
            name = names[index] if index < len(names) else ""
            if not name or name not in seen:
                shapes.append(blob_shape(blob))
            seen.add(name)
    return shapes


def _check_history(state, kind, net, path):
    learned = _learned_blobs(net)
    count = _HISTORIES.get(kind)
    if count is None:  # a solver of somebody's own, or the net alone is known
        count = 2 if len(state.history) == 2 * len(learned) else 1
    expected = [tuple(blob.data.shape) for blob in learned] * count
    found = [blob_shape(blob) for blob in state.history]
    if len(found) != len(expected):
        raise ValueError(
            f"{path} does not fit: {kind} keeps {len(expected)} blobs of history for this net, the file has "
            f"{len(found)}; it was saved by another type of solver, with another net, or not to its end"
        )
    for index, (one, other) in enumerate(zip(expected, found)):
        if not same_shape(one, other):
            raise ValueError(
                f"{path} does not fit the net: history blob {index} has shape {list_shapes([other])} in the file, and "
                f"{list_shapes([one])} is needed"
            )


def _learned_blobs(net):
    """A net's learned blobs, in Caffe's order; what layers share counts once."""
    found = {}
    for blobs in net.params.values():
        for blob in blobs:
            found.setdefault(_address(blob), blob)
    return list(found.values())


def _address(blob):
    """Tells a blob from others; layers that share one have the same."""
    return blob.data.ctypes.data


def _is_finite(blob):
    return math.isfinite(sum(blob.double_data) if blob.double_data else sum(blob.data))
