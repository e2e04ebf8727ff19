"""LocalPottsLoss inside real Caffe nets and solvers."""

import numpy as np
import pytest
from helpers.images import probabilities, smooth_image
from helpers.window_twin import local_potts_value

from rloss_caffe import local_potts_loss

caffe = pytest.importorskip("caffe", reason="the layers need pycaffe")

GRID_POTTS = "{radius: 1, space: inverse_distance, contrast: image, normalization: BATCH_SIZE, relaxation: RELAXATION}"
GATED_CRF = "{radius: 5, xy_std: 6, rgb_std: 0.1, relaxation: bilinear, normalization: VALID}"


def input_layer(name, shape):
    dims = " ".join(f"dim: {size}" for size in shape)
    return f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ {dims} }} }} }}\n'


def loss_layer(bottoms, param_str="", weight="loss_weight: 1"):
    flags = " ".join(f"propagate_down: {str(index == 1).lower()}" for index in range(len(bottoms)))
    bottoms = " ".join(f'bottom: "{bottom}"' for bottom in bottoms)
    return (
        f'layer {{ name: "potts" type: "Python" {bottoms} top: "potts" {flags} {weight} python_param {{\n'
        f'  module: "rloss_caffe.layers" layer: "LocalPottsLoss" param_str: "{param_str}" }} }}\n'
    )


@pytest.fixture
def make_net(tmp_path):
    def make(blobs, param_str="", weight="loss_weight: 1"):
        """A net whose bottoms are Inputs with these arrays; a layer with a weight of 1 asks for the gradient."""
        names = list(blobs)
        text = "".join(input_layer(name, array.shape) for name, array in blobs.items())
        text += f'layer {{ name: "scaled" type: "Scale" bottom: "{names[1]}" top: "scaled" }}\n'
        text += loss_layer([names[0], "scaled", *names[2:]], param_str, weight)
        path = tmp_path / "net.prototxt"
        path.write_text(text)
        net = caffe.Net(str(path), caffe.TRAIN)
        for name, array in blobs.items():
            net.blobs[name].data[...] = array
        return net

    return make


def batch(height=11, width=12):
    images = np.array([smooth_image(height, width, seed=seed) for seed in range(2)])
    images[1, :, :3] = 0
    return {"data": images, "prob": probabilities(2, 3, height, width)}


@pytest.mark.parametrize("relaxation", ["bilinear", "quadratic", "absolute"])
def test_grid_potts_by_finite_differences(make_net, relaxation):
    """Value against the twin, and the gradient against central differences of the twin's value."""
    blobs, param_str = batch(), GRID_POTTS.replace("RELAXATION", relaxation)
    net = make_net(blobs, param_str)
    net.forward()
    net.backward()
    options = {"radius": 1, "space": "inverse_distance", "contrast": "image", "normalization": "BATCH_SIZE"}
    expected = local_potts_value(blobs["data"], blobs["prob"], relaxation=relaxation, **options)
    assert net.blobs["potts"].data.shape == (1, 1, 1, 1)
    assert net.blobs["potts"].data.item() == pytest.approx(expected, rel=1e-5)
    gradient = net.blobs["scaled"].diff.astype(float)
    for seed in range(3):
        direction = 1e-6 * np.random.RandomState(seed).randn(*gradient.shape)
        above, below = (
            local_potts_value(blobs["data"], blobs["prob"] + step, relaxation=relaxation, **options)
            for step in (direction, -direction)
        )
        assert (gradient * direction).sum() == pytest.approx((above - below) / 2, rel=1e-4)


def test_gated_crf(make_net):
    """Colours with a standard deviation of 1, as the authors give them."""
    blobs = batch()
    blobs["data"] = blobs["data"] / blobs["data"].std(axis=(2, 3), keepdims=True)
    blobs["roi"] = np.ones((2, 1, 11, 12), np.float32)
    blobs = {"data": blobs["data"], "prob": blobs["prob"], "label": 255 * blobs["roi"], "roi": blobs["roi"]}
    net = make_net(blobs, GATED_CRF, "loss_weight: 0.1")
    net.forward()
    net.backward()
    options = {"radius": 5, "xy_std": 6, "rgb_std": 0.1, "roi": np.ones((2, 11, 12))}
    expected = local_potts_value(blobs["data"], blobs["prob"], **options)
    assert net.blobs["potts"].data.item() == pytest.approx(expected, rel=1e-5)
    gradient = local_potts_loss(blobs["data"], blobs["prob"], **options).gradient(0.1)
    np.testing.assert_allclose(net.blobs["scaled"].diff, gradient, rtol=1e-6)


