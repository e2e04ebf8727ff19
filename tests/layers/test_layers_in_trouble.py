"""What must not end a process nor leave a stale number: backward out of turn, sizes and numbers out of range."""

import numpy as np
import pytest
from helpers.images import probabilities, smooth_image

from rloss_caffe import densecrf_loss, layers
from rloss_caffe.layers.param_str import ParameterError, read_parameters
from rloss_caffe.numerics.interpolation import interpolate_adjoint

caffe = pytest.importorskip("caffe", reason="the layers need pycaffe")


def net_text(layer, shapes, param_str="", head=""):
    """Each input goes through a Scale layer, so that Caffe asks for its gradient."""
    text = head
    for name, shape in shapes.items():
        dims = " ".join(f"dim: {size}" for size in shape)
        text += f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ {dims} }} }} }}\n'
        text += f'layer {{ name: "{name}_scaled" type: "Scale" bottom: "{name}" top: "{name}_scaled" }}\n'
    bottoms = " ".join(f'bottom: "{name}_scaled"' for name in shapes)
    flags = "propagate_down: false propagate_down: true" if layer == "DenseCRFLoss" else ""
    return text + (
        f'layer {{ name: "top" type: "Python" {bottoms} top: "top" loss_weight: 1 {flags} python_param {{ '
        f'module: "rloss_caffe.layers" layer: "{layer}" param_str: "{param_str}" }} }}\n'
    )


@pytest.fixture
def make_net(tmp_path):
    def make(*arguments, **options):
        (tmp_path / "net.prototxt").write_text(net_text(*arguments, **options))
        return caffe.Net(str(tmp_path / "net.prototxt"), caffe.TRAIN)

    return make


@pytest.fixture
def loss_net(make_net):
    net = make_net("DenseCRFLoss", {"data": (1, 3, 8, 9), "score": (1, 2, 8, 9)}, "bi_xy_std: 5")
    feed(net, 8, 9)
    return net


def feed(net, height, width):
    net.blobs["data"].reshape(1, 3, height, width)
    net.blobs["score"].reshape(1, 2, height, width)
    net.blobs["data"].data[...] = smooth_image(height, width)
    net.blobs["score"].data[...] = probabilities(1, 2, height, width)


def assert_no_gradient(net):
    net.blobs["score_scaled"].diff[...] = 7
    with pytest.raises(ValueError, match=r"DenseCRFLoss: has no gradient for bottom 1 \(segmentation\): .*forward"):
        net.backward()
    assert (net.blobs["score_scaled"].diff == 7).all()


def assert_right_gradient(net):
    net.forward()
    net.backward()
    expected = densecrf_loss(net.blobs["data"].data, net.blobs["score"].data, 5).gradient()
    np.testing.assert_allclose(net.blobs["score_scaled"].diff, expected, rtol=1e-6)


def test_loss_backward_before_any_forward(loss_net):
    assert_no_gradient(loss_net)
    assert_right_gradient(loss_net)


@pytest.mark.parametrize("size", [(20, 30), (4, 5), (9, 8)])
@pytest.mark.parametrize("whole_net", [True, False])
def test_loss_backward_after_reshape(loss_net, size, whole_net):
    assert_right_gradient(loss_net)
    if whole_net:
        feed(loss_net, *size)
        loss_net.reshape()
    else:  # the net does not know of it
        for name in ("data_scaled", "score_scaled"):
            loss_net.blobs[name].reshape(1, loss_net.blobs[name].channels, *size)
    assert_no_gradient(loss_net)
    feed(loss_net, *size)
    assert_right_gradient(loss_net)


def test_loss_backward_after_reshape_there_and_back(loss_net):
    assert_right_gradient(loss_net)
    for size in ((20, 30), (8, 9)):
        feed(loss_net, *size)
        loss_net.reshape()
    assert_no_gradient(loss_net)
    assert_right_gradient(loss_net)


