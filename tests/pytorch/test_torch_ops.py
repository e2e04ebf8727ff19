"""The operator under the losses in PyTorch: what it promises PyTorch, and its numbers against the NumPy functions'."""

import shutil
import sys
import threading

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch")

from helpers.loss_batches import EXACT  # noqa: E402
from helpers.torch_batches import IMAGE_LOSSES, OPTIONS, LossOfItem, batch  # noqa: E402
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from torch._subclasses.fake_tensor import FakeTensorMode  # noqa: E402

from rloss_caffe.losses import LOSSES  # noqa: E402
from rloss_caffe.torch import _ops  # noqa: E402

OPERATOR = torch.ops.rloss_caffe.loss.default
DENSE = OPTIONS["densecrf"]
# How each loss is computed on the CPU and elsewhere; soft self-labelling is on the CPU in any case.
PATHS = [
    (name, path) for name in LOSSES for path in ("_on_cpu", "_on_device") if name != "self_label" or path == "_on_cpu"
]


def tensors_of(name, **made):
    """The tensors as keywords of `_ops.loss`; the segmentations are a leaf that wants a gradient."""
    images, scores, labels, roi = batch(**made)
    segmentations = scores.softmax(1).requires_grad_()
    images = images if name in IMAGE_LOSSES else None
    return {"images": images, "segmentations": segmentations, "labels": labels, "roi": roi}


def expected(name, tensors, weight=1.0):
    """Value and gradient of the NumPy function."""
    arrays = {key: value.detach().float().numpy() for key, value in tensors.items() if value is not None}
    result = LOSSES[name](**arrays, **OPTIONS[name])
    return result.value * weight, result.gradient(weight)


def gradient_of(value, segmentations):
    return torch.autograd.grad(value, segmentations)[0]


