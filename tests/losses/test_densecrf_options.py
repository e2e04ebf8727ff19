"""DenseCRF's options and kernel cut: each value by brute force, each gradient by finite differences, and their laws.

The laws of normalised cut that it shares with them are here as well.
"""

import inspect
import itertools

import numpy as np
import pytest
from helpers.images import batch, probabilities, smooth_image
from helpers.twins import (
    ExactSum,
    affinity_matrix,
    densecrf_value,
    normalized_cut_value,
    numeric_gradient,
    relative_error,
    symmetric_kernel,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from rloss_caffe import densecrf_loss, kernel_cut_loss, normalized_cut_loss, region_of_interest
from rloss_caffe.losses import Workspace, kernel_cut

XY, RGB = 4, 60


def gates(segmentations, regions, labels):
    """G of every image: 1 where there is no label, else the doubt; (N, P)."""
    doubt = np.array([np.maximum(m - s.reshape(len(s), -1).max(axis=0), 0) for s, m in zip(segmentations, regions)])
    return doubt if labels is None else np.where(labels.reshape(len(labels), -1) == 255, 1, doubt)


def twin(images, segmentations, labels, densecrf_weight=1, normalized_cut_weight=0, **options):
    """The value in double precision by dense matrices, as a function of the segmentations; the gate stays as it is."""
    n = len(images)
    classes, kernel = options.pop("classes", "all"), options.pop("kernel_normalization", "none")
    regions = region_of_interest(images).reshape(n, -1).astype(float)
    plain = [affinity_matrix(image, XY, RGB) for image in images]
    dense = [symmetric_kernel(*each) for each in zip(plain, regions)] if kernel == "symmetric" else plain
    gate = gates(segmentations, regions, labels) if options.pop("gate", False) else np.ones((n, 1))

    def value(given):
        total = 0
        for index in range(n):
            planes = given[index].reshape(len(given[index]), -1).astype(float)
            taking_part = range(len(planes)) if classes == "all" else set(labels[index].ravel()) - {255}
            total += densecrf_weight * densecrf_value(
                dense[index], planes, regions[index], taking_part, gate=gate[index], **options
            )
            total += normalized_cut_weight * normalized_cut_value(plain[index], planes, regions[index], taking_part)
        return total / n

    return value


OPTIONS = [
    dict(zip(("relaxation", "normalization", "kernel_normalization"), each))
    for each in itertools.product(("bilinear", "quadratic"), ("BATCH_SIZE", "VALID", "AFFINITY"), ("none", "symmetric"))
] + [
    {"classes": "labelled"},
    {"classes": "labelled", "relaxation": "quadratic", "normalization": "AFFINITY"},
    {"classes": "labelled", "kernel_normalization": "symmetric", "non_negative": True, "normalization": "AFFINITY"},
    {"non_negative": True},
    {"non_negative": True, "normalization": "VALID"},
    {"gate": True},
    {"gate": True, "non_negative": True, "normalization": "AFFINITY"},
    {"gate": True, "kernel_normalization": "symmetric"},
    {"gate": True, "classes": "labelled"},
]
WEIGHTS = {"normalized_cut_weight": 0.7, "densecrf_weight": 3e-3}


@pytest.mark.parametrize("loss", [densecrf_loss, kernel_cut_loss])
@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(map(str, options.values())))
def test_values_and_exact_gradients_against_the_twin(loss, options):
    images, segmentations, labels = batch()
    arguments = {"labels": labels, **options}
    if loss is kernel_cut_loss:
        arguments = {"classes": "all", **arguments, **WEIGHTS}
    value = twin(images, segmentations, labels, **options, **(WEIGHTS if loss is kernel_cut_loss else {}))
    expected = numeric_gradient(value, segmentations)
    result = loss(images, segmentations, XY, RGB, exact_gradient=True, **arguments)
    assert result.value == pytest.approx(value(segmentations), rel=1e-5)
    assert relative_error(result.gradient(), expected) < 1e-5
    compatible = loss(images, segmentations, XY, RGB, **arguments)
    assert compatible.value == result.value
    # The published gradient of the gated loss takes G A for A G as well.
    assert 1e-5 < relative_error(compatible.gradient(), expected) < (0.6 if options.get("gate") else 0.15)


