"""The permutohedral lattice in tensor operations: one code for every device, a whole batch at once.

The arithmetic of the embedding is that of `rloss_caffe.filtering.PermutohedralLattice`: single precision, one rounding
an operation, no fused multiply-add. So results agree with it to float rounding.

How it is built. Each pixel's simplex is one key: the image's number, the simplex's remainder-0 vertex and the ranks of
its coordinates. Sorting the keys numbers the simplices and puts the pixels of each side by side; the few vertices of
those that occur are then sorted and numbered in the same way. A neighbour is looked up by its key. Splat, blur and
slice are weighted sums of rows in a fixed order, without atomic additions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from rloss_caffe.filtering.lattice import MAX_COORDINATE, check_range, elevation_scales

__all__ = ["MEMORY", "TensorLattice"]

MEMORY = 6 << 30  # bytes that a step may take on a device beside what goes in and comes out
_KEY_BITS = 62
_WORD_BITS = 31  # of keys that do not fit one word: a number below 2^31 stands for the words before
_PIECE = 512  # rows summed one after the other: all pixels of a plain image would meet in one vertex


class TensorLattice:
    """Gaussian filtering of tensors at points of a feature space, on the device where the features are.

    The filter is the ``A`` of `rloss_caffe.PermutohedralLattice`: not normalised, and with its self term.

    Parameters
    ----------
    features : tensor, shape (B, d, n), float32
        Feature vectors of a batch, already over their bandwidths: d >= 1 dimensions, n points an image. Images do not
        mix.
    compatible : bool
        Add the vertices around the zero feature when n is no multiple of 4, as the original does (default).
    memory : int
        Bytes that a pass of the filter may take beside values and result. More channels are filtered in groups; one
        channel at least is.

    Attributes
    ----------
    num_vertices : int
        M, the lattice points in use, of all images.

    Raises
    ------
    ValueError
        Wrong shape or type; features that are not finite, or beyond coordinates +-32767 on the lattice, of the image
        that the message names.

    Notes
    -----
    The same input gives the same numbers each time, on any device but MPS, whose additions have no fixed order. Nothing
    leaves the device but the range of the coordinates and the numbers of simplices and of vertices: building waits for
    the device three times (five times or more where a key needs several words), and filtering never.

    The object holds ``16 B n (d + 1)`` bytes, ``24 M (d + 1)`` and a little. Building takes about ``80 B n (d + 1)``
    for a moment on photographs, and up to `building_bytes` where no two pixels share a simplex.
    """

    def __init__(self, features: Tensor, compatible: bool = True, memory: int = MEMORY) -> None:
        if features.dim() != 3 or 0 in features.shape or features.dtype != torch.float32:
            found = f"shape {tuple(features.shape)} and {features.dtype}"
            raise ValueError(f"features must be float32 of shape (batch, dimension, points), none 0, found {found}")
        self.batch, self.dimension, self.num_points = features.shape
        self._memory = memory
        with torch.no_grad():
            self._build(features.detach(), compatible)

    @staticmethod
    def building_bytes(dimension: int, points: int) -> int:
        """Bytes that building takes at most, for so many points of all images."""
        return points * (dimension + 1) * (80 * dimension + 160)

    @torch.no_grad()
    def filter(self, values: Tensor, reverse: bool = False) -> Tensor:
        """Apply the lattice: ``A v``, or ``A^T v`` with the blur's axes reversed.

        Parameters
        ----------
        values : tensor, shape (B, K, n), float32
            Finite, on the features' device.
        reverse : bool

        Returns
        -------
        tensor, shape (B, K, n), float32

        Raises
        ------
        ValueError
            Shape or type do not fit.
        """
        if values.dim() != 3 or (values.shape[0], values.shape[2]) != (self.batch, self.num_points):
            expected = f"({self.batch}, channels, {self.num_points})"
            raise ValueError(f"values must have shape {expected}, found shape {tuple(values.shape)}")
        if values.dtype != torch.float32:
            raise ValueError(f"values must be float32, found {values.dtype}")
        result = torch.empty_like(values, memory_format=torch.contiguous_format)
        rows = 2 * self.batch * self.num_points + len(self._pieces) + 3 * self.num_vertices
        channels = max(1, self._memory // (4 * rows))
        for first in range(0, values.shape[1], channels):
            group = slice(first, first + channels)
            result[:, group] = self._filter_group(values[:, group], reverse)
        return result

    def _filter_group(self, values: Tensor, reverse: bool) -> Tensor:
        batch, channels, points = values.shape
        rows = values.transpose(1, 2).reshape(batch * points, channels).contiguous()
        rows = _sum_rows(rows, self._splat_index, self._splat_weights, self._pieces)
        rows = _sum_rows(rows, torch.arange(len(rows), device=rows.device, dtype=torch.int32), None, self._joins)
        axes = range(self.dimension + 1)
        for axis in reversed(axes) if reverse else axes:
            rows = _sum_rows(rows, self._neighbours[axis], self._neighbour_weights[axis])
        rows *= 1 / (1 + 2.0**-self.dimension)
        rows = _sum_rows(rows, self._index, self._weights)
        return rows.view(batch, points, channels).transpose(1, 2)

    def _build(self, features: Tensor, compatible: bool) -> None:
        batch, dimension, count = features.shape
        total = count + 1 if compatible and count % 4 else count
        points = features.new_zeros(dimension, batch, total)
        points[:, :, :count] = features.transpose(0, 1)
        nearest, rank, weights = _embed(points.view(dimension, -1))
        lowest, bits = self._fields(features, nearest[:dimension].view(dimension, batch, total))

        weights = torch.empty_like(weights).scatter_(0, (dimension - rank).long(), weights)  # by vertex
        weights = torch.cat([weights[:1] + (1 - weights[-1:]), weights[1:] - weights[:-1]]).t().contiguous()
        weights.view(batch, total, -1)[:, count:] = 0  # what was added is not filtered
        images = torch.arange(batch, device=features.device).repeat_interleave(total, output_size=batch * total)
        fields = (nearest[:dimension] - lowest).long() * (dimension + 1) + rank[:dimension]
        del nearest, rank, points
        simplices = _Groups(_pack([images, *fields], bits))

        images, fields = images[simplices.first], fields[:, simplices.first]
        rank = fields % (dimension + 1)
        vertex = torch.arange(dimension + 1, device=features.device)[:, None]
        above = (rank[:, None] > dimension - vertex).long() * (dimension + 1)
        fields = ((fields - rank)[:, None] + vertex - above).view(dimension, -1)
        words = _pack([images.repeat(dimension + 1), *fields], bits)
        del rank, above, fields
        vertices = _Groups(words)
        self.num_vertices = vertices.count
        self._find_neighbours(vertices, [(word[vertices.first], size) for word, size in words], bits)
        index = vertices.number.view(dimension + 1, -1).t().int()[simplices.number]

        self._order_splat(simplices, vertices, weights, total)
        self._index = index.view(batch, total, -1)[:, :count].reshape(batch * count, -1)
        self._weights = weights.view(batch, total, -1)[:, :count].reshape(batch * count, -1)

    def _fields(self, features: Tensor, nearest: Tensor) -> tuple[Tensor, list[int]]:
        """The least of each coordinate in units of d + 1, and how many bits the fields of a key have; checks both."""
        low, high = nearest.amin(2), nearest.amax(2)
        ends = torch.stack([low, high]).cpu().numpy().astype(float)  # waits for the device
        size = self.dimension + 1
        largest = np.abs(ends).max((0, 1)) * size
        if not largest.max() <= MAX_COORDINATE - size:
            for image, (each, found) in enumerate(zip(features, largest)):
                name = f"image {image} of the batch: "
                if not each.isfinite().all():
                    raise ValueError(f"{name}features must be finite")
                try:
                    check_range(found if np.isfinite(found) else float(each.abs().max()), self.dimension)
                except ValueError as error:
                    raise ValueError(f"{name}{error}") from None
        # A vertex is up to one unit below, a neighbour less than one more; above likewise.
        extents = (ends[1].max(1) - ends[0].min(1) + 4) * size
        bits = [max(1, (self.batch - 1).bit_length()), *(int(extent).bit_length() for extent in extents)]
        return low.amin(1, keepdim=True) - 2, bits

    def _find_neighbours(self, vertices: _Groups, words: list[tuple[Tensor, int]], bits: list[int]) -> None:
        """Of every vertex itself and its two neighbours along each axis; those that are missing weigh nothing."""
        size = self.dimension + 1
        steps = []
        for axis in range(size):
            step = [0] + [-self.dimension if axis == i else 1 for i in range(self.dimension)]
            steps += [_pack([sign * each for each in step], bits) for sign in (-1, 1)]
        own = torch.arange(vertices.count, device=words[0][0].device, dtype=torch.int32)
        self._neighbours = own[:, None].repeat(size, 1, 3)
        self._neighbour_weights = torch.ones_like(self._neighbours, dtype=torch.float32)
        at_once = 2 * size if len(words) == 1 else 2  # many words take much memory
        for first in range(0, 2 * size, at_once):
            axes = slice(first // 2, (first + at_once) // 2)
            moved = [
                (torch.stack([word + step[place][0] for step in steps[first : first + at_once]]), width)
                for place, (word, width) in enumerate(words)
            ]
            number, found = (each.unflatten(0, (-1, 2)).transpose(1, 2) for each in vertices.find(moved))
            self._neighbours[axes, :, 1:] = number
            self._neighbour_weights[axes, :, 1:] = found * 0.5

    def _order_splat(self, simplices: _Groups, vertices: _Groups, weights: Tensor, total: int) -> None:
        """The pixels of every vertex, one after the other, with their weights; a vertex of many in several pieces."""
        corner, simplex = vertices.order // simplices.count, vertices.order % simplices.count
        entries = weights.numel()
        place = torch.arange(entries, device=weights.device)
        lengths = simplices.starts.diff()[simplex]
        ends = lengths.cumsum(0)
        item = torch.repeat_interleave(lengths, output_size=entries)
        pixel = simplices.order[place + (simplices.starts[simplex] - ends + lengths)[item]]
        self._splat_weights = weights.view(-1)[pixel * weights.shape[1] + corner[item]]
        image, point = pixel // total, pixel % total
        self._splat_index = (image * self.num_points + point.clamp_(max=self.num_points - 1)).int()

        # A piece is _PIECE entries of a vertex, or its last ones. How many there are at most is known without waiting;
        # those that are not there are empty, and joined in stretches behind the vertices.
        starts = torch.cat([ends.new_zeros(1), ends])[vertices.starts]
        pieces = starts.diff() // _PIECE + 1
        ends = pieces.cumsum(0)
        spare = entries // _PIECE
        piece = torch.arange(vertices.count + spare, device=weights.device)
        vertex = torch.searchsorted(ends, piece, right=True).clamp_(max=vertices.count - 1)
        first = starts[vertex] + (piece - ends[vertex] + pieces[vertex]) * _PIECE
        first = torch.where(piece < ends[-1], first, entries)
        self._pieces = torch.cat([first, first.new_full((1,), entries)]).int()
        behind = torch.arange(_PIECE, spare + _PIECE, _PIECE, device=weights.device) + ends[-1]
        self._joins = torch.cat([ends.new_zeros(1), ends, behind.clamp_(max=len(piece))]).int()


def _embed(features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of every point (d, m): the remainder-0 vertex of its simplex over d + 1, the coordinates' ranks and offsets.

    Each operation is one of its own: fused ones round elsewhere, and a point may then be in another simplex.
    """
    dimension, size = len(features), len(features) + 1
    elevated = features.new_empty(size, features.shape[1])
    total = torch.zeros_like(features[0])
    for axis, scale in zip(range(dimension, 0, -1), reversed(elevation_scales(dimension).tolist())):
        scaled = features[axis - 1] * scale
        torch.sub(total, scaled * axis, out=elevated[axis])
        total = total + scaled
    elevated[0] = total
    inverse = float(np.float32(1) / np.float32(size))
    nearest = torch.round(elevated * inverse)  # half to even
    rest = elevated - nearest * size
    rank = torch.stack(  # ties go to the later one
        [
            (rest[i + 1 :] > rest[i]).sum(0, dtype=torch.int32) + (rest[:i] >= rest[i]).sum(0, dtype=torch.int32)
            for i in range(size)
        ]
    )
    rank += nearest.sum(0).int()
    step = (rank < 0).int() - (rank > dimension).int()  # back to the plane
    rank += step * size
    nearest += step
    return nearest, rank, (elevated - nearest * size) * inverse


