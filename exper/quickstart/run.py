#!/usr/bin/env python
"""The quickstart: train a small network on five photographs from scribbles, without and with the DenseCRF loss.

Usage: python exper/quickstart/run.py [--loss NAME] [--output FOLDER] [--quick]

Four trainings by Caffe's own solver, all seeded: phase one with partial cross-entropy; phase two, which goes on from
phase one with the DenseCRF loss added; the control, which goes on for as long without it; and full supervision by
masks, the upper bound. With --loss one more, phase two with another loss. Prints the mean IoU of each and writes their
weights and one picture a photograph.
"""

import argparse
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("GLOG_minloglevel", "2")  # before caffe is loaded: its log would bury ours

import numpy as np

from rloss_caffe import densecrf_loss
from rloss_caffe.data.files import replacing
from rloss_caffe.data.progress import progress_bar
from rloss_caffe.datasets import examples
from rloss_caffe.numerics.confusion import ConfusionMatrix
from rloss_caffe.pictures.figures import check_matplotlib

FOLDER = Path(__file__).resolve().parent

# name: (solver, whose weights it starts from, title)
TRAININGS = {
    "phase_one": ("solver", None, "phase one: partial cross-entropy"),
    "phase_two": ("solverwithdensecrfloss", "phase_one", "phase two: with the DenseCRF loss"),
    "control": ("solvercontrol", "phase_one", "control: as long, without it"),
    "full": ("solverfull", None, "full supervision by masks"),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--loss", metavar="NAME", help="phase two with another loss as well, such as normalized_cut")
    parser.add_argument("--output", type=Path, default=FOLDER / "output", help="folder for weights and pictures")
    parser.add_argument(
        "--quick", action="store_true", help="a few iterations only, to see that all works; written into OUTPUT/quick"
    )
    arguments = parser.parse_args()
    output = arguments.output.resolve()
    if arguments.quick:
        output = output / "quick"
    output.mkdir(parents=True, exist_ok=True)
    os.chdir(FOLDER)  # the solvers name their nets relative to here
    start = time.perf_counter()
    compile_kernels()
    trainings = dict(TRAININGS)
    if arguments.loss:
        trainings = with_another(trainings, arguments.loss, output)
    weights, results = {}, {}
    for name, (solver, source, title) in trainings.items():
        weights[name] = train(solver, weights.get(source), output / f"{name}.caffemodel", title, arguments.quick)
        results[name] = predict(weights[name])
    scores = {name: mean_iou(predictions) for name, predictions in results.items()}
    report(trainings, scores, results)
    pictures = write_pictures(results, output)
    print(f"\nwrote {len(weights)} weights files and {pictures} pictures into {output}")
    print(f"done in {time.perf_counter() - start:.0f} s")


def with_another(trainings, loss, output):
    """The trainings and, behind phase two, another phase two with that loss."""
    import net

    others = [name for name in net.LOSSES if name != "densecrf"]
    if loss not in others:
        raise ValueError(f"--loss must be one of {', '.join(others)}, found {loss!r}")
    solver = net.write_phase_two(loss, output).with_suffix("")
    result = {}
    for name, training in trainings.items():
        result[name] = training
        if name == "phase_two":
            result[loss] = str(solver), training[1], f"phase two: with {net.LOSSES[loss].title}"
    return result


def compile_kernels():
    """Let the package compile, and say so, before the first progress bar."""
    images, segmentations = np.full((1, 3, 8, 8), 50.0), np.full((1, len(examples.CLASSES), 8, 8), 0.2)
    densecrf_loss(images, segmentations, 5, 5).gradient()


def train(solver, initial_weights, path, title, quick):
    """Run one of Caffe's solvers to its end, showing how it goes; returns the path of the weights."""
    import caffe

    caffe.set_mode_cpu()
    solver = caffe.get_solver(f"{solver}.prototxt")
    if initial_weights:
        solver.net.copy_from(str(initial_weights))
    iterations = 4 if quick else solver.param.max_iter
    average = None
    start = time.perf_counter()
    with progress_bar(iterations, title, unit="it", leave=False) as bar:
        for _ in range(iterations):
            solver.step(1)
            loss = float(solver.net.blobs["loss"].data)
            if not np.isfinite(loss):
                raise ValueError(f"{title}: the cross-entropy is {loss} after {solver.iter} iterations")
            average = loss if average is None else 0.95 * average + 0.05 * loss
            bar.note({"cross-entropy": f"{average:.4f}"})
            bar.update()
    with replacing(path) as temporary:
        solver.net.save(temporary)
    seconds = time.perf_counter() - start
    print(f"{title:36} {iterations} iterations, {seconds:.0f} s, cross-entropy {average:.4f}", flush=True)
    return path


def predict(weights):
    """Class probabilities of every photograph, {name: (K, H, W)}."""
    import caffe

    net = caffe.Net("test.prototxt", caffe.TEST, weights=str(weights))
    result = {}
    for photo in examples.PHOTOS:
        blob = examples.as_blob(examples.load_photo(photo))
        height, width = blob.shape[1:]
        padded = [-(-size // 4) * 4 for size in (height, width)]  # the network's stride
        net.blobs["data"].reshape(1, 3, *padded)
        net.blobs["data"].data[...] = 0
        net.blobs["data"].data[0, :, :height, :width] = blob
        net.forward()
        result[photo] = net.blobs["probability"].data[0, :, :height, :width].copy()
    return result


def confusion(predictions):
    """Of the classes, over some photographs."""
    result = ConfusionMatrix(len(examples.CLASSES))
    for photo, probabilities in predictions.items():
        result.add(probabilities[None], examples.load_label(photo, "masks")[None], [examples.IGNORE])
    return result


def mean_iou(predictions):
    """Mean IoU in per cent over the classes that occur."""
    return 100 * confusion(predictions).mean_iou()


def report(trainings, scores, results):
    width = max(len(title) + 1 for _, _, title in trainings.values())
    print(f"\n{'IoU in %':{width}}" + "".join(f"{name:>12}" for name in ["mean", *examples.CLASSES]))
    for name, (_, _, title) in trainings.items():
        values = [scores[name], *(100 * confusion(results[name]).class_iou())]
        print(f"{title:{width}}" + "".join(f"{value:12.1f}" for value in values))
    print(f"\n{'mean IoU in % of each photo':{width}}" + "".join(f"{photo:>12}" for photo in examples.PHOTOS))
    for name, (_, _, title) in trainings.items():
        values = [mean_iou({photo: probabilities}) for photo, probabilities in results[name].items()]
        print(f"{title:{width}}" + "".join(f"{value:12.1f}" for value in values))
    gap = scores["full"] - scores["phase_one"]
    print()
    for name in [name for name in trainings if name not in ("phase_one", "control", "full")]:
        gain = scores[name] - scores["phase_one"]
        words = trainings[name][2].split(" with ")[1]
        print(f"{words[0].upper()}{words[1:]} gains {gain:.1f} points over phase one, ", end="")
        print(f"{scores[name] - scores['control']:.1f} over the control.")
        if gap > 0:
            print(f"It closes {100 * gain / gap:.0f} % of the gap of {gap:.1f} points to full supervision.")


def write_pictures(results, output):
    """One picture for each photograph; returns their number, 0 where none can be drawn."""
    from picture import write_picture

    try:
        check_matplotlib()
    except ImportError as error:
        print(f"\nno pictures: {error}")
        return 0
    for photo in examples.PHOTOS:
        write_picture(
            output / f"{photo}.png",
            photo,
            {name: results[name][photo] for name in ("phase_one", "phase_two")},
            {name: mean_iou({photo: results[name][photo]}) for name in ("phase_one", "phase_two", "full")},
        )
    return len(examples.PHOTOS)


if __name__ == "__main__":
    try:
        main()
    except (ImportError, OSError, ValueError, RuntimeError) as error:
        sys.exit(f"quickstart failed: {type(error).__name__}: {error}")
