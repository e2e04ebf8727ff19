"""The size constraint as a function: a plain twin of its value, finite differences, tags, regions, bad input."""

import inspect

import numpy as np
import pytest
from helpers.images import probabilities
from hypothesis import given, settings
from hypothesis import strategies as st

from rloss_caffe import size_constraint_loss
from rloss_caffe.losses import size_constraint

INFINITE = float("inf")


def barrier(z, t):
    if z <= -1 / t**2:
        return -np.log(-z) / t
    return t * z - np.log(1 / t**2) / t + 1 / t


def twin(
    segmentations,
    lower,
    upper,
    unit="PIXEL",
    tags=True,
    penalty="quadratic",
    t=5.0,
    normalization="VALID",
    labels=None,
    roi=None,
):
    """The value, one class of one image after the other, in Python's doubles."""
    batch, classes, height, width = segmentations.shape
    total = 0.0
    for n in range(batch):
        m = np.ones((height, width)) if roi is None else roi[n].astype(float)
        pixels = float(m.sum())
        named = set() if labels is None or not tags else {int(label) for label in labels[n].ravel() if label != 255}
        found, count = 0.0, 0
        for k in range(classes):
            scale = pixels if unit == "FRACTION" else 1.0
            low = -INFINITE if lower[k] == -1 else lower[k] * scale
            high = INFINITE if upper[k] == -1 else upper[k] * scale
            if named:
                low, high = (min(max(low, 1.0), high), high) if k in named else (0.0, 0.0)
            size = float((segmentations[n, k].astype(float) * m).sum())
            count += low > -INFINITE or high < INFINITE
            for z in (size - high, low - size):
                if z == -INFINITE:
                    continue
                z = z / pixels if normalization == "FRACTION" else z
                found += barrier(z, t) if penalty == "log_barrier" else max(z, 0.0) ** 2
        total += found / max(1, count) / (pixels if normalization == "VALID" else 1)
    return total / batch


CASES = st.fixed_dictionaries(
    {
        "n": st.integers(1, 3),
        "k": st.integers(1, 5),
        "height": st.integers(1, 7),
        "width": st.integers(1, 7),
        "unit": st.sampled_from(["PIXEL", "FRACTION"]),
        "tags": st.booleans(),
        "penalty": st.sampled_from(["quadratic", "log_barrier"]),
        "t": st.sampled_from([0.5, 5.0, 40.0]),
        "normalization": st.sampled_from(["VALID", "FRACTION", "BATCH_SIZE"]),
        "with_labels": st.booleans(),
        "with_roi": st.booleans(),
        "seed": st.integers(0, 10**6),
    }
)


def arguments_of(case):
    random = np.random.RandomState(case["seed"])
    n, k, height, width = (case[name] for name in ("n", "k", "height", "width"))
    pixels = 1 if case["unit"] == "FRACTION" else height * width
    bounds = np.sort(random.uniform(0, pixels, (2, k)), axis=0)
    bounds[random.rand(2, k) < 0.3] = -1
    labels = roi = None
    if case["with_labels"]:
        labels = random.randint(0, k, (n, random.randint(1, 9), random.randint(1, 9)))
        labels[random.rand(*labels.shape) < 0.7] = 255
    if case["with_roi"]:
        roi = (random.rand(n, height, width) > 0.4).astype(np.float32)
        roi[:, 0, 0] = 1
    options = {name: case[name] for name in ("unit", "tags", "penalty", "t", "normalization")}
    options.update(lower=list(bounds[0]), upper=list(bounds[1]), labels=labels, roi=roi)
    return probabilities(n, k, height, width, case["seed"] % 1000), options


def has_bounds(options):
    given_bounds = max(options["lower"]) > -1 or max(options["upper"]) > -1
    return given_bounds or (options["labels"] is not None and options["tags"])


@settings(max_examples=150, deadline=None)
@given(case=CASES)
def test_value_of_the_twin_and_its_finite_differences(case):
    segmentations, options = arguments_of(case)
    if not has_bounds(options):
        return
    result = size_constraint_loss(segmentations, **options)
    assert result.value == pytest.approx(twin(segmentations, **options), rel=1e-5, abs=1e-9)
    gradient = result.gradient()
    twin_of = segmentations.astype(float)
    random, step = np.random.RandomState(case["seed"]), 1e-6
    for _ in range(3):
        direction = random.randn(*segmentations.shape)
        expected = twin(twin_of + step * direction, **options) - twin(twin_of - step * direction, **options)
        length = np.linalg.norm(direction)
        # where a size is just at its bound, the second derivative jumps
        error = 1e-4 * np.linalg.norm(gradient) * length + step * length**2 * max(1, options["t"])
        assert (gradient * direction).sum() == pytest.approx(expected / (2 * step), rel=1e-4, abs=error)


