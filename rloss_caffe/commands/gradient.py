"""See what a loss asks of a network: its gradient for each class of an image, and how hard it pushes.

  rloss-caffe gradient IMAGE ... --model trainwithdensecrfloss.prototxt --weights W.caffemodel
      any network with a loss layer of rloss_caffe, of stock Caffe or of the fork; its data layer is replaced by the
      image, the layer's parameters count
  rloss-caffe gradient IMAGE ... --probabilities ARRAY.npy
  rloss-caffe gradient IMAGE ... --labels LABEL.png
      saved class probabilities (K, H, W), or a label map or scribble made soft
  rloss-caffe gradient
      the example photographs through the quickstart's network, which is trained now if it has not been

--loss chooses another loss than the layer's. With label maps, of --labels or of the list, beside a network or saved
probabilities, the share of the push is printed: that of the loss beside the cross entropy of these labels.

IMAGE is a file or the name of an example: astronaut, camera, chelsea, coffee, rocket. Writes
OUTPUT/IMAGE_gradient.png; with --sweep OUTPUT/IMAGE_sweep.png instead, the gradient under a grid of bandwidths; with
--compare OUTPUT/IMAGE_comparison.png, several losses side by side.
"""

import os
import sys
import time
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Optional

import numpy as np

from rloss_caffe import get_num_threads
from rloss_caffe.commands._losses import add_loss_options, bandwidths_of, check_options, given_values, settings_of
from rloss_caffe.commands._outputs import FOLDER, output_path, say_written
from rloss_caffe.commands._probabilities import ArraySource, LabelSource, NetSource
from rloss_caffe.commands._words import find_classes, numbers, word_list
from rloss_caffe.data.files import printable
from rloss_caffe.data.lists import read_list
from rloss_caffe.data.progress import progressing
from rloss_caffe.data.reading import import_cv2, read_image
from rloss_caffe.datasets import examples
from rloss_caffe.installation import add_extra
from rloss_caffe.losses import LOSSES
from rloss_caffe.losses.gradients import Push, compare_push, loss_gradients, push, takes_images
from rloss_caffe.pictures import gradient_figures as figures
from rloss_caffe.pictures.figures import check_matplotlib, save

__all__ = ["add_arguments", "run"]

EXAMPLE = "rloss-caffe gradient photo.jpg --labels scribbles.png"
NAME = "gradients"
SWEEP = {
    "bi_xy_std": [20.0, 60.0, 100.0],
    "bi_rgb_std": [5.0, 12.0, 30.0],
    "xy_std": [1.0, 3.0, 6.0],
    "rgb_std": [5.0, 15.0, 40.0],
    "radius": [1, 3, 5],
}
MOST_ROWS, MOST_COMPARED = 6, 6
WIDEST_BLUR = 500  # pixels: further, it takes minutes and gigabytes
RUNS = 3  # of each bandwidth; the shortest time counts, as other programs disturb the others