@pytest.mark.parametrize("name", LOSSES)
def test_value_and_gradient_are_the_functions(name):
    tensors = tensors_of(name)
    value = _ops.loss(name, OPTIONS[name], **tensors, weight=0.5)
    assert value.shape == () and value.dtype == torch.float32
    (3 * value).backward()
    found, gradient = expected(name, tensors, weight=0.5)
    assert value.item() == pytest.approx(found, rel=1e-6)
    np.testing.assert_allclose(tensors["segmentations"].grad.numpy(), 3 * gradient, rtol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("wants_gradient", [True, False])
def test_opcheck(name, wants_gradient):
    tensors = tensors_of(name)
    tensors["segmentations"].requires_grad_(wants_gradient)
    arguments = name, _ops.encode(OPTIONS[name]), 0.5, *tensors.values(), wants_gradient
    passed = torch.library.opcheck(OPERATOR, arguments)
    assert len(passed) == 4 and set(passed.values()) == {"SUCCESS"}


@pytest.mark.parametrize("name, path", PATHS)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_fake_kernel_tells_the_real_strides(monkeypatch, name, path, layout):
    """torch.compile lays out what follows by them; on a GPU, networks often are channels_last."""
    monkeypatch.setattr(_ops, "_on_cpu", getattr(_ops, path))
    tensors = tensors_of(name)
    tensors["segmentations"] = tensors["segmentations"].detach().contiguous(memory_format=layout)
    arguments = name, _ops.encode(OPTIONS[name]), 0.5, *tensors.values(), True
    found = OPERATOR(*arguments)
    with FakeTensorMode() as mode:
        fake = OPERATOR(*(mode.from_tensor(each) if isinstance(each, torch.Tensor) else each for each in arguments))
    for real, told in zip(found, fake):
        assert (real.shape, real.stride(), real.dtype) == (told.shape, told.stride(), told.dtype)
    assert found[1].numpy() == pytest.approx(expected(name, tensors, 0.5)[1], rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("name, path", PATHS)
def test_deterministic_algorithms_are_all_there_is(monkeypatch, name, path):
    monkeypatch.setattr(_ops, "_on_cpu", getattr(_ops, path))
    tensors = tensors_of(name)
    value = _ops.loss(name, OPTIONS[name], **tensors)
    gradient = gradient_of(value, tensors["segmentations"])
    torch.use_deterministic_algorithms(True)  # memory that is not written first is filled with NaN, too
    try:
        again = _ops.loss(name, OPTIONS[name], **tensors)
        assert torch.equal(again, value) and torch.equal(gradient_of(again, tensors["segmentations"]), gradient)
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("name, options", EXACT)
def test_gradcheck(name, options):
    """Tensors of double precision, numbers of single precision: wide steps, and what single precision leaves."""
    tensors = tensors_of(name, images=1, classes=2, size=(4, 5))
    if name == "self_label":
        tensors["labels"] = torch.arange(20).reshape(1, 4, 5) % 2
    tensors["segmentations"] = tensors["segmentations"].detach().double().requires_grad_()
    if "exact_gradient" in options:
        options = {"bi_xy_std": 3.0, "bi_rgb_std": 60.0, **options}

    def value(segmentations):
        return _ops.loss(name, options, **{**tensors, "segmentations": segmentations})

    size = gradient_of(value(tensors["segmentations"]), tensors["segmentations"]).abs().max().item()
    assert torch.autograd.gradcheck(value, (tensors["segmentations"],), eps=2e-3, atol=2e-3 * size, rtol=2e-3)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_result_and_gradient_have_the_segmentations_type(name, dtype):
    """They are those of the rounded tensors, computed in single precision, and rounded once."""
    tensors = tensors_of(name)
    for argument in ("images", "segmentations"):
        if tensors[argument] is not None:
            tensors[argument] = tensors[argument].detach().to(dtype)
    tensors["segmentations"].requires_grad_()
    value = _ops.loss(name, OPTIONS[name], **tensors, weight=0.25)
    gradient = gradient_of(value, tensors["segmentations"])
    assert value.dtype == gradient.dtype == dtype
    found, exact = expected(name, tensors, weight=0.25)
    step = max(torch.finfo(dtype).eps, 1e-6)
    assert value.item() == pytest.approx(found, rel=step)
    np.testing.assert_allclose(gradient.double().numpy(), exact, rtol=step, atol=torch.finfo(dtype).smallest_normal)


def test_autocast_changes_no_number():
    images, scores, _, roi = batch()
    net = torch.nn.Conv2d(3, 3, 1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = net(images / 255)
        assert low.dtype == torch.bfloat16
        of_low = _ops.loss("densecrf", DENSE, images, low.softmax(1), roi=roi)
        of_scores = _ops.loss("densecrf", DENSE, images, scores.softmax(1), roi=roi)
        of_half = _ops.loss("densecrf", DENSE, images.half(), scores.softmax(1).bfloat16(), roi=roi)
    assert of_scores.item() == _ops.loss("densecrf", DENSE, images, scores.softmax(1), roi=roi).item()
    assert of_half.dtype == torch.bfloat16 and of_half.item() == pytest.approx(of_scores.item(), rel=0.02)
    of_low.backward()
    assert net.weight.grad.abs().sum() > 0 and net.weight.grad.isfinite().all()


def test_on_the_cpu_the_function_sees_the_tensors_own_memory(monkeypatch):
    tensors = tensors_of("densecrf")
    before = {name: tensor.detach().clone() for name, tensor in tensors.items()}
    versions = {name: tensor._version for name, tensor in tensors.items()}
    seen = {}

    def watched(images, segmentations, labels, roi, **options):
        arrays = {"images": images, "segmentations": segmentations, "labels": labels, "roi": roi}
        seen.update({name: array.ctypes.data for name, array in arrays.items()})
        return densecrf(images, segmentations, labels=labels, roi=roi, **options)

    densecrf = LOSSES["densecrf"]
    monkeypatch.setitem(LOSSES, "densecrf", watched)
    _ops.loss("densecrf", DENSE, **tensors).backward()
    assert seen == {name: tensor.data_ptr() for name, tensor in tensors.items()}
    for name, tensor in tensors.items():
        assert torch.equal(tensor, before[name]) and tensor._version == versions[name]


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_where_no_gradient_is_wanted_none_is_computed(monkeypatch, mode):
    tensors = tensors_of("densecrf")
    value = _ops.loss("densecrf", DENSE, **tensors)

    class Refuses:
        def __init__(self, result):
            self.value, self.shape = result.value, result.shape

    densecrf = LOSSES["densecrf"]
    monkeypatch.setitem(LOSSES, "densecrf", lambda *arrays, **options: Refuses(densecrf(*arrays, **options)))
    with mode():
        alone = _ops.loss("densecrf", DENSE, **tensors)
    assert alone.item() == value.item() and not alone.requires_grad
    constant = {**tensors, "segmentations": tensors["segmentations"].detach()}
    assert _ops.loss("densecrf", DENSE, **constant).item() == value.item()
    with pytest.raises(AttributeError, match="gradient"):
        _ops.loss("densecrf", DENSE, **tensors)


def test_what_comes_from_above_scales_the_gradient():
    tensors = tensors_of("densecrf")
    segmentations = tensors["segmentations"]
    value = _ops.loss("densecrf", DENSE, **tensors)
    gradient = torch.autograd.grad(value, segmentations, retain_graph=True)[0]
    for scale in (65536.0, -0.5, 0.0):
        found = torch.autograd.grad(value, segmentations, torch.tensor(scale), retain_graph=True)[0]
        assert torch.equal(found, gradient * scale)
    again = _ops.loss("densecrf", DENSE, **tensors)
    torch.testing.assert_close(gradient_of(3 * again + value**2, segmentations), (3 + 2 * value.item()) * gradient)
    infinite = gradient_of(_ops.loss("densecrf", DENSE, **tensors) * float("inf"), segmentations)
    assert not infinite.isfinite().all()  # a GradScaler looks for that


def test_grad_scaler():
    tensors = tensors_of("densecrf")
    plain = gradient_of(_ops.loss("densecrf", DENSE, **tensors), tensors["segmentations"])
    optimizer = torch.optim.SGD([tensors["segmentations"]], lr=1)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16)
    scaler.scale(_ops.loss("densecrf", DENSE, **tensors)).backward()
    torch.testing.assert_close(tensors["segmentations"].grad, plain * 2**16)
    scaler.unscale_(optimizer)
    torch.testing.assert_close(tensors["segmentations"].grad, plain)


def test_a_second_derivative_is_refused():
    tensors = tensors_of("densecrf")
    value = _ops.loss("densecrf", DENSE, **tensors)
    (gradient,) = torch.autograd.grad(value, tensors["segmentations"], create_graph=True)
    with pytest.raises(RuntimeError, match="loss_backward"):
        gradient.square().sum().backward()


@settings(max_examples=60, deadline=None)
@given(layout=st.sampled_from(["channels_last", "sliced", "flipped", "transposed", "expanded"]), data=st.data())
def test_any_layout_gives_the_same(layout, data):
    name = data.draw(st.sampled_from(list(LOSSES)))
    batch_size, classes = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 4))
    size = data.draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    images, scores, _, roi = batch(images=batch_size, classes=classes, size=size)
    if layout == "expanded":
        images = images[:1, :1].expand(batch_size, 3, *size)
        scores = scores[:1].expand(batch_size, classes, *size)

    def moved(tensor):
        if layout == "channels_last":
            return tensor.contiguous(memory_format=torch.channels_last)
        if layout == "sliced":
            return torch.nn.functional.pad(tensor, (1, 2, 3, 1))[..., 3:-1, 1:-2]
        if layout == "flipped":
            return tensor.flip(-1).clone().flip(-1)
        if layout == "transposed":
            return tensor.transpose(2, 3).contiguous().transpose(2, 3)
        return tensor

    results = []
    for change in (torch.Tensor.contiguous, moved):
        segmentations = change(scores.softmax(1)).requires_grad_()
        options = {**OPTIONS[name], "upper": 3.0} if name == "size_constraint" else OPTIONS[name]
        value = _ops.loss(name, options, change(images), segmentations, roi=change(roi[:, None]))
        results.append((value.item(), gradient_of(value, segmentations)))
    assert results[0][0] == results[1][0] and torch.equal(results[0][1], results[1][1])


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64, torch.float64])
def test_whole_numbers_and_truth_values_are_taken(dtype):
    tensors = tensors_of("densecrf")
    tensors["images"] = tensors["images"].round()
    value = _ops.loss("densecrf", DENSE, **tensors).item()
    changed = {**tensors, "images": tensors["images"].to(dtype), "roi": tensors["roi"] > 0}
    for labels in (tensors["labels"].to(torch.uint8), tensors["labels"].float(), tensors["labels"][:, None]):
        assert _ops.loss("densecrf", DENSE, **{**changed, "labels": labels}).item() == value


