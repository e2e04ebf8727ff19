"""The photographs and label maps that pages work on: kept in memory, numbered versions, patches of strokes."""

import collections
import threading

import numpy as np

from rloss_caffe.datasets.voc import IGNORE

__all__ = ["OpenPhoto", "Patch", "Photos", "Stale"]

_KEPT = 3  # photographs: one of 24 megapixels takes 96 MB with its labels


class Stale(Exception):
    """The labels have been changed since the page read them, by another one."""


class Patch:
    """New labels of a rectangle, as runs of equal ones.

    Parameters
    ----------
    box : sequence of int
        x, y, width, height.
    runs : sequence of int
        Label, count, label, count, ... row by row.
    size : (int, int)
        Rows and columns of the label map.
    num_classes : int

    Raises
    ------
    ValueError
        It does not fit.
    """

    def __init__(self, box, runs, size, num_classes):
        box, runs = _whole_numbers("box", box), _whole_numbers("runs", runs)
        if len(box) != 4:
            raise ValueError(f"box must be x, y, width and height, found {len(box)} numbers")
        x, y, width, height = map(int, box)
        if min(x, y) < 0 or min(width, height) < 1 or x + width > size[1] or y + height > size[0]:
            raise ValueError(
                f"box must lie within the photograph, {size[1]} x {size[0]}, found {width} x {height} at {x}, {y}"
            )
        if len(runs) % 2:
            raise ValueError("runs must be pairs of a label and a count")
        values, counts = runs[0::2], runs[1::2]
        wrong = (values != IGNORE) & ~((values >= 0) & (values < num_classes))
        if wrong.any():
            raise ValueError(f"labels must be from 0 to {num_classes - 1}, or {IGNORE}, found {values[wrong][0]}")
        if (counts < 1).any() or (counts > width * height).any() or counts.sum() != width * height:
            raise ValueError(f"runs must fill the box, {width * height} pixels, and no more")
        self._place = (slice(y, y + height), slice(x, x + width))
        self._labels = np.repeat(values.astype(np.uint8), counts).reshape(height, width)

    def apply(self, labels):
        """The label map with the patch: a new array."""
        labels = labels.copy()
        labels[self._place] = self._labels
        return labels


def _whole_numbers(name, values):
    if not isinstance(values, list) or not all(type(value) is int and abs(value) < 2**31 for value in values):
        raise ValueError(f"{name} must be a list of whole numbers")
    return np.array(values, np.int64)


class _State:
    """What is remembered of a photograph's label map while the server runs, also when it is not in memory."""

    def __init__(self):
        self.lock = threading.RLock()
        self.version, self.found = 0, None  # the file that this version is of, as `Folder.version` tells it
        self.writer, self.sequence = None, 0


class OpenPhoto:
    """A photograph of the folder, with its label map.

    Attributes
    ----------
    name : str
    pixels : array (H, W, 3), uint8
        RGB, as stored.
    """

    def __init__(self, folder, name, state):
        self._folder, self.name, self._state = folder, name, state
        self.pixels = folder.photo(name)
        self._labels, self._version = None, None

    def labels(self):
        """The label map (H, W), uint8, and its version. It is read again if another program has changed the file."""
        state = self._state
        with state.lock:
            found = self._folder.version(self.name)
            if state.version == 0 or found != state.found:
                self._labels = None
                labels = self._folder.load_labels(self.name)  # may write them, from another form
                state.version += 1
                state.found, state.writer = self._folder.version(self.name), None
                self._keep(labels)
            elif self._version != state.version:
                self._keep(self._folder.load_labels(self.name))
            return self._labels, self._version

    def _keep(self, labels):
        labels.flags.writeable = False
        self._labels, self._version = labels, self._state.version

    def save(self, patch, version, page, sequence):
        """Write the labels with a patch, and return their version.

        A patch for another version is taken all the same if the page itself was the last one to write, as it then
        knows what it wrote, though the answer may not have reached it. A patch that comes after a later one of the
        same page changes nothing.

        Raises
        ------
        Stale
            The labels have another version.
        ValueError, OSError
            They cannot be written.
        """
        state = self._state
        with state.lock:
            labels, current = self.labels()
            is_own = page == state.writer
            if is_own and sequence <= state.sequence:
                return current
            if version != current and not is_own:
                raise Stale
            labels = patch.apply(labels)
            self._folder.save_labels(self.name, labels)
            state.version += 1
            state.found, state.writer, state.sequence = self._folder.version(self.name), page, sequence
            self._keep(labels)
            return state.version


class Photos:
    """The photographs that pages have open; those used last are kept."""

    def __init__(self, folder):
        self._folder = folder
        self._lock = threading.Lock()
        self._states, self._open = {}, collections.OrderedDict()

    def get(self, number):
        """An `OpenPhoto` by its place in the folder's names.

        Raises
        ------
        ValueError
            It cannot be read; the text names the file.
        """
        with self._lock:
            state = self._states.setdefault(number, _State())
        with state.lock:
            found = self._open.get(number)
            if found is None:
                found = OpenPhoto(self._folder, self._folder.names[number], state)
            with self._lock:
                self._open[number] = found
                self._open.move_to_end(number)
                while len(self._open) > _KEPT:
                    self._open.popitem(last=False)
            return found
