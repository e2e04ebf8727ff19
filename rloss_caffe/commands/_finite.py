"""Nets whose values are no longer finite: which blob is the first, and weights that must not be saved."""

import numpy as np

__all__ = ["NotFiniteError", "ScoreWatch", "weights_problem"]


class NotFiniteError(ValueError):
    """A loss, a score or a weight is NaN or infinite."""


class ScoreWatch:
    """Looks at a net's outputs, its losses, and the blobs that these are made of: scores, images, labels.

    Parameters
    ----------
    net : caffe.Net
    """

    def __init__(self, net):
        self._net = net
        weights = dict(zip(net.blobs, net._blob_loss_weights))
        self._weighted = {name for name, weight in weights.items() if weight}
        ends = [name for name in net.blobs if name in net.outputs or name in self._weighted]
        behind = {name for layer in _layers(net) if set(ends) & set(layer.tops) for name in layer.bottoms}
        self._watched = [*ends, *(name for name in net.blobs if name in behind and name not in ends)]

    def problem(self):
        """What is not finite after a forward pass, in words, with the first such blob of the net; None: all is well."""
        for name in self._watched:
            values = self._net.blobs[name].data
            if not _is_finite(values):
                kind = "loss" if name in self._weighted else "blob"
                return f"{kind} {name!r} {_found(values)}{self._origin(name)}"
        return None

    def _origin(self, name):
        problem = weights_problem(self._net)
        if problem:
            return f"; {problem}"
        for layer in _layers(self._net):
            for top in layer.tops:
                if top != name and not _is_finite(self._net.blobs[top].data):
                    values = self._net.blobs[top].data
                    return f"; the first is blob {top!r} of layer {layer.name!r}, which {_found(values)}"
        return ""


def weights_problem(net):
    """The first layer whose weights are not finite, in words; None: there is none."""
    for name, blobs in net.params.items():
        for index, blob in enumerate(blobs):
            if not _is_finite(blob.data):
                return f"weights {index} of layer {name!r} {_found(blob.data)}"
    return None


class _Layer:
    def __init__(self, name, bottoms, tops):
        self.name, self.bottoms, self.tops = name, bottoms, tops


def _layers(net):
    """Name, bottoms and tops of every layer; of pycaffes that do not tell them, none."""
    if not hasattr(net, "_top_ids"):
        return []
    blobs = list(net._blob_names)
    return [
        _Layer(name, [blobs[k] for k in net._bottom_ids(index)], [blobs[k] for k in net._top_ids(index)])
        for index, name in enumerate(net._layer_names)
    ]


def _is_finite(values):
    """Of a sum it is enough to look at one number; large values may add up to more than a float holds."""
    with np.errstate(all="ignore"):
        return bool(np.isfinite(values.sum())) or bool(np.isfinite(values).all())


def _found(values):
    wrong = values[~np.isfinite(values)]
    if values.size == 1:
        return f"is {wrong.flat[0]}"
    return f"holds {wrong.flat[0]} ({wrong.size} of {values.size} values are not finite)"