def test_labels_and_region(make_net):
    blobs = batch()
    labels = np.full((2, 1, 11, 12), 7, np.float32)
    labels[0, 0, 4, 4], labels[0, 0, 6, 6] = 2, 0
    roi = (np.random.RandomState(0).rand(2, 1, 11, 12) > 0.2).astype(np.float32)
    roi[0, 0, 4, 4] = roi[0, 0, 6, 6] = 1
    net = make_net({**blobs, "label": labels, "roi": roi}, "{classes: labelled, ignore_label: 7, radius: 2}")
    net.forward()
    net.backward()
    options = {"classes": "labelled", "ignore_label": 7, "radius": 2, "labels": labels[:, 0], "roi": roi[:, 0]}
    expected = local_potts_value(blobs["data"], blobs["prob"], **options)
    assert net.blobs["potts"].data.item() == pytest.approx(expected, rel=1e-5)
    found = net.blobs["scaled"].diff
    assert found[0, [0, 2]].any() and not found[0, 1].any() and not found[1].any()
    net.blobs["label"].data[1, 0, 2, 3] = 4
    with pytest.raises(ValueError, match=r"image 1 of the batch: bottom 2 \(label\) must be whole numbers from 0 to 2"):
        net.forward()


def test_reshape_between_iterations(make_net):
    net = make_net(batch(), "radius: 2")
    for n, height, width in [(1, 9, 20), (3, 4, 5), (1, 1, 1), (2, 11, 12)]:
        image = np.array([smooth_image(height, width, seed=seed) for seed in range(n)])
        score = probabilities(n, 3, height, width)
        net.blobs["data"].reshape(*image.shape)
        net.blobs["prob"].reshape(*score.shape)
        net.blobs["data"].data[...], net.blobs["prob"].data[...] = image, score
        net.forward()
        net.backward()
        value, gradient = local_potts_loss(image, score, radius=2)
        assert net.blobs["potts"].data.item() == pytest.approx(value, rel=1e-6)
        np.testing.assert_allclose(net.blobs["scaled"].diff, gradient, rtol=1e-6)


@pytest.mark.parametrize(
    "param_str, message",
    [
        ("radius: 0", "radius must be int >= 1, found 0"),
        ("relaxation: cubic", "relaxation must be one of bilinear, quadratic, absolute"),
        ("normalisation: VALID", "unknown parameter 'normalisation', did you mean 'normalization'"),
        ("contrast: own", "contrast must be one of fixed, image"),
    ],
)
def test_parameters_are_checked(make_net, param_str, message):
    with pytest.raises(ValueError, match=message):
        make_net(batch(), param_str)


def test_classes_that_want_labels(make_net):
    net = make_net(batch(), "classes: labelled")
    with pytest.raises(ValueError, match=r"bottom 2 \(label\).*must be given where classes is labelled"):
        net.forward()


@pytest.mark.parametrize("blob, place", [("data", r"0 \(image\)"), ("prob", r"1 \(segmentation\)")])
def test_non_finite_blobs_name_the_image_and_the_net_survives(make_net, blob, place):
    net = make_net(batch())
    good = net.blobs[blob].data[1, 0, 2, 5].copy()
    net.blobs[blob].data[1, 0, 2, 5] = np.nan
    with pytest.raises(ValueError, match=rf"LocalPottsLoss: image 1 of the batch: bottom {place} must be finite"):
        net.forward()
    net.blobs[blob].data[1, 0, 2, 5] = good
    net.forward()
    assert net.blobs["potts"].data.item() > 0


SOLVER = """
train_net: "{net}"
base_lr: 0.1 momentum: 0.9 lr_policy: "fixed" random_seed: 5 display: 0 max_iter: 20 snapshot_prefix: "{prefix}"
"""
TRAIN_NET = """
layer {{ name: "conv" type: "Convolution" bottom: "data" top: "score" convolution_param {{ num_output: 3
  kernel_size: 3 pad: 1 weight_filler {{ type: "gaussian" std: 0.01 }} }} }}
layer {{ name: "prob" type: "Softmax" bottom: "score" top: "prob" }}
layer {{ name: "ce" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "ce"
  loss_param {{ ignore_label: 255 }} }}
"""


@pytest.mark.parametrize("relaxation", ["bilinear", "quadratic", "absolute"])
def test_solver_learns_from_the_loss(tmp_path, relaxation):
    text = input_layer("data", (2, 3, 14, 15)) + input_layer("label", (2, 1, 14, 15)) + TRAIN_NET.format()
    options = f"{{radius: 2, rgb_std: 0.5, relaxation: {relaxation}}}"
    losses = []
    for weight in ("loss_weight: 3", ""):
        (tmp_path / "train.prototxt").write_text(text + loss_layer(["data", "prob"], options, weight))
        (tmp_path / "solver.prototxt").write_text(SOLVER.format(net=tmp_path / "train.prototxt", prefix=tmp_path / "s"))
        solver = caffe.SGDSolver(str(tmp_path / "solver.prototxt"))
        solver.net.blobs["data"].data[...] = np.array([smooth_image(14, 15, seed=n) for n in range(2)]) / 50
        labels = np.full((2, 1, 14, 15), 255)
        labels[:, 0, 2, 2:9], labels[:, 0, 11, 2:9] = 0, 1
        solver.net.blobs["label"].data[...] = labels
        solver.step(20)
        solver.net.forward()
        losses.append(solver.net.blobs["potts"].data.item())
    assert losses[0] < 0.9 * losses[1]
