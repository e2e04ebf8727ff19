#!/usr/bin/env python
"""The quickstart: train a small network on five photographs from scribbles, without and with regularised losses.

Usage: python exper/quickstart/run.py [--loss NAME] [--output FOLDER] [--quick]

Five trainings by Caffe's own solver, all seeded: phase one with partial cross-entropy; phase two, which goes on from
phase one with the DenseCRF loss added, and again with soft self-labelling; the control, which goes on for as long
without them; and full supervision by masks, the upper bound. With --loss one more, phase two with another loss. Prints
the mean IoU of each and writes their weights and one picture a photograph.
"""

import argparse
import os
import time
from pathlib import Path

os.environ.setdefault("GLOG_minloglevel", "2")  # before caffe is loaded: its log would bury ours

import numpy as np
from report import compile_kernels, print_tables, run, write_pictures
from settings import STRIDE, trainings

from rloss_caffe.data.files import replacing
from rloss_caffe.data.progress import progress_bar
from rloss_caffe.datasets import examples

FOLDER = Path(__file__).resolve().parent
SOLVERS = {
    "phase_one": "solver",
    "phase_two": "solverwithdensecrfloss",
    "self_label": "solverwithselflabelloss",
    "control": "solvercontrol",
    "full": "solverfull",
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--loss", metavar="NAME", help="phase two with another loss as well, such as normalized_cut")
    parser.add_argument("--output", type=Path, default=FOLDER / "output", help="folder for weights and pictures")
    parser.add_argument(
        "--quick", action="store_true", help="a few iterations only, to see that all works; written into OUTPUT/quick"
    )
    arguments = parser.parse_args()
    chosen = trainings(arguments.loss)
    output = arguments.output.resolve()
    if arguments.quick:
        output = output / "quick"
    output.mkdir(parents=True, exist_ok=True)
    os.chdir(FOLDER)  # the solvers name their nets relative to here
    start = time.perf_counter()
    compile_kernels()
    solvers = dict(SOLVERS)
    if arguments.loss:
        import net

        solvers[arguments.loss] = net.write_phase_two(arguments.loss, output).with_suffix("")
    weights, results = {}, {}
    for name, training in chosen.items():
        path = output / f"{name}.caffemodel"
        weights[name] = train(solvers[name], weights.get(training.start), path, training.title, arguments.quick)
        results[name] = predict(weights[name])
    print_tables(chosen, results)
    pictures = write_pictures(results, output)
    print(f"\nwrote {len(weights)} weights files and {pictures} pictures into {output}")
    print(f"done in {time.perf_counter() - start:.0f} s")


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
        padded = [-(-size // STRIDE) * STRIDE for size in (height, width)]
        net.blobs["data"].reshape(1, 3, *padded)
        net.blobs["data"].data[...] = 0
        net.blobs["data"].data[0, :, :height, :width] = blob
        net.forward()
        result[photo] = net.blobs["probability"].data[0, :, :height, :width].copy()
    return result


if __name__ == "__main__":
    run(main)