def add_arguments(parser):
    add = parser.add_argument
    add("images", nargs="*", metavar="IMAGE", help="files or names of examples; default: all examples")
    add("--list", metavar="LIST", help="more images: a list file, a path a line, and behind it the image's label map")
    add("--root", default="", metavar="FOLDER", help="put before every path of the list")
    add("--model", metavar="NET", help="a prototxt with a loss layer; 'quickstart' means the quickstart's")
    add("--weights", metavar="FILE", help="its .caffemodel")
    add("--layer", metavar="NAME", help="the loss layer, if the net has several")
    add("--probabilities", type=Path, metavar="FILE", help=".npy or .npz, or a folder with one for each image")
    add("--labels", type=Path, metavar="FILE", help="label PNG, 255: unlabelled; or a folder with one for each image; "
        "beside --model or --probabilities: what the loss and the cross entropy are given")  # fmt: skip
    add("--loss", choices=list(LOSSES), help="default: the layer's, else densecrf")
    add("--compare", type=word_list, metavar="LOSS,LOSS", help="these losses side by side, with the push of the first")
    add("--confidence", type=float, default=0.9, help="of a label: the rest is shared by all classes; default 0.9")
    add("--blur", type=float, default=3.0, metavar="PIXELS", help="std of the blur that makes labels soft; default 3")
    add("--output", type=Path, metavar="FOLDER", help=f"default: {FOLDER / NAME}")
    add("--classes", type=word_list, metavar="A,B", help="names or numbers to show; default: those that are present")
    add("--names", type=word_list, metavar="A,B", help="of all classes, from 0; 'voc': VOC's 21; default: numbers")
    add("--loss_weight", type=float, metavar="W", help="default: the layer's, else a published one, or 1")
    add("--mean", type=numbers, metavar="B,G,R", help="default: the net's data layer's, else 104.008,116.669,122.675")
    add("--gpu", type=int, metavar="ID", help="run the net there; default: on the CPU")
    add("--sweep", action="store_true", help="one sheet: the loss under several bandwidths, or values that are given")
    add("--npz", action="store_true", help="write OUTPUT/IMAGE_gradient.npz too, with all arrays")
    add("--original-names", action="store_true", help="write OUTPUT/IMAGE/Nprob.png and Nscorediff.png for class N too")
    add("--width", type=int, default=1200, metavar="PIXELS", help="of the pictures; default 1200")
    add("--format", choices=["png", "jpg"], default="png", help="of the pictures; jpg makes small files for web pages")
    add_loss_options(parser)


@dataclass
class Photo:
    """A photograph to look at; path: None for an example; label: the path of its label map, if a list says one."""

    name: str
    path: Optional[str]
    label: Optional[str] = None

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
    if arguments.sweep:
        bandwidths_of(settings[0], arguments, SWEEP)  # says what is wrong
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
    if arguments.model and arguments.probabilities:
        raise ValueError("choose one of --model, --probabilities")
    if (arguments.sweep or arguments.compare) and (arguments.npz or arguments.original_names):
        raise ValueError("--npz and --original-names are not for --sweep and --compare")
    if arguments.compare:
        _check_comparison(arguments)
    if not 0 < arguments.confidence <= 1:
        raise ValueError(f"--confidence must be above 0 and at most 1, found {arguments.confidence:g}")
    if not 0 <= arguments.blur <= WIDEST_BLUR:
        raise ValueError(f"--blur must be from 0 to {WIDEST_BLUR}, found {arguments.blur:g}")
    if arguments.loss_weight is not None and not 0 < arguments.loss_weight < float("inf"):
        raise ValueError(f"--loss_weight must be above 0, found {arguments.loss_weight:g}")
    if not 900 <= arguments.width <= 4000:
        raise ValueError(f"--width must be from 900 to 4000, found {arguments.width}")


def _check_comparison(arguments):
    if arguments.sweep or arguments.loss:
        raise ValueError(f"--compare and --{'sweep' if arguments.sweep else 'loss'} do not go together")
    for name in arguments.compare:
        if name not in LOSSES:
            raise ValueError(f"--compare: expected losses, {', '.join(LOSSES)}, found {name!r}")
    if not 2 <= len(set(arguments.compare)) == len(arguments.compare) <= MOST_COMPARED:
        raise ValueError(f"--compare: expected 2 to {MOST_COMPARED} losses, each once, found {len(arguments.compare)}")


def find_photos(arguments):
    """The photos to look at, each with a name of its own."""
    entries = _entries(arguments) if arguments.list else []
    labels = {entry.image: entry.label for entry in entries}
    found = []
    for word in [*arguments.images, *labels] or list(examples.PHOTOS):
        if os.path.isfile(word):
            found.append(Photo(Path(word).stem, word, labels.get(word)))
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


def _entries(arguments):
    """The list's lines, with label maps if all of them have one."""
    try:
        return read_list(arguments.list, arguments.root, "PIXEL")
    except ValueError:
        return read_list(arguments.list, arguments.root, "NONE")


