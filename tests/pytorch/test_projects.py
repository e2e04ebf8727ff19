"""What other projects import, each called as that project calls it, against the formula in plain PyTorch operations."""

import copy

import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch")

import numpy as np  # noqa: E402
from helpers.dense_twin import dense_loss  # noqa: E402

from rloss_caffe.torch import (  # noqa: E402
    DenseCRFLoss,
    DenseCRFLossFunction,
    DenseEnergyLoss,
    DenseEnergyLossFunction,
    get_energy_loss,
)

SIZE = (13, 17)  # odd, as 321 and 513 are
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


@pytest.fixture
def batch():
    """Images 0 to 255, scores that want a gradient, label maps with 255 and padding 254, and boxes without padding."""
    random = np.random.RandomState(3)
    images = np.where(np.arange(SIZE[1]) > 8, 180.0, 70.0) + random.uniform(-30, 30, (2, 3, *SIZE))
    labels = random.choice([0, 1, 2, 255, 255, 255], (2, *SIZE))
    boxes = [[1, 13, 0, 15], [0, 10, 3, 17]]
    for label, (top, bottom, left, right) in zip(labels, boxes):
        inside = np.zeros(SIZE, bool)
        inside[top:bottom, left:right] = True
        label[~inside] = 254
    return (
        torch.tensor(images, dtype=torch.float32),
        torch.tensor(random.randn(2, 3, *SIZE), dtype=torch.float32, requires_grad=True),
        torch.tensor(labels),
        boxes,
    )


def agree(loss, scores, expected, upstream=1.0):
    """Value and gradient of a loss against the twin's, whose pair is in `expected`, times its weight."""
    (value, through), weight = expected
    (found,) = torch.autograd.grad(upstream * loss.sum(), scores, retain_graph=True)
    (gradient,) = torch.autograd.grad(upstream * weight * through, scores)
    assert loss.shape == (1,) and loss.dtype == scores.dtype and loss.device == scores.device
    assert loss.item() == pytest.approx(weight * value, rel=1e-5) and loss.item() < 0
    torch.testing.assert_close(found, gradient, rtol=1e-4, atol=1e-5 * gradient.abs().max().item())


def unchanged(function, *tensors):
    """What `function` returns; it changes no tensor, nor its shape."""
    before = [copy.deepcopy(tensor.detach()) for tensor in tensors]
    result = function(*tensors)
    for tensor, old in zip(tensors, before):
        assert tensor.shape == old.shape and torch.equal(tensor, old)
    return result


@pytest.mark.parametrize("recompute", [False, True])
def test_rloss(batch, recompute):
    """rloss for PyTorch: train_withdensecrfloss.py; region without the padded pixels, whose label is 254."""
    images, scores, labels, _ = batch
    croppings = (labels != 254).float()
    layer = DenseCRFLoss(weight=2e-3, sigma_rgb=15.0, sigma_xy=6.0, scale_factor=0.5)
    if recompute:
        layer = DenseCRFLoss(2e-3, 15.0, 6.0, 0.5, recompute_scale_factor=True)
    probabilities = torch.nn.Softmax(dim=1)(scores)
    loss = unchanged(layer, images, probabilities, croppings)
    agree(loss, scores, (dense_loss(images, probabilities, 15.0, 6.0, croppings, 0.5, recompute), 2e-3), upstream=-7.0)


def test_rloss_function(batch):
    images, scores, labels, _ = batch
    croppings, probabilities = (labels != 254).float(), scores.softmax(1)
    loss = unchanged(lambda *tensors: DenseCRFLossFunction.apply(*tensors[:2], 15.0, 6.0, tensors[2]),
                     images, probabilities, croppings)  # fmt: skip
    agree(loss, scores, (dense_loss(images, probabilities, 15.0, 6.0, croppings), 1.0))


