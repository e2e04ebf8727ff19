"""Interpolation and its layer: an obvious twin, scipy, Caffe's bilinear Deconvolution, finite differences, solvers."""

import warnings

import numpy as np
import pytest

from rloss_caffe.numerics.interpolation import interpolate, interpolate_adjoint, interpolated_size

SIZES = [
    ((5, 7), (9, 13)),
    ((9, 13), (5, 4)),
    ((1, 6), (4, 1)),
    ((6, 5), (6, 9)),
    ((41, 21), (321, 161)),
    ((4, 4), (4, 4)),
]


def slow_interpolate(values, size, pad_beg=0, pad_end=0):
    """The formula, one output pixel at a time, in single precision."""
    f = np.float32
    rows, columns = values.shape[-2] + pad_beg + pad_end, values.shape[-1] + pad_beg + pad_end
    values = values[..., -pad_beg : rows - pad_beg, -pad_beg : columns - pad_beg]
    out = np.empty((*values.shape[:-2], *size), np.float32)
    for y in range(size[0]):
        ratio = f(rows - 1) / f(size[0] - 1) if size[0] > 1 else f(0)
        p = f(ratio * f(y))
        i, h1 = int(p), f(p - f(int(p)))
        i2 = i + 1 if i < rows - 1 else i
        for x in range(size[1]):
            ratio = f(columns - 1) / f(size[1] - 1) if size[1] > 1 else f(0)
            p = f(ratio * f(x))
            j, w1 = int(p), f(p - f(int(p)))
            j2 = j + 1 if j < columns - 1 else j
            above = (f(1) - w1) * values[..., i, j] + w1 * values[..., i, j2]
            below = (f(1) - w1) * values[..., i2, j] + w1 * values[..., i2, j2]
            out[..., y, x] = (f(1) - h1) * above + h1 * below
    return out


def random(*shape, seed=0):
    return np.random.RandomState(seed).randn(*shape).astype(np.float32)


@pytest.mark.parametrize("size, output_size", SIZES)
@pytest.mark.parametrize("pad", [(0, 0), (-1, -2)])
def test_bit_for_bit_the_formula(size, output_size, pad):
    size = (size[0] - sum(pad), size[1] - sum(pad))
    values = random(1, 2, *size)
    np.testing.assert_array_equal(interpolate(values, output_size, *pad), slow_interpolate(values, output_size, *pad))


def test_agrees_with_scipy():
    scipy_interpolate = pytest.importorskip("scipy.interpolate")
    values = random(23, 31).astype(np.float64)
    grid = np.meshgrid(np.linspace(0, 22, 67), np.linspace(0, 30, 45), indexing="ij")
    expected = scipy_interpolate.RegularGridInterpolator((np.arange(23), np.arange(31)), values)(np.stack(grid, -1))
    np.testing.assert_allclose(interpolate(values, (67, 45)), expected, atol=2e-5)


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
@pytest.mark.parametrize("size, output_size", SIZES)
@pytest.mark.parametrize("pad", [(0, 0), (-2, -1)])
def test_adjoint(size, output_size, pad, mode):
    """<interpolate(x), y> = <x, adjoint(y)>, and rows and columns that are cropped get exactly 0."""
    size = (size[0] - sum(pad), size[1] - sum(pad))
    x, y = random(2, 3, *size), random(2, 3, *output_size, seed=1)
    out = np.full(x.shape, np.nan, np.float32)
    back = interpolate_adjoint(y, size, *pad, mode=mode, out=out)
    assert back is out
    forward = interpolate(x, output_size, *pad, mode=mode)
    scale = np.linalg.norm(forward) * np.linalg.norm(y)
    assert abs(np.vdot(forward.astype(float), y) - np.vdot(x.astype(float), back)) < 1e-5 * scale
    cropped = np.ones(size, bool)
    cropped[-pad[0] : size[0] + pad[1], -pad[0] : size[1] + pad[1]] = False
    assert not back[..., cropped].any()


