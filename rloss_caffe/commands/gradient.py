"""See what the DenseCRF loss asks of a network: its gradient for each class of an image.

  rloss-caffe gradient IMAGE ... --model trainwithdensecrfloss.prototxt --weights W.caffemodel
      any network with a DenseCRFLoss layer, of stock Caffe or of the fork; its data layer is replaced by the image
  rloss-caffe gradient IMAGE ... --probabilities ARRAY.npy
  rloss-caffe gradient IMAGE ... --labels LABEL.png
      saved class probabilities (K, H, W), or a label map or scribble made soft
  rloss-caffe gradient
      the example photographs through the quickstart's network, which is trained now if it has not been

IMAGE is a file or the name of an example: astronaut, camera, chelsea, coffee, rocket. Writes
OUTPUT/IMAGE_gradient.png; with --sweep OUTPUT/IMAGE_sweep.png instead, the gradient under a grid of bandwidths.
"""

import argparse
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

import numpy as np

from rloss_caffe import get_num_threads
from rloss_caffe.commands._outputs import FOLDER, output_path, say_written
from rloss_caffe.commands._probabilities import DEFAULTS, ArraySource, LabelSource, NetSource
from rloss_caffe.commands._words import find_classes, numbers, word_list
from rloss_caffe.data.files import printable
from rloss_caffe.data.lists import read_list
from rloss_caffe.data.progress import progressing
from rloss_caffe.data.reading import import_cv2, read_image
from rloss_caffe.datasets import examples
from rloss_caffe.installation import add_extra
from rloss_caffe.losses.gradients import densecrf_gradients
from rloss_caffe.pictures import gradient_figures as figures
from rloss_caffe.pictures.figures import check_matplotlib, save

__all__ = ["add_arguments", "run"]

EXAMPLE = "rloss-caffe gradient photo.jpg --labels scribbles.png"
NAME = "gradients"
SWEEP = {"bi_xy_std": [20.0, 60.0, 100.0], "bi_rgb_std": [5.0, 12.0, 30.0]}
MOST_ROWS = 6
WIDEST_BLUR = 500  # pixels: further, it takes minutes and gigabytes
RUNS = 3  # of each bandwidth; the shortest time counts, as other programs disturb the others


def add_arguments(parser):
    add = parser.add_argument
    add("images", nargs="*", metavar="IMAGE", help="files or names of examples; default: all examples")
    add("--list", metavar="LIST", help="more images: a list file, a path a line; what follows the path is ignored")
    add("--root", default="", metavar="FOLDER", help="put before every path of the list")
    add("--model", metavar="NET", help="a prototxt with a DenseCRFLoss layer; 'quickstart' means the quickstart's")
    add("--weights", metavar="FILE", help="its .caffemodel")
    add("--layer", metavar="NAME", help="the loss layer, if the net has several")
    add("--probabilities", type=Path, metavar="FILE", help=".npy or .npz, or a folder with one for each image")
    add("--labels", type=Path, metavar="FILE", help="label PNG, 255: unlabelled; or a folder with one for each image")
    add("--confidence", type=float, default=0.9, help="of a label: the rest is shared by all classes; default 0.9")
    add("--blur", type=float, default=3.0, metavar="PIXELS", help="std of the blur that makes labels soft; default 3")
    add("--output", type=Path, metavar="FOLDER", help=f"default: {FOLDER / NAME}")
    add("--classes", type=word_list, metavar="A,B", help="names or numbers to show; default: those that are present")
    add("--names", type=word_list, metavar="A,B", help="of all classes, from 0; 'voc': VOC's 21; default: numbers")
    add("--bi_xy_std", type=bandwidths, metavar="PIXELS", help="spatial bandwidth; default: the layer's, else 100")
    add("--bi_rgb_std", type=bandwidths, metavar="UNITS", help="colour bandwidth; default: the layer's, else 15")
    add("--loss_weight", type=float, metavar="W", help="default: the layer's, else 1e-8")
    add("--exact_gradient", action="store_true", help="the exact derivative instead of the original's")
    add("--mean", type=numbers, metavar="B,G,R", help="default: the net's data layer's, else 104.008,116.669,122.675")
    add("--gpu", type=int, metavar="ID", help="run the net there; default: on the CPU")
    add("--sweep", action="store_true", help="one sheet: bi_xy_std times bi_rgb_std, which may be comma lists then")
    add("--npz", action="store_true", help="write OUTPUT/IMAGE_gradient.npz too, with all arrays")
    add("--original-names", action="store_true", help="write OUTPUT/IMAGE/Nprob.png and Nscorediff.png for class N too")
    add("--width", type=int, default=1200, metavar="PIXELS", help="of the pictures; default 1200")
    add("--format", choices=["png", "jpg"], default="png", help="of the pictures; jpg makes small files for web pages")