def test_without_a_region_every_pixel_counts():
    """Images with mean 0 and deviation 1 are near 0 in all channels almost everywhere; that is no padding here."""
    images, scores, _, _ = batch()
    segmentations = scores.softmax(1)
    normalized = (images - images.mean()) / images.std()
    options = {"bi_xy_std": 5.0, "bi_rgb_std": 0.5}
    ones = torch.ones(2, *images.shape[2:])
    everywhere = _ops.loss("densecrf", options, normalized, segmentations, roi=ones)
    assert _ops.loss("densecrf", options, normalized, segmentations).item() == everywhere.item()
    inside = (normalized.abs() >= 1).any(1)
    assert _ops.loss("densecrf", options, normalized, segmentations, roi=inside).item() > 0.9 * everywhere.item()


def _nan(tensor):
    tensor = tensor.detach().clone()
    tensor[1, 0, 2, 3] = float("nan")
    return tensor


@pytest.mark.parametrize(
    "argument, change, message",
    [
        ("images", lambda t: t.requires_grad_(), r"images must not require a gradient.*images\.detach\(\)"),
        ("roi", lambda t: t.requires_grad_(), "roi must not require a gradient"),
        ("images", lambda t: t.numpy(), "images must be a torch.Tensor, found ndarray"),
        ("images", lambda t: None, "images must be a torch.Tensor, found NoneType"),
        ("segmentations", lambda t: t.detach().numpy(), "segmentations must be a torch.Tensor, found ndarray"),
        ("labels", lambda t: t.tolist(), "labels must be a torch.Tensor, found list"),
        ("images", lambda t: t.to("meta"), "images must hold numbers, found a tensor on the device meta"),
        ("roi", lambda t: t.to("meta"), "roi must hold numbers, found a tensor on the device meta"),
        ("images", lambda t: t.to_sparse(), "images must be a dense tensor, found one of layout torch.sparse_coo"),
        ("images", lambda t: t + 0j, "images must hold real numbers, found dtype complex64"),
        ("images", lambda t: t[0], "images must have shape .batch, channels, height, width., found"),
        ("images", lambda t: t[:0], "images is empty"),
        ("segmentations", lambda t: t[..., 1:], "segmentations must have shape .2, classes, 9, 11., found"),
        ("roi", lambda t: -t, "roi must hold values >= 0"),
        ("labels", lambda t: t * 0 + 7, "image 0 of the batch: labels must be whole numbers from 0 to 2"),
        ("images", _nan, r"image 1 of the batch: images must be finite, found nan at \(0, 2, 3\)"),
        ("segmentations", _nan, r"image 1 of the batch: segmentations must be finite, found nan at \(0, 2, 3\)"),
    ],
)
def test_mistakes_are_told(argument, change, message):
    tensors = tensors_of("densecrf")
    tensors[argument] = change(tensors[argument])
    with pytest.raises(ValueError, match=message):
        _ops.loss("densecrf", DENSE, **tensors)


