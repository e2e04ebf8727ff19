#!/usr/bin/env python
"""Draw the curves of Caffe's training logs, and write them as a table.

Usage:
  python tools/plot_training.py train.log
  python tools/plot_training.py ours.log baseline.log --labels ours baseline --output curves.svg
  python tools/plot_training.py --join phase1.log phase2.log --smooth 20 --csv curves.csv

One panel a curve: total loss; every loss of the net as it counts in the total, that is times its weight; learning
rate; the accuracies; other outputs. One colour a run, thin as logged and thick smoothed. A log of several solvers
gives several runs; where a training was restarted, the later values count. Put logs before --join and --labels.
"""

import argparse
import csv
import math
import statistics
import sys
from collections import namedtuple
from pathlib import Path

from rloss_caffe.pictures.pyplot import import_pyplot
from rloss_caffe.pictures.training_log import read_log, read_logs

# Colour-blind-safe (Okabe and Ito), strongest first; yellow is too pale for lines.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000"]
DASHES = ["-", (0, (6, 2)), (0, (2, 2))]  # all colours again with each of them
STRIPES = (0, (4, 4))  # over a curve that another run has too, such as a common first phase: both colours show
ACCURACY_TITLES = {
    "pixel_accuracy": "pixel accuracy",
    "mean_recall": "mean recall of classes",
    "mean_jaccard": "mean Jaccard index (mIoU over all classes)",
}
LOSS_TITLES = {"SoftmaxWithLoss": "cross-entropy", "DenseCRFLoss": "DenseCRF loss"}
DEFAULT_OUTPUT = Path("training.png")
FEW = 40  # curves of up to so many points show them

# log: TrainingLog; offset: what is added to its iterations on the axis.
Phase = namedtuple("Phase", "log offset")
Run = namedtuple("Run", "label phases")


def main():
    arguments = parse_arguments()
    runs = read_runs(arguments.logs, arguments.join, arguments.labels)
    for run in runs:
        report(run)
    if arguments.csv:
        write_table(arguments.csv, runs)
    if arguments.output or not arguments.csv:
        output = arguments.output or DEFAULT_OUTPUT
        figure = draw(runs, arguments.smooth, arguments.smoothing)
        figure.savefig(output, dpi=100)
        print(f"wrote {output}", file=sys.stderr)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
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
        "--output", type=Path, help=f"picture; its suffix says which kind: .png, .svg, .pdf; default {DEFAULT_OUTPUT}"
    )
    parser.add_argument("--csv", metavar="FILE", help="write a table (- is standard output); alone, no picture is made")
    arguments = parser.parse_args()
    if not arguments.logs and not arguments.join:
        parser.error("give at least one log")
    if arguments.smooth is not None and arguments.smooth < 1:
        parser.error(f"--smooth must be >= 1, found {arguments.smooth}")
    return arguments


def read_runs(paths, joins=(), labels=None):
    """The runs of single logs (one a solver in them), then those that are joined of several logs."""
    runs = []
    stems = [path.stem for path in paths]
    for path in paths:
        logs = read(path)
        for number, log in enumerate(logs, 1):
            name = path.stem if stems.count(path.stem) == 1 else str(path)
            if len(logs) > 1:
                name += f", {log.name or f'solver {number}'}"
            runs.append(Run(name, join([log])))
    for group in joins:
        runs.append(Run(" + ".join(path.stem for path in group), join([log for path in group for log in read(path)])))
    if labels:
        if len(labels) != len(runs):
            raise ValueError(
                f"expected {len(runs)} labels, one a run ({', '.join(r.label for r in runs)}), found {len(labels)}"
            )
        runs = [Run(label, run.phases) for label, run in zip(labels, runs)]
    return runs


def read(path):
    logs = read_logs(path) or [read_log(path)]  # the latter says what is missing
    for log in logs:
        for before, after in log.restarts:
            print(f"{path}: restarted at iteration {after} after {before}; the later values count", file=sys.stderr)
    return logs


def join(logs):
    """Phases one after the other; one whose own iterations go on where the last ended stays where it is."""
    phases, end = [], 0
    for log in logs:
        offset = 0 if log.iterations[0] >= end else end
        phases.append(Phase(log, offset))
        end = offset + log.iterations[-1]
    return phases


