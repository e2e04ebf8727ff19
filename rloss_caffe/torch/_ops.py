"""One operator for PyTorch under all losses: value and gradient in one call, differentiable by its segmentations.

On the CPU it runs the functions of `rloss_caffe.losses` on the tensors' own memory. Tensors elsewhere go to `_device`,
whose `evaluate(name, options, images, segmentations, labels, roi, with_gradient)` returns the value, a tensor without
axes, and the gradient, float32 of the segmentations' shape, or None where it is not asked for.
"""

from __future__ import annotations

import ast
import contextlib
import re
from typing import Any, Mapping

import torch
from torch import Tensor

from rloss_caffe.losses import LOSSES
from rloss_caffe.losses._tensors import WITH_IMAGES
from rloss_caffe.numerics.arrays import finite_number

__all__ = ["encode", "loss", "prepare", "told"]


def encode(options: Mapping[str, Any]) -> str:
    """A loss's options as the text that the operator takes."""
    return repr({name: value.item() if hasattr(value, "item") else value for name, value in options.items()})


def _decode(text: str) -> dict[str, Any]:
    with contextlib.suppress(ValueError, SyntaxError):
        options = ast.literal_eval(text)
        if isinstance(options, dict):
            return options
    raise ValueError(f"options must be finite numbers, truth values, words, or lists of them, found {text}")


def loss(
    name: str,
    options: Mapping[str, Any] | str,
    images: Tensor | None,
    segmentations: Tensor,
    labels: Tensor | None = None,
    roi: Tensor | None = None,
    weight: float = 1.0,
    words: str = "",
) -> Tensor:
    """A loss of `rloss_caffe.losses` as a differentiable function of tensors.

    Parameters
    ----------
    name : str
        A key of `rloss_caffe.losses.LOSSES`.
    options : mapping, or what `encode` makes of one
        Keyword parameters of that function.
    images : Tensor, shape (N, C, H, W), real, or None
        None for the size constraint. Moved to the segmentations' device if they are elsewhere.
    segmentations : Tensor, shape (N, K, H, W), floating point
        Class probabilities.
    labels : Tensor, shape (N, H, W) or (N, 1, H, W), optional
    roi : Tensor, shape (N, H, W) or (N, 1, H, W), optional
        Region of interest; default: everywhere. (The functions leave out pixels that are near 0 in all channels, as
        padding is in Caffe. Here images may be normalised, and then most of them is near 0.)
    weight : float
        What value and gradient are multiplied by, in single precision.
    words : str
        What messages call the arguments: ``"roi=ROIs labels=seg_label"``, say. Default: as they are called here.

    Returns
    -------
    Tensor, without axes, of the segmentations' device and dtype
        It is computed in single precision, and so is its gradient. There is no second derivative.

    Raises
    ------
    ValueError
        What the function raises; something that is no tensor; images, labels or a region that want a gradient.
    """
    if name not in LOSSES:
        raise ValueError(f"name must be one of {', '.join(LOSSES)}, found {name!r}")
    with_images = name in WITH_IMAGES
    images, segmentations, labels, roi = prepare(
        images if with_images else None, segmentations, labels, roi, with_images, words
    )
    if not isinstance(options, str):
        options = encode(options)
    with_gradient = torch.is_grad_enabled() and segmentations.requires_grad
    return _loss(name, options, float(weight), images, segmentations, labels, roi, with_gradient, words)[0]


def prepare(
    images: Tensor | None,
    segmentations: Tensor,
    labels: Tensor | None,
    roi: Tensor | None,
    with_images: bool = True,
    words: str = "",
) -> tuple[Any, Tensor, Any, Any]:
    """All on the segmentations' device, where they are tensors that the loss can take; see `loss`."""
    for argument, tensor in (("images", images), ("segmentations", segmentations), ("labels", labels), ("roi", roi)):
        if tensor is None and (argument in ("labels", "roi") or (argument == "images" and not with_images)):
            continue
        if not isinstance(tensor, Tensor):
            raise ValueError(f"{told(argument, words)} must be a torch.Tensor, found {type(tensor).__name__}")
        if tensor.layout != torch.strided:
            found = f"one of layout {tensor.layout}"
            raise ValueError(f"{told(argument, words)} must be a dense tensor, found {found}")
        if tensor is not segmentations and tensor.requires_grad and torch.is_grad_enabled():
            argument = told(argument, words)
            raise ValueError(
                f"{argument} must not require a gradient, found requires_grad=True: the loss is differentiated by the "
                f"segmentations alone; give {argument}.detach()"
            )
    moved = [
        _move(told(argument, words), tensor, segmentations.device)
        for argument, tensor in (("images", images), ("labels", labels), ("roi", roi))
    ]
    return moved[0], segmentations, moved[1], moved[2]


