"""Turn nets and solvers of the fork's dialect into stock Caffe's.

To add a layer: its messages in `rloss_caffe.nets.schema`, and a line in `LAYERS`.
"""

import difflib
import json
import os
import re
import sys
import tempfile

import numpy as np
from google.protobuf import text_format

from rloss_caffe.nets.schema import fork_fields, fork_messages
from rloss_caffe.nets.text import PLACEHOLDER, Edits, Placeholders, fields, line_of, placeholders

__all__ = [
    "LAYERS",
    "DialectError",
    "check_filled_in",
    "convert_file",
    "convert_text",
    "find_net",
    "is_net",
    "read_net",
    "read_solver",
    "read_text",
]

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
    return not {"layer", "layers", "input", "force_backward"}.isdisjoint(field.name for field in fields(text))


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
        The same text, comments and all, but for the fork's layers in it.

    Raises
    ------
    DialectError
    """
    placeholders = Placeholders()
    net = _parse(text, "NetParameter", name, placeholders)
    edits = Edits(text)
    changed = _convert_net(net, edits, fields(text), name, warn or _silent)
    return _edited(edits, net, "NetParameter", placeholders) if changed else text


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
    target = None if target is None else os.fspath(target)
    text = read_text(source)
    if is_net(text):
        inputs, files, result = [source], {}, convert_text(text, source, warn)
    else:
        result, files, inputs = _convert_solver(text, source, target, warn)
    if target is not None:
        for path in inputs:
            if _is_same(target, path):
                raise DialectError(f"{target}: this is an input; give the result another name")
        for path, content in [*files.items(), (target, result)]:
            _write(path, content)
            if path in files:
                warn(f"wrote {path}")
    return result


def read_net(path):
    """A net in either dialect, as a stock NetParameter."""
    from caffe.proto import caffe_pb2

    return text_format.Parse(convert_text(read_text(os.fspath(path)), os.fspath(path)), caffe_pb2.NetParameter())


def read_solver(path):
    """A solver, as a stock SolverParameter; its nets are not looked at, but its placeholders must be filled in."""
    path = os.fspath(path)
    text = read_text(path)
    if is_net(text):
        raise DialectError(f"{path}: expected a solver, found a net")
    check_filled_in(text, path)
    solver = _parse(text, "SolverParameter", path, Placeholders())
    _convert_inline_nets(solver, Edits(text), path, _silent)
    return _as_stock(solver, "SolverParameter")


def check_filled_in(text, path):
    """Refuse a text that has placeholders, but for those in comments."""
    found = placeholders(text)
    if found:
        raise DialectError(f"{path}: {', '.join(found)} must be filled in first")


def find_net(path, solver_path):
    """Where a net named in a solver is: from the working directory, as Caffe sees it, else from the solver's folder."""
    beside = os.path.join(os.path.dirname(solver_path), path)
    return path if os.path.exists(path) or not os.path.exists(beside) else beside


def read_text(path):
    """A file's text, line ends and all; bytes that are not UTF-8, as in old comments, come through."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
            return file.read()
    except OSError as error:
        raise DialectError(f"cannot read {path}: {error.strerror}") from None


def _convert_solver(text, name, target, warn):
    """The solver's text, {path: text} of the nets that go with it, and the paths of all that was read."""
    placeholders = Placeholders()
    solver, edits = _parse(text, "SolverParameter", name, placeholders), Edits(text)
    changed = _convert_inline_nets(solver, edits, name, warn)
    converted, inputs = [], [name]  # of nets: what names them, what it says, their text
    for field, nets in _by_name(fields(text), ("net", "train_net", "test_net")).items():
        value = getattr(solver, field)
        paths = list(value) if field == "test_net" else [value] * solver.HasField(field)
        for index, path in enumerate(paths):
            if PLACEHOLDER.search(path):
                warn(f"{name}: {field} is {path!r}, which cannot be followed; convert that net by itself")
                continue
            found = find_net(path, name)
            inputs.append(found)
            before = read_text(found)
            after = convert_text(before, found, warn)
            if after == before:
                continue
            if target is None:
                warn(f"{name}: {field} {path!r} is in the fork's dialect; convert it, too, or give an output file")
                continue
            converted.append((field, index, nets[index] if index < len(nets) else None, path, after))
    files = {}
    for field, index, place, path, after in converted:
        new = os.path.join(os.path.dirname(target), f"{os.path.splitext(os.path.basename(path))[0]}_stock.prototxt")
        while files.get(new, after) != after or any(_is_same(new, other) for other in [*inputs, target]):
            new = f"{os.path.splitext(new)[0]}_.prototxt"
        files[new], changed = after, True
        if field == "test_net":
            solver.test_net[index] = new
        else:
            setattr(solver, field, new)
        if place:
            edits.replace(place.value, place.end, json.dumps(new, ensure_ascii=False))
    return _edited(edits, solver, "SolverParameter", placeholders) if changed else text, files, inputs


