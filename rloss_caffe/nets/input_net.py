"""Nets with an input in place of their data layer, and nothing that the wanted blobs do not depend on."""

import os
import warnings
from collections import namedtuple

import numpy as np

from rloss_caffe.layers.param_str import read_parameters

__all__ = [
    "MEAN",
    "ancestors",
    "as_text",
    "feed",
    "find_data",
    "kind_of",
    "load_weights",
    "padded_size",
    "read_input",
    "read_net",
    "runs_in",
]

MEAN = (104.008, 116.669, 122.675)  # BGR, of the experiments
_UNKNOWN_SIZE = (321, 321)  # while the net is made; any image's size replaces it
# mean: array; size: the least (rows, columns), or None for the image's own.
_Input = namedtuple("_Input", "mean scale is_color size")
_STEP = 32  # by which an input grows: keeps both 8 k + 1, DeepLab's sizes, and multiples of the usual strides


def read_net(net, weights):
    """The net of a prototxt in either dialect, if both files are there: Caffe would end the process."""
    from google.protobuf.text_format import ParseError

    from rloss_caffe import nets as dialect

    for path in (net, weights):
        if not os.path.isfile(path):
            raise ValueError(f"no such file: {path}")
    try:
        return dialect.read_net(net)
    except ParseError as error:
        hint = "; its placeholders have to be filled in first" if "${" in str(error) else ""
        raise ValueError(f"{net} cannot be read: {error}{hint}") from None


def load_weights(net, path, caffe_net):
    """Give a net the weights of a file, after a look whether they belong to it.

    Parameters
    ----------
    net, path : str
        The prototxt, for messages, and the .caffemodel.
    caffe_net : caffe.Net
    """
    from rloss_caffe import nets as dialect

    found = dialect.load_weights(caffe_net, path, warn=lambda _: None)
    if found is None:
        return
    # Caffe loads by name and passes over what is missing: a net that was never trained would seem to be poor.
    missing = sorted(set(caffe_net.params) - found)
    if missing and not found:
        raise ValueError(f"no layer of {net} has weights in {path}: their names differ")
    if missing:
        warnings.warn(f"{path} has no weights for the layers {', '.join(missing)} of {net}", stacklevel=3)


def runs_in(layer, phase):
    """Whether a layer belongs to a net of that phase, "TRAIN" or "TEST", without level and stage."""
    from caffe.proto import caffe_pb2

    def fits(rule):
        return (
            (not rule.HasField("phase") or rule.phase == caffe_pb2.Phase.Value(phase))
            and (not rule.HasField("min_level") or rule.min_level <= 0)
            and (not rule.HasField("max_level") or rule.max_level >= 0)
            and not rule.stage
        )

    if layer.include:
        return any(map(fits, layer.include))
    return not any(map(fits, layer.exclude))


def kind_of(layer):
    return layer.python_param.layer if layer.type == "Python" else layer.type


def ancestors(layers, *blobs):
    """The layers that some blobs depend on."""
    needed, kept = set(blobs), []
    for layer in reversed(layers):
        if needed.intersection(layer.top):
            needed.update(layer.bottom)
            kept.insert(0, layer)
    return kept


def find_data(path, parameters, layers):
    """The layer that makes the images (None for a net with ``input:``) and its blob."""
    made = {top for layer in layers for top in layer.top}
    sources = [(layer, top) for layer in layers if not layer.bottom for top in layer.top]
    consumed = {bottom for layer in layers for bottom in layer.bottom}
    found = [(layer, top) for layer, top in sources if top in consumed]
    found += [(None, name) for name in parameters.input if name in consumed and name not in made]
    if len(found) != 1:
        names = ", ".join(name for _, name in found) or "none"
        raise ValueError(f"{path}: the result must depend on one data blob, the images; found: {names}")
    return found[0]


def read_input(path, parameters, layer, mean):
    """What the data layer does to images; `layer` is None for a net with ``input:``."""
    kind = None if layer is None else kind_of(layer)
    found, scale, is_color, size = MEAN, 1.0, True, (0, 0)
    if kind == "ImageSegData":
        from rloss_caffe.layers import ImageSegData

        given = read_parameters(layer.python_param.param_str, ImageSegData.PARAMETERS, f"{path}: ImageSegData")
        if given.new_height or given.new_width:
            raise ValueError(f"{path}: a data layer that resizes (new_height, new_width) is not supported")
        found, scale, is_color = given.mean_value or (0,), given.scale, given.is_color
        size = given.crop_height or given.crop_size, given.crop_width or given.crop_size
    elif kind is None or kind == "Input":
        shapes = parameters.input_shape if layer is None else layer.input_param.shape
        dims = list(shapes[0].dim) if shapes else list(parameters.input_dim[:4])
        if len(dims) == 4:
            is_color, size = dims[1] != 1, tuple(dims[2:])
    elif layer.HasField("transform_param"):
        given = layer.transform_param
        if given.mean_file and mean is None:
            raise ValueError(f"{path}: the data layer has a mean_file; give the mean of each channel instead")
        found, scale, size = tuple(given.mean_value) or (0,), given.scale, (given.crop_size, given.crop_size)
        is_color = not given.force_gray and (kind != "ImageData" or layer.image_data_param.is_color)
    mean = np.array(found if mean is None else mean, np.float32)
    if not is_color and len(mean) == 3 and found is MEAN:
        mean = mean.mean(keepdims=True)
    if len(mean) not in (1, 3 if is_color else 1):
        raise ValueError(f"{path}: expected a mean of 1 value or one a channel, found {len(mean)}")
    return _Input(mean, scale, is_color, size if all(size) else None)


def as_text(layers, source, data, settings):
    """The prototxt of the net with an Input layer in place of its data layer."""
    from caffe.proto import caffe_pb2

    net = caffe_pb2.NetParameter()
    first = net.layer.add(name="data" if source is None else source.name, type="Input", top=[data])
    first.input_param.shape.add(dim=[1, 3 if settings.is_color else 1, *(settings.size or _UNKNOWN_SIZE)])
    for layer in layers:
        if layer is not source:
            copy = net.layer.add()
            copy.CopyFrom(layer)
            del copy.include[:], copy.exclude[:]
    return str(net)


def padded_size(size, settings):
    """Rows and columns of the input for an image: the least size, grown in steps of 32 until the image fits in."""
    least = settings.size or size
    return tuple(side + max(0, -(-(length - side) // _STEP)) * _STEP for length, side in zip(size, least))


def feed(blob, image, settings, size):
    """Put an image (H, W, C) into the input blob as the data layer would, with zeros at the bottom and right."""
    height, width, channels = image.shape
    data = np.zeros((1, channels, *size), np.float32)
    data[0, :, :height, :width] = ((image - settings.mean) * settings.scale).transpose(2, 0, 1)
    blob.reshape(*data.shape)
    blob.data[...] = data
