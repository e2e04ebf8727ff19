"""The scores of a net for photographs: where a segmentation from scribbles may begin."""

import os
import sys

import numpy as np

from rloss_caffe.commands import _signals

__all__ = ["add_net", "check_net", "scores_of"]

_LEAST = np.float32(1e-10)  # probability


def add_net(parser, what):
    """--net and --weights, for `what`."""
    parser.add_argument("--net", metavar="M", help=f"prototxt of a test net, of stock Caffe or the fork; {what}")
    parser.add_argument("--weights", metavar="W", help="its .caffemodel")


def check_net(arguments):
    """Both options are given, or none."""
    if bool(arguments.net) != bool(arguments.weights):
        raise ValueError("--net and --weights belong together")


def scores_of(net, weights, n_classes=None):
    """A function from a photograph, RGB, to the net's scores of the first `n_classes`, or of all its classes."""
    os.environ.setdefault("GLOG_minloglevel", "2")  # before caffe is loaded: its log would bury ours
    _signals.import_caffe()
    from rloss_caffe.nets.segmenter import Segmenter

    segmenter = Segmenter(net, weights)
    n_classes = n_classes or segmenter.n_classes
    if segmenter.n_classes < n_classes:
        raise ValueError(f"{net} has {segmenter.n_classes} classes, but {n_classes} are named")
    if segmenter.n_classes > n_classes:
        print(f"the net has {segmenter.n_classes} classes; the first {n_classes} count", file=sys.stderr)

    def scores(pixels):
        found = segmenter.scores(np.ascontiguousarray(pixels[:, :, ::-1]))
        if found.min() >= 0 and np.allclose(found.sum(axis=0), 1, atol=1e-3):  # behind a softmax
            found = np.log(np.maximum(found, _LEAST))
        return found[:n_classes]

    return scores
