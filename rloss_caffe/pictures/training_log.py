"""Read the curves out of Caffe's training logs. Needs nothing but Python.

A log is what a solver writes to standard error. Anything may stand between its lines: other programs' output, halves of
lines, the end of another run.
"""

import os
import re

__all__ = ["ACCURACIES", "TrainingLog", "read_log", "read_logs"]

# SegAccuracy's three values, in their order.
ACCURACIES = ("pixel_accuracy", "mean_recall", "mean_jaccard")

_NUMBER = r"([-+]?(?:nan|inf|\d+\.?\d*(?:e[-+]?\d+)?))"
# Greedy at the start: where two writers' lines run into each other, only the second one is whole.
_PREFIX = re.compile(r".*[IWEF](?:\d{8}|\d{4}) \d\d:\d\d:\d\d\.\d+ +(\d+) [^\]\s]+:\d+\] ?(.*)")
_PROGRESS = re.compile(rf"Iteration (\d+)(?: \([^()]*\))?, (loss|lr) = {_NUMBER}$")
_TESTING = re.compile(r"Iteration (\d+), Testing net \(#(\d+)\)$")
_TEST_LOSS = re.compile(rf"Test loss: {_NUMBER}$")
_NAME = r"(\S(?:(?! = ).)*)"  # up to the first " = ": a mangled rest is no part of it
_OUTPUT = re.compile(rf"(Train|Test) net output #(\d+): {_NAME} = {_NUMBER}(?: \(\* {_NUMBER} = {_NUMBER} loss\))?$")
_SETTING = re.compile(r'(net|train_net|snapshot_prefix): "(.*)"$')
_BEGINNINGS = ("Iteration ", "Train net output", "Test net output", "Test loss")
_LAYER_LINE = re.compile(r'\s*(type|top|layer): "(.*)"$')


class TrainingLog:
    """The curves of one training.

    Attributes
    ----------
    name : str
        The solver's ``snapshot_prefix`` without its folder, else the net's file name, else empty.
    iterations : list of int
        Ascending, each once.
    columns : dict of str to list
        For each curve one value an iteration, ``None`` where the log has none there. Values may be nan or inf.
        The names: ``total_loss``; ``lr``; ``train/NAME`` for each output of the training net, and
        ``train/NAME/weighted`` for its part of the total loss where it is a loss; ``test/NAME`` of the first test net,
        ``test1/NAME`` of the second; ``test/total_loss``. An output of several values has one column each:
        ``train/NAME/pixel_accuracy``, ``/mean_recall`` and ``/mean_jaccard`` for SegAccuracy, else ``/0``, ``/1`` ...
    weights : dict of str to float
        The loss weight of each ``train/NAME`` that is a loss; the last one in the log.
    layer_types : dict of str to str
        From an output's NAME to the type of the layer that made it, as far as the log shows the nets; for a Python
        layer its class.
    restarts : list of (int, int)
        Where the training went back: from and to which iteration. Later values have replaced the earlier ones.
    """

    def __init__(self, name, iterations, columns, weights, layer_types, restarts):
        self.name, self.iterations, self.columns = name, iterations, columns
        self.weights, self.layer_types, self.restarts = weights, layer_types, restarts

    def series(self, column):
        """A curve without its gaps: (list of iterations, list of values); empty if there is no such column."""
        pairs = [pair for pair in zip(self.iterations, self.columns.get(column, ())) if pair[1] is not None]
        return [iteration for iteration, _ in pairs], [value for _, value in pairs]


def read_log(source):
    """Read the one training of a log.

    Parameters
    ----------
    source : path or iterable of str
        A log file, or its lines.

    Returns
    -------
    TrainingLog

    Raises
    ------
    ValueError
        The log shows no training at all, or several.
    OSError
        The file cannot be read.
    """
    logs = read_logs(source)
    where = f"{os.fspath(source)}: " if isinstance(source, (str, os.PathLike)) else ""
    if not logs:
        raise ValueError(
            f"{where}no training found, that is no line such as 'Iteration 20, loss = 1.2'. Caffe logs to standard "
            "error (caffe train ... 2>&1 | tee FILE), only with GLOG_minloglevel=0 and the solver's display above 0"
        )
    if len(logs) > 1:
        names = ", ".join(log.name or "unnamed" for log in logs)
        raise ValueError(f"{where}expected one training, found {len(logs)}: {names}; read_logs gives them all")
    return logs[0]


def read_logs(source):
    """Read every training of a log, in the order of their beginnings.

    Solvers with another net or snapshot prefix are trainings of their own, also where two processes write to one file
    at a time. The same solver again is a restart, with or without a snapshot: from the iteration it goes back to, the
    later values count.

    Parameters, errors: see `read_log`; but a log without a training gives an empty list.
    """
    if not isinstance(source, (str, os.PathLike)):
        return _Reader().read(source)
    with open(source, encoding="utf-8", errors="replace") as file:
        return _Reader().read(_whole_lines(file))


def _whole_lines(file):
    """All lines but a last one that is still being written: half of a number is another number."""
    return (line for line in file if line.endswith("\n"))