def test_threads_do_not_change_the_result():
    from rloss_caffe.numerics import threads

    values, gradient = random(3, 5, 21, 17), random(3, 5, 50, 33)
    try:
        results = []
        for number in (1, 2, 7, 40):
            threads.set_num_threads(number)
            results.append((interpolate(values, (50, 33)), interpolate_adjoint(gradient, (21, 17))))
    finally:
        threads.set_num_threads(None)
    for forward, back in results[1:]:
        np.testing.assert_array_equal(forward, results[0][0])
        np.testing.assert_array_equal(back, results[0][1])


def test_overshoot_at_the_last_sample():
    """500 -> 63: single precision puts the last sample a little beyond the last pixel."""
    values = np.arange(500, dtype=np.float32)[None, :].repeat(2, 0)
    result = interpolate(values, (2, 63))
    assert result[0, -1] == pytest.approx(499)
    assert np.isfinite(result).all()


def test_same_size_is_a_copy_even_of_infinities():
    values = random(1, 1, 6, 6)
    values[0, 0, 3, 3] = np.inf
    np.testing.assert_array_equal(interpolate(values, (4, 4), -1, -1), values[:, :, 1:5, 1:5])


def test_nearest_never_blends():
    labels = np.random.RandomState(0).choice([0, 7, 20, 255], (1, 1, 300, 300)).astype(np.float32)
    assert set(np.unique(interpolate(labels, (38, 38), mode="nearest"))) <= {0, 7, 20, 255}
    position = np.linspace(0, 299, 38)
    expected = labels[0, 0][np.ix_(np.round(position).astype(int), np.round(position).astype(int))]
    np.testing.assert_array_equal(interpolate(labels, (38, 38), mode="nearest")[0, 0], expected)


@pytest.mark.parametrize(
    "size, options, expected",
    [
        ((321, 161), {"shrink_factor": 8}, (41, 21)),
        ((300, 300), {"shrink_factor": 8}, (38, 38)),
        ((41, 21), {"zoom_factor": 8}, (321, 161)),
        ((41, 21), {"zoom_factor": 1}, (41, 21)),
        ((41, 21), {"height": 7, "width": 9}, (7, 9)),
        ((321, 321), {"shrink_factor": 4, "zoom_factor": 3}, (241, 241)),
        ((31, 31), {"shrink_factor": 3, "zoom_factor": 4}, (41, 41)),
        # height and width lose against one factor, and win against both
        ((41, 21), {"zoom_factor": 2, "height": 7, "width": 9}, (81, 41)),
        ((41, 21), {"shrink_factor": 2, "height": 7, "width": 9}, (21, 11)),
        ((41, 21), {"shrink_factor": 1, "zoom_factor": 2, "height": 7, "width": 9}, (7, 9)),
        ((41, 21), {"shrink_factor": 1, "zoom_factor": 2, "height": 7}, (81, 41)),
        ((41, 21), {"zoom_factor": 2, "pad_beg": -1, "pad_end": -2}, (75, 35)),
    ],
)
def test_output_size(size, options, expected):
    assert interpolated_size(size, **options) == expected


@pytest.mark.parametrize(
    "options, message",
    [
        ({}, "size is not given"),
        ({"height": 4}, "width must be given"),
        ({"width": 4}, "height must be given"),
        ({"height": 0, "width": 4}, "height must be a whole number >= 1"),
        ({"zoom_factor": 0}, "zoom_factor must be a whole number >= 1"),
        ({"shrink_factor": -1}, "shrink_factor must be a whole number >= 1"),
        ({"zoom_factor": 2, "pad_beg": 1}, "can only crop"),
        ({"zoom_factor": 2, "pad_beg": -4, "pad_end": -5}, "nothing is left"),
    ],
)
def test_sizes_that_make_no_sense(options, message):
    with pytest.raises(ValueError, match=message):
        interpolated_size((9, 9), **options)


def test_wrong_output_array_and_mode():
    with pytest.raises(ValueError, match="out must be"):
        interpolate(random(2, 4, 4), (8, 8), out=np.empty((2, 8, 9), np.float32))
    with pytest.raises(ValueError, match="mode must be"):
        interpolate(random(2, 4, 4), (8, 8), mode="cubic")