@pytest.mark.parametrize("label_type", [torch.float32, torch.int64, torch.uint8])
@pytest.mark.parametrize("recompute", [True, False])
def test_rrm(batch, label_type, recompute):
    """RRM: tool/myTool.py; images and croppings from NumPy on the CPU, a label map (N, 1, H, W)."""
    images, scores, labels, _ = batch
    croppings = (labels != 254).float()
    seg_label = torch.where(labels == 254, 255, labels)[:, None].to(label_type)
    layer = DenseEnergyLoss(weight=1e-3, sigma_rgb=15, sigma_xy=6, scale_factor=0.5)
    if not recompute:
        layer = DenseEnergyLoss(1e-3, 15, 6, 0.5, recompute_scale_factor=False)
    probabilities = scores.softmax(1)
    loss = unchanged(layer, images, probabilities, croppings, seg_label)
    unlabelled = (seg_label[:, 0] == 255).float()
    expected = dense_loss(images, probabilities, 15, 6, croppings, 0.5, recompute, unlabelled, gated=True)
    agree(loss, scores, (expected, 1e-3), upstream=3.0)
    assert loss.item() != layer(images, probabilities, croppings).item()  # the labels matter


def test_rrm_function(batch):
    images, scores, labels, _ = batch
    regions, unlabelled, probabilities = (labels != 254).float(), labels == 255, scores.softmax(1)
    loss = unchanged(
        lambda images, probabilities, *maps: DenseEnergyLossFunction.apply(images, probabilities, 15, 6, *maps),
        images, probabilities, regions, unlabelled,
    )  # fmt: skip
    expected = dense_loss(images, probabilities, 15, 6, regions, unlabelled=unlabelled.float(), gated=True)
    agree(loss, scores, (expected, 1.0))


def energy(batch, boxes):
    """The batch as those projects have it, and the twin's value and gradient."""
    images, scores, labels, _ = batch
    mean, std = (torch.tensor(each)[:, None, None] for each in (MEAN, STD))
    normalized, labels = (images - mean) / std, torch.where(labels == 254, 255, labels)
    region = torch.zeros(2, *SIZE)
    for index, (top, bottom, left, right) in enumerate(boxes or [[0, SIZE[0], 0, SIZE[1]]] * 2):
        region[index, top:bottom, left:right] = 1
    expected = dense_loss(
        normalized * std + mean, scores.softmax(1), 15, 6, region, 0.5, True, (labels == 255).float(), gated=True
    )
    return normalized, scores, labels, (expected, 1e-3)


@pytest.mark.parametrize("boxes", ["rows", "tensor", "none"])
def test_afa_toco_seco_more_locbe_ctfa(batch, boxes):
    boxes = None if boxes == "none" else batch[3]
    images, scores, labels, expected = energy(batch, boxes)
    layer = DenseEnergyLoss(weight=1e-3, sigma_rgb=15, sigma_xy=6, scale_factor=0.5)
    img_box = torch.tensor(boxes) if boxes == "tensor" else boxes
    loss = unchanged(
        lambda img, logit, label: get_energy_loss(
            img=img, logit=logit, label=label, img_box=img_box, loss_layer=layer
        ),
        images, scores, labels,
    )  # fmt: skip
    agree(loss, scores, expected, upstream=0.05)
    torch.testing.assert_close(get_energy_loss(images, scores, labels, img_box, layer), loss)


def test_scsw(batch):
    images, scores, labels, expected = energy(batch, batch[3])
    layer = DenseEnergyLoss(weight=1e-3, sigma_rgb=15, sigma_xy=6, scale_factor=0.5)
    loss = get_energy_loss("cpu", img=images, logit=scores, label=labels, img_box=batch[3], loss_layer=layer)
    agree(loss, scores, expected)
    for device in ("cpu", torch.device("cpu")):
        torch.testing.assert_close(get_energy_loss(device, images, scores, labels, batch[3], layer), loss)
        torch.testing.assert_close(get_energy_loss(images, scores, labels, batch[3], layer, device=device), loss)


def test_energy_loss_of_other_means(batch):
    images, scores, labels, _ = batch
    layer = DenseEnergyLoss(weight=1e-3, sigma_rgb=15, sigma_xy=6, scale_factor=0.5)
    plain = get_energy_loss(images, scores, labels, None, layer, [0.0] * 3, [1.0] * 3)
    moved = get_energy_loss((images - 7) / 2, scores, labels, None, layer, mean=[7.0] * 3, std=[2.0] * 3)
    torch.testing.assert_close(plain, moved)
    one = get_energy_loss(images[:, :1], scores, labels, None, layer, mean=[0.0], std=[1.0])
    assert one.item() < 0


