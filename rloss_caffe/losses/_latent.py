"""Latent labels of soft self-labelling: pairs of neighbours, what a pair costs, and descent to labels that cost less.

Arrays of one image lie row by row, (H, K, W), so that the loops over the columns run through contiguous memory. An
index that may be negative for all that the compiler knows would be looked at each time: the unsigned ones are not.
"""

import math

import numpy as np

from rloss_caffe.numerics.compiling import jit

__all__ = ["FLOOR", "LOG_QUADRATIC_FLOOR", "RELAXATIONS", "Pairs", "descend", "energy"]

RELAXATIONS = (
    "bilinear",
    "quadratic",
    "normalized_quadratic",
    "collision_cross_entropy",
    "collision_divergence",
    "log_quadratic",
)
_BILINEAR, _QUADRATIC, _NORMALIZED, _COLLISION, _DIVERGENCE, _LOG_QUADRATIC = range(6)
FLOOR = np.float32(1e-20)  # added to sums of products under a logarithm: without it two sure labels could cost infinity
LOG_QUADRATIC_FLOOR = np.float32(1e-5)  # 1 - |p - q|^2 / 2 is a difference: below, it has no digits left
RATE, MOMENTUM = 3.0, 0.8  # of the descent: of 12 pairs tried, the quickest
_LEAST_RATE = 1e-3
_LEAST_LOGIT = np.float32(-40)


class Pairs:
    """The pairs of neighbouring pixels of one image, each once, and their weights.

    Parameters
    ----------
    image : ndarray, shape (C, H, W), float32
    region : ndarray, shape (H, W), float32
        m >= 0: a pair's weight is multiplied by m_i m_j.
    window : PairWindow
        Of this image and region: which pairs there are, and the bandwidth of colours.
    scale : float
        Of that bandwidth.

    Attributes
    ----------
    offsets : ndarray, shape (pairs, 2), int64
        Rows >= 0 and columns to the second pixel.
    weights : ndarray, shape (pairs, H, W), float32
        At the first pixel; 0 where the second is outside.
    """

    def __init__(self, image, region, window, scale=1.0):
        offsets = window.offsets
        half = (offsets.rows > 0) | ((offsets.rows == 0) & (offsets.columns > 0))
        self.offsets = np.stack([offsets.rows[half], offsets.columns[half]], axis=1)
        self.weights = np.zeros((len(self.offsets), *region.shape), np.float32)
        rgb_std = float(window.rgb_std) * scale
        factor = -1 / (2 * rgb_std**2) if rgb_std > 0 else 0.0  # 0: all colours are the same
        for index, logarithm in enumerate(offsets.logarithms[half]):
            one, other = self._ends(index)
            exponent = np.zeros(region[one].shape)
            for channel in image.astype(float):
                exponent += (channel[one] - channel[other]) ** 2
            exponent *= factor
            with np.errstate(over="ignore"):
                self.weights[index][one] = region[one] * region[other] * np.exp(exponent + float(logarithm))

    def _ends(self, index):
        """Where the first pixels of an offset's pairs are, and where the second ones."""
        row, column = self.offsets[index]
        height, width = self.weights.shape[1:]
        one = slice(0, height - row), slice(max(0, -column), width - max(0, column))
        return one, (slice(row, height), slice(max(0, column), width - max(0, -column)))

    def leave_out(self, fixed):
        """Pairs of two pixels whose labels are given: what they cost changes nothing."""
        for index, weights in enumerate(self.weights):
            one, other = self._ends(index)
            weights[one][fixed[one] & fixed[other]] = 0


def energy(labels, probabilities, share, pairs, relaxation, forward, eta, strength, gradient=None, weight=None):
    """What the labels cost: the sums over unlabelled pixels and over pairs.

    Parameters
    ----------
    labels, probabilities : ndarray, shape (H, K, W), float32
    share : ndarray, shape (H, W), float32
        How much each pixel's cross entropy counts; 0 where its label is given.
    pairs : Pairs
    relaxation : str
    forward : bool
        Cross entropy -y . ln s in the place of the collision's.
    eta, strength : float
        Factors of the two sums.
    gradient, weight : ndarrays, shapes (H, K, W) and (H, W), float32, optional
        Receive the derivative with respect to the labels, and how steep it is at each pixel.

    Returns
    -------
    (float, float)
    """
    if gradient is None:
        gradient = np.empty_like(labels)
    if weight is None:
        weight = np.empty_like(share)
    squares = np.empty_like(share)
    eta, strength = np.float32(eta), np.float32(strength)
    unary = _cross_entropy(labels, probabilities, share, forward, eta, squares, gradient, weight)
    kind = RELAXATIONS.index(relaxation)
    return unary, _pair_costs(
        labels, squares, pairs.offsets, pairs.weights, kind, strength, np.zeros_like(share), gradient, weight
    )