# In real nets


def layer(param_str, bottom="data", top="interp", extra=""):
    return (
        f'layer {{ name: "{top}" type: "Python" bottom: "{bottom}" top: "{top}" {extra} '
        f'python_param {{ module: "rloss_caffe.layers" layer: "Interp" param_str: "{param_str}" }} }}\n'
    )


def input_layer(shape, name="data"):
    dims = " ".join(f"dim: {size}" for size in shape)
    return f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ {dims} }} }} }}\n'


@pytest.fixture
def make_net(tmp_path):
    caffe = pytest.importorskip("caffe", reason="the layers need pycaffe")

    def make(text):
        path = tmp_path / "net.prototxt"
        path.write_text(text)
        return caffe.Net(str(path), caffe.TRAIN)

    return make


@pytest.mark.parametrize("zoom", [2, 3, 8])
def test_deconvolution_of_the_same_zoom(make_net, zoom):
    """Caffe's Deconvolution with a triangular kernel of 2 zoom - 1 is the same map, forward and backward."""
    shape = (2, 3, 8, 9)
    net = make_net(
        "force_backward: true\n"
        + input_layer(shape)
        + input_layer(shape, "data2")
        + layer(f"zoom_factor: {zoom}")
        + 'layer { name: "deconvolution" type: "Deconvolution" bottom: "data2" top: "deconvolution" convolution_param {'
        + f" num_output: 3 group: 3 kernel_size: {2 * zoom - 1} stride: {zoom} pad: {zoom - 1} bias_term: false }} }}\n"
    )
    triangle = 1 - np.abs(np.arange(1 - zoom, zoom)) / zoom
    net.params["deconvolution"][0].data[...] = np.outer(triangle, triangle)
    net.blobs["data"].data[...] = net.blobs["data2"].data[...] = random(*shape)
    net.forward()
    np.testing.assert_allclose(net.blobs["interp"].data, net.blobs["deconvolution"].data, rtol=1e-6, atol=5e-6)
    for name in ("interp", "deconvolution"):
        net.blobs[name].diff[...] = random(*net.blobs[name].data.shape, seed=1)
    net.backward()
    np.testing.assert_allclose(net.blobs["data"].diff, net.blobs["data2"].diff, rtol=1e-5, atol=1e-5)


def test_gradient_by_finite_differences_in_a_net(make_net):
    shape = (1, 2, 6, 5)
    net = make_net("force_backward: true\n" + input_layer(shape) + layer("{zoom_factor: 3, pad_beg: -1}"))
    data, direction = random(*shape), random(1, 2, 13, 10, seed=3)
    net.blobs["data"].data[...] = data
    net.forward()
    net.blobs["data"].diff[...] = 99
    net.blobs["interp"].diff[...] = direction
    net.backward()
    gradient = net.blobs["data"].diff.copy()
    for index in np.ndindex(shape):
        values = []
        for step in (0.5, -0.5):
            net.blobs["data"].data[...] = data
            net.blobs["data"].data[index] += step
            net.forward()
            values.append(np.vdot(net.blobs["interp"].data.astype(float), direction))
        assert gradient[index] == pytest.approx(values[0] - values[1], abs=1e-4)


def test_reshape_between_iterations(make_net):
    net = make_net(input_layer((1, 2, 5, 5)) + layer("zoom_factor: 4"))
    for shape in ((1, 2, 5, 5), (3, 2, 9, 4), (1, 1, 1, 1)):
        net.blobs["data"].reshape(*shape)
        net.blobs["data"].data[...] = values = random(*shape)
        net.forward()
        size = interpolated_size(shape[2:], zoom_factor=4)
        np.testing.assert_array_equal(net.blobs["interp"].data, slow_interpolate(values, size))


def test_missing_axes_count_as_one(make_net):
    net = make_net(input_layer((2, 3)) + layer("{height: 2, width: 2}"))
    net.blobs["data"].data[...] = random(2, 3)
    net.forward()
    np.testing.assert_array_equal(net.blobs["interp"].data, random(2, 3)[:, :, None, None].repeat(2, 2).repeat(2, 3))


