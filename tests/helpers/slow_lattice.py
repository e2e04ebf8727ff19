"""The slow, obvious twins of the fast filter, used by tests only: the lattice in dictionaries, and the exact sum."""

import numpy as np

F = np.float32


def embed(features):
    """Vertices (n, d + 1, d) and barycentric weights (n, d + 1) of points (n, d), in single precision."""
    n, d = features.shape
    inverse_std = F(np.sqrt(2 / 3) * (d + 1))
    scale = [F(float(inverse_std) / np.sqrt((i + 1) * (i + 2))) for i in range(d)]
    vertices = np.empty((n, d + 1, d), int)
    weights = np.empty((n, d + 1), F)
    for point in range(n):
        elevated, partial = [F(0)] * (d + 1), F(0)
        for j in range(d, 0, -1):
            scaled = features[point, j - 1] * scale[j - 1]
            elevated[j] = partial - F(j) * scaled
            partial = partial + scaled
        elevated[0] = partial
        reciprocal = F(1) / F(d + 1)
        rounded = [np.rint(e * reciprocal) for e in elevated]
        nearest = [v * F(d + 1) for v in rounded]
        total = int(sum(rounded))
        rank = [0] * (d + 1)
        for i in range(d + 1):
            for j in range(i + 1, d + 1):
                if elevated[i] - nearest[i] < elevated[j] - nearest[j]:
                    rank[i] += 1
                else:
                    rank[j] += 1
        for i in range(d + 1):
            rank[i] += total
            if rank[i] < 0:
                rank[i] += d + 1
                nearest[i] += F(d + 1)
            elif rank[i] > d:
                rank[i] -= d + 1
                nearest[i] -= F(d + 1)
        assert sorted(rank) == list(range(d + 1))
        barycentric = [F(0)] * (d + 2)
        for i in range(d + 1):
            value = (elevated[i] - nearest[i]) * reciprocal
            barycentric[d - rank[i]] += value
            barycentric[d + 1 - rank[i]] -= value
        barycentric[0] += F(1) + barycentric[d + 1]
        weights[point] = barycentric[: d + 1]
        for r in range(d + 1):
            vertices[point, r] = [int(nearest[i]) + r - (d + 1) * (rank[i] > d - r) for i in range(d)]
    return vertices, weights


def slow_filter(features, values, reverse=False):
    """The lattice filter of values (n, K) at points (n, d), with the original's groups of four."""
    n, d = features.shape
    padded = np.concatenate([features, np.zeros((-n % 4, d), F)])
    vertices, weights = embed(padded)
    lattice = {tuple(v): np.zeros(values.shape[1], F) for v in vertices.reshape(-1, d)}
    for point in range(n):
        for vertex, weight in zip(vertices[point], weights[point]):
            lattice[tuple(vertex)] += weight * values[point]
    nothing = np.zeros(values.shape[1], F)
    axes = range(d + 1)
    for axis in reversed(axes) if reverse else axes:
        step = np.ones(d, int)
        if axis < d:
            step[axis] = -d
        before = lattice
        lattice = {}
        for key, value in before.items():
            low, high = tuple(np.subtract(key, step)), tuple(np.add(key, step))
            lattice[key] = value + F(0.5) * (before.get(low, nothing) + before.get(high, nothing))
    alpha = F(1 / (1 + 2.0**-d))
    out = np.zeros(values.shape, F)
    for point in range(n):
        for vertex, weight in zip(vertices[point], weights[point]):
            out[point] += weight * alpha * lattice[tuple(vertex)]
    return out


def brute_force(features, values):
    """``sum_j exp(-|f_i - f_j|^2 / 2) v_j`` for points (n, d) and values (n, K), in double precision."""
    features = features.astype(float)
    squares = (features**2).sum(1)
    distance = np.maximum(squares[:, None] + squares[None] - 2 * features @ features.T, 0)
    return np.exp(-distance / 2) @ values.astype(float)
