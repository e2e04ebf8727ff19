"""The installed Caffe's schema with the fork's messages and fields added.

To add a layer of the fork: its messages here, and a line in `LAYERS`. Field numbers are our own: in a prototxt they do
not matter, and the fork's collide with stock Caffe's.
"""

from functools import lru_cache

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

__all__ = ["FIRST_NUMBER", "LAYERS", "OLD_TYPES", "fork_fields", "fork_messages", "stored_messages"]

# The fork's type, which is also our layer's name: the messages whose fields become its param_str.
LAYERS = {
    "DenseCRFLoss": ["densecrf_loss_param"],
    "DenseCRF": ["dense_crf_param"],
    "ImageSegData": ["image_data_param", "transform_param"],
    "Interp": ["interp_param"],
    "SegAccuracy": ["seg_accuracy_param"],
}
# The fork's names of its types in the old form ``layers { type: INTERP }``.
OLD_TYPES = {
    "ADAPTIVE_BIAS_CHANNEL": "AdaptiveBiasChannel",
    "BIAS_CHANNEL": "BiasChannel",
    "CENSOR_LABEL": "CensorLabel",
    "CHANNEL_AGGREGATOR": "ChannelAggregator",
    "DENSE_CRF": "DenseCRF",
    "DOMINANT_CHANNEL": "DominantChannel",
    "GAIN_CHANNEL": "GainChannel",
    "HISTOGRAM": "Histogram",
    "IGNORE_OVERLAY": "IgnoreOverlay",
    "IMAGE_SEG_DATA": "ImageSegData",
    "INTERP": "Interp",
    "MAT_READ": "MatRead",
    "MAT_WRITE": "MatWrite",
    "ONEHOT": "OneHot",
    "PADDING": "Padding",
    "RELATIVE_ERROR": "RelativeError",
    "SEG_ACCURACY": "SegAccuracy",
    "UNIQUE_LABEL": "UniqueLabel",
}
FIRST_NUMBER = 100001  # of the fields that are added

_Field = descriptor_pb2.FieldDescriptorProto
_TYPES = {
    "int": _Field.TYPE_INT32,
    "long": _Field.TYPE_INT64,
    "float": _Field.TYPE_FLOAT,
    "bool": _Field.TYPE_BOOL,
    "double": _Field.TYPE_DOUBLE,
    "string": _Field.TYPE_STRING,
}

# message: {field: type}; [type] is repeated, a tuple of names an enum, a message's name that message.
_NEW_MESSAGES = {
    "DenseCRFLossParameter": {"bi_xy_std": "float", "bi_rgb_std": "float"},
    "InterpParameter": dict.fromkeys(["height", "width", "zoom_factor", "shrink_factor", "pad_beg", "pad_end"], "int"),
    "SegAccuracyParameter": {
        "metric": ("PixelAccuracy", "ClassAccuracy", "PixelIOU"),
        "ignore_label": ["int"],
        "reset": "bool",
    },
    "DenseCRFParameter": {
        "max_iter": "int",
        **{name: ["float"] for name in ("pos_xy_std", "pos_w", "bi_xy_std", "bi_rgb_std", "bi_w")},
        "output_probability": "bool",
    },
    "MatWriteParameter": {"prefix": "string", "source": "string", "strip": "int", "period": "int"},
    "MatReadParameter": {"prefix": "string", "source": "string", "strip": "int", "batch_size": "int"},
    "DomainTransformParameter": {
        "num_iter": "int",
        **dict.fromkeys(["spatial_sigma", "range_sigma", "min_weight"], "float"),
    },
    "AdaptiveBiasChannelParameter": {},
    "BiasChannelParameter": {},
    "UniqueLabelParameter": {"max_labels": "int", "ignore_label": ["int"], "force_label": ["float"]},
    "SoftmaxLossParameter": {"weight_source": "string", "ignore_label": ["int"]},
}
_LAYER_FIELDS = {
    "densecrf_loss_param": "DenseCRFLossParameter",
    "interp_param": "InterpParameter",
    "seg_accuracy_param": "SegAccuracyParameter",
    "dense_crf_param": "DenseCRFParameter",
    "mat_write_param": "MatWriteParameter",
    "mat_read_param": "MatReadParameter",
    "domain_transform_param": "DomainTransformParameter",
    "adaptive_bias_channel_param": "AdaptiveBiasChannelParameter",
    "bias_channel_param": "BiasChannelParameter",
    "unique_label_param": "UniqueLabelParameter",
    "softmaxloss_param": "SoftmaxLossParameter",  # of the fork's first version, as are the holes
}
_NEW_FIELDS = {
    "LayerParameter": _LAYER_FIELDS,
    "V1LayerParameter": {**_LAYER_FIELDS, "strict_dim": "bool"},
    "ConvolutionParameter": dict.fromkeys(["hole", "hole_h", "hole_w"], "int"),
    "ImageDataParameter": {"ignore_label": "int", "label_type": ("NONE", "IMAGE", "PIXEL")},
    "TransformationParameter": {"scale_factors": ["float"], "crop_width": "int", "crop_height": "int"},
    "BatchNormParameter": {"update_global_stats": "bool"},
}
# What binary files hold, by number, as in every version of Caffe.
_STORED = {
    "BlobShape": {"dim": (1, ["long"])},
    "BlobProto": {
        **{name: (number, "int") for number, name in enumerate(("num", "channels", "height", "width"), 1)},
        "data": (5, ["float"]),
        "diff": (6, ["float"]),
        "shape": (7, "BlobShape"),
        "double_data": (8, ["double"]),
        "double_diff": (9, ["double"]),
    },
    "ParamSpec": {"name": (1, "string")},
    "LayerParameter": {"name": (1, "string"), "param": (6, ["ParamSpec"]), "blobs": (7, ["BlobProto"])},
    "V1LayerParameter": {"name": (4, "string"), "blobs": (6, ["BlobProto"]), "param": (1001, ["string"])},
    "NetParameter": {"name": (1, "string"), "layers": (2, ["V1LayerParameter"]), "layer": (100, ["LayerParameter"])},
    "SolverState": {
        "iter": (1, "int"),
        "learned_net": (2, "string"),
        "history": (3, ["BlobProto"]),
        "current_step": (4, "int"),
    },
}