def told(text: str, words: str) -> str:
    """A message in the caller's words; see `loss`."""
    for pair in words.split():
        own, theirs = pair.split("=")
        text = re.sub(rf"\b{own}\b", theirs, text)
    return text


def _move(argument: str, tensor: Tensor | None, device: torch.device) -> Tensor | None:
    if tensor is None or tensor.device == device:
        return tensor
    if tensor.device.type == "meta":
        raise ValueError(f"{argument} must hold numbers, found a tensor on the device meta")
    return tensor.to(device)


@torch.library.custom_op(
    "rloss_caffe::loss",
    mutates_args=(),
    schema="(str name, str options, float weight, Tensor? images, Tensor segmentations, Tensor? labels, Tensor? roi, "
    "bool with_gradient, str words='') -> (Tensor, Tensor)",
)
def _loss(name, options, weight, images, segmentations, labels, roi, with_gradient, words=""):
    """Weight times the loss, and that times its gradient in float32, which is empty where it is not asked for."""
    finite_number("weight", weight)
    chosen = _decode(options)
    if roi is None and images is not None and images.ndim == 4:
        roi = torch.ones((len(images), *images.shape[2:]), device=images.device)
    evaluate = _on_cpu if segmentations.device.type == "cpu" else _on_device
    try:
        value, gradient = evaluate(name, chosen, weight, images, segmentations, labels, roi, with_gradient)
    except ValueError as error:
        raise ValueError(told(str(error), words)) from None
    if gradient is None:
        gradient = segmentations.new_empty(0, dtype=torch.float32)
    return value.to(_result_dtype(segmentations)), gradient


def _on_cpu(name, options, weight, images, segmentations, labels, roi, with_gradient):
    arrays = [_array(tensor) for tensor in (images, segmentations) if tensor is not None]
    result = LOSSES[name](*arrays, labels=_array(labels), roi=_array(roi), **options)
    value = torch.tensor(result.value * weight, dtype=torch.float64)
    if not with_gradient:
        return value, None
    gradient = torch.empty(result.shape)
    result.gradient(weight, out=gradient.numpy())
    return value, gradient


def _on_device(name, options, weight, images, segmentations, labels, roi, with_gradient):
    from rloss_caffe.torch import _device

    value, gradient = _device.evaluate(name, options, images, segmentations, labels, roi, with_gradient)
    # torch.compile counts on the strides that the fake kernel tells, whatever those of the segmentations are.
    return value * weight, None if gradient is None else gradient.contiguous().mul_(weight)


def _array(tensor):
    """A tensor's numbers: its own memory, where that is contiguous and float32."""
    if tensor is None:
        return None
    if tensor.dtype in (torch.bfloat16, torch.float16):
        tensor = tensor.float()
    return tensor.detach().contiguous().numpy(force=True)


def _result_dtype(segmentations):
    return segmentations.dtype if segmentations.is_floating_point() else torch.float32


@_loss.register_fake
def _(name, options, weight, images, segmentations, labels, roi, with_gradient, words=""):
    shape = segmentations.shape if with_gradient else (0,)
    value = segmentations.new_empty((), dtype=_result_dtype(segmentations))
    return value, segmentations.new_empty(shape, dtype=torch.float32)


@torch.library.custom_op(
    "rloss_caffe::loss_backward",
    mutates_args=(),
    schema="(Tensor grad_output, Tensor gradient, Tensor segmentations) -> Tensor",
)
def _loss_backward(grad_output, gradient, segmentations):
    """The gradient times what comes from above. It takes the segmentations so that a second derivative is an error."""
    if segmentations.dtype == torch.float64:
        gradient = gradient.double()
    return (gradient * grad_output).to(segmentations.dtype)


@_loss_backward.register_fake
def _(grad_output, gradient, segmentations):
    return torch.empty_like(gradient, dtype=segmentations.dtype)


def _setup_context(ctx, inputs, output):
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(output[1], inputs[4])


def _backward(ctx, grad_output, _):
    gradient, segmentations = ctx.saved_tensors
    found = None if grad_output is None else _loss_backward(grad_output, gradient, segmentations)
    return None, None, None, None, found, None, None, None, None


_loss.register_autograd(_backward, setup_context=_setup_context)
