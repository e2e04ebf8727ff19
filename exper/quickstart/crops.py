"""Batches of the quickstart: a random crop of each photograph, mirrored at random."""

import numpy as np

from rloss_caffe.datasets import examples


class Crops:
    """Batches without an end, the same for the same seed.

    Parameters
    ----------
    labels : "scribbles" or "masks"
    size : int
        Height and width of the crops in pixels.
    seed : int
    """

    def __init__(self, labels, size, seed):
        self._size = size
        self._random = np.random.RandomState(seed)
        self._photos = [examples.as_blob(examples.load_photo(name)) for name in examples.PHOTOS]
        self._labels = [examples.load_label(name, labels) for name in examples.PHOTOS]

    def __len__(self):
        """How many images a batch has: all photographs."""
        return len(self._photos)

    def draw(self):
        """The next batch's places: of each photograph the first row and column, and 1, or -1 for a mirror."""
        return [
            (
                *(self._random.randint(max(size - self._size, 0) + 1) for size in label.shape),
                1 - 2 * self._random.randint(2),
            )
            for label in self._labels
        ]

    def cut(self, places, first=0, step=1):
        """Images and labels of a batch, or of every so many of its photographs.

        Returns
        -------
        images : ndarray (N, 3, size, size), float32
            BGR minus the mean, padded with 0.
        labels : ndarray (N, size, size), uint8
            Padded with 255.
        """
        chosen = range(first, len(self), step)
        images = np.zeros((len(chosen), 3, self._size, self._size), np.float32)
        labels = np.full((len(chosen), self._size, self._size), examples.IGNORE, np.uint8)
        for index, number in enumerate(chosen):
            y, x, direction = places[number]
            window = np.s_[..., y : y + self._size, x : x + self._size]
            image, label = (a[window][..., ::direction] for a in (self._photos[number], self._labels[number]))
            height, width = label.shape
            images[index, :, :height, :width] = image
            labels[index, :height, :width] = label
        return images, labels
