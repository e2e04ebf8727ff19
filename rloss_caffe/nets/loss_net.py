"""What a network gives its DenseCRF loss for single images, whatever data layer it has."""

import os
import tempfile
from collections import namedtuple

import numpy as np

from rloss_caffe.data.reading import read_image
from rloss_caffe.layers.param_str import read_parameters
from rloss_caffe.nets import input_net as surgery

__all__ = ["LossInput", "LossNet"]

# image (C, H, W) and probabilities (K, H, W): the loss layer's bottoms; size: rows and columns that are not padding.
LossInput = namedtuple("LossInput", "image probabilities size")
# An image without a crop is padded to the first of these sizes, step k + rest, at which the layer's bottoms agree.
_GRIDS = [(1, 0), (4, 0), (8, 0), (8, 1), (16, 0), (16, 1), (32, 0), (32, 1)]


class LossNet:
    """A net up to the bottoms of its DenseCRFLoss layer, for images of any size.

    As in `Segmenter`, the data layer is replaced by an input and what the loss does not depend on is left out; images
    are padded up to the data layer's crop. The net runs as in a test, so Dropout passes everything on and the
    probabilities are the same each time.

    Parameters
    ----------
    net : str or path
        Prototxt with a DenseCRFLoss layer, of stock Caffe or of the fork; usually the one it is trained with.
    weights : str or path
        Its .caffemodel.
    layer : str, optional
        The loss layer's name, where there are several.
    mean : sequence of float, optional
        Subtracted from the channels. Default: the data layer's, else `surgery.MEAN`.

    Attributes
    ----------
    layer, image, probability : str
        Names of the loss layer and its bottoms.
    score : str or None
        The blob before the softmax; None if the probabilities do not come from a Softmax layer.
    bi_xy_std, bi_rgb_std, loss_weight, exact_gradient
        As written in the layer; a loss_weight that is missing is 0, as in Caffe.

    Raises
    ------
    ValueError
        A file is missing or no net, it has no DenseCRFLoss or several, the images' blob cannot be found, or the weights
        do not fit.
    """

    def __init__(self, net, weights, layer=None, mean=None):
        import caffe

        net, weights = os.fspath(net), os.fspath(weights)
        parameters = surgery.read_net(net, weights)
        layers, loss = _find_loss(net, parameters.layer, layer)
        self._read_loss(net, loss)
        layers = surgery.ancestors(layers, self.image, self.probability)
        source, self._data = surgery.find_data(net, parameters, layers)
        self._input = surgery.read_input(net, parameters, source, mean)
        makers = [each for each in layers if self.probability in each.top]
        self.score = makers[-1].bottom[0] if makers and makers[-1].type == "Softmax" else None
        with tempfile.NamedTemporaryFile("w", suffix=".prototxt") as file:
            file.write(surgery.as_text(layers, source, self._data, self._input))
            file.flush()
            self._net = caffe.Net(file.name, caffe.TEST)
        surgery.load_weights(net, weights, self._net)

    def _read_loss(self, path, layer):
        from rloss_caffe.layers import DenseCRFLoss

        if len(layer.bottom) != 2:
            raise ValueError(
                f"{path}: the DenseCRFLoss layer {layer.name!r} needs 2 bottoms, found {len(layer.bottom)}"
            )
        given = read_parameters(layer.python_param.param_str, DenseCRFLoss.PARAMETERS, f"{path}: DenseCRFLoss")
        self.bi_xy_std, self.bi_rgb_std = given.bi_xy_std, given.bi_rgb_std
        self.exact_gradient = given.exact_gradient
        self.loss_weight = float(f"{layer.loss_weight[0]:.7g}") if layer.loss_weight else 0.0  # it is in float32
        self.layer = layer.name
        self.image, self.probability = layer.bottom

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
            image = read_image(os.fspath(image), self._input.is_color)
        elif not self._input.is_color:
            image = image.mean(axis=2, keepdims=True)
        size = self._fitting_size(image.shape[:2])
        surgery.feed(self._net.blobs[self._data], image, self._input, size)
        self._net.forward()
        image_blob, probabilities = (self._net.blobs[name].data[0].copy() for name in (self.image, self.probability))
        if not np.isfinite(probabilities).all():
            raise ValueError(f"blob {self.probability!r} holds NaN or infinity: the net has diverged")
        rows, columns = (
            -(-length * shape // padded) for length, shape, padded in zip(image.shape, probabilities.shape[1:], size)
        )
        return LossInput(image_blob, probabilities, (rows, columns))

    def _fitting_size(self, size):
        if self._input.size:
            candidates = [surgery.padded_size(size, self._input)]
        else:
            candidates = [tuple(-(-(length - rest) // step) * step + rest for length in size) for step, rest in _GRIDS]
        found = {}
        for height, width in candidates:
            blob = self._net.blobs[self._data]
            blob.reshape(1, blob.channels, height, width)
            self._net.reshape()
            shapes = [tuple(self._net.blobs[name].data.shape) for name in (self.image, self.probability)]
            if shapes[0][2:] == shapes[1][2:]:
                return height, width
            found[f"{width} x {height}"] = shapes
        tried = "; ".join(f"for an input of {name}: {shapes[0]}, {shapes[1]}" for name, shapes in found.items())
        raise ValueError(
            f"the layer {self.layer!r} needs {self.image!r} and {self.probability!r} of one height and width, found "
            f"{tried}"
        )


def _find_loss(path, layers, name):
    """The layers of the loss's phase up to the DenseCRFLoss, and that one."""
    for phase in ("TRAIN", "TEST"):
        active = [layer for layer in layers if surgery.runs_in(layer, phase)]
        losses = [index for index, layer in enumerate(active) if surgery.kind_of(layer) == "DenseCRFLoss"]
        if losses:
            break
    names = ", ".join(repr(active[index].name) for index in losses)
    if name is not None:
        losses = [index for index in losses if active[index].name == name]
    if not losses:
        raise ValueError(
            f"{path} has no DenseCRFLoss layer"
            + (f" {name!r}" if name is not None else "")
            + (names and f", but {names}")
        )
    if len(losses) > 1:
        raise ValueError(f"{path} has several DenseCRFLoss layers, {names}; name the one that is meant")
    return active[: losses[0]], active[losses[0]]
