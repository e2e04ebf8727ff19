"""A progress bar where tqdm is installed, and work dealt out to threads behind it."""

from concurrent.futures import ThreadPoolExecutor

from rloss_caffe.numerics.threads import get_num_threads

__all__ = ["in_threads", "progress_bar"]


class _NoBar:
    """Stands for the bar where tqdm is missing."""

    def update(self, n=1):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *details):
        pass


def progress_bar(total, title, unit="file", **options):
    """A tqdm bar on standard error, only where that is a terminal; without tqdm an object that shows nothing."""
    try:
        from tqdm import tqdm
    except ImportError:
        return _NoBar()
    return tqdm(total=total, desc=title, unit=unit, disable=None, **options)


def in_threads(function, items, title):
    """Yield ``function(item)`` for every item of a list, in order, behind a bar.

    For work that releases the interpreter's lock: reading, decoding and writing images does.
    """
    with ThreadPoolExecutor(get_num_threads()) as pool, progress_bar(len(items), title) as bar:
        for result in pool.map(function, items):
            bar.update()
            yield result
