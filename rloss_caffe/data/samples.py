"""One training sample: read, scaled, mirrored, padded and cropped as DeepLab's data layer does it.

Everything random is drawn from a generator of the sample's own, made from the seed and the sample's position in the
run. So the numbers do not depend on which process makes a sample, or when.
"""

from dataclasses import dataclass
from typing import Tuple

import numpy as np

from rloss_caffe.data.files import printable
from rloss_caffe.data.reading import import_cv2, read_image, read_label
from rloss_caffe.data.room import check_room

__all__ = ["MEAN_BGR", "Order", "Sample", "SampleMaker"]

# Blue, green and red of ImageNet's average pixel, as the networks of the experiments were trained with.
MEAN_BGR = (104.008, 116.669, 122.675)


class Order:
    """Which list entry is at which position of an endless run over a list of `length` entries.

    Without `shuffle` the list in its order, over and over; with it, a new permutation for every epoch. The first
    epoch starts `skip` entries late.
    """

    def __init__(self, length, shuffle=False, seed=0, skip=0):
        self._length, self._shuffle, self._seed, self._skip = length, shuffle, seed, skip
        self._epoch, self._permutation = None, None

    def __getitem__(self, position):
        epoch, place = divmod(position + self._skip, self._length)
        if not self._shuffle:
            return place
        if epoch != self._epoch:
            self._permutation = np.random.RandomState([self._seed, epoch]).permutation(self._length)
            self._epoch = epoch
        return int(self._permutation[place])


@dataclass(frozen=True)
class Sample:
    """One image with its labels, float32."""

    data: np.ndarray  # (C, H, W)
    label: np.ndarray  # (H, W)
    size: Tuple[int, int]  # the image's rows and columns before scaling


class SampleMaker:
    """Makes samples out of list entries.

    Parameters
    ----------
    seed : int
    crop : (int, int) or None
        Rows and columns of every sample; smaller images are padded at the bottom and right. None: the image's size.
    random_crop : bool
        A random place for the crop (training) or the middle (testing).
    mirror : bool
        Mirror every other sample, at random.
    scale_factors : sequence of float
        Each sample is scaled by one of these, drawn at random; none: not scaled.
    mean_value : sequence of float
        Subtracted from the channels, then multiplied by `scale`; none, one, or as many as there are channels.
    is_color : bool
        BGR images or grey ones.
    new_size : (int, int) or None
        Rows and columns to which everything is resized before all else.
    ignore_label : int
        The label of padding, and of everything where entries have no label.
    num_labels : int, optional
        Refuse label maps with values that are neither below this nor `ignore_label`.
    """

    def __init__(
        self,
        seed=0,
        crop=None,
        random_crop=False,
        mirror=False,
        scale_factors=(),
        mean_value=(),
        scale=1.0,
        is_color=True,
        new_size=None,
        ignore_label=255,
        num_labels=None,
    ):
        self._seed, self._crop, self._random_crop, self._mirror = seed, crop, random_crop, mirror
        self._scale_factors = np.array(scale_factors, np.float32)
        self._mean = np.array(mean_value or [0], np.float32)
        self._scale, self._is_color = np.float32(scale), is_color
        self._new_size, self._ignore_label, self._num_labels = new_size, ignore_label, num_labels

    @property
    def channels(self):
        return 3 if self._is_color else 1

    def make(self, entry, position, out=None):
        """Make one sample.

        Parameters
        ----------
        entry : Entry
        position : int
            The sample's number in the run; with the seed it decides everything random.
        out : (array (channels, H, W), array (H, W)), float32, optional
            Where data and label go; required shape: the crop's.

        Returns
        -------
        Sample

        Raises
        ------
        ValueError
            A file cannot be read, image and label differ in size, or a label is out of range: the message names the
            files and the list's line.
        """
        image, label = self._load(entry)
        size = image.shape[:2]
        random = np.random.RandomState([self._seed, position & 0xFFFFFFFF, position >> 32])
        mirrored = self._mirror and bool(random.randint(2))
        if len(self._scale_factors):
            image, label = self._rescale(
                image, label, self._scale_factors[random.randint(len(self._scale_factors))], entry
            )
        crop = self._crop or image.shape[:2]
        corner = [self._offset(max(length, part) - part, random) for length, part in zip(image.shape, crop)]
        window = tuple(slice(start, start + part) for start, part in zip(corner, crop))
        if out is None:
            out = np.empty((self.channels, *crop), np.float32), np.empty(crop, np.float32)
        self._write(image[window], label[window], *(array[..., ::-1] if mirrored else array for array in out))
        return Sample(*out, size)

    def _load(self, entry):
        try:
            image = read_image(entry.image, self._is_color)
            if isinstance(entry.label, str):
                label = read_label(entry.label)
            else:
                label = np.full(image.shape[:2], self._ignore_label if entry.label is None else entry.label, np.uint8)
        except ValueError as error:
            raise ValueError(f"line {entry.line} of the list: {error}") from None
        if label.shape != image.shape[:2]:
            raise ValueError(
                f"line {entry.line} of the list: image and label must have the same size, found {image.shape[1]} x "
                f"{image.shape[0]} in {printable(entry.image)} and {label.shape[1]} x {label.shape[0]} in "
                f"{printable(entry.label)}"
            )
        self._check_range(label, entry)
        return self._resize(image, label, self._new_size) if self._new_size else (image, label)

    def _check_range(self, label, entry):
        """SoftmaxWithLoss would read memory that is not its own."""
        if self._num_labels is None:
            return
        wrong = label[(label >= self._num_labels) & (label != self._ignore_label)]
        if len(wrong):
            place = f" in {printable(entry.label)}" if isinstance(entry.label, str) else ""
            raise ValueError(
                f"line {entry.line} of the list: labels must be from 0 to {self._num_labels - 1} or "
                f"{self._ignore_label}, found {wrong[0]}{place}"
            )

    def _rescale(self, image, label, factor, entry):
        if factor == 1:
            return image, label
        size = [max(1, int(np.float32(length) * factor)) for length in label.shape]
        try:
            check_room(size[0] * size[1] * (self.channels + 1), f"an image of {size[1]} x {size[0]} pixels")
        except ValueError as error:
            raise ValueError(
                f"line {entry.line} of the list: scaled by {factor:g}, {printable(entry.image)} becomes {error}"
            ) from None
        return self._resize(image, label, size)

    def _resize(self, image, label, size):
        cv2 = import_cv2()
        size = size[1], size[0]
        image = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
        label = cv2.resize(label, size, interpolation=cv2.INTER_NEAREST)  # classes must not blend
        return image.reshape(*label.shape, self.channels), label

    def _offset(self, room, random):
        return int(random.randint(room + 1)) if self._random_crop else room // 2

    def _write(self, image, label, data, label_out):
        """Top left the image, the rest padding: 0, as of a pixel with the mean colour, and the ignored label."""
        height, width = label.shape
        for channel in range(self.channels):
            mean = self._mean[channel if len(self._mean) > 1 else 0]
            part = data[channel, :height, :width]
            np.subtract(image[:, :, channel], mean, out=part, dtype=np.float32)
            if self._scale != 1:
                part *= self._scale
        label_out[:height, :width] = label
        for array, padding in ((data, 0), (label_out, self._ignore_label)):
            array[..., height:, :] = padding
            array[..., :height, width:] = padding
