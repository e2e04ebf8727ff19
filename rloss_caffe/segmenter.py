"""Segment single images with a test net, whatever data layer it has."""

import os
import tempfile
import warnings
from collections import namedtuple

import numpy as np

from rloss_caffe.data.reading import read_image
from rloss_caffe.parameters import read_parameters

__all__ = ["MEAN", "Segmenter"]

MEAN = (104.008, 116.669, 122.675)  # BGR, of the experiments
_UNKNOWN_SIZE = (321, 321)  # while the net is made; any image's size replaces it
# mean: array; size: the least (rows, columns), or None for the image's own.
_Input = namedtuple("_Input", "mean scale is_color size")
_STEP = 32  # by which an input grows: keeps both 8 k + 1, DeepLab's sizes, and multiples of the usual strides


class Segmenter:
    """A net for label maps of images of any size.

    The net's own data layer is not used: its blob becomes an input, and layers that the scores do not depend on
    (label, accuracy, losses) are left out. So the lists and folders named in the prototxt need not exist.

    Images are treated as the data layer would: its mean, scale and colour; padded at the bottom and right up to the
    crop. A larger image is not cropped but given a larger input, in steps of 32.

    Parameters
    ----------
    net : str or path
        Prototxt of a test net.
    weights : str or path
        Its .caffemodel.
    score : str, optional
        The blob with class scores or probabilities, (1, K, H, W). Default: the first bottom of the net's SegAccuracy
        layer, else the only output that the net has.
    mean : sequence of float, optional
        Subtracted from the channels. Default: the data layer's, else `MEAN`.

    Attributes
    ----------
    data, score : str
        Names of the input and the score blob.

    Raises
    ------
    ValueError
        A file is missing or no net, the blobs cannot be found, or no layer takes any weights from the file.
    """

    def __init__(self, net, weights, score=None, mean=None):
        import caffe

        from rloss_caffe.dialect import read_net

        net, weights = os.fspath(net), os.fspath(weights)
        for path in (net, weights):
            if not os.path.isfile(path):  # Caffe would end the process
                raise ValueError(f"no such file: {path}")
        parameters = read_net(net)
        layers = [layer for layer in parameters.layer if _is_in_test(layer)]
        self.score, layers = _find_score(net, layers, score)
        layers = _ancestors(layers, self.score)
        source, self.data = _find_data(net, parameters, layers)
        self._input = _read_input(net, parameters, source, mean)
        with tempfile.NamedTemporaryFile("w", suffix=".prototxt") as file:
            file.write(_as_text(layers, source, self.data, self._input))
            file.flush()
            self._net = caffe.Net(file.name, caffe.TEST)
        _check_weights(net, weights, list(self._net.params))
        self._net.copy_from(weights)

    def predict(self, image):
        """The label map of an image file: array (H, W), uint8.

        The class with the largest score, the last one among equals, as SegAccuracy counts it.
        """
        image = read_image(os.fspath(image), self._input.is_color)
        height, width, channels = image.shape
        least = self._input.size or (height, width)
        size = tuple(side + max(0, -(-(length - side) // _STEP)) * _STEP for length, side in zip(image.shape, least))
        data = np.zeros((1, channels, *size), np.float32)
        data[0, :, :height, :width] = ((image - self._input.mean) * self._input.scale).transpose(2, 0, 1)
        blob = self._net.blobs[self.data]
        blob.reshape(*data.shape)
        blob.data[...] = data
        self._net.forward()
        scores = self._net.blobs[self.score].data[0]
        if scores.ndim != 3 or not 2 <= len(scores) <= 255:
            raise ValueError(f"blob {self.score!r} must have shape (1, K, H, W), found {(1, *scores.shape)}")
        if scores.shape[1:] != size:
            from rloss_caffe.interpolation import interpolate

            scores = interpolate(scores, size)
        if np.isnan(scores).any():
            raise ValueError(f"blob {self.score!r} holds NaN: the net has diverged")
        reverse = scores[::-1, :height, :width]  # as argmax takes the first of equals
        return (len(scores) - 1 - reverse.argmax(axis=0)).astype(np.uint8)


def _check_weights(net, path, names):
    """Caffe loads by name and passes over what is missing: a net that was never trained would seem to be poor."""
    from caffe.proto import caffe_pb2
    from google.protobuf.message import DecodeError

    if path.endswith(".h5"):
        return
    file = caffe_pb2.NetParameter()
    try:
        with open(path, "rb") as stream:
            file.ParseFromString(stream.read())
    except DecodeError as error:
        raise ValueError(f"{path} is no binary NetParameter: {error}") from None
    missing = sorted(set(names) - {layer.name for layer in [*file.layer, *file.layers] if layer.blobs})
    if names and len(missing) == len(names):
        raise ValueError(f"no layer of {net} has weights in {path}: their names differ")
    if missing:
        warnings.warn(f"{path} has no weights for the layers {', '.join(missing)} of {net}", stacklevel=3)


def _is_in_test(layer):
    """Whether a layer belongs to a net of phase TEST without level and stage."""
    from caffe.proto import caffe_pb2

    def fits(rule):
        return (
            (not rule.HasField("phase") or rule.phase == caffe_pb2.TEST)
            and (not rule.HasField("min_level") or rule.min_level <= 0)
            and (not rule.HasField("max_level") or rule.max_level >= 0)
            and not rule.stage
        )

    if layer.include:
        return any(map(fits, layer.include))
    return not any(map(fits, layer.exclude))


def _kind(layer):
    return layer.python_param.layer if layer.type == "Python" else layer.type


def _find_score(path, layers, name):
    """The score blob's name, and the layers up to where it is used."""
    if name:
        if not any(name in layer.top for layer in layers):
            raise ValueError(f"{path} has no blob {name!r}")
        return name, layers
    judges = [index for index, layer in enumerate(layers) if _kind(layer) == "SegAccuracy"]
    if judges:
        return layers[judges[-1]].bottom[0], layers[: judges[-1]]
    used = {bottom for layer in layers for bottom in layer.bottom if bottom not in layer.top}
    outputs = [top for layer in layers if layer.bottom for top in layer.top if top not in used]
    outputs = list(dict.fromkeys(outputs))
    if len(outputs) != 1:
        raise ValueError(
            f"{path} has no SegAccuracy layer, which tells the scores, and not one output: {', '.join(outputs)}; "
            "name the blob of the scores"
        )
    return outputs[0], layers


def _ancestors(layers, blob):
    """The layers that a blob depends on."""
    needed, kept = {blob}, []
    for layer in reversed(layers):
        if needed.intersection(layer.top):
            needed.update(layer.bottom)
            kept.insert(0, layer)
    return kept


def _find_data(path, parameters, layers):
    """The layer that makes the images (None for a net with ``input:``) and its blob."""
    made = {top for layer in layers for top in layer.top}
    sources = [(layer, top) for layer in layers if not layer.bottom for top in layer.top]
    consumed = {bottom for layer in layers for bottom in layer.bottom}
    found = [(layer, top) for layer, top in sources if top in consumed]
    found += [(None, name) for name in parameters.input if name in consumed and name not in made]
    if len(found) != 1:
        names = ", ".join(name for _, name in found) or "none"
        raise ValueError(f"{path}: the scores must depend on one data blob, the images; found: {names}")
    return found[0]


def _read_input(path, parameters, layer, mean):
    """What the data layer does to images; `layer` is None for a net with ``input:``."""
    kind = None if layer is None else _kind(layer)
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
    return str(net)
