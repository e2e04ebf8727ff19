"""Curves of training logs: what belongs to one run, a picture of them, and a table."""

import csv
import math
import re
from collections import namedtuple
from fnmatch import fnmatch
from pathlib import Path

import numpy as np

from rloss_caffe.pictures.figures import check_matplotlib, new_figure
from rloss_caffe.pictures.sheet import plain, shorten
from rloss_caffe.pictures.training_log import read_log, read_logs

__all__ = ["MOST_PANELS", "Phase", "Run", "chosen_panels", "draw", "panels", "read_runs", "smooth", "write_table"]

# Colour-blind-safe (Okabe and Ito), strongest first; yellow is too pale for lines.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000"]
DASHES = ["-", (0, (6, 2)), (0, (2, 2))]  # all colours again with each of them
STRIPES = (0, (4, 4))  # over a curve that another run has too, such as a common first phase: both colours show
TEST_MARKERS = "osD^v*"  # of the first test net, the second ...
ACCURACY_TITLES = {
    "pixel_accuracy": "pixel accuracy",
    "mean_recall": "mean recall of classes",
    "mean_jaccard": "mean Jaccard index (mIoU over all classes)",
}
LOSS_TITLES = {
    "SoftmaxWithLoss": "cross-entropy",
    "DenseCRFLoss": "DenseCRF loss",
    "LocalPottsLoss": "local Potts loss",
    "SizeConstraintLoss": "size constraint",
}
FEW = 40  # curves of up to so many points show them
FINEST = 1000  # places of a curve that are smoothed and drawn; a panel is 600 pixels wide
MOST_PANELS, MOST_RUNS = 40, len(COLOURS) * len(DASHES)
LARGEST = 1e300  # what is further from zero cannot be drawn

# log: TrainingLog; offset: what is added to its iterations on the axis.
Phase = namedtuple("Phase", "log offset")
Run = namedtuple("Run", "label phases")


def loss_title(layer):
    """A loss for readers, of its layer's type: ``"normalized cut loss"`` of NormalizedCutLoss; else ``""``."""
    words = re.findall("[A-Z][a-z]+", layer) if layer.endswith("Loss") else []
    return LOSS_TITLES.get(layer) or " ".join(words).lower()


def read_runs(paths, joins=(), labels=None):
    """The runs of single logs (one a solver in them), then those that are joined of several logs.

    Parameters
    ----------
    paths : sequence of path
    joins : sequence of sequences of path
        The logs of the phases of one run, in order.
    labels : sequence of str, optional
        One a run; by default the logs' file names.

    Returns
    -------
    list of Run

    Raises
    ------
    ValueError
        A log shows no training, or there are not as many labels as runs.
    """
    paths = [Path(path) for path in paths]
    runs = []
    stems = [path.stem for path in paths]
    for path in paths:
        logs = _read(path)
        for number, log in enumerate(logs, 1):
            name = path.stem if stems.count(path.stem) == 1 else str(path)
            if len(logs) > 1:
                name += f", {log.name or f'solver {number}'}"
            runs.append(Run(name, _join([log])))
    for group in joins:
        group = [Path(path) for path in group]
        logs = [log for path in group for log in _read(path)]
        runs.append(Run(" + ".join(path.stem for path in group), _join(logs)))
    if labels:
        if len(labels) != len(runs):
            raise ValueError(
                f"expected {len(runs)} labels, one a run ({', '.join(r.label for r in runs)}), found {len(labels)}"
            )
        runs = [Run(label, run.phases) for label, run in zip(labels, runs)]
    return runs


def _read(path):
    return read_logs(path) or [read_log(path)]  # the latter says what is missing


def _join(logs):
    """Phases one after the other; one whose own iterations go on where the last ended stays where it is."""
    phases, end = [], 0
    for log in logs:
        offset = 0 if log.iterations[0] >= end else end
        phases.append(Phase(log, offset))
        end = offset + log.iterations[-1]
    return phases


def write_table(file, runs):
    """CSV: a line for each iteration that is in a log; empty fields where it has no value."""
    columns = list(dict.fromkeys(name for run in runs for phase in run.phases for name in phase.log.curves))
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["run", "phase", "iteration", "iteration_on_axis", *columns])
    for run in runs:
        for number, (log, offset) in enumerate(run.phases, 1):
            values = zip(*(log.column(name) for name in columns))
            for iteration, row in zip(log.iterations, values):
                writer.writerow([run.label, number, iteration, iteration + offset, *row])


