"""What becomes of each of the fork's layers in stock Caffe: a Python layer, stock fields, or an error."""

import json

import numpy as np

from rloss_caffe.nets.prototxt import DialectError
from rloss_caffe.nets.schema import FIRST_NUMBER, LAYERS, fork_fields

__all__ = ["NO_COUNTERPART", "convert_layer", "kind_of", "name_tops", "refuse_without_counterpart"]

_NOT_PART = "it is not part of these experiments"
NO_COUNTERPART = {
    "MatRead": "read the file in a Python layer of your own",
    "MatWrite": "take the blob from net.blobs in Python",
    **dict.fromkeys(
        [
            *("AdaptiveBiasChannel", "BiasChannel", "CensorLabel", "ChannelAggregator", "DomainTransform"),
            *("DominantChannel", "GainChannel", "Histogram", "IgnoreOverlay", "OneHot", "RelativeError", "UniqueLabel"),
        ],
        _NOT_PART,
    ),
    "Padding": "write the pad of the next convolution",
}
# These have a top of their own accord in Caffe; pycaffe needs a name for each when there are several.
_LOSSES = {
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


def kind_of(layer):
    """A layer's type; of a Python layer the class's name."""
    return layer.python_param.layer if layer.type == "Python" else layer.type


def refuse_without_counterpart(layer, place):
    """Raise a DialectError for a type that cannot be converted."""
    if layer.type in NO_COUNTERPART:
        raise DialectError(f"{place()} has no counterpart in stock Caffe; {NO_COUNTERPART[layer.type]}")


def convert_layer(layer, place, warn):
    """Turn a layer's message into stock Caffe's.

    Parameters
    ----------
    layer : LayerParameter
        In the fork's schema; changed in place.
    place : callable
        Gives file, line and name of the layer, for messages.
    warn : callable
        Gets a line of text for everything that is left out.

    Returns
    -------
    bool
        Whether anything in it was the fork's.
    """
    changed = False
    if layer.type in LAYERS:
        _become_python_layer(layer, place, warn)
        changed = True
    changed |= _drop_update_global_stats(layer, place)
    changed |= _fill_holes(layer, place)
    changed |= _rename_softmaxloss(layer, place)
    _refuse_left_over(layer, place)
    return changed


def name_tops(net):
    """Name the tops of losses that have none: the fork's layers have anonymous ones, Python layers and pycaffe not."""
    taken = {top for layer in net.layer for top in layer.top}
    for layer in net.layer:
        kind = kind_of(layer)
        if kind in _LOSSES and not layer.top:
            top = layer.name or kind
            while top in taken:
                top += "_loss"
            taken.add(top)
            layer.top.append(top)


def _become_python_layer(layer, place, warn):
    parameters = {}
    for message in LAYERS[layer.type]:
        if layer.HasField(message):
            parameters.update(_parameters(getattr(layer, message), message, place, warn))
            layer.ClearField(message)
    layer.python_param.module, layer.python_param.layer = "rloss_caffe.layers", layer.type
    layer.python_param.param_str = "\n".join(f"{key}: {json.dumps(value)}" for key, value in parameters.items())
    if layer.type == "ImageSegData" and not layer.top:
        layer.top.append(layer.name)
    layer.type = "Python"


def _parameters(message, name, place, warn):
    """The fields that are set, as what YAML and JSON know."""
    for field, value in message.ListFields():
        if field.name in _IGNORED.get(name, ()):
            warn(f"{place()}: {name}.{field.name} has no effect there and is left out")
            continue
        if name == "transform_param" and field.name == "mean_file":
            raise DialectError(f"{place()} does not support a mean_file; write mean_value")
        values = list(value) if field.label == field.LABEL_REPEATED else [value]
        if field.enum_type:
            values = [field.enum_type.values_by_number[number].name for number in values]
        elif isinstance(values[0], float):
            values = [_shortest(number, f"{name}.{field.name}", place) for number in values]
        yield field.name, values if field.label == field.LABEL_REPEATED else values[0]


def _shortest(number, name, place):
    """The shortest number that single precision cannot tell from this one: 104.008, not 104.00800323."""
    if not np.isfinite(number):
        raise DialectError(f"{place()}: {name} must be a finite number, found {number}")
    return float(str(np.float32(number)))


def _drop_update_global_stats(layer, place):
    if not layer.batch_norm_param.HasField("update_global_stats"):
        return False
    if layer.batch_norm_param.update_global_stats:
        raise DialectError(f"{place()}: update_global_stats: true has no counterpart in stock Caffe")
    layer.batch_norm_param.ClearField("update_global_stats")
    return True


def _fill_holes(layer, place):
    """The holes of the fork's first version are what stock Caffe calls dilation."""
    given = layer.convolution_param
    names = [name for name in ("hole", "hole_h", "hole_w") if given.HasField(name)]
    if not names:
        return False
    if names == ["hole"]:
        dilation = [given.hole]
    elif names == ["hole_h", "hole_w"]:
        dilation = [given.hole_h, given.hole_w]
    else:
        raise DialectError(f"{place()}: convolution_param needs hole, or both hole_h and hole_w; it has {names}")
    if min(dilation) < 1:
        raise DialectError(f"{place()}: a hole must be 1 or more, found {min(dilation)}")
    if given.dilation:
        raise DialectError(f"{place()}: convolution_param has {names[0]} and dilation, which mean the same")
    given.dilation.extend(dilation)
    for name in names:
        given.ClearField(name)
    return True


def _rename_softmaxloss(layer, place):
    if not layer.HasField("softmaxloss_param"):
        return False
    given = layer.softmaxloss_param
    if layer.type != "SoftmaxWithLoss":
        raise DialectError(f"{place()} has a softmaxloss_param, which belongs to SoftmaxWithLoss")
    if given.weight_source or len(given.ignore_label) > 1:
        what = "weight_source" if given.weight_source else "more than one ignore_label"
        raise DialectError(f"{place()}: softmaxloss_param has {what}, for which stock Caffe has no counterpart")
    if given.ignore_label:
        layer.loss_param.ignore_label = given.ignore_label[0]
    layer.ClearField("softmaxloss_param")
    return True


def _refuse_left_over(layer, place):
    """The fork's fields in layers that do not become ours would be lost without a word."""
    for field, _ in layer.ListFields():
        if field.name in fork_fields("LayerParameter") and field.number >= FIRST_NUMBER:
            raise DialectError(f"{place()} has a {field.name}, which belongs to another type and has no counterpart")
    for name in ("image_data_param", "transform_param"):
        if layer.HasField(name):
            for field, _ in getattr(layer, name).ListFields():
                if field.number >= FIRST_NUMBER:
                    raise DialectError(
                        f"{place()}: {name}.{field.name} is the fork's; stock Caffe's type has no such field"
                    )