def report(run):
    """One line on how the run ended."""
    log, offset = run.phases[-1]
    words = [f"{run.label}: {offset + log.iterations[-1]} iterations"]
    for column in log.columns:
        if column == "total_loss":
            words.append(f"total loss {log.series(column)[1][-1]:.4g} at the end")
        elif column.startswith("test") and column.endswith("/mean_jaccard"):
            words.append(f"{column} {100 * log.series(column)[1][-1]:.2f} %")
    print(", ".join(words), file=sys.stderr)


def write_table(path, runs):
    """CSV: a line for each iteration that is in the log; empty fields where it has no value."""
    columns = list(dict.fromkeys(name for run in runs for phase in run.phases for name in phase.log.columns))
    file = sys.stdout if path == "-" else open(path, "w", newline="", encoding="utf-8")  # noqa: SIM115
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["run", "phase", "iteration", "iteration_on_axis", *columns])
    for run in runs:
        for number, (log, offset) in enumerate(run.phases, 1):
            for index, iteration in enumerate(log.iterations):
                values = [log.columns[name][index] if name in log.columns else None for name in columns]
                writer.writerow([run.label, number, iteration, iteration + offset, *values])
    if file is not sys.stdout:
        file.close()


def smooth(values, window, kind):
    """A curve of the same length; values that are not finite do not count, and have nothing in their place."""
    result, average = [], None
    for index, value in enumerate(values):
        if not math.isfinite(value):
            result.append(math.nan)
        elif kind == "ema":
            average = value if average is None else average + 2 / (window + 1) * (value - average)
            result.append(average)
        else:
            around = values[max(0, index - (window - 1) // 2) : index + window // 2 + 1]
            result.append(statistics.median(v for v in around if math.isfinite(v)))
    return result


def panels(runs):
    """What is drawn: a list of (title, columns, factor); the first column's line is solid, the others' dashed."""
    logs = [phase.log for run in runs for phase in run.phases]
    columns = list(dict.fromkeys(name for log in logs for name in log.columns))
    types = {name: kind for log in logs for name, kind in log.layer_types.items()}
    weights = {}
    for log in logs:
        for name, weight in log.weights.items():
            weights.setdefault(name, set()).add(weight)
    found = {}
    for column in columns:
        found.setdefault(column.partition("/")[2] or column, []).append(column)
    losses, accuracies, others = [], [], []
    for rest, names in found.items():
        name, _, part = rest.rpartition("/")
        if part == "weighted":
            kind = LOSS_TITLES.get(types.get(name)) or ("DenseCRF loss" if "crf" in name.lower() else "")
            times = " or ".join(f"{weight:g}" for weight in sorted(weights.get(name, ())))
            title = name + (f" ({kind})" if kind else "") + (f", times {times}" if times not in ("", "1") else "")
            losses.append((title, names, 1))
        elif part in ACCURACY_TITLES:
            accuracies.append((f"{ACCURACY_TITLES[part]}, %", names, 100))
        elif rest not in ("total_loss", "lr") and f"{rest}/weighted" not in found:
            others.append((rest, names, 1))
    first = [("total loss", found["total_loss"], 1)] if "total_loss" in found else []
    rate = [("learning rate", ["lr"], 1)] if "lr" in found else []
    return first + losses + rate + accuracies + others


def draw(runs, window=None, kind="median"):
    """The figure: a matplotlib Figure with one axes a panel."""
    pyplot = import_pyplot("; --csv works without it")
    from matplotlib.lines import Line2D

    plan = panels(runs)
    rows = (len(plan) + 1) // 2
    figure = pyplot.figure(figsize=(12, 2.9 * rows + 0.9), layout="constrained")
    grid = figure.add_gridspec(rows, 2)
    first, styles = None, {}
    for index, (title, columns, factor) in enumerate(plan):
        alone = index == len(plan) - 1 and index % 2 == 0  # takes the whole row
        place = grid[index // 2, :] if alone else grid[index // 2, index % 2]
        axes = first = figure.add_subplot(place, sharex=first)
        is_rate = columns == ["lr"]  # exact, there is nothing to smooth
        draw_panel(axes, runs, columns, factor, 1 if is_rate else window, kind, styles)
        if is_rate and spans_decades(runs):
            axes.set_yscale("log")
            title += " (logarithmic scale)"
        axes.set_title(title, fontsize=11, loc="left")
        axes.grid(color="0.9")
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        if index >= len(plan) - 2 - len(plan) % 2:  # the lowest of both columns
            axes.set_xlabel("iteration")
    handles = [
        Line2D([], [], color=colour, linestyle=dash, linewidth=2, label=run.label)
        for run, (colour, dash) in zip(runs, looks())
    ]
    handles += [Line2D([], [], color="0.4", label=label, **style) for label, style in styles.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 4), frameon=False)
    return figure


def looks():
    """Colours and dashes for the runs."""
    while True:
        for dash in DASHES:
            for colour in COLOURS:
                yield colour, dash


def spans_decades(runs):
    rates = [rate for run in runs for phase in run.phases for rate in phase.log.series("lr")[1]]
    return min(rates) > 0 and max(rates) / min(rates) >= 10


def draw_panel(axes, runs, columns, factor, window, kind, styles):
    """All runs' curves in one panel; `styles` collects the legend's entries for what was drawn."""
    drawn = []
    for run, (colour, dash) in zip(runs, looks()):
        starts = {}  # a phase that was stopped before its first line starts where the next one does
        for number, (log, offset) in enumerate(run.phases[1:], 2):
            starts.setdefault(offset or log.iterations[0], []).append(str(number))
        for start, numbers in starts.items():
            mark_phase(axes, ", ".join(numbers), start, colour)
        for log, offset in run.phases:
            for column in columns:
                iterations, values = log.series(column)
                if iterations:
                    x = [iteration + offset for iteration in iterations]
                    y = [factor * value for value in values]
                    is_test = column.startswith("test")
                    look = STRIPES if (x, y) in drawn else dash
                    drawn.append((x, y))
                    draw_curve(axes, x, y, colour, look, is_test, window, kind, styles)


def draw_curve(axes, x, y, colour, dash, is_test, window, kind, styles):
    size = window or max(1, len(y) // 25)
    finite = [value if math.isfinite(value) else math.nan for value in y]
    marker = ("o" if is_test else ".") if is_test or len(y) <= FEW else ""
    style = {"color": colour, "linestyle": dash, "marker": marker, "markersize": 5}
    if is_test:
        axes.plot(x, finite, **style, linewidth=1.2, markerfacecolor="white", zorder=3)
        styles["test"] = {"linewidth": 1.2, "marker": "o", "markersize": 5, "markerfacecolor": "white"}
    elif size > 1:
        axes.plot(x, finite, **style, linewidth=0.7, alpha=0.45)
        axes.plot(x, smooth(finite, size, kind), color=colour, linestyle=dash, linewidth=2)
        name = "running median" if kind == "median" else "moving average"
        styles["training, as logged"] = {"linewidth": 0.7, "alpha": 0.6}
        styles[f"training, {name}{f' of {window} points' if window else ''}"] = {"linewidth": 2}
    else:
        axes.plot(x, finite, **style, linewidth=1.5)
    bad = [position for position, value in zip(x, y) if not math.isfinite(value)]
    if bad:  # nan and inf have no height; hiding them would hide that a training diverged
        top = axes.get_xaxis_transform()
        axes.plot(bad, [0.97] * len(bad), "x", color=colour, markersize=6, transform=top, label="not finite")
        styles["nan or inf"] = {"marker": "x", "linestyle": "none"}


def mark_phase(axes, numbers, x, colour):
    axes.axvline(x, color=colour, linewidth=1, linestyle=":")
    axes.annotate(
        f"phase {numbers}",
        (x, 1),
        (3, -2),
        xycoords=axes.get_xaxis_transform(),
        textcoords="offset points",
        ha="left",
        va="top",
        fontsize=8,
        color=colour,
    )


if __name__ == "__main__":
    try:
        main()
    except (ImportError, OSError, ValueError) as error:
        sys.exit(f"plot_training: {error}")