def smooth(x, y, window, kind="median"):
    """A smoothed curve.

    Values that are not finite do not count, and have nothing in their place. Of a curve with more than `FINEST` points
    only so many places are computed: the time grows with the curve's length, not with its square.

    Parameters
    ----------
    x, y : array_like, shape (n,)
    window : int
        Points.
    kind : {"median", "ema"}
        Running median, centred; or exponential moving average, in which a new value has the weight 2 / (window + 1).

    Returns
    -------
    x, y : arrays of at most `FINEST` values
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    places = np.unique(np.linspace(0, len(y) - 1, min(len(y), FINEST)).round().astype(int))
    finite = np.isfinite(y)
    if kind == "ema":
        averages, average = [], math.nan
        for value in y.tolist():
            if math.isfinite(value):
                average = value if math.isnan(average) else average + 2 / (window + 1) * (value - average)
            averages.append(average)
        smoothed = np.array(averages)[places]
    else:
        starts, ends = places - (window - 1) // 2, places + window // 2 + 1
        smoothed = np.array([_median(y[max(start, 0) : end]) for start, end in zip(starts, ends)])
    return x[places], np.where(finite[places], smoothed, np.nan)


def _median(values):
    values = values[np.isfinite(values)]
    return np.median(values) if len(values) else np.nan


def _thin(x, y):
    """A long curve with the lowest and the highest of each stretch: it looks the same, and can be drawn."""
    if len(y) <= 2 * FINEST:
        return x, y
    starts = np.linspace(0, len(y), FINEST, endpoint=False).astype(int)
    finite = np.isfinite(y)
    low = np.minimum.reduceat(np.where(finite, y, np.inf), starts)
    high = np.maximum.reduceat(np.where(finite, y, -np.inf), starts)
    both = np.stack([low, high], axis=1).ravel()
    return np.repeat(x[starts], 2), np.where(np.isfinite(both), both, np.nan)


def panels(runs):
    """What there is to draw: a list of (title, names of curves, factor).

    Total loss; the losses of the net as they count in it; learning rate; the accuracies; other outputs.
    """
    logs = [phase.log for run in runs for phase in run.phases]
    names = list(dict.fromkeys(name for log in logs for name in log.curves))
    types = {name: kind for log in logs for name, kind in log.layer_types.items()}
    weights = {}
    for log in logs:
        for name, weight in log.weights.items():
            weights.setdefault(name, set()).add(weight)
    found = {}
    for name in names:
        found.setdefault(name.partition("/")[2] or name, []).append(name)
    losses, accuracies, others = [], [], []
    for rest, curves in found.items():
        name, _, part = rest.rpartition("/")
        if part == "weighted":
            kind = loss_title(types.get(name, "")) or ("DenseCRF loss" if "crf" in name.lower() else "")
            times = " or ".join(f"{weight:g}" for weight in sorted(weights.get(name, ())))
            title = name + (f" ({kind})" if kind else "") + (f", times {times}" if times not in ("", "1") else "")
            losses.append((title, curves, 1))
        elif part in ACCURACY_TITLES:
            accuracies.append((f"{ACCURACY_TITLES[part]}, %", curves, 100))
        elif rest not in ("total_loss", "lr") and f"{rest}/weighted" not in found:
            others.append((rest, curves, 1))
    first = [("total loss", found["total_loss"], 1)] if "total_loss" in found else []
    rate = [("learning rate", ["lr"], 1)] if "lr" in found else []
    return first + losses + rate + accuracies + others


def chosen_panels(runs, patterns=None):
    """The panels that have a curve which fits one of the patterns, as of file names; all of them by default.

    Raises
    ------
    ValueError
        A pattern fits none.
    """
    plan = panels(runs)
    if not patterns:
        return plan
    names = [name for _, curves, _ in plan for name in curves]
    for pattern in patterns:
        if not any(fnmatch(name, pattern) for name in names):
            raise ValueError(f"no curve fits {pattern!r}; there are {shorten(', '.join(names), 300)}")
    return [panel for panel in plan if any(fnmatch(name, pattern) for name in panel[1] for pattern in patterns)]


def draw(runs, window=None, kind="median", plan=None):
    """A picture of runs, one colour each, thin as logged and thick smoothed.

    Parameters
    ----------
    runs : list of Run
    window : int, optional
        Points that are smoothed over; 1: none; by default 1/25 of the curve.
    kind : {"median", "ema"}
        See `smooth`.
    plan : list, optional
        Some of `panels`; by default all, `MOST_PANELS` at most.

    Returns
    -------
    matplotlib Figure, with one axes a panel
    """
    check_matplotlib()
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    plan = (panels(runs) if plan is None else plan)[:MOST_PANELS]
    pen = _Pen(window, kind)
    rows = (len(plan) + 1) // 2
    longest = max(len(run.label) for run in runs)
    columns = max(1, min(4, 150 // (min(longest, 100) + 8)))
    figure = new_figure(12, 2.9 * rows + 0.7 + 0.2 * -(-len(runs) // columns), layout="constrained")
    grid = figure.add_gridspec(rows, 2)
    first = None
    for index, (title, curves, factor) in enumerate(plan):
        alone = index == len(plan) - 1 and index % 2 == 0  # takes the whole row
        place = grid[index // 2, :] if alone else grid[index // 2, index % 2]
        axes = first = figure.add_subplot(place, sharex=first)
        is_rate = curves == ["lr"]  # exact, there is nothing to smooth
        pen.draw_panel(axes, runs, curves, factor, 1 if is_rate else window)
        if is_rate:
            rates = [rate for run in runs for phase in run.phases for rate in phase.log.series("lr")[1]]
            if _span_decades(rates):
                axes.set_yscale("log")
                title += " (logarithmic scale)"
            elif 0 < max(rates) < LARGEST:
                axes.set_ylim(min(0, 1.1 * min(rates)), 1.1 * max(rates))
        axes.set_title(plain(shorten(title, 165 if alone else 78)), fontsize=11, loc="left")
        axes.grid(color="0.9")
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        if index >= len(plan) - 2 - len(plan) % 2:  # the lowest of both columns
            axes.set_xlabel("iteration")
    first.xaxis.set_major_locator(MaxNLocator(nbins=7, integer=True))
    first.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    figure.legend(handles=pen.legend(runs), loc="outside lower center", ncols=columns, frameon=False)
    return figure


def _looks():
    """Colours and dashes for the runs."""
    while True:
        for dash in DASHES:
            for colour in COLOURS:
                yield colour, dash


def _span_decades(rates):
    return min(rates) > 0 and max(rates) / min(rates) >= 10 and max(rates) < LARGEST


class _Pen:
    """Draws curves, and remembers for the legend what was drawn."""

    def __init__(self, window, kind):
        self._kind = kind
        name = "running median" if kind == "median" else "moving average"
        self._smoothed = f"training, {name}{f' of {window} points' if window else ''}"
        self._styles = {}

    def legend(self, runs):
        from matplotlib.lines import Line2D

        handles = [
            Line2D([], [], color=colour, linestyle=dash, linewidth=2, label=plain(shorten(run.label, 100)))
            for run, (colour, dash) in zip(runs, _looks())
        ]
        tests = [label for label in self._styles if label.startswith("test")]
        only_one = tests == ["test"]
        for label in sorted(self._styles, key=lambda label: (label.startswith("test"), label == "nan or inf")):
            shown = "test net 0" if label == "test" and not only_one else label
            handles.append(Line2D([], [], color="0.4", label=shown, **self._styles[label]))
        return handles

    def draw_panel(self, axes, runs, names, factor, window):
        """All runs' curves in one panel."""
        drawn = []
        for run, (colour, dash) in zip(runs, _looks()):
            starts = {}  # a phase that was stopped before its first line starts where the next one does
            for number, (log, offset) in enumerate(run.phases[1:], 2):
                starts.setdefault(offset or log.iterations[0], []).append(str(number))
            for start, numbers in starts.items():
                _mark_phase(axes, ", ".join(numbers), start, colour)
            for log, offset in run.phases:
                for name in names:
                    iterations, values = log.series(name)
                    if not iterations:
                        continue
                    x, y = np.array(iterations, float) + offset, factor * np.array(values, float)
                    is_known = any(np.array_equal(x, a) and np.array_equal(y, b, True) for a, b in drawn)
                    drawn.append((x, y))
                    self._draw_curve(axes, x, y, colour, STRIPES if is_known else dash, name.partition("/")[0], window)

    def _draw_curve(self, axes, x, y, colour, dash, net, window):
        size = window or max(1, len(y) // 25)
        can_be_drawn = np.abs(np.where(np.isfinite(y), y, np.inf)) < LARGEST
        finite = np.where(can_be_drawn, y, np.nan)
        is_few = len(y) <= FEW
        style = {"color": colour, "linestyle": dash, "markersize": 5}
        if net.startswith("test"):
            number = int(net[4:] or 0)
            look = {"linewidth": 1.2, "marker": TEST_MARKERS[number % len(TEST_MARKERS)]}
            look["markerfacecolor"] = "white" if number % 2 == 0 else colour
            every = None if is_few else max(1, min(len(y), 2 * FINEST) // FEW)
            axes.plot(*_thin(x, finite), **style, **look, markevery=every, zorder=3)
            self._styles["test" if not number else f"test net {number}"] = dict(
                look, markersize=5, markerfacecolor="white" if number % 2 == 0 else "0.4"
            )
        elif size > 1:
            axes.plot(*_thin(x, finite), **style, marker="." if is_few else "", linewidth=0.7, alpha=0.45)
            axes.plot(*smooth(x, finite, size, self._kind), color=colour, linestyle=dash, linewidth=2)
            self._styles["training, as logged"] = {"linewidth": 0.7, "alpha": 0.6}
            self._styles[self._smoothed] = {"linewidth": 2}
        else:
            axes.plot(*_thin(x, finite), **style, marker="." if is_few else "", linewidth=1.5)
        bad = x[~can_be_drawn]
        if len(bad):  # nan and inf have no height; hiding them would hide that a training diverged
            bad = bad[np.unique(np.linspace(0, len(bad) - 1, min(len(bad), FINEST // 5)).astype(int))]
            top = axes.get_xaxis_transform()
            axes.plot(bad, np.full(len(bad), 0.97), "x", color=colour, markersize=6, transform=top, label="not finite")
            self._styles["nan or inf"] = {"marker": "x", "linestyle": "none"}


def _mark_phase(axes, numbers, x, colour):
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
