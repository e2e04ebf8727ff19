"""Convert a whole net: its message, and, for who wants to keep the file, its text in the same way."""

import json
from functools import partial

from google.protobuf import text_format

from rloss_caffe.nets import fork_layers, old_layers
from rloss_caffe.nets.prototxt import DialectError, to_stock, to_text
from rloss_caffe.nets.text import fields, iterate_fields

__all__ = ["NetConversion", "edited_text"]


class NetConversion:
    """The conversion of one net, alone or inside a solver.

    Parameters
    ----------
    prototxt : Prototxt
        What the net is in.
    net : NetParameter
        The net's message in it; changed in place.
    body : (int, int), optional
        The part of the text that is the net. None: its place is not known, and no text is edited.
    warn : callable
        Gets a line of text for everything that is left out.
    """

    def __init__(self, prototxt, net, body, warn):
        self._prototxt, self._net, self._body, self._warn = prototxt, net, body, warn
        self._old = bool(net.layers)
        self._places = None

    def convert(self, edits=None, must_be_new=False):
        """Convert the message and note the same for its text; returns whether anything was the fork's.

        Parameters
        ----------
        edits : Edits, optional
            None: the message alone is wanted.
        must_be_new : bool
            The old form is changed to the new one, even where nothing is the fork's.
        """
        net = self._net
        if net.layer and net.layers:
            raise DialectError(f"{self._prototxt.name}: a net with both 'layer' and the old form 'layers'")
        before = None
        if edits:
            before = [type(layer).FromString(layer.SerializePartialToString()) for layer in net.layer or net.layers]
        if self._old and not self._upgrade(must_be_new):
            return False
        places = [partial(self.describe, index, layer.type) for index, layer in enumerate(net.layer)]
        for layer, place in zip(net.layer, places):
            fork_layers.refuse_without_counterpart(layer, place)
        changed = self._old
        for layer, place in zip(net.layer, places):
            changed |= fork_layers.convert_layer(layer, place, self._warn)
        if not changed:
            return False
        fork_layers.name_tops(net)
        if edits:
            for index, old in enumerate(before):
                _edit_layer(edits, self.place(index), old, net.layer[index])
        return True

    def _upgrade(self, must_be_new):
        """The old form becomes the new one, if that is needed for anything; Caffe does the same with what stays."""
        net = self._net
        if any(layer.HasField("layer") for layer in net.layers):
            if must_be_new or any(map(old_layers.is_of_fork, net.layers)):
                raise DialectError(
                    f"{self._prototxt.name}: the oldest form, 'layers {{ layer {{ ... }} }}', cannot be converted: "
                    "upgrade the net with Caffe's upgrade_net_proto_text"
                )
            return False
        if not must_be_new and not any(map(old_layers.is_of_fork, net.layers)):
            return False
        kind = type(type(net)().layer.add())
        layers = [old_layers.upgraded(layer, kind) for layer in net.layers]
        for index, layer in enumerate(net.layers):
            if layer.HasField("strict_dim") and not layer.strict_dim:
                where = self.describe(index, old_layers.new_type(layer))
                self._warn(f"{where}: strict_dim: false is left out; weights must have the net's shapes")
        net.ClearField("layers")
        net.layer.extend(layers)
        return True

    def place(self, index):
        """Where a layer is in the text; None if that is not known."""
        if self._places is None:
            name = "layers" if self._old else "layer"
            found = [] if self._body is None else iterate_fields(self._prototxt.text, *self._body)
            found = [field for field in found if field.name == name]
            count = len(self._net.layer) or len(self._net.layers)
            self._places = found if len(found) == count else [None] * count  # a list of layers, say
        return self._places[index]

    def describe(self, index, kind):
        """How messages call a layer: file, line, name, type."""
        return f"{self._named(index)} of type {kind}"

    def unknown_types(self):
        """A line of text for each layer that the installed Caffe does not know: it would end the process."""
        import caffe

        known = set(caffe.layer_type_list())
        kinds = [(layer.type, known) for layer in self._net.layer]
        for layer in self._net.layers:
            if layer.HasField("layer"):
                kinds.append((layer.layer.type, old_layers.OLDEST_TYPES))
            else:
                kinds.append((old_layers.new_type(layer), known))
        return [
            f"{self._named(index)} has type {kind!r}, which this Caffe does not know"
            for index, (kind, known) in enumerate(kinds)
            if kind not in known
        ]

    def _named(self, index):
        layer = (self._net.layer or self._net.layers)[index]
        return f"{self._prototxt.line(self.place(index))}: layer {layer.name!r}"


