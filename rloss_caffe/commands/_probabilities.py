"""Where the class probabilities of an image come from: a net, an array, or a label map made soft."""

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

import numpy as np

from rloss_caffe.commands import _quickstart as quickstart
from rloss_caffe.commands._words import class_names
from rloss_caffe.data.reading import import_cv2, read_label
from rloss_caffe.data.samples import MEAN_BGR
from rloss_caffe.datasets import examples, voc

__all__ = ["ArraySource", "Case", "LabelSource", "NetSource", "read_probabilities", "soften"]


@dataclass
class Case:
    """What the loss gets of an image.

    Attributes
    ----------
    image : array (C, H, W) or None
        Mean-subtracted; None where the net's loss looks at no image.
    probabilities : array (K, H, W)
    size : (int, int)
        Rows and columns that are no padding.
    label : array, uint8, or None
        The label map that they were made from.
    given : array (h, w), uint8, or None
        The image's labels, as the loss and the cross entropy get them, at the image's size.
    fitted : array (H, W) or None
        The same at the probabilities' size.
    roi : array (H, W) or None
        The region of interest, where the loss's layer has a bottom for it.
    """

    image: Optional[np.ndarray]
    probabilities: np.ndarray
    size: tuple
    label: Optional[np.ndarray] = None
    given: Optional[np.ndarray] = None
    fitted: Optional[np.ndarray] = None
    roi: Optional[np.ndarray] = None

    def visible(self, array):
        """An array (..., H, W) without the padding."""
        return array[..., : self.size[0], : self.size[1]]

    def areas(self):
        """How many pixels each class has in the label map, else how many it is the most probable class of."""
        label = self.visible(self.probabilities).argmax(axis=0) if self.label is None else self.label
        return np.bincount(label[label != voc.IGNORE].ravel(), minlength=len(self.probabilities))


class _GivenLabels:
    """The labels of images beside probabilities from elsewhere.

    They are those of --labels, else of the list, else an example's own scribbles.
    """

    def __init__(self, path, of_examples=False):
        self._path, self._of_examples = path, of_examples

    def read(self, photo, pixels, n_classes):
        """The label map of an image, or None if there is none."""
        path = photo.label if self._path is None else _beside(self._path, photo, [".png"])
        if path is None:
            return examples.load_label(photo.name, "scribbles") if self._of_examples and photo.path is None else None
        label = read_label(path)
        _check_size(path, label.shape, photo, pixels)
        largest = int(label[label != voc.IGNORE].max(initial=0))
        if largest >= n_classes:
            raise ValueError(f"{path} has the label {largest}, but there are {n_classes} classes, from 0")
        return label


class NetSource:
    """A network with a loss layer, whose settings count.

    Attributes
    ----------
    loss : str or None
        The name of the layer's loss; None where there is no layer.
    parameters : dict
        The layer's.
    loss_weight : float
    place : str
        Where the settings are from, for messages.
    origin : str
        Where the probabilities are from, for the reader.
    """

    def __init__(self, arguments):
        try:
            import caffe  # noqa: F401
        except ImportError as error:
            raise ImportError(
                f"networks run in Caffe, and importing it failed: {error}; --labels and --probabilities need none"
            ) from error
        from rloss_caffe.commands import _devices as devices
        from rloss_caffe.nets.loss_net import LossNet

        (device,) = [None] if arguments.gpu is None else devices.gpu_ids(str(arguments.gpu))
        devices.use(device)
        model, weights = arguments.model, arguments.weights
        self._is_quickstart = model in (None, "quickstart") or quickstart.is_net(model)
        if model in (None, "quickstart"):
            model, weights = quickstart.NET, quickstart.weights()
        self._net = LossNet(model, weights, arguments.layer, arguments.mean)
        self.loss, self.parameters = self._net.loss, self._net.parameters
        self.loss_weight = self._net.loss_weight
        self.place = f"the layer {self._net.layer!r}"
        named = "the quickstart's " if self._is_quickstart else ""
        self.origin = f"{named}{Path(model).name}, {Path(weights).name}"
        self._labels = _GivenLabels(arguments.labels, self._is_quickstart)

    def describe(self):
        """One line on what is looked at."""
        net = self._net
        score = f"softmax of {net.score!r}" if net.score else "from no Softmax layer: the score gradient is a softmax's"
        image = "" if net.image is None else f"image {net.image!r}, "
        text = f"{self.origin}; layer {net.layer!r}: {image}probabilities {net.probability!r} ({score})"
        if net.roi is not None:
            made = "made by the net" if net.has_roi else "not made of the image: all but the padding is taken for it"
            text += f", region of interest {net.roi!r} ({made})"
        return text

    def case(self, photo, pixels):
        found = self._net.predict(pixels)
        label = self._labels.read(photo, pixels, len(found.probabilities))
        if label is None and self._net.label is not None:
            raise ValueError(
                f"{self.place} has a bottom for labels, {self._net.label!r}: --labels or a list says where those of "
                f"{photo.name} are"
            )
        fitted = None if label is None else found.fit_labels(label)
        return Case(found.image, found.probabilities, found.size, given=label, fitted=fitted, roi=found.roi)

    def names(self, given, n_classes):
        """The names of all classes."""
        if not given and self._is_quickstart and n_classes == len(examples.CLASSES):
            return list(examples.CLASSES)
        return _checked(class_names(given, n_classes), n_classes)


