"""DenseCRFLoss inside real Caffe nets and solvers."""

import threading

import numpy as np
import pytest
from helpers.images import REFERENCE_CASES, probabilities, smooth_image
from helpers.paths import shared_path

from rloss_caffe import densecrf_loss

caffe = pytest.importorskip("caffe", reason="the layers need pycaffe")


def input_layer(name, shape):
    dims = " ".join(f"dim: {size}" for size in shape)
    return f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ {dims} }} }} }}\n'


def loss_layer(bottoms, name="crf", param_str="bi_xy_std: 12\\nbi_rgb_std: 25", weight="loss_weight: 1", flags=None):
    bottoms = " ".join(f'bottom: "{bottom}"' for bottom in bottoms)
    flags = "propagate_down: false propagate_down: true" if flags is None else flags
    return (
        f'layer {{ name: "{name}" type: "Python" {bottoms} top: "{name}" {flags} {weight} python_param {{\n'
        f'  module: "rloss_caffe.layers" layer: "DenseCRFLoss" param_str: "{param_str}" }} }}\n'
    )


def scaled(bottom="score", top="segmentation"):
    """A layer with a learned weight of 1 below the loss, so that Caffe asks for its gradient."""
    return f'layer {{ name: "{top}" type: "Scale" bottom: "{bottom}" top: "{top}" }}\n'


@pytest.fixture
def make_net(tmp_path):
    def make(text, phase=None):
        path = tmp_path / "net.prototxt"
        path.write_text(text)
        return caffe.Net(str(path), caffe.TRAIN if phase is None else phase)

    return make


def standard_net(make_net, image, score, phase=None, **options):
    text = input_layer("data", image.shape) + input_layer("score", score.shape) + scaled()
    net = make_net(text + loss_layer(["data", "segmentation"], **options), phase)
    net.blobs["data"].data[...] = image
    net.blobs["score"].data[...] = score
    return net


@pytest.mark.parametrize("case", REFERENCE_CASES)
def test_reference(make_net, case):
    reference = np.load(shared_path("reference/densecrf_loss.npz"))
    image, segmentation, xy, rgb, loss, expected = (
        reference[f"{case}/{key}"] for key in ("image", "segmentation", "bi_xy_std", "bi_rgb_std", "loss", "gradient")
    )
    net = standard_net(make_net, image, segmentation, param_str=f"bi_xy_std: {xy}\\nbi_rgb_std: {rgb}")
    net.forward()
    net.backward()
    assert net.blobs["crf"].data.shape == (1, 1, 1, 1)
    assert net.blobs["crf"].data.item() == pytest.approx(float(loss), rel=1e-6)
    found = net.blobs["segmentation"].diff
    assert np.linalg.norm(found - expected) <= 1e-6 * np.linalg.norm(expected)
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("phase", [0, 1])
def test_both_phases(make_net, phase):
    image, score = smooth_image(12, 13)[None], probabilities(1, 3, 12, 13)
    net = standard_net(make_net, image, score, phase)
    net.forward()
    assert net.blobs["crf"].data.item() == pytest.approx(densecrf_loss(image, score, 12, 25).value, rel=1e-6)


@pytest.mark.parametrize("weight, factor", [("loss_weight: 1e-8", 9.99999994e-09), ("loss_weight: 2", 2), ("", 0)])
def test_loss_weight_scales_the_gradient_and_is_never_implicit(make_net, weight, factor):
    image, score = smooth_image(12, 13)[None], probabilities(1, 3, 12, 13)
    net = standard_net(make_net, image, score, weight=weight)
    net.forward()
    net.backward()
    expected = factor * densecrf_loss(image, score, 12, 25).gradient()
    np.testing.assert_allclose(net.blobs["segmentation"].diff, expected, rtol=1e-6)


def random_direction(score, seed):
    return np.random.RandomState(seed).randn(*score.shape).astype(np.float32)


def move_the_border(score, seed):
    """Give a band of pixels from one class to another, as training does."""
    direction = np.zeros(score.shape, np.float32)
    direction[:, 0, : 6 + seed], direction[:, 1, : 6 + seed] = 0.2, -0.2
    return direction


