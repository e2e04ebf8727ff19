"""NormalizedCutLoss inside real Caffe nets and a solver."""

import numpy as np
import pytest
from helpers.loss_layers import inputs, make_net

from rloss_caffe import normalized_cut_loss

caffe = pytest.importorskip("caffe", reason="the layers need pycaffe")

XY, RGB = 12, 25
BANDWIDTHS = "{bi_xy_std: 12, bi_rgb_std: 25}"


@pytest.mark.parametrize("extra", [(), ("label",), ("label", "roi")])
def test_the_net_has_the_function_s_value_and_gradient(tmp_path, extra):
    net, given = make_net(tmp_path, "NormalizedCutLoss", ("data", "segmentation", *extra), BANDWIDTHS), inputs()
    for name, blob in net.blobs.items():
        if name in given:
            blob.data[...] = given[name]
    net.forward()
    net.backward()
    options = {"labels": given["label"] if extra else None, "roi": given["roi"] if "roi" in extra else None}
    expected = normalized_cut_loss(given["data"], given["score"], XY, RGB, **options)
    assert net.blobs["loss"].data.item() == pytest.approx(expected.value, rel=1e-6)
    np.testing.assert_allclose(net.blobs["segmentation"].diff, expected.gradient(0.5), rtol=1e-6)
    if extra:
        assert not net.blobs["segmentation"].diff[1, 1].any()  # a class that its labels do not name


def test_finite_differences_through_the_net(tmp_path):
    net = make_net(
        tmp_path,
        "NormalizedCutLoss",
        ("data", "segmentation", "label"),
        "{bi_xy_std: 12, bi_rgb_std: 25, exact_gradient: true}",
    )
    given = inputs()
    for name in ("data", "score", "label"):
        net.blobs[name].data[...] = given[name]
    net.forward()
    net.backward()
    gradient = net.blobs["segmentation"].diff.astype(float).copy()
    for seed in range(4):
        direction = np.random.RandomState(seed).randn(*given["score"].shape).astype(np.float32)
        values = []
        for step in (0.005, -0.005):
            net.blobs["score"].data[...] = given["score"] + np.float32(step) * direction
            net.forward()
            values.append(0.5 * net.blobs["loss"].data.item() / 0.01)
        scale = np.linalg.norm(gradient) * np.linalg.norm(direction) / np.sqrt(direction.size)
        assert abs(values[0] - values[1] - (gradient * direction).sum()) / scale < 1e-3


def test_bad_labels_are_told_in_the_layer_s_words_and_the_net_survives(tmp_path):
    net, given = make_net(tmp_path, "NormalizedCutLoss", ("data", "segmentation", "label"), BANDWIDTHS), inputs()
    for name in ("data", "score", "label"):
        net.blobs[name].data[...] = given[name]
    net.blobs["label"].data[1, 0, 3, 4] = 3
    message = (
        r"NormalizedCutLoss: image 1 of the batch: bottom 2 \(label\) must be whole numbers from 0 to 2.*found 3 in"
    )
    with pytest.raises(ValueError, match=message):
        net.forward()
    net.blobs["label"].data[1, 0, 3, 4] = 255
    net.forward()
    assert 0 < net.blobs["loss"].data.item() < 2


def test_labelled_classes_need_labels(tmp_path):
    net, given = make_net(tmp_path, "NormalizedCutLoss", ("data", "segmentation"), "classes: labelled"), inputs()
    net.blobs["data"].data[...] = given["data"]
    with pytest.raises(ValueError, match=r"bottom 2 \(label\) must be given where classes is labelled"):
        net.forward()


NET = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 12 dim: 13 } } }
layer { name: "label" type: "Input" top: "label" input_param { shape { dim: 2 dim: 1 dim: 12 dim: 13 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "score"
  convolution_param { num_output: 3 kernel_size: 3 pad: 1 weight_filler { type: "gaussian" std: 0.01 } } }
layer { name: "prob" type: "Softmax" bottom: "score" top: "prob" }
layer { name: "cut" type: "Python" bottom: "data" bottom: "prob" bottom: "label" top: "cut" loss_weight: 1
  propagate_down: false propagate_down: true propagate_down: false
  python_param { module: "rloss_caffe.layers" layer: "NormalizedCutLoss"
    param_str: "{bi_xy_std: 12, bi_rgb_std: 0.3}" } }
"""


def test_a_solver_lowers_the_loss(tmp_path):
    (tmp_path / "net.prototxt").write_text(NET)
    (tmp_path / "solver.prototxt").write_text(
        f'train_net: "{tmp_path}/net.prototxt" base_lr: 0.1 lr_policy: "fixed" random_seed: 3 display: 0 max_iter: 12\n'
        f'snapshot_prefix: "{tmp_path}/x"'
    )
    solver, given = caffe.SGDSolver(str(tmp_path / "solver.prototxt")), inputs()
    solver.net.blobs["data"].data[...] = given["data"] / 100
    solver.net.blobs["label"].data[...] = given["label"]
    solver.step(1)
    first = solver.net.blobs["cut"].data.item()
    solver.step(11)
    assert solver.net.blobs["cut"].data.item() < first - 0.01
