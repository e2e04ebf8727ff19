"""What the DenseCRF loss asks of a network: its gradient for one image, before and behind the softmax."""

from collections import namedtuple

import numpy as np

from rloss_caffe.losses import densecrf_loss

__all__ = ["Gradients", "densecrf_gradients", "score_gradient"]

# value: the loss without its weight. probability, score: gradients (K, H, W), times the weight.
Gradients = namedtuple("Gradients", "value probability score")


def densecrf_gradients(
    image, probabilities, bi_xy_std=15.0, bi_rgb_std=40.0, loss_weight=1.0, exact_gradient=False, num_threads=None
):
    """The DenseCRF loss of one image and its gradients, as training in batches of one sees them.

    Parameters
    ----------
    image : array_like, shape (C, H, W)
        Mean-subtracted, as the network sees it.
    probabilities : array_like, shape (K, H, W)
        Of the classes; in every pixel they add up to 1.
    bi_xy_std, bi_rgb_std, exact_gradient, num_threads
        As for `rloss_caffe.densecrf_loss`.
    loss_weight : float
        Both gradients are multiplied by it, the value is not.

    Returns
    -------
    Gradients
        ``value`` (float); ``probability`` and ``score``, arrays (K, H, W), float32.

    Raises
    ------
    ValueError
        Shapes do not fit, or something is not finite.
    """
    image, probabilities = np.asarray(image), np.asarray(probabilities)
    for name, array in (("image", image), ("probabilities", probabilities)):
        if array.ndim != 3:
            raise ValueError(f"{name} must have 3 dimensions (channels, height, width), found {array.shape}")
    result = densecrf_loss(
        image[np.newaxis],
        probabilities[np.newaxis],
        bi_xy_std,
        bi_rgb_std,
        exact_gradient=exact_gradient,
        num_threads=num_threads,
    )
    gradient = result.gradient(loss_weight)[0]
    return Gradients(result.value, gradient, score_gradient(probabilities, gradient))


def score_gradient(probabilities, gradient):
    """The gradient with respect to the scores s, where probabilities p = softmax(s) and dL/dp is known.

    dL/ds_k = p_k (dL/dp_k - sum_j p_j dL/dp_j); over the classes it adds up to 0 in every pixel.

    Parameters
    ----------
    probabilities, gradient : ndarray, shape (K, H, W)

    Returns
    -------
    ndarray, shape (K, H, W)
    """
    return probabilities * (gradient - (probabilities * gradient).sum(axis=0))
