"""ImageSegData: batches of images with their label maps, as a Caffe data layer."""

import os

import caffe

from rloss_caffe.data.batches import DirectReader, Prefetcher
from rloss_caffe.data.lists import LABEL_TYPES, read_list
from rloss_caffe.data.orphans import when_orphaned
from rloss_caffe.data.samples import Order, SampleMaker
from rloss_caffe.layers._random_seed import draw_seed
from rloss_caffe.layers.base import TEST, TRAIN, Layer
from rloss_caffe.layers.param_str import Parameter

__all__ = ["ImageSegData"]


class ImageSegData(Layer):
    """Images and label maps from a list file, scaled, mirrored, padded and cropped.

    No bottom. Tops, of which one, two or three may be listed: data (N, C, H, W), BGR minus the mean; label
    (N, 1, H, W), whole numbers as they are in the file; data_dim (N, 1, 1, 2), rows and columns of the image inside
    the crop, before random scaling. H and W are the crop's; without a crop the image's, batch by batch.

    Images come from OpenCV; label maps are PNGs of one channel: of palette images the indices count. Without a random
    place (phase TEST) the crop is the middle of the image; padding is at the bottom and right, 0 in data and
    ignore_label in label. A batch may span two epochs, none is short.

    With ``prefetch`` worker processes make batches ahead while Caffe computes. Where images have no common size
    (neither crop nor new_height and new_width), there are none.

    The order is not in snapshots. Where the environment variable RLOSS_BATCHES_DONE is set, layers of a net in phase
    TRAIN begin that many batches later: with iterations times iter_size of the snapshot, and with the solver's
    random_seed (or `seed`), a resumed run goes on with the very batches that an undisturbed one would have had.
    Without it a resumed run starts its list anew.

    Parameters (param_str)
    ----------------------
    See `PARAMETERS`; those of the fork's image_data_param and transform_param in one list, and five of ours:
    num_labels, seed, prefetch, workers, phase.

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
        Parameter("source", "string", required=True, doc="list file, one image and its label a line"),
        Parameter("root_folder", "string", "", doc="put before every path of the list"),
        Parameter("batch_size", "int", 1, minimum=1),
        Parameter("shuffle", "bool", False, doc="a new order every epoch"),
        Parameter("rand_skip", "int", 0, minimum=0, doc="start up to this many entries late, at random"),
        Parameter("new_height", "int", 0, minimum=0, doc="resize everything first, together with new_width"),
        Parameter("new_width", "int", 0, minimum=0, doc="resize everything first, together with new_height"),
        Parameter("is_color", "bool", True, doc="BGR; false: one grey channel"),
        Parameter("ignore_label", "int", 255, minimum=0, maximum=255, doc="label of padding"),
        Parameter(
            "label_type",
            "string",
            "IMAGE",
            choices=LABEL_TYPES,
            doc="PIXEL: label maps; IMAGE: a number for each image; NONE: no labels, all ignore_label",
        ),
        Parameter("mirror", "bool", False, doc="mirror half of the samples, at random"),
        Parameter(
            "crop_size", "int", 0, minimum=0, doc="height and width of the crop; or give crop_height, crop_width"
        ),
        Parameter("crop_height", "int", 0, minimum=0, doc="together with crop_width"),
        Parameter("crop_width", "int", 0, minimum=0, doc="together with crop_height"),
        Parameter("mean_value", "float", [], repeated=True, doc="one for all channels, or one each: B, G, R"),
        Parameter("scale", "float", 1.0, doc="multiplies the values after the mean is subtracted"),
        Parameter("scale_factors", "float", [], repeated=True, above=0, doc="scale each sample by one of these"),
        Parameter(
            "num_labels", "int", None, minimum=1, maximum=256, doc="refuse labels >= this; default: none is refused"
        ),
        Parameter("seed", "int", None, minimum=0, maximum=2**32 - 1, doc="default: drawn from Caffe's generator"),
        Parameter("prefetch", "int", 4, minimum=0, doc="batches made ahead; 0: none, and no worker processes"),
        Parameter("workers", "int", 2, minimum=1, doc="processes that make them"),
        Parameter("phase", "string", None, choices=("TRAIN", "TEST"), doc="default: the net's"),
    ]
    TOPS = ("data", "label?", "data_dim?")

    def setup(self, bottom, top):
        super().setup(bottom, top)
        parameters = self.parameters
        is_training = self._is_training()
        seed = draw_seed() if parameters.seed is None else parameters.seed
        options = {
            "seed": seed,
            "crop": self._crop(),
            "random_crop": is_training,
            "mirror": parameters.mirror,
            "scale_factors": parameters.scale_factors,
            "mean_value": parameters.mean_value,
            "scale": parameters.scale,
            "is_color": parameters.is_color,
            "new_size": self._new_size(),
            "ignore_label": parameters.ignore_label,
            "num_labels": parameters.num_labels,
        }
        maker = SampleMaker(**options)
        if len(parameters.mean_value) not in (0, 1, maker.channels):
            raise self.error(
                f"specify either 1 mean_value or as many as channels: {maker.channels}, "
                f"found {len(parameters.mean_value)}"
            )
        try:
            label_type = parameters.label_type if len(top) > 1 else "NONE"
            self.entries = read_list(parameters.source, parameters.root_folder, label_type)
            positions = self._positions(seed, is_training)
            data, _, _ = maker.make(self.entries[positions(0)[0][1]], 0)
            if options["crop"] is None and options["new_size"] and not parameters.scale_factors:
                options["crop"] = options["new_size"]
            self._variable = options["crop"] is None
            if parameters.prefetch == 0 or self._variable:
                self._reader = DirectReader(maker, self.entries, positions)
            else:
                sizes = parameters.batch_size, maker.channels, parameters.prefetch, parameters.workers
                self._reader = Prefetcher(options, self.entries, positions, *sizes)
                when_orphaned(self, self._reader.close)
        except (ValueError, OSError) as error:
            raise self.error(error) from error
        self._batch = None
        self._reshape(top, (parameters.batch_size, *data.shape))

    def _is_training(self):
        phase = self.parameters.phase
        return (self.get_phase() if phase is None else {"TRAIN": TRAIN, "TEST": TEST}[phase]) == TRAIN

    def _crop(self):
        """(height, width), or None. Which parameters are given decides, not their values; 0 is no crop."""
        parameters = self.parameters
        given = [name for name in ("crop_height", "crop_width") if name in parameters.given]
        if len(given) == 1 or (given and "crop_size" in parameters.given):
            raise self.error("must either specify crop_size or both crop_height and crop_width")
        crop = (parameters.crop_height, parameters.crop_width) if given else (parameters.crop_size,) * 2
        if (crop[0] == 0) != (crop[1] == 0):
            raise self.error(f"crop_height and crop_width must both be 0 or both be > 0, found {crop[0]} and {crop[1]}")
        return crop if crop[0] else None

    def _new_size(self):
        size = self.parameters.new_height, self.parameters.new_width
        if (size[0] == 0) != (size[1] == 0):
            raise self.error(f"new_height and new_width must be set together, found {size[0]} and {size[1]}")
        return size if size[0] else None

    def _positions(self, seed, is_training):
        """From a batch's number to its samples; several solvers that train one net share the list between them."""
        parameters, count = self.parameters, len(self.entries)
        skip = 0
        if parameters.rand_skip:
            skip = seed % parameters.rand_skip
            if skip >= count:
                raise ValueError(f"not enough points to skip: rand_skip drew {skip}, the list has {count} entries")
        order = Order(count, parameters.shuffle, seed, skip)
        solvers = caffe.solver_count() if is_training and hasattr(caffe, "solver_count") else 1
        rank = caffe.solver_rank() if solvers > 1 else 0
        done = self._batches_done()

        def positions(batch):
            first = ((done + batch) * solvers + rank) * parameters.batch_size
            return [(position, order[position]) for position in range(first, first + parameters.batch_size)]

        return positions

    def _batches_done(self):
        text = os.environ.get("RLOSS_BATCHES_DONE", "") if self.get_phase() == TRAIN else ""
        if text and not (text.isascii() and text.isdigit() and len(text) < 16):
            raise ValueError(f"RLOSS_BATCHES_DONE must be a whole number of batches, found {text!r}")
        return int(text or 0)

    def reshape(self, bottom, top):
        if self._variable:
            self._take()
            self._reshape(top, self._batch[0].shape)

    def _reshape(self, top, shape):
        for index, part in enumerate([shape, (shape[0], 1, *shape[2:]), (shape[0], 1, 1, 2)][: len(top)]):
            top[index].reshape(*part)

    def _take(self):
        if self._batch is None:
            try:
                self._batch = self._reader.take()
            except (ValueError, RuntimeError) as error:
                raise self.error(error) from error

    def forward(self, bottom, top):
        self._take()
        data, label, size = self._batch
        self._batch = None
        top[0].data[...] = data
        if len(top) > 1:
            top[1].data[...] = label
        if len(top) > 2:
            top[2].data[:, 0, 0] = size.clip(max=data.shape[2:])

    def backward(self, top, propagate_down, bottom):
        pass
