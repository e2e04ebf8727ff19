"""matplotlib, an optional extra, without a screen."""

from pathlib import Path

from rloss_caffe.data.files import replacing
from rloss_caffe.installation import add_extra

__all__ = ["import_pyplot", "save"]


def import_pyplot(hint=""):
    """pyplot with the Agg backend.

    Raises
    ------
    ImportError
        There is no matplotlib; says how to get it, and `hint`.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise ImportError(
            f"pictures are drawn with matplotlib, and importing it failed: {error}; "
            f"this brings it: {add_extra('pictures')}{hint}"
        ) from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def save(figure, path, **options):
    """Write a picture, whole or not at all, and forget the figure; the path's suffix says which kind.

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
    try:
        with replacing(path) as temporary:
            figure.savefig(temporary, format=kind, dpi=100, **options)
    finally:
        import_pyplot().close(figure)