def bandwidths(text):
    """``3`` or ``3,10``, rising."""
    try:
        values = [float(word) for word in text.split(",")]
    except ValueError:
        values = [0.0]
    if not all(0 < value < float("inf") for value in values):
        raise argparse.ArgumentTypeError(f"bandwidths must be above 0, found {text}")
    return sorted(set(values))


@dataclass
class Photo:
    """A photograph to look at; path: None for an example."""

    name: str
    path: Optional[str]

    def read(self):
        """The pixels, BGR, (H, W, 3) uint8."""
        return _read_example(self.name) if self.path is None else read_image(self.path)


def _read_example(name):
    try:
        pixels = examples.load_photo(name)
    except ImportError as error:
        raise ImportError(
            f"the photo {name} is from scikit-image, and importing it failed: {error}; "
            f"this brings it: {add_extra('pictures')}"
        ) from error
    return np.ascontiguousarray(pixels[:, :, ::-1])


def run(arguments):
    """One picture an image; what was found is printed, what was written is said."""
    os.environ.setdefault("GLOG_minloglevel", "2")  # before caffe is loaded: its log would bury ours
    _check(arguments)
    check_matplotlib()  # what is missing is said before minutes of work
    photos = find_photos(arguments)
    source = find_source(arguments, photos)
    settings = find_settings(arguments, source)
    if source.describe():
        print(source.describe(), file=sys.stderr)
    work = _Work(arguments, source, settings)
    try:
        for photo in progressing(photos, "gradients", "image"):
            work.do(photo)
    finally:
        work.report()
    return 0


def _check(arguments):
    """What one option says of another."""
    if arguments.model == "quickstart":
        if arguments.weights:
            raise ValueError("--model quickstart has weights of its own: leave --weights out")
    elif bool(arguments.model) != bool(arguments.weights):
        raise ValueError("--model and --weights belong together")
    sources = [name for name in ("model", "probabilities", "labels") if getattr(arguments, name)]
    if len(sources) > 1:
        raise ValueError(f"choose one of {', '.join('--' + name for name in sources)}")
    for name in ("bi_xy_std", "bi_rgb_std"):
        if len(getattr(arguments, name) or []) > 1 and not arguments.sweep:
            raise ValueError(f"--{name}: several values are for --sweep")
    if arguments.sweep and (arguments.npz or arguments.original_names):
        raise ValueError("--npz and --original-names are not for --sweep")
    if not 0 < arguments.confidence <= 1:
        raise ValueError(f"--confidence must be above 0 and at most 1, found {arguments.confidence:g}")
    if not 0 <= arguments.blur <= WIDEST_BLUR:
        raise ValueError(f"--blur must be from 0 to {WIDEST_BLUR}, found {arguments.blur:g}")
    if arguments.loss_weight is not None and not 0 < arguments.loss_weight < float("inf"):
        raise ValueError(f"--loss_weight must be above 0, found {arguments.loss_weight:g}")
    if not 900 <= arguments.width <= 4000:
        raise ValueError(f"--width must be from 900 to 4000, found {arguments.width}")
    if arguments.sweep and max(len(getattr(arguments, name) or values) for name, values in SWEEP.items()) > 6:
        raise ValueError("--sweep: at most 6 values of each bandwidth can be read on one sheet")


