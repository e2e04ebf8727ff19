"""A sheet with a row of panels for each image, such as photograph, prediction and ground truth, with captions."""

import math
import textwrap
from dataclasses import dataclass

import numpy as np

from rloss_caffe.datasets import voc
from rloss_caffe.pictures.sheet import LINE, Sheet, plain, shorten

__all__ = ["Picture", "Table", "label_legend", "resized"]

MARGIN, GAP, GROUP_GAP = 14, 8, 30  # pixels of the sheet
HEAD, HEADING = 62, 22
TALLEST = 1.0  # of a panel: its height by its width; taller pictures become narrower instead
NARROWEST = 60  # pixels of a panel: no caption is readable below
LETTER = 6.4  # pixels of a caption's letter, about


@dataclass
class Picture:
    """A picture and the lines below it."""

    pixels: np.ndarray  # (H, W, 3), uint8 RGB
    lines: list
    bold: bool = False  # the first line


class Table:
    """Rows of panels with a heading each; several groups of them side by side where there is room.

    Parameters
    ----------
    width : int
        Of the sheet, in pixels.
    headings : list of str
        One a panel.
    n_items : int
        How many rows of panels there will be.
    columns : int, optional
        Groups side by side; by default as many as can be read.

    Attributes
    ----------
    panel_width : int
        Pixels; pictures are to be drawn with `size_of`, so that nothing is resampled.
    room : int
        Letters of a line of a caption.

    Raises
    ------
    ValueError
        The panels would be too narrow.
    """

    def __init__(self, width, headings, n_items, columns=None):
        self._width, self._headings = width, headings
        self._columns = min(columns or max(1, width // (190 * len(headings))), n_items)
        inside = width - 2 * MARGIN - (self._columns - 1) * GROUP_GAP
        self.panel_width = (inside // self._columns - (len(headings) - 1) * GAP) // len(headings)
        if self.panel_width < NARROWEST:
            raise ValueError(
                f"{self._columns} x {len(headings)} pictures do not fit into {width} pixels; see --columns"
            )
        self.room = int(self.panel_width / LETTER)

    def size_of(self, width, height):
        """Width and height of a panel for a picture."""
        scale = min(self.panel_width / width, TALLEST * self.panel_width / height)
        return max(1, round(width * scale)), max(1, round(height * scale))

    def draw(self, items, title, subtitle, legend, notes):
        """The sheet.

        Parameters
        ----------
        items : list of list of Picture
            For each item its panels.
        title, subtitle : str
        legend : list of matplotlib handles
        notes : list of str
            Paragraphs below.

        Returns
        -------
        matplotlib Figure
        """
        rows = [items[start : start + self._columns] for start in range(0, len(items), self._columns)]
        heights = [(_picture_height(row), _caption_height(row)) for row in rows]
        foot = _Foot(self._width, legend, notes)
        sheet = Sheet(self._width, HEAD + HEADING + sum(map(sum, heights)) + foot.height)
        sheet.write(MARGIN, 12, shorten(title, self._width / 8), 11)
        sheet.write(MARGIN, 34, shorten(subtitle, self._width / 6.5), 9)
        for group in range(self._columns):
            for panel, heading in enumerate(self._headings):
                middle = self._left(group, panel) + self.panel_width / 2
                sheet.write(middle, HEAD, shorten(heading, self.panel_width / 7.5), 10, "center")
        top = HEAD + HEADING
        for row, (picture_height, caption_height) in zip(rows, heights):
            for group, panels in enumerate(row):
                for panel, picture in enumerate(panels):
                    left = self._left(group, panel) + (self.panel_width - picture.pixels.shape[1]) // 2
                    _show(sheet, left, top, picture)
            top += picture_height + caption_height
        foot.draw(sheet, top)
        return sheet.figure

    def _left(self, group, panel):
        stride = len(self._headings) * (self.panel_width + GAP) - GAP + GROUP_GAP
        return MARGIN + group * stride + panel * (self.panel_width + GAP)


def _picture_height(row):
    return max(picture.pixels.shape[0] for panels in row for picture in panels)


def _caption_height(row):
    return 10 + LINE * max(len(picture.lines) for panels in row for picture in panels)


def _show(sheet, left, top, picture):
    """A picture, one pixel of it a pixel of the sheet, and its caption."""
    height, width = picture.pixels.shape[:2]
    sheet.show("picture", left, top, (width, height), picture.pixels, interpolation="nearest")
    for index, line in enumerate(picture.lines):
        weight = "bold" if picture.bold and not index else "normal"
        colour, size = ("0", 8.5) if not index else ("0.25", 8)
        y = top + height + 3 + LINE * index
        sheet.write(left + width / 2, y, line, size, "center", weight=weight, color=colour)


class _Foot:
    """The legend and the notes below it."""

    def __init__(self, width, legend, notes):
        self._legend = legend
        longest = max((len(handle.get_label()) for handle in legend), default=0)
        self._columns = max(1, min(len(legend), (width - 2 * MARGIN) // max(150, 8 * longest)))
        self._legend_height = 24 * math.ceil(len(legend) / self._columns) + 8 if legend else 0
        self._notes = [line for note in notes for line in textwrap.wrap(note, int((width - 2 * MARGIN) / 7))]
        self.height = self._legend_height + 18 * len(self._notes) + 14

    def draw(self, sheet, top):
        if self._legend:
            style = {"fontsize": 9, "handlelength": 1.6, "handleheight": 1.1}
            sheet.legend(self._legend, MARGIN, top, self._columns, **style)
        for index, note in enumerate(self._notes):
            sheet.write(MARGIN, top + self._legend_height + 18 * index, note, 9)


def resized(pixels, size):
    """A photograph or drawing at another size, (width, height)."""
    from PIL import Image

    return np.array(Image.fromarray(pixels).resize(size, Image.LANCZOS))


def label_legend(labels, names, ignored="255, not counted"):
    """Legend handles for the labels that occur, in VOC's colours; names: those of the classes, from 0."""
    from matplotlib.patches import Patch

    palette = voc.palette() / 255
    handles = []
    for label in sorted(set(labels) - {voc.IGNORE}):
        name = names[label] if label < len(names) else f"label {label}"
        handles.append(Patch(facecolor=palette[label], edgecolor="0.6", label=plain(shorten(name, 40))))
    if voc.IGNORE in labels:
        handles.append(Patch(facecolor="white", edgecolor="0.55", hatch="//////", label=ignored))
    return handles
