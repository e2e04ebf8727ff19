"""The local Potts loss against sums over all pairs, finite differences of those, and the laws that it must follow."""

import inspect

import numpy as np
import pytest
from helpers.images import probabilities, smooth_image
from helpers.window_twin import local_potts_value
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from rloss_caffe import local_potts_loss
from rloss_caffe.losses import Workspace, local_potts

RELAXATIONS = ("bilinear", "quadratic", "absolute")
NORMALIZATIONS = ("VALID", "WEIGHTS", "BATCH_SIZE")
GATED_CRF = {"radius": 5, "xy_std": 6, "rgb_std": 0.1, "relaxation": "bilinear", "normalization": "VALID"}
GRID_POTTS = {"radius": 1, "space": "inverse_distance", "contrast": "image", "normalization": "BATCH_SIZE"}


def batch(n=2, k=3, height=9, width=10, channels=3, seed=0):
    """Images with a border that the default region leaves out, and segmentations."""
    images = np.array([smooth_image(height, width, channels, seed + index) for index in range(n)])
    images[-1, :, :2] = 0
    return images, probabilities(n, k, height, width, seed)


def twin_gradient(images, segmentations, step=1e-4, **options):
    """Central differences of the twin's value, exact for a quadratic one."""
    gradient = np.zeros(segmentations.shape)
    for place in np.ndindex(*segmentations.shape):
        moved = segmentations.astype(float)
        moved[place] += step
        above = local_potts_value(images, moved, **options)
        moved[place] -= 2 * step
        gradient[place] = (above - local_potts_value(images, moved, **options)) / (2 * step)
    return gradient


@pytest.mark.parametrize("relaxation", RELAXATIONS)
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("contrast, space, radius", [("fixed", "gaussian", 3), ("image", "inverse_distance", 1)])
def test_value_against_the_twin(relaxation, normalization, contrast, space, radius):
    images, segmentations = batch(height=17, width=21)
    options = {"radius": radius, "xy_std": 2.5, "rgb_std": 40, "relaxation": relaxation, "normalization": normalization}
    options.update(contrast=contrast, space=space)
    for roi in (None, np.random.RandomState(1).rand(2, 17, 21).round(1).astype(np.float32)):
        expected = local_potts_value(images, segmentations, roi=roi, **options)
        assert local_potts_loss(images, segmentations, roi=roi, **options).value == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("relaxation", RELAXATIONS)
@pytest.mark.parametrize("contrast", ["fixed", "image"])
@pytest.mark.parametrize("normalization", ["VALID", "WEIGHTS"])
def test_gradient_against_finite_differences_of_the_twin(relaxation, contrast, normalization):
    images, segmentations = batch(height=5, width=6)
    options = {
        "radius": 2,
        "xy_std": 2,
        "rgb_std": 50,
        "relaxation": relaxation,
        "contrast": contrast,
        "normalization": normalization,
    }
    expected = twin_gradient(images, segmentations, step=1e-6 if relaxation == "absolute" else 1e-3, **options)
    found = local_potts_loss(images, segmentations, **options).gradient(2.0)
    np.testing.assert_allclose(found, 2 * expected, rtol=1e-5, atol=1e-6 * np.abs(expected).max())


def test_gated_crf_against_its_own_formula():
    """Obukhov et al.: for each offset of the window the kernel of shifted images, times the shifted segmentation."""
    images, segmentations = batch(height=13, width=14)
    images = images / images.std(axis=(2, 3), keepdims=True)
    roi = np.ones((2, 13, 14))
    expected = 0.0
    for dy in range(-5, 6):
        for dx in range(-5, 6):
            if dy == dx == 0:
                continue
            here = slice(max(0, -dy), 13 - max(0, dy)), slice(max(0, -dx), 14 - max(0, dx))
            there = slice(max(0, dy), 13 - max(0, -dy)), slice(max(0, dx), 14 - max(0, -dx))
            own, other = images[(..., *here)], images[(..., *there)]
            kernel = np.exp(-(dy**2 + dx**2) / (2 * 6**2) - ((own - other) ** 2).sum(1) / (2 * 0.1**2))
            agreement = (segmentations[(..., *here)] * segmentations[(..., *there)]).sum(axis=1)
            expected += (kernel * (1 - agreement)).sum() / (2 * 13 * 14)
    found = local_potts_loss(images, segmentations, roi=roi, **GATED_CRF).value
    assert found == pytest.approx(expected, rel=1e-4)  # steep weights: colours in single precision over 0.1


