"""The losses in tensor operations: values and gradients are those of the NumPy functions, and so are the messages."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="needs PyTorch")

from rloss_caffe.losses import LOSSES  # noqa: E402
from rloss_caffe.losses.densecrf import RELAXATION  # noqa: E402
from rloss_caffe.torch import _device  # noqa: E402

WITH_LATTICE = ("densecrf", "normalized_cut", "kernel_cut")
IN_TENSORS = (*WITH_LATTICE, "local_potts", "size_constraint")


@pytest.fixture(autouse=True)
def tensors_alone(monkeypatch, request):
    """What goes to the NumPy function would pass any comparison with it."""
    if "by_numpy" not in request.keywords:
        monkeypatch.setattr(_device, "_by_numpy", _not_by_numpy)


def _not_by_numpy(*arguments):
    raise AssertionError("the NumPy function was called")


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


def both(name, arrays, options, dtype=torch.float32):
    """(value, gradient) by NumPy and by tensors; arrays by the function's names, None for what is not given."""
    given_arrays = {key: each for key, each in arrays.items() if each is not None}
    expected = LOSSES[name](**given_arrays, **options)
    tensors = {"images": None, **{key: torch.from_numpy(np.array(each)) for key, each in given_arrays.items()}}
    found = _device.evaluate(name, options, **tensors)
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
@settings(deadline=None, max_examples=60)
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


@settings(deadline=None, max_examples=80)
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


@settings(deadline=None, max_examples=80)
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
