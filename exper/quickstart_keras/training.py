"""One training: partial cross entropy, a loss of rloss_caffe if wanted, and SGD, by Keras's fit."""

import math
import time

import keras
import numpy as np
import tensorflow as tf
from crops import Crops
from network import optimizer
from settings import CROP, LOSSES

import rloss_caffe.keras as regularized
from rloss_caffe.data.progress import progress_bar
from rloss_caffe.datasets import examples


class Quickstart(regularized.RegularizedModel):
    """With a loss of phase two, on every so many rows and columns as settings.py says.

    It does not look at padding, which is 0, nor, as in Caffe's layers, at colours near it.
    """

    def __init__(self, network, loss):
        chosen = LOSSES[loss]
        module = getattr(regularized, chosen.layer)(chosen.weight, **chosen.parameters)
        super().__init__(network, module, from_logits=True)
        self.stride = chosen.stride

    def loss_inputs(self, x, y, y_pred):
        region = keras.ops.any(keras.ops.abs(x) >= 1, axis=-1)
        found = {**super().loss_inputs(x, y, y_pred), "roi": region}
        return {name: each[:, :: self.stride, :: self.stride] for name, each in found.items()}


def make_model(network, training, iterations):
    """A network with the loss of a training, compiled."""
    model = Quickstart(network, training.loss) if training.loss else network
    cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=examples.IGNORE)
    # jit_compile: XLA would compile the trainings without a loss over images alone, and all are to compute alike.
    model.compile(optimizer(training.base_lr, iterations), cross_entropy, jit_compile=False)
    return model


def batches(labels, seed):
    """A tf.data.Dataset without an end: images (N, H, W, 3), and label maps (N, H, W)."""
    crops = Crops(labels, CROP, seed)

    def generate():
        while True:
            images, maps = crops.cut(crops.draw())
            yield np.ascontiguousarray(images.transpose(0, 2, 3, 1)), maps

    signature = (tf.TensorSpec((None, CROP, CROP, 3)), tf.TensorSpec((None, CROP, CROP), tf.uint8))
    return tf.data.Dataset.from_generator(generate, output_signature=signature).prefetch(2)


class Progress(keras.callbacks.Callback):
    """Moves a bar; a loss that is not finite ends the training."""

    def __init__(self, bar, title):
        super().__init__()
        self.bar, self.title = bar, title

    def on_train_batch_end(self, batch, logs=None):
        if not math.isfinite(logs["loss"]):
            raise ValueError(f"{self.title}: the loss is {logs['loss']} after {batch + 1} iterations")
        self.bar.note({"loss": f"{logs['loss']:.4f}"})
        self.bar.update()


def train(network, training, iterations, seed):
    """Train a network to the training's end; its weights are changed."""
    start = time.perf_counter()
    model = make_model(network, training, iterations)
    with progress_bar(iterations, training.title, "it") as bar:
        shown = model.fit(
            batches(training.labels, seed),
            steps_per_epoch=iterations,
            shuffle=False,
            verbose=0,
            callbacks=[Progress(bar, training.title)],
        )
    seconds = time.perf_counter() - start
    values = ", ".join(f"{name} {values[-1]:.4f}" for name, values in sorted(shown.history.items()))
    print(f"{training.title:36} {iterations} iterations, {seconds:.0f} s, means: {values}", flush=True)
