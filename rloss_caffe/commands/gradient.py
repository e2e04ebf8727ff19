#!/usr/bin/env python
"""See what the DenseCRF loss asks of a network: its gradient for each class of an image.

Usage:
  python exper/visualize_densecrf_gradient.py
      the quickstart's network, trained now if it has not been, on the quickstart's photos
  python exper/visualize_densecrf_gradient.py IMAGE ... --model trainwithdensecrfloss.prototxt --weights W.caffemodel
      any network with a DenseCRFLoss layer, of stock Caffe or of the fork; its data layer is replaced by the image
  python exper/visualize_densecrf_gradient.py IMAGE ... --probabilities ARRAY.npy
  python exper/visualize_densecrf_gradient.py IMAGE ... --labels LABEL.png
      saved class probabilities (K, H, W), or a label map or scribble made soft

IMAGE is a file or the name of one of the quickstart's photos: astronaut, camera, chelsea, coffee, rocket. Writes
OUTPUT/IMAGE_gradient.png; with --sweep OUTPUT/IMAGE_sweep.png instead, the gradient under a grid of bandwidths.
"""

import argparse
import os
import sys
import time
import warnings
import zipfile
import zlib
from collections import namedtuple
from pathlib import Path

os.environ.setdefault("GLOG_minloglevel", "2")  # before caffe is loaded: its log would bury ours

import numpy as np

from rloss_caffe import get_num_threads
from rloss_caffe.data.lists import read_list
from rloss_caffe.data.reading import import_cv2, read_image, read_label
from rloss_caffe.datasets import examples, voc
from rloss_caffe.installation import add_extra
from rloss_caffe.losses.gradients import densecrf_gradients
from rloss_caffe.nets import input_net as surgery
from rloss_caffe.pictures import gradient_figures as figures
from rloss_caffe.pictures.figures import check_matplotlib
from rloss_caffe.pictures.figures import save as save_figure

FOLDER = Path(__file__).resolve().parents[2] / "exper"
QUICKSTART = FOLDER / "quickstart"
DEFAULTS = {"bi_xy_std": 100.0, "bi_rgb_std": 15.0, "loss_weight": 1e-8, "exact_gradient": False}  # the experiments'
SWEEP = {"bi_xy_std": [20.0, 60.0, 100.0], "bi_rgb_std": [5.0, 12.0, 30.0]}
MOST_ROWS = 6
WIDEST_BLUR = 500  # pixels: further, it takes minutes and gigabytes
RUNS = 3  # of each bandwidth; the shortest time counts, as other programs disturb the others

# A photo to look at. path: None for the quickstart's; pixels: uint8 BGR, (H, W, 3).
Photo = namedtuple("Photo", "name path pixels")
# What the loss gets. image: mean-subtracted, (C, H, W); probabilities (K, H, W); size: rows and columns that are no
# padding; label: the label map it was made from, or None.
Case = namedtuple("Case", "image probabilities size label")


def main():
    arguments = parse_arguments()
    check_matplotlib()  # what is missing is said before minutes of work
    photos = find_photos(arguments)
    make_case, settings, origin = find_source(arguments)
    arguments.output.mkdir(parents=True, exist_ok=True)
    for photo in photos:
        case = make_case(photo)
        names = class_names(arguments, photos, len(case.probabilities))
        if arguments.sweep:
            write_sweep(photo, case, names, settings, origin, arguments)
        else:
            write_result(photo, case, names, settings, origin, arguments)


