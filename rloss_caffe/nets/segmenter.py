"""Segment single images with a test net, whatever data layer it has."""

import os

import numpy as np

from rloss_caffe.data.reading import import_cv2, read_image
from rloss_caffe.nets.fork_layers import kind_of
from rloss_caffe.nets.input_net import InputNet, read_layers, runs_in

__all__ = ["Segmenter"]


class Segmenter:
    """A net for label maps of images of any size.

    The net's own data layer is not used: its blob becomes an input, and layers that the scores do not depend on
    (label, accuracy, losses) are left out. So the lists and folders named in the prototxt need not exist. Images are
    treated as in `rloss_caffe.nets.input_net.InputNet`.

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
        Subtracted from the channels. Default: the data layer's, else that of the experiments.

    Attributes
    ----------
    data, score : str
        Names of the input and the score blob.

    Raises
    ------
    ValueError
        A file is missing or no net, the blobs cannot be found, or the weights do not fit.
    """

    def __init__(self, net, weights, score=None, mean=None):
        net, weights = os.fspath(net), os.fspath(weights)
        parameters = read_layers(net, weights)
        layers = [layer for layer in parameters.layer if runs_in(layer, "TEST")]
        self.score, layers = _find_score(net, layers, score)
        self._net = InputNet(net, parameters, layers, [self.score], weights, mean)
        self.data = self._net.data

    @property
    def n_classes(self):
        """How many scores a pixel has."""
        return self._net.shape(self.score)[1]

    def predict(self, image):
        """The label map of an image file: array (H, W), uint8.

        The class with the largest score, the last one among equals, as SegAccuracy counts it.
        """
        scores = self.scores(read_image(os.fspath(image), self._net.is_color))
        reverse = scores[::-1]  # as argmax takes the first of equals
        return (len(scores) - 1 - reverse.argmax(axis=0)).astype(np.uint8)

    def scores(self, image):
        """What the net says of an image in memory: array (K, H, W), float32, at the image's size.

        Parameters
        ----------
        image : uint8 array (H, W, 3) or (H, W, 1)
            BGR or grey, as `rloss_caffe.data.reading.read_image` gives it. It is made grey or given three channels if
            the net wants that.
        """
        if self._net.is_color != (image.shape[2] == 3):
            cv2 = import_cv2()
            if self._net.is_color:
                image = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
            else:
                image = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)[:, :, np.newaxis]
        height, width = image.shape[:2]
        size = self._net.padded_size((height, width))
        (scores,) = self._net.forward(image, size, [self.score])
        if scores.ndim != 3 or not 2 <= len(scores) <= 255:
            raise ValueError(f"blob {self.score!r} must have shape (1, K, H, W), found {(1, *scores.shape)}")
        if scores.shape[1:] != size:
            from rloss_caffe.numerics.interpolation import interpolate

            scores = interpolate(scores, size)
        if np.isnan(scores).any():
            raise ValueError(f"blob {self.score!r} holds NaN: the net has diverged")
        return scores[:, :height, :width].copy()


def _find_score(path, layers, name):
    """The score blob's name, and the layers up to where it is used."""
    if name:
        if not any(name in layer.top for layer in layers):
            raise ValueError(f"{path} has no blob {name!r}")
        return name, layers
    judges = [index for index, layer in enumerate(layers) if kind_of(layer) == "SegAccuracy"]
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
