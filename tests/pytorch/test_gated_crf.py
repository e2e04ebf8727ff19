"""Gated CRF with its authors' signature, against a twin that unfolds the windows."""

import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch")

import numpy as np  # noqa: E402
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from torch.nn.functional import adaptive_avg_pool2d, unfold  # noqa: E402

from rloss_caffe.torch import ModelLossSemsegGatedCRF  # noqa: E402

SIZE = (7, 9)
KERNELS = [{"weight": 1, "xy": 6, "rgb": 0.1}]


def windows(values, radius):
    """(N, C, window, H W): what each pixel sees; 0 outside."""
    batch, channels = values.shape[:2]
    return unfold(values, 2 * radius + 1, padding=radius).view(batch, channels, (2 * radius + 1) ** 2, -1)


def weights(features, radius):
    """(N, 1, window, H W): the kernel of features that are over their bandwidths; 0 at the pixel, and outside."""
    apart = windows(features, radius) - features.flatten(2)[:, :, None]
    kernel = torch.exp(-apart.square().sum(1, keepdim=True) / 2)
    kernel[:, :, kernel.shape[2] // 2] = 0
    return kernel * windows(torch.ones_like(features[:, :1]), radius)


def twin(segmentations, kernels, radius, sample, source=None, destination=None, compatibility=None):
    """The loss, by unfolding everything, in double precision. `sample`: by modality, at the segmentations' size."""
    segmentations = segmentations.double()
    batch, classes, height, width = segmentations.shape
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    sample = dict(sample, xy=torch.stack([rows, columns])[None].expand(batch, -1, -1, -1))
    total = 0.0
    for kernel in kernels:
        features = [sample[name].double() / sigma for name, sigma in kernel.items() if name != "weight"]
        total = total + kernel["weight"] * weights(torch.cat(features, dim=1), radius)
    size = batch * height * width
    if source is not None:
        total, size = total * windows(source.double(), radius), max(1, source.sum())
    if destination is not None:
        total, size = total * destination.double().flatten(2)[:, :, None], max(1, destination.sum())
    seen = windows(segmentations, radius)
    if compatibility is None:
        cost = 1 - (segmentations.flatten(2)[:, :, None] * seen).sum(1, keepdim=True)
    else:
        rows = compatibility.double()
        rows = rows / rows.sum(1, keepdim=True).clamp(min=1e-12) * (classes - 1)
        cost = torch.einsum("nap,ab,nbwp->nwp", segmentations.flatten(2), rows, seen)[:, None]
    return (total * cost).sum() / size


def batch(seed=0, classes=3, channels=1, images=2, size=SIZE):
    random = np.random.RandomState(seed)
    whitened = torch.tensor(random.choice([0.0, 1.0], (images, channels, *size)) + 0.05 * random.randn(*size))
    scores = torch.tensor(random.randn(images, classes, *size), dtype=torch.float32, requires_grad=True)
    return whitened.float(), scores


def masks(seed, size=SIZE):
    random = np.random.RandomState(seed)
    return [torch.tensor(random.rand(2, 1, *size) > 0.4).float() for _ in range(2)]


def agree(loss, expected, scores, rtol=1e-5):
    (found,) = torch.autograd.grad(3 * loss, scores, retain_graph=True)
    (gradient,) = torch.autograd.grad(3 * expected, scores)
    assert loss.shape == () and loss.dtype == scores.dtype
    assert loss.item() == pytest.approx(expected.item(), rel=rtol, abs=1e-5)
    torch.testing.assert_close(found, gradient, rtol=10 * rtol, atol=10 * rtol * gradient.abs().max().item())


def test_wsl4mis():
    """train_weakly_supervised_pCE_GatedCRFLoss_2D.py: one grey channel as a tensor, scores of the image's size."""
    image, scores = batch(classes=4)
    outputs_soft = torch.softmax(scores, dim=1)
    before = image.clone(), outputs_soft.detach().clone()
    loss = ModelLossSemsegGatedCRF()(outputs_soft, KERNELS, 5, image, *SIZE)["loss"]
    assert torch.equal(image, before[0]) and torch.equal(outputs_soft, before[1])
    agree(loss, twin(outputs_soft, KERNELS, 5, {"rgb": image}), scores)


@pytest.mark.parametrize("given_as", ["tensor", "dict"])
def test_a_sample_of_another_size_is_reduced_by_area(given_as):
    image, scores = batch(channels=3, size=SIZE)
    large = image.repeat_interleave(4, 2).repeat_interleave(4, 3)
    large = large + 0.1 * torch.randn(large.shape, generator=torch.Generator().manual_seed(1))
    height, width = 4 * SIZE[0], 4 * SIZE[1]
    sample = large if given_as == "tensor" else {"rgb": large}
    loss = ModelLossSemsegGatedCRF()(scores.softmax(1), KERNELS, 2, sample, height, width)["loss"]
    agree(loss, twin(scores.softmax(1), KERNELS, 2, {"rgb": adaptive_avg_pool2d(large, SIZE)}), scores)


@pytest.mark.parametrize(
    "kernels",
    [
        [{"weight": 0.9, "xy": 6, "rgb": 0.1}, {"weight": 0.1, "xy": 3}],
        [{"weight": 1.5, "rgb": 0.3}],
        [{"weight": 1, "xy": 4, "rgb": 0.2, "depth": 0.5}, {"weight": -0.25, "depth": 0.3, "xy": 2}],
    ],
)
def test_several_kernels_and_modalities(kernels):
    image, scores = batch(channels=3)
    depth, _ = batch(seed=5)
    sample = {"rgb": image, "depth": depth}
    loss = ModelLossSemsegGatedCRF()(scores.softmax(1), kernels, 3, sample, *SIZE)["loss"]
    agree(loss, twin(scores.softmax(1), kernels, 3, sample), scores)


@pytest.mark.parametrize("compatible", [False, True])
@pytest.mark.parametrize("given_masks", ["source", "destination", "both", "one as both", "equal", "none", "empty"])
def test_masks_and_compatibility(given_masks, compatible):
    image, scores = batch()
    source, destination = masks(2)
    source, destination = {
        "source": (source, None),
        "destination": (None, destination),
        "both": (source, destination),
        "one as both": (source, source),
        "equal": (source, source.clone()),
        "none": (None, None),
        "empty": (torch.zeros_like(source), None),
    }[given_masks]
    matrix = torch.tensor([[0.0, 2.0, 1.0], [0.5, 0.0, 0.0], [3.0, 1.0, 0.0]]) if compatible else None
    before = None if source is None else source.clone()
    loss = ModelLossSemsegGatedCRF()(
        scores.softmax(1), KERNELS, 2, image, *SIZE, mask_src=source, mask_dst=destination, compatibility=matrix
    )["loss"]
    assert before is None or torch.equal(source, before)
    expected = twin(scores.softmax(1), KERNELS, 2, {"rgb": image}, source, destination, matrix)
    agree(loss, expected, scores, rtol=1e-5 if loss.item() else 1)


def test_a_mask_is_reduced_and_what_is_not_whole_is_left_out():
    image, scores = batch()
    large = torch.ones(2, 1, 2 * SIZE[0], 2 * SIZE[1])
    large[0, 0, 3, 3] = 0.0
    large[1, 0, 4:6, 0:2] = float("nan")
    before = large.clone()
    small = torch.ones(2, 1, *SIZE)
    small[0, 0, 1, 1] = small[1, 0, 2, 0] = 0
    of = ModelLossSemsegGatedCRF()
    loss = of(scores.softmax(1), KERNELS, 2, image, 2 * SIZE[0], 2 * SIZE[1], mask_src=large)["loss"]
    torch.testing.assert_close(large, before, equal_nan=True)
    agree(loss, twin(scores.softmax(1), KERNELS, 2, {"rgb": image}, small), scores)
    unfit = torch.where(small == 0, float("nan"), small)
    torch.testing.assert_close(of(scores.softmax(1), KERNELS, 2, image, *SIZE, mask_src=unfit)["loss"], loss)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**31 - 1),
    size=st.tuples(st.integers(1, 8), st.integers(1, 8)),
    classes=st.integers(1, 4),
    radius=st.integers(1, 6),
    masked=st.sampled_from([(False, False), (True, False), (False, True), (True, True)]),
    compatible=st.booleans(),
)
def test_any_call(seed, size, classes, radius, masked, compatible):
    image, scores = batch(seed, classes, channels=2, size=size)
    source, destination = (mask if used else None for mask, used in zip(masks(seed, size), masked))
    matrix = torch.rand(classes, classes, generator=torch.Generator().manual_seed(seed)) if compatible else None
    if compatible:
        matrix.fill_diagonal_(0)
    kernels = [{"weight": 1, "xy": 3, "rgb": 0.5}, {"weight": 0.3, "rgb": 0.2}]
    loss = ModelLossSemsegGatedCRF()(
        scores.softmax(1), kernels, radius, image, *size, mask_src=source, mask_dst=destination, compatibility=matrix
    )["loss"]
    expected = twin(scores.softmax(1), kernels, radius, {"rgb": image}, source, destination, matrix)
    if not expected.requires_grad:
        expected = expected + 0 * scores.sum()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4, abs=1e-4)
    (found,), (gradient,) = torch.autograd.grad(loss, scores), torch.autograd.grad(expected, scores)
    torch.testing.assert_close(found, gradient, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("size", [(11, 11), (13, 17), (4, 9)])
def test_the_picture_of_the_kernels(size):
    """Each window that has its middle in the image shows the middle's kernel; the rest is 0."""
    radius = 2
    image, scores = batch(size=size)
    source, destination = masks(4, size)
    kernels = [{"weight": 0.5, "xy": 3, "rgb": 0.5}, {"weight": 2, "rgb": 0.8}]
    picture = ModelLossSemsegGatedCRF()(
        scores.softmax(1), kernels, radius, image, *size, source, destination, out_kernels_vis=True
    )["kernels_vis"]
    assert picture.shape == (2, 1, *size) and not picture.requires_grad
    rows, columns = torch.meshgrid(torch.arange(size[0]), torch.arange(size[1]), indexing="ij")
    mesh = torch.stack([rows, columns])[None].expand(2, -1, -1, -1)
    full = 0.5 * weights(torch.cat([image / 0.5, mesh / 3], 1), radius) + 2 * weights(image / 0.8, radius)
    full = full * windows(source, radius) * destination.flatten(2)[:, :, None]
    full = full.view(2, 5, 5, *size)
    for index in range(2):
        for row in range(size[0]):
            for column in range(size[1]):
                top, left = row // 5 * 5 + 2, column // 5 * 5 + 2
                shown = picture[index, 0, row, column].item()
                whole = top < size[0] and left < size[1]
                expected = full[index, row - top + 2, column - left + 2, top, left].item() if whole else 0
                assert shown == pytest.approx(expected, abs=1e-6)


def test_a_downsampler_of_ones_own():
    image, scores = batch()
    large = image.repeat_interleave(2, 2).repeat_interleave(2, 3)
    called = []

    def nearest(tensor, size):
        called.append(tuple(size))
        return tensor[:, :, ::2, ::2]

    loss = ModelLossSemsegGatedCRF()(
        scores.softmax(1), KERNELS, 2, {"rgb": large}, 14, 18, custom_modality_downsamplers={"rgb": nearest}
    )["loss"]
    assert called == [SIZE]
    agree(loss, twin(scores.softmax(1), KERNELS, 2, {"rgb": image}), scores)


def test_half_precision_and_autocast():
    image, scores = batch()
    segmentations = scores.detach().softmax(1).half().requires_grad_()
    matrix = torch.tensor([[0.0, 2.0, 1.0], [0.5, 0.0, 0.0], [3.0, 1.0, 0.0]])
    for options in ({}, {"compatibility": matrix}):
        expected = ModelLossSemsegGatedCRF()(segmentations.float(), KERNELS, 2, image, *SIZE, **options)["loss"]
        loss = ModelLossSemsegGatedCRF()(segmentations, KERNELS, 2, image.half(), *SIZE, **options)["loss"]
        assert loss.dtype == torch.float16 and loss.item() == pytest.approx(expected.item(), rel=1e-2)
        (found,) = torch.autograd.grad(loss, segmentations)
        assert found.dtype == torch.float16 and torch.isfinite(found).all()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            again = ModelLossSemsegGatedCRF()(segmentations.float(), KERNELS, 2, image, *SIZE, **options)["loss"]
        torch.testing.assert_close(again, expected)


@pytest.mark.parametrize("masked", [False, True])
def test_compiled_without_a_graph_break(masked):
    image, scores = batch()
    of, mask = ModelLossSemsegGatedCRF(), masks(6)[0] if masked else None

    def loss(scores):
        return of(scores.softmax(1), KERNELS, 2, image, *SIZE, mask_src=mask)["loss"]

    torch._dynamo.reset()
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    agree(compiled(scores), loss(scores), scores)


def test_what_does_not_fit_is_said():
    image, scores = batch()
    probabilities, of = scores.softmax(1), ModelLossSemsegGatedCRF()
    for text, arguments, options in [
        ("must be the same multiple of the segmentations' size 7 x 9, found 14 x 9", (KERNELS, 2, image, 14, 9), {}),
        ("kernels_radius must be int >= 1, found 0", (KERNELS, 0, image, *SIZE), {}),
        ("a kernel of kernels_desc must have a weight", ([{"xy": 6}], 2, image, *SIZE), {}),
        ("at least one kernel", ([], 2, image, *SIZE), {}),
        ("rgb of a kernel .* must be a finite number > 0, found 0", ([{"weight": 1, "rgb": 0}], 2, image, *SIZE), {}),
        ("weight of a kernel .* a finite number, found nan", ([{"weight": np.nan, "xy": 6}], 2, image, *SIZE), {}),
        ("xy of a kernel .* found '6'", ([{"weight": 1, "xy": "6"}], 2, image, *SIZE), {}),
        ("sample must hold the modality rgb of kernels_desc, found depth", (KERNELS, 2, {"depth": image}, *SIZE), {}),
        (r"modality rgb of sample must have shape \(2, channels", (KERNELS, 2, image[:1], *SIZE), {}),
        (r"mask_dst must have shape \(2, 1, height", (KERNELS, 2, image, *SIZE), {"mask_dst": torch.ones(2, *SIZE)}),
        ("compatibility must have shape", (KERNELS, 2, image, *SIZE), {"compatibility": torch.zeros(2, 3)}),
        ("0 on its diagonal", (KERNELS, 2, image, *SIZE), {"compatibility": torch.eye(3)}),
        ("values >= 0", (KERNELS, 2, image, *SIZE), {"compatibility": -torch.ones(3, 3).fill_diagonal_(0)}),
    ]:
        with pytest.raises(ValueError, match=text):
            of(probabilities, *arguments, **options)
    with pytest.raises(ValueError, match=r"y_hat_softmax must have shape \(N, C, H, W\)"):
        of(probabilities[0], KERNELS, 2, image, *SIZE)
    damaged = image.clone()
    damaged[1, 0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match="image 1 of the batch: sample must be finite"):
        of(probabilities, KERNELS, 2, damaged, *SIZE)