def test_the_gated_gradient_is_the_published_one():
    images, segmentations, labels = batch()
    regions = region_of_interest(images)
    gate = gates(segmentations, regions.reshape(2, -1), labels).reshape(2, 1, 8, 9)
    plain = densecrf_loss(images, segmentations, XY, RGB).gradient()
    gated = densecrf_loss(images, segmentations, XY, RGB, gate=True, labels=labels).gradient()
    np.testing.assert_allclose(gated, gate * plain, rtol=1e-5)
    without_labels = densecrf_loss(images, segmentations, XY, RGB, gate=True).gradient()
    doubt = np.maximum(regions - segmentations.max(axis=1), 0)[:, np.newaxis]
    np.testing.assert_allclose(without_labels, doubt * plain, rtol=1e-5)


def test_labels_alone_change_nothing():
    images, segmentations, labels = batch()
    plain = densecrf_loss(images, segmentations, XY, RGB)
    labelled = densecrf_loss(images, segmentations, XY, RGB, labels=labels)
    assert labelled.value == plain.value
    np.testing.assert_array_equal(labelled.gradient(), plain.gradient())


def test_an_image_without_labels_takes_no_part():
    images, segmentations, labels = batch()
    labels[0] = 255
    for loss in (densecrf_loss, kernel_cut_loss):
        result = loss(images, segmentations, XY, RGB, classes="labelled", labels=labels, non_negative=True)
        gradient = result.gradient()
        assert result.value > 0 and not gradient[0].any() and gradient[1].any()
        labels_of_none = np.full_like(labels, 255)
        nothing = loss(images, segmentations, XY, RGB, classes="labelled", labels=labels_of_none, non_negative=True)
        assert nothing.value == 0 and not nothing.gradient().any()


@pytest.mark.parametrize("normalization", ["BATCH_SIZE", "VALID", "AFFINITY"])
@pytest.mark.parametrize("kernel", ["none", "symmetric"])
def test_all_pixels_masked(normalization, kernel):
    images, segmentations, _ = batch()
    for loss in (densecrf_loss, kernel_cut_loss):
        value, gradient = loss(
            0 * images, segmentations, XY, RGB, normalization=normalization, kernel_normalization=kernel
        )
        assert value == 0 and not gradient.any()


@pytest.mark.parametrize("kernel", ["none", "symmetric"])
def test_the_share_of_the_affinity_that_is_cut(kernel):
    """From 0 to 1 for probabilities, with the same weight at every size and bandwidth; 0 where S is constant."""
    images, segmentations, _ = batch(height=20, width=22)
    one_hot = (segmentations == segmentations.max(axis=1, keepdims=True)).astype(np.float32)
    options = {"normalization": "AFFINITY", "kernel_normalization": kernel}
    for given_value in (segmentations, one_hot):
        bilinear = densecrf_loss(images, given_value, 9, 30, non_negative=True, **options).value
        quadratic = densecrf_loss(images, given_value, 9, 30, relaxation="quadratic", **options).value
        assert 0.05 < quadratic <= bilinear + 1e-5 and bilinear < 1
    assert quadratic == pytest.approx(bilinear, rel=1e-4)  # |p - q|^2 / 2 is 1 - p.q for labels
    constant = np.broadcast_to(np.float32([0.2, 0.5, 0.3])[:, None, None], segmentations.shape)
    flat = densecrf_loss(images, constant, 9, 30, relaxation="quadratic", exact_gradient=False, **options)
    assert flat.value == pytest.approx(0, abs=1e-6)
    assert np.abs(flat.gradient()).max() < 1e-5
    labelled_alike = np.broadcast_to(np.float32([0, 1, 0])[:, None, None], segmentations.shape)
    assert densecrf_loss(images, labelled_alike, 9, 30, non_negative=True, **options).value == pytest.approx(
        0, abs=1e-6
    )


