"""SizeConstraintLoss inside real Caffe nets."""

import numpy as np
import pytest
from helpers.images import probabilities

from rloss_caffe import size_constraint_loss

caffe = pytest.importorskip("caffe", reason="the layers need pycaffe")


def net_text(shapes, param_str, weight="loss_weight: 0.01", flags="propagate_down: true"):
    text = ""
    for name, shape in shapes.items():
        dims = " ".join(f"dim: {size}" for size in shape)
        text += f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ {dims} }} }} }}\n'
    text += 'layer { name: "prob" type: "Scale" bottom: "score" top: "prob" }\n'
    bottoms = " ".join(f'bottom: "{name}"' for name in ["prob", *list(shapes)[1:]])
    flags += " propagate_down: false" * (len(shapes) - 1)
    return text + (
        f'layer {{ name: "size" type: "Python" {bottoms} top: "size" {weight} {flags} python_param {{ '
        f'module: "rloss_caffe.layers" layer: "SizeConstraintLoss" param_str: "{param_str}" }} }}\n'
    )


@pytest.fixture
def make_net(tmp_path):
    def make(*arguments, **options):
        (tmp_path / "net.prototxt").write_text(net_text(*arguments, **options))
        return caffe.Net(str(tmp_path / "net.prototxt"), caffe.TRAIN)

    return make


LABELS = np.array([[[0, 255, 2]], [[255, 255, 255]]], np.float32)[:, np.newaxis]


def maps(kind, score):
    roi = np.ones((len(score), 1, *score.shape[2:]), np.float32)
    roi[:, :, :2] = 0
    return {"": {}, "label": {"label": LABELS}, "label and roi": {"label": LABELS, "roi": roi}}[kind]


@pytest.mark.parametrize("kind", ["", "label", "label and roi"])
@pytest.mark.parametrize("penalty", ["quadratic", "log_barrier"])
def test_value_and_gradient_are_the_functions(make_net, kind, penalty):
    score = probabilities(2, 4, 6, 7)
    given = maps(kind, score)
    shapes = {"score": score.shape, **{name: each.shape for name, each in given.items()}}
    net = make_net(shapes, f"{{lower: [1, 2, -1, 9], upper: 9, penalty: {penalty}, t: 3}}")
    net.blobs["score"].data[...] = score
    for name, each in given.items():
        net.blobs[name].data[...] = each
    net.forward()
    net.backward()
    expected = size_constraint_loss(
        score,
        [1, 2, -1, 9],
        9,
        penalty=penalty,
        t=3,
        labels=given.get("label"),
        roi=given["roi"][:, 0] if "roi" in given else None,
    )
    assert net.blobs["size"].data.shape == (1, 1, 1, 1)
    assert net.blobs["size"].data.item() == pytest.approx(expected.value, rel=1e-6)
    assert np.abs(expected.gradient()).max() > 0
    np.testing.assert_allclose(net.blobs["prob"].diff, expected.gradient(np.float32(0.01)), rtol=1e-6, atol=1e-12)


def test_finite_differences_in_a_net(make_net):
    score = probabilities(2, 4, 6, 7)
    net = make_net({"score": score.shape, "label": LABELS.shape}, "{upper: 0.2, unit: FRACTION}", "loss_weight: 1")
    net.blobs["score"].data[...], net.blobs["label"].data[...] = score, LABELS
    net.forward()
    net.backward()
    gradient = net.blobs["prob"].diff.copy()
    for seed in range(4):
        direction = np.random.RandomState(seed).randn(*score.shape).astype(np.float32)
        values = []
        for step in (0.05, -0.05):
            net.blobs["score"].data[...] = score + np.float32(step) * direction
            net.forward()
            values.append(float(net.blobs["size"].data.item()))
        expected = (values[0] - values[1]) / 0.1
        assert (gradient * direction).sum() == pytest.approx(expected, rel=2e-3, abs=1e-3)


def test_sizes_may_change(make_net):
    net = make_net({"score": (1, 3, 4, 5)}, "upper: 0.1\\nunit: FRACTION")
    for shape in ((2, 3, 7, 8), (1, 3, 2, 2), (1, 3, 4, 5)):
        score = probabilities(*shape)
        net.blobs["score"].reshape(*shape)
        net.blobs["score"].data[...] = score
        net.forward()
        net.backward()
        expected = size_constraint_loss(score, upper=0.1, unit="FRACTION")
        assert net.blobs["size"].data.item() == pytest.approx(expected.value, rel=1e-6)
        np.testing.assert_allclose(net.blobs["prob"].diff, expected.gradient(np.float32(0.01)), rtol=1e-6)


