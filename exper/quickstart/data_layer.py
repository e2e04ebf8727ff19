"""The quickstart's data layer: all photographs in every batch, a random crop of each, mirrored at random."""

from crops import Crops

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
        self._crops = Crops(self.parameters.labels, self.parameters.crop, self.parameters.seed)

    def reshape(self, bottom, top):
        crop = self.parameters.crop
        top[0].reshape(len(self._crops), 3, crop, crop)
        top[1].reshape(len(self._crops), 1, crop, crop)

    def forward(self, bottom, top):
        top[0].data[...], top[1].data[:, 0] = self._crops.cut(self._crops.draw())

    def backward(self, top, propagate_down, bottom):
        pass
