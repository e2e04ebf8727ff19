"""What every Python layer of the package shares: its parameters and the checks of its blobs."""

from __future__ import annotations

import math
from typing import Sequence

try:
    import caffe
except ImportError as error:
    raise ImportError(
        f"the layers of rloss_caffe need pycaffe, and 'import caffe' failed: {error}. "
        "'rloss-caffe doctor' tells what is missing; filters and losses work without Caffe."
    ) from error

from rloss_caffe.layers.param_str import read_parameters
from rloss_caffe.numerics.arrays import INT_MAX
from rloss_caffe.numerics.parameters import Parameter, fill

__all__ = ["TEST", "TRAIN", "Layer"]

TRAIN, TEST = 0, 1


class Layer(caffe.Layer):
    """A Python layer with a parameter schema.

    A subclass sets ``PARAMETERS`` (a list of `rloss_caffe.numerics.parameters.Parameter`), ``BOTTOMS`` and ``TOPS``
    (the names of its blobs in messages, optional ones ending in ``?``), and calls ``super().setup(bottom, top)``,
    which checks the number of blobs and leaves the parameters in ``self.parameters``. The line ``{parameters}`` of its
    docstring becomes the list of them. ``self.blobs`` is never touched: a layer without learned parameters must not
    have any, or weights no longer load.
    """

    PARAMETERS: Sequence[Parameter] = ()
    BOTTOMS: Sequence[str] = ()
    TOPS: Sequence[str] = ()

    def __init_subclass__(cls, **options):
        super().__init_subclass__(**options)
        cls.__doc__ = fill(cls.__doc__, cls.PARAMETERS)

    def setup(self, bottom, top):
        self.parameters = read_parameters(self.param_str, self.PARAMETERS, type(self).__name__)
        self._check_count("bottom", self.BOTTOMS, len(bottom))
        self._check_count("top", self.TOPS, len(top))

    def _check_count(self, side, names, found):
        required = [name for name in names if not name.endswith("?")]
        if not len(required) <= found <= len(names):
            expected = ", ".join(name[:-1] + " (optional)" if name.endswith("?") else name for name in names)
            number = str(len(names)) if len(required) == len(names) else f"{len(required)} to {len(names)}"
            raise self.error(f"expected {number} {side} blobs ({expected or 'none'}), found {found}")

    def error(self, problem):
        """A ValueError that names the layer's type."""
        return ValueError(f"{type(self).__name__}: {problem}")

    def blob_name(self, index):
        """How messages call bottom `index`: ``bottom 1 (segmentation)``."""
        return f"bottom {index} ({self.BOTTOMS[index].rstrip('?')})"

    def shape4(self, bottom, index):
        """The shape (N, C, H, W) of bottom `index`; missing trailing axes count as 1, as in Caffe's own layers."""
        found = tuple(bottom[index].data.shape)
        if not 1 <= len(found) <= 4 or 0 in found:
            raise self.error(f"{self.blob_name(index)} must have shape (N, C, H, W), found {found}")
        return found + (1,) * (4 - len(found))

    def reshape_top(self, top, index, shape):
        """Give top `index` its shape; Caffe itself would end the process where a blob has too many numbers."""
        if math.prod(shape) > INT_MAX:
            raise self.error(
                f"top {index} ({self.TOPS[index].rstrip('?')}) would have shape {tuple(shape)}, more than the "
                f"{INT_MAX} numbers that a blob of Caffe can hold"
            )
        top[index].reshape(*shape)

    def refuse_gradients(self, propagate_down):
        """For layers without a backward pass."""
        if any(propagate_down):
            raise self.error("has no backward pass (does the net set 'force_backward: true'?)")

    def get_phase(self):
        """TRAIN or TEST; a Caffe whose Python layer has no ``phase`` counts as TRAIN."""
        return getattr(self, "phase", TRAIN)