def finite_difference_error(make_net, param_str, make_direction):
    """The largest error of the net's gradient against central differences, exact for a quadratic loss."""
    image, score = smooth_image(48, 45)[None], probabilities(1, 3, 48, 45)
    net = standard_net(make_net, image, score, param_str=param_str)
    net.forward()
    net.backward()
    gradient = net.blobs["segmentation"].diff.astype(float).copy()
    errors = []
    for seed in range(4):
        direction = make_direction(score, seed)
        values = []
        for step in (0.5, -0.5):
            net.blobs["score"].data[...] = score + np.float32(step) * direction
            net.forward()
            values.append(float(net.blobs["crf"].data.item()))
        scale = np.linalg.norm(gradient) * np.linalg.norm(direction) / np.sqrt(direction.size)
        errors.append(abs(values[0] - values[1] - (gradient * direction).sum()) / scale)
    return max(errors)


@pytest.mark.parametrize("make_direction", [random_direction, move_the_border])
def test_finite_differences_of_the_exact_gradient(make_net, make_direction):
    param_str = "{bi_xy_std: 12, bi_rgb_std: 25, exact_gradient: true}"
    assert finite_difference_error(make_net, param_str, make_direction) < 1e-4


@pytest.mark.parametrize("make_direction, tolerance", [(random_direction, 0.15), (move_the_border, 0.03)])
def test_finite_differences_of_the_compatible_gradient(make_net, make_direction, tolerance):
    param_str = "{bi_xy_std: 12, bi_rgb_std: 25}"
    assert finite_difference_error(make_net, param_str, make_direction) < tolerance


def test_reshape_between_iterations(make_net):
    net = standard_net(make_net, smooth_image(12, 13)[None], probabilities(1, 3, 12, 13))
    net.forward()
    for n, k, height, width in [(3, 3, 9, 20), (2, 3, 21, 5), (1, 3, 12, 13)]:
        image = np.array([smooth_image(height, width, seed=i) for i in range(n)])
        score = probabilities(n, k, height, width)
        net.blobs["data"].reshape(*image.shape)
        net.blobs["score"].reshape(*score.shape)
        net.blobs["data"].data[...] = image
        net.blobs["score"].data[...] = score
        net.forward()
        net.backward()
        value, gradient = densecrf_loss(image, score, 12, 25)
        assert net.blobs["crf"].data.item() == pytest.approx(value, rel=1e-6)
        np.testing.assert_allclose(net.blobs["segmentation"].diff, gradient, rtol=1e-6)


def test_number_of_classes_may_change(make_net):
    image = smooth_image(8, 9)[None]
    text = input_layer("data", image.shape) + input_layer("segmentation", (1, 3, 8, 9))
    net = make_net(text + loss_layer(["data", "segmentation"], flags=""))
    for classes in (5, 1, 40):
        segmentation = probabilities(1, classes, 8, 9)
        net.blobs["segmentation"].reshape(*segmentation.shape)
        net.blobs["data"].data[...] = image
        net.blobs["segmentation"].data[...] = segmentation
        net.forward()
        assert net.blobs["crf"].data.item() == pytest.approx(densecrf_loss(image, segmentation, 12, 25).value, rel=1e-6)


def test_twice_in_one_net_with_different_bandwidths(make_net):
    image, score = smooth_image(12, 13)[None], probabilities(1, 3, 12, 13)
    text = input_layer("data", image.shape) + input_layer("score", score.shape) + scaled()
    for name, xy, rgb in (("near", 4, 10), ("far", 20, 40)):
        text += loss_layer(["data", "segmentation"], name, f"bi_xy_std: {xy}\\nbi_rgb_std: {rgb}")
    net = make_net(text)
    net.blobs["data"].data[...] = image
    net.blobs["score"].data[...] = score
    net.forward()
    net.backward()
    near, far = densecrf_loss(image, score, 4, 10), densecrf_loss(image, score, 20, 40)
    assert net.blobs["near"].data.item() == pytest.approx(near.value, rel=1e-6)
    assert net.blobs["far"].data.item() == pytest.approx(far.value, rel=1e-6)
    np.testing.assert_allclose(net.blobs["segmentation"].diff, near.gradient() + far.gradient(), rtol=1e-5)


