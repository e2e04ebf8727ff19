"""SelfLabelLoss inside real Caffe nets and a solver."""

import numpy as np
import pytest
from helpers import loss_layers
from helpers.loss_layers import inputs

from rloss_caffe import self_label_loss

caffe = pytest.importorskip("caffe", reason="the layers need pycaffe")

PARAMETERS = "{lambda: 20, steps: 10, rgb_std: 40}"


def make_net(tmp_path, bottoms, tops=("loss",), param_str=PARAMETERS, **options):
    return loss_layers.make_net(tmp_path, "SelfLabelLoss", bottoms, param_str, tops, **options)


def fill(net, given):
    for name, blob in net.blobs.items():
        if name in given:
            blob.data[...] = given[name]


@pytest.mark.parametrize("extra", [(), ("label",), ("label", "roi")])
def test_the_net_has_the_function_s_value_and_gradient(tmp_path, extra):
    net, given = make_net(tmp_path, ("data", "segmentation", *extra)), inputs()
    fill(net, given)
    net.forward()
    net.backward()
    options = {"labels": given["label"] if extra else None, "roi": given["roi"] if "roi" in extra else None}
    options.update({"lambda": 20, "steps": 10, "rgb_std": 40})
    expected = self_label_loss(given["data"], given["score"], **options)
    assert net.blobs["loss"].data.item() == pytest.approx(expected.value, rel=1e-6)
    np.testing.assert_allclose(net.blobs["segmentation"].diff, expected.gradient(0.5), rtol=1e-6)


def test_the_latent_labels_are_an_optional_second_top(tmp_path):
    bottoms, weights = ("data", "segmentation", "label"), "loss_weight: 0.5 loss_weight: 0"
    net, given = make_net(tmp_path, bottoms, ("loss", "latent"), weights=weights), inputs()
    fill(net, given)
    net.forward()
    net.blobs["latent"].diff[...] = 7  # what is sent back to constants goes nowhere
    net.backward()
    expected = self_label_loss(given["data"], given["score"], labels=given["label"], lambda_=20, steps=10, rgb_std=40)
    np.testing.assert_array_equal(net.blobs["latent"].data, expected.latent)
    np.testing.assert_allclose(net.blobs["segmentation"].diff, expected.gradient(0.5), rtol=1e-6)
    for name, channels in (("data", 3), ("score", 3), ("label", 1)):
        net.blobs[name].reshape(1, channels, 7, 8)
    net.reshape()
    assert net.blobs["latent"].data.shape == (1, 3, 7, 8)
    with pytest.raises(ValueError, match=r"expected 1 to 2 top blobs \(loss, latent labels \(optional\)\)"):
        make_net(tmp_path, bottoms, ("loss", "latent", "more"), weights="")


def test_finite_differences_through_the_net(tmp_path):
    """With the labels held: where no step is taken they are the segmentations, which the twin must not move either."""
    given = inputs()
    found = self_label_loss(given["data"], given["score"], labels=given["label"], lambda_=20, steps=10, rgb_std=40)
    net = make_net(tmp_path, ("data", "segmentation", "label"))
    fill(net, given)
    net.forward()
    net.backward()
    gradient = net.blobs["segmentation"].diff.astype(float).copy()
    region = (np.abs(given["data"]) >= 1).any(axis=1)
    given_labels = given["label"][:, 0]

    def value(segmentations):
        agreement = (found.latent.astype(float) * segmentations).sum(axis=1)
        weights = np.where(given_labels != 255, 1.0, 0.3) * region / region.sum(axis=(1, 2), keepdims=True) / 2
        return 0.5 * -(weights * np.log(agreement)).sum()

    for seed in range(4):
        direction = np.random.RandomState(seed).randn(*given["score"].shape) * given["score"]
        step = 1e-5
        change = value(given["score"] + step * direction) - value(given["score"] - step * direction)
        assert (gradient * direction).sum() == pytest.approx(change / (2 * step), rel=1e-3)


def test_mistakes_are_told_in_the_layer_s_words_and_the_net_survives(tmp_path):
    net, given = make_net(tmp_path, ("data", "segmentation", "label")), inputs()
    fill(net, given)
    net.blobs["label"].data[1, 0, 3, 4] = 3
    message = r"SelfLabelLoss: image 1 of the batch: bottom 2 \(label\) must be whole numbers from 0 to 2.*found 3 in"
    with pytest.raises(ValueError, match=message):
        net.forward()
    net.blobs["label"].data[1, 0, 3, 4] = 255
    net.blobs["score"].data[0, 0, 0, 0] = 2
    message = r"image 0 of the batch: bottom 1 \(segmentation\) must hold probabilities, from 0 to 1, found 2"
    with pytest.raises(ValueError, match=message):
        net.forward()
    net.blobs["score"].data[...] = given["score"]
    net.forward()
    assert np.isfinite(net.blobs["loss"].data.item())
    for text, message in (
        ("lamda: 3", "lamda"),
        ("relaxation: absolute", "relaxation"),
        ("lambda: -3", "lambda"),
    ):
        with pytest.raises(ValueError, match=message):
            make_net(tmp_path, ("data", "segmentation"), param_str=text)


NET = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 12 dim: 16 } } }
layer { name: "label" type: "Input" top: "label" input_param { shape { dim: 2 dim: 1 dim: 12 dim: 16 } } }
layer { name: "small" type: "Power" bottom: "data" top: "small" power_param { scale: 0.01 } }
layer { name: "conv" type: "Convolution" bottom: "small" top: "score"
  convolution_param { num_output: 3 kernel_size: 1 weight_filler { type: "gaussian" std: 0.01 } } }
layer { name: "prob" type: "Softmax" bottom: "score" top: "prob" }
layer { name: "loss" type: "Python" bottom: "data" bottom: "prob" bottom: "label" top: "loss" top: "latent"
  loss_weight: 1 loss_weight: 0 propagate_down: false propagate_down: true propagate_down: false
  python_param { module: "rloss_caffe.layers" layer: "SelfLabelLoss" param_str: "lambda: 20" } }
layer { name: "silence" type: "Silence" bottom: "latent" }
"""


def test_a_solver_learns_from_strokes_what_the_masks_are(tmp_path):
    (tmp_path / "net.prototxt").write_text(NET)
    (tmp_path / "solver.prototxt").write_text(
        f'train_net: "{tmp_path}/net.prototxt" base_lr: 0.3 lr_policy: "fixed" random_seed: 3 display: 0 max_iter: 60\n'
        f'snapshot_prefix: "{tmp_path}/x"'
    )
    truth = np.zeros((2, 12, 16), int)
    truth[0, :, 8:], truth[1, 6:] = 1, 1
    labels = np.full(truth.shape, 255)
    labels[0, 3:9, 2], labels[0, 3:9, -3], labels[1, 1, 3:9], labels[1, -2, 3:9] = 0, 1, 0, 1
    solver = caffe.SGDSolver(str(tmp_path / "solver.prototxt"))
    noise = np.random.RandomState(0).randn(2, 3, 12, 16)
    solver.net.blobs["data"].data[...] = np.where(truth == 1, 60.0, -60.0)[:, None] + 5 * noise
    solver.net.blobs["label"].data[...] = labels[:, None]
    solver.step(1)
    first = solver.net.blobs["loss"].data.item()
    solver.step(59)
    assert solver.net.blobs["loss"].data.item() < 0.5 * first
    np.testing.assert_array_equal(solver.net.blobs["prob"].data.argmax(axis=1), truth)
    np.testing.assert_array_equal(solver.net.blobs["latent"].data.argmax(axis=1), truth)