def find_source(arguments, photos):
    """Where the probabilities come from; for photographs of the user's own, that must be said."""
    if arguments.probabilities:
        return ArraySource(arguments)
    if arguments.labels and not arguments.model:
        return LabelSource(arguments, photos)
    own = [photo.path for photo in photos if photo.path is not None]
    if own and not arguments.model:
        raise ValueError(
            f"say where the class probabilities of {own[0]} come from: --model NET --weights FILE, --probabilities or "
            f"--labels. --model quickstart takes the quickstart's net, which knows {', '.join(examples.CLASSES)} alone"
        )
    return NetSource(arguments)


def find_settings(arguments, source):
    """Of each loss that is looked at: the source's own, and what replaces them. The first is the one with a weight."""
    losses = arguments.compare or [arguments.loss or source.loss or "densecrf"]
    check_options(arguments, losses)
    for loss in losses:
        for name, values in given_values(arguments, loss).items():
            if len(values) > 1 and not arguments.sweep:
                raise ValueError(f"--{name}: several values are for --sweep")
    settings = [settings_of(loss, arguments, source) for loss in losses]
    if arguments.loss_weight is not None:
        settings[0].loss_weight = arguments.loss_weight
    if not settings[0].loss_weight > 0:
        raise ValueError(
            f"{source.place} has the loss_weight {settings[0].loss_weight:g}, so that its gradient is none; "
            "--loss_weight replaces it"
        )
    return settings


