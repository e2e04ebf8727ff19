"""Make full label maps of scribbles: what their cross entropy plus a loss makes of each photograph, without training.

  rloss-caffe propagate mine --out mine/proposals
      a folder of photographs that strokes were drawn on, as `rloss-caffe draw` has it
  rloss-caffe propagate list/train.txt --data-root VOC2012 --out proposals
      lines of an image and its scribbles, as ImageSegData takes them

Writes DIR/NAME.png, NAME being the scribbles': as large as the photograph, class numbers, VOC's palette. Scribbled
pixels keep their class. With --min-confidence what is less sure is 255, which trainings leave out.

The scores of each photograph start from its strokes, or from a net with --net and --weights, and go down the same
objective as in training. It is the function `rloss_caffe.segment_from_scribbles`, at a quarter of the resolution and
then at full, as the page of `rloss-caffe draw` shows it; with --steps or --scale it is called once. A photograph whose
label map was made with the same settings, after its strokes, is skipped; so the same command goes on after Ctrl-C.
Photographs that are wrong are named, the others done; the exit status is then 1.
"""

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

import numpy as np

from rloss_caffe.commands._losses import add_loss_options, check_options, given_values
from rloss_caffe.commands._net_scores import add_net, check_net, scores_of
from rloss_caffe.data.files import printable
from rloss_caffe.data.lists import read_names
from rloss_caffe.data.progress import progressing
from rloss_caffe.data.reading import read_image, read_label
from rloss_caffe.drawing.folder import IGNORE, Folder, note_in, save_label_map
from rloss_caffe.drawing.previews import coarse_scale
from rloss_caffe.drawing.segment import DEFAULT_PUSH, segment_from_scribbles
from rloss_caffe.losses import LOSSES
from rloss_caffe.numerics.confusion import ConfusionMatrix

__all__ = ["add_arguments", "run"]

EXAMPLE = "rloss-caffe propagate mine --out mine/proposals"


def add_arguments(parser):
    add = parser.add_argument
    add("source", metavar="LIST|FOLDER", help="a list of images and scribbles, or a folder that strokes were drawn in")
    add("--out", required=True, type=Path, metavar="DIR", help="for NAME.png; it may be new")
    add("--data-root", default="", metavar="FOLDER", help="put before every path of the list")
    add("--loss", choices=list(LOSSES), default="densecrf", help="default: densecrf")
    add("--push", type=float, metavar="X", help=f"how hard the loss pushes beside the cross entropy, {DEFAULT_PUSH:g} "
        "by default; the same for every loss")  # fmt: skip
    add("--weight", type=float, metavar="X", help="the loss weight, instead of a push")
    add("--classes", choices=["labelled", "all"], default="labelled", help="which a pixel may have: those of the "
        "photograph's own strokes (default), or all of the net's")  # fmt: skip
    add("--min-confidence", type=float, default=0.0, metavar="P", help="255 where the class is less probable; 0 to 1")
    add("--steps", type=int, metavar="N", help="of a single descent")
    add("--scale", type=float, metavar="S", help="a single descent, at this share of the resolution")
    add_net(parser, "scores start there")
    add("--masks", type=Path, metavar="DIR", help="full masks, NAME.png: tells the mean IoU")
    add("--again", action="store_true", help="make label maps anew that are there, whoever made them")
    add_loss_options(parser)


@dataclass
class Job:
    """A photograph: its name, the files, and what reads pixels (RGB) and strokes."""

    name: str
    image: str
    strokes: str
    read: Callable


def run(arguments):
    """0 if every photograph has its label map."""
    if not 0 <= arguments.min_confidence <= 1:
        raise ValueError(f"--min-confidence must be from 0 to 1, found {arguments.min_confidence:g}")
    if arguments.weight is not None and arguments.push is not None:
        raise ValueError("--weight and --push are two ways to say the same: give one of them")
    if arguments.classes == "all" and not arguments.net:
        raise ValueError("--classes all needs --net and --weights: strokes alone say nothing of other classes")
    check_net(arguments)
    check_options(arguments, [arguments.loss])
    jobs, n_classes = _jobs(arguments)
    if any(os.path.realpath(os.path.dirname(job.strokes)) == os.path.realpath(arguments.out) for job in jobs):
        raise ValueError(f"--out {arguments.out} holds the scribbles themselves: choose another folder")
    settings = _settings(arguments)
    note = json.dumps({**settings, **_marks(arguments)}, sort_keys=True)
    todo = [job for job in jobs if arguments.again or not _is_done(job, arguments.out, note)]
    net = scores_of(arguments.net, arguments.weights, n_classes) if arguments.net and todo else None
    arguments.out.mkdir(parents=True, exist_ok=True)
    errors, done, is_ended = {}, 0, False
    try:
        for job in progressing(todo, "propagating", "image"):
            try:
                pixels, strokes = job.read()
                labels = propagate(pixels, strokes, settings, net, arguments.min_confidence)
                save_label_map(labels, arguments.out / f"{job.name}.png", note)
                done += 1
            except (ValueError, OSError, MemoryError) as error:
                errors[job.name] = _told(job, error)
        is_ended = True
    finally:
        if not is_ended:
            print(f"{done} label maps were made; the same command goes on with the other photographs", file=sys.stderr)
    iou = _mean_iou(jobs, arguments, errors) if arguments.masks else ""
    for text in errors.values():
        print(f"rloss-caffe propagate: {text}", file=sys.stderr)
    there = len(jobs) - len(todo)
    print(
        f"wrote {printable(arguments.out)}: {done} label maps{f', {there} more were there' if there else ''}{iou}; "
        f"{len(errors)} of {len(jobs)} photographs were wrong"
    )
    return 1 if errors else 0


