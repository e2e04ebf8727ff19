"""Turn nets and solvers of the fork's dialect into stock Caffe's.

To add a layer: its messages in `rloss_caffe.dialect.schema`, and a line in `LAYERS`.
"""

import difflib
import json
import os
import re
import sys
import tempfile

import numpy as np
from google.protobuf import text_format

from rloss_caffe.dialect.schema import fork_fields, fork_messages
from rloss_caffe.dialect.text import Placeholders, layer_lines, top_level_names

__all__ = ["LAYERS", "DialectError", "convert_file", "convert_text", "find_net", "is_net", "read_net", "read_solver"]

# The fork's type, which is also our layer's name: the messages whose fields become its param_str.
LAYERS = {
    "DenseCRFLoss": ["densecrf_loss_param"],
    "DenseCRF": ["dense_crf_param"],
    "ImageSegData": ["image_data_param", "transform_param"],
    "Interp": ["interp_param"],
    "SegAccuracy": ["seg_accuracy_param"],
}
NO_COUNTERPART = {
    "MatRead": "read the file in a Python layer of your own",
    "MatWrite": "take the blob from net.blobs in Python",
    "UniqueLabel": "it is not part of these experiments",
    "DomainTransform": "it is not part of these experiments",
    "BiasChannel": "it is not part of these experiments",
    "AdaptiveBiasChannel": "it is not part of these experiments",
}
# These have a top of their own accord in Caffe; pycaffe needs a name for each when there are several.
LOSSES = {
    "ContrastiveLoss",
    "DenseCRFLoss",
    "EuclideanLoss",
    "HingeLoss",
    "InfogainLoss",
    "MultinomialLogisticLoss",
    "SigmoidCrossEntropyLoss",
    "SoftmaxWithLoss",
}
# Fields that the fork's ImageSegData does not look at.
_IGNORED = {
    "image_data_param": {"scale", "mean_file", "crop_size", "mirror"},
    "transform_param": {"force_color", "force_gray"},
}


class DialectError(ValueError):
    """A prototxt that cannot be read or has no counterpart in stock Caffe; the text has file and line."""


def is_net(text):
    """Whether a prototxt is a net; else it is a solver."""
    return bool(top_level_names(text) & {"layer", "layers", "input", "force_backward"})


def convert_text(text, name="prototxt", warn=None):
    """Convert a net.

    Parameters
    ----------
    text : str
    name : str
        What messages call it.
    warn : callable, optional
        Gets a line of text for everything that is left out.

    Returns
    -------
    str
        The same text, comments and all, where nothing is the fork's.

    Raises
    ------
    DialectError
    """
    placeholders = Placeholders()
    net = _parse(text, "NetParameter", name, placeholders)
    if not _convert_net(net, layer_lines(text), name, warn or _silent):
        return text
    return placeholders.show(_to_text(_as_stock(net, "NetParameter")))


def convert_file(source, target=None, warn=None):
    """Convert a net or solver file.

    Parameters
    ----------
    source : path
    target : path, optional
        The result. The nets of a solver that need converting are written beside it, as ``NAME_stock.prototxt``.
        None: nothing is written; the nets of a solver keep their paths.
    warn : callable, optional
        As for `convert_text`.

    Returns
    -------
    str
        The converted text.

    Raises
    ------
    DialectError
        Nothing has been written then.
    """
    source, warn = os.fspath(source), warn or _silent
    text = _read(source)
    if is_net(text):
        files, result = {}, convert_text(text, source, warn)
    else:
        folder = None if target is None else os.path.dirname(os.fspath(target)) or "."
        result, files = _convert_solver(text, source, folder, warn)
    if target is not None:
        for path in [*files, os.fspath(target)]:
            if os.path.exists(path) and os.path.samefile(path, source):
                raise DialectError(f"{path}: this is the input; give the result another name")
        for path, content in [*files.items(), (os.fspath(target), result)]:
            _write(path, content)
            if path in files:
                warn(f"wrote {path}")
    return result