@pytest.mark.parametrize(
    "shapes, param_str, message",
    [
        ({"score": (1, 3, 4, 5)}, "", "SizeConstraintLoss: needs lower or upper, or labels with tags, found neither"),
        ({"score": (1, 3, 4, 5), "label": (1, 1, 4, 5)}, "tags: false", "needs lower or upper, or labels with tags"),
        ({"score": (1, 3, 4, 5)}, "upper: [1, 2]", "upper must have one number, or one for each of 3 classes, found 2"),
        ({"score": (1, 3, 4, 5)}, "{lower: 5, upper: 4}", "lower must not be above upper, found 5 above 4 for class 0"),
        ({"score": (1, 3, 4, 5)}, "upper: [a]", "upper must be list of float >= -1, found"),
        ({"score": (1, 3, 4, 5)}, "uper: 3", "unknown parameter 'uper', did you mean 'upper'"),
        ({"score": (1, 3, 4, 5), "label": (2, 1, 4, 5)}, "", r"bottom 1 \(label\) must have shape \(1, 1, 4, 5\)"),
        ({"score": (1, 3, 4, 5), "label": (1, 1, 4, 5), "roi": (1, 1, 3, 5)}, "", r"bottom 2 \(roi\) must have shape"),
    ],
)
def test_mistakes_are_told_when_the_net_is_made(make_net, shapes, param_str, message):
    with pytest.raises(ValueError, match=message):
        make_net(shapes, param_str)


def test_bad_blobs_are_told_and_the_net_survives(make_net):
    score = probabilities(2, 3, 4, 5)
    net = make_net({"score": score.shape, "label": (2, 1, 4, 5)}, "")
    net.blobs["score"].data[...] = score
    net.blobs["label"].data[1, 0, 2, 3] = 3
    with pytest.raises(ValueError, match=r"image 1 of the batch: bottom 1 \(label\) must be whole numbers from 0 to 2"):
        net.forward()
    net.blobs["label"].data[1, 0, 2, 3] = 255
    net.blobs["score"].data[1, 2, 3, 4] = np.nan
    with pytest.raises(ValueError, match=r"image 1 of the batch: bottom 0 \(segmentation\) must be finite, found nan"):
        net.forward()
    net.blobs["score"].data[...] = score
    net.forward()
    assert net.blobs["size"].data.item() > 0


def test_the_gradient_of_the_labels_is_refused(make_net):
    net = make_net({"score": (1, 3, 4, 5), "label": (1, 1, 4, 5)}, "", flags="propagate_down: false")
    assert not net.blobs["prob"].diff.any()
    net.forward()
    net.backward()
    assert not net.blobs["prob"].diff.any()


def test_a_solver_brings_a_class_to_its_size(tmp_path):
    net = """
layer { name: "one" type: "DummyData" top: "one" dummy_data_param { shape { dim: 1 dim: 1 dim: 8 dim: 9 }
  data_filler { type: "constant" value: 1 } } }
layer { name: "score" type: "Convolution" bottom: "one" top: "score"
  convolution_param { num_output: 2 kernel_size: 1 } }
layer { name: "prob" type: "Softmax" bottom: "score" top: "prob" }
layer { name: "size" type: "Python" bottom: "prob" top: "size" loss_weight: 1 python_param {
  module: "rloss_caffe.layers" layer: "SizeConstraintLoss"
  param_str: "{lower: [0.2, -1], upper: [0.3, -1], unit: FRACTION, normalization: FRACTION}" } }
"""
    (tmp_path / "net.prototxt").write_text(net)
    (tmp_path / "solver.prototxt").write_text(
        f'train_net: "{tmp_path}/net.prototxt" base_lr: 1 lr_policy: "fixed" display: 0 random_seed: 1\n'
    )
    solver = caffe.SGDSolver(str(tmp_path / "solver.prototxt"))
    solver.step(1)
    assert solver.net.blobs["prob"].data[0, 0].mean() == pytest.approx(0.5)
    solver.step(300)
    solver.net.forward()
    assert 0.295 < solver.net.blobs["prob"].data[0, 0].mean() < 0.31