def propagate(pixels, strokes, settings, net, min_confidence):
    """The label map of a photograph (H, W, 3), RGB, with its strokes (H, W): array (H, W), uint8."""
    scores = None if net is None else net(pixels)
    if "scale" not in settings and "steps" not in settings:
        # Coarse first, as the page does: it is quicker, and strokes reach further.
        scale = coarse_scale(strokes.shape)
        scores = segment_from_scribbles(pixels, strokes, scores=scores, scale=scale, **settings)
    found = segment_from_scribbles(pixels, strokes, scores=scores, **settings)
    labels = found.labels
    if min_confidence > 0:
        labels = np.where(found.probabilities.max(axis=0) < min_confidence, IGNORE, labels)
    return np.where(strokes == IGNORE, labels, strokes).astype(np.uint8)


def _settings(arguments):
    """What `segment_from_scribbles` is called with for every photograph."""
    given = given_values(arguments, arguments.loss)
    for name, values in given.items():
        if len(values) > 1:
            raise ValueError(f"{name} must be one number here, found {', '.join(f'{value:g}' for value in values)}")
    options = {name: values[0] for name, values in given.items()}
    names = ("weight", "push", "steps", "scale")
    given = {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
    return {"loss": arguments.loss, "options": options, "classes": arguments.classes, **given}


def _marks(arguments):
    """What else a label map depends on."""
    marks = {"min_confidence": arguments.min_confidence}
    for name in ("net", "weights"):
        path = getattr(arguments, name)
        if path:
            if not os.path.isfile(path):
                raise ValueError(f"--{name}: there is no file {printable(path)}")
            marks[name] = [os.path.realpath(path), os.stat(path).st_mtime_ns]
    return marks


def _jobs(arguments):
    """The photographs, and how many classes they have, if that is known."""
    if os.path.isdir(arguments.source):
        if arguments.data_root:
            raise ValueError("--data-root is for lists: the folder is its own root")
        folder = Folder(arguments.source)
        for problem in folder.problems:
            print(f"rloss-caffe propagate: {problem}", file=sys.stderr)

        def reader(name):
            return lambda: (folder.photo(name), folder.load_labels(name))

        jobs = [
            Job(name, folder.photo_path(name), folder.label_path(name), reader(name))
            for name in folder.names
            if folder.has_labels(name)
        ]
        if not jobs:
            raise ValueError(f"nothing is drawn yet in {printable(folder.path)}: rloss-caffe draw")
        return jobs, len(folder.classes)
    jobs = []
    for entry in read_names(arguments.source, arguments.data_root):
        image, strokes = (os.path.join(arguments.data_root, path) for path in (entry.image, entry.label))
        jobs.append(Job(Path(strokes).stem, image, strokes, _reader(image, strokes)))
    names = [job.name for job in jobs]
    twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if twice:
        raise ValueError(
            f"several scribbles of the list have the name {printable(twice[0])}: one would replace another"
        )
    return jobs, None


def _reader(image, strokes):
    def read():
        pixels, labels = np.ascontiguousarray(read_image(image)[:, :, ::-1]), read_label(strokes)
        if labels.shape != pixels.shape[:2]:
            (h, w), (label_h, label_w) = pixels.shape[:2], labels.shape
            raise ValueError(f"{printable(image)} has {w} x {h} pixels, {printable(strokes)} has {label_w} x {label_h}")
        return pixels, labels

    return read


def _is_done(job, out, note):
    """Whether a label map with these settings is there, and not older than its strokes; of others', ValueError."""
    path = out / f"{job.name}.png"
    try:
        made = os.stat(path).st_mtime_ns
    except OSError:
        return False
    found = note_in(path)
    if not found:
        raise ValueError(
            f"{printable(path)} is there, and this command has not made it: choose another --out, or --again to "
            "replace it"
        )
    try:
        return found == note and os.stat(job.strokes).st_mtime_ns <= made
    except OSError:  # is told when it is read
        return False


def _told(job, error):
    """An error that names the photograph."""
    text = str(error) or type(error).__name__
    return text if printable(job.image) in text or printable(job.strokes) in text else f"{printable(job.image)}: {text}"


def _mean_iou(jobs, arguments, errors):
    """Of the label maps that are there with their masks, in words; errors of masks are added to `errors`."""
    counts, number = ConfusionMatrix(256), 0
    for job in jobs:
        if job.name in errors:
            continue
        path = arguments.masks / f"{job.name}.png"
        try:
            found, mask = read_label(arguments.out / f"{job.name}.png"), read_label(path)
            if mask.shape != found.shape:
                raise ValueError(
                    f"the mask {printable(path)} has {mask.shape[1]} x {mask.shape[0]} pixels, {printable(job.image)} "
                    f"{found.shape[1]} x {found.shape[0]}"
                )
        except ValueError as error:
            errors[job.name] = str(error)
            continue
        is_known = mask != IGNORE
        pairs = mask[is_known].astype(np.int64) * 256 + found[is_known]
        # What is 255 in the label map counts as wrong: it is missing of its class.
        counts.counts[...] += np.bincount(pairs, minlength=256 * 256).reshape(256, 256)
        number += 1
    return f", mean IoU {100 * counts.mean_iou():.2f} % over {number} masks" if number else ""