@settings(max_examples=60, deadline=None)
@given(case=CASES)
def test_laws(case):
    segmentations, options = arguments_of(case)
    if not has_bounds(options):
        return
    value, gradient = size_constraint_loss(segmentations, **options)
    # the batch is the mean of its images
    parts = []
    for index in range(len(segmentations)):
        own = {name: None if options[name] is None else options[name][index : index + 1] for name in ("labels", "roi")}
        parts.append(size_constraint_loss(segmentations[index : index + 1], **{**options, **own}))
    assert value == pytest.approx(sum(part.value for part in parts) / len(parts), rel=1e-12, abs=1e-12)
    for index, part in enumerate(parts):
        np.testing.assert_allclose(gradient[index], part.gradient()[0] / len(parts), rtol=1e-6, atol=1e-12)
    # another order of the classes
    order = np.random.RandomState(case["seed"]).permutation(segmentations.shape[1])
    other = {**options, **{name: [options[name][k] for k in order] for name in ("lower", "upper")}}
    if options["labels"] is not None:
        place = np.append(np.argsort(order), np.full(300, 255))
        other["labels"] = place[options["labels"]]
    permuted = size_constraint_loss(segmentations[:, order], **other)
    assert permuted.value == pytest.approx(value, rel=1e-12, abs=1e-12)
    np.testing.assert_allclose(permuted.gradient(), gradient[:, order], rtol=1e-6, atol=1e-12)
    # threads change nothing
    assert size_constraint_loss(segmentations, **options, num_threads=3).value == value


@pytest.mark.parametrize("normalization", ["VALID", "FRACTION", "BATCH_SIZE"])
def test_a_region_equals_cropping_away(normalization):
    segmentations = probabilities(2, 3, 8, 9)
    roi = np.zeros((2, 8, 9))
    roi[:, 1:6, 2:7] = 1
    options = {"lower": [0.5, -1, 0.1], "upper": 0.2, "unit": "FRACTION", "normalization": normalization}
    options["lower"][0] = 0.1
    value, gradient = size_constraint_loss(segmentations, **options, roi=roi)
    assert size_constraint_loss(segmentations, **options, roi=roi[:, np.newaxis]).value == value
    cropped = size_constraint_loss(segmentations[:, :, 1:6, 2:7], **options)
    assert value == pytest.approx(cropped.value, rel=1e-6) and value > 0
    np.testing.assert_allclose(gradient[:, :, 1:6, 2:7], cropped.gradient(), rtol=1e-5)
    gradient[:, :, 1:6, 2:7] = 0
    assert not gradient.any()


def test_published_formula():
    """(V - upper)^2 / P for what is too large, (lower - V)^2 / P for what is too small, a mean over the classes."""
    segmentations = np.zeros((1, 2, 4, 5), np.float32)
    segmentations[0, 0, 0], segmentations[0, 1, 1:] = 1, 1  # 5 and 15 of 20 pixels
    result = size_constraint_loss(segmentations, lower=[8, 3], upper=[18, 10])
    np.testing.assert_allclose(result.sizes, [[5, 15]])
    assert result.value == pytest.approx((3**2 + 5**2) / 20 / 2)
    np.testing.assert_allclose(result.gradient()[0, 0], -2 * 3 / 20 / 2)
    np.testing.assert_allclose(result.gradient()[0, 1], 2 * 5 / 20 / 2)
    one = size_constraint_loss(segmentations, upper=[-1, 10])  # one class has a bound
    assert one.value == pytest.approx(5**2 / 20) and not one.gradient()[0, 0].any()


def test_nothing_happens_inside_the_bounds():
    value, gradient = size_constraint_loss(probabilities(2, 3, 6, 7), 1, 30)
    assert value == 0 and not gradient.any()


def test_tags_push_absent_classes_down_and_present_ones_above_nothing():
    segmentations = np.full((2, 4, 6, 6), 0.25, np.float32)
    segmentations[0, 2] = 0.01
    labels = np.full((2, 6, 6), 255)
    labels[0, 2, 2], labels[0, 3, 3] = 0, 2
    result = size_constraint_loss(segmentations, labels=labels)
    gradient = result.gradient()
    assert not gradient[1].any()  # no label, no tags
    assert not gradient[0, 0].any() and (gradient[0, [1, 3]] > 0).all()
    assert (gradient[0, 2] < 0).all()  # 0.36 pixels, but it is there
    assert result.value == pytest.approx((9**2 + 9**2 + (1 - 0.36) ** 2) / 36 / 4 / 2)
    assert size_constraint_loss(segmentations, 2, labels=labels, tags=False).value == pytest.approx(
        (2 - 0.36) ** 2 / 36 / 4 / 2, rel=1e-5
    )
    small = labels[:, None, 2:4, 2:4]  # only which classes there are counts
    assert size_constraint_loss(segmentations, labels=small).value == pytest.approx(result.value)