class ArraySource:
    """Saved probabilities: a file, or a folder with one for each image."""

    place, loss = "the command line", None

    def __init__(self, arguments):
        self._path, self._mean = arguments.probabilities, arguments.mean
        self.origin = arguments.probabilities.name
        self._labels = _GivenLabels(arguments.labels)

    def describe(self):
        return ""

    def case(self, photo, pixels):
        path = _beside(self._path, photo, [".npy", ".npz", "_gradient.npz"])
        probabilities = read_probabilities(path)
        _check_size(path, probabilities.shape[1:], photo, pixels)
        label = self._labels.read(photo, pixels, len(probabilities))
        return Case(_as_blob(pixels, self._mean), probabilities, probabilities.shape[1:], given=label, fitted=label)

    def names(self, given, n_classes):
        return _checked(class_names(given, n_classes), n_classes)


class LabelSource:
    """Label maps made soft: a file, or a folder with one for each image.

    All images have the same classes: those given by name, else as many as the largest label asks for.
    """

    place, loss = "the command line", None

    def __init__(self, arguments, photos):
        self._path, self._mean = arguments.labels, arguments.mean
        self._confidence, self._blur = arguments.confidence, arguments.blur
        self._paths = {photo.name: _beside(arguments.labels, photo, [".png"]) for photo in photos}
        largest = {}
        for path in dict.fromkeys(self._paths.values()):
            label = read_label(path)
            largest[path] = int(label[label != voc.IGNORE].max(initial=0))
        self._are_examples = all(photo.path is None for photo in photos)
        least = len(examples.CLASSES) if self._are_examples else 2
        self._n_classes = len(class_names(arguments.names, max(least, *(k + 1 for k in largest.values()), 0)))
        for path, label in largest.items():
            if label >= self._n_classes:
                raise ValueError(f"{path} has the label {label}, but there are {self._n_classes} names of classes")
        self.origin = f"labels made soft, confidence {self._confidence:g}, blurred by {self._blur:g} pixels"

    def describe(self):
        return ""

    def case(self, photo, pixels):
        path = self._paths[photo.name]
        label = read_label(path)
        _check_size(path, label.shape, photo, pixels)
        probabilities = soften(label, self._n_classes, self._confidence, self._blur)
        return Case(_as_blob(pixels, self._mean), probabilities, label.shape, label, given=label, fitted=label)

    def names(self, given, n_classes):
        if not given and self._are_examples and n_classes == len(examples.CLASSES):
            return list(examples.CLASSES)
        return _checked(class_names(given, n_classes), n_classes)


def _checked(names, n_classes):
    if len(names) != n_classes:
        raise ValueError(f"--names: expected {n_classes} names, found {len(names)}")
    return names


def _as_blob(pixels, mean):
    mean = np.float32(MEAN_BGR if mean is None else mean)
    return np.ascontiguousarray((pixels - mean).transpose(2, 0, 1), np.float32)


def _beside(path, photo, suffixes):
    """The file that belongs to a photo: the path itself, or in that folder the one with the photo's name."""
    if not path.is_dir():
        return path
    candidates = [path / f"{photo.name}{suffix}" for suffix in suffixes]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise ValueError(f"nothing for the image {photo.name}: no {' or '.join(map(str, candidates))}")


def _check_size(path, shape, photo, pixels):
    if tuple(shape) != pixels.shape[:2]:
        height, width = pixels.shape[:2]
        raise ValueError(f"{path} is {shape[1]} x {shape[0]}, but the image {photo.name} {width} x {height}")


def soften(label, n_classes, confidence=0.9, blur=3.0):
    """Probabilities (K, H, W) like a label map: its one-hot code mixed with equal shares, then blurred.

    Unlabelled pixels (255) get equal shares.
    """
    probabilities = np.full((n_classes, *label.shape), 1 / n_classes, np.float32)
    known = label != voc.IGNORE
    shares = (np.arange(n_classes)[:, np.newaxis] == label[known]).astype(np.float32)
    probabilities[:, known] = confidence * shares + (1 - confidence) / n_classes
    if blur:
        cv2 = import_cv2()
        for plane in probabilities:
            plane[...] = cv2.GaussianBlur(plane, (0, 0), blur, borderType=cv2.BORDER_REPLICATE)
    return probabilities / probabilities.sum(axis=0)


def read_probabilities(path):
    """Class probabilities (K, H, W) from a .npy file, or from a .npz: its only array or that named probability."""
    try:
        array = np.load(path)  # refuses pickled objects
        if isinstance(array, np.lib.npyio.NpzFile):
            with array as file:
                names = [name for name in ("probability", "probabilities") if name in file.files] or file.files
                if len(names) != 1:
                    raise ValueError(f"expected one array or one named 'probability', found {', '.join(file.files)}")
                array = file[names[0]]
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"cannot read probabilities from {path}: {error}") from None
    if array.ndim == 4 and len(array) == 1:
        array = array[0]
    if array.ndim != 3 or array.dtype.kind != "f" or not (len(array) > 1 and array.size):
        raise ValueError(
            f"{path} must hold floating-point probabilities (K, H, W), found {array.dtype} of shape {array.shape}"
        )
    if not np.isfinite(array).all():
        raise ValueError(f"{path} holds {np.isnan(array).sum()} NaN and {np.isinf(array).sum()} infinite values")
    if not (array.min() > -1e-3 and np.allclose(array.sum(axis=0), 1, atol=1e-2)):
        is_last = np.allclose(array.sum(axis=2), 1, atol=1e-2)
        hint = "Its classes are in the last axis, expected in the first." if is_last else "Scores need a softmax first."
        raise ValueError(
            f"{path} holds no probabilities: in every pixel they must be at least 0 and add up to 1, found values from "
            f"{array.min():.4g} to {array.max():.4g}, sums from {array.sum(axis=0).min():.4g} to "
            f"{array.sum(axis=0).max():.4g}. {hint}"
        )
    return array.astype(np.float32)
