"""What a framework's callback needs: the layout of its tensors, checked in the user's words, and a loss of its arrays.

A framework that traces its functions knows shapes, or parts of them, before there are numbers. `Layout.check` takes
such shapes, with None for what is not known, and is called again when all is known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Mapping, Optional, Sequence

import numpy as np

from rloss_caffe.losses import LOSSES
from rloss_caffe.losses.gradients import takes_images

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["WITH_IMAGES", "Layout", "Settings", "evaluate"]

Shape = Optional[Sequence[Optional[int]]]  # of one tensor; None where nothing is known
WITH_IMAGES = frozenset(name for name in LOSSES if takes_images(name))  # that look at images beside the segmentations


@dataclass(eq=False)
class Settings:
    """A loss's weight and options, of a call that has no object with both."""

    options: Mapping[str, Any]
    weight: float = 1.0


@dataclass(frozen=True)
class Layout:
    """Where the channels are.

    Parameters
    ----------
    data_format : {"channels_last", "channels_first"}

    Raises
    ------
    ValueError
        It is neither.
    """

    data_format: str

    def __post_init__(self) -> None:
        if self.data_format not in ("channels_last", "channels_first"):
            raise ValueError(f"data_format must be channels_last or channels_first, found {self.data_format!r}")

    @property
    def is_last(self) -> bool:
        return self.data_format == "channels_last"

    def shape(self, batch: Any, channels: Any, height: Any, width: Any) -> tuple[Any, ...]:
        """These four in the layout's order."""
        return (batch, height, width, channels) if self.is_last else (batch, channels, height, width)

    def check(self, loss: str, shapes: Mapping[str, Shape]) -> None:
        """Raise ValueError where shapes cannot be a loss's, in the user's layout.

        Parameters
        ----------
        loss : str
            A key of `LOSSES`.
        shapes : mapping of str to shape
            Of images, segmentations, labels and roi, those that there are.
        """
        batch: Any = None
        height: Any = None
        width: Any = None
        for argument, channels in (("images", "channels"), ("segmentations", "classes")):
            found = shapes.get(argument)
            if found is None:
                continue
            expected = self.shape(batch or "batch", channels, height or "height", width or "width")
            _fit(argument, found, [expected])
            rows, columns = found[1:3] if self.is_last else found[2:4]
            batch, height, width = batch or found[0], height or rows, width or columns
        batch, height, width = batch or "batch", height or "height", width or "width"
        for argument in ("labels", "roi"):
            found = shapes.get(argument)
            if found is None:
                continue
            size = ("height", "width") if loss == "size_constraint" and argument == "labels" else (height, width)
            _fit(argument, found, [(batch, *size), self.shape(batch, 1, *size)])


def _fit(argument, found, choices):
    for expected in choices:
        if len(found) == len(expected) and all(
            size is None or isinstance(known, str) or size == known for size, known in zip(found, expected)
        ):
            if 0 in found:
                raise ValueError(f"{argument} is empty: its shape is {_text(found)}")
            return
    words = " or ".join(map(_text, choices))
    raise ValueError(f"{argument} must have shape {words}, found shape {_text(found)}")


def _text(shape):
    return f"({', '.join('?' if size is None else str(size) for size in shape)})"


def evaluate(
    loss: str, settings: Any, layout: Layout, arrays: Mapping[str, NDArray[Any]]
) -> tuple[np.float64, NDArray[np.float32]]:
    """A loss's value and gradient, times the weight.

    Parameters
    ----------
    loss : str
        A key of `LOSSES`.
    settings : object
        With ``weight`` and ``options``, as they are at the time of the call.
    layout : Layout
        The user's; label maps and regions may have an axis of length 1 there.
    arrays : mapping of str to ndarray
        Of images (N, C, H, W), segmentations (N, K, H, W), labels and roi, those that there are. No roi: everywhere.
        (The functions leave out pixels that are near 0 in all channels, as padding is in Caffe. Here images may be
        normalised, and then most of them is near 0.)

    Returns
    -------
    value : float64
    gradient : ndarray (N, K, H, W), float32

    Raises
    ------
    ValueError
        What the function raises.
    """
    shapes = {}
    for argument, array in arrays.items():
        is_blob = argument in ("images", "segmentations") and array.ndim == 4
        shapes[argument] = layout.shape(*array.shape) if is_blob else array.shape
    layout.check(loss, shapes)
    maps = {name: arrays[name] for name in ("labels", "roi") if name in arrays}
    maps = {name: array.reshape(array.shape[:3]) if layout.is_last else array for name, array in maps.items()}
    given = [arrays[name] for name in ("images", "segmentations") if name in arrays]
    if loss in WITH_IMAGES:
        images = given[0]
        maps.setdefault("roi", np.ones((len(images), *images.shape[2:]), np.float32))
    try:
        result = LOSSES[loss](*given, **maps, **settings.options)
    except ValueError as error:
        raise ValueError(str(error)) from None  # without what led to it: frameworks would quote all of that
    return np.float64(result.value * settings.weight), result.gradient(settings.weight)
