"""Mean-field inference in a fully connected CRF (Kraehenbuehl and Koltun, NIPS 2011, algorithm 1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Sequence

import numpy as np

from rloss_caffe.filtering.features import bilateral_features, positional_features
from rloss_caffe.filtering.lattice import PermutohedralLattice
from rloss_caffe.numerics.arrays import bandwidth, finite_number, image_array, real_array, whole_number
from rloss_caffe.numerics.threads import resolve_num_threads

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["mean_field"]


def mean_field(
    scores: ArrayLike,
    image: ArrayLike | None = None,
    max_iter: int = 10,
    positional: Sequence[tuple[float, float]] = (),
    bilateral: Sequence[tuple[float, float, float]] = (),
    num_threads: int | None = None,
) -> NDArray[np.float32]:
    """Class probabilities after mean-field inference with Gaussian kernels and the Potts model.

    Starts from Q = softmax(scores) and repeats Q = softmax(scores + sum over kernels of w (A Q) / (A 1)), with A the
    lattice's filter: the normalisation is per pixel, after filtering.

    Parameters
    ----------
    scores : array_like, shape (K, H, W)
        Log-probabilities up to a constant a pixel (the unary potential is their negative); finite.
    image : array_like, shape (C, H, W), optional
        Needed for bilateral kernels; finite.
    max_iter : int
        Iterations, >= 0.
    positional : sequence of (w, pos_xy_std)
        Smoothness kernels: weight (finite, usually > 0), bandwidth in pixels.
    bilateral : sequence of (w, bi_xy_std, bi_rgb_std)
        Appearance kernels: weight, bandwidths in pixels and in the image's units.
    num_threads : int >= 1, optional
        Default `rloss_caffe.get_num_threads()`.

    Returns
    -------
    ndarray, shape (K, H, W), float32
        Probabilities; they sum to 1 in every pixel.

    Raises
    ------
    ValueError
        Shapes do not fit, an image is missing, something is not finite, or the scores and weights are so large that
        the sum of scores and messages exceeds single precision.
    """
    scores = real_array("scores", scores, ("classes", "height", "width"), finite=True)
    size = scores.shape[1:]
    max_iter = whole_number("max_iter", max_iter, 0)
    near = _kernels("positional", positional, ("w", "pos_xy_std"))
    alike = _kernels("bilateral", bilateral, ("w", "bi_xy_std", "bi_rgb_std"))
    num_threads = resolve_num_threads(num_threads)
    if image is not None:
        image = image_array(image)
    if alike and (image is None or image.shape[1:] != size):
        found = "none" if image is None else image.shape
        raise ValueError(f"bilateral kernels need an image of the scores' size {size}, found {found}")

    features = [(weight, positional_features(*size, *stds)) for weight, *stds in near]
    if image is not None:
        features += [(weight, bilateral_features(image, *stds)) for weight, *stds in alike]
    kernels = [_normalised(weight, PermutohedralLattice(points, num_threads)) for weight, points in features]

    probabilities = _softmax(scores.copy())
    message = np.empty_like(scores)
    for _ in range(max_iter):
        potential = scores.copy()
        for lattice, factor in kernels:
            lattice.filter(probabilities, out=message)
            with np.errstate(over="ignore", invalid="ignore"):  # _softmax finds what is not finite
                message *= factor
                potential += message
        probabilities = _softmax(potential)
    return probabilities


def _kernels(name: str, kernels: Any, fields: Sequence[str]) -> list[list[Any]]:
    """Kernels as lists of float32: the weight, then the bandwidths."""
    form = f"{name} must be a sequence of ({', '.join(fields)})"
    if isinstance(kernels, np.ndarray):
        kernels = list(kernels)
    if not isinstance(kernels, (list, tuple)):
        raise ValueError(f"{form}, found {type(kernels).__name__}")
    checked = []
    for index, kernel in enumerate(kernels):
        where = f"{name}[{index}]"
        if not isinstance(kernel, (list, tuple, np.ndarray)) or len(kernel) != len(fields):
            raise ValueError(f"{form}; {where} is none")
        weight, *stds = kernel
        stds = [bandwidth(f"{where}: {field}", std) for field, std in zip(fields[1:], stds)]
        checked.append([finite_number(f"{where}: {fields[0]}", weight), *stds])
    return checked


def _normalised(weight, lattice):
    """A kernel's lattice, and w / (A 1) for every pixel."""
    return lattice, weight / (lattice.filter(np.ones(lattice.shape, np.float32)) + np.float32(1e-20))


def _softmax(scores):
    """Softmax over the classes, in place."""
    largest = scores.max(axis=0)
    if not np.isfinite(largest).all():
        raise ValueError("scores and weights (positional, bilateral) are too large: their sum exceeds single precision")
    scores -= largest
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=0)
    return scores