def parse_arguments(words=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("images", nargs="*", metavar="IMAGE", help="files or names of the quickstart's photos; default: all of those")
    add("--list", metavar="LIST", help="more images: a list file, a path a line; what follows the path is ignored")
    add("--root", default="", metavar="FOLDER", help="put before every path of the list")
    add("--model", metavar="NET", help="a prototxt with a DenseCRFLoss layer")
    add("--weights", metavar="FILE", help="its .caffemodel")
    add("--layer", metavar="NAME", help="the loss layer, if the net has several")
    add("--probabilities", type=Path, metavar="FILE", help=".npy or .npz, or a folder with one for each image")
    add("--labels", type=Path, metavar="FILE", help="label PNG, 255: unlabelled; or a folder with one for each image")
    add("--confidence", type=float, default=0.9, help="of a label: the rest is shared by all classes; default 0.9")
    add("--blur", type=float, default=3.0, metavar="PIXELS", help="std of the blur that makes labels soft; default 3")
    add("--output", type=Path, default=Path("gradients"), metavar="FOLDER", help="default: gradients")
    add("--classes", type=comma_list, metavar="A,B", help="names or numbers to show; default: those that are present")
    add("--names", type=comma_list, metavar="A,B", help="names of all classes; default: VOC's where there are 21")
    add("--bi_xy_std", type=bandwidths, metavar="PIXELS", help="spatial bandwidth; default: the layer's, else 100")
    add("--bi_rgb_std", type=bandwidths, metavar="UNITS", help="colour bandwidth; default: the layer's, else 15")
    add("--loss_weight", type=float, metavar="W", help="default: the layer's, else 1e-8")
    add("--exact_gradient", action="store_true", help="the exact derivative instead of the original's")
    add("--mean", type=mean, metavar="B,G,R", help="default: the net's data layer's, else 104.008,116.669,122.675")
    add("--gpu", type=int, metavar="ID", help="run the net there; default: on the CPU")
    add("--sweep", action="store_true", help="one sheet: bi_xy_std times bi_rgb_std, which may be comma lists then")
    add("--npz", action="store_true", help="write OUTPUT/IMAGE_gradient.npz too, with all arrays")
    add("--original-names", action="store_true", help="write OUTPUT/IMAGE/Nprob.png and Nscorediff.png for class N too")
    add("--width", type=int, default=1200, metavar="PIXELS", help="of the figures; default 1200")
    add("--format", choices=["png", "jpg"], default="png", help="of the figures; jpg makes small files for web pages")
    arguments = parser.parse_args(words)
    if bool(arguments.model) != bool(arguments.weights):
        parser.error("--model and --weights belong together")
    sources = [name for name in ("model", "probabilities", "labels") if getattr(arguments, name)]
    if len(sources) > 1:
        parser.error(f"choose one of {', '.join('--' + name for name in sources)}")
    for name in ("bi_xy_std", "bi_rgb_std"):
        if len(getattr(arguments, name) or []) > 1 and not arguments.sweep:
            parser.error(f"--{name}: several values are for --sweep")
    if arguments.sweep and (arguments.npz or arguments.original_names):
        parser.error("--npz and --original-names are not for --sweep")
    if not 0 < arguments.confidence <= 1:
        parser.error(f"--confidence must be above 0 and at most 1, found {arguments.confidence:g}")
    if not 0 <= arguments.blur <= WIDEST_BLUR:
        parser.error(f"--blur must be from 0 to {WIDEST_BLUR}, found {arguments.blur:g}")
    if arguments.loss_weight is not None and not 0 < arguments.loss_weight < float("inf"):
        parser.error(f"--loss_weight must be above 0, found {arguments.loss_weight:g}")
    if not 900 <= arguments.width <= 4000:
        parser.error(f"--width must be from 900 to 4000, found {arguments.width}")
    if arguments.sweep and max(len(v) for v in (sweep_values(arguments, k) for k in SWEEP)) > 6:
        parser.error("--sweep: at most 6 values of each bandwidth can be read on one sheet")
    return arguments


def comma_list(text):
    return [word.strip() for word in text.split(",")]


def bandwidths(text):
    values = [float(word) for word in text.split(",")]
    if not all(0 < value < float("inf") for value in values):
        raise argparse.ArgumentTypeError(f"bandwidths must be above 0, found {text}")
    return sorted(set(values))


def mean(text):
    values = [float(word) for word in text.split(",")]
    if len(values) not in (1, 3) or not np.isfinite(values).all():
        raise argparse.ArgumentTypeError(f"expected 1 or 3 values, B,G,R, found {text}")
    return values


def sweep_values(arguments, name):
    return getattr(arguments, name) or SWEEP[name]


def load_photo(name):
    """One of the quickstart's photos, BGR."""
    try:
        pixels = examples.load_photo(name)
    except ImportError as error:
        raise ImportError(
            f"the photo {name} is from scikit-image, and importing it failed: {error}; "
            f"this brings it: {add_extra('pictures')}"
        ) from error
    return np.ascontiguousarray(pixels[:, :, ::-1])


def find_photos(arguments):
    """The photos to look at, each with a name of its own."""
    words = list(arguments.images)
    if arguments.list:
        words += [entry.image for entry in read_list(arguments.list, arguments.root, "NONE")]
    found = []
    for word in words or list(examples.PHOTOS):
        if os.path.isfile(word):
            found.append(Photo(Path(word).stem, word, read_image(word)))
        elif word in examples.PHOTOS:
            found.append(Photo(word, None, load_photo(word)))
        else:
            raise ValueError(f"no such image: {word}; nor is it one of the quickstart's: {', '.join(examples.PHOTOS)}")
    names = [photo.name for photo in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(
            f"several images have the name {', '.join(twice)}, so that one's figure would replace another's"
        )
    return found


def find_source(arguments):
    """A function that makes the case of a photo, the loss's settings, and where the probabilities are from."""
    settings = dict(DEFAULTS)
    if arguments.labels:
        make_case = lambda photo: case_of_labels(photo, arguments)  # noqa: E731
        origin = f"labels made soft, confidence {arguments.confidence:g}, blurred by {arguments.blur:g} pixels"
    elif arguments.probabilities:
        make_case = lambda photo: case_of_array(photo, arguments)  # noqa: E731
        origin = arguments.probabilities.name
    else:
        net = load_net(arguments)
        settings = {name: getattr(net, name) for name in DEFAULTS}
        make_case = lambda photo: Case(*net.predict(photo.pixels), None)  # noqa: E731
        origin = f"{Path(arguments.model).name}, {Path(arguments.weights).name}"
        score = f"softmax of {net.score!r}" if net.score else "from no Softmax layer: the score gradient is a softmax's"
        print(f"layer {net.layer!r}: image {net.image!r}, probabilities {net.probability!r} ({score})", file=sys.stderr)
    for name in ("bi_xy_std", "bi_rgb_std"):
        if getattr(arguments, name):
            settings[name] = getattr(arguments, name)[0]
    if arguments.loss_weight is not None:
        settings["loss_weight"] = arguments.loss_weight
    if not settings["loss_weight"] > 0:
        raise ValueError(
            f"the layer {net.layer!r} has the loss_weight {settings['loss_weight']:g}, so that its gradient is none; "
            "--loss_weight replaces it"
        )
    settings["exact_gradient"] |= arguments.exact_gradient
    return make_case, settings, origin


def load_net(arguments):
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
    if not arguments.model:
        arguments.model = QUICKSTART / "trainwithdensecrfloss.prototxt"
        arguments.weights = train_quickstart()
    return LossNet(arguments.model, arguments.weights, arguments.layer, arguments.mean)


def train_quickstart():
    """The weights after the quickstart's phase one, which is run if there are none."""
    path = QUICKSTART / "output" / "phase_one.caffemodel"
    if path.is_file():
        return path
    print(f"no {path} yet: training the quickstart's network once, a minute or two", file=sys.stderr)
    if str(QUICKSTART) not in sys.path:
        sys.path.insert(0, str(QUICKSTART))
    import run

    path.parent.mkdir(exist_ok=True)
    before = os.getcwd()
    os.chdir(QUICKSTART)  # its solvers name their nets relative to there
    try:
        solver, source, title = run.TRAININGS["phase_one"]
        run.train(solver, source, path, title, quick=False)
    finally:
        os.chdir(before)
    return path


def as_blob(photo, arguments):
    return np.ascontiguousarray(
        (photo.pixels - np.float32(arguments.mean or surgery.MEAN)).transpose(2, 0, 1), np.float32
    )


def beside(path, photo, suffixes):
    """The file that belongs to a photo: the path itself, or in that folder the one with the photo's name."""
    if not path.is_dir():
        return path
    candidates = [path / f"{photo.name}{suffix}" for suffix in suffixes]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise ValueError(f"nothing for the image {photo.name}: no {' or '.join(map(str, candidates))}")


def case_of_labels(photo, arguments):
    path = beside(arguments.labels, photo, [".png"])
    label = read_label(path)
    check_size(path, label.shape, photo)
    known = label != voc.IGNORE
    most = int(label[known].max()) + 1 if known.any() else 1
    if arguments.names:
        n_classes = len(arguments.names)
    elif photo.path is None:
        n_classes = len(examples.CLASSES)
    else:
        n_classes = max(most, len(voc.CLASSES))
    if most > n_classes:
        raise ValueError(f"{path} has the label {most - 1}, but there are {n_classes} names of classes")
    probabilities = soften(label, n_classes, arguments.confidence, arguments.blur)
    return Case(as_blob(photo, arguments), probabilities, label.shape, label)


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


def case_of_array(photo, arguments):
    path = beside(arguments.probabilities, photo, [".npy", ".npz", "_gradient.npz"])
    probabilities = read_probabilities(path)
    check_size(path, probabilities.shape[1:], photo)
    return Case(as_blob(photo, arguments), probabilities, probabilities.shape[1:], None)


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


def check_size(path, shape, photo):
    if tuple(shape) != photo.pixels.shape[:2]:
        height, width = photo.pixels.shape[:2]
        raise ValueError(f"{path} is {shape[1]} x {shape[0]}, but the image {photo.name} {width} x {height}")


def class_names(arguments, photos, n_classes):
    """The names of all classes."""
    quickstart = examples.CLASSES
    if arguments.names:
        if len(arguments.names) != n_classes:
            raise ValueError(f"--names: expected {n_classes} names, found {len(arguments.names)}")
        return arguments.names
    is_quickstart = (
        all(photo.path is None for photo in photos) or Path(arguments.model or "").resolve().parent == QUICKSTART
    )
    if is_quickstart and n_classes == len(quickstart):
        return list(quickstart)
    return [voc.class_name(label, n_classes) for label in range(n_classes)]


def shown_classes(arguments, case, names):
    """The numbers of the classes to show, in order: those asked for, else those that are present, the largest ones."""
    if arguments.classes:
        shown = []
        for word in arguments.classes:
            label = names.index(word) if word in names else int(word) if word.isdigit() else -1
            if not 0 <= label < len(names):
                raise ValueError(f"--classes: expected names or numbers of {', '.join(names)}, found {word!r}")
            shown.append(label)
        return list(dict.fromkeys(shown))
    label = visible(case.probabilities, case).argmax(axis=0) if case.label is None else case.label[case.label != 255]
    areas = np.bincount(label.ravel(), minlength=len(names))
    largest = sorted(np.flatnonzero(areas > 0.002 * label.size), key=lambda k: -areas[k])[:MOST_ROWS]
    return sorted(map(int, largest)) or [0]


def visible(array, case):
    """An array (..., H, W) without the padding."""
    return array[..., : case.size[0], : case.size[1]]


def compute(photo, case, names, settings, origin):
    gradients = densecrf_gradients(
        case.image,
        case.probabilities,
        **{name: settings[name] for name in DEFAULTS},
    )
    pixels = photo.pixels
    if pixels.shape[:2] != tuple(case.size):  # the loss works at another resolution
        cv2 = import_cv2()
        pixels = cv2.resize(pixels, case.size[::-1], interpolation=cv2.INTER_AREA)
    arrays = (visible(array, case) for array in (case.probabilities, gradients.score, gradients.probability))
    value = gradients.value + 0.0  # no -0
    return figures.Result(photo.name, pixels[:, :, ::-1], case.label, *arrays, value, names, settings, origin)


def write_result(photo, case, names, settings, origin, arguments):
    result = compute(photo, case, names, settings, origin)
    shown = shown_classes(arguments, case, names)
    figure = figures.draw_result(result, shown, arguments.width)
    path = save(figure, photo, "gradient", arguments)
    weight = settings["loss_weight"]
    print(f"{path}: loss {result.loss:.6g}, times {weight:g}: {result.loss * weight:.6g}")
    if arguments.npz:
        np.savez_compressed(
            arguments.output / f"{photo.name}_gradient.npz",
            image=visible(case.image, case),
            probability=result.probabilities,
            score_gradient=result.score,
            probability_gradient=result.probability,
            loss=result.loss,
            classes=np.array(names),
            **settings,
        )
    if arguments.original_names:
        write_original_names(result, shown, arguments.output / photo.name)


def write_original_names(result, shown, folder):
    """``Nprob.png`` (0 black, 1 white) and ``Nscorediff.png`` (on one scale) for each class N that is shown."""
    from PIL import Image

    folder.mkdir(exist_ok=True)
    limit = figures.colour_limit(result.score[shown])
    for label in shown:
        Image.fromarray(figures.probability_picture(result.probabilities[label])).save(folder / f"{label}prob.png")
        Image.fromarray(figures.gradient_picture(result.score[label], limit)).save(folder / f"{label}scorediff.png")
    print(f"{folder}: {len(shown)} x Nprob.png (0 to 1) and Nscorediff.png (-{limit:.3g} to {limit:.3g}, blue to red)")


def write_sweep(photo, case, names, settings, origin, arguments):
    settings = dict(settings, threads=get_num_threads(), runs=RUNS)
    result = compute(photo, case, names, settings, origin)  # compiles the kernels as well, before the clock runs
    shown = shown_classes(arguments, case, names)
    label = shown[0] if arguments.classes else max(shown, key=lambda k: (k > 0, result.probabilities[k].sum()))
    trials = []
    for bi_xy_std in sweep_values(arguments, "bi_xy_std"):
        for bi_rgb_std in sweep_values(arguments, "bi_rgb_std"):
            tried = dict(settings, bi_xy_std=bi_xy_std, bi_rgb_std=bi_rgb_std)
            seconds = []
            for _ in range(RUNS):
                start = time.perf_counter()
                values = densecrf_gradients(case.image, case.probabilities, **{name: tried[name] for name in DEFAULTS})
                seconds.append(time.perf_counter() - start)
            gradient = visible(values.score[label], case)
            trials.append(figures.Trial(bi_xy_std, bi_rgb_std, values.value, gradient, min(seconds)))
            print(
                f"{photo.name}: {bi_xy_std:g} / {bi_rgb_std:g}: loss {values.value:.6g}, {1000 * min(seconds):.1f} ms"
            )
    figure = figures.draw_sweep(result, label, trials, arguments.width)
    print(save(figure, photo, "sweep", arguments))


def save(figure, photo, kind, arguments):
    path = arguments.output / f"{photo.name}_{kind}.{arguments.format}"
    quality = {} if arguments.format == "png" else {"quality": 75}
    save_figure(figure, path, pil_kwargs=quality)
    return path


if __name__ == "__main__":
    warnings.formatwarning = lambda message, *_: f"visualize_densecrf_gradient: warning: {message}\n"
    try:
        main()
    except (ImportError, OSError, ValueError, RuntimeError) as error:
        sys.exit(f"visualize_densecrf_gradient: {error}")