class _Work:
    """Draws one photo after the other, and keeps what is to be said until no progress bar is in the way."""

    def __init__(self, arguments, source, settings):
        self._arguments, self._source, self._settings = arguments, source, settings
        self._results, self._written, self._pushes = [], [], []

    def report(self):
        if len(self._pushes) > 1:
            self._tell_mean_push()
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
        elif self._arguments.compare:
            self._compare(photo, pixels, case, names, shown)
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

    def _gradients(self, case, settings):
        """Of a loss, with its weight."""
        looks_at_images = takes_images(settings.loss)
        if looks_at_images and case.image is None:
            raise ValueError(f"{self._source.place} has no bottom for the image, which {settings.loss} looks at")
        return loss_gradients(
            settings.loss,
            case.image,
            case.probabilities,
            loss_weight=settings.loss_weight,
            labels=case.fitted if looks_at_images else case.given,  # else only which classes there are counts
            roi=case.roi,
            **settings.parameters,
        )

    def _compute(self, photo, pixels, case, names, settings):
        gradients = self._gradients(case, settings)
        found = None
        if case.fitted is not None:
            found = compare_push(gradients.score, case.probabilities, case.fitted)
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
            given=case.given,
            push=found,
        )

    def _draw(self, photo, pixels, case, names, shown):
        result = self._compute(photo, pixels, case, names, self._settings[0])
        weight = result.settings.loss_weight
        text = f"{photo.name}: {result.settings.loss}"
        self._results.append(f"{text}: loss {result.loss:.6g}, times {weight:g}: {result.loss * weight:.6g}")
        self._tell_push(photo.name, result)
        self._save(figures.draw_result(result, shown, self._arguments.width), photo, "gradient")
        if self._arguments.npz:
            self._write_arrays(result, case, self._path(f"{photo.name}_gradient.npz"))
        if self._arguments.original_names:
            self._write_original_names(result, shown, self._path(f"{photo.name}/x").parent)

    def _tell_push(self, name, result):
        """How hard the loss pushes, and which weight would make it as hard as the cross entropy."""
        text, found = f"{name}: {result.settings.loss}", result.push
        if not found:
            self._results.append(f"{text}: push on the scores {push(result.score):.3g}")
        elif not found.labelled:
            self._results.append(f"{text}: push on the scores {found.loss:.3g}; no pixel has a label")
        else:
            self._pushes.append(found)
            labelled = f"{found.labelled} labelled pixels"
            self._results.append(f"{text}: {_share_in_words(found, labelled, result.settings.loss_weight)}")

    def _tell_mean_push(self):
        """The same of all images with labels, as they are trained on: a mean of each push."""
        loss, cross_entropy = (
            np.mean([getattr(each, name) for each in self._pushes]) for name in ("loss", "cross_entropy")
        )
        found = Push(float(loss), float(cross_entropy), sum(each.labelled for each in self._pushes))
        words = _share_in_words(found, "their labelled pixels", self._settings[0].loss_weight)
        self._results.append(f"mean of {len(self._pushes)} images: {self._settings[0].loss}: {words}")

    def _compare(self, photo, pixels, case, names, shown):
        results = []
        for settings in self._settings:
            result = self._compute(photo, pixels, case, names, settings)
            if results:
                result = self._with_push(results[0], result)
            results.append(result)
            weight = result.settings.loss_weight
            text = f"{photo.name}: {settings.loss}"
            if not weight:
                self._results.append(f"{text}: pushes nothing, whatever its weight")
            else:
                self._results.append(f"{text}: push on the scores {push(result.score):.3g} at loss_weight {weight:.3g}")
        if results[0].push:
            self._tell_push(photo.name, results[0])
        self._save(figures.draw_comparison(results, shown, self._arguments.width), photo, "comparison")

    def _with_push(self, first, result):
        """The same loss with the weight at which it pushes as hard as the first."""
        size = push(result.score)
        factor = push(first.score) / size if size else 0.0
        return replace(
            result,
            score=np.float32(factor) * result.score,
            probability=np.float32(factor) * result.probability,
            settings=replace(result.settings, loss_weight=factor * result.settings.loss_weight),
            push=None,
        )

    def _write_arrays(self, result, case, path):
        np.savez_compressed(
            path,
            image=case.visible(case.image),
            probability=result.probabilities,
            score_gradient=result.score,
            probability_gradient=result.probability,
            loss=result.loss,
            classes=np.array(result.classes),
            loss_name=result.settings.loss,
            loss_weight=result.settings.loss_weight,
            **_saved(result.settings.parameters),
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
        settings = self._settings[0]
        axes = bandwidths_of(settings, self._arguments, SWEEP)
        # This compiles the kernels as well, before the clock runs.
        result = self._compute(photo, pixels, case, names, settings)
        label = shown[0]
        if not self._arguments.classes:
            label = max(shown, key=lambda k: (k > 0, result.probabilities[k].sum()))
        trials = []
        for values in progressing(list(product(*axes.values())), photo.name, "trial"):
            parameters = {**settings.parameters, **dict(zip(axes, values))}
            trials.append(self._try(case, label, values, replace(settings, parameters=parameters)))
            tried = f"{photo.name}: {' / '.join(f'{value:g}' for value in values)}"
            each = trials[-1]
            share = "" if each.share is None else f" ({100 * each.share:.3g} % with the cross entropy)"
            self._results.append(
                f"{tried}: loss {each.loss:.6g}, push {each.push:.3g}{share}, {1000 * each.seconds:.1f} ms"
            )
        notes = f"{get_num_threads()} threads, the best of {RUNS} runs"
        figure = figures.draw_sweep(result, label, list(axes), trials, notes, self._arguments.width)
        self._save(figure, photo, "sweep")

    def _try(self, case, label, values, settings):
        seconds = []
        for _ in range(RUNS):
            start = time.perf_counter()
            found = self._gradients(case, settings)
            seconds.append(time.perf_counter() - start)
        share = None
        if case.fitted is not None:
            share = compare_push(found.score, case.probabilities, case.fitted).share
        gradient = case.visible(found.score[label])
        return figures.Trial(values, found.value, gradient, min(seconds), push(found.score), share)


def _share_in_words(found, labelled, weight):
    equal = f"; equal at loss_weight {weight * found.cross_entropy / found.loss:.3g}" if found.loss > 0 else ""
    return (
        f"push on the scores {found.loss:.3g}, cross entropy of {labelled} {found.cross_entropy:.3g}: "
        f"{100 * found.share:.3g} % is the loss's{equal}"
    )


def _saved(parameters):
    """Parameters for a .npz: what is not given is left out, and `classes` is the name of the classes' names."""
    names = {name: f"loss_{name}" if name == "classes" else name for name in parameters}
    return {names[name]: value for name, value in parameters.items() if value is not None}