@pytest.mark.parametrize("size", [(20, 30), (40, 60)])
def test_fractions_do_not_depend_on_the_size_of_the_image(size):
    segmentations = np.repeat(np.repeat(probabilities(1, 3, 5, 6), size[0] // 5, 2), size[1] // 6, 3)
    small = size_constraint_loss(probabilities(1, 3, 5, 6), 0.4, 0.5, "FRACTION", normalization="FRACTION")
    large = size_constraint_loss(segmentations, 0.4, 0.5, "FRACTION", normalization="FRACTION")
    assert large.value == pytest.approx(small.value, rel=1e-5) and small.value > 0


def test_the_barrier_pushes_inside_and_grows_linearly_outside():
    segmentations = np.zeros((1, 2, 10, 10), np.float32)
    values, pushes = [], []
    for size in (50, 79, 79.9, 80, 90, 100):
        segmentations[0, 0] = size / 100
        value, gradient = size_constraint_loss(segmentations, upper=[80, -1], penalty="log_barrier", t=5)
        values.append(value), pushes.append(gradient[0, 0, 0, 0])
        assert not gradient[0, 1].any()
    assert values == sorted(values) and pushes[0] > 0 and all(np.diff(pushes) > -1e-6)
    assert pushes[-1] == pytest.approx(5 / 100) and pushes[-2] == pushes[-1]


def test_an_empty_region_counts_as_nothing():
    value, gradient = size_constraint_loss(probabilities(1, 3, 4, 5), 5, roi=np.zeros((1, 4, 5)))
    assert value == 0 and not gradient.any()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("with_roi", [False, True])
def test_non_finite_input_names_the_image(bad, with_roi):
    segmentations = probabilities(3, 2, 5, 6)
    segmentations[1, 1, 3, 3] = bad
    with pytest.raises(
        ValueError, match=r"image 1 of the batch: segmentations must be finite, found .* at \(1, 3, 3\)"
    ):
        size_constraint_loss(segmentations, 5, roi=np.ones((3, 5, 6)) if with_roi else None)


@pytest.mark.parametrize(
    "options, message",
    [
        ({}, "needs lower or upper, or labels with tags, found neither"),
        ({"lower": -1, "upper": [-1, -1, -1]}, "needs lower or upper, or labels with tags, found neither"),
        ({"labels": np.zeros((2, 4, 5)), "tags": False}, "needs lower or upper, or labels with tags"),
        ({"lower": [1, 2]}, "lower must have one number, or one for each of 3 classes, found 2"),
        ({"lower": [5, 1, 9], "upper": [6, 2, 7]}, "lower must not be above upper, found 9 above 7 for class 2"),
        ({"upper": -3}, "upper must be list of float >= -1, found -3"),
        ({"upper": -0.5}, "upper must be >= 0, or -1 where there is no bound, found -0.5"),
        ({"upper": 3, "unit": "FRACTION"}, "upper must be from 0 to 1 with unit FRACTION, found 3"),
        ({"upper": 3, "unit": "pixels"}, "unit must be one of PIXEL, FRACTION, found 'pixels'"),
        ({"upper": 3, "penalty": "cubic"}, "penalty must be one of quadratic, log_barrier"),
        ({"upper": 3, "t": 0}, "t must be float from 0.0001 to 10000, found 0"),
        ({"upper": 3, "normalization": "FULL"}, "normalization must be one of VALID, FRACTION, BATCH_SIZE"),
        (
            {"labels": np.full((2, 4, 5), 3)},
            "image 0 of the batch: labels must be whole numbers from 0 to 2, or ignore",
        ),
        (
            {"labels": np.zeros((1, 4, 5))},
            r"labels must have shape \(2, height, width\) or .2, 1, height, width., found",
        ),
        ({"upper": 3, "roi": np.ones((2, 5, 4))}, "roi must have shape"),
        ({"upper": 3, "roi": -np.ones((2, 4, 5))}, "roi must hold values >= 0"),
        ({"lower": 1e38}, "segmentations, roi, lower and upper must not be so large that the penalty exceeds single"),
    ],
)
def test_mistakes_are_told(options, message):
    with pytest.raises(ValueError, match=message):
        size_constraint_loss(probabilities(2, 3, 4, 5), **options)


def test_the_region_may_change_after_the_call():
    roi = np.ones((1, 4, 5), np.float32)
    result = size_constraint_loss(probabilities(1, 3, 4, 5), 9, roi=roi)
    expected = result.gradient()
    roi[...] = 7
    np.testing.assert_array_equal(result.gradient(), expected)


def test_defaults_and_docstring_come_from_the_declarations():
    signature = inspect.signature(size_constraint_loss).parameters
    for parameter in size_constraint.PARAMETERS:
        default = signature[parameter.name].default
        assert (list(default) if parameter.repeated else default) == parameter.default
        assert f"{parameter.name} : {parameter.expectation()}, default" in size_constraint_loss.__doc__
