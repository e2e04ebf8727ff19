"""matplotlib for the tools, an optional extra, without a screen."""

__all__ = ["import_pyplot"]


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
            f"pip install 'rloss_caffe[pictures]' brings it{hint}"
        ) from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot
