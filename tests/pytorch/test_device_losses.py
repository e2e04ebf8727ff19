"""The losses in tensor operations: values and gradients are those of the NumPy functions, and so are the messages."""

from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="needs PyTorch")

from helpers.allocations import Allocations  # noqa: E402

from rloss_caffe.losses import LOSSES  # noqa: E402
from rloss_caffe.losses.densecrf import RELAXATION  # noqa: E402
from rloss_caffe.numerics.parameters import parameters_of  # noqa: E402
from rloss_caffe.torch import _device, _ops  # noqa: E402
from rloss_caffe.torch._lattice import TensorLattice  # noqa: E402

WITH_LATTICE = ("densecrf", "normalized_cut", "kernel_cut")
IN_TENSORS = (*WITH_LATTICE, "local_potts", "size_constraint")


def batch(draw_seed, n, c, k, height, width):
    """Images with padding and edges, probabilities, labels of some pixels, a region with holes and shares."""
    rng = np.random.RandomState(draw_seed)
    images = (
        120 * rng.rand(n, c, 1, 1) * (rng.rand(n, 1, height, width) > 0.5) + 30 * rng.rand(n, c, height, width)
    ).astype(np.float32)
    images[:, :, : height // 4] = 0
    scores = np.exp(2 * rng.randn(n, k, height, width))
    segmentations = (scores / scores.sum(1, keepdims=True)).astype(np.float32)
    labels = np.where(rng.rand(n, height, width) < 0.2, rng.randint(0, max(1, k - 1), (n, height, width)), 255)
    labels[0, : height // 2] = 255
    roi = (rng.rand(n, height, width) * (rng.rand(n, height, width) > 0.3)).astype(np.float32)
    roi[roi < 1e-3] = 0
    return images, segmentations, labels, roi


def by_tensors(name, arrays, options, **others):
    """What `_device` computes without the NumPy function, which would pass any comparison with itself."""
    tensors = {key: torch.from_numpy(np.array(each)) for key, each in arrays.items() if each is not None}
    with mock.patch.object(_device, "_by_numpy", side_effect=AssertionError("the NumPy function was called")):
        return _device.evaluate(name, options, **{"images": None, **tensors, **others})


def both(name, arrays, options):
    """(value, gradient) by NumPy and by tensors; arrays by the function's names, None for what is not given."""
    given_arrays = {key: each for key, each in arrays.items() if each is not None}
    expected = LOSSES[name](**given_arrays, **options)
    found = by_tensors(name, arrays, options)
    return (expected.value, expected.gradient()), (found[0].item(), found[1].numpy())


def assert_close(found, expected, of_value=0.0, of_gradient=0.0, tolerance=1e-5):
    """`of_value` and `of_gradient`: magnitudes, as `magnitudes` gives them."""
    assert found[0] == pytest.approx(expected[0], rel=tolerance, abs=tolerance * of_value)
    difference = np.linalg.norm(found[1].astype(float) - expected[1])
    assert difference <= tolerance * max(np.linalg.norm(expected[1].astype(float)), of_gradient)


def choices(name):
    """Any options of a loss over all pairs of pixels."""
    dense = {
        "relaxation": st.sampled_from(RELAXATION.choices),
        "normalization": st.sampled_from(["BATCH_SIZE", "VALID", "AFFINITY"]),
        "kernel_normalization": st.sampled_from(["none", "symmetric"]),
        "non_negative": st.booleans(),
        "gate": st.booleans(),
    }
    cut = {"normalized_cut_weight": st.floats(-2, 2), "densecrf_weight": st.floats(-2, 2)}
    own = {"densecrf": dense, "normalized_cut": {}, "kernel_cut": {**dense, **cut}}[name]
    return st.fixed_dictionaries(
        {
            "bi_xy_std": st.floats(0.5, 100),
            "bi_rgb_std": st.floats(1, 100),
            "exact_gradient": st.booleans(),
            "scale_factor": st.sampled_from([1.0, 1.0, 0.5, 0.37, 0.9]),
            "classes": st.sampled_from(["all", "labelled"]),
            **own,
        }
    )


SHAPES = {
    "n": st.integers(1, 3),
    "c": st.sampled_from([1, 3]),  # a kernel is compiled for every number of dimensions
    "k": st.integers(1, 6),
    "height": st.integers(3, 12),
    "width": st.integers(3, 12),
    "draw_seed": st.integers(0, 1000),
}


@pytest.mark.parametrize("name", WITH_LATTICE)
@settings(deadline=None, max_examples=40)
@given(data=st.data(), shape=st.fixed_dictionaries(SHAPES), with_roi=st.booleans(), with_labels=st.booleans())
def test_losses_with_the_lattice(name, data, shape, with_roi, with_labels):
    options = data.draw(choices(name))
    if options.get("gate"):
        options["relaxation"] = "bilinear"
    if not with_labels:
        options["classes"] = "all"
    images, segmentations, labels, roi = batch(**shape)
    arrays = {
        "images": images,
        "segmentations": segmentations,
        "labels": labels if with_labels else None,
        "roi": roi if with_roi else None,
    }
    expected, found = both(name, arrays, options)
    assert_close(found, expected, *magnitudes(name, arrays, options))


def magnitudes(name, arrays, options):
    """Of what the value and the gradient are differences of: it may be far above what is left."""
    if name == "normalized_cut":
        return arrays["segmentations"].shape[1], 0.0
    names = {"relaxation", "non_negative", "normalized_cut_weight", "densecrf_weight"}
    plain = LOSSES["densecrf"](**arrays, **{key: each for key, each in options.items() if key not in names})
    weight = abs(options.get("densecrf_weight", 1.0))
    value, gradient = weight * abs(plain.value), weight * np.linalg.norm(plain.gradient().astype(float))
    return value + abs(options.get("normalized_cut_weight", 0.0)) * arrays["segmentations"].shape[1], gradient


@settings(deadline=None, max_examples=40)
@given(
    shape=st.fixed_dictionaries(SHAPES),
    with_roi=st.booleans(),
    options=st.fixed_dictionaries(
        {
            "radius": st.integers(1, 6),
            "xy_std": st.floats(0.5, 20),
            "rgb_std": st.floats(1, 100),
            "relaxation": st.sampled_from(["bilinear", "quadratic", "absolute"]),
            "normalization": st.sampled_from(["VALID", "WEIGHTS", "BATCH_SIZE"]),
            "contrast": st.sampled_from(["fixed", "image"]),
            "classes": st.sampled_from(["all", "labelled"]),
            "space": st.sampled_from(["gaussian", "inverse_distance"]),
        }
    ),
)
def test_local_potts(shape, with_roi, options):
    images, segmentations, labels, roi = batch(**shape)
    arrays = {"images": images, "segmentations": segmentations, "labels": labels, "roi": roi if with_roi else None}
    expected, found = both("local_potts", arrays, options)
    weights = LOSSES["local_potts"](
        **{**arrays, "segmentations": 0 * segmentations}, **{**options, "relaxation": "bilinear"}
    )
    assert_close(
        found,
        expected,
        weights.value,
        np.linalg.norm(expected[1]) if options["relaxation"] == "bilinear" else weights.value,
    )


@pytest.mark.parametrize("relaxation", ["bilinear", "quadratic", "absolute"])
def test_local_potts_of_one_row_and_one_pixel(relaxation):
    for height, width in ((1, 1), (1, 7), (6, 1)):
        images, segmentations, _, _ = batch(3, 2, 3, 4, height, width)
        arrays = {"images": images + 10, "segmentations": segmentations}
        expected, found = both("local_potts", arrays, {"relaxation": relaxation, "contrast": "image"})
        assert_close(found, expected, 1e-6, 1e-6)


@settings(deadline=None, max_examples=40)
@given(
    data=st.data(),
    shape=st.fixed_dictionaries(SHAPES),
    with_roi=st.booleans(),
    with_labels=st.booleans(),
    options=st.fixed_dictionaries(
        {
            "unit": st.sampled_from(["PIXEL", "FRACTION"]),
            "tags": st.booleans(),
            "penalty": st.sampled_from(["quadratic", "log_barrier"]),
            "t": st.floats(0.5, 50),
            "normalization": st.sampled_from(["VALID", "FRACTION", "BATCH_SIZE"]),
        }
    ),
)
def test_size_constraint(data, shape, with_roi, with_labels, options):
    _, segmentations, labels, roi = batch(**shape)
    bound = st.sampled_from([-1.0, 0.0, 0.1, 0.4, 1.0])
    scale = 1 if options["unit"] == "FRACTION" else shape["height"] * shape["width"]
    count = data.draw(st.sampled_from([1, shape["k"]]))
    upper = [each if each < 0 else each * scale for each in data.draw(st.lists(bound, min_size=count, max_size=count))]
    lower = [-1.0 if each < 0 else data.draw(st.sampled_from([-1.0, 0.0, each / 2])) for each in upper]
    roi[-1] *= data.draw(st.sampled_from([0, 1]))
    arrays = {
        "segmentations": segmentations,
        "labels": labels if with_labels else None,
        "roi": roi if with_roi else None,
    }
    if max(lower + upper) < 0:
        upper[0] = 0.2 * scale
    expected, found = both("size_constraint", arrays, {**options, "lower": lower, "upper": upper})
    assert_close(found, expected, 1e-6, 1e-6)


OPTIONS = {
    "densecrf": {"relaxation": "quadratic", "normalization": "AFFINITY", "scale_factor": 0.5},
    "normalized_cut": {"classes": "labelled", "exact_gradient": True},
    "kernel_cut": {"normalization": "VALID", "kernel_normalization": "symmetric", "non_negative": True},
    "local_potts": {"radius": 2, "relaxation": "absolute", "contrast": "image"},
    "size_constraint": {"upper": 9.0, "penalty": "log_barrier"},
}


def settled(name, **shape):
    """Arrays of a batch with labels and a region."""
    images, segmentations, labels, roi = batch(
        **{"draw_seed": 1, "n": 3, "c": 3, "k": 4, "height": 11, "width": 9, **shape}
    )
    arrays = {"images": images, "segmentations": segmentations, "labels": labels, "roi": roi}
    if name == "size_constraint":
        del arrays["images"]
    return arrays


@pytest.mark.parametrize("name", IN_TENSORS)
def test_groups_of_images_and_values_alone(name, monkeypatch):
    """Little memory, and no gradient, change no number; nor does a second call."""
    arrays, options = settled(name), OPTIONS[name]
    value, gradient = by_tensors(name, arrays, options)
    alone, nothing = by_tensors(name, arrays, options, with_gradient=False)
    assert nothing is None and alone == value
    assert torch.equal(by_tensors(name, arrays, options)[1], gradient)
    monkeypatch.setattr(_device, "MEMORY", 1)
    found = by_tensors(name, arrays, options)
    assert_close((found[0].item(), found[1].numpy()), (value.item(), gradient.numpy()), tolerance=1e-6)


@pytest.mark.parametrize("name", IN_TENSORS)
def test_other_types_and_shapes(name):
    """What the function takes: half and double precision, whole numbers, truth values, an axis more."""
    arrays, options = settled(name), OPTIONS[name]
    arrays["labels"] = arrays["labels"][:, np.newaxis].astype(float)
    arrays["roi"] = (arrays["roi"] > 0)[:, np.newaxis]
    if name != "size_constraint":
        arrays["images"] = arrays["images"].astype(np.uint8)
    for kind in (np.float16, np.float64):
        arrays["segmentations"] = arrays["segmentations"].astype(kind)
        expected, found = both(name, arrays, options)
        assert_close(found, expected)


@pytest.mark.parametrize("name", IN_TENSORS)
def test_what_is_wrong_is_said_as_by_the_function(name):
    arrays = settled(name)
    damages = [
        ("segmentations", (1, 2, 3, 4), np.nan),
        ("segmentations", (2, 0, 0, 0), np.inf),
        ("segmentations", ..., 1e25),
        ("images", (1, 2, 3, 4), np.nan),
        ("images", (2, 0, 0, 0), 1e30),
        ("labels", (1, 3, 4), 4),
        ("labels", (1, 3, 4), -1),
        ("roi", (0, 3, 4), -0.5),
        ("roi", (2, 3, 4), np.nan),
    ]
    calls = [({**arrays, "labels": arrays["labels"][:, 1:]}, {"radius": 1}), ({**arrays, "roi": arrays["roi"][1:]}, {})]
    calls += [({**arrays, "segmentations": arrays["segmentations"][0]}, {})]
    calls += [(arrays, {"normalization": "NONE"}), (arrays, {"exact_gradient": 3, "t": -1, "rgb_std": 0})]
    calls += [(arrays, {"relaxation": "quadratic", "gate": True}), (arrays, {"bi_xy_std": 1e-30, "xy_std": "a"})]
    if name != "size_constraint":
        calls.append(({**arrays, "images": arrays["images"][:, :, 1:]}, {}))
        calls.append(({**arrays, "labels": None}, {"classes": "labelled"}))
    for key, place, value in damages:
        if key in arrays:
            damaged = arrays[key].copy()
            damaged[place] = value
            calls.append(({**arrays, key: damaged}, {}))
    known = {each.name for each in parameters_of(LOSSES[name])}
    said = 0
    for given_arrays, options in calls:
        options = {**OPTIONS[name], **{key: each for key, each in options.items() if key in known}}
        tensors = {key: torch.from_numpy(np.array(each)) for key, each in given_arrays.items() if each is not None}
        outcomes = []
        for function in (
            lambda a=given_arrays, o=options: tuple(LOSSES[name](**a, **o)),
            lambda t=tensors, o=options: tuple(
                each.numpy() for each in _device.evaluate(name, o, **{"images": None, **t})
            ),
        ):
            try:
                outcomes.append(function())
            except ValueError as error:
                outcomes.append(str(error))
        if isinstance(outcomes[0], str):
            said += 1
            assert outcomes[1] == outcomes[0]
        else:  # out of the ordinary, but right
            assert_close(outcomes[1], outcomes[0])
    assert said >= 8


def test_an_unknown_option():
    arrays = settled("densecrf")
    tensors = {key: torch.from_numpy(each) for key, each in arrays.items()}
    with pytest.raises(TypeError, match="unexpected keyword argument 'sigma'"):
        _device.evaluate("densecrf", {"sigma": 3}, **tensors)


@pytest.mark.parametrize("name", ["densecrf", "kernel_cut", "local_potts"])
def test_numbers_of_any_sign(name):
    """Scores in the place of probabilities: but for the cut, whose volumes they may make 0, nothing is special."""
    arrays = settled(name)
    arrays["segmentations"] = 50 * arrays["segmentations"] - 10
    if name == "kernel_cut":
        with pytest.raises(AssertionError, match="NumPy function"):
            by_tensors(name, arrays, {})
        return
    expected, found = both(name, arrays, {})
    assert_close(found, expected, 1e2)


@pytest.mark.parametrize("name", IN_TENSORS)
def test_under_the_operator(name, monkeypatch):
    """As a GPU's tensors go, through autograd."""
    calls = []

    def evaluate(name, options, weight, *tensors):
        calls.append(name)
        value, gradient = _device.evaluate(name, options, *tensors)
        return value * weight, gradient if gradient is None else gradient.mul_(weight)

    monkeypatch.setattr(_ops, "_on_cpu", evaluate)
    arrays, options = settled(name), OPTIONS[name]
    expected = LOSSES[name](**arrays, **options)
    tensors = {key: torch.from_numpy(each) for key, each in arrays.items()}
    segmentations = tensors["segmentations"].requires_grad_()
    value = _ops.loss(name, options, tensors.pop("images", None), **tensors, weight=0.5)
    (2 * value).backward()
    assert calls == [name] and value.item() == pytest.approx(expected.value / 2, rel=1e-5)
    assert_close((0, segmentations.grad.numpy()), (0, expected.gradient()))


def test_self_labelling_is_the_numpy_function():
    arrays, options = settled("self_label"), {"steps": 2, "rgb_std": 30.0}
    expected = LOSSES["self_label"](**arrays, **options)
    value, gradient = _device.evaluate("self_label", options, **{key: torch.from_numpy(a) for key, a in arrays.items()})
    assert value.item() == expected.value
    np.testing.assert_array_equal(gradient.numpy(), expected.gradient())


@pytest.mark.parametrize("dimension, points", [(5, 2000), (3, 5000), (1, 9000)])
@pytest.mark.parametrize("spread", [0.01, 1, 100, 1000])
def test_building_keeps_to_its_memory(dimension, points, spread):
    features = torch.from_numpy(np.random.RandomState(0).randn(2, dimension, points).astype(np.float32) * spread)
    with Allocations() as allocations:
        lattice = TensorLattice(features)
    limit = TensorLattice.building_bytes(dimension, 2 * points)
    assert allocations.peak <= limit
    values = torch.rand(2, 6, points)
    for memory, channels in ((1, 1), (1 << 30, 6)):
        lattice = TensorLattice(features, memory=memory)
        with Allocations() as allocations:
            lattice.filter(values)
        rows = 4 * points + len(lattice._pieces) + 3 * lattice.num_vertices
        assert allocations.peak <= 4 * values.numel() + 4 * rows * (channels + 1)