def test_mistakes_in_options_are_told():
    tensors = tensors_of("densecrf")
    for name, options, weight, message in (
        ("dense_crf", {}, 1.0, "name must be one of densecrf, kernel_cut"),
        ("densecrf", {"bi_xy_std": -1}, 1.0, "bi_xy_std must be a finite number > 0, found -1"),
        ("densecrf", {"bi_xy_std": float("nan")}, 1.0, "options must be finite numbers.*bi_xy_std': nan"),
        ("densecrf", {}, float("inf"), "weight must be a finite number"),
    ):
        with pytest.raises(ValueError, match=message):
            _ops.loss(name, options, **tensors, weight=weight)


def test_tensors_without_numbers_have_a_result_without_numbers():
    """Shapes and types alone, as tools that plan a computation ask for."""
    tensors = {name: tensor.detach().to("meta") for name, tensor in tensors_of("densecrf").items()}
    tensors["segmentations"].requires_grad_()
    value = _ops.loss("densecrf", DENSE, **tensors)
    assert value.device.type == "meta" and value.shape == ()
    assert gradient_of(value, tensors["segmentations"]).shape == tensors["segmentations"].shape


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compiled_without_a_graph_break(backend):
    if backend == "inductor" and (shutil.which("c++") or shutil.which("g++")) is None:
        pytest.skip("inductor needs a C++ compiler")
    options = _ops.encode(DENSE)

    def training_loss(images, scores, roi, weight):
        return (
            _ops.loss("densecrf", options, images, scores.softmax(1), roi=roi, weight=weight) + scores.square().mean()
        )

    torch._dynamo.reset()
    compiled = torch.compile(training_loss, fullgraph=True, backend=backend)
    for size, weight in (((9, 11), 0.5), ((9, 11), 0.25), ((8, 7), 0.25)):  # another weight, another shape
        images, scores, _, roi = batch(size=size)
        found = []
        for function in (training_loss, compiled):
            leaf = scores.clone().requires_grad_()
            value = function(images, leaf, roi, weight)
            found += [value.detach(), gradient_of(value, leaf)]
        torch.testing.assert_close(found[2:], found[:2])
        with torch.no_grad():
            torch.testing.assert_close(compiled(images, scores, roi, weight), found[0])
    with pytest.raises(ValueError, match="image 1 of the batch: images must be finite"):
        compiled(_nan(images), scores, roi, weight)


def test_several_threads_at_once():
    """Each with its own batch and its own backward pass; the numbers are those of one thread alone."""
    found = {}

    def work(seed):
        tensors = tensors_of("densecrf", seed=seed, size=(20, 30))
        for _ in range(3):
            value = _ops.loss("densecrf", DENSE, **tensors)
            found[seed] = value.item(), gradient_of(value, tensors["segmentations"])

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    together, found = found, {}
    for seed in range(4):
        work(seed)
        assert together[seed][0] == found[seed][0] and torch.equal(together[seed][1], found[seed][1])


@pytest.mark.parametrize("start, workers", [("fork", 2), ("spawn", 1)])
def test_in_the_workers_of_a_data_loader(start, workers):
    if start == "fork" and sys.platform == "win32":
        pytest.skip("needs fork")
    items = LossOfItem()
    here = torch.stack([items[index][0] for index in range(4)])  # threads and kernels are in use before the fork
    loader = torch.utils.data.DataLoader(items, batch_size=2, num_workers=workers, multiprocessing_context=start)
    values, gradients = zip(*loader)
    assert torch.equal(torch.cat(values), here) and torch.cat(gradients).abs().sum() > 0
