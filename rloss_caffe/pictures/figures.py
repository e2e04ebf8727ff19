"""Figures of matplotlib, an optional extra: without a screen, and without a register that keeps them alive."""

from pathlib import Path

from rloss_caffe.data.files import replacing
from rloss_caffe.installation import add_extra

__all__ = ["MATPLOTLIB", "check_matplotlib", "new_figure", "save"]

MATPLOTLIB = (3, 7)  # legends outside the axes came with it


def check_matplotlib(hint=""):
    """Say early that pictures cannot be drawn.

    Raises
    ------
    ImportError
        There is no matplotlib, or an older one than `MATPLOTLIB`; says how to get it, and `hint`.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise ImportError(
            f"pictures are drawn with matplotlib, and importing it failed: {error}; "
            f"this brings it: {add_extra('pictures')}{hint}"
        ) from error
    # the versions that are too old to draw are those too old to give their version in numbers, and some newer ones
    if tuple(getattr(matplotlib, "__version_info__", ()))[:2] < MATPLOTLIB:
        found = f"{matplotlib.__version__}, {matplotlib.__file__}"
        raise ImportError(f"pictures need matplotlib {'.'.join(map(str, MATPLOTLIB))}, and found {found}{hint}")


def new_figure(width, height, **options):
    """An empty matplotlib Figure; inches."""
    check_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=100, **options)
    FigureCanvasAgg(figure)
    return figure


def save(figure, path, **options):
    """Write a picture, whole or not at all; the path's suffix says which kind.

    Raises
    ------
    ValueError
        matplotlib does not know that kind; the message says which it knows.
    OSError
        It cannot be written there.
    """
    kind = Path(path).suffix[1:]
    if not kind:
        raise ValueError(f"{path}: a picture's name ends in its kind, such as .png, .svg or .pdf")
    with replacing(path) as temporary:
        figure.savefig(temporary, format=kind, dpi=100, **options)
