"""Scribbles made from full masks: strokes along the middle of objects and background, as a person might draw them."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import dijkstra
from skimage.morphology import skeletonize

from rloss_caffe.datasets.strokes import draw_polyline

__all__ = ["draw_scribbles"]

UNLABELLED = 255
BUDGET = 0.024, 0.036  # of an image's pixels, drawn uniformly
SMALLEST_OBJECT, SMALLEST_BACKGROUND = 0.003, 0.01  # components of at least this share of the image get a stroke
EXPONENT = 0.65  # the components share the budget by area ** EXPONENT
DEPTH, DEPTHS = 0.35, (2.5, 8.0)  # how far strokes keep inside: a share of the component's inner radius, in pixels
WIDTH = 3  # of a stroke, in pixels
SHRINKAGE = 1.06  # smoothing makes paths shorter
SHORTEST = 4.0  # pixels
SMOOTHING = 4.0  # pixels: standard deviation along the path
WOBBLE, WOBBLE_LENGTH = (2.0, 5.0), 10.0  # pixels: least and most, standard deviation along the path
CLEARANCE = 0.3  # the wobble is at most this share of the distance to the component's boundary
SPACING = 6.0  # pixels between the points of the polyline
APART = 10.0  # pixels that further strokes of a component keep from earlier ones
ENOUGH = 0.002  # of the image's pixels: less of the budget left makes no further stroke


@dataclass
class Component:
    """A connected part of one label."""

    label: int
    depth: np.ndarray  # (H, W): distance to the nearest pixel outside, the frame counts; 0 outside
    area: int
    budget: float = 0.0  # pixels
    used: int = 0
    is_full: bool = False


def draw_scribbles(mask, random):
    """Scribbles of a full mask.

    Every label's largest component gets a stroke, and so does every object component of at least 0.3 % of the image
    and every background component of at least 1 %. A stroke is the longest path through the skeleton of the component,
    which has been eroded, cut at a random place to the length that the component's share of 2.4 to 3.6 % of the pixels
    allows; smoothed, made to wobble, and drawn as a polyline 3 pixels wide. What is left of the budget then becomes
    further strokes. No stroke touches another label, an ignored pixel or the frame, unless its component is too thin
    to hold one that does not; none leaves its component.

    Parameters
    ----------
    mask : uint8 array (H, W)
        Classes, 0 is background, and 255 for pixels that are ignored.
    random : numpy.random.RandomState

    Returns
    -------
    uint8 array (H, W)
        Classes on the strokes, 255 elsewhere.
    """
    components = find_components(mask)
    budget = random.uniform(*BUDGET) * mask.size
    shares = np.array([component.area**EXPONENT for component in components])
    for component, share in zip(components, shares / max(shares.sum(), 1)):
        component.budget = budget * share
    scribbles = np.full(mask.shape, UNLABELLED, np.uint8)
    for component in components:
        draw_stroke(scribbles, component, component.budget, random)
    while components:
        left = budget - sum(component.used for component in components)
        open_ones = [component for component in components if not component.is_full]
        if left < ENOUGH * mask.size or not open_ones:
            break
        component = max(open_ones, key=lambda each: each.budget - each.used)
        wanted = min(left, max(component.budget - component.used, left / len(open_ones)))
        component.is_full = not draw_stroke(scribbles, component, wanted, random)
    return scribbles


def find_components(mask):
    """Those that get a stroke."""
    found = []
    for label in np.setdiff1d(mask, [UNLABELLED]):
        numbers, count = ndimage.label(mask == label, np.ones((3, 3)))
        areas = np.bincount(numbers.ravel())[1:]
        smallest = (SMALLEST_OBJECT if label else SMALLEST_BACKGROUND) * mask.size
        for number in range(1, count + 1):
            if areas[number - 1] >= smallest or number == 1 + areas.argmax():
                inside = np.pad(numbers == number, 1)
                depth = ndimage.distance_transform_edt(inside)[1:-1, 1:-1]
                found.append(Component(int(label), depth, int(areas[number - 1])))
    return found


def draw_stroke(scribbles, component, pixels, random):
    """Draw one stroke of about so many pixels, away from earlier ones; False if there is no room for it."""
    free = component.depth > 0
    if component.used:
        drawn = (scribbles == component.label) & free
        free &= ndimage.distance_transform_edt(~drawn) > APART
        if not free.any():
            return False
    depth = np.where(free, component.depth, 0)
    wanted = np.clip(DEPTH * component.depth.max(), *DEPTHS)
    middle = free & (component.depth > min(wanted, depth.max() - 1e-6))
    path = longest_path(skeletonize(middle))
    if component.used and len(path) < SHORTEST:
        return False
    stroke = as_drawn(path, max(SHRINKAGE * pixels / WIDTH, SHORTEST), component.depth, random)
    if component.used:
        stroke &= free
    scribbles[stroke] = component.label
    component.used += np.count_nonzero(stroke)
    return bool(stroke.any())


def longest_path(skeleton):
    """The longest of the shortest ways between two pixels of a skeleton, (N, 2) rows and columns."""
    places = np.argwhere(skeleton)
    index = np.full(np.add(skeleton.shape, 2), -1)
    index[1:-1, 1:-1][skeleton] = np.arange(len(places))
    starts, ends, lengths = [], [], []
    for row, column in ((0, 1), (1, 0), (1, 1), (1, -1)):
        neighbour = index[places[:, 0] + 1 + row, places[:, 1] + 1 + column]
        (found,) = np.nonzero(neighbour >= 0)
        starts.append(found)
        ends.append(neighbour[found])
        lengths.append(np.full(len(found), np.hypot(row, column)))
    edges = np.concatenate(lengths), (np.concatenate(starts), np.concatenate(ends))
    graph = coo_matrix(edges, shape=(len(places), len(places))).tocsr()
    # From any pixel of each part to its farthest, and from there to the farthest again.
    best, way = -1.0, None
    unseen = np.ones(len(places), bool)
    while unseen.any():
        distances = dijkstra(graph, directed=False, indices=np.flatnonzero(unseen)[0])
        reached = np.isfinite(distances)
        unseen &= ~reached
        end = np.where(reached, distances, -1).argmax()
        distances, before = dijkstra(graph, directed=False, indices=end, return_predecessors=True)
        other = np.where(reached, distances, -1).argmax()
        if distances[other] > best:
            best, way = distances[other], [other]
            while way[-1] != end:
                way.append(before[way[-1]])
    return places[way].astype(float)


def as_drawn(path, length, depth, random):
    """A piece of a path of at most that length, smooth, with a wobble, 3 pixels wide: bool array (H, W)."""
    path = piece(path, length, random)
    smooth = ndimage.gaussian_filter1d(path, SMOOTHING, axis=0, mode="nearest") if len(path) > 1 else path
    wobble = wobbles(len(path), random)
    inner = ndimage.binary_erosion(depth > 0, np.ones((3, 3)))
    if not inner.any():
        inner = depth > 0
    for share in (1.0, 0.5, 0.25, 0.0):
        points = smooth + share * limited(wobble, smooth, depth)
        stroke = drawn(points, depth.shape)
        if not (stroke & ~inner).any():
            return stroke
    if not (stroke & inner).any():  # the smoothed path has left a bent component
        stroke = drawn(path, depth.shape)
    return stroke & (inner if (stroke & inner).any() else depth > 0)


def piece(path, length, random):
    """Points one pixel apart on a random piece of a path."""
    if len(path) < 2:
        return path
    along = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(path, axis=0).T))])
    start = random.uniform(0, max(along[-1] - length, 0))
    places = np.arange(start, min(start + length, along[-1]) + 1e-6)
    return np.stack([np.interp(places, along, values) for values in path.T], axis=1)


def wobbles(count, random):
    """A smooth random displacement for each of so many points, (count, 2), of at most 5 pixels."""
    noise = ndimage.gaussian_filter1d(random.standard_normal((count, 2)), WOBBLE_LENGTH, axis=0, mode="nearest")
    most = np.hypot(*noise.T).max()
    return noise * (random.uniform(*WOBBLE) / most if most else 0)


def limited(wobble, points, depth):
    """The wobble, at most CLEARANCE of the distance to the component's boundary."""
    rows, columns = np.clip(np.rint(points).astype(int), 0, np.subtract(depth.shape, 1)).T
    sizes = np.hypot(*wobble.T)
    most = CLEARANCE * depth[rows, columns]
    return wobble * np.minimum(1, most / np.maximum(sizes, 1e-9))[:, np.newaxis]


def drawn(points, shape):
    """The polyline through every sixth point and the last: bool array of that shape."""
    chosen = points[[*range(0, len(points) - 1, int(SPACING)), -1]]
    canvas = np.zeros(shape, np.uint8)
    draw_polyline(canvas, chosen[:, ::-1], 1, WIDTH)
    return canvas.astype(bool)
