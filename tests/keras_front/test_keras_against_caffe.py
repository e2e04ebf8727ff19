"""Keras against Caffe on one batch of the quickstart: every loss, the network, and the solver's first step.

tools/test_tensorflow.sh runs tests/helpers/caffe_results.py in Caffe's environment first, and says where its file is.
"""

import sys

import numpy as np
import pytest
from helpers.against_caffe import found_by_caffe
from helpers.paths import ROOT

tf = pytest.importorskip("tensorflow", reason="compares Keras with Caffe")
keras = pytest.importorskip("keras", minversion="3", reason="needs Keras 3")
sys.path[:0] = [str(ROOT / "exper" / name) for name in ("quickstart_keras", "quickstart")]

import settings  # noqa: E402
from network import bilinear_weights, network  # noqa: E402
from training import Quickstart, make_model  # noqa: E402


@pytest.fixture(params=settings.LOSSES)
def caffe(request):
    """What Caffe found with one loss, channels last, and the loss's name."""
    found = found_by_caffe(request.param, "tools/test_tensorflow.sh")
    for name in ("data", "label", "score", "probability", "gradient/score", "gradient/probability"):
        found[name] = np.moveaxis(found[name], 1, -1)
    return {"name": request.param, **found}


def distance(actual, expected):
    """Relative, in L2."""
    actual, expected = np.asarray(actual, float), np.asarray(expected, float)
    assert actual.shape == expected.shape and expected.any()
    return np.linalg.norm(actual - expected) / np.linalg.norm(expected)


def weights(found, when):
    """The weights of a network, in Keras's order and layout."""
    blobs = [
        found[f"{when}/{name}/{i}"] for name in (*(f"conv{n}" for n in range(1, 8)), "score_coarse") for i in (0, 1)
    ]
    return [each.transpose(2, 3, 1, 0) if each.ndim == 4 else each for each in blobs]


def test_the_losses_are_equal(caffe):
    model = Quickstart(network(), caffe["name"])
    model.from_logits = False
    probabilities = tf.constant(caffe["probability"]) if model.stride == 1 else tf.nn.softmax(caffe["score"])
    with tf.GradientTape() as tape:
        tape.watch(probabilities)
        (loss,) = model.image_losses
        value = loss(**model.loss_inputs(caffe["data"], caffe["label"], probabilities))
    assert value.numpy() == pytest.approx(loss.weight * caffe["loss"].item(), rel=1e-5)
    gradient = tape.gradient(value, probabilities)[:, :: model.stride, :: model.stride]
    assert distance(gradient, caffe["gradient/probability"]) < 1e-5


def test_network_and_step_are_equal(caffe):
    net = network()
    interpolation = bilinear_weights(settings.STRIDE)
    before, after = weights(caffe, "before"), weights(caffe, "after")
    net.set_weights([*before, interpolation])
    assert distance(net(caffe["data"]), caffe["score"]) < 1e-5
    phase_two = settings.TRAININGS["phase_two"]
    training = settings.Training("one step", phase_two.base_lr, phase_two.iterations, loss=caffe["name"])
    model = make_model(net, training, training.iterations)
    shown = model.fit(caffe["data"], caffe["label"], batch_size=len(caffe["data"]), verbose=0).history
    weight = settings.LOSSES[caffe["name"]].weight
    assert shown[f"{caffe['name']}_loss"][0] == pytest.approx(weight * caffe["loss"].item(), rel=1e-4)
    *found, kept = net.get_weights()
    for old, new, expected in zip(before, found, after):
        assert distance(new - old, expected - old) < 1e-3
    np.testing.assert_array_equal(kept, interpolation)
