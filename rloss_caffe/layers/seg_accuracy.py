"""SegAccuracy: pixel accuracy, mean class recall and mean Jaccard index, as a Caffe layer."""

import warnings

import numpy as np

from rloss_caffe.layers.base import Layer
from rloss_caffe.numerics.confusion import ConfusionMatrix, UnexpectedLabelError
from rloss_caffe.numerics.parameters import Parameter

__all__ = ["SegAccuracy", "confusion_matrices"]


class SegAccuracy(Layer):
    """How well the largest scores fit the labels.

    Bottoms: scores (N, K, H, W); labels (N, 1, H, W), whole numbers. Top, shape (1, 1, 1, 3): pixel accuracy; mean
    recall of the classes that occur; mean Jaccard index of *all* K classes, in which a class that neither occurs nor
    is predicted counts as 1. The last class wins among equal scores. There is no backward pass.

    ``confusion`` is the `rloss_caffe.numerics.confusion.ConfusionMatrix` behind the values: it has the index of each
    class and the mean over the classes that occur, and ``confusion.reset()`` starts anew. From a net, it is found with
    `confusion_matrices`.

    Scores that are NaN are warned of, in every batch; the values then mean nothing.

    Parameters (param_str)
    ----------------------
    {parameters}

    Example
    -------
    ::

        layer {
          name: "accuracy"  type: "Python"  bottom: "fc8_interp"  bottom: "label"  top: "accuracy"
          python_param {
            module: "rloss_caffe.layers"  layer: "SegAccuracy"  param_str: "{ignore_label: 255, reset: false}"
          }
        }
    """

    PARAMETERS = [
        Parameter(
            "metric",
            "string",
            "PixelAccuracy",
            choices=("PixelAccuracy", "ClassAccuracy", "PixelIOU"),
            doc="Has no effect, as in the fork: the top always holds all three.",
        ),
        Parameter("ignore_label", "int", [], repeated=True, doc="Labels that are not counted: one or a list."),
        Parameter(
            "reset",
            "bool",
            True,
            doc="true: the values of each batch; false: of all batches since the net was made, so that the last batch "
            "of one pass has the data set's values, and a mean over batches means nothing.",
        ),
    ]
    BOTTOMS = ("scores", "label")
    TOPS = ("accuracy",)

    def setup(self, bottom, top):
        super().setup(bottom, top)
        self.confusion = ConfusionMatrix(self.shape4(bottom, 0)[1])

    def reshape(self, bottom, top):
        scores, labels = self.shape4(bottom, 0), self.shape4(bottom, 1)
        if labels != (scores[0], 1, *scores[2:]):
            raise self.error(
                f"{self.blob_name(1)} must have shape {(scores[0], 1, *scores[2:])}, one label a pixel of "
                f"{self.blob_name(0)} with shape {scores}, found {labels}"
            )
        if scores[1] != self.confusion.n_classes:
            if not self.parameters.reset:
                raise self.error(
                    f"{self.blob_name(0)} had {self.confusion.n_classes} classes, found {scores[1]}; with "
                    "'reset: false' their number must not change"
                )
            self.confusion = ConfusionMatrix(scores[1])
        self.reshape_top(top, 0, (1, 1, 1, 3))

    def forward(self, bottom, top):
        confusion = self.confusion
        if self.parameters.reset:
            confusion.reset()
        scores, seen_before = bottom[0].data.reshape(self.shape4(bottom, 0)), confusion.has_seen_nan
        confusion.has_seen_nan = False
        try:
            confusion.add(scores, bottom[1].data, self.parameters.ignore_label)
        except UnexpectedLabelError as error:
            raise self.error(f"{self.blob_name(1)}: {error}") from error
        if confusion.has_seen_nan:
            images = [str(image) for image, values in enumerate(scores) if np.isnan(values).any()]
            warnings.warn(
                f"SegAccuracy: {self.blob_name(0)} holds NaN in image {', '.join(images)} of the batch: the net has "
                "diverged, and the accuracy means nothing",
                stacklevel=1,
            )
        confusion.has_seen_nan |= seen_before
        top[0].data[...] = confusion.pixel_accuracy(), confusion.mean_recall(), confusion.mean_jaccard()

    def backward(self, top, propagate_down, bottom):
        self.refuse_gradients(propagate_down)


def confusion_matrices(net):
    """The confusion matrices of a net's SegAccuracy layers.

    Parameters
    ----------
    net : caffe.Net
        Also a solver's ``net`` or one of its ``test_nets``.

    Returns
    -------
    dict of str to ConfusionMatrix
        By layer name, in the net's order. They are the layers' own: ``reset()`` empties the layer's, for instance
        before each test phase of a solver, whose test net otherwise counts on with ``reset: false``.
    """
    return {
        name: layer.confusion for name, layer in zip(net._layer_names, net.layers) if isinstance(layer, SegAccuracy)
    }
