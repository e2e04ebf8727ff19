"""What a network gives its loss for single images, whatever data layer it has."""

import os
from dataclasses import dataclass
from typing import Tuple

import numpy as np

from rloss_caffe.data.reading import read_image
from rloss_caffe.layers.param_str import read_parameters
from rloss_caffe.nets.fork_layers import kind_of
from rloss_caffe.nets.input_net import InputNet, read_layers, runs_in

__all__ = ["LossInput", "LossNet"]

# An image without a crop is padded to the first of these sizes, step k + rest, at which the layer's bottoms agree.
_GRIDS = [(1, 0), (4, 0), (8, 0), (8, 1), (16, 0), (16, 1), (32, 0), (32, 1)]


@dataclass
class LossInput:
    """The bottoms of a loss layer.

    Attributes
    ----------
    image : array (C, H, W)
    probabilities : array (K, H, W)
    size : (int, int)
        Rows and columns that are not padding.
    """

    image: np.ndarray
    probabilities: np.ndarray
    size: Tuple[int, int]


class LossNet:
    """A net up to the bottoms of its loss over an image and its segmentation, as DenseCRFLoss, for images of any size.

    As in `rloss_caffe.nets.segmenter.Segmenter`, the data layer is replaced by an input and what the loss does not
    depend on is left out; images are padded up to the data layer's crop. The net runs as in a test, so Dropout passes
    everything on and the probabilities are the same each time.

    Parameters
    ----------
    net : str or path
        Prototxt with such a layer, of stock Caffe or of the fork; usually the one it is trained with.
    weights : str or path
        Its .caffemodel.
    layer : str, optional
        The loss layer's name, where there are several.
    mean : sequence of float, optional
        Subtracted from the channels. Default: the data layer's, else that of the experiments.

    Attributes
    ----------
    kind : str
        The loss layer's class, as ``"DenseCRFLoss"``.
    layer, image, probability : str
        Names of the loss layer and its bottoms.
    score : str or None
        The blob before the softmax; None if the probabilities do not come from a Softmax layer.
    loss_weight : float
        As written in the layer; one that is missing is 0, as in Caffe.
    bi_xy_std, bi_rgb_std, exact_gradient, ...
        The layer's parameters, under their own names.

    Raises
    ------
    ValueError
        A file is missing or no net, it has no such layer or several, the images' blob cannot be found, or the weights
        do not fit.
    """

    def __init__(self, net, weights, layer=None, mean=None):
        net, weights = os.fspath(net), os.fspath(weights)
        parameters = read_layers(net, weights)
        layers, loss = _find_loss(net, parameters.layer, layer)
        self._read_loss(net, loss)
        makers = [each for each in layers if self.probability in each.top]
        self.score = makers[-1].bottom[0] if makers and makers[-1].type == "Softmax" else None
        self._net = InputNet(net, parameters, layers, [self.image, self.probability], weights, mean)

    def _read_loss(self, path, layer):
        self.kind, self.layer = kind_of(layer), layer.name
        names = _losses()[self.kind].BOTTOMS
        required = [name for name in names if not name.endswith("?")]
        if not len(required) <= len(layer.bottom) <= len(names):
            number = str(len(names)) if len(required) == len(names) else f"{len(required)} to {len(names)}"
            raise ValueError(
                f"{path}: the {self.kind} layer {layer.name!r} needs {number} bottoms, found {len(layer.bottom)}"
            )
        self.image, self.probability = (layer.bottom[names.index(name)] for name in ("image", "segmentation"))
        self.loss_weight = float(f"{layer.loss_weight[0]:.7g}") if layer.loss_weight else 0.0  # it is in float32
        schema = _losses()[self.kind].PARAMETERS
        given = read_parameters(layer.python_param.param_str, schema, f"{path}: {self.kind}")
        for parameter in schema:
            setattr(self, parameter.name, getattr(given, parameter.name))

    def predict(self, image):
        """What the loss sees of an image.

        Parameters
        ----------
        image : str or path, or uint8 array (H, W, 3)
            A file, or BGR.

        Returns
        -------
        LossInput
        """
        if not isinstance(image, np.ndarray):
            image = read_image(os.fspath(image), self._net.is_color)
        elif not self._net.is_color:
            image = image.mean(axis=2, keepdims=True)
        size = self._fitting_size(image.shape[:2])
        found = self._net.forward(image, size, [self.image, self.probability])
        image_blob, probabilities = (values.copy() for values in found)
        if not np.isfinite(probabilities).all():
            raise ValueError(f"blob {self.probability!r} holds NaN or infinity: the net has diverged")
        rows, columns = (
            -(-length * shape // padded) for length, shape, padded in zip(image.shape, probabilities.shape[1:], size)
        )
        return LossInput(image_blob, probabilities, (rows, columns))

    def _fitting_size(self, size):
        """The least input for an image at which the loss's bottoms agree."""
        if self._net.least_size:
            candidates = [self._net.padded_size(size)]
        else:
            candidates = [tuple(-(-(length - rest) // step) * step + rest for length in size) for step, rest in _GRIDS]
        found = {}
        for height, width in candidates:
            image, probabilities = self._net.shapes((height, width), [self.image, self.probability])
            if image[2:] == probabilities[2:]:
                return height, width
            found[f"{width} x {height}"] = f"{image}, {probabilities}"
        tried = "; ".join(f"for an input of {name}: {shapes}" for name, shapes in found.items())
        raise ValueError(
            f"the layer {self.layer!r} needs {self.image!r} and {self.probability!r} of one height and width, found "
            f"{tried}"
        )


def _losses():
    """{name: class} of our layers that are losses over an image and its segmentation."""
    from rloss_caffe import layers
    from rloss_caffe.layers._loss import ImageSegmentationLoss

    classes = {name: getattr(layers, name) for name in layers.__all__}
    return {name: each for name, each in classes.items() if issubclass(each, ImageSegmentationLoss)}


def _find_loss(path, layers, name):
    """The layers of the loss's phase up to it, and the loss."""
    known = _losses()
    for phase in ("TRAIN", "TEST"):
        active = [layer for layer in layers if runs_in(layer, phase)]
        losses = [index for index, layer in enumerate(active) if layer.type == "Python" and kind_of(layer) in known]
        if losses:
            break
    what = " or ".join(known)
    names = ", ".join(repr(active[index].name) for index in losses)
    if name is not None:
        losses = [index for index in losses if active[index].name == name]
    if not losses:
        raise ValueError(
            f"{path} has no {what} layer" + (f" {name!r}" if name is not None else "") + (names and f", but {names}")
        )
    if len(losses) > 1:
        kinds = " and ".join(sorted({kind_of(active[index]) for index in losses}))
        raise ValueError(f"{path} has several {kinds} layers, {names}; name the one that is meant")
    return active[: losses[0]], active[losses[0]]
