"""What a network gives its loss for single images, whatever data layer it has."""

import os
from dataclasses import dataclass
from typing import Optional, Tuple

import numpy as np

from rloss_caffe.data.reading import read_image
from rloss_caffe.layers.param_str import read_parameters
from rloss_caffe.losses import LOSSES
from rloss_caffe.nets.fork_layers import kind_of
from rloss_caffe.nets.input_net import InputNet, read_layers, runs_in
from rloss_caffe.numerics.interpolation import interpolate

__all__ = ["LossInput", "LossNet"]

# An image without a crop is padded to the first of these sizes, step k + rest, at which the layer's bottoms agree.
_GRIDS = [(1, 0), (4, 0), (8, 0), (8, 1), (16, 0), (16, 1), (32, 0), (32, 1)]


@dataclass
class LossInput:
    """The bottoms of a loss layer.

    Attributes
    ----------
    image : array (C, H, W) or None
        None for a loss that looks at no image.
    probabilities : array (K, H, W)
    size : (int, int)
        Rows and columns that are not padding.
    padded : (int, int)
        Rows and columns of the net's input.
    roi : array (H, W) or None
        The layer's region of interest, if it has such a bottom: as the net makes it of the image, else 1 but for the
        padding.
    """

    image: Optional[np.ndarray]
    probabilities: np.ndarray
    size: Tuple[int, int]
    padded: Tuple[int, int]
    roi: Optional[np.ndarray] = None

    def fit_labels(self, label, ignore_label=255):
        """The image's label map, (h, w), padded and shrunk to the probabilities as the net does it: (H, W)."""
        whole = np.full(self.padded, ignore_label, np.float32)
        whole[: label.shape[0], : label.shape[1]] = label
        return interpolate(whole, self.probabilities.shape[1:], mode="nearest")


class LossNet:
    """A net up to the bottoms of its loss over a segmentation, as DenseCRFLoss, for images of any size.

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
    loss : str
        The loss's name in `rloss_caffe.losses.LOSSES`.
    layer, probability : str
        Names of the loss layer and of its segmentation.
    image, label, roi : str or None
        Names of its other bottoms; None for those that it does not have.
    has_roi : bool
        Whether the net makes the region of interest of the image alone, so that it is known here.
    score : str or None
        The blob before the softmax; None if the probabilities do not come from a Softmax layer.
    loss_weight : float
        As written in the layer; one that is missing is 0, as in Caffe.
    parameters : dict
        The layer's parameters.
    bi_xy_std, bi_rgb_std, exact_gradient, ...
        The same, under their own names.

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
        self._blobs = [self.probability] if self.image is None else [self.image, self.probability]
        optional = [] if self.roi is None else [self.roi]
        self._net = InputNet(net, parameters, layers, self._blobs, weights, mean, optional)
        self.has_roi = bool(self._net.optional)

    def _read_loss(self, path, layer):
        self.kind, self.layer = kind_of(layer), layer.name
        names = _losses()[self.kind].BOTTOMS
        required = [name for name in names if not name.endswith("?")]
        if not len(required) <= len(layer.bottom) <= len(names):
            number = str(len(names)) if len(required) == len(names) else f"{len(required)} to {len(names)}"
            raise ValueError(
                f"{path}: the {self.kind} layer {layer.name!r} needs {number} bottoms, found {len(layer.bottom)}"
            )
        bottoms = dict(zip((name.rstrip("?") for name in names), layer.bottom))
        self.image, self.probability = bottoms.get("image"), bottoms["segmentation"]
        self.label, self.roi = bottoms.get("label"), bottoms.get("roi")
        self.loss = _name_of(_losses()[self.kind])
        self.loss_weight = float(f"{layer.loss_weight[0]:.7g}") if layer.loss_weight else 0.0  # it is in float32
        schema = _losses()[self.kind].PARAMETERS
        given = read_parameters(layer.python_param.param_str, schema, f"{path}: {self.kind}")
        self.parameters = {parameter.name: getattr(given, parameter.name) for parameter in schema}
        for name, value in self.parameters.items():
            setattr(self, name, value)

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
        wanted = [*self._blobs, *self._net.optional]
        found = {name: values.copy() for name, values in zip(wanted, self._net.forward(image, size, wanted))}
        probabilities = found[self.probability]
        if not np.isfinite(probabilities).all():
            raise ValueError(f"blob {self.probability!r} holds NaN or infinity: the net has diverged")
        rows, columns = (
            -(-length * shape // padded) for length, shape, padded in zip(image.shape, probabilities.shape[1:], size)
        )
        roi = None
        if self.has_roi:
            roi = found[self.roi][0]
        elif self.roi is not None:
            roi = np.zeros(probabilities.shape[1:], np.float32)
            roi[:rows, :columns] = 1
        image_blob = None if self.image is None else found[self.image]
        return LossInput(image_blob, probabilities, (rows, columns), size, roi)

    def _fitting_size(self, size):
        """The least input for an image at which the loss's bottoms agree."""
        if self._net.least_size:
            candidates = [self._net.padded_size(size)]
        else:
            candidates = [tuple(-(-(length - rest) // step) * step + rest for length in size) for step, rest in _GRIDS]
        if self.image is None:
            return candidates[0]
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
    """{name: class} of our layers that are losses over a segmentation."""
    from rloss_caffe import layers
    from rloss_caffe.layers._loss import SegmentationLoss

    classes = {name: getattr(layers, name) for name in layers.__all__}
    return {name: each for name, each in classes.items() if issubclass(each, SegmentationLoss)}


def _name_of(layer_class):
    """The loss's name in the registry."""
    return next(name for name, function in LOSSES.items() if function is layer_class.LOSS)


def _find_loss(path, layers, name):
    """The layers of the loss's phase up to it, and the loss."""
    known = _losses()
    for phase in ("TRAIN", "TEST"):
        active = [layer for layer in layers if runs_in(layer, phase)]
        losses = [index for index, layer in enumerate(active) if layer.type == "Python" and kind_of(layer) in known]
        if losses:
            break
    names = ", ".join(repr(active[index].name) for index in losses)
    if name is not None:
        losses = [index for index in losses if active[index].name == name]
    if not losses:
        wanted = "" if name is None else f" {name!r}"
        found = f", but {names}" if names else f": none of {', '.join(known)}"
        raise ValueError(f"{path} has no loss layer{wanted}{found}")
    if len(losses) > 1:
        kinds = " and ".join(sorted({kind_of(active[index]) for index in losses}))
        raise ValueError(f"{path} has several loss layers, {names} ({kinds}); name the one that is meant")
    return active[: losses[0]], active[losses[0]]
