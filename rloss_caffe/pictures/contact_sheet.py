"""A page of many pictures of mixed sizes, in rows that fill its width, each picture over its caption."""

import math
import textwrap
from dataclasses import dataclass
from typing import Tuple

import numpy as np

from rloss_caffe.pictures.sheet import Sheet, plain, shorten

__all__ = ["Cell", "Place", "Sample", "draw", "fill_rows"]

WIDTH = 1360  # pixels
GAP = 12
_ROW = 250  # pixels, about, that a row of pictures is high
_MARGIN = 14
_LINE = 14
_LETTER = 6.2  # pixels, about, that a letter of a caption is wide
_LINES = 4  # of a caption, at most
_NARROWEST, _WIDEST = 0.5, 6.0  # width to height of a place: a caption needs some room


@dataclass(frozen=True)
class Sample:
    """A picture of the sheet."""

    title: str
    caption: str
    picture: np.ndarray  # (H, W, 3), uint8 RGB


@dataclass(frozen=True)
class Place:
    """Where a picture stands in its row, in pixels."""

    left: int
    width: int
    height: int


def fill_rows(sizes, width, row_height=_ROW, gap=GAP):
    """Deal pictures out to rows of about one height, in their order, so that each row is exactly as wide as the page.

    Parameters
    ----------
    sizes : list of (int, int)
        Width and height of each picture.
    width : int
        Of the page.
    row_height : int
        What rows should be high, about. One that would become half as high again does not fill the page.
    gap : int
        Between pictures.

    Returns
    -------
    list of list of Place
        Places of one row have one height, and their picture's width to height, within 0.5 to 6.
    """
    ratios = [min(max(w / h, _NARROWEST), _WIDEST) for w, h in sizes]
    total = sum(ratios)
    n_rows = max(1, round(total * row_height / width))
    rows, middle = {}, 0.0
    for ratio in ratios:
        row = int((middle + ratio / 2) / total * n_rows)
        rows.setdefault(min(row, n_rows - 1), []).append(ratio)
        middle += ratio
    heights = [min((width - gap * (len(row) - 1)) / sum(row), 1.5 * row_height) for row in rows.values()]
    return [_place(row, height, gap) for row, height in zip(rows.values(), heights)]


def _place(ratios, height, gap):
    places, right = [], 0.0
    for ratio in ratios:
        left, right = right, right + ratio * height
        # Edges are rounded, not widths: then a row's errors do not add up.
        places.append(Place(round(left), round(right) - round(left), max(round(height), 1)))
        right += gap
    return places


@dataclass(frozen=True)
class Cell:
    """A colour of the legend."""

    name: str
    colour: Tuple[float, float, float]  # 0 to 1


def draw(samples, legend, width=WIDTH):
    """The sheet: a matplotlib Figure.

    Parameters
    ----------
    samples : list of Sample
    legend : list of Cell
    width : int
        In pixels.

    Raises
    ------
    ValueError
        The sheet would be higher than matplotlib can draw.
    """
    from matplotlib.patches import Patch
    from PIL import Image

    rows = fill_rows([sample.picture.shape[1::-1] for sample in samples], width - 2 * _MARGIN)
    waiting = iter(samples)
    laid_out = []  # (places, samples, captions) of each row
    for places in rows:
        members = [next(waiting) for _ in places]
        laid_out.append((places, members, [_caption(s, place.width) for s, place in zip(members, places)]))
    heights = [places[0].height + 6 + _LINE * max(map(len, captions)) + GAP for places, _, captions in laid_out]
    columns = max(1, min(len(legend), (width - 2 * _MARGIN) // 150))
    legend_height = 22 * math.ceil(len(legend) / columns) + _MARGIN
    sheet = Sheet(width, _MARGIN + sum(heights) + legend_height)
    top, number = _MARGIN, 0
    for (places, members, captions), height in zip(laid_out, heights):
        for place, sample, lines in zip(places, members, captions):
            left = _MARGIN + place.left
            size = _fit(sample.picture.shape[1::-1], (place.width, place.height))
            picture = np.asarray(Image.fromarray(sample.picture).resize(size, Image.LANCZOS))
            sheet.show(f"picture {number}", left + (place.width - size[0]) // 2, top, size, picture)
            for line, text in enumerate(lines):
                style = {"weight": "bold"} if line == 0 else {}
                sheet.write(left, top + place.height + 4 + _LINE * line, text, 8.5, **style)
            number += 1
        top += height
    # Some colours are as dark as a dark ground: each has an outline.
    handles = [Patch(facecolor=cell.colour, edgecolor="0.4", linewidth=1, label=plain(cell.name)) for cell in legend]
    sheet.legend(handles, _MARGIN, top, columns, fontsize=9, handlelength=1.6, handleheight=1.1)
    return sheet.figure


def _caption(sample, width):
    room = max(int(width / _LETTER), 8)
    lines = textwrap.wrap(sample.caption, room)
    if len(lines) > _LINES - 1:
        lines = [*lines[: _LINES - 2], f"{lines[_LINES - 2][: room - 2]} \N{HORIZONTAL ELLIPSIS}"]
    return [shorten(sample.title, room), *lines]


def _fit(size, room):
    """The largest size of that width to height within a place; all of it, but for a pixel, unless very long."""
    scale = min(room[0] / size[0], room[1] / size[1])
    fitted = [max(1, round(side * scale)) for side in size]
    return tuple(full if abs(full - side) <= 2 else side for side, full in zip(fitted, room))