def find_photos(arguments):
    """The photos to look at, each with a name of its own."""
    words = list(arguments.images)
    if arguments.list:
        words += [entry.image for entry in read_list(arguments.list, arguments.root, "NONE")]
    found = []
    for word in words or list(examples.PHOTOS):
        if os.path.isfile(word):
            found.append(Photo(Path(word).stem, word))
        elif word in examples.PHOTOS:
            found.append(Photo(word, None))
        else:
            raise ValueError(f"no such image: {word}; nor is it one of the examples: {', '.join(examples.PHOTOS)}")
    names = [photo.name for photo in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(
            f"several images have the name {', '.join(twice)}, so that one's picture would replace another's"
        )
    return found


def find_source(arguments, photos):
    """Where the probabilities come from; for photographs of the user's own, that must be said."""
    if arguments.labels:
        return LabelSource(arguments, photos)
    if arguments.probabilities:
        return ArraySource(arguments)
    own = [photo.path for photo in photos if photo.path is not None]
    if own and not arguments.model:
        raise ValueError(
            f"say where the class probabilities of {own[0]} come from: --model NET --weights FILE, --probabilities or "
            f"--labels. --model quickstart takes the quickstart's net, which knows {', '.join(examples.CLASSES)} alone"
        )
    return NetSource(arguments)


def find_settings(arguments, source):
    """Of the loss: the source's own, and what replaces them."""
    settings = dict(source.settings)
    for name in ("bi_xy_std", "bi_rgb_std"):
        if getattr(arguments, name):
            settings[name] = getattr(arguments, name)[0]
    if arguments.loss_weight is not None:
        settings["loss_weight"] = arguments.loss_weight
    if not settings["loss_weight"] > 0:
        raise ValueError(
            f"{source.place} has the loss_weight {settings['loss_weight']:g}, so that its gradient is none; "
            "--loss_weight replaces it"
        )
    settings["exact_gradient"] |= arguments.exact_gradient
    return settings


class _Work:
    """Draws one photo after the other, and keeps what is to be said until no progress bar is in the way."""

    def __init__(self, arguments, source, settings):
        self._arguments, self._source, self._settings = arguments, source, settings
        self._results, self._written = [], []

    def report(self):
        for line in self._results:
            print(printable(line))
        for path in self._written:
            say_written(path)

    def do(self, photo):
        pixels = photo.read()
        case = self._source.case(photo, pixels)
        names = self._source.names(self._arguments.names, len(case.probabilities))
        shown = self._shown(photo, case, names)
        if self._arguments.sweep:
            self._sweep(photo, pixels, case, names, shown)
        else:
            self._draw(photo, pixels, case, names, shown)

    def _shown(self, photo, case, names):
        """The numbers of the classes to show: those asked for, else those that are present, the largest ones."""
        areas = case.areas()
        if not self._arguments.classes:
            largest = sorted(np.flatnonzero(areas > 0.002 * areas.sum()), key=lambda k: -areas[k])[:MOST_ROWS]
            return sorted(map(int, largest)) or [0]
        shown = find_classes(self._arguments.classes, names)
        absent = [names[k] for k in shown if not areas[k]]
        if absent:
            self._results.append(f"{photo.name}: no pixel is {' or '.join(absent)}")
        return shown

    def _path(self, name):
        given = self._arguments.output
        return output_path(given and given / name, f"{NAME}/{name}")

    def _save(self, figure, photo, kind):
        path = self._path(f"{photo.name}_{kind}.{self._arguments.format}")
        quality = {} if self._arguments.format == "png" else {"quality": 75}
        save(figure, path, pil_kwargs=quality)
        self._written.append(path)

    def _compute(self, photo, pixels, case, names, settings):
        gradients = densecrf_gradients(case.image, case.probabilities, **{name: settings[name] for name in DEFAULTS})
        if pixels.shape[:2] != tuple(case.size):  # the loss works at another resolution
            cv2 = import_cv2()
            pixels = cv2.resize(pixels, case.size[::-1], interpolation=cv2.INTER_AREA)
        return figures.Result(
            name=photo.name,
            photo=pixels[:, :, ::-1],
            label=case.label,
            probabilities=case.visible(case.probabilities),
            score=case.visible(gradients.score),
            probability=case.visible(gradients.probability),
            loss=gradients.value + 0.0,  # no -0
            classes=names,
            settings=settings,
            origin=self._source.origin,
        )

    def _draw(self, photo, pixels, case, names, shown):
        result = self._compute(photo, pixels, case, names, self._settings)
        weight = self._settings["loss_weight"]
        self._results.append(f"{photo.name}: loss {result.loss:.6g}, times {weight:g}: {result.loss * weight:.6g}")
        self._save(figures.draw_result(result, shown, self._arguments.width), photo, "gradient")
        if self._arguments.npz:
            self._write_arrays(result, case, self._path(f"{photo.name}_gradient.npz"))
        if self._arguments.original_names:
            self._write_original_names(result, shown, self._path(f"{photo.name}/x").parent)

    def _write_arrays(self, result, case, path):
        np.savez_compressed(
            path,
            image=case.visible(case.image),
            probability=result.probabilities,
            score_gradient=result.score,
            probability_gradient=result.probability,
            loss=result.loss,
            classes=np.array(result.classes),
            **self._settings,
        )
        self._written.append(path)

    def _write_original_names(self, result, shown, folder):
        """``Nprob.png`` (0 black, 1 white) and ``Nscorediff.png`` (on one scale) for each class N that is shown."""
        from PIL import Image

        limit = figures.colour_limit(result.score[shown])
        for label in shown:
            Image.fromarray(figures.probability_picture(result.probabilities[label])).save(folder / f"{label}prob.png")
            Image.fromarray(figures.gradient_picture(result.score[label], limit)).save(folder / f"{label}scorediff.png")
        self._results.append(
            f"{result.name}: {len(shown)} x Nprob.png (0 to 1) and Nscorediff.png (-{limit:.3g} to {limit:.3g}, blue "
            "to red)"
        )
        self._written.append(folder)

    def _sweep(self, photo, pixels, case, names, shown):
        settings = dict(self._settings, threads=get_num_threads(), runs=RUNS)
        # This compiles the kernels as well, before the clock runs.
        result = self._compute(photo, pixels, case, names, settings)
        label = shown[0]
        if not self._arguments.classes:
            label = max(shown, key=lambda k: (k > 0, result.probabilities[k].sum()))
        values = {name: getattr(self._arguments, name) or default for name, default in SWEEP.items()}
        grid = [(xy, rgb) for xy in values["bi_xy_std"] for rgb in values["bi_rgb_std"]]
        trials = [
            self._try(case, label, dict(settings, bi_xy_std=xy, bi_rgb_std=rgb))
            for xy, rgb in progressing(grid, photo.name, "trial")
        ]
        for each in trials:
            tried = f"{photo.name}: {each.bi_xy_std:g} / {each.bi_rgb_std:g}"
            self._results.append(f"{tried}: loss {each.loss:.6g}, {1000 * each.seconds:.1f} ms")
        self._save(figures.draw_sweep(result, label, trials, self._arguments.width), photo, "sweep")

    def _try(self, case, label, settings):
        seconds = []
        for _ in range(RUNS):
            start = time.perf_counter()
            found = densecrf_gradients(case.image, case.probabilities, **{name: settings[name] for name in DEFAULTS})
            seconds.append(time.perf_counter() - start)
        gradient = case.visible(found.score[label])
        return figures.Trial(settings["bi_xy_std"], settings["bi_rgb_std"], found.value, gradient, min(seconds))
