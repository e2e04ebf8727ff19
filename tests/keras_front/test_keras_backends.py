"""Keras on TensorFlow, JAX and PyTorch: each in a process of its own, as Keras keeps to one."""

import importlib.util
import os
import subprocess
import sys

import pytest
from helpers.loss_batches import OPTIONS, batch, softmax
from helpers.paths import ROOT

from rloss_caffe.losses import LOSSES

# Not by importing it: where TensorFlow is missing, that needs to be told what else to compute with.
pytestmark = pytest.mark.skipif(importlib.util.find_spec("keras") is None, reason="needs Keras")

LAYOUTS = ("channels_last", "channels_first")


def gradient_of(loss, segmentations, *others):
    """A loss's value and gradient, by what Keras computes with."""
    import keras

    backend = keras.backend.backend()
    tensor = keras.ops.convert_to_tensor(segmentations)

    def value(tensor):
        return loss(others[0], tensor, *others[1:])

    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(tensor)
            found = value(tensor)
        return found, tape.gradient(found, tensor)
    if backend == "jax":
        import jax

        return jax.value_and_grad(value)(tensor)
    tensor.requires_grad_()
    found = value(tensor)
    found.backward()
    return found, tensor.grad


def check_losses():
    import keras
    import numpy as np

    import rloss_caffe.keras as rloss_keras

    images, scores, labels, roi = batch()
    segmentations = softmax(scores)
    for name, function in LOSSES.items():
        kind = getattr(rloss_keras, "".join({"crf": "CRF"}.get(w, w.title()) for w in words(name)) + "Loss")
        loss = kind(0.5, **OPTIONS[name])
        result = function(
            *([images] if "images" in function.__code__.co_varnames else []),
            segmentations,
            labels=labels,
            roi=roi,
            **OPTIONS[name],
        )
        for layout in LAYOUTS:
            moved = [np.moveaxis(each, 1, -1) if layout == LAYOUTS[0] else each for each in (images, segmentations)]
            value, gradient = gradient_of(loss, moved[1], moved[0], labels, roi, layout)
            gradient = keras.ops.convert_to_numpy(gradient)
            gradient = np.moveaxis(gradient, -1, 1) if layout == LAYOUTS[0] else gradient
            assert float(value) == np.float32(0.5 * result.value), name
            np.testing.assert_array_equal(gradient, result.gradient(0.5), name)


def words(name):
    return name.replace("densecrf", "dense_crf").split("_")


def check_training(folder):
    """Fit, evaluate, save, load and go on; the losses push the network."""
    import keras
    import numpy as np

    import rloss_caffe.keras as rloss_keras

    images, _, labels, _ = batch(images=5)
    images = np.moveaxis(images, 1, -1)
    found = []
    for weight in (0.0, 1.0):
        keras.utils.set_random_seed(0)
        layers = [
            keras.Input((None, None, 3)),
            keras.layers.Rescaling(1 / 128, -1),
            keras.layers.Conv2D(3, 3, 1, "same"),
        ]
        losses = [rloss_keras.DenseCRFLoss(weight, bi_xy_std=5, normalization="AFFINITY")]
        losses += [rloss_keras.LocalPottsLoss(weight)]
        model = rloss_keras.RegularizedModel(keras.Sequential(layers), losses, from_logits=True)
        cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=255)
        model.compile(keras.optimizers.SGD(0.1), cross_entropy)
        shown = model.fit(images, labels, batch_size=2, epochs=2, verbose=0, shuffle=False).history
        assert set(shown) == {"loss", "densecrf_loss", "local_potts_loss"}
        assert shown["densecrf_loss"][0] == 0 if weight == 0 else shown["densecrf_loss"][1] < -0.01
        found.append(model)
    first, second = (model.get_weights()[0] for model in found)
    assert np.isfinite(second).all() and np.abs(first - second).max() > 1e-4
    found[1].save(f"{folder}/model.keras")
    loaded = keras.models.load_model(f"{folder}/model.keras")
    results = [
        model.evaluate(images, labels, batch_size=5, verbose=0, return_dict=True) for model in (loaded, found[1])
    ]
    assert results[0] == results[1]
    loaded.image_losses[0].weight = 0.0  # by a schedule, say: it holds in a compiled step, too
    assert loaded.evaluate(images, labels, batch_size=5, verbose=0, return_dict=True)["densecrf_loss"] == 0
    print(keras.backend.backend())


@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_losses_and_training(backend, tmp_path):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"needs {backend}")
    code = f"import test_keras_backends as t; t.check_losses(); t.check_training({str(tmp_path)!r})"
    paths = [ROOT, ROOT / "tests", ROOT / "tests" / "keras_front", *sys.path]
    variables = {"KERAS_BACKEND": backend, "PYTHONPATH": os.pathsep.join(map(str, paths))}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **variables})
    assert done.returncode == 0 and done.stdout.split()[-1] == backend, done.stderr[-3000:]