@pytest.mark.parametrize("relaxation", RELAXATIONS)
def test_grid_potts_against_its_own_formula(relaxation):
    """Marin and Boykov: edges of the 8-neighbourhood, each once; a pair counts twice in our sum."""
    images, segmentations = batch(n=1, height=11, width=12)
    image, planes = images[0].astype(float), segmentations[0].astype(float)
    edges = []
    for y in range(11):
        for x in range(12):
            for other in ((y, x + 1), (y + 1, x), (y + 1, x + 1), (y + 1, x - 1)):
                if other[0] < 11 and 0 <= other[1] < 12:
                    edges.append(((y, x), other))
    squares = [((image[(slice(None), *a)] - image[(slice(None), *b)]) ** 2).sum() for a, b in edges]
    expected = 0.0
    for (a, b), square in zip(edges, squares):
        p, q = planes[(slice(None), *a)], planes[(slice(None), *b)]
        weight = np.exp(-square / (2 * np.mean(squares))) / np.hypot(a[0] - b[0], a[1] - b[1])
        cost = {"bilinear": 1 - p @ q, "quadratic": ((p - q) ** 2).sum() / 2, "absolute": abs(p - q).sum() / 2}
        expected += weight * cost[relaxation]
    roi = np.ones((1, 11, 12))
    found = local_potts_loss(images, segmentations, relaxation=relaxation, roi=roi, **GRID_POTTS).value
    assert found == pytest.approx(2 * expected, rel=1e-5)


@pytest.mark.parametrize("relaxation", RELAXATIONS)
def test_labelled_classes(relaxation):
    images, segmentations = batch(n=3, k=4)
    labels = np.full((3, 9, 10), 255)
    labels[0, 3, 3], labels[0, 5, 5] = 1, 3
    labels[1, :, :] = 2
    roi = np.ones((3, 9, 10), np.float32)
    roi[1, :4] = 0
    roi[0, 5, 5] = 0  # the label there does not count
    options = {
        "radius": 2,
        "rgb_std": 60,
        "relaxation": relaxation,
        "classes": "labelled",
        "labels": labels,
        "roi": roi,
    }
    value, gradient = local_potts_loss(images, segmentations, **options)
    assert value == pytest.approx(local_potts_value(images, segmentations, **options), rel=1e-5)
    assert not gradient[0, [0, 2, 3]].any() and gradient[0, 1].any() and not gradient[2].any()
    with pytest.raises(ValueError, match="labels must be given where classes is labelled"):
        local_potts_loss(images, segmentations, classes="labelled")


@pytest.mark.parametrize("relaxation", RELAXATIONS)
@pytest.mark.parametrize("contrast", ["fixed", "image"])
def test_nothing_to_compare(relaxation, contrast):
    """A constant image, one pixel, nothing inside the region, constant segmentations: no NaN anywhere."""
    images, segmentations = np.full((1, 3, 7, 8), 9, np.float32), probabilities(1, 3, 7, 8)
    options = {"relaxation": relaxation, "contrast": contrast}
    for normalization in NORMALIZATIONS:
        result = local_potts_loss(images, segmentations, normalization=normalization, **options)
        twin = local_potts_value(images, segmentations, normalization=normalization, **options)
        assert result.value == pytest.approx(twin, rel=1e-5) and result.value > 0
        for region in (np.zeros((1, 7, 8)), (np.arange(56) == 12).reshape(1, 7, 8)):
            empty = local_potts_loss(images, segmentations, normalization=normalization, roi=region, **options)
            assert empty.value == 0 and not empty.gradient().any()
        pixel = local_potts_loss(
            images[..., :1, :1], segmentations[..., :1, :1], normalization=normalization, **options
        )
        assert pixel.value == 0 and not pixel.gradient().any()


def test_constant_segmentations():
    images, _ = batch()
    constant = np.array([0.2, 0.5, 0.3], np.float32)[None, :, None, None] * np.ones((2, 3, 9, 10), np.float32)
    for relaxation in ("quadratic", "absolute"):
        value, gradient = local_potts_loss(images, constant, relaxation=relaxation)
        assert value == 0 and not gradient.any()
    one_class = np.zeros((2, 3, 9, 10), np.float32)
    one_class[:, 1] = 1
    assert local_potts_loss(images, one_class).value == pytest.approx(0, abs=1e-6)


def test_gradient_output_and_workspace():
    images, segmentations = batch()
    workspace = Workspace()
    old = local_potts_loss(images, segmentations, work=workspace)
    out = np.full(segmentations.shape, 7, np.float32)
    assert old.gradient(3.0, out=out) is out
    np.testing.assert_allclose(out, 3 * local_potts_loss(images, segmentations).gradient(), rtol=1e-6)
    local_potts_loss(images, segmentations, work=workspace)
    with pytest.raises(ValueError, match="a later call took this result's workspace"):
        old.gradient()


def test_defaults_and_docstring_come_from_the_declarations():
    signature = inspect.signature(local_potts_loss).parameters
    for parameter in local_potts.PARAMETERS:
        assert signature[parameter.name].default == parameter.default
        assert f"{parameter.name} : {parameter.expectation()}, default" in local_potts_loss.__doc__


