"""Load weights with the checks that Caffe makes by ending the process."""

from google.protobuf.message import DecodeError

from rloss_caffe.runner import log

__all__ = ["check_solverstate", "load_weights"]


def load_weights(net, path):
    """Copy weights by layer name, as Caffe does, after checking that they fit.

    Raises
    ------
    ValueError
        The file is no .caffemodel, or a layer's blobs differ from the net's in number or shape.
    """
    if not path.endswith(".h5"):
        _check(net, path)
    net.copy_from(path)


def _check(net, path):
    message = _read("NetParameter", path)
    found = 0
    for layer in [*message.layer, *message.layers]:
        if layer.name not in net.params or not layer.blobs:
            continue
        found += 1
        expected = [tuple(blob.data.shape) for blob in net.params[layer.name]]
        shapes = [_shape(blob) for blob in layer.blobs]
        fits = len(expected) == len(shapes) and all(map(_is_same, expected, shapes))
        if not fits:
            raise ValueError(
                f"{path} does not fit the net: layer {layer.name!r} has blobs of shape {_list(expected)} in the net "
                f"and {_list(shapes)} in the file; give the layer another name if it is to start anew"
            )
    if not found:
        log.warning(f"No layer of the net has weights in {path}: nothing was loaded from it.")


def _read(kind, path):
    from caffe.proto import caffe_pb2

    message = getattr(caffe_pb2, kind)()
    try:
        with open(path, "rb") as file:
            message.ParseFromString(file.read())
    except DecodeError as error:
        raise ValueError(f"{path} is not what it should be, a binary {kind}: {error}") from None
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


def check_solverstate(path):
    """That a snapshot can be read, and has its weights beside it."""
    import os

    if path.endswith(".h5"):
        return
    state = _read("SolverState", path)
    if not os.path.isfile(state.learned_net):
        raise ValueError(f"--snapshot: the weights of {path} are missing: {state.learned_net}")
