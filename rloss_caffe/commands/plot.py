"""Draw the curves of Caffe's training logs, and write them as a table.

  rloss-caffe plot ours.log baseline.log --labels ours baseline --output curves.svg
  rloss-caffe plot --join phase1.log phase2.log --smooth 20 --csv curves.csv

One panel a curve: total loss; every loss of the net as it counts in the total, that is times its weight; learning
rate; the accuracies; other outputs. One colour a run, thin as logged and thick smoothed. A log of several solvers
gives several runs; where a training was restarted, the later values count. Put logs before --join and --labels.
"""

import sys
from pathlib import Path

from rloss_caffe.commands._outputs import FOLDER, output_path, say_written
from rloss_caffe.pictures import curves
from rloss_caffe.pictures.figures import check_matplotlib, save

__all__ = ["add_arguments", "run"]

EXAMPLE = "rloss-caffe plot train.log"
NAME = "training.png"


def add_arguments(parser):
    parser.add_argument("logs", nargs="*", type=Path, metavar="LOG", help="a run each")
    parser.add_argument(
        "--join",
        nargs="+",
        action="append",
        default=[],
        type=Path,
        metavar="LOG",
        help="the phases of one run, one after the other on the axis; may be given several times",
    )
    parser.add_argument("--labels", nargs="+", metavar="NAME", help="of the runs: those of LOG first, then --join's")
    parser.add_argument("--smooth", type=int, metavar="N", help="over N logged points; 1: not; default: 1/25 of them")
    parser.add_argument(
        "--smoothing",
        choices=["median", "ema"],
        default="median",
        help="running median, centred, or exponential moving average, which lags; default median",
    )
    parser.add_argument(
        "--curves", nargs="+", metavar="NAME", help="draw only panels with these, such as total_loss or 'train/*'"
    )
    parser.add_argument(
        "--output", type=Path, help=f"picture; its suffix says which kind: .png, .svg, .pdf; default {FOLDER / NAME}"
    )
    parser.add_argument("--csv", metavar="FILE", help="write a table, too; - is standard output")
    parser.add_argument("--no-picture", action="store_true", help="draw nothing")


def run(arguments):
    """Read all logs before anything is written."""
    if not arguments.logs and not arguments.join:
        raise ValueError("give at least one log")
    if arguments.smooth is not None and arguments.smooth < 1:
        raise ValueError(f"--smooth must be >= 1, found {arguments.smooth}")
    if arguments.no_picture and (arguments.output or not arguments.csv):
        raise ValueError("--no-picture leaves nothing to do: give --csv FILE and no --output")
    if not arguments.no_picture:
        check_matplotlib("; with --csv FILE --no-picture a table is made without it")
    runs = curves.read_runs(arguments.logs, arguments.join, arguments.labels)
    for each in runs:
        _report(each)
    if arguments.csv:
        _write_table(arguments.csv, runs)
    if not arguments.no_picture:
        _draw(arguments, runs)
    return 0


def _report(run):
    """One line on how a run ended, and one for each restart."""
    for log, _ in run.phases:
        for before, after in log.restarts[:3]:
            print(
                f"{run.label}: restarted at iteration {after} after {before}; the later values count", file=sys.stderr
            )
        if len(log.restarts) > 3:
            print(f"{run.label}: and {len(log.restarts) - 3} more restarts", file=sys.stderr)
    log, offset = run.phases[-1]
    words = [f"{run.label}: {offset + log.iterations[-1]} iterations"]
    for name in log.curves:
        if name == "total_loss":
            words.append(f"total loss {log.series(name)[1][-1]:.4g} at the end")
        elif name.startswith("test") and name.endswith("/mean_jaccard"):
            words.append(f"{name} {100 * log.series(name)[1][-1]:.2f} %")
    print(", ".join(words), file=sys.stderr)


def _write_table(path, runs):
    if path == "-":
        curves.write_table(sys.stdout, runs)
        return
    path = output_path(path, "")
    with open(path, "w", newline="", encoding="utf-8") as file:
        curves.write_table(file, runs)
    say_written(path)


def _draw(arguments, runs):
    plan = curves.chosen_panels(runs, arguments.curves)
    if len(plan) > curves.MOST_PANELS:
        print(
            f"drawing the first {curves.MOST_PANELS} of {len(plan)} panels; --curves chooses others, --csv has all",
            file=sys.stderr,
        )
    if len(runs) > curves.MOST_RUNS:
        print(
            f"{len(runs)} runs: only {curves.MOST_RUNS} colours and dashes are there, which now repeat", file=sys.stderr
        )
    figure = curves.draw(runs, arguments.smooth, arguments.smoothing, plan)
    path = output_path(arguments.output, NAME)
    save(figure, path)
    say_written(path)
