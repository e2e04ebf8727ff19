"""A model that trains with losses over images: Keras shows a loss what was predicted, and never the image."""

from __future__ import annotations

from typing import Any, Mapping, Sequence

import keras

from rloss_caffe.keras import _backends
from rloss_caffe.keras.losses import ImageLoss

__all__ = ["RegularizedModel"]


@keras.saving.register_keras_serializable(package="rloss_caffe")
class RegularizedModel(keras.Model):
    """A network with losses over its input and its output, beside the loss that it is compiled with.

    It predicts what the network predicts, is saved and loaded with its losses, and shows the value of each in ``fit``
    and ``evaluate``. Its attribute ``network`` is the network alone.

    Parameters
    ----------
    network : keras.Model or keras.Layer
        From images (N, H, W, C) to scores or probabilities (N, H, W, K), of one size.
    losses : sequence of ImageLoss
        Each brings its weight. They are kept as ``image_losses``; their weights and options may be set while the model
        trains, by a callback, say.
    from_logits : bool
        Whether the network's output are scores. The losses then see their softmax, or with one class the sigmoid.
    data_format : {"channels_last", "channels_first"}, optional
        Of images and scores; default: Keras's ``image_data_format``.
    **keywords
        Those of keras.Model, such as ``name``.

    Raises
    ------
    ValueError
        There are no losses, or one is no loss of `rloss_caffe.keras`.

    Notes
    -----
    The label maps are the ``y`` of ``fit``: (N, H, W) or (N, H, W, 1), classes or the losses' ``ignore_label``. With
    other targets, several inputs or outputs, or a region of interest, override `loss_inputs`. Sample weights do not
    touch the losses over images.

    Under mixed precision the losses are computed in single precision. On TensorFlow a model with such losses is not
    compiled by XLA: Keras's ``jit_compile="auto"`` leaves it, and True gives Keras's warning.
    """

    def __init__(
        self,
        network: Any,
        losses: Sequence[ImageLoss],
        from_logits: bool = False,
        data_format: str | None = None,
        **keywords: Any,
    ) -> None:
        super().__init__(**keywords)
        losses = [losses] if isinstance(losses, ImageLoss) else list(losses)
        for each in losses:
            if not isinstance(each, ImageLoss):
                raise ValueError(f"losses must be losses of rloss_caffe.keras, found {each!r}")
        if not losses:
            raise ValueError("losses must hold a loss, found none")
        self.network = network
        self.image_losses = losses
        self.from_logits = from_logits
        self.data_format = data_format or keras.backend.image_data_format()
        self._loss_values = [keras.metrics.Mean(name=name) for name in _names(losses)]
        if not _backends.can_compile():
            self.supports_jit = False

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """What the network makes of the inputs."""
        return self.network(inputs, training=training)

    def loss_inputs(self, x: Any, y: Any, y_pred: Any) -> dict[str, Any]:
        """What the losses are called with. Override it where `x` is not the image, or `y` not a label map.

        Parameters
        ----------
        x, y, y_pred
            As ``compute_loss`` gets them.

        Returns
        -------
        dict
            The tensors ``images`` (N, H, W, C), ``segmentations`` (N, H, W, K), probabilities in single precision, and
            ``labels`` and ``roi``, (N, H, W) or None.
        """
        return {"images": x, "segmentations": self.probabilities(y_pred), "labels": y, "roi": None}

    def probabilities(self, y_pred: Any) -> Any:
        """The network's output as probabilities in single precision."""
        y_pred = keras.ops.cast(y_pred, "float32")
        if not self.from_logits:
            return y_pred
        axis = -1 if self.data_format == "channels_last" else 1
        return keras.ops.sigmoid(y_pred) if y_pred.shape[axis] == 1 else keras.ops.softmax(y_pred, axis=axis)

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        """The loss that the model is compiled with, and the losses over images."""
        total = super().compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=training)
        tensors = self.loss_inputs(x, y, y_pred)
        for loss, mean in zip(self.image_losses, self._loss_values):
            value = loss(**tensors, data_format=self.data_format)
            mean.update_state(value, sample_weight=keras.ops.shape(tensors["segmentations"])[0])  # the batch's size
            total = total + keras.ops.cast(value, total.dtype) / _backends.replicas()
        return total

    def get_config(self) -> dict[str, Any]:
        """The network, the losses and the options, for Keras's saving."""
        return {
            **super().get_config(),
            "network": keras.saving.serialize_keras_object(self.network),
            "losses": [keras.saving.serialize_keras_object(each) for each in self.image_losses],
            "from_logits": self.from_logits,
            "data_format": self.data_format,
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any], custom_objects: Mapping[str, Any] | None = None) -> Any:
        """The model of a `get_config`."""
        config = dict(config)
        with keras.saving.custom_object_scope(custom_objects or {}):
            config["network"] = keras.saving.deserialize_keras_object(config["network"])
            config["losses"] = [keras.saving.deserialize_keras_object(each) for each in config["losses"]]
        return cls(**config)


def _names(losses):
    """One for each loss, the second of a kind with a number."""
    names = []
    for each in losses:
        before = sum(name == each.name or name.startswith(f"{each.name}_") for name in names)
        names.append(f"{each.name}_{before + 1}" if before else each.name)
    return names
