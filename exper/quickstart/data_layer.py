"""The quickstart's data layer: all photographs in every batch, a random crop of each, mirrored at random."""

import numpy as np

from rloss_caffe.datasets import examples
from rloss_caffe.layers.base import Layer
from rloss_caffe.layers.param_str import Parameter


class Photos(Layer):
    """Tops: data (N, 3, crop, crop), BGR minus the mean, padded with 0; label (N, 1, crop, crop), padded with 255."""

    PARAMETERS = [
        Parameter("labels", "string", choices=["scribbles", "masks"], required=True, doc="what is learned from"),
        Parameter("crop", "int", 160, minimum=8, doc="height and width of the crops in pixels"),
        Parameter("seed", "int", 1, minimum=0, doc="of the crops and mirrors"),
    ]
    TOPS = ("data", "label")

    def setup(self, bottom, top):
        super().setup(bottom, top)
        self._random = np.random.RandomState(self.parameters.seed)
        self._photos = [examples.as_blob(examples.load_photo(name)) for name in examples.PHOTOS]
        self._labels = [examples.load_label(name, self.parameters.labels) for name in examples.PHOTOS]

    def reshape(self, bottom, top):
        crop = self.parameters.crop
        top[0].reshape(len(self._photos), 3, crop, crop)
        top[1].reshape(len(self._photos), 1, crop, crop)

    def forward(self, bottom, top):
        crop = self.parameters.crop
        top[0].data[...] = 0
        top[1].data[...] = examples.IGNORE
        for index, (photo, label) in enumerate(zip(self._photos, self._labels)):
            y, x = (self._random.randint(max(size - crop, 0) + 1) for size in label.shape)
            step = 1 - 2 * self._random.randint(2)
            photo, label = (a[..., y : y + crop, x : x + crop][..., ::step] for a in (photo, label))
            height, width = label.shape
            top[0].data[index, :, :height, :width] = photo
            top[1].data[index, 0, :height, :width] = label

    def backward(self, top, propagate_down, bottom):
        pass