class _Groups:
    """Equal keys, numbered in the keys' order.

    Parameters
    ----------
    words : list of (tensor, int)
        As `_pack` gives them.

    Attributes
    ----------
    count : int
        How many there are.
    number : tensor, int64
        Of every key.
    order : tensor, int64
        The keys' places, those of equal ones side by side.
    starts : tensor, shape (count + 1,), int64
        Where in `order` each number begins.
    first : tensor, shape (count,), int64
        Of every number the first place that has it.
    """

    def __init__(self, words: list[tuple[Tensor, int]]) -> None:
        self._tables: list[Tensor] = []
        number: Any = None
        for word, bits in words:
            ordered, self.order = torch.sort(word if number is None else (number << bits) + word, stable=True)
            ranks = torch.zeros_like(ordered)
            torch.cumsum(ordered[1:] != ordered[:-1], 0, out=ranks[1:])
            self.count = int(ranks[-1]) + 1  # waits for the device
            self.starts = torch.searchsorted(ranks, torch.arange(self.count + 1, device=ranks.device))
            self._tables.append(ordered[self.starts[:-1]])
            number = torch.empty_like(ranks).scatter_(0, self.order, ranks)
        self.number: Tensor = number
        self.first = self.order[self.starts[:-1]]

    def find(self, words: list[tuple[Tensor, int]]) -> tuple[Tensor, Tensor]:
        """The numbers of keys, and whether they are there."""
        number: Any = None
        found: Any = True
        for table, (word, bits) in zip(self._tables, words):
            key = word if number is None else (number << bits) + word
            number = torch.searchsorted(table, key).clamp_(max=len(table) - 1)
            found = (table[number] == key) & found
        return number, found


