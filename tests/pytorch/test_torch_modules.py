"""The losses as PyTorch modules: options, the authors' module, and small trainings."""

import copy
import inspect
import pickle

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch")

from helpers.torch_batches import IMAGE_LOSSES, OPTIONS, batch  # noqa: E402
from helpers.twins import affinity_matrix  # noqa: E402
from torch.nn.functional import interpolate  # noqa: E402

import rloss_caffe.torch as rloss_torch  # noqa: E402
from rloss_caffe.losses import LOSSES  # noqa: E402
from rloss_caffe.numerics.parameters import parameters_of  # noqa: E402

MODULES = {
    "kernel_cut": rloss_torch.KernelCutLoss,
    "local_potts": rloss_torch.LocalPottsLoss,
    "normalized_cut": rloss_torch.NormalizedCutLoss,
    "self_label": rloss_torch.SelfLabelLoss,
    "size_constraint": rloss_torch.SizeConstraintLoss,
}
DENSE = {"sigma_rgb": 40.0, "sigma_xy": 5.0}


def densecrf(weight=1.0, scale_factor=1.0, **options):
    return rloss_torch.DenseCRFLoss(weight, 40.0, 5.0, scale_factor, **options)


def arguments(name, images, segmentations):
    return (images, segmentations) if name in IMAGE_LOSSES else (segmentations,)


@pytest.mark.parametrize("name", MODULES)
def test_modules_are_their_functions(name):
    images, scores, labels, roi = batch()
    segmentations = scores.softmax(1).requires_grad_()
    module = MODULES[name](0.5, **OPTIONS[name])
    value = module(*arguments(name, images, segmentations), labels=labels, roi=roi)
    value.backward()
    arrays = arguments(name, images.numpy(), segmentations.detach().numpy())
    result = LOSSES[name](*arrays, labels=labels.numpy(), roi=roi.numpy(), **OPTIONS[name])
    assert value.shape == () and value.item() == pytest.approx(0.5 * result.value, rel=1e-6)
    np.testing.assert_allclose(segmentations.grad.numpy(), result.gradient(0.5), rtol=1e-6)
    assert not list(module.parameters()) and not module.state_dict()


@pytest.mark.parametrize("name", MODULES)
def test_options_are_the_functions_parameters(name):
    """By name, default and explanation; each is an attribute."""
    signature = inspect.signature(MODULES[name])
    declared = {each.name.replace("lambda", "lambda_"): each for each in parameters_of(LOSSES[name])}
    assert list(signature.parameters) == ["weight", *declared]
    module = MODULES[name]()
    for attribute, parameter in declared.items():
        assert signature.parameters[attribute].default == parameter.default
        assert getattr(module, attribute) == (() if parameter.default == [] else parameter.default)
        assert f"{parameter.name} : {parameter.expectation()}" in MODULES[name].__doc__
    with pytest.raises(TypeError, match=f"unexpected argument 'sigma'; it takes weight, {next(iter(declared))}"):
        MODULES[name](sigma=3)


def test_mistakes_in_options_are_told_at_once():
    for make, message in (
        (lambda: rloss_torch.SelfLabelLoss(lambda_=-1), "lambda_ must be float from 0"),
        (lambda: rloss_torch.NormalizedCutLoss("much"), "weight must be a number, found 'much'"),
        (lambda: rloss_torch.NormalizedCutLoss(classes="some"), "classes must be one of all, labelled"),
        (lambda: rloss_torch.DenseCRFLoss(1e-8, -15, 100, 0.5), "sigma_rgb must be float > 0, found -15"),
        (lambda: rloss_torch.DenseCRFLoss(1e-8, 15, 100, 2), "scale_factor must be float > 0 <= 1, found 2"),
        (lambda: rloss_torch.SizeConstraintLoss(upper=[1, "a"]), "upper must be list of float"),
        (lambda: densecrf(recompute_scale_factor="no"), "recompute_scale_factor must be True or False"),
    ):
        with pytest.raises(ValueError, match=message):
            make()
    module = densecrf()
    with pytest.raises(ValueError, match="sigma_xy must be float > 0, found 0"):
        module.sigma_xy = 0
    assert module.sigma_xy == 5.0