def test_two_nets_in_two_threads(make_net):
    cases = []
    for seed in range(2):
        image, score = smooth_image(70, 80, seed=seed)[None], probabilities(1, 21, 70, 80, seed)
        value, gradient = densecrf_loss(image, score, 12, 25)
        cases.append((standard_net(make_net, image, score), value, gradient))
    failures = []

    def work(net, value, gradient):
        for _ in range(15):
            net.forward()
            net.backward()
            if net.blobs["crf"].data.item() != np.float32(value):
                failures.append("value")
            if not np.allclose(net.blobs["segmentation"].diff, gradient, rtol=1e-6):
                failures.append("gradient")

    workers = [threading.Thread(target=work, args=case) for case in cases]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not failures


def test_single_bottom_and_other_counts_are_refused(make_net):
    text = input_layer("data", (1, 3, 4, 4))
    with pytest.raises(ValueError, match=r"expected 2 to 4 bottom blobs \(image, segmentation, .*found 1"):
        make_net(text + loss_layer(["data"], flags=""))


@pytest.mark.parametrize("shape", [(2, 3, 4, 4), (1, 3, 5, 4), (1, 3, 4, 7)])
def test_shapes_are_checked(make_net, shape):
    text = input_layer("data", (1, 3, 4, 4)) + input_layer("score", shape)
    with pytest.raises(ValueError, match=r"bottom 0 \(image\) and bottom 1 \(segmentation\) must agree"):
        make_net(text + loss_layer(["data", "score"], flags=""))


def test_axes_are_checked(make_net):
    text = input_layer("data", (1, 3, 4, 4)) + input_layer("score", (1, 3, 4))
    with pytest.raises(ValueError, match=r"bottom 1 \(segmentation\) must have shape.*found \(1, 3, 4\)"):
        make_net(text + loss_layer(["data", "score"], flags=""))