def _pack(fields: Any, bits: list[int]) -> list[tuple[Any, int]]:
    """Whole numbers side by side in words, with the words' sizes: in one word if they fit."""
    limit = _KEY_BITS if sum(bits) <= _KEY_BITS else _WORD_BITS
    words: list[tuple[Any, int]] = []
    for field, size in zip(fields, bits):
        word, used = words.pop() if words and words[-1][1] + size <= limit else (0, 0)
        words.append(((word << size) + field, used + size))
    return words


def _sum_rows(table: Tensor, index: Tensor, weights: Tensor | None, offsets: Tensor | None = None) -> Tensor:
    """Weighted sums of rows of a table: of each row of `index`, or of the stretches of it that `offsets` bound."""
    if table.device.type != "mps":
        return embedding_bag(
            index, table, offsets, mode="sum", per_sample_weights=weights, include_last_offset=offsets is not None
        )
    return _sum_rows_plainly(table, index, weights, offsets)


def _sum_rows_plainly(table: Tensor, index: Tensor, weights: Tensor | None, offsets: Tensor | None) -> Tensor:
    """The same where there is no such operation; it takes memory for all rows of a stretch at once."""
    weights = table.new_ones(index.shape) if weights is None else weights
    if offsets is not None:
        stretch = torch.repeat_interleave(offsets.diff(), output_size=len(index))
        sums = table.new_zeros(len(offsets) - 1, table.shape[1])
        return sums.index_add_(0, stretch, table[index] * weights[:, None])
    sums = table[index[:, 0]] * weights[:, :1]
    for column in range(1, index.shape[1]):
        sums += table[index[:, column]] * weights[:, column : column + 1]
    return sums
