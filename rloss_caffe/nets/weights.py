"""Weights: read with the checks that Caffe makes by ending the process; the fork's weights, too."""

import os
import tempfile
import warnings

import numpy as np
from google.protobuf.message import DecodeError

from rloss_caffe.nets.schema import stored_messages

__all__ = [
    "blob_shape",
    "check_blob",
    "check_fits",
    "check_hdf5",
    "is_hdf5",
    "list_shapes",
    "load_weights",
    "read_stored",
    "read_weights",
    "same_shape",
    "warn_of_nonfinite",
]

_HDF5_BEGINNING = b"\x89HDF\r\n\x1a\n"
_HDF5_LENGTH_AT = {0: 40, 1: 44, 2: 28, 3: 28}  # by version: where a file says how long it is


def load_weights(net, path, warn=warnings.warn):
    """Copy weights by layer name, as Caffe does, after checking that they fit.

    Parameters
    ----------
    net : caffe.Net
    path : str
        A .caffemodel, of stock Caffe or of the fork, or an HDF5 file, whose name ends in ``.h5``.
    warn : callable
        Gets a line of text if no layer of the net is in the file, or if weights are NaN or infinite.

    Returns
    -------
    set of str, or None
        The layers that have weights in the file; None for HDF5 without the package h5py, which could look into it.

    Raises
    ------
    ValueError
        The file is empty, truncated or no .caffemodel, or a layer's blobs differ from the net's in number or shape.
    """
    path = os.fspath(path)
    if is_hdf5(path):
        found = check_hdf5(path, net)
        net.copy_from(path)
    else:
        message = read_weights(path)
        found = check_fits(net, message, path)
        _copy(net, message, path)
    if found is not None and not found:
        warn(f"No layer of the net has weights in {path}: nothing was loaded from it.")
    warn_of_nonfinite(net, path, warn, found)
    return found


def read_weights(path):
    """The layers and blobs of a .caffemodel, as a NetParameter of `stored_messages`.

    Raises
    ------
    ValueError
        The file is empty, truncated or no .caffemodel, or holds no weights.
    """
    message = read_stored("NetParameter", path)
    for layer in message.layers:  # the old form
        message.layer.add(name=layer.name, blobs=layer.blobs, param=[{"name": name} for name in layer.param])
    message.ClearField("layers")
    if not any(layer.blobs for layer in message.layer):
        raise ValueError(f"{path} holds no weights: it was not written to its end, or is no .caffemodel")
    for layer in message.layer:
        for index, blob in enumerate(layer.blobs):
            check_blob(blob, f"{path}: blob {index} of layer {layer.name!r}")
    return message


def read_stored(kind, path):
    """A binary message of `stored_messages` from a file; a ValueError if there is none in it."""
    message = stored_messages()[kind]()
    try:
        with open(path, "rb") as file:
            content = file.read()
        if not content:
            raise ValueError(f"{path} is empty: it was not written to its end")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that only a part could be read is an error here
            if message.MergeFromString(content) not in (None, len(content)):
                raise DecodeError
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None
    except DecodeError:
        raise ValueError(f"{path} is no binary {kind}, or was not written to its end") from None
    return message


def check_blob(blob, name):
    """That a blob has as many values as its shape says: Caffe would end the process."""
    shape = blob_shape(blob)
    expected = 1
    for length in shape:
        expected *= length
    found = len(blob.double_data) or len(blob.data)
    differences = len(blob.double_diff) or len(blob.diff)
    if found != expected or differences not in (0, expected) or min(shape, default=1) < 0:
        raise ValueError(f"{name} of shape {list_shapes([shape])} has {found} values: the file is damaged")


def blob_shape(blob):
    """The shape of a stored blob; old ones have four axes, which count if they are there, as in Caffe."""
    if any(map(blob.HasField, ("num", "channels", "height", "width"))):
        return blob.num, blob.channels, blob.height, blob.width
    return tuple(blob.shape.dim)


def check_fits(net, message, path):
    """The net's layers that have weights in a file; a ValueError if one does not fit."""
    found, names = set(), set(net._layer_names)
    for layer in message.layer:
        if layer.name not in names:
            continue
        _check_layer(net, layer.name, [blob_shape(blob) for blob in layer.blobs], path)
        if layer.blobs:
            found.add(layer.name)
    return found