def test_kernel_cut_is_the_weighted_sum():
    images, segmentations, labels = batch(n=2, k=5, height=30, width=33)
    for options in ({}, {"relaxation": "quadratic"}, {"kernel_normalization": "symmetric"}, {"gate": True}):
        for exact in (False, True):
            dense = densecrf_loss(
                images, segmentations, 9, 30, labels=labels, classes="labelled", exact_gradient=exact, **options
            )
            cut = normalized_cut_loss(images, segmentations, 9, 30, labels=labels, exact_gradient=exact)
            both = kernel_cut_loss(
                images, segmentations, 9, 30, 0.3, 2e-4, labels=labels, exact_gradient=exact, **options
            )
            assert both.value == pytest.approx(0.3 * cut.value + 2e-4 * dense.value, rel=1e-6)
            expected = cut.gradient(0.3) + dense.gradient(2e-4)
            assert relative_error(both.gradient(), expected) < 1e-5


LOSSES = [
    (normalized_cut_loss, {}),
    (kernel_cut_loss, {"densecrf_weight": 1e-3}),
    (kernel_cut_loss, {"densecrf_weight": 1e-3, "kernel_normalization": "symmetric", "relaxation": "quadratic"}),
    (densecrf_loss, {"relaxation": "quadratic"}),
    (densecrf_loss, {"normalization": "AFFINITY", "non_negative": True}),
    (densecrf_loss, {"normalization": "VALID", "kernel_normalization": "symmetric"}),
    (densecrf_loss, {"classes": "labelled"}),
    (densecrf_loss, {"gate": True}),
]


def named(each):
    return each.__name__ if callable(each) else "-".join(map(str, each.values()))


@pytest.mark.parametrize("loss, options", LOSSES, ids=named)
def test_a_region_of_interest_is_cropping_away(loss, options):
    """By the exact sum: in the lattice the vertices of masked pixels remain."""
    images, segmentations, labels = batch()
    images[0, :, :3, :4] = 50
    roi = np.zeros((2, 8, 9))
    roi[:, :6, 2:] = 1
    labels[:, 1, 3], labels[:, 7, 8] = 1, 2  # the second of them is cropped away
    whole = loss(images, segmentations, XY, RGB, labels=labels, roi=roi, lattice=ExactSum, **options)
    inside = (slice(None),) * 2 + (slice(0, 6), slice(2, None))
    part = loss(
        images[inside],
        segmentations[inside],
        XY,
        RGB,
        labels=labels[:, :6, 2:],
        roi=np.ones((2, 6, 7)),
        lattice=ExactSum,
        **options,
    )
    assert whole.value == pytest.approx(part.value, rel=1e-5)
    gradient = whole.gradient()
    assert relative_error(gradient[inside], part.gradient()) < 1e-5
    gradient[inside] = 0
    assert not gradient.any()


@pytest.mark.parametrize("loss, options", LOSSES, ids=named)
def test_a_batch_is_the_mean_of_its_images_and_threads_change_nothing(loss, options):
    images, segmentations, labels = batch(n=3, k=21, height=30, width=31)
    both = loss(images, segmentations, 9, 30, labels=labels, num_threads=1, **options)
    one = [
        loss(image[None], s[None], 9, 30, labels=label[None], num_threads=1, **options)
        for image, s, label in zip(images, segmentations, labels)
    ]
    assert both.value == pytest.approx(sum(each.value for each in one) / 3, rel=1e-9)
    expected = np.concatenate([each.gradient() for each in one]) / 3
    assert relative_error(both.gradient(), expected) < 1e-6
    workspace = Workspace()
    for threads in (2, 3, 5):
        found = loss(images, segmentations, 9, 30, labels=labels, num_threads=threads, work=workspace, **options)
        assert found.value == pytest.approx(both.value, rel=1e-6)
        assert relative_error(found.gradient(), expected) < 1e-5


