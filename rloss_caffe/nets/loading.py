"""Real caffe objects from prototxts in either dialect."""

import os
import tempfile

from google.protobuf import text_format

from rloss_caffe.nets.convert import (
    DialectError,
    check_filled_in,
    convert_text,
    find_net,
    is_net,
    read_solver,
    read_text,
)
from rloss_caffe.nets.text import fields, line_of
from rloss_caffe.nets.weights import load_weights

__all__ = ["Net", "get_solver", "make_solver", "snapshot_prefix"]


def Net(path, *arguments, **keywords):
    """A caffe.Net of a prototxt in either dialect.

    Parameters
    ----------
    path : str or path
    arguments, keywords
        Those of caffe.Net: phase, weights, level, stages.

    Returns
    -------
    caffe.Net

    Raises
    ------
    DialectError
        Caffe could not read the net, or does not know a layer's type, in which cases it would end the process.
    ValueError
        So it would here: the weights cannot be read, or do not fit.
    """
    import caffe

    path = os.fspath(path)
    given = [value for value in (*arguments, keywords.pop("weights", None)) if isinstance(value, (str, os.PathLike))]
    _check_files(given)
    arguments = [value for value in arguments if not isinstance(value, (str, os.PathLike))]
    with tempfile.TemporaryDirectory() as folder:
        net = caffe.Net(_stock_net(path, folder), *arguments, **keywords)
    for weights in given:
        load_weights(net, os.fspath(weights))
    return net


def get_solver(path, level=0, stages=()):
    """A caffe.Solver of a solver prototxt whose nets may be in either dialect.

    Parameters
    ----------
    path : str or path
    level : int
    stages : sequence of str
        Added to the solver's train_state.

    Raises
    ------
    DialectError, ValueError
        As for `Net`; or a net is missing.
    """
    path = os.fspath(path)
    parameters = read_solver(path)
    parameters.snapshot_prefix = snapshot_prefix(parameters, path)
    return make_solver(parameters, path, level, stages)


def snapshot_prefix(parameters, path):
    """Where the snapshots of a solver file go: PREFIX_iter_N.caffemodel; Caffe's own rules.

    Parameters
    ----------
    parameters : SolverParameter
    path : str
        The solver file: without a prefix its own name is one, and so it is in a folder that is named as the prefix.
    """
    prefix, stem = parameters.snapshot_prefix, os.path.splitext(path)[0]
    if not prefix:
        return stem
    return os.path.join(prefix, os.path.basename(stem)) if os.path.isdir(prefix) else prefix


def make_solver(parameters, path, level=0, stages=()):
    """A caffe.Solver of what `read_solver` has read from the file `path`; `parameters` stays as it is."""
    import caffe

    solver = type(parameters)()
    solver.CopyFrom(parameters)
    if level:
        solver.train_state.level = level
    solver.train_state.stage.extend(stages)
    for net in (solver.net_param, solver.train_net_param, *solver.test_net_param):
        _check_types(net.layer, path)
    weights = _take_weights(solver)
    with tempfile.TemporaryDirectory() as folder:
        for field in ("net", "train_net"):
            if solver.HasField(field):
                setattr(solver, field, _stock_net(find_net(getattr(solver, field), path), folder))
        for index, net in enumerate(solver.test_net):
            solver.test_net[index] = _stock_net(find_net(net, path), folder)
        stock = os.path.join(folder, os.path.basename(path))
        with open(stock, "w", encoding="utf-8") as file:
            file.write(text_format.MessageToString(solver))
        result = caffe.get_solver(stock)
    for net in [result.net, *result.test_nets]:
        for name in weights:
            load_weights(net, name)
    return result


def _take_weights(solver):
    """The weights that a solver names, taken out of it: `load_weights` does not end the process."""
    if "weights" not in solver.DESCRIPTOR.fields_by_name:  # older than Caffe 1.0's last changes
        return []
    weights = [path.strip() for names in solver.weights for path in names.split(",")]
    _check_files(weights)
    solver.ClearField("weights")
    return weights


def _check_files(paths):
    for path in paths:
        if not os.path.isfile(path):
            raise DialectError(f"no such file: {path}")


def _stock_net(path, folder):
    """The path of a stock net: the file itself, or a converted copy in `folder`."""
    from caffe.proto import caffe_pb2

    original = read_text(path)
    if not is_net(original):
        raise DialectError(f"{path}: expected a net, found a solver or nothing")
    text = convert_text(original, path)
    check_filled_in(text, path)
    starts = [field.start for field in fields(original) if field.name == "layer"]
    layers = text_format.Parse(text, caffe_pb2.NetParameter()).layer
    _check_types(layers, path, [line_of(original, start) for start in starts])
    if text == original:
        return path
    handle, stock = tempfile.mkstemp(dir=folder, prefix="net_", suffix=".prototxt")
    with os.fdopen(handle, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        file.write(text)
    return stock


def _check_types(layers, path, lines=()):
    """Refuse layers that the installed Caffe does not know; their lines, if there is one for each, are told."""
    import caffe

    known = set(caffe.layer_type_list())
    for index, layer in enumerate(layers):
        if layer.type not in known:
            line = f":{lines[index]}" if len(lines) == len(layers) else ""
            raise DialectError(
                f"{path}{line}: layer {layer.name!r} has type {layer.type!r}, which this Caffe does not know"
            )
