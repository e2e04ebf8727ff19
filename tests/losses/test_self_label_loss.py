"""Soft self-labelling: a twin of the joint loss, finite differences, the descent, what the labels say, bad input."""

import inspect

import numpy as np
import pytest
from helpers.images import probabilities, smooth_image
from helpers.self_label_twin import joint_loss
from hypothesis import given, settings
from hypothesis import strategies as st

from rloss_caffe import self_label_loss
from rloss_caffe.filtering import PermutohedralLattice, bilateral_features
from rloss_caffe.losses import Workspace, self_label

RELAXATIONS = self_label.RELAXATION.choices
WINDOW = {"radius": 1, "xy_std": 6.0, "rgb_std": 60.0}


def scene(n=2, k=3, height=9, width=10, seed=0):
    """Images with a border outside the region, segmentations, and labels on some pixels."""
    images = np.array([smooth_image(height, width, 3, seed + index) for index in range(n)])
    images[-1, :, :2] = 0
    random = np.random.RandomState(seed)
    labels = np.full((n, height, width), 255)
    labels[random.rand(*labels.shape) < 0.15] = 0
    labels[:, height // 2, : width // 2] = k - 1
    return images, probabilities(n, k, height, width, seed), labels


def halves(height=12, width=16, noise=0.0):
    """Two flat halves with a stroke each, and a network that knows next to nothing: the truth is the halves."""
    truth = np.zeros((height, width), int)
    truth[:, width // 2 :] = 1
    image = np.where(truth == 1, 60.0, -60.0) + np.zeros((3, 1, 1))
    labels = np.full((height, width), 255)
    labels[2:-2, 2], labels[2:-2, -3] = 0, 1
    scores = noise * np.random.RandomState(0).randn(3, height, width)
    segmentation = np.exp(scores) / np.exp(scores).sum(axis=0)
    return image[None].astype(np.float32), segmentation[None].astype(np.float32), labels[None], truth


CASES = st.fixed_dictionaries(
    {
        "relaxation": st.sampled_from(RELAXATIONS),
        "cross_entropy": st.sampled_from(["collision", "forward"]),
        "eta": st.sampled_from([0.05, 0.3, 2.0]),
        "strength": st.sampled_from([0.0, 1.0, 6.0, 50.0]),
        "normalization": st.sampled_from(["VALID", "BATCH_SIZE"]),
        "labelled_weight": st.sampled_from([0.0, 1.0]),
        "contrast": st.sampled_from(["fixed", "image"]),
        "contrast_scale": st.sampled_from([0.5, 1.0]),
        "space": st.sampled_from(["gaussian", "inverse_distance"]),
        "radius": st.integers(1, 3),
        "steps": st.integers(0, 12),
        "k": st.integers(1, 5),
        "height": st.integers(1, 7),
        "width": st.integers(1, 7),
        "with_labels": st.booleans(),
        "with_roi": st.booleans(),
        "seed": st.integers(0, 10**6),
    }
)


def call(case):
    """The function's result, and how to ask the twin for its terms with other segmentations."""
    case = dict(case)
    images, segmentations, labels = scene(2, case.pop("k"), case.pop("height"), case.pop("width"), case["seed"] % 1000)
    random = np.random.RandomState(case.pop("seed"))
    roi = random.rand(2, *labels.shape[1:]).round(1)
    options = {"labels": labels if case.pop("with_labels") else None, "roi": roi if case.pop("with_roi") else None}
    steps = case.pop("steps")
    options.update(case, xy_std=2.0, rgb_std=50.0)
    own = {("lambda_" if name == "strength" else name): value for name, value in options.items()}
    result = self_label_loss(images, segmentations, steps=steps, **own)
    return result, segmentations, lambda values: joint_loss(images, values, result.latent, **options)


@settings(max_examples=50, deadline=None)
@given(case=CASES)
def test_value_and_gradient_of_the_twin(case):
    result, segmentations, twin = call(case)
    terms = twin(segmentations)
    found = [result.terms.labelled, result.terms.latent, result.terms.pairs]
    np.testing.assert_allclose(found, terms, rtol=2e-4, atol=1e-6 * max(1, case["strength"]))
    assert result.value == pytest.approx(sum(found))
    # labels held constant: the twin's differences with respect to the segmentations alone
    gradient, wide = result.gradient(2.0).astype(float), segmentations.astype(float)
    random = np.random.RandomState(case["seed"])
    for _ in range(2):
        direction = random.randn(*wide.shape) * wide  # keeps them above 0
        step = 1e-5
        change = (twin(wide + step * direction).sum() - twin(wide - step * direction).sum()) / (2 * step)
        scale = np.abs(gradient * direction).sum()
        assert (gradient * direction).sum() == pytest.approx(2 * change, abs=1e-5 * scale + 1e-6)


@settings(max_examples=25, deadline=None)
@given(case=CASES)
def test_no_step_raises_the_joint_loss(case):
    values = []
    for steps in (0, 1, 2, 3, 5, 8):
        result, segmentations, twin = call({**case, "steps": steps})
        values.append(twin(segmentations).sum())
    scale = max(1e-3, abs(values[0]))
    assert all(after <= before + 1e-5 * scale for before, after in zip(values, values[1:]))


@settings(max_examples=25, deadline=None)
@given(case=CASES)
def test_laws(case):
    given_case = dict(case)
    k, height, width, seed = (given_case.pop(name) for name in ("k", "height", "width", "seed"))
    images, segmentations, labels = scene(2, k, height, width, seed % 1000)
    if not given_case.pop("with_labels"):
        labels[...] = 255
    roi = (np.random.RandomState(seed).rand(*labels.shape) > 0.3).astype(np.float32)
    if not given_case.pop("with_roi"):
        roi[...] = 1
    given_case["lambda"] = given_case.pop("strength")
    options = {**given_case, "rgb_std": 50.0}
    result = self_label_loss(images, segmentations, labels=labels, roi=roi, **options)
    latent, gradient = result.latent, result.gradient()
    # probabilities; those that are given stay
    np.testing.assert_allclose(latent.sum(axis=1), 1, rtol=1e-5)
    assert latent.min() >= 0
    for n, i, j in np.argwhere(labels != 255):
        assert latent[n, labels[n, i, j], i, j] == 1
    np.testing.assert_allclose(
        latent.transpose(0, 2, 3, 1)[(roi == 0) & (labels == 255)],
        segmentations.transpose(0, 2, 3, 1)[(roi == 0) & (labels == 255)],
        rtol=1e-5,
    )
    # the gradient pulls, never pushes, and nothing outside the region
    assert gradient.max() <= 0 and not gradient.transpose(0, 2, 3, 1)[roi == 0].any()
    # the batch is the mean of its images, whatever the number of threads
    parts = [
        self_label_loss(
            images[[n]], segmentations[[n]], labels=labels[[n], None], roi=roi[[n], None], num_threads=3, **options
        )
        for n in range(2)
    ]
    assert result.value == pytest.approx(sum(part.value for part in parts) / 2, rel=1e-12, abs=1e-12)
    for n, part in enumerate(parts):
        np.testing.assert_array_equal(part.latent[0], latent[n])
        np.testing.assert_allclose(part.gradient(0.5)[0], gradient[n], rtol=1e-6)
    for threads in (1, 2, 5):
        again = self_label_loss(images, segmentations, labels=labels, roi=roi, num_threads=threads, **options)
        assert again.value == result.value
        np.testing.assert_array_equal(again.latent, latent)


@pytest.mark.parametrize("relaxation, kernel", [(name, "pairs") for name in RELAXATIONS] + [("bilinear", "dense")])
def test_a_region_equals_cropping_away(relaxation, kernel):
    images, segmentations, labels = scene(2, 3, 12, 13)
    images[-1, :, :2] = 50
    roi = np.zeros((2, 12, 13))
    roi[:, 2:9, 3:11] = 1
    inside = np.s_[..., 2:9, 3:11]
    options = {"relaxation": relaxation, "steps": 10, "kernel": kernel}
    if kernel == "dense":
        options.update(steps=2, eta=2.0, lambda_=2.0)  # where a pixel stands between two classes, little decides
    result = self_label_loss(images, segmentations, labels=labels, roi=roi, **options)
    cropped = self_label_loss(images[inside], segmentations[inside], labels=labels[inside], roi=roi[inside], **options)
    # the lattice's vertices of pixels outside change a little of what it passes on
    tolerance = 1e-4 if kernel == "pairs" else 0.1
    assert result.value == pytest.approx(cropped.value, rel=tolerance)
    np.testing.assert_allclose(result.latent[inside], cropped.latent, atol=tolerance)


def test_another_order_of_the_classes():
    images, segmentations, labels = scene(2, 4)
    order = np.array([2, 0, 3, 1])
    place = np.append(np.argsort(order), np.full(300, 255))
    one = self_label_loss(images, segmentations, labels=labels, steps=10)
    other = self_label_loss(images, segmentations[:, order], labels=place[labels], steps=10)
    assert other.value == pytest.approx(one.value, rel=1e-5)
    np.testing.assert_allclose(other.latent, one.latent[:, order], atol=1e-3)


@pytest.mark.parametrize("relaxation", [name for name in RELAXATIONS if name != "bilinear"])
@pytest.mark.parametrize("cross_entropy", ["collision", "forward"])
def test_labels_spread_to_what_looks_alike_and_stop_at_outlines(relaxation, cross_entropy):
    images, segmentations, labels, truth = halves(noise=0.01)
    options = {"relaxation": relaxation, "cross_entropy": cross_entropy, "lambda_": 50, "steps": 200}
    result = self_label_loss(images, segmentations, labels=labels, **options)
    np.testing.assert_array_equal(result.latent[0].argmax(axis=0), truth)
    assert result.latent[0].max(axis=0).min() > 0.8
    before = self_label_loss(images, segmentations, labels=labels, **{**options, "steps": 0})
    assert result.value < before.value


def test_labels_spread_on_the_dense_kernel():
    images, segmentations, labels, truth = halves()
    result = self_label_loss(images, segmentations, labels=labels, kernel="dense", bi_xy_std=8, bi_rgb_std=20, steps=10)
    np.testing.assert_array_equal(result.latent[0].argmax(axis=0), truth)


def test_mean_field_of_the_dense_kernel():
    """Against the matrix of the lattice's filter, in double precision."""
    images, segmentations, labels = scene(1, 3, 8, 9)
    roi = (np.random.RandomState(4).rand(1, 8, 9) > 0.2).astype(np.float32)
    eta, strength, steps = 0.5, 1.5, 4
    result = self_label_loss(
        images, segmentations, labels=labels, roi=roi, kernel="dense", eta=eta, lambda_=strength, steps=steps,
        bi_xy_std=5, bi_rgb_std=60,
    )  # fmt: skip
    lattice = PermutohedralLattice(bilateral_features(images[0], 5.0, 60.0))
    matrix = lattice.filter(np.eye(72, dtype=np.float32).reshape(72, 8, 9)).reshape(72, 72).T.astype(float)
    m, c = roi.ravel().astype(float), labels.ravel()
    s = segmentations.reshape(3, 72).astype(float)
    y = np.where(c != 255, c == np.arange(3)[:, None], s).astype(float)
    degree = matrix @ m
    for _ in range(steps):
        message = (matrix @ (m * y).T).T / degree
        scores = np.exp(np.log(s) + strength / eta * message)
        y = np.where((c == 255) & (m > 0), scores / scores.sum(axis=0), y)
    np.testing.assert_allclose(result.latent.reshape(3, 72), y, atol=1e-4)
    agreement = (y * ((matrix @ (m * y).T).T / degree)).sum(axis=0)
    assert result.terms.pairs == pytest.approx(strength / 2 * (m * (1 - agreement)).sum() / m.sum(), rel=1e-3)
    assert result.terms.latent == pytest.approx(
        eta * -(m * np.log((s * y).sum(axis=0)))[c == 255].sum() / m.sum(), rel=1e-3
    )


def test_without_pairs_the_labels_are_what_the_network_is_surest_of():
    """-ln y.s alone is least where y is all on the likeliest class."""
    images, segmentations, _ = scene(1, 3)
    result = self_label_loss(images, segmentations, lambda_=0, steps=500, roi=np.ones((1, 9, 10)))
    np.testing.assert_array_equal(result.latent.argmax(axis=1), segmentations.argmax(axis=1))
    assert result.terms.pairs == 0 and np.median(result.latent.max(axis=1)) > 0.99


@pytest.mark.parametrize("kernel", ["pairs", "dense"])
@settings(max_examples=20, deadline=None)
@given(chosen=st.sets(st.integers(0, 4)), seed=st.integers(0, 1000), weight=st.sampled_from([0.0, 1.0]))
def test_labelled_classes_equal_cutting_the_others_away(kernel, chosen, seed, weight):
    images, segmentations, _ = scene(2, 6, seed=seed)
    random = np.random.RandomState(seed)
    chosen = sorted(chosen)
    places = random.randint(-20, len(chosen), (9, 10))  # the others have no label
    labels = np.full((2, 9, 10), 255)
    for place, label in enumerate(chosen):
        places[2 + place, 2] = place
        labels[1][places == place] = label
    labels[1, 0, 0] = 5  # outside the region: names nothing
    options = {"kernel": kernel, "lambda_": 20, "steps": 8, "rgb_std": 50.0, "labelled_weight": weight}
    result = self_label_loss(images, segmentations, labels=labels, classes="labelled", **options)
    latent, gradient = result.latent, result.gradient()
    assert not latent[0].any() and not gradient[0].any()  # the image without labels
    if not chosen:
        assert result.value == 0 and not gradient.any()
        return
    own = np.where(places < 0, 255, places)[np.newaxis]
    own[0, 0, 0] = 255
    cut = self_label_loss(images[1:], segmentations[1:, chosen], labels=own, **options)
    assert result.value == pytest.approx(cut.value / 2)
    np.testing.assert_array_equal(latent[1, chosen], cut.latent[0])
    np.testing.assert_allclose(gradient[1, chosen], cut.gradient()[0] / 2, rtol=1e-6)
    others = np.setdiff1d(np.arange(6), chosen)
    assert not latent[1, others].any() and not gradient[1, others].any()


def test_labelled_pixels_have_the_ordinary_cross_entropy():
    images, segmentations, labels = scene(1, 3)
    roi = np.ones((1, 9, 10))
    value, gradient = self_label_loss(images, segmentations, labels=labels, roi=roi, normalization="BATCH_SIZE")
    rows, columns = np.nonzero(labels[0] != 255)
    found = segmentations[0, labels[0, rows, columns], rows, columns]
    np.testing.assert_allclose(gradient[0, labels[0, rows, columns], rows, columns], -1 / found, rtol=1e-5)
    assert (gradient[0][:, rows, columns] != 0).sum() == len(rows)
    other = self_label_loss(
        images, segmentations, labels=labels, roi=roi, normalization="BATCH_SIZE", labelled_weight=0
    )
    assert value - other.value == pytest.approx(-np.log(found).sum(), rel=1e-5)
    assert not other.gradient()[0][:, rows, columns].any()


def test_probabilities_of_zero_and_one_are_finite():
    images, _, labels, truth = halves()
    sure = np.stack([truth != 0, truth == 0, np.zeros(truth.shape)]).astype(np.float32)[None]  # all wrong
    sure[..., 0] = 0  # not even that
    for relaxation in RELAXATIONS:
        for cross_entropy in ("collision", "forward"):
            options = {"relaxation": relaxation, "cross_entropy": cross_entropy, "steps": 20}
            result = self_label_loss(images, sure, labels=labels, **options)
            assert np.isfinite(result.value) and np.isfinite(result.gradient()).all()
            assert np.isfinite(result.latent).all()


def test_an_empty_region_counts_as_nothing():
    images, segmentations, labels = scene(1)
    for kernel in ("pairs", "dense"):
        result = self_label_loss(images, segmentations, labels=labels, roi=np.zeros((1, 9, 10)), kernel=kernel)
        assert result.value == 0 and not result.gradient().any()


def test_a_workspace_serves_the_latest_call():
    images, segmentations, labels = scene(1)
    work = Workspace()
    first = self_label_loss(images, segmentations, labels=labels, work=work)
    expected = first.gradient()
    second = self_label_loss(images, segmentations, labels=labels, work=work)
    np.testing.assert_array_equal(second.gradient(), expected)
    with pytest.raises(ValueError, match="a later call took this result's workspace"):
        first.gradient()


def test_lambda_under_both_names():
    images, segmentations, labels = scene(1)
    one = self_label_loss(images, segmentations, labels=labels, lambda_=20)
    other = self_label_loss(images, segmentations, labels=labels, **{"lambda": 20})
    assert one.value == other.value != self_label_loss(images, segmentations, labels=labels).value
    with pytest.raises(TypeError, match="unexpected keyword argument 'lamda'"):
        self_label_loss(images, segmentations, lamda=20)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"relaxation": "absolute"}, "relaxation must be one of bilinear, quadratic, normalized_quadratic, coll"),
        ({"cross_entropy": "reverse"}, "cross_entropy must be one of collision, forward, found 'reverse'"),
        ({"kernel": "grid"}, "kernel must be one of pairs, dense"),
        ({"eta": 0}, "eta must be float from 1e-06 to"),
        ({"lambda_": -1}, "lambda must be float from 0 to"),
        ({"steps": 2.5}, "steps must be a whole number"),
        ({"radius": 0}, "radius must be int >= 1"),
        ({"classes": "labelled"}, "labels must be given where classes is labelled"),
        ({"rgb_std": 0}, "rgb_std must be float > 0"),
        ({"labels": np.zeros((1, 9, 10))}, r"labels must have shape \(2, 9, 10\) or \(2, 1, 9, 10\)"),
        ({"labels": np.full((2, 9, 10), 3)}, "image 0 of the batch: labels must be whole numbers from 0 to 2"),
        ({"roi": -np.ones((2, 9, 10))}, "roi must hold values >= 0, found -1"),
        ({"roi": np.full((2, 9, 10), 3e38)}, "roi, eta, lambda and labelled_weight must not be so large"),
    ],
)
def test_mistakes_are_told(options, message):
    images, segmentations, _ = scene()
    with pytest.raises(ValueError, match=message):
        self_label_loss(images, segmentations, **options)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, -0.5, 1.5])
def test_what_is_no_probability_names_the_image(bad):
    images, segmentations, labels = scene()
    segmentations[1, 1, 3, 3] = bad
    with pytest.raises(ValueError, match=r"image 1 of the batch: segmentations must (be finite|hold probabilities)"):
        self_label_loss(images, segmentations, labels=labels)
    images[1, 0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="image 1 of the batch: images must be finite"):
        self_label_loss(images, segmentations, labels=labels)


def test_defaults_and_docstring_come_from_the_declarations():
    signature = inspect.signature(self_label_loss).parameters
    for parameter in self_label.PARAMETERS:
        name = "lambda_" if parameter.name == "lambda" else parameter.name
        assert signature[name].default == parameter.default
        assert f"{parameter.name} : {parameter.expectation()}, default" in self_label_loss.__doc__
