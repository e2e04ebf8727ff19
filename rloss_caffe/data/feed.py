"""What feeds a net: endless batches of a list's images and labels, as ImageSegData's parameters ask for them."""

from rloss_caffe.data.batches import DirectReader, Prefetcher, has_workers, slot_bytes
from rloss_caffe.data.lists import read_list
from rloss_caffe.data.room import LARGEST_BLOB, check_room
from rloss_caffe.data.samples import Order, SampleMaker

__all__ = ["Feed"]

_TASK = 500  # bytes, about, that are kept for each sample that is being made


class Feed:
    """Batches of images and labels, one after another.

    Parameters
    ----------
    parameters : object
        One attribute for each parameter of `rloss_caffe.layers.ImageSegData`, and `given`, the names that were set.
    has_labels : bool
        False: only images are read.
    is_training : bool
        Random places for the crops, and the list shared with the other solvers.
    seed : int
        Decides everything random.
    batches_done : int
        How many batches are left out: those before a training was interrupted.
    solvers, rank : int
        How many solvers train one net together, and which of them this is. They share the list.

    Attributes
    ----------
    entries : list of Entry
    shape : (N, C, H, W)
        Of the first batch's data, and of all where `is_variable` is False.
    is_variable : bool
        Whether batches have the sizes of their images.

    Raises
    ------
    ValueError
        The parameters contradict each other, the list or its first image cannot be read, or a batch would take more
        memory than there is, or more than Caffe can count.
    OSError
        There is no room for batches that are made ahead.
    """

    def __init__(self, parameters, has_labels, is_training, seed, batches_done=0, solvers=1, rank=0):
        crop, new_size = _crop(parameters), _new_size(parameters)
        if crop is None and new_size and not parameters.scale_factors:
            crop = new_size
        options = {
            "seed": seed,
            "crop": crop,
            "random_crop": is_training,
            "mirror": parameters.mirror,
            "scale_factors": parameters.scale_factors,
            "mean_value": parameters.mean_value,
            "scale": parameters.scale,
            "is_color": parameters.is_color,
            "new_size": new_size,
            "ignore_label": parameters.ignore_label,
            "num_labels": parameters.num_labels,
        }
        maker = SampleMaker(**options)
        if len(parameters.mean_value) not in (0, 1, maker.channels):
            raise ValueError(
                f"specify either 1 mean_value or as many as channels: {maker.channels}, "
                f"found {len(parameters.mean_value)}"
            )
        self.is_variable = crop is None
        ahead = 0 if self.is_variable or not has_workers() else parameters.prefetch
        if new_size:
            _check_claim("new_height x new_width", (1, maker.channels, *new_size), 0)
        if crop:
            _check_claim("batch_size x crop", (parameters.batch_size, maker.channels, *crop), ahead)
        self.entries = read_list(
            parameters.source, parameters.root_folder, parameters.label_type if has_labels else "NONE"
        )
        order = _order(parameters, len(self.entries), seed)

        def first_position(batch):
            return ((batches_done + batch) * solvers + rank) * parameters.batch_size

        def positions(batch):
            first = first_position(batch)
            return [(position, order[position]) for position in range(first, first + parameters.batch_size)]

        first = maker.make(self.entries[order[first_position(0)]], 0).data.shape
        self.shape = (parameters.batch_size, *first)
        if self.is_variable:
            _check_claim("batch_size x the first image", self.shape, 0)
        self._next = None
        if ahead:
            self._reader = Prefetcher(
                options, self.entries, positions, parameters.batch_size, maker.channels, ahead, parameters.workers
            )
        else:
            self._reader = DirectReader(maker, self.entries, positions)

    @property
    def pids(self):
        """The process ids of the workers, if there are any."""
        return self._reader.pids

    def peek(self):
        """The next `Batch`, which `take` gives again; errors as of `take`."""
        if self._next is None:
            batch = self._reader.take()
            _check_blob("a batch", batch.data.shape)
            self._next = batch
        return self._next

    def take(self):
        """The next `Batch`; its arrays are valid until the next call.

        Raises
        ------
        ValueError
            A sample cannot be made, or the samples of a batch differ in size.
        RuntimeError
            A worker process has ended.
        """
        batch = self.peek()
        self._next = None
        return batch

    def close(self):
        """End the workers."""
        self._reader.close()


def _crop(parameters):
    """(height, width), or None. Which parameters are given decides, not their values; 0 is no crop."""
    given = [name for name in ("crop_height", "crop_width") if name in parameters.given]
    if len(given) == 1 or (given and "crop_size" in parameters.given):
        raise ValueError("must either specify crop_size or both crop_height and crop_width")
    crop = (parameters.crop_height, parameters.crop_width) if given else (parameters.crop_size,) * 2
    if (crop[0] == 0) != (crop[1] == 0):
        raise ValueError(f"crop_height and crop_width must both be 0 or both be > 0, found {crop[0]} and {crop[1]}")
    return crop if crop[0] else None


def _new_size(parameters):
    size = parameters.new_height, parameters.new_width
    if (size[0] == 0) != (size[1] == 0):
        raise ValueError(f"new_height and new_width must be set together, found {size[0]} and {size[1]}")
    return size if size[0] else None


def _order(parameters, count, seed):
    skip = 0
    if parameters.rand_skip:
        skip = seed % parameters.rand_skip
        if skip >= count:
            raise ValueError(f"not enough points to skip: rand_skip drew {skip}, the list has {count} entries")
    return Order(count, parameters.shuffle, seed, skip)


def _check_blob(name, shape):
    """What this is, in words; ValueError where Caffe would end the process."""
    n, channels, height, width = shape
    values = n * channels * height * width
    words = f"{name} is {n} x {channels} x {height} x {width} (N, C, H, W)"
    if values > LARGEST_BLOB:
        raise ValueError(f"{words}, which is {values} values; a blob of Caffe's holds at most {LARGEST_BLOB}")
    return words


def _check_claim(name, shape, ahead):
    """Compare what the net's blobs and the batches that are made ahead will take with what is there."""
    n, channels, height, width = shape
    words = _check_blob(name, shape) + (f", with prefetch: {ahead}" if ahead else "")
    slots = max(ahead, 1)
    tasks = _TASK * n * slots
    check_room(4 * n * (channels + 1) * height * width + slot_bytes((slots, *shape)) + tasks, words)