def same_shape(expected, found):
    """Old files have four axes for every blob, those in front being 1."""
    return expected == found or (len(found) == 4 and (1,) * (4 - len(expected)) + expected == found)


def list_shapes(shapes):
    """Shapes as messages have them."""
    return ", ".join(" x ".join(map(str, shape)) or "()" for shape in shapes) or "none"


def is_hdf5(path):
    """Whether Caffe takes a file for HDF5."""
    return path.endswith(".h5")


def check_hdf5(path, net=None):
    """That an HDF5 file is whole; with the package h5py also that its weights fit the net.

    Returns
    -------
    set of str, or None
        The net's layers that are in the file; None without h5py.
    """
    try:
        with open(path, "rb") as file:
            head, size = file.read(64), file.seek(0, os.SEEK_END)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None
    if not size:
        raise ValueError(f"{path} is empty: it was not written to its end")
    place = _HDF5_LENGTH_AT.get(head[8]) if len(head) == 64 and head.startswith(_HDF5_BEGINNING) else None
    if place is None:
        raise ValueError(f"{path} is no HDF5 file, or was not written to its end")
    length = int.from_bytes(head[place : place + 8], "little")
    if size < length:
        raise ValueError(f"{path} is truncated: it has {size} of {length} bytes")
    return None if net is None else _look_into_hdf5(path, net)


def warn_of_nonfinite(net, path, warn, layers=None):
    """Say which of a net's layers have weights that are NaN or infinite; `layers` are those of the file."""
    broken = [
        name
        for name, blobs in net.params.items()
        if (layers is None or name in layers) and not all(np.isfinite(blob.data).all() for blob in blobs)
    ]
    if broken:
        shown = ", ".join(map(repr, broken[:3])) + (f" and {len(broken) - 3} more" if len(broken) > 3 else "")
        warn(f"{path}: weights of {shown} are NaN or infinite: the net that was saved had diverged.")


def _check_layer(net, name, shapes, path):
    expected = [tuple(blob.data.shape) for blob in net.params.get(name, ())]
    if len(expected) != len(shapes) or not all(map(same_shape, expected, shapes)):
        raise ValueError(
            f"{path} does not fit the net: layer {name!r} has blobs of shape {list_shapes(expected)} in the net "
            f"and {list_shapes(shapes)} in the file; give the layer another name if it is to start anew"
        )


def _copy(net, message, path):
    if _is_stock(path):
        net.copy_from(path)
        return
    with tempfile.TemporaryDirectory() as folder:
        stock = os.path.join(folder, "stock.caffemodel")
        message.DiscardUnknownFields()
        with open(stock, "wb") as file:
            file.write(message.SerializeToString())
        net.copy_from(stock)


def _is_stock(path):
    """Whether the installed Caffe can read the file itself, the changes included that it makes to old ones."""
    from caffe.proto import caffe_pb2

    message = caffe_pb2.NetParameter()
    try:
        with open(path, "rb") as file:
            message.ParseFromString(file.read())
    except DecodeError:  # the fork's parameters of some layers, as MatWrite's, are nonsense at stock Caffe's numbers
        return False
    is_mixed = message.layer and message.layers
    has_oldest = any(layer.HasField("layer") for layer in message.layers)
    lacks_sizes = message.input and (
        len(message.input_shape) < len(message.input) and len(message.input_dim) < 4 * len(message.input)
    )
    return message.IsInitialized() and not (is_mixed or has_oldest or lacks_sizes)


def _look_into_hdf5(path, net):
    try:
        import h5py
    except ImportError:
        return None
    found, names = set(), set(net._layer_names)
    try:
        with h5py.File(path, "r") as file:
            for name, layer in file["data"].items():
                if name in names:
                    blobs = range(max(len(layer), len(net.params.get(name, ()))))
                    shapes = [tuple(layer[str(index)].shape) for index in blobs if str(index) in layer]
                    if shapes != _unshared(net, name, layer):
                        _check_layer(net, name, shapes, path)
                    if name in net.params:  # Caffe writes an entry for layers without weights, too
                        found.add(name)
    except (OSError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} holds no weights of Caffe: {error}") from None
    return found


def _unshared(net, name, layer):
    """The shapes of a layer's blobs that the file has; those that the net shares may be missing."""
    return [tuple(blob.data.shape) for index, blob in enumerate(net.params.get(name, ())) if str(index) in layer]
