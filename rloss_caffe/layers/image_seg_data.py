"""ImageSegData: batches of images with their label maps, as a Caffe data layer."""

import contextlib
import os

import caffe

from rloss_caffe.data.feed import Feed
from rloss_caffe.data.lists import LABEL_TYPES
from rloss_caffe.data.orphans import when_orphaned
from rloss_caffe.layers._random_seed import draw_seed
from rloss_caffe.layers.base import TEST, TRAIN, Layer
from rloss_caffe.layers.param_str import Parameter

__all__ = ["ImageSegData"]


class ImageSegData(Layer):
    """Images and label maps from a list file, scaled, mirrored, padded and cropped.

    No bottom. Tops, of which one, two or three may be listed: data (N, C, H, W), BGR minus the mean; label
    (N, 1, H, W), whole numbers as they are in the file; data_dim (N, 1, 1, 2), rows and columns of the image inside
    the crop, before random scaling. H and W are the crop's; without a crop the image's, batch by batch.

    Images come from OpenCV. Label maps are grey PNGs of class numbers, or have VOC's palette or a grey one; others are
    refused (`rloss_caffe.data.reading.read_label`). An EXIF orientation turns nothing. Without a random place (phase
    TEST) the crop is the middle of the image; padding is at the bottom and right, 0 in data and ignore_label in label.
    A batch may span two epochs, none is short. A batch that memory cannot hold is refused in setup.

    With ``prefetch`` worker processes make batches ahead while Caffe computes. Where images have no common size
    (neither crop nor new_height and new_width), there are none.

    The order is not in snapshots. Where the environment variable RLOSS_BATCHES_DONE is set, layers of a net in phase
    TRAIN begin that many batches later: with iterations times iter_size of the snapshot, and with the solver's
    random_seed (or `seed`), a resumed run goes on with the very batches that an undisturbed one would have had.
    Without it a resumed run starts its list anew.

    Parameters (param_str)
    ----------------------
    {parameters}

    Those of the fork's image_data_param and transform_param in one list, and five of ours: num_labels, seed, prefetch,
    workers, phase.

    Example
    -------
    ::

        layer {
          name: "data"  type: "Python"  top: "data"  top: "label"
          include { phase: TRAIN }
          python_param {
            module: "rloss_caffe.layers"  layer: "ImageSegData"
            param_str: "{source: list/train.txt, root_folder: /data/VOC2012/, label_type: PIXEL, batch_size: 10,
                         shuffle: true, mirror: true, crop_size: 321, mean_value: [104.008, 116.669, 122.675]}"
          }
        }
    """

    PARAMETERS = [
        Parameter(
            "source",
            "string",
            required=True,
            doc="The list file: an image and its label a line, as in 'JPEGImages/1.jpg scribbles/1.png'.",
        ),
        Parameter("root_folder", "string", "", doc="Put before every path of the list."),
        Parameter("batch_size", "int", 1, minimum=1, doc="N."),
        Parameter("shuffle", "bool", False, doc="true: a new order every epoch; false: the list's order."),
        Parameter("rand_skip", "int", 0, minimum=0, doc="Start up to this many entries late, at random."),
        Parameter(
            "new_height",
            "int",
            0,
            minimum=0,
            doc="Resize everything first, together with new_width: images bilinear, labels nearest. 0: do not.",
        ),
        Parameter("new_width", "int", 0, minimum=0, doc="Together with new_height."),
        Parameter("is_color", "bool", True, doc="true: BGR; false: one grey channel."),
        Parameter("ignore_label", "int", 255, minimum=0, maximum=255, doc="Label of padding."),
        Parameter(
            "label_type",
            "string",
            "IMAGE",
            choices=LABEL_TYPES,
            doc="PIXEL: label maps, PNGs of class numbers, grey or with VOC's palette; IMAGE: a number for each image; "
            "NONE: no labels, all are ignore_label.",
        ),
        Parameter("mirror", "bool", False, doc="Mirror half of the samples, at random."),
        Parameter(
            "crop_size",
            "int",
            0,
            minimum=0,
            doc="Height and width of the samples, or give crop_height and crop_width. Smaller images are padded at the "
            "bottom and right. In training the place is random, in testing the middle. 0: no crop; each batch has its "
            "images' size.",
        ),
        Parameter("crop_height", "int", 0, minimum=0, doc="Together with crop_width."),
        Parameter("crop_width", "int", 0, minimum=0, doc="Together with crop_height."),
        Parameter(
            "mean_value", "float", [], repeated=True, doc="Subtracted: one for all channels, or one each: B, G, R."
        ),
        Parameter("scale", "float", 1.0, doc="Multiplies the values after the mean is subtracted."),
        Parameter(
            "scale_factors",
            "float",
            [],
            repeated=True,
            above=0,
            doc="Each sample is scaled by one of these, at random.",
        ),
        Parameter(
            "num_labels",
            "int",
            None,
            minimum=1,
            maximum=256,
            doc="21, say: refuse labels that are neither 0 to 20 nor ignore_label, with which SoftmaxWithLoss reads "
            "beyond its memory without a word. Not given: all are let through.",
        ),
        Parameter(
            "seed",
            "int",
            None,
            minimum=0,
            maximum=2**32 - 1,
            doc="Makes order and crops repeatable. Not given: drawn from Caffe's generator, which the solver's "
            "random_seed sets.",
        ),
        Parameter(
            "prefetch",
            "int",
            4,
            minimum=0,
            maximum=1000,
            doc="Batches made ahead by worker processes. 0: none, everything in this process.",
        ),
        Parameter("workers", "int", 2, minimum=1, maximum=1000, doc="Worker processes."),
        Parameter("phase", "string", None, choices=("TRAIN", "TEST"), doc="Not given: the net's."),
    ]
    TOPS = ("data", "label?", "data_dim?")

    def setup(self, bottom, top):
        super().setup(bottom, top)
        phase = self.parameters.phase
        is_training = (self.get_phase() if phase is None else {"TRAIN": TRAIN, "TEST": TEST}[phase]) == TRAIN
        seed = draw_seed() if self.parameters.seed is None else self.parameters.seed
        solvers = caffe.solver_count() if is_training and hasattr(caffe, "solver_count") else 1
        rank = caffe.solver_rank() if solvers > 1 else 0
        with self._errors():
            self._feed = Feed(self.parameters, len(top) > 1, is_training, seed, self._batches_done(), solvers, rank)
        if self._feed.pids:
            when_orphaned(self, self._feed.close)
        self._reshape(top, self._feed.shape)

    @property
    def entries(self):
        """The entries of the list."""
        return self._feed.entries

    @contextlib.contextmanager
    def _errors(self):
        try:
            yield
        except (ValueError, OSError, RuntimeError) as error:
            raise self.error(error) from error

    def _batches_done(self):
        text = os.environ.get("RLOSS_BATCHES_DONE", "") if self.get_phase() == TRAIN else ""
        if text and not (text.isascii() and text.isdigit() and len(text) < 16):
            raise ValueError(f"RLOSS_BATCHES_DONE must be a whole number of batches, found {text!r}")
        return int(text or 0)

    def reshape(self, bottom, top):
        if self._feed.is_variable:
            with self._errors():
                shape = self._feed.peek().data.shape
            self._reshape(top, shape)

    def _reshape(self, top, shape):
        for index, part in enumerate([shape, (shape[0], 1, *shape[2:]), (shape[0], 1, 1, 2)][: len(top)]):
            top[index].reshape(*part)

    def forward(self, bottom, top):
        with self._errors():
            batch = self._feed.take()
        top[0].data[...] = batch.data
        if len(top) > 1:
            top[1].data[...] = batch.label
        if len(top) > 2:
            top[2].data[:, 0, 0] = batch.size.clip(max=batch.data.shape[2:])

    def backward(self, top, propagate_down, bottom):
        pass