@settings(max_examples=25, deadline=None)
@given(
    case=st.sampled_from(LOSSES),
    n=st.integers(1, 3),
    k=st.integers(1, 34),
    height=st.integers(2, 12),
    width=st.integers(2, 12),
    scale_factor=st.sampled_from([1.0, 1.0, 0.5]),
    seed=st.integers(0, 100),
)
def test_the_order_of_the_classes_does_not_matter(case, n, k, height, width, scale_factor, seed):
    loss, options = case
    random = np.random.RandomState(seed)
    images = (random.randn(n, 3, height, width) * 60).astype(np.float32)
    segmentations = probabilities(n, k, height, width, seed)
    labels = random.choice([*range(k), 255], (n, height, width))
    options = {"scale_factor": scale_factor, **options}
    value, gradient = loss(images, segmentations, 5, 30, labels=labels, **options)
    order = random.permutation(k)
    moved_labels = np.where(labels == 255, 255, np.argsort(order)[np.minimum(labels, k - 1)])
    moved = loss(images, segmentations[:, order], 5, 30, labels=moved_labels, **options)
    assert np.isfinite(gradient).all()
    assert moved.value == pytest.approx(value, rel=1e-4, abs=1e-5)
    np.testing.assert_allclose(moved.gradient(), gradient[:, order], rtol=1e-3, atol=1e-4 * np.abs(gradient).max())


def reduced(values, scale_factor):
    """PyTorch's bilinear interpolation with align_corners=False, by scipy."""
    ndimage = pytest.importorskip("scipy.ndimage", reason="another bilinear interpolation")
    sizes = [int(side * scale_factor) for side in values.shape[-2:]]
    places = [np.maximum((np.arange(size) + 0.5) / scale_factor - 0.5, 0) for size in sizes]
    grid = np.meshgrid(*places, indexing="ij")
    planes = [
        ndimage.map_coordinates(plane, grid, order=1, mode="nearest")
        for plane in values.reshape(-1, *values.shape[-2:])
    ]
    return np.array(planes).reshape(*values.shape[:-2], *sizes)


@pytest.mark.parametrize("loss, options", LOSSES, ids=named)
@pytest.mark.parametrize("scale_factor, step", [(0.5, 2), (0.25, 4)])
def test_scale_factor(loss, options, scale_factor, step):
    """The loss of the reduced arrays; the gradient is the reduction's adjoint."""
    images, segmentations, labels = batch(height=21, width=26)
    given_classes = {"classes": "labelled"} if options.get("classes") != "all" else {}
    options = {"exact_gradient": True, **options, **given_classes}
    result = loss(images, segmentations, 8, RGB, labels=labels, scale_factor=scale_factor, **options)
    rows, columns = (int(side * scale_factor) for side in (21, 26))
    nearest = (..., slice(0, rows * step, step), slice(0, columns * step, step))
    small_labels = labels[nearest].copy()
    if not options.get("gate"):  # classes come from the whole label map
        small_labels[...] = 255
        for index in range(2):
            small_labels[index, -1, -2:] = index, index + 1
    else:
        options["classes"] = "all"
        result = loss(images, segmentations, 8, RGB, labels=labels, scale_factor=scale_factor, **options)
    small = reduced(segmentations.astype(float), scale_factor)
    expected = loss(images[nearest], small, 8 * scale_factor, RGB, labels=small_labels, **options)
    assert result.value == pytest.approx(expected.value, rel=1e-5)
    direction = np.random.RandomState(0).randn(*segmentations.shape)
    moved = (expected.gradient().astype(float) * reduced(direction, scale_factor)).sum()
    assert (result.gradient().astype(float) * direction).sum() == pytest.approx(moved, rel=1e-4)
    assert result.gradient().shape == segmentations.shape


