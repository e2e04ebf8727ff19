"""A progress bar with the time left, on a terminal only, and work dealt out to threads behind it."""

from concurrent.futures import ThreadPoolExecutor

from rloss_caffe.numerics.threads import get_num_threads

__all__ = ["ProgressBar", "in_threads", "progress_bar", "progressing"]


class ProgressBar:
    """A tqdm bar, where tqdm is installed and there is a terminal to show it on; else nothing is shown.

    Attributes
    ----------
    n : int
        How much is done.
    is_shown : bool
    """

    def __init__(self, total, title, unit, initial=0, **options):
        self.n, self._bar = initial, None
        try:
            from tqdm import tqdm
        except ImportError:
            self.is_shown = False
            return
        options = {"disable": None, "dynamic_ncols": True, **options}
        bar = tqdm(total=total, desc=title, unit=unit, initial=initial, **options)
        self._bar, self.is_shown = bar, not bar.disable

    def update(self, n=1):
        """`n` more are done."""
        self.n += n
        if self.is_shown:
            self._bar.update(n)

    def note(self, values):
        """Show values, by name, at the bar's end from its next update on."""
        if self.is_shown:
            self._bar.set_postfix(values, refresh=False)

    def __enter__(self):
        return self

    def __exit__(self, *details):
        if self.is_shown:
            self._bar.close()


def progress_bar(total, title, unit="file", **options):
    """A `ProgressBar` on standard error, for a ``with`` statement.

    Parameters
    ----------
    total : int or None
        How much there is to do; None: unknown, and then no time left is shown.
    title : str
    unit : str
        What is counted.
    options
        Others of tqdm's, as `initial`, `unit_scale`, `file`, `leave`: whether the bar stays when all is done, and
        `disable`: True hides it, as where another process shows it.
    """
    return ProgressBar(total, title, f" {unit}" if unit != "B" else unit, **{"leave": False, **options})


def progressing(items, title, unit="file", **options):
    """Yield the items of a list behind a bar."""
    with progress_bar(len(items), title, unit, **options) as bar:
        for item in items:
            yield item
            bar.update()


def in_threads(function, items, title):
    """Yield ``function(item)`` for every item of a list, in order, behind a bar.

    For work that releases the interpreter's lock: reading, decoding and writing images does.
    """
    with ThreadPoolExecutor(get_num_threads()) as pool, progress_bar(len(items), title) as bar:
        for result in pool.map(function, items):
            bar.update()
            yield result
