"""A sheet of pictures and text, laid out in pixels: nothing that is drawn is resampled."""

from rloss_caffe.pictures.figures import new_figure

__all__ = ["DPI", "LINE", "Sheet", "plain", "shorten"]

DPI = 100
TALLEST = 65_000  # pixels; matplotlib draws no larger pictures
LINE = 15  # pixels from line to line of small text


class Sheet:
    """A matplotlib figure laid out in pixels from its top left corner.

    Parameters
    ----------
    width, height : int
        Pixels.

    Attributes
    ----------
    figure : matplotlib Figure

    Raises
    ------
    ValueError
        It would be higher than matplotlib can draw.
    """

    def __init__(self, width, height):
        if height > TALLEST:
            raise ValueError(
                f"the sheet would be {height} pixels high, {TALLEST} at most can be drawn; show fewer pictures"
            )
        self._width, self._height = width, height
        self.figure = new_figure(width / DPI, height / DPI)

    def write(self, x, y, text, size, align="left", **style):
        """A line of text, its upper edge at y."""
        self.figure.text(x / self._width, 1 - y / self._height, plain(text), size=size, ha=align, va="top", **style)

    def write_all(self, x, y, paragraphs, size, gap):
        """Paragraphs, lists of lines, with a gap between them."""
        for lines in paragraphs:
            for line in lines:
                self.write(x, y, line, size)
                y += LINE
            y += gap

    def add(self, name, left, top, size):
        """Empty axes with a thin frame; size: (width, height)."""
        width, height = size
        bottom = self._height - top - height
        bounds = left / self._width, bottom / self._height, width / self._width, height / self._height
        axes = self.figure.add_axes(bounds, label=name, xticks=[], yticks=[])
        for spine in axes.spines.values():
            spine.set(color="0.6", linewidth=0.5)
        return axes

    def show(self, name, left, top, size, picture, **options):
        """Axes that a picture fills, array (H, W, 3)."""
        axes = self.add(name, left, top, size)
        axes.imshow(picture, aspect="auto", **options)
        return axes

    def bar(self, shown, left, top, size, ticks, texts):
        """The colour bar of an image, with texts at the ticks."""
        axes = self.add("bar", left, top, size)
        bar = self.figure.colorbar(shown, cax=axes, orientation="horizontal", ticks=ticks)
        bar.ax.set_xticklabels(texts, fontsize=9)
        bar.outline.set(linewidth=0.5)

    def legend(self, handles, left, top, columns, **style):
        """The legend, its upper left corner there."""
        self.figure.legend(
            handles=handles,
            loc="upper left",
            bbox_to_anchor=(left / self._width, 1 - top / self._height),
            borderaxespad=0,
            borderpad=0,
            ncols=columns,
            frameon=False,
            **style,
        )


def plain(text):
    """Text for matplotlib that is drawn as it stands: a dollar begins no formula, and nothing in it is a command."""
    return "".join(letter if letter.isprintable() or letter == "\xa0" else "?" for letter in text).replace("$", r"\$")


def shorten(text, room):
    """Text with its middle cut out if it has more letters than there is room for."""
    room = max(int(room), 5)
    return text if len(text) <= room else f"{text[: room // 2 - 1]}\u2026{text[-(room - room // 2) :]}"
