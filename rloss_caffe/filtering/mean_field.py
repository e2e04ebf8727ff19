"""Mean-field inference in a fully connected CRF (Kraehenbuehl and Koltun, NIPS 2011, algorithm 1)."""

import numpy as np

from rloss_caffe.filtering import PermutohedralLattice, bilateral_features, positional_features

__all__ = ["mean_field"]


def mean_field(scores, image=None, max_iter=10, positional=(), bilateral=(), num_threads=None):
    """Class probabilities after mean-field inference with Gaussian kernels and the Potts model.

    Starts from Q = softmax(scores) and repeats Q = softmax(scores + sum over kernels of w (A Q) / (A 1)), with A the
    lattice's filter: the normalisation is per pixel, after filtering.

    Parameters
    ----------
    scores : array_like, shape (K, H, W)
        Log-probabilities up to a constant a pixel (the unary potential is their negative); finite.
    image : array_like, shape (C, H, W), optional
        Needed for bilateral kernels.
    max_iter : int
        Iterations, >= 0.
    positional : sequence of (w, pos_xy_std)
        Smoothness kernels: weight, bandwidth in pixels.
    bilateral : sequence of (w, bi_xy_std, bi_rgb_std)
        Appearance kernels: weight, bandwidths in pixels and in the image's units.
    num_threads : int, optional
        Default `rloss_caffe.get_num_threads()`.

    Returns
    -------
    ndarray, shape (K, H, W), float32
        Probabilities; they sum to 1 in every pixel.

    Raises
    ------
    ValueError
        Shapes do not fit, an image is missing, or something is not finite.
    """
    scores = np.ascontiguousarray(scores, np.float32)
    if scores.ndim != 3 or scores.size == 0:
        raise ValueError(f"scores must have shape (classes, height, width), none of it 0, found {scores.shape}")
    if not np.isfinite(scores).all():
        raise ValueError("the scores hold NaN or infinity")
    if bilateral and (image is None or np.shape(image)[1:] != scores.shape[1:]):
        found = "none" if image is None else np.shape(image)
        raise ValueError(f"bilateral kernels need an image of the scores' size {scores.shape[1:]}, found {found}")

    kernels = []
    for weight, xy_std in positional:
        kernels.append((weight, positional_features(*scores.shape[1:], xy_std)))
    for weight, xy_std, rgb_std in bilateral:
        kernels.append((weight, bilateral_features(image, xy_std, rgb_std)))
    kernels = [_normalised(weight, PermutohedralLattice(features, num_threads)) for weight, features in kernels]

    probabilities = _softmax(scores.copy())
    message = np.empty_like(scores)
    for _ in range(max_iter):
        potential = scores.copy()
        for lattice, factor in kernels:
            lattice.filter(probabilities, out=message)
            message *= factor
            potential += message
        probabilities = _softmax(potential)
    return probabilities


def _normalised(weight, lattice):
    """A kernel's lattice, and w / (A 1) for every pixel."""
    height, width = lattice.shape
    return lattice, np.float32(weight) / (lattice.filter(np.ones((height, width), np.float32)) + np.float32(1e-20))


def _softmax(scores):
    """Softmax over the classes, in place."""
    scores -= scores.max(axis=0)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=0)
    return scores