def test_loss_backward_after_a_forward_that_failed(loss_net):
    assert_right_gradient(loss_net)
    loss_net.blobs["score"].data[0, 1, 2, 3] = np.nan
    with pytest.raises(ValueError, match=r"image 0 of the batch: bottom 1 \(segmentation\) must be finite"):
        loss_net.forward()
    assert_no_gradient(loss_net)
    feed(loss_net, 8, 9)
    assert_right_gradient(loss_net)


def test_a_scale_that_is_not_finite(loss_net):
    loss_net.forward()
    loss_net.blobs["top"].diff[...] = np.nan
    with pytest.raises(ValueError, match=r"DenseCRFLoss: top 0 \(loss\), .*scale must be a finite number.*nan"):
        loss_net.backward()


def test_interp_backward_out_of_turn(make_net):
    """Its gradient needs no forward pass, but shapes that the layer has seen."""
    net = make_net("Interp", {"data": (1, 2, 5, 6)}, "zoom_factor: 3")
    for size in ((5, 6), (7, 3)):
        net.blobs["data"].reshape(1, 2, *size)
        net.reshape()
        gradient = np.random.RandomState(0).randn(*net.blobs["top"].data.shape).astype(np.float32)
        net.blobs["top"].diff[...] = gradient
        net._backward(list(net._layer_names).index("top"), list(net._layer_names).index("top"))
        np.testing.assert_array_equal(net.blobs["data_scaled"].diff, interpolate_adjoint(gradient, size))
    for shape in ((1, 2, 3, 7), (1, 2, 70, 30)):
        net.blobs["data_scaled"].reshape(*shape)
        with pytest.raises(ValueError, match=r"Interp: bottom 0 \(values\) was reshaped from \(1, 2, 7, 3\) to"):
            net.backward()


@pytest.mark.parametrize(
    "layer, shapes",
    [
        ("SegAccuracy", {"scores": (1, 3, 4, 5), "label": (1, 1, 4, 5)}),
        ("DenseCRF", {"scores": (1, 3, 4, 5), "data_dim": (1, 1, 1, 2)}),
    ],
)
def test_layers_without_a_backward_pass(make_net, layer, shapes):
    net = make_net(layer, shapes, head="force_backward: true\n")
    with pytest.raises(ValueError, match=f"{layer}: has no backward pass"):
        net.backward()


@pytest.mark.parametrize(
    "param_str",
    [
        "{height: 50000, width: 50000}",
        "{height: 2147483647, width: 2147483647}",
        "zoom_factor: 200000",
        "zoom_factor: 2147483647",
        "{zoom_factor: 1000000, shrink_factor: 2}",
    ],
)
def test_interp_sizes_beyond_caffes(make_net, param_str):
    with pytest.raises(ValueError, match="Interp: .*2147483647"):
        make_net("Interp", {"data": (1, 2, 5, 6)}, param_str)


NUMBERS = {"float": ["1e39", "-1e39", ".nan", ".inf", "-.inf"], "int": ["1e26", "1e30", "-1e26", "1.5", ".nan", ".inf"]}


@pytest.mark.parametrize("layer", layers.__all__)
def test_numbers_that_single_precision_or_32_bits_cannot_hold(layer):
    schema = getattr(layers, layer).PARAMETERS
    for parameter in schema:
        for number in NUMBERS.get(parameter.kind, ()):
            for text in (f"{parameter.name}: {number}", f"{{{parameter.name}: [{number}]}}"):
                with pytest.raises(ParameterError, match=f"{layer} param_str: {parameter.name} must be"):
                    read_parameters(text, schema, layer)


@pytest.mark.parametrize("layer", layers.__all__)
def test_docstrings_list_the_parameters(layer):
    layer = getattr(layers, layer)
    assert layer.PARAMETERS and "{parameters}" not in layer.__doc__
    for parameter in layer.PARAMETERS:
        assert parameter.doc and f"{parameter.name} : {parameter.expectation()}, " in layer.__doc__