def test_a_schedule_changes_attributes():
    images, scores, _, _ = batch()
    segmentations = scores.softmax(1)
    module = densecrf()
    first = module(images, segmentations)
    module.weight, module.normalization = 2, "VALID"
    assert module(images, segmentations).item() == pytest.approx(2 * first.item() / 99)
    assert module.weight == 2.0 and "normalization='VALID'" in repr(module)
    barrier = rloss_torch.SizeConstraintLoss(upper=[30, 8, 12], penalty="log_barrier")
    values = []
    for _ in range(3):
        values.append(barrier(segmentations).item())
        barrier.t *= 1.1
    assert values[0] < values[1] < values[2]


def test_written_down_and_copied():
    module = densecrf(1e-8, 0.5, relaxation="quadratic", recompute_scale_factor=True)
    text = repr(torch.nn.ModuleList([module]))
    for word in ("weight=1e-08", "sigma_rgb=40.0", "sigma_xy=5.0", "scale_factor=0.5", "'quadratic'", "recompute"):
        assert word in text
    assert repr(rloss_torch.NormalizedCutLoss(0.5)) == "NormalizedCutLoss(weight=0.5)"
    images, scores, _, _ = batch()
    for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module)), module.to(torch.float64).train()):
        assert torch.equal(twin(images, scores.softmax(1)), module(images, scores.softmax(1)))
    assert rloss_torch.SelfLabelLoss(**{"lambda": 2}).lambda_ == 2.0


class RlossTwin(torch.nn.Module):
    """The authors' formula in plain torch operations, over the lattice as a matrix; the gradient is autograd's."""

    def __init__(self, weight, sigma_rgb, sigma_xy, scale_factor, recompute_scale_factor=None):
        super().__init__()
        self.given = weight, sigma_rgb, sigma_xy, scale_factor
        self.recompute = recompute_scale_factor

    def forward(self, images, segmentations, ROIs):
        weight, sigma_rgb, sigma_xy, scale_factor = self.given
        how = {"scale_factor": scale_factor, "recompute_scale_factor": self.recompute}
        images = interpolate(images, mode="nearest", **how)
        segmentations = interpolate(segmentations, mode="bilinear", align_corners=False, **how)
        ROIs = interpolate(ROIs.unsqueeze(1), mode="nearest", **how)
        sums = 0.0
        for image, inside in zip(images, (segmentations * ROIs).double()):
            affinity = torch.tensor(affinity_matrix(image.numpy(), sigma_xy * scale_factor, sigma_rgb))
            rows = inside.reshape(len(inside), -1)
            constant = rows.detach()  # of S . A S, whose gradient counts A as symmetric
            sums = sums - 2 * (rows * (constant @ affinity.T)).sum() + (constant * (constant @ affinity.T)).sum()
        return (weight * sums / len(images)).reshape(1)


@pytest.mark.parametrize("scale_factor", [1.0, 0.5, 0.7, 0.3])
@pytest.mark.parametrize("recompute", [None, False, True])
@pytest.mark.parametrize("size", [(8, 12), (9, 11), (13, 7)])
def test_densecrf_is_the_authors_module(scale_factor, recompute, size):
    """Value and gradient, at even and odd sizes, as interpolate scales them: by default, and both ways when asked."""
    images, scores, _, roi = batch(size=size)
    own = {} if recompute is None else {"recompute_scale_factor": recompute}
    found = []
    for module in (RlossTwin(0.1, 40.0, 5.0, scale_factor, recompute), densecrf(0.1, scale_factor, **own)):
        leaf = scores.clone().requires_grad_()
        value = module(images, leaf.softmax(1), roi.clone())
        assert value.shape == (1,)
        (-3 * value).backward()
        found += [value.detach().float(), leaf.grad]
    torch.testing.assert_close(found[2], found[0], rtol=2e-6, atol=0.0)
    torch.testing.assert_close(found[3], found[1], rtol=1e-4, atol=1e-5 * found[1].abs().max().item())


def test_densecrf_function_and_what_the_caller_keeps():
    images, scores, _, roi = batch()
    segmentations = scores.softmax(1)
    kept = [tensor.clone() for tensor in (images, segmentations, roi)]
    value = rloss_torch.DenseCRFLossFunction.apply(images, segmentations, 40.0, 5.0, roi)
    module = densecrf()
    assert value.shape == (1,) and torch.equal(value, module(images, segmentations, roi))
    assert torch.equal(value, module(images, segmentations, roi[:, None]))
    everywhere = rloss_torch.DenseCRFLossFunction.apply(images, segmentations, 40.0, 5.0)
    assert torch.equal(everywhere, module(images, segmentations)) and everywhere < value
    assert torch.equal(module(images, segmentations, torch.ones_like(roi)), everywhere)
    for tensor, before in zip((images, segmentations, roi), kept):
        assert tensor.shape == before.shape and torch.equal(tensor, before)


