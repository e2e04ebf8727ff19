"""Load weights with the checks that Caffe makes by ending the process, the fork's weights, too."""

import os
import tempfile
import warnings

from google.protobuf.message import DecodeError

from rloss_caffe.nets.schema import weights_message

__all__ = ["check_solverstate", "load_weights"]


def load_weights(net, path, warn=warnings.warn):
    """Copy weights by layer name, as Caffe does, after checking that they fit.

    Parameters
    ----------
    net : caffe.Net
    path : str
    warn : callable
        Gets a line of text if no layer of the net is in the file.

    Returns
    -------
    set of str, or None
        The layers that have weights in the file; None for HDF5, which is not looked into.

    Raises
    ------
    ValueError
        The file is no .caffemodel, or a layer's blobs differ from the net's in number or shape.
    """
    if path.endswith(".h5"):
        net.copy_from(path)
        return None
    message, is_stock = _read_weights(path)
    found = _check(net, message, path)
    if not found:
        warn(f"No layer of the net has weights in {path}: nothing was loaded from it.")
    if is_stock:
        net.copy_from(path)
        return found
    with tempfile.TemporaryDirectory() as folder:
        stock = os.path.join(folder, "stock.caffemodel")
        with open(stock, "wb") as file:
            file.write(message.SerializePartialToString())
        net.copy_from(stock)
    return found


def _read_weights(path):
    """A .caffemodel as a NetParameter, and whether stock Caffe can read the file itself; ValueError if it is none."""
    from caffe.proto import caffe_pb2

    try:
        return _read(caffe_pb2.NetParameter, path), True
    except ValueError:
        # The fork's parameters of some layers, as MatWrite's, are nonsense at stock Caffe's numbers: do without them.
        message = _read(weights_message(), path)
        message.DiscardUnknownFields()
        return message, False


def _check(net, message, path):
    """The net's layers that are in the file; an error if one does not fit."""
    found = set()
    for layer in [*message.layer, *message.layers]:
        if layer.name not in net.params or not layer.blobs:
            continue
        found.add(layer.name)
        expected = [tuple(blob.data.shape) for blob in net.params[layer.name]]
        shapes = [_shape(blob) for blob in layer.blobs]
        fits = len(expected) == len(shapes) and all(map(_is_same, expected, shapes))
        if not fits:
            raise ValueError(
                f"{path} does not fit the net: layer {layer.name!r} has blobs of shape {_list(expected)} in the net "
                f"and {_list(shapes)} in the file; give the layer another name if it is to start anew"
            )
    return found


def _read(kind, path):
    message = kind()
    try:
        with open(path, "rb") as file:
            message.ParseFromString(file.read())
    except DecodeError as error:
        raise ValueError(f"{path} is no binary {kind.DESCRIPTOR.name}: {error}") from None
    return message


def _shape(blob):
    if blob.HasField("shape"):
        return tuple(blob.shape.dim)
    return blob.num, blob.channels, blob.height, blob.width


def _is_same(expected, found):
    """Old files have four axes for every blob, those in front being 1."""
    return expected == found or (len(found) == 4 and (1,) * (4 - len(expected)) + expected == found)


def _list(shapes):
    return ", ".join(" x ".join(map(str, shape)) or "()" for shape in shapes)


def check_solverstate(path, net):
    """That a snapshot can be read, and has weights that fit the net."""
    from caffe.proto import caffe_pb2

    if path.endswith(".h5"):
        return
    state = _read(caffe_pb2.SolverState, path)
    if not os.path.isfile(state.learned_net):
        raise ValueError(f"--snapshot: the weights of {path} are missing: {state.learned_net}")
    if not state.learned_net.endswith(".h5"):
        _check(net, _read(caffe_pb2.NetParameter, state.learned_net), state.learned_net)
