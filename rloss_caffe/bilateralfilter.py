"""Call-compatible with the C++/SWIG module ``bilateralfilter`` of the PyTorch ports of the loss.

Replace ``from bilateralfilter import bilateralfilter, bilateralfilter_batch`` by
``from rloss_caffe.bilateralfilter import bilateralfilter, bilateralfilter_batch``; nothing has to be built. With
``rloss-caffe provide-bilateralfilter`` nothing has to be replaced, either.

The lengths that stand beside the arrays in the C++ declarations are no arguments in Python: there SWIG takes them
from the arrays. Arguments have their names below, or those of SWIG's module: ``ins`` (``in_``, ``_in`` or ``arg2``,
as its version has it, for one image) for `values`, ``sigmargb`` and ``sigmaxy``.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any, Callable, TypeVar, cast

import numpy as np

from rloss_caffe.filtering import bilateral_filter, bilateral_filter_batch
from rloss_caffe.numerics.arrays import bandwidth, output_array, real_array, whole_number

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["bilateralfilter", "bilateralfilter_batch"]

_Function = TypeVar("_Function", bound=Callable[..., None])

# What SWIG's module calls an argument, and its name here. "in" is a word of Python's, which each SWIG evades in its
# own way.
_SPELLINGS = {
    "in": "values",
    "in_": "values",
    "_in": "values",
    "arg2": "values",
    "ins": "values",
    "sigmargb": "sigma_rgb",
    "sigmaxy": "sigma_xy",
}


def _takes_both_spellings(function: _Function) -> _Function:
    @functools.wraps(function)
    def call(*positional: Any, **named: Any) -> None:
        for other, name in _SPELLINGS.items():
            if other in named:
                if name in named:
                    raise TypeError(f"{function.__name__}() got an argument twice: as {name} and as {other}")
                named[name] = named.pop(other)
        function(*positional, **named)

    return cast(_Function, call)


@_takes_both_spellings
def bilateralfilter(
    image: ArrayLike,
    values: ArrayLike,
    out: NDArray[np.float32],
    H: int,
    W: int,
    sigma_rgb: float,
    sigma_xy: float,
) -> None:
    """Filter the channels of one image; the result is written into `out`.

    Parameters
    ----------
    image : ndarray, 3 H W values, flat or shaped
        The image's planes, one after the other.
    values : ndarray, K H W values
        What is filtered, plane by plane; K follows from the size.
    out : ndarray, float32, as many values, C-contiguous
        Receives the result.
    H, W : int
        Height and width in pixels.
    sigma_rgb, sigma_xy : float
        Bandwidths in the image's units and in pixels, > 0.

    Raises
    ------
    ValueError
        Sizes or types do not fit.
    """
    height, width = _sizes(H=H, W=W)
    values = real_array("values", values)
    if values.size % (height * width):
        raise ValueError(f"values must hold K * H * W values for H = {height}, W = {width}, found {values.size}")
    channels = values.size // (height * width)
    image, values = _planes("image", image, (3, height, width)), values.reshape(channels, height, width)
    bandwidths: tuple[Any, Any] = bandwidth("sigma_xy", sigma_xy), bandwidth("sigma_rgb", sigma_rgb)
    out = _output("out", out, values, {"image": image, "values": values})
    try:
        bilateral_filter(image, values, *bandwidths, out=out)
    except ValueError as error:
        raise ValueError(f"with sigma_rgb {sigma_rgb} and sigma_xy {sigma_xy}: {error}") from error


@_takes_both_spellings
def bilateralfilter_batch(
    images: ArrayLike,
    values: ArrayLike,
    outs: NDArray[np.float32],
    N: int,
    K: int,
    H: int,
    W: int,
    sigma_rgb: float,
    sigma_xy: float,
) -> None:
    """`bilateralfilter` for `N` images with `K` channels each; the result is written into `outs`.

    Parameters
    ----------
    images : ndarray, N 3 H W values, flat or shaped
    values, outs : ndarray, N K H W values; `outs` float32 and C-contiguous
    N, K, H, W : int
        Batch size, channels, height and width.
    sigma_rgb, sigma_xy : float
        Bandwidths in the image's units and in pixels, > 0.

    Raises
    ------
    ValueError
        Sizes or types do not fit.
    """
    batch, channels, height, width = _sizes(N=N, K=K, H=H, W=W)
    images = _planes("images", images, (batch, 3, height, width))
    values = _planes("values", values, (batch, channels, height, width))
    bandwidths: tuple[Any, Any] = bandwidth("sigma_xy", sigma_xy), bandwidth("sigma_rgb", sigma_rgb)
    outs = _output("outs", outs, values, {"images": images, "values": values})
    try:
        bilateral_filter_batch(images, values, *bandwidths, out=outs)
    except ValueError as error:
        raise ValueError(f"with sigma_rgb {sigma_rgb} and sigma_xy {sigma_xy}: {error}") from error


def _sizes(**sizes: int) -> list[int]:
    return [whole_number(name, size, 1) for name, size in sizes.items()]


def _planes(name: str, value: Any, shape: tuple[int, ...]) -> NDArray[np.float32]:
    array = real_array(name, value)
    if array.size != math.prod(shape):
        raise ValueError(f"{name} must hold {' * '.join(map(str, shape))} values, found {array.size}")
    return array.reshape(shape)


def _output(
    name: str, out: Any, values: NDArray[np.float32], inputs: dict[str, NDArray[np.float32]]
) -> NDArray[np.float32]:
    """The caller's array, flat or shaped, as the planes of the result."""
    if not isinstance(out, np.ndarray):
        found = type(out).__name__
        raise ValueError(f"{name} must be a C-contiguous float32 array that receives the result, found {found}")
    if out.size != values.size:
        raise ValueError(f"{name} must hold {' * '.join(map(str, values.shape))} values, found {out.size}")
    return output_array(name, out, out.shape, may_be=inputs).reshape(values.shape)