def test_presence_decides_in_the_layer(make_net):
    text = input_layer((1, 1, 9, 9)) + layer("{zoom_factor: 1, height: 4, width: 4}")
    assert make_net(text).blobs["interp"].data.shape == (1, 1, 9, 9)


@pytest.mark.parametrize(
    "shape, param_str, message",
    [
        ((1, 1, 9, 9), "", "size is not given"),
        ((1, 1, 9, 9), "height: 3", "width must be given"),
        ((1, 1, 9, 9), "zoom_factor: 0", "zoom_factor must be int >= 1, found 0"),
        ((1, 1, 9, 9), "zoom_factor: 1.5", "zoom_factor must be int >= 1, found 1.5"),
        ((1, 1, 9, 9), "zoom_factr: 2", "did you mean 'zoom_factor'"),
        ((1, 1, 9, 9), "{zoom_factor: 2, pad_beg: 2}", "pad_beg must be int <= 0, found 2"),
        ((1, 1, 9, 9), "{zoom_factor: 2, pad_beg: -9}", "nothing is left of an input of 9 x 9"),
        ((1, 1, 9, 9, 2), "zoom_factor: 2", r"bottom 0 \(values\) must have shape \(N, C, H, W\)"),
    ],
)
def test_layer_errors(make_net, shape, param_str, message):
    with pytest.raises(ValueError, match=message):
        make_net(input_layer(shape) + layer(param_str))


def test_wrong_number_of_blobs_and_in_place_use(make_net):
    with pytest.raises(ValueError, match="expected 1 top"):
        make_net(input_layer((1, 1, 4, 4)) + layer("zoom_factor: 2", extra='top: "second"'))
    with pytest.raises(ValueError, match="in place"):
        make_net(input_layer((1, 1, 4, 4)) + layer("zoom_factor: 2", top="data"))


def test_blended_labels_are_warned_of_once(make_net):
    with pytest.warns(UserWarning, match="blends neighbouring pixels") as record:
        net = make_net(input_layer((1, 1, 300, 300)) + layer("shrink_factor: 8"))
        net.forward()
    assert len(record) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_net(input_layer((1, 1, 321, 321)) + layer("shrink_factor: 8"))
        make_net(input_layer((1, 1, 300, 300)) + layer("{shrink_factor: 8, mode: nearest}"))
        make_net(input_layer((1, 3, 300, 300)) + layer("shrink_factor: 8"))


def test_in_a_solver(tmp_path):
    """A classifier below the layer learns through it, and not at all with the layer's adjoint negated."""
    caffe = pytest.importorskip("caffe", reason="the layers need pycaffe")
    net = (
        input_layer((2, 3, 5, 5))
        + input_layer((2, 1, 17, 17), "label")
        + 'layer { name: "score" type: "Convolution" bottom: "data" top: "score" convolution_param { num_output: 2 '
        'kernel_size: 1 weight_filler { type: "gaussian" std: 0.1 } } }\n'
        + layer("zoom_factor: 4", "score", "score_interp")
        + 'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score_interp" bottom: "label" top: "loss" }\n'
    )
    (tmp_path / "net.prototxt").write_text(net)
    (tmp_path / "solver.prototxt").write_text(
        f'net: "{tmp_path}/net.prototxt"\nbase_lr: 1\nlr_policy: "fixed"\nmax_iter: 30\nrandom_seed: 1\n'
        "snapshot_after_train: false\n"
    )
    solver = caffe.get_solver(str(tmp_path / "solver.prototxt"))
    data = random(2, 3, 5, 5)
    solver.net.blobs["data"].data[...] = data
    solver.net.blobs["label"].data[...] = slow_interpolate(data, (17, 17))[:, :1] > 0
    solver.step(1)
    first = float(solver.net.blobs["loss"].data)
    solver.step(29)
    assert float(solver.net.blobs["loss"].data) < 0.4 * first