def fork_fields(message):
    """The names of the fields that the fork adds to a stock message."""
    return set(_NEW_FIELDS[message])


@lru_cache(maxsize=None)
def fork_messages(with_our_parameters=False):
    """The message classes of the extended schema, by name: NetParameter, SolverParameter.

    With our parameters a message of the fork also takes what only our layer knows, as ``num_labels`` or ``seed``; the
    layers are imported for that.
    """
    file, messages = _installed_schema()
    package = f".{file.package}." if file.package else "."
    for name, fields in _NEW_MESSAGES.items():
        if name not in messages:  # some builds have one or the other
            messages[name] = file.message_type.add(name=name)
        _add_fields(messages[name], fields, package)
    for name, fields in _NEW_FIELDS.items():
        if name in messages:
            _add_fields(messages[name], fields, package)
    if with_our_parameters:
        for name, fields in _our_parameters(messages["LayerParameter"]).items():
            _add_fields(messages[name], fields, package)
    if "V1LayerParameter" in messages:
        _add_old_types(messages["V1LayerParameter"])
    return _classes(file, "NetParameter", "SolverParameter")


def _our_parameters(layer_message):
    """{message: {field: type}} of what our layers declare."""
    from rloss_caffe import layers

    kinds = {field.name: field.type_name.rsplit(".", 1)[-1] for field in layer_message.field}
    found = {}
    for layer, fields in LAYERS.items():
        for parameter in getattr(layers, layer).PARAMETERS:
            kind = "long" if parameter.kind == "int" else parameter.kind
            for field in fields:
                found.setdefault(kinds[field], {})[parameter.name] = [kind] if parameter.repeated else kind
    return found


def _add_old_types(message):
    """Give the enum of the old form's types the fork's."""
    types = next(enum for enum in message.enum_type if enum.name == "LayerType")
    known = {value.name for value in types.value}
    for number, name in enumerate(OLD_TYPES, FIRST_NUMBER):
        if name not in known:
            types.value.add(name=name, number=number)


@lru_cache(maxsize=None)
def stored_messages():
    """The message classes of what is in binary files of any Caffe: NetParameter, SolverState.

    They have the fields that matter for weights, at the numbers that all versions use, and nothing else: a fork's own
    fields, which newer versions of Caffe take for something else, are passed over. Caffe is not needed.
    """
    file = descriptor_pb2.FileDescriptorProto(name="rloss_caffe/stored.proto", package="rloss_caffe")
    for name, fields in _STORED.items():
        message = file.message_type.add(name=name)
        for field_name, (number, kind) in fields.items():
            _add_field(message, field_name, number, kind, ".rloss_caffe.")
            if kind in (["float"], ["double"], ["long"]):
                message.field[-1].options.packed = True
    return _classes(file, "NetParameter", "SolverState")


def _installed_schema():
    """A copy of the installed Caffe's schema that may be changed, and its messages by name."""
    from caffe.proto import caffe_pb2

    file = descriptor_pb2.FileDescriptorProto()
    caffe_pb2.DESCRIPTOR.CopyToProto(file)
    return file, {message.name: message for message in file.message_type}


def _classes(file, *names):
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    classes = {}
    for name in names:
        descriptor = pool.FindMessageTypeByName(f"{file.package}.{name}".lstrip("."))
        if hasattr(message_factory, "GetMessageClass"):
            classes[name] = message_factory.GetMessageClass(descriptor)
        else:
            classes[name] = message_factory.MessageFactory(pool).GetPrototype(descriptor)
    return classes


def _add_fields(message, fields, package):
    known = {field.name for field in message.field}
    first = max([FIRST_NUMBER - 1, *(field.number for field in message.field)]) + 1
    for number, (name, kind) in enumerate(fields.items(), first):
        if name not in known:
            _add_field(message, name, number, kind, package)


def _add_field(message, name, number, kind, package):
    field = message.field.add(name=name, number=number, label=_Field.LABEL_OPTIONAL)
    if isinstance(kind, list):
        field.label, kind = _Field.LABEL_REPEATED, kind[0]
    if isinstance(kind, tuple):
        enum = message.enum_type.add(name=name.title().replace("_", "") + "Choice")
        for value, choice in enumerate(kind):
            enum.value.add(name=choice, number=value)
        field.type, field.type_name = _Field.TYPE_ENUM, f"{package}{message.name}.{enum.name}"
    elif kind in _TYPES:
        field.type = _TYPES[kind]
    else:
        field.type, field.type_name = _Field.TYPE_MESSAGE, package + kind