@pytest.mark.parametrize(
    "options, message",
    [
        ({"radius": 0}, "radius must be int >= 1, found 0"),
        ({"radius": 1.5}, "radius must be"),
        ({"xy_std": 0}, "xy_std must be float > 0, found 0"),
        ({"rgb_std": np.nan}, "rgb_std must be float > 0"),
        ({"relaxation": "cubic"}, "relaxation must be one of bilinear, quadratic, absolute, found 'cubic'"),
        ({"normalization": "valid"}, "normalization must be one of VALID, WEIGHTS, BATCH_SIZE"),
        ({"contrast": True}, "contrast must be one of fixed, image"),
        ({"classes": "some"}, "classes must be one of all, labelled"),
        ({"space": 2}, "space must be one of gaussian, inverse_distance"),
        ({"labels": np.zeros((2, 9, 9))}, "labels must have shape"),
        ({"labels": np.full((2, 9, 10), 3)}, "image 0 of the batch: labels must be whole numbers from 0 to 2"),
        ({"roi": np.ones((2, 10, 9))}, "roi must have shape"),
        ({"roi": -np.ones((2, 9, 10))}, "roi must hold values >= 0"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        local_potts_loss(*batch(), **options)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_non_finite_input_names_the_image(bad):
    for place in (0, 1):
        arguments = batch()
        arguments[place][1, 0, 3, 4] = bad
        name = ("images", "segmentations")[place]
        with pytest.raises(ValueError, match=rf"image 1 of the batch: {name} must be finite, found .* at \(0, 3, 4\)"):
            local_potts_loss(*arguments)


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 3),
    c=st.integers(1, 4),
    k=st.sampled_from([1, 2, 3, 4, 21]),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    radius=st.integers(1, 12),
    rgb=st.floats(60, 300),
    relaxation=st.sampled_from(RELAXATIONS),
    normalization=st.sampled_from(NORMALIZATIONS),
    contrast=st.sampled_from(["fixed", "image"]),
    space=st.sampled_from(["gaussian", "inverse_distance"]),
    seed=st.integers(0, 1000),
)
def test_laws(n, c, k, height, width, radius, rgb, relaxation, normalization, contrast, space, seed):
    # Each form of the sum is compiled for each width. These are some; tests/filtering/test_window.py has all.
    assume(k > 1 or relaxation == "bilinear")
    rng = np.random.RandomState(seed)
    images = (rng.randn(n, c, height, width) * 60).astype(np.float32)
    segmentations = probabilities(n, k, height, width, seed)
    roi = (rng.rand(n, height, width) > 0.2).astype(np.float32)
    options = {"radius": radius, "rgb_std": rgb, "relaxation": relaxation, "normalization": normalization}
    options.update(contrast=contrast, space=space)
    value, gradient = local_potts_loss(images, segmentations, roi=roi, num_threads=1, **options)
    scale = max(np.abs(gradient).max(), 1e-3)
    expected = local_potts_value(images, segmentations, roi=roi, **options)
    # 1 - p.q cancels where a class is sure: errors are as large as those of the sum of the weights.
    rounding = 1e-30 + 1e-6 * local_potts_value(
        images, 0 * segmentations, roi=roi, **{**options, "relaxation": "bilinear"}
    )
    assert value == pytest.approx(expected, rel=1e-5, abs=5 * rounding)
    assert value >= -rounding and not gradient[np.repeat(roi[:, None] == 0, k, axis=1)].any()

    more = local_potts_loss(images, segmentations, roi=roi, num_threads=3, **options)
    assert more.value == value and (more.gradient() == gradient).all()

    order = rng.permutation(k)
    other = local_potts_loss(images, segmentations[:, order], roi=roi, **options)
    assert other.value == pytest.approx(value, rel=1e-5, abs=rounding)
    np.testing.assert_allclose(other.gradient(), gradient[:, order], rtol=1e-5, atol=1e-6 * scale)

    single = [
        local_potts_loss(images[i : i + 1], segmentations[i : i + 1], roi=roi[i : i + 1], **options) for i in range(n)
    ]
    assert sum(each.value for each in single) / n == pytest.approx(value, rel=1e-6, abs=1e-9)
    apart = np.concatenate([each.gradient() for each in single]) / n
    np.testing.assert_allclose(gradient, apart, rtol=1e-5, atol=1e-6 * scale)

    rows, columns = slice(height // 3, None), slice(0, width - width // 3)
    inside = np.zeros_like(roi)
    inside[:, rows, columns] = 1
    masked = local_potts_loss(images, segmentations, roi=inside, **options)
    part = (..., rows, columns)
    cropped = local_potts_loss(images[part], segmentations[part], roi=inside[part], **options)
    assert masked.value == pytest.approx(cropped.value, rel=1e-5, abs=rounding)
    np.testing.assert_allclose(masked.gradient()[part], cropped.gradient(), rtol=1e-4, atol=1e-5 * scale)