@pytest.mark.parametrize("blob", ["data", "score"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_non_finite_blobs_name_the_image_and_the_net_survives(make_net, blob, bad):
    image = np.array([smooth_image(6, 7), smooth_image(6, 7)])
    score = probabilities(2, 3, 6, 7)
    net = standard_net(make_net, image, score)
    good = net.blobs[blob].data[1, 0, 2, 2].copy()
    net.blobs[blob].data[1, 0, 2, 2] = bad
    place = {"data": r"0 \(image\)", "score": r"1 \(segmentation\)"}[blob]
    with pytest.raises(
        ValueError, match=rf"DenseCRFLoss: image 1 of the batch: bottom {place} must be finite, found (nan|inf) at"
    ):
        net.forward()
    net.blobs[blob].data[1, 0, 2, 2] = good
    net.forward()
    assert net.blobs["crf"].data.item() < 0


@pytest.mark.parametrize("how", ["flags", "force_backward"])
def test_gradient_of_the_image_is_refused(make_net, how):
    image, score = smooth_image(6, 7)[None], probabilities(1, 3, 6, 7)
    text = input_layer("input", image.shape) + input_layer("score", score.shape) + scaled()
    text += scaled("input", "data")
    flags = "propagate_down: true propagate_down: true" if how == "flags" else None
    text += loss_layer(["data", "segmentation"], flags=flags)
    net = make_net(("force_backward: true\n" if how == "force_backward" else "") + text)
    net.forward()
    with pytest.raises(ValueError, match="cannot backpropagate to the image.*force_backward"):
        net.backward()


@pytest.mark.parametrize(
    "param_str, message",
    [
        ("bi_xy: 3", "unknown parameter 'bi_xy', did you mean 'bi_xy_std'"),
        ("bi_xy_std: 0", "bi_xy_std must be float > 0, found 0"),
        ("bi_rgb_std: wide", "bi_rgb_std must be float > 0, found 'wide'"),
        ("exact_gradient: 1", "exact_gradient must be bool"),
        ("[1, 2]", "expected 'name: value' pairs"),
    ],
)
def test_parameters_are_checked(make_net, param_str, message):
    text = input_layer("data", (1, 3, 4, 4)) + input_layer("score", (1, 3, 4, 4))
    with pytest.raises(ValueError, match=message) as caught:
        make_net(text + loss_layer(["data", "score"], param_str=param_str, flags=""))
    assert "bi_xy_std (float > 0, default 15)" in str(caught.value)


@pytest.mark.parametrize("param_str", ["", "{'bi_xy_std': 15, 'bi_rgb_std': 40}", "bi_xy_std: 1.5e1"])
def test_default_bandwidths_and_dialects_of_param_str(make_net, param_str):
    image, score = smooth_image(12, 13)[None], probabilities(1, 3, 12, 13)
    net = standard_net(make_net, image, score, param_str=param_str)
    net.forward()
    assert net.blobs["crf"].data.item() == pytest.approx(densecrf_loss(image, score).value, rel=1e-6)


def test_a_caffe_without_phase():
    """Forks whose Python layer has no ``phase``."""
    from rloss_caffe.layers.base import TRAIN, Layer

    class WithoutPhase(Layer):
        def __init__(self):
            pass

    assert not hasattr(WithoutPhase(), "phase")
    assert Layer.get_phase(WithoutPhase()) == TRAIN


TRAIN_NET = """
{inputs}
layer {{ name: "conv" type: "Convolution" bottom: "data" top: "score"
  convolution_param {{ num_output: 3 kernel_size: 3 pad: 1
    weight_filler {{ type: "gaussian" std: 0.01 }} }} }}
layer {{ name: "prob" type: "Softmax" bottom: "score" top: "prob" }}
layer {{ name: "ce" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "ce"
  loss_param {{ ignore_label: 255 }} }}
{crf}
"""

SOLVER = """
train_net: "{net}"
base_lr: 0.01 momentum: 0.9 lr_policy: "step" gamma: 0.5 stepsize: 3
random_seed: 5 display: 0 iter_size: {iter_size} max_iter: 12
snapshot_prefix: "{prefix}"
"""


def make_solver(tmp_path, iter_size=1, weight="loss_weight: 1e-4", batch=2):
    inputs = input_layer("data", (batch, 3, 14, 15)) + input_layer("label", (batch, 1, 14, 15))
    crf = loss_layer(["data", "prob"], weight=weight)
    (tmp_path / "train.prototxt").write_text(TRAIN_NET.format(inputs=inputs, crf=crf))
    solver_path = tmp_path / "solver.prototxt"
    solver_path.write_text(
        SOLVER.format(net=tmp_path / "train.prototxt", iter_size=iter_size, prefix=tmp_path / "snap")
    )
    solver = caffe.SGDSolver(str(solver_path))
    images = np.array([smooth_image(14, 15, seed=n) for n in range(batch)]) / 100
    solver.net.blobs["data"].data[...] = images
    labels = np.full((batch, 1, 14, 15), 255)
    labels[:, 0, 2, 2:9], labels[:, 0, 11, 2:9] = 0, 1
    solver.net.blobs["label"].data[...] = labels
    return solver


def weights(solver):
    return np.concatenate([blob.data.ravel() for blob in solver.net.params["conv"]])


def test_solver_learns_from_the_loss(tmp_path):
    solver = make_solver(tmp_path, weight="loss_weight: 1e-3")
    solver.step(1)
    first = solver.net.blobs["crf"].data.item()
    solver.step(11)
    assert solver.net.blobs["crf"].data.item() < first
    other = make_solver(tmp_path, weight="")
    other.step(12)
    assert np.abs(weights(other) - weights(solver)).max() > 1e-5


def test_iter_size_adds_up_to_the_batch(tmp_path):
    """Twice the same half batch, each divided by iter_size, is one step on that half batch."""
    solvers = [make_solver(tmp_path, iter_size, batch=1) for iter_size in (1, 2)]
    for solver in solvers:
        solver.step(4)
    np.testing.assert_allclose(weights(solvers[0]), weights(solvers[1]), rtol=1e-5, atol=1e-7)


def test_snapshot_and_restore(tmp_path):
    straight = make_solver(tmp_path)
    straight.step(8)
    halfway = make_solver(tmp_path)
    halfway.step(4)
    halfway.snapshot()
    resumed = make_solver(tmp_path)
    resumed.restore(str(tmp_path / "snap_iter_4.solverstate"))
    assert resumed.iter == 4
    resumed.step(4)
    np.testing.assert_array_equal(weights(resumed), weights(straight))
    assert len(resumed.net.layers[-1].blobs) == 0  # no learned parameters: weights of other nets load