def test_fcam(batch):
    """fcam-wsol: no region, the whole resolution, two classes."""
    images, scores, _, _ = batch
    probabilities = scores[:, :2].softmax(1)
    layer = DenseCRFLoss(weight=2e-9, sigma_rgb=15.0, sigma_xy=6.0, scale_factor=1.0).to("cpu")
    loss = unchanged(lambda images, probabilities: layer(images=images, segmentations=probabilities),
                     images, probabilities)  # fmt: skip
    agree(loss, scores, (dense_loss(images, probabilities, 15.0, 6.0, torch.ones(2, *SIZE)), 2e-9))


def test_scroadextractor(batch):
    """One channel, a sigmoid; the region are the labelled pixels, with an axis for the channel."""
    images, scores, labels, _ = batch
    y_pred = torch.sigmoid(scores[:, :1])
    croppings = (labels != 255).float()[:, None]
    layer = DenseCRFLoss(weight=2e-9, sigma_rgb=15, sigma_xy=6, scale_factor=0.5)
    loss = unchanged(layer, images, y_pred, croppings)
    agree(loss, scores, (dense_loss(images, y_pred, 15, 6, croppings[:, 0], 0.5, False), 2e-9))


@pytest.mark.parametrize("dtype", [torch.float64, torch.uint8, torch.float16])
def test_images_of_any_type(batch, dtype):
    images, scores, labels, _ = batch
    images = images.round()
    layer = DenseEnergyLoss(1e-3, 15, 6, 0.5)
    arguments = scores.softmax(1), (labels != 254), labels[:, None]
    torch.testing.assert_close(layer(images.to(dtype), *arguments), layer(images, *arguments))


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_tensors_on_a_gpu(batch, device):
    """The loss stands on the segmentations' device; images and maps may be there or on the CPU."""
    if not getattr(torch.backends if device == "mps" else torch, device).is_available():
        pytest.skip(f"needs a device {device}")
    images, scores, labels, boxes = batch
    layer = DenseEnergyLoss(1e-3, 15, 6, 0.5)
    expected = get_energy_loss(images, scores, labels, boxes, layer)
    there = scores.detach().to(device).requires_grad_()
    for on in ("cpu", device):
        loss = get_energy_loss(images.to(on), there, labels.to(on), boxes, layer)
        assert loss.device.type == device
        torch.testing.assert_close(loss.cpu(), expected, rtol=1e-4, atol=0)


def test_mixed_precision(batch):
    """Single precision inside: half-precision scores give what their rounded values give, times a scaler's factor."""
    images, scores, labels, boxes = batch
    layer = DenseEnergyLoss(1e-3, 15, 6, 0.5)
    rounded = scores.detach().bfloat16()
    probabilities = rounded.float().softmax(1).bfloat16().requires_grad_()
    plain = probabilities.detach().float().requires_grad_()
    regions, seg_label = (labels != 254).float(), labels[:, None]
    layer(images, plain, regions, seg_label).backward()
    for make in (lambda: layer(images, probabilities, regions, seg_label), None):
        probabilities.grad = None
        if make is None:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = layer(images, probabilities, regions, seg_label)
        else:
            loss = make()
        (1024 * loss).sum().backward()
        assert loss.dtype == probabilities.grad.dtype == torch.bfloat16
        torch.testing.assert_close(probabilities.grad.float(), 1024 * plain.grad, rtol=2e-2, atol=1e-3)


def test_compiled_without_a_graph_break(batch):
    images, scores, labels, expected = energy(batch, batch[3])
    layer = DenseEnergyLoss(weight=1e-3, sigma_rgb=15, sigma_xy=6, scale_factor=0.5)
    torch._dynamo.reset()
    compiled = torch.compile(get_energy_loss, fullgraph=True, backend="aot_eager")
    agree(compiled(images, scores, labels, batch[3], layer), scores, expected)