def edited_text(edits, message, kind, placeholders):
    """The edited text if it means what the message says; else, for rare spellings, the message printed."""
    from caffe.proto import caffe_pb2

    text, message = edits.apply(), to_stock(message, kind)
    try:
        if text_format.Parse(placeholders.hide(text), getattr(caffe_pb2, kind)()) == message:
            return placeholders.show(text)
    except text_format.ParseError:
        pass
    return placeholders.show(to_text(message))


def _edit_layer(edits, place, old, new):
    """Note the difference between two messages of a layer for its text."""
    if place is None or not place.body:
        return
    inner = fields(edits.text, *place.body)
    kind = next((field for field in inner if field.name == "type"), None)
    if kind is None:
        return
    is_old_form = old.DESCRIPTOR.name != new.DESCRIPTOR.name
    if is_old_form:
        edits.replace(place.start, place.start + len(place.name), "layer")
        _edit_parameters(edits, inner, new)
    if is_old_form or old.type != new.type:
        edits.replace(kind.value, kind.end, json.dumps(new.type))
    if new.type == "Python" and (is_old_form or old.type != "Python"):
        _edit_python_layer(edits, inner, old, new)
    elif is_old_form and new.type in old_layers.TRANSFORMED:
        names = (old_layers.TRANSFORMED[new.type], "transform_param")
        _replace(edits, inner, names, _printed(new, names))
    added = new.top[len(old.top) :]
    if added:
        anchor = [field for field in inner if field.name in ("bottom", "type")][-1]
        edits.insert_after(anchor, to_text(type(new)(top=added)))
    _edit_settings(edits, inner, new)


def _edit_python_layer(edits, inner, old, new):
    kept = {field.name for field, _ in new.ListFields()}
    gone = {field.name for field, _ in old.ListFields() if field.name not in kept} - {*_PARAMETER_FIELDS}
    _replace(edits, inner, gone, _printed(new, ["python_param"]))


def _edit_parameters(edits, inner, new):
    """One line for each ParamSpec, with its numbers as they were written."""
    written = {}
    for field in inner:
        written.setdefault(field.name, []).append(edits.text[field.value : field.end])
    lines = []
    for index, spec in enumerate(new.param):
        parts = []
        for target, name in (("name", "param"), ("share_mode", "blob_share_mode"), *_RATES):
            if spec.HasField(target) and index < len(written.get(name, ())):
                parts.append(f"{target}: {written[name][index]}")
        lines.append("param { " + " ".join(parts) + " }")
    _replace(edits, inner, _PARAMETER_FIELDS, "\n".join(lines))


_RATES = (("lr_mult", "blobs_lr"), ("decay_mult", "weight_decay"))
_PARAMETER_FIELDS = (*old_layers.PARAMETER_FIELDS, "strict_dim")


def _edit_settings(edits, inner, new):
    """Single fields inside a layer's parameters."""
    for field in inner:
        settings = fields(edits.text, *field.body) if field.body else []
        if field.name == "batch_norm_param":
            for setting in settings:
                if setting.name == "update_global_stats":
                    edits.remove(setting)
        if field.name == "convolution_param":
            for setting in settings:
                if setting.name in ("hole", "hole_h", "hole_w"):
                    edits.replace(setting.start, setting.start + len(setting.name), "dilation")
        if field.name == "softmaxloss_param" and new.HasField("loss_param"):
            edits.replace(field.start, field.start + len(field.name), "loss_param")
        elif field.name == "softmaxloss_param":
            edits.remove(field)


def _replace(edits, inner, names, printed):
    """Put a text in place of the first field with one of some names; the others go."""
    gone = [field for field in inner if field.name in names]
    for field in gone[1 if printed else 0 :]:
        edits.remove(field)
    if printed and gone:
        edits.replace_field(gone[0], printed)
    elif printed:
        edits.insert_after(inner[-1], printed)


def _printed(layer, names):
    """Some fields of a message, as protobuf prints them."""
    part = type(layer)()
    for name in names:
        if layer.HasField(name):
            getattr(part, name).CopyFrom(getattr(layer, name))
    return to_text(part)