def descend(labels, probabilities, share, pairs, relaxation, forward, eta, strength, steps):
    """Change the labels in place, step by step, so that they cost less; no step that costs more is kept.

    A step is one of mirror descent (exponentiated gradient) with momentum. At each pixel it is divided by the weights
    that pull there, so that it moves the logarithm of a label by no more than RATE. Where the energy would rise,
    the step is not made and the momentum ends; where a step without momentum would raise it, steps become half as long.

    Returns
    -------
    list of float
        The energy at the beginning and after every step; it never rises.
    """
    options = share, pairs, relaxation, forward, eta, strength
    logits = np.log(np.maximum(labels, FLOOR))
    gradient, weight, velocity = np.empty_like(labels), np.empty_like(share), np.zeros_like(labels)
    next_labels, next_logits = labels.copy(), np.empty_like(labels)
    next_gradient, next_weight = np.empty_like(labels), np.empty_like(share)
    rate, momentum = RATE, 0.0
    energies = [sum(energy(labels, probabilities, *options, gradient, weight))]
    current = labels
    while len(energies) <= steps and rate >= _LEAST_RATE:
        _move(
            current, logits, share, gradient, weight, np.float32(rate), np.float32(momentum), velocity, next_labels,
            next_logits,
        )  # fmt: skip
        found = sum(energy(next_labels, probabilities, *options, next_gradient, next_weight))
        if found <= energies[-1]:
            energies.append(found)
            current, next_labels = next_labels, current
            logits, next_logits = next_logits, logits
            gradient, next_gradient = next_gradient, gradient
            weight, next_weight = next_weight, weight
            momentum = MOMENTUM
        else:
            energies.append(energies[-1])
            if momentum == 0:
                rate /= 2
            momentum = 0.0
    if current is not labels:
        labels[...] = current
    return energies


# Sums may be reordered; what comes in is finite.
@jit(fastmath=True, error_model="numpy")
def _cross_entropy(labels, probabilities, share, forward, eta, squares, gradient, weight):
    height, classes, width = labels.shape
    total = 0.0
    sums = np.empty(width, np.float32)
    for i in range(height):
        squares[i, :] = np.float32(0)
        for k in range(classes):
            for j in range(width):
                squares[i, j] += labels[i, k, j] * labels[i, k, j]
        for j in range(width):
            weight[i, j] = eta * share[i, j]
        sums[:] = np.float32(0) if forward else FLOOR
        if forward:
            for k in range(classes):
                for j in range(width):
                    logarithm = math.log(probabilities[i, k, j] + FLOOR)
                    sums[j] -= labels[i, k, j] * logarithm
                    gradient[i, k, j] = -weight[i, j] * logarithm
            for j in range(width):
                total += np.float64(weight[i, j] * sums[j])
        else:
            for k in range(classes):
                for j in range(width):
                    sums[j] += labels[i, k, j] * probabilities[i, k, j]
            for j in range(width):
                total -= np.float64(weight[i, j] * math.log(sums[j]))
                sums[j] = -weight[i, j] / sums[j]
            for k in range(classes):
                for j in range(width):
                    gradient[i, k, j] = sums[j] * probabilities[i, k, j]
    return total