def test_what_does_not_fit_is_said(batch):
    images, scores, labels, boxes = batch
    layer = DenseEnergyLoss(1e-3, 15, 6, 0.5)
    with pytest.raises(ValueError, match="img_box must have a row for each of 2 images, found 1"):
        get_energy_loss(images, scores, labels, boxes[:1], layer)
    with pytest.raises(ValueError, match="a number for each of 1 channels of img, found 3 and 3"):
        get_energy_loss(images[:, :1], scores, labels, boxes, layer)
    with pytest.raises(ValueError, match=r"must be images \(a Tensor\) or a device, found ndarray"):
        get_energy_loss(images.numpy(), scores, labels, boxes, layer)
    with pytest.raises(TypeError, match="loss_layer"):
        get_energy_loss(images, scores, labels, boxes)
    wanting = images.clone().requires_grad_()
    for call in (
        lambda: get_energy_loss(wanting, scores, labels, boxes, layer),
        lambda: DenseCRFLoss(1.0, 15, 6)(wanting, scores.softmax(1)),
        lambda: DenseEnergyLossFunction.apply(wanting, scores.softmax(1), 15, 6),
    ):
        with pytest.raises(ValueError, match="images must not require a gradient"):
            call()
    damaged = images.clone()
    damaged[1, 0, 2, 4] = float("nan")
    with pytest.raises(ValueError, match="image 1 of the batch: images must be finite"):
        get_energy_loss(damaged, scores, labels, boxes, layer)


def _third(tensor):
    return tensor[:, 1:] if tensor.ndim == 3 else tensor[..., 1:, :]


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize(
    "change, message",
    [
        (torch.neg, "{} must hold values >= 0"),
        (_third, r"{} must have shape \(2, .*found shape \(2, "),
        (lambda roi: roi.clone().requires_grad_(), "{0} must not require a gradient.*give {0}.detach"),
        (lambda roi: roi.tolist(), "{} must be a torch.Tensor, found list"),
    ],
)
def test_messages_call_arguments_as_the_caller_does(batch, recompute, change, message):
    images, scores, labels, _ = batch
    regions, probabilities = (labels != 254).float(), scores.softmax(1)
    dense = DenseCRFLoss(1e-3, 15, 6, 0.5, recompute_scale_factor=recompute)
    energy_loss = DenseEnergyLoss(1e-3, 15, 6, 0.5, recompute_scale_factor=recompute)
    calls = [
        lambda: dense(images, probabilities, change(regions)),
        lambda: energy_loss(images, probabilities, change(regions), labels),
        lambda: DenseCRFLossFunction.apply(images, probabilities, 15, 6, change(regions)),
        lambda: DenseEnergyLossFunction.apply(images, probabilities, 15, 6, change(regions)),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=f"^[^r]*{message.format('ROIs')}") as caught:
            call()
        assert "roi" not in str(caught.value)
    if "shape" in message or "Tensor" in message:
        with pytest.raises(ValueError, match=message.format("seg_label")):
            energy_loss(images, probabilities, regions, change(labels))
        with pytest.raises(ValueError, match=message.format("unlabel_region")):
            DenseEnergyLossFunction.apply(images, probabilities, 15, 6, regions, change(labels == 255))


def test_messages_of_the_functions_call_bandwidths_as_the_caller_does(batch):
    images, scores, _, _ = batch
    for function in (DenseCRFLossFunction, DenseEnergyLossFunction):
        with pytest.raises(ValueError, match="^sigma_rgb must be a finite number > 0, found 0"):
            function.apply(images, scores.softmax(1), 0, 6)


def test_compiled_while_the_bandwidth_changes(batch):
    """What a schedule sets counts from the next step on; the caller's tensors and results are those of eager mode."""
    images, scores, labels, _ = batch
    layer = DenseEnergyLoss(weight=1e-3, sigma_rgb=15, sigma_xy=6, scale_factor=0.5, recompute_scale_factor=True)
    torch._dynamo.reset()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    seen = set()
    for sigma_rgb, sigma_xy, weight in ((15, 6, 1e-3), (30, 6, 1e-3), (30, 12, 1e-3), (30, 12, 5e-4), (15, 6, 1e-3)):
        layer.sigma_rgb, layer.sigma_xy, layer.weight = sigma_rgb, sigma_xy, weight
        found, expected = (call(images, scores.softmax(1), None, labels) for call in (compiled, layer))
        assert found.item() == pytest.approx(expected.item(), rel=1e-6)  # interpolation is compiled, too
        gradients = [torch.autograd.grad(each, scores)[0] for each in (found, expected)]
        torch.testing.assert_close(*gradients)
        seen.add(expected.item())
    assert len(seen) == 4


def test_printed():
    text = repr(DenseEnergyLoss(1e-7, 15, 100, 0.5))
    assert text.startswith("DenseEnergyLoss(") and "sigma_rgb=15" in text and "scale_factor=0.5" in text