class _Reader:
    """Goes through the lines once."""

    def __init__(self):
        self._trainings = []
        self._starting = {}  # thread: settings of a solver that has not logged anything yet
        self._of_thread = {}
        self._current = None
        self._has_prefixes = False
        self._dump = None  # takes the lines of a prototxt that is being printed

    def read(self, lines):
        for line in lines:
            self._line(line.rstrip())
        return [training.finish() for training in self._trainings if training.rows]

    def _line(self, line):
        match = _PREFIX.match(line)
        if match:
            self._has_prefixes = True
            self._dump = None
            self._message(match.group(1), match.group(2).strip())
        elif self._dump:
            self._dump(line)
        elif not self._has_prefixes:  # a log whose prefixes were cut off; in others such lines are not Caffe's
            self._message("", line.strip())

    def _message(self, thread, message):
        if message.startswith("Initializing solver from parameters"):
            self._starting[thread] = settings = {}
            self._dump = lambda line: _read_setting(line, settings)
        elif message.startswith("Initializing net from parameters"):
            self._dump = _LayerTypes(self._training(thread).layer_types)
        elif message.startswith(_BEGINNINGS):
            self._training(thread).message(message)

    def _training(self, thread):
        """The training a thread's lines belong to; an unknown thread goes on with the one before."""
        if thread in self._starting:
            training = self._start(self._starting.pop(thread))
        else:
            training = self._of_thread.get(thread) or self._current or self._start({})
        self._of_thread[thread] = self._current = training
        return training

    def _start(self, settings):
        for training in self._trainings:
            if training.settings == settings:
                return training
        self._trainings.append(_Training(settings))
        return self._trainings[-1]


def _read_setting(line, settings):
    match = _SETTING.match(line)
    if match:
        settings[match.group(1)] = match.group(2)


class _LayerTypes:
    """Collects from a net's printed prototxt which layer type makes which top."""

    def __init__(self, types):
        self._types, self._type, self._tops = types, "", []

    def __call__(self, line):
        if line.startswith("layer {"):
            self._type, self._tops = "", []
        match = _LAYER_LINE.match(line)
        if not match:
            return
        key, value = match.groups()
        if key == "top":
            self._tops.append(value)
        else:  # "layer" is a Python layer's class and comes after its type
            self._type = value
        for top in self._tops:
            self._types[top] = self._type


class _Training:
    """What is known of one training while the log is being read."""

    def __init__(self, settings):
        self.settings = settings
        self.layer_types = {}
        self.rows = {}  # iteration: {(phase, number of the output, name, "" or "weighted"): value}
        self._weights = {}
        self._restarts = []
        self._last = -1
        self._row = None
        self._test_net = None

    def message(self, message):
        for pattern, action in (
            (_PROGRESS, self._progress),
            (_OUTPUT, self._output),
            (_TESTING, self._testing),
            (_TEST_LOSS, self._test_loss),
        ):
            match = pattern.match(message)
            if match:
                action(*match.groups())
                return

    def _go_to(self, iteration):
        if iteration < self._last:
            self._restarts.append((self._last, iteration))
            self.rows = {old: row for old, row in self.rows.items() if old < iteration}
        self._last = iteration
        self._row = self.rows.setdefault(iteration, {})

    def _progress(self, iteration, key, value):
        self._go_to(int(iteration))
        self._row["", 0, "total_loss" if key == "loss" else "lr", ""] = float(value)

    def _testing(self, iteration, net):
        self._go_to(int(iteration))
        self._test_net = "test" if net == "0" else f"test{net}"

    def _test_loss(self, value):
        if self._test_net:
            self._row[self._test_net, -1, "total_loss", ""] = float(value)

    def _output(self, phase, number, name, value, weight, weighted):
        phase = "train" if phase == "Train" else self._test_net
        if self._row is None or phase is None:
            return  # the log's beginning is missing
        self._row[phase, int(number), name, ""] = float(value)
        if weight is not None:
            self._row[phase, int(number), name, "weighted"] = float(weighted)
            if phase == "train":
                self._weights[name] = float(weight)

    def finish(self):
        iterations = sorted(self.rows)
        keys = {key for row in self.rows.values() for key in row}
        numbers = {}
        for phase, number, name, _ in sorted(keys):
            if number not in numbers.setdefault((phase, name), []):
                numbers[phase, name].append(number)
        columns = {}
        for key in sorted(keys, key=_order):
            column = self._column(key, numbers[key[0], key[2]])
            columns[column] = [self.rows[iteration].get(key) for iteration in iterations]
        net = os.path.splitext(os.path.basename(self.settings.get("train_net") or self.settings.get("net", "")))[0]
        name = os.path.basename(self.settings.get("snapshot_prefix", "")) or net
        return TrainingLog(name, iterations, columns, self._weights, self.layer_types, self._restarts)

    def _column(self, key, numbers):
        phase, number, name, kind = key
        parts = [phase, name]
        if len(numbers) > 1:
            place = numbers.index(number)
            parts.append(ACCURACIES[place] if self._is_accuracy(name, numbers) else str(place))
        return "/".join(part for part in [*parts, kind] if part)

    def _is_accuracy(self, name, numbers):
        """By the layer's type where the log shows it, else by the name."""
        known = self.layer_types.get(name)
        return len(numbers) == len(ACCURACIES) and (known == "SegAccuracy" if known else "acc" in name.lower())


def _order(key):
    """Columns in a reader's order: the totals, the training net's outputs by number, the test nets'."""
    phase, number, name, kind = key
    return {"": 0, "train": 1}.get(phase, 2), phase, number, name != "total_loss", name, kind
