"""The operator under the losses in PyTorch: what it promises PyTorch, and its numbers against the NumPy functions'."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch")

from helpers.torch_batches import IMAGE_LOSSES, OPTIONS, batch  # noqa: E402

from rloss_caffe.losses import LOSSES  # noqa: E402
from rloss_caffe.torch import _ops  # noqa: E402

OPERATOR = torch.ops.rloss_caffe.loss.default


def given(name, **made):
    """The operator's tensors, as keywords of `_ops.loss`; the segmentations are a leaf that wants a gradient."""
    images, scores, labels, roi = batch(**made)
    segmentations = scores.softmax(1).requires_grad_()
    return {
        "images": images if name in IMAGE_LOSSES else None,
        "segmentations": segmentations,
        "labels": labels,
        "roi": roi,
    }


def expected(name, tensors, weight=1.0):
    arrays = {key: value.detach().float().numpy() for key, value in tensors.items() if value is not None}
    result = LOSSES[name](**arrays, **OPTIONS[name])
    return result.value * weight, result.gradient(weight)


@pytest.mark.parametrize("name", LOSSES)
def test_value_and_gradient_are_the_functions(name):
    tensors = given(name)
    value = _ops.loss(name, OPTIONS[name], **tensors, weight=0.5)
    assert value.shape == () and value.dtype == torch.float32
    (3 * value).backward()
    found, gradient = expected(name, tensors, weight=0.5)
    assert value.item() == pytest.approx(found, rel=1e-6)
    np.testing.assert_allclose(tensors["segmentations"].grad.numpy(), 3 * gradient, rtol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("wants_gradient", [True, False])
def test_opcheck(name, wants_gradient):
    tensors = given(name)
    tensors["segmentations"].requires_grad_(wants_gradient)
    arguments = name, _ops.encode(OPTIONS[name]), 0.5, *tensors.values(), wants_gradient
    passed = torch.library.opcheck(OPERATOR, arguments)
    assert len(passed) == 4 and set(passed.values()) == {"SUCCESS"}