def read_net(path):
    """A net in either dialect, as a stock NetParameter."""
    from caffe.proto import caffe_pb2

    return text_format.Parse(convert_text(_read(os.fspath(path)), os.fspath(path)), caffe_pb2.NetParameter())


def read_solver(path):
    """A solver, as a stock SolverParameter; its nets are not looked at."""
    path = os.fspath(path)
    text = _read(path)
    if is_net(text):
        raise DialectError(f"{path}: expected a solver, found a net")
    solver = _parse(text, "SolverParameter", path, Placeholders())
    for field in ("net_param", "train_net_param", "test_net_param"):
        nets = getattr(solver, field)
        for net in nets if field == "test_net_param" else [nets] * solver.HasField(field):
            _convert_net(net, [], f"{path}, {field}", _silent)
    return _as_stock(solver, "SolverParameter")


def find_net(path, solver_path):
    """Where a net named in a solver is: from the working directory, as Caffe sees it, else from the solver's folder."""
    beside = os.path.join(os.path.dirname(solver_path), path)
    return path if os.path.exists(path) or not os.path.exists(beside) else beside


def _convert_solver(text, name, folder, warn):
    """The solver's text, and {path: text} of the nets that go with it."""
    placeholders = Placeholders()
    solver = _parse(text, "SolverParameter", name, placeholders)
    files, changed = {}, False
    for field in ("net", "train_net", "test_net"):
        value = getattr(solver, field)
        paths = list(value) if field == "test_net" else [value] * solver.HasField(field)
        for index, path in enumerate(paths):
            if "${" in path:
                warn(f"{name}: {field} is {path!r}, which cannot be followed; convert that net by itself")
                continue
            found = find_net(path, name)
            before = _read(found)
            after = convert_text(before, found, warn)
            if after == before:
                continue
            if folder is None:
                warn(f"{name}: {field} {path!r} is in the fork's dialect; convert it, too, or give an output file")
                continue
            new = os.path.join(folder, f"{os.path.splitext(os.path.basename(path))[0]}_stock.prototxt")
            while files.get(new, after) != after:
                new = f"{os.path.splitext(new)[0]}_.prototxt"
            files[new], changed = after, True
            if field == "test_net":
                solver.test_net[index] = new
            else:
                setattr(solver, field, new)
    for field in ("net_param", "train_net_param", "test_net_param"):
        nets = getattr(solver, field)
        for net in nets if field == "test_net_param" else [nets] * solver.HasField(field):
            changed |= _convert_net(net, [], f"{name}, {field}", warn)
    return (placeholders.show(_to_text(_as_stock(solver, "SolverParameter"))) if changed else text), files


def _convert_net(net, lines, name, warn):
    """Convert a message in place; whether anything was the fork's."""
    places = []
    for index, layer in enumerate(net.layer):
        line = f":{lines[index]}" if index < len(lines) else ""
        places.append(f"{name}{line}: layer {layer.name!r} of type {layer.type}")
    for layer, place in zip(net.layer, places):
        if layer.type in NO_COUNTERPART:
            raise DialectError(f"{place} has no counterpart in stock Caffe; {NO_COUNTERPART[layer.type]}")
    is_fork = False
    for layer, place in zip(net.layer, places):
        is_fork |= _convert_layer(layer, place, warn)
    if is_fork:
        _name_tops(net)
    return is_fork


def _convert_layer(layer, place, warn):
    changed = False
    if layer.type in LAYERS:
        parameters = {}
        for message in LAYERS[layer.type]:
            if layer.HasField(message):
                parameters.update(_parameters(getattr(layer, message), message, place, warn))
                layer.ClearField(message)
        layer.python_param.module, layer.python_param.layer = "rloss_caffe.layers", layer.type
        layer.python_param.param_str = "\n".join(f"{key}: {json.dumps(value)}" for key, value in parameters.items())
        if layer.type == "ImageSegData" and not layer.top:
            layer.top.append(layer.name)
        layer.type, changed = "Python", True
    if layer.HasField("batch_norm_param") and layer.batch_norm_param.HasField("update_global_stats"):
        if layer.batch_norm_param.update_global_stats:
            raise DialectError(f"{place}: update_global_stats: true has no counterpart in stock Caffe")
        layer.batch_norm_param.ClearField("update_global_stats")
        changed = True
    _refuse_left_over(layer, place)
    return changed