def _convert_inline_nets(solver, edits, name, warn):
    """Convert the nets that a solver's message has in it; whether anything was the fork's."""
    changed = False
    for field, places in _by_name(fields(edits.text), ("net_param", "train_net_param", "test_net_param")).items():
        value = getattr(solver, field)
        nets = value if field == "test_net_param" else [value] * solver.HasField(field)
        for index, net in enumerate(nets):
            body = places[index].body if index < len(places) else None
            inner = fields(edits.text, *body) if body else []
            changed |= _convert_net(net, edits, inner, name, warn)
    return changed


def _convert_net(net, edits, places, name, warn):
    """Convert a message in place, and note the same for its text; whether anything was the fork's."""
    places = [place for place in places if place.name == "layer"]
    if len(places) != len(net.layer):  # a list of layers, say
        places = [None] * len(net.layer)
    titles = []
    for layer, place in zip(net.layer, places):
        line = f":{line_of(edits.text, place.start)}" if place else ""
        titles.append(f"{name}{line}: layer {layer.name!r} of type {layer.type}")
    for layer, title in zip(net.layer, titles):
        if layer.type in NO_COUNTERPART:
            raise DialectError(f"{title} has no counterpart in stock Caffe; {NO_COUNTERPART[layer.type]}")
    for layer in net.layers:
        _refuse_fork_fields(layer, f"{name}: layer {layer.name!r} in the old form 'layers'")
    before = [type(layer).FromString(layer.SerializePartialToString()) for layer in net.layer]
    is_fork = False
    for layer, title in zip(net.layer, titles):
        is_fork |= _convert_layer(layer, title, warn)
    if is_fork:
        _name_tops(net)
        for old, layer, place in zip(before, net.layer, places):
            if place and place.body and old != layer:
                _edit_layer(edits, place, old, layer)
    return is_fork


def _edit_layer(edits, place, old, new):
    """Note the difference between two messages of a layer for its text."""
    inner = fields(edits.text, *place.body)
    kind = next((field for field in inner if field.name == "type"), None)
    if kind is None:
        return
    if old.type != new.type:
        edits.replace(kind.value, kind.end, json.dumps(new.type))
        part = type(new)()
        part.python_param.CopyFrom(new.python_param)
        printed = _to_text(part)
        gone = {field.name for field, _ in old.ListFields()} - {field.name for field, _ in new.ListFields()}
        gone = [field for field in inner if field.name in gone]
        for field in gone[1:]:
            edits.remove(field)
        if gone:
            edits.replace_field(gone[0], printed)
        else:
            edits.insert_after(inner[-1], printed)
    added = new.top[len(old.top) :]
    if added:
        anchor = [field for field in inner if field.name in ("bottom", "type")][-1]
        edits.insert_after(anchor, _to_text(type(new)(top=added)))
    for field in inner:
        if field.name == "batch_norm_param" and field.body:
            for setting in fields(edits.text, *field.body):
                if setting.name == "update_global_stats":
                    edits.remove(setting)


def _edited(edits, message, kind, placeholders):
    """The edited text if it means what the message says; else, for rare spellings, the message printed."""
    from caffe.proto import caffe_pb2

    text, message = edits.apply(), _as_stock(message, kind)
    try:
        if text_format.Parse(placeholders.hide(text), getattr(caffe_pb2, kind)()) == message:
            return placeholders.show(text)
    except text_format.ParseError:
        pass
    return placeholders.show(_to_text(message))


def _by_name(places, names):
    return {name: [place for place in places if place.name == name] for name in names}


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
    _refuse_fork_fields(layer, place)


def _refuse_fork_fields(layer, place):
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
    if "V1LayerParameter" in problem:
        return "; the old form 'layers' is for stock types only: upgrade the net with Caffe's upgrade_net_proto_text"
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
    return text_format.MessageToString(message, as_utf8=True).replace("\\'", "'")


def _write(path, text):
    """All or nothing."""
    folder = os.path.dirname(path) or "."
    try:
        handle, temporary = tempfile.mkstemp(dir=folder, suffix=".part")
    except OSError as error:
        raise DialectError(f"cannot write {path}: {error.strerror}: {folder}") from None
    try:
        with os.fdopen(handle, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            file.write(text)
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _is_same(path, other):
    """Whether two paths are one file, which need not exist."""
    return os.path.realpath(path) == os.path.realpath(other)


def _silent(_):
    pass


def to_stderr(line):
    """A `warn` for commands."""
    print(line, file=sys.stderr)