@jit(fastmath=True, error_model="numpy")
def _pair_costs(labels, squares, offsets, weights, kind, strength, own, gradient, weight):
    height, classes, width = labels.shape
    one, half = np.float32(1), np.float32(0.5)
    total = 0.0
    products, pull = np.empty(width, np.float32), np.empty(width, np.float32)
    for i in range(height):
        for pair in range(offsets.shape[0]):
            u, column = i + offsets[pair, 0], offsets[pair, 1]
            if u >= height:
                continue
            length = width - abs(column)
            a, b = np.uint64(max(0, -column)), np.uint64(max(0, column))
            for j in range(length):
                products[j] = FLOOR
            for k in range(classes):
                for j in range(length):
                    products[j] += labels[i, k, a + np.uint64(j)] * labels[u, k, b + np.uint64(j)]
            cost = np.float32(0)
            # gradient at the one: -pull times the other's label, + own times its own
            if kind == _BILINEAR:
                for j in range(length):
                    w = strength * weights[pair, i, a + np.uint64(j)]
                    cost += w * (one - products[j])
                    pull[j] = w
            elif kind == _QUADRATIC:
                for j in range(length):
                    w = strength * weights[pair, i, a + np.uint64(j)]
                    cost += w * (half * (squares[i, a + np.uint64(j)] + squares[u, b + np.uint64(j)]) - products[j])
                    pull[j] = w
                    own[i, a + np.uint64(j)] += w
                    own[u, b + np.uint64(j)] += w
            elif kind == _NORMALIZED:
                for j in range(length):
                    w = strength * weights[pair, i, a + np.uint64(j)]
                    p, q = squares[i, a + np.uint64(j)], squares[u, b + np.uint64(j)]
                    pull[j] = w / math.sqrt(p * q)
                    cosine = products[j] / math.sqrt(p * q)
                    cost += w * (one - cosine)
                    own[i, a + np.uint64(j)] += w * cosine / p
                    own[u, b + np.uint64(j)] += w * cosine / q
            elif kind == _COLLISION:
                for j in range(length):
                    w = strength * weights[pair, i, a + np.uint64(j)]
                    cost -= w * math.log(products[j])
                    pull[j] = w / products[j]
            elif kind == _DIVERGENCE:
                for j in range(length):
                    w = strength * weights[pair, i, a + np.uint64(j)]
                    p, q = squares[i, a + np.uint64(j)], squares[u, b + np.uint64(j)]
                    cost -= w * (math.log(products[j]) - half * math.log(p * q))
                    pull[j] = w / products[j]
                    own[i, a + np.uint64(j)] += w / p
                    own[u, b + np.uint64(j)] += w / q
            else:
                for j in range(length):
                    w = strength * weights[pair, i, a + np.uint64(j)]
                    p, q = squares[i, a + np.uint64(j)], squares[u, b + np.uint64(j)]
                    near = max(one - (half * (p + q) - products[j]), np.float32(0)) + LOG_QUADRATIC_FLOOR
                    cost -= w * math.log(near)
                    pull[j] = w / near
                    own[i, a + np.uint64(j)] += w / near
                    own[u, b + np.uint64(j)] += w / near
            total += np.float64(cost)
            for j in range(length):
                weight[i, a + np.uint64(j)] += pull[j]
                weight[u, b + np.uint64(j)] += pull[j]
            for k in range(classes):
                for j in range(length):
                    gradient[i, k, a + np.uint64(j)] -= pull[j] * labels[u, k, b + np.uint64(j)]
                for j in range(length):
                    gradient[u, k, b + np.uint64(j)] -= pull[j] * labels[i, k, a + np.uint64(j)]
        for k in range(classes):
            for j in range(width):
                gradient[i, k, j] += own[i, j] * labels[i, k, j]
    return total


@jit(fastmath=True, error_model="numpy")
def _move(labels, logits, share, gradient, weight, rate, momentum, velocity, next_labels, next_logits):
    height, classes, width = labels.shape
    one = np.float32(1)
    mean, factor, largest = np.empty(width, np.float32), np.empty(width, np.float32), np.empty(width, np.float32)
    for i in range(height):
        for j in range(width):
            mean[j] = np.float32(0)
            largest[j] = np.float32(-3e38)
            factor[j] = rate / weight[i, j] if share[i, j] > 0 and weight[i, j] > 0 else np.float32(0)
        for k in range(classes):
            for j in range(width):
                mean[j] += gradient[i, k, j] * labels[i, k, j]
        for k in range(classes):
            for j in range(width):
                step = momentum * velocity[i, k, j] - factor[j] * (gradient[i, k, j] - mean[j])
                velocity[i, k, j] = step
                step += logits[i, k, j]
                next_logits[i, k, j] = step
                largest[j] = max(largest[j], step)
        for j in range(width):
            mean[j] = np.float32(0)
        for k in range(classes):
            for j in range(width):
                # The logarithm of a label never falls so low that float32 has no number for it: it can come back.
                logit = max(next_logits[i, k, j] - largest[j], _LEAST_LOGIT)
                next_logits[i, k, j] = logit
                # exp without a call, which would keep the loop from running on several numbers at once
                x = logit * np.float32(1 / 256)
                x = one + x * (one + x * (np.float32(1 / 2) + x * (np.float32(1 / 6) + x * np.float32(1 / 24))))
                x *= x
                x *= x
                x *= x
                x *= x
                x *= x
                x *= x
                x *= x
                x *= x
                mean[j] += x
                next_labels[i, k, j] = x if share[i, j] > 0 else labels[i, k, j]
        for k in range(classes):
            for j in range(width):
                if share[i, j] > 0:
                    next_labels[i, k, j] /= mean[j]