def _parameters(message, name, place, warn):
    """The fields that are set, as what YAML and JSON know."""
    for field, value in message.ListFields():
        if field.name in _IGNORED.get(name, ()):
            warn(f"{place}: {name}.{field.name} has no effect there and is left out")
            continue
        if name == "transform_param" and field.name == "mean_file":
            raise DialectError(f"{place} does not support a mean_file; write mean_value")
        values = list(value) if field.label == field.LABEL_REPEATED else [value]
        if field.enum_type:
            values = [field.enum_type.values_by_number[number].name for number in values]
        elif isinstance(values[0], float):
            values = [float(str(np.float32(number))) for number in values]  # 104.008, not 104.00800323
        yield field.name, values if field.label == field.LABEL_REPEATED else values[0]


def _refuse_left_over(layer, place):
    """The fork's fields in layers that do not become ours would be lost without a word."""
    for name in fork_fields("LayerParameter"):
        if layer.HasField(name):
            raise DialectError(f"{place} has a {name}, which belongs to another type and has no counterpart")
    for message, kind in (("image_data_param", "ImageDataParameter"), ("transform_param", "TransformationParameter")):
        if layer.HasField(message):
            for field, _ in getattr(layer, message).ListFields():
                if field.name in fork_fields(kind) and field.number > 100000:
                    raise DialectError(
                        f"{place}: {message}.{field.name} is the fork's; stock Caffe's type has no such field"
                    )


def _name_tops(net):
    taken = {top for layer in net.layer for top in layer.top}
    for layer in net.layer:
        kind = layer.python_param.layer if layer.type == "Python" else layer.type
        if kind in LOSSES and not layer.top:
            top = layer.name or kind
            while top in taken:
                top += "_loss"
            taken.add(top)
            layer.top.append(top)


def _parse(text, kind, name, placeholders):
    try:
        return text_format.Parse(placeholders.hide(text), fork_messages()[kind]())
    except text_format.ParseError as error:
        message = str(error)
        match = re.match(r"(\d+):(\d+) : (.*)", message, re.DOTALL)
        if not match:
            raise DialectError(f"{name}: {message}") from None
        line, column, problem = int(match.group(1)), match.group(2), match.group(3).strip().strip("'")
        problem += _hint(problem)
        hidden = placeholders.on_line(text, line)
        if hidden:
            problem += f"; {', '.join(hidden)} can stand for a number or inside a string only"
        raise DialectError(f"{name}:{line}:{column}: {problem}") from None


def _hint(problem):
    match = re.search(r'Message type "[\w.]*?(\w+)" has no field named "(\w+)"', problem)
    if not match:
        return ""
    root = fork_messages()["SolverParameter"].DESCRIPTOR.file.message_types_by_name
    known = [field.name for field in root[match.group(1)].fields] if match.group(1) in root else []
    close = difflib.get_close_matches(match.group(2), known, n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


def _as_stock(message, kind):
    from caffe.proto import caffe_pb2

    return getattr(caffe_pb2, kind).FromString(message.SerializePartialToString())


def _to_text(message):
    return text_format.MessageToString(message, float_format=".9g").replace("\\'", "'")


def _read(path):
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise DialectError(f"cannot read {path}: {reason}") from None


def _write(path, text):
    """All or nothing."""
    folder = os.path.dirname(path) or "."
    handle, temporary = tempfile.mkstemp(dir=folder, suffix=".part")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _silent(_):
    pass


def to_stderr(line):
    """A `warn` for commands."""
    print(line, file=sys.stderr)
