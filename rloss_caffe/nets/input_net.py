"""Nets with an input in place of their data layer, and nothing that the wanted blobs do not depend on."""

import os
import tempfile
import warnings
from dataclasses import dataclass
from typing import Optional, Tuple

import numpy as np

from rloss_caffe.data.samples import MEAN_BGR as MEAN
from rloss_caffe.layers.param_str import read_parameters
from rloss_caffe.nets.fork_layers import kind_of
from rloss_caffe.nets.net_file import read_net_file
from rloss_caffe.nets.prototxt import to_stock, to_text
from rloss_caffe.nets.weights import load_weights

__all__ = ["MEAN", "InputNet", "read_layers", "runs_in"]

_UNKNOWN_SIZE = (321, 321)  # while the net is made; any image's size replaces it
_STEP = 32  # by which an input grows: keeps both 8 k + 1, DeepLab's sizes, and multiples of the usual strides


@dataclass
class _Input:
    """What a data layer does to images.

    Attributes
    ----------
    mean : array (1,) or (channels,)
    scale : float
    is_color : bool
    size : (int, int) or None
        The least rows and columns; None for the image's own.
    """

    mean: np.ndarray
    scale: float = 1.0
    is_color: bool = True
    size: Optional[Tuple[int, int]] = None


class InputNet:
    """A net up to some blobs, for images of any size.

    Images are treated as the data layer would: its mean, scale and colour; padded at the bottom and right up to the
    crop. A larger image is not cropped but given a larger input, in steps of 32. The net runs as in a test.

    Parameters
    ----------
    path : str
        The prototxt, for messages.
    net : NetParameter
    layers : list of LayerParameter
        Those of the net that are wanted; what the blobs do not depend on is left out.
    blobs : sequence of str
    weights : str
        A .caffemodel.
    mean : sequence of float, optional
        Subtracted from the channels. Default: the data layer's, else `MEAN`.
    optional : sequence of str
        Blobs that are wanted as well if they are made of the images alone, and not of labels, say.

    Attributes
    ----------
    data : str
        The input's name.
    optional : set of str
        Those of the optional blobs that there are.
    is_color : bool
    least_size : (int, int) or None
        Rows and columns that the input has at least; None for the image's own.

    Raises
    ------
    ValueError
        The images' blob cannot be found, or the weights do not fit.
    """

    def __init__(self, path, net, layers, blobs, weights, mean=None, optional=()):
        import caffe

        every_layer, layers = layers, _ancestors(layers, blobs)
        known = set(caffe.layer_type_list())
        source, self.data = _find_data(path, net, layers)
        self.optional = {blob for blob in optional if _is_made_of(every_layer, blob, self.data)}
        layers = _ancestors(every_layer, [*blobs, *self.optional])
        for layer in layers:
            if layer is not source and layer.type not in known:
                raise ValueError(
                    f"{path}: layer {layer.name!r} has type {layer.type!r}, which this Caffe does not know"
                )
        self._input = _read_input(path, net, source, mean)
        self.is_color, self.least_size = self._input.is_color, self._input.size
        with tempfile.NamedTemporaryFile("w", suffix=".prototxt") as file:
            file.write(_as_text(layers, source, self.data, self._input))
            file.flush()
            self._net = caffe.Net(file.name, caffe.TEST)
        _load_weights(path, weights, self._net)

    def padded_size(self, size):
        """Rows and columns of the input for an image: the least size, grown in steps until the image fits in."""
        least = self.least_size or size
        return tuple(side + max(0, -(-(length - side) // _STEP)) * _STEP for length, side in zip(size, least))

    def shape(self, blob):
        """The shape that a blob has now."""
        return tuple(self._net.blobs[blob].data.shape)

    def shapes(self, size, blobs):
        """The shapes that some blobs have for an input of these rows and columns."""
        blob = self._net.blobs[self.data]
        blob.reshape(1, blob.channels, *size)
        self._net.reshape()
        return [self.shape(name) for name in blobs]

    def forward(self, image, size, blobs):
        """Run an image (H, W, C), zeros at the bottom and right of it; the blobs' values, without the batch's axis."""
        height, width, channels = image.shape
        data = np.zeros((1, channels, *size), np.float32)
        data[0, :, :height, :width] = ((image - self._input.mean) * self._input.scale).transpose(2, 0, 1)
        blob = self._net.blobs[self.data]
        blob.reshape(*data.shape)
        blob.data[...] = data
        self._net.forward()
        return [self._net.blobs[name].data[0] for name in blobs]


def read_layers(path, weights):
    """The NetParameter of a prototxt, all of its layers in the new form; a ValueError if a file is missing or none."""
    for each in (path, weights):
        if not os.path.isfile(each):
            raise ValueError(f"no such file: {each}")
    return to_stock(read_net_file(path, must_be_new=True).message, "NetParameter")


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


def _load_weights(path, weights, net):
    """Give a net the weights of a file, after a look whether they belong to it."""
    found = load_weights(net, weights, warn=lambda _: None)
    if found is None:
        return
    # Caffe loads by name and passes over what is missing: a net that was never trained would seem to be poor.
    missing = sorted(set(net.params) - found)
    if missing and not found:
        raise ValueError(f"no layer of {path} has weights in {weights}: their names differ")
    if missing:
        warnings.warn(f"{weights} has no weights for the layers {', '.join(missing)} of {path}", stacklevel=4)


def _ancestors(layers, blobs):
    """The layers that some blobs depend on."""
    needed, kept = set(blobs), []
    for layer in reversed(layers):
        if needed.intersection(layer.top):
            needed.update(layer.bottom)
            kept.insert(0, layer)
    return kept


def _is_made_of(layers, blob, data):
    """Whether a blob depends on the blob `data`, and on nothing else that comes into the net from outside."""
    needed, made = {blob}, set()
    for layer in reversed(layers):
        found = needed.intersection(layer.top)
        if found and layer.bottom:
            needed.update(layer.bottom)
            made |= found
        elif found - {data}:
            return False
    return needed - made == {data}


def _find_data(path, net, layers):
    """The layer that makes the images (None for a net with ``input:``) and its blob."""
    made = {top for layer in layers for top in layer.top}
    sources = [(layer, top) for layer in layers if not layer.bottom for top in layer.top]
    consumed = {bottom for layer in layers for bottom in layer.bottom}
    found = [(layer, top) for layer, top in sources if top in consumed]
    found += [(None, name) for name in net.input if name in consumed and name not in made]
    if len(found) != 1:
        names = ", ".join(name for _, name in found) or "none"
        raise ValueError(f"{path}: the result must depend on one data blob, the images; found: {names}")
    return found[0]


def _read_input(path, net, layer, mean):
    """What the data layer does to images; `layer` is None for a net with ``input:``."""
    kind = None if layer is None else kind_of(layer)
    if kind == "ImageSegData":
        found = _read_image_seg_data(path, layer)
    elif kind is None or kind == "Input":
        found = _read_input_shape(net, layer)
    elif layer.HasField("transform_param"):
        found = _read_transformation(path, layer, mean)
    else:
        found = _Input(MEAN)
    is_default = found.mean is MEAN
    values = np.array(found.mean if mean is None else mean, np.float32)
    if not found.is_color and len(values) == 3 and is_default:
        values = values.mean(keepdims=True)
    if len(values) not in (1, 3 if found.is_color else 1):
        raise ValueError(f"{path}: expected a mean of 1 value or one a channel, found {len(values)}")
    size = found.size if found.size and all(found.size) else None
    return _Input(values, found.scale, found.is_color, size)


def _read_image_seg_data(path, layer):
    from rloss_caffe.layers import ImageSegData

    given = read_parameters(layer.python_param.param_str, ImageSegData.PARAMETERS, f"{path}: ImageSegData")
    if given.new_height or given.new_width:
        raise ValueError(f"{path}: a data layer that resizes (new_height, new_width) is not supported")
    size = given.crop_height or given.crop_size, given.crop_width or given.crop_size
    return _Input(given.mean_value or (0,), given.scale, given.is_color, size)


def _read_input_shape(net, layer):
    shapes = net.input_shape if layer is None else layer.input_param.shape
    dims = list(shapes[0].dim) if shapes else list(net.input_dim[:4])
    return _Input(MEAN, 1.0, dims[1] != 1, tuple(dims[2:])) if len(dims) == 4 else _Input(MEAN)


def _read_transformation(path, layer, mean):
    given = layer.transform_param
    if given.mean_file and mean is None:
        raise ValueError(f"{path}: the data layer has a mean_file; give the mean of each channel instead")
    is_color = not given.force_gray and (layer.type != "ImageData" or layer.image_data_param.is_color)
    return _Input(tuple(given.mean_value) or (0,), given.scale, is_color, (given.crop_size, given.crop_size))


def _as_text(layers, source, data, settings):
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
    return to_text(net)
