"""Nets in Caffe's old form, ``layers { type: CONVOLUTION blobs_lr: 1 }``, in the new one, ``layer { ... }``.

The rules are Caffe's own, which it follows when it loads such a file; the fork's types are added. The still older form,
``layers { layer { type: "conv" } }``, is left to Caffe: its types are none of the fork's.
"""

from rloss_caffe.nets.schema import FIRST_NUMBER, OLD_TYPES

__all__ = ["OLDEST_TYPES", "PARAMETER_FIELDS", "TRANSFORMED", "is_of_fork", "new_type", "upgraded"]

_TYPES = {
    "ABSVAL": "AbsVal",
    "ACCURACY": "Accuracy",
    "ARGMAX": "ArgMax",
    "BNLL": "BNLL",
    "CONCAT": "Concat",
    "CONTRASTIVE_LOSS": "ContrastiveLoss",
    "CONVOLUTION": "Convolution",
    "DATA": "Data",
    "DECONVOLUTION": "Deconvolution",
    "DROPOUT": "Dropout",
    "DUMMY_DATA": "DummyData",
    "ELTWISE": "Eltwise",
    "EUCLIDEAN_LOSS": "EuclideanLoss",
    "EXP": "Exp",
    "FLATTEN": "Flatten",
    "HDF5_DATA": "HDF5Data",
    "HDF5_OUTPUT": "HDF5Output",
    "HINGE_LOSS": "HingeLoss",
    "IM2COL": "Im2col",
    "IMAGE_DATA": "ImageData",
    "INFOGAIN_LOSS": "InfogainLoss",
    "INNER_PRODUCT": "InnerProduct",
    "LRN": "LRN",
    "MEMORY_DATA": "MemoryData",
    "MULTINOMIAL_LOGISTIC_LOSS": "MultinomialLogisticLoss",
    "MVN": "MVN",
    "NONE": "",
    "POOLING": "Pooling",
    "POWER": "Power",
    "RELU": "ReLU",
    "SIGMOID": "Sigmoid",
    "SIGMOID_CROSS_ENTROPY_LOSS": "SigmoidCrossEntropyLoss",
    "SILENCE": "Silence",
    "SLICE": "Slice",
    "SOFTMAX": "Softmax",
    "SOFTMAX_LOSS": "SoftmaxWithLoss",
    "SPLIT": "Split",
    "TANH": "TanH",
    "THRESHOLD": "Threshold",
    "WINDOW_DATA": "WindowData",
    **OLD_TYPES,
}
# The types of the oldest form, which are words; Caffe ends the process at any other.
OLDEST_TYPES = {
    *("accuracy", "bnll", "concat", "conv", "data", "dropout", "euclidean_loss", "flatten", "hdf5_data", "hdf5_output"),
    *("im2col", "images", "infogain_loss", "innerproduct", "lrn", "multinomial_logistic_loss", "padding", "pool"),
    *("relu", "sigmoid", "softmax", "softmax_loss", "split", "tanh", "window_data"),
}
# Fields of a layer of the old form that become `param`.
PARAMETER_FIELDS = ("param", "blob_share_mode", "blobs_lr", "weight_decay")
# Data layers had these settings of their own; now they are in transform_param.
TRANSFORMED = {"Data": "data_param", "ImageData": "image_data_param", "WindowData": "window_data_param"}
_SETTINGS = ("scale", "mean_file", "crop_size", "mirror")
_SAME = {"bottom", "top", "name", "include", "exclude", "blobs", "loss_weight"}


def new_type(layer):
    """The type of a layer of the old form, in the new one; "" if it has none."""
    if not layer.HasField("type"):
        return ""
    kind = layer.DESCRIPTOR.fields_by_name["type"].enum_type.values_by_number[layer.type].name
    return _TYPES.get(kind, "".join(map(str.capitalize, kind.split("_"))))  # some builds have a type of their own


def is_of_fork(layer):
    """Whether a layer of the old form has anything that stock Caffe does not know."""
    return layer.type >= FIRST_NUMBER or _has_added_fields(layer)


def upgraded(layer, kind):
    """A layer of the old form as message of the class `kind`, the LayerParameter."""
    new = kind(type=new_type(layer))
    if not new.type:
        new.ClearField("type")
    for field, value in layer.ListFields():
        if field.name in _SAME or field.name.endswith("_param"):
            _copy(field, value, new)
    _upgrade_parameters(layer, new)
    if new.type in TRANSFORMED:
        _upgrade_transformation(new, TRANSFORMED[new.type])
    return new


def _copy(field, value, new):
    if field.label == field.LABEL_REPEATED:
        getattr(new, field.name).extend(value)
    elif field.message_type:
        getattr(new, field.name).CopyFrom(value)
    else:
        setattr(new, field.name, value)


def _upgrade_parameters(layer, new):
    """Names, shapes' check, learning rates and decays, each in a list of its own, become one list of ParamSpec."""
    count = max(len(getattr(layer, name)) for name in PARAMETER_FIELDS)
    for _ in range(count):
        new.param.add()
    for name, target in zip(PARAMETER_FIELDS, ("name", "share_mode", "lr_mult", "decay_mult")):
        for spec, value in zip(new.param, getattr(layer, name)):
            setattr(spec, target, value)


def _upgrade_transformation(new, name):
    given = getattr(new, name)
    for setting in _SETTINGS:
        if given.HasField(setting):
            setattr(new.transform_param, setting, getattr(given, setting))
            given.ClearField(setting)


def _has_added_fields(message):
    for field, value in message.ListFields():
        if field.number >= FIRST_NUMBER:
            return True
        if field.message_type:
            values = value if field.label == field.LABEL_REPEATED else [value]
            if field.name != "blobs" and any(map(_has_added_fields, values)):
                return True
    return False