def test_a_thin_label_keeps_its_class_at_low_resolution():
    images, segmentations, labels = batch(n=1, height=20, width=20)
    labels[...] = 255
    labels[0, 11, 5:9] = 2  # an odd row: no nearest pixel of the half resolution
    gradient = normalized_cut_loss(images, segmentations, XY, RGB, labels=labels, scale_factor=0.5).gradient()
    assert gradient[0, 2].any() and not gradient[0, :2].any()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"classes": "labelled"}, "labels must be given where classes is labelled"),
        ({"classes": None}, "classes must be one of all, labelled, found None"),
        ({"kernel_normalization": "row"}, "kernel_normalization must be one of none, symmetric, found 'row'"),
        ({"relaxation": "absolute"}, "relaxation must be one of bilinear, quadratic, found 'absolute'"),
        ({"normalization": "valid"}, "normalization must be one of BATCH_SIZE, VALID, AFFINITY, found 'valid'"),
        ({"non_negative": "yes"}, "non_negative must be True or False"),
        ({"gate": 2}, "gate must be True or False"),
        ({"gate": True, "relaxation": "quadratic"}, "gate must be False where relaxation is quadratic"),
        ({"scale_factor": 0}, "scale_factor must be float > 0.* <= 1, found 0"),
        ({"scale_factor": 1.5}, "scale_factor must be float > 0.* <= 1, found 1.5"),
        ({"scale_factor": 0.1}, "scale_factor must leave a pixel, found 0.1 for 8 x 9 pixels"),
        ({"labels": np.full((2, 8, 9), 3)}, "image 0 of the batch: labels must be whole numbers from 0 to 2"),
    ],
)
def test_options_are_checked(options, message):
    images, segmentations, _ = batch()
    with pytest.raises(ValueError, match=message):
        densecrf_loss(images, segmentations, XY, RGB, **options)


@pytest.mark.parametrize("loss, options", LOSSES, ids=named)
@pytest.mark.parametrize("scale_factor", [1, 0.5])
@pytest.mark.parametrize("where", ["images", "segmentations"])
def test_non_finite_input_names_the_image_and_the_place(loss, options, scale_factor, where):
    images, segmentations, labels = batch()
    given_arrays = {"images": images, "segmentations": segmentations}
    given_arrays[where][1, 2, 3, 5] = np.nan
    with pytest.raises(ValueError, match=rf"image 1 of the batch: {where} must be finite, found nan at \(2, 3, 5\)"):
        loss(**given_arrays, bi_xy_std=XY, bi_rgb_std=RGB, labels=labels, scale_factor=scale_factor, **options)


@pytest.mark.parametrize("loss, options", LOSSES, ids=named)
def test_huge_values_are_refused_or_finite(loss, options):
    images, segmentations, labels = batch()
    for size in (1e5, 1e19, 3e38):
        try:
            value, gradient = loss(images, np.float32(size) * segmentations, XY, RGB, labels=labels, **options)
        except ValueError as error:
            assert size > 1e5 and "segmentations must not be so large" in str(error)
        else:
            assert np.isfinite(value) and np.isfinite(gradient).all()


def test_symmetric_degrees_a_little_below_0_give_no_nan():
    """Outside the region A m can be -1e-8, as barycentric weights can be just below 0."""
    images = np.array([smooth_image(60, 70, seed=seed) for seed in range(2)])
    images[:, :, 25:] = 0
    images[:, :, 25:] += np.linspace(0, 0.9, 70, dtype=np.float32)
    segmentations = probabilities(2, 4, 60, 70)
    for loss in (densecrf_loss, kernel_cut_loss):
        value, gradient = loss(images, segmentations, 1.5, 3, kernel_normalization="symmetric")
        assert np.isfinite(value) and np.isfinite(gradient).all() and not gradient[:, :, 25:].any()


def test_defaults_and_docstring_come_from_the_declarations():
    signature = inspect.signature(kernel_cut_loss).parameters
    for parameter in kernel_cut.PARAMETERS:
        assert signature[parameter.name].default == parameter.default
        assert f"{parameter.name} : {parameter.expectation()}, default" in kernel_cut_loss.__doc__