def test_densecrf_takes_the_functions_options():
    images, scores, labels, roi = batch()
    options = {"classes": "labelled", "normalization": "AFFINITY", "non_negative": True}
    value = densecrf(0.5, **options)(images, scores.softmax(1), ROIs=roi, labels=labels).item()
    arrays = images.numpy(), scores.softmax(1).numpy(), 5.0, 40.0, roi.numpy()
    assert value == pytest.approx(0.5 * LOSSES["densecrf"](*arrays, labels=labels.numpy(), **options).value, rel=1e-6)
    with pytest.raises(ValueError, match="labels must be given where classes is labelled"):
        densecrf(**options)(images, scores.softmax(1))


@pytest.mark.parametrize("recompute", [False, True])
def test_scaled_losses_keep_types_and_name_mistakes(recompute):
    images, scores, labels, roi = batch(size=(9, 11))
    module = densecrf(0.5, 0.5, recompute_scale_factor=recompute, gate=True)
    segmentations = scores.softmax(1)
    exact = module(images, segmentations, roi, labels)
    for dtype in (torch.bfloat16, torch.float64):
        leaf = segmentations.to(dtype).requires_grad_()
        value = module(images.to(torch.uint8), leaf, roi > 0, labels)
        value.backward()
        assert value.dtype == leaf.grad.dtype == dtype and value.item() == pytest.approx(exact.item(), rel=0.05)
    for images_, segmentations_, message in (
        (images[0], segmentations, "images"),
        (images, segmentations[0], "segmentations"),
        (images, segmentations[..., 1:], "segmentations"),
        (images.clone().requires_grad_(), segmentations, "images must not require a gradient"),
        (images, segmentations / 0, "image 0 of the batch: segmentations must be finite"),
        (images[:, :, :1], segmentations[:, :, :1], "scale_factor must leave a pixel|output.*0"),
    ):
        with pytest.raises((ValueError, RuntimeError), match=message):
            module(images_, segmentations_)


def test_one_sigmoid_channel_and_one_image_channel():
    images, scores, _, roi = batch(classes=1, channels=1)
    leaf = scores.requires_grad_()
    value = densecrf()(images, leaf.sigmoid(), roi)
    value.backward()
    probability = scores.detach().sigmoid().numpy()
    assert value.item() == pytest.approx(
        LOSSES["densecrf"](images.numpy(), probability, 5.0, 40.0, roi).value, rel=1e-6
    )
    assert leaf.grad.abs().sum() > 0


@pytest.mark.parametrize("name", ["densecrf", *MODULES])
def test_a_net_learns_from_each_loss(name):
    """A small net on two images with a bright half: its loss falls, by more than the last digits."""
    torch.manual_seed(0)
    images, _, labels, roi = batch()
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(8, 3, 1))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    module = densecrf(**{"normalization": "AFFINITY"}) if name == "densecrf" else MODULES[name](**OPTIONS[name])
    others = (roi, labels) if name == "densecrf" else (labels, roi)
    values = []
    for _ in range(25):
        optimizer.zero_grad()
        segmentations = net(images / 255 - 0.5).softmax(1)
        value = module(*arguments(name, images, segmentations), *others)
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[-1] < values[0] - 0.1 * abs(values[0])


def test_modules_compile_without_a_graph_break():
    """Also when a schedule changes the weight and an option between steps."""
    images, scores, labels, _ = batch()
    for module in (densecrf(0.1, 0.5), densecrf(0.1, 0.5, recompute_scale_factor=True), MODULES["normalized_cut"]()):
        torch._dynamo.reset()
        compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
        for weight in (0.5, 0.25, 0.125):
            module.weight = weight
            leaf = scores.clone().requires_grad_()
            value = compiled(images, leaf.softmax(1), labels=labels)
            (gradient,) = torch.autograd.grad(value, leaf)
            assert value.item() == pytest.approx(module(images, scores.softmax(1), labels=labels).item(), rel=1e-5)
            assert gradient.abs().sum() > 0
