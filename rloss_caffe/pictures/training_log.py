"""Read the curves out of Caffe's training logs. Needs nothing but Python.

A log is what a solver writes to standard error. Anything may stand between its lines: other programs' output, halves of
lines, the end of another run. The forms of other Caffes are read, too: NVIDIA's, Windows' numbers, those of 2014.
"""

import codecs
import math
import os
import re
from collections import Counter
from dataclasses import dataclass, field

__all__ = ["ACCURACIES", "TrainingLog", "read_log", "read_logs"]

# SegAccuracy's three values, in their order.
ACCURACIES = ("pixel_accuracy", "mean_recall", "mean_jaccard")
MOST_OUTPUTS, MOST_TRAININGS = 10_000, 1_000  # more different ones are no log of Caffe's
MOST_SIGNATURES = 100  # sets of outputs that are looked at to tell solvers apart
LONGEST_LINE = 1 << 16  # characters; longer ones are not Caffe's, and are left out

# Windows writes 1.#QNAN, -1.#IND, 1.#INF and -nan(ind).
_NUMBER = r"([-+]?(?i:nan(?:\(\w*\))?|inf(?:inity)?|\d\.#[a-z]+\d*|\d+(?:\.\d*)?(?:e[-+]?\d+)?))"
_PREFIX = re.compile(r"[IWEF](?:\d{8}|\d{4}) \d\d:\d\d:\d\d\.\d+ +(\d+) [^\]\s]+:\d+\] *(.*)")
# Greedy at the start: where two writers' lines run into each other, only the second one is whole.
_LAST_PREFIX = re.compile(".*" + _PREFIX.pattern)
# Caffe's iterations have 10 digits at most; in a longer number a line has run into another.
_ITERATION = re.compile(r"Iteration (\d{1,10})(?=[ ,:])")
_VALUES = re.compile(rf", (loss|lr) = {_NUMBER}(?=,|$)")  # NVIDIA's Caffe has more before and behind them
_TESTING = re.compile(r", Testing net(?: \(#(\d{1,6})\))?$")
_TEST_LOSS = re.compile(rf"Test loss: {_NUMBER}$")
_TEST_SCORE = re.compile(rf"Test score #(\d{{1,6}}): {_NUMBER}$")  # Caffe until 2014
_NAME = r"(\S(?:(?! = ).)*)"  # up to the first " = ": a mangled rest is no part of it
_OUTPUT = re.compile(
    rf"(Train|Test) net output #(\d{{1,6}}): {_NAME} = {_NUMBER}(?: \(\* {_NUMBER} = {_NUMBER} loss\))?$"
)
_SETTING = re.compile(r'(net|train_net|snapshot_prefix): "(.*)"$')
_BEGINNINGS = ("Iteration ", "Train net output", "Test net output", "Test loss", "Test score")
_LAYER_LINE = re.compile(r'(?:  (type|top)|    (layer)): "(.*)"$')  # of the layer itself, not of a filler
# What rloss-caffe 0.1 had converted for a fork's prototxt; its name is another one each time.
_TEMPORARY_NET = re.compile(r"(?:.*[\\/])?tmp\w{8}[\\/]+net_\w{8}\.prototxt")


@dataclass
class TrainingLog:
    """The curves of one training.

    Attributes
    ----------
    name : str
        The solver's ``snapshot_prefix`` without its folder, else the net's file name, else empty.
    iterations : list of int
        Those that are in the log: ascending, each once.
    curves : dict of str to (list of int, list of float)
        For each curve the iterations at which the log has a value, and these values. They may be nan or inf.
        The names: ``total_loss``; ``lr``; ``train/NAME`` for each output of the training net, and
        ``train/NAME/weighted`` for its part of the total loss where it is a loss; ``test/NAME`` of the first test net,
        ``test1/NAME`` of the second; ``test/total_loss``. An output of several values has one curve each:
        ``train/NAME/pixel_accuracy``, ``/mean_recall`` and ``/mean_jaccard`` for SegAccuracy, else ``/0``, ``/1`` ...
    weights : dict of str to float
        The loss weight of each ``train/NAME`` that is a loss; the last one in the log.
    layer_types : dict of str to str
        From an output's NAME to the type of the layer that made it, as far as the log shows the nets; for a Python
        layer its class.
    restarts : list of (int, int)
        Where the training went back: from and to which iteration. Later values have replaced the earlier ones.
    """

    name: str
    iterations: list
    curves: dict
    weights: dict
    layer_types: dict
    restarts: list

    def series(self, name):
        """A curve: (list of iterations, list of values); both empty if there is no such curve."""
        return self.curves.get(name, ([], []))

    @property
    def columns(self):
        """The curves as columns of a table: a dict of lists with one value an iteration, ``None`` where none is."""
        return {name: self.column(name) for name in self.curves}

    def column(self, name):
        """One curve with a value for every iteration, ``None`` where the log has none."""
        values = dict(zip(*self.series(name)))
        return [values.get(iteration) for iteration in self.iterations]


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
        The log shows no training at all, or several; or see `read_logs`.
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
    """Read every training of a log, in the order of their first lines.

    Solvers with another net or snapshot prefix are trainings of their own, also where two processes write to one file
    at a time, or one process has several solvers: those are told apart by their outputs. The same solver again is a
    restart, with or without a snapshot: from the iteration it goes back to, the later values count.

    Parameters
    ----------
    source : path or iterable of str
        A log file, or its lines.

    Returns
    -------
    list of TrainingLog
        Empty for a log without a training.

    Raises
    ------
    ValueError
        Several solvers of one process have the same outputs and cannot be told apart; or there are more than 10,000
        outputs. The message has file and line.
    OSError
        The file cannot be read.
    """
    if not isinstance(source, (str, os.PathLike)):
        return _Reader().read(source)
    with open(source, "rb") as file:
        head = file.read(2)  # PowerShell's redirection writes UTF-16
    encoding = "utf-16" if head in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"
    try:
        with open(source, encoding=encoding, errors="replace") as file:
            return _Reader().read(_whole_lines(file))
    except ValueError as error:
        raise ValueError(f"{os.fspath(source)}, {error}") from None


def _whole_lines(file):
    """All lines but a last one that is still being written: half of a number is another number."""
    while True:
        line = file.readline(LONGEST_LINE)
        if len(line) == LONGEST_LINE and not line.endswith("\n"):
            while line and not line.endswith("\n"):
                line = file.readline(LONGEST_LINE)
            line = line and "\n"
        if not line.endswith("\n"):
            return
        yield line


@dataclass
class _Block:
    """What stands below one "Iteration" line."""

    line: int  # number in the file, from 1
    iteration: int
    net: str  # train, test, test1 ...; empty if the line was not understood
    values: dict = field(default_factory=dict)  # {(net, number of the output, name, "" or "weighted"): value}
    weights: list = field(default_factory=list)  # those that changed: (net, name, value)

    def names(self):
        """Of the training net's outputs."""
        return frozenset(name for net, _, name, _ in self.values if net == "train")


@dataclass
class _Epoch:
    """The lines of one thread from the beginning of solvers to the beginning of other ones."""

    trainings: list = field(default_factory=list)
    blocks: list = field(default_factory=list)


class _Reader:
    """Goes through the lines once, deals them out to threads, and in the end the threads' blocks to trainings."""

    def __init__(self):
        self._threads = {}  # thread: _Thread; several may go on with the same one
        self._last = None
        self._has_prefixes = False
        self._dump = None  # takes the lines of a prototxt that is being printed
        self._keys = {}  # each only once in memory
        self._number = 0

    def read(self, lines):
        for self._number, line in enumerate(lines, 1):
            if len(line) <= LONGEST_LINE:
                self._line(line.rstrip())
        known = _Known()
        for thread in dict.fromkeys(self._threads.values()):
            thread.deal_out(known)
        trainings = [training for training in known.trainings if training.blocks]
        for training in trainings:
            training.blocks.sort(key=lambda block: block.line)
        return [training.finish() for training in sorted(trainings, key=lambda each: each.blocks[0].line)]

    def _line(self, line):
        match = _PREFIX.match(line)
        if not match or ":" in match.group(2):  # else no other prefix can be in it: this saves time
            match = _LAST_PREFIX.match(line)
        if match:
            self._has_prefixes = True
            self._dump = None
            self._message(*match.groups())
        elif self._dump:
            self._dump(line)
        elif not self._has_prefixes:  # a log whose prefixes were cut off; in others such lines are not Caffe's
            self._message("", line.strip())

    def _message(self, name, message):
        if message.startswith("Initializing solver from parameters"):
            if name not in self._threads:
                self._threads[name] = _Thread()
            self._last = thread = self._threads[name]
            self._dump = thread.start().read_setting
        elif message.startswith("Initializing net from parameters"):
            self._dump = _LayerTypes(self._thread(name).newest().layer_types)
        elif message.startswith(_BEGINNINGS):
            self._progress(self._thread(name), message)

    def _thread(self, name):
        """A thread that no solver began in goes on with the one before: its log has lost its head."""
        self._last = thread = self._threads.setdefault(name, self._last or _Thread())
        return thread

    def _progress(self, thread, message):
        if message.startswith("Iteration "):
            self._iteration(thread, message[message.rindex("Iteration ") :])
            return
        block = thread.block
        if block is None:
            return  # it is not known to which iteration this belongs
        match = _OUTPUT.match(message)
        if match:
            phase, number, name, value, weight, weighted = match.groups()
            net = "train" if phase == "Train" else block.net
            if phase == "Test" and not net.startswith("test"):
                return
            self._put(thread, (net, int(number), name, ""), value)
            if weight is not None:
                self._put(thread, (net, int(number), name, "weighted"), weighted)
                thread.put_weight((net, name), weight)
        elif block.net.startswith("test"):
            loss, score = _TEST_LOSS.match(message), _TEST_SCORE.match(message)
            if loss:
                self._put(thread, (block.net, -1, "total_loss", ""), loss.group(1))
            elif score:
                self._put(thread, (block.net, int(score.group(1)), "score", ""), score.group(2))

    def _iteration(self, thread, message):
        """A line that names an iteration ends what came before it, also if it is not understood."""
        match = _ITERATION.match(message)
        if not match:
            thread.block = None
            return
        iteration, rest = int(match.group(1)), message[match.end() :]
        testing = _TESTING.match(rest)
        if testing:
            number = int(testing.group(1) or 0)
            thread.begin(_Block(self._number, iteration, f"test{number or ''}"))
            return
        values = dict(_VALUES.findall(rest))
        columns = {("", 0, "total_loss" if key == "loss" else key, ""): value for key, value in values.items()}
        block = thread.block
        goes_on = values and block and block.net == "train" and block.iteration == iteration
        if not goes_on or ("", 0, "total_loss", "") in block.values.keys() & columns.keys():
            thread.begin(_Block(self._number, iteration, "train" if values else ""))
        for key, value in columns.items():
            self._put(thread, key, value)

    def _put(self, thread, key, text):
        block, value = thread.block, _as_float(text)
        if block is None:
            return
        key = self._keys.setdefault(key, key)
        if len(self._keys) > MOST_OUTPUTS:
            raise ValueError(f"line {self._number}: more than {MOST_OUTPUTS} different outputs are in this log")
        before = block.values.setdefault(key, value)
        if before != value and not (math.isnan(before) and math.isnan(value)):
            thread.block = None  # the line with the next iteration is missing


def _as_float(text):
    if "#" in text:
        return math.copysign(math.inf, -1 if text.startswith("-") else 1) if "#INF" in text.upper() else math.nan
    return float(text.partition("(")[0])


class _Thread:
    """What one thread has logged."""

    def __init__(self):
        self._epochs = [_Epoch()]
        self._weights = {}  # (net, name): text
        self.block = None  # the one that the next lines belong to

    def start(self):
        """A solver begins: its training."""
        if self._epochs[-1].blocks:
            self._epochs.append(_Epoch())
        training = _Training()
        self._epochs[-1].trainings.append(training)
        self._weights, self.block = {}, None
        return training

    def newest(self):
        """The training that began last."""
        for epoch in reversed(self._epochs):
            if epoch.trainings:
                return epoch.trainings[-1]
        return self.start()

    def begin(self, block):
        self.block = block
        self._epochs[-1].blocks.append(block)

    def put_weight(self, key, text):
        has_several = len(self._epochs[-1].trainings) > 1
        if self.block and (has_several or self._weights.get(key) != text):
            self._weights[key] = text
            self.block.weights.append((*key, _as_float(text)))

    def deal_out(self, known):
        """Give every block to its training."""
        older = []
        for epoch in self._epochs:
            blocks = [block for block in epoch.blocks if block.values]
            new = list(dict.fromkeys(map(known.same, epoch.trainings)))
            if not blocks:
                continue
            if not new and not older:
                new = [known.same(_Training())]
            older = [training for training in older if training not in new]
            if len(new) + len(older) == 1:
                (new or older)[0].blocks += blocks
            else:
                _tell_apart(older, new or [older.pop()], blocks)
            older += new
            if len(older) > MOST_TRAININGS:
                raise ValueError(f"line {blocks[0].line}: more than {MOST_TRAININGS} trainings are in this log")


class _Known:
    """The trainings of a log, each once: a solver that begins again goes on with its training."""

    def __init__(self):
        self.trainings = []
        self._of_solver, self._of_prefix, self._temporary = {}, {}, {}

    def same(self, training):
        """The training that has this one's solver: one before it, else itself."""
        prefix, nets = training.settings.get("snapshot_prefix"), training.nets()
        is_temporary = any(map(_TEMPORARY_NET.fullmatch, nets))  # such a net may be any
        found = self._of_prefix.get(prefix) if is_temporary else self._of_solver.get((prefix, nets))
        found = found or self._temporary.get(prefix)
        if found:
            found.layer_types.update(training.layer_types)
            return found
        self.trainings.append(training)
        self._of_solver[prefix, nets] = training
        self._of_prefix.setdefault(prefix, training)
        if is_temporary:
            self._temporary[prefix] = training
        return training


def _tell_apart(older, new, blocks):
    """Deal out the blocks of a thread that has several solvers: by their outputs, as nothing else tells."""
    units = _units(blocks)
    groups = _group_by_outputs(units)
    owners = _owners(older, new, groups)
    if owners is None:  # several solvers with the same outputs
        starts = [k for k in range(1, len(units)) if units[k][-1].iteration <= units[k - 1][-1].iteration]
        parts = [units[start:end] for start, end in zip([0, *starts], [*starts, len(units)])]
        if len(parts) == 1:
            new[-1].blocks += blocks
            return
        if len(parts) != len(new):
            names = ", ".join(training.name or "unnamed" for training in new)
            line = units[starts[0]][-1].line
            raise ValueError(
                f"line {line}: {len(new)} solvers of one process, {names}, have the same outputs, so that their lines "
                "cannot be told apart; let each log to a file of its own"
            )
        groups, owners = parts, new
    for group, owner in zip(groups, owners):
        owner.blocks += [block for unit in group for block in unit]


def _units(blocks):
    """Lists of blocks that belong to one solver: what it displays, with the tests before it in the same iteration."""
    units, tests = [], []
    for block in blocks:
        if block.net.startswith("test"):
            tests.append(block)
            continue
        unit = [test for test in tests if test.iteration == block.iteration]
        units += [[test] for test in tests if test.iteration != block.iteration]
        units.append([*unit, block])
        tests = []
    return units + [[test] for test in tests]


def _group_by_outputs(units):
    """Units with the same outputs, or with some of them where lines were lost: lists, in the order of their firsts."""
    signatures = [unit[-1].names() for unit in units]
    common = [names for names, _ in Counter(filter(None, signatures)).most_common(MOST_SIGNATURES)]
    largest = [names for names in dict.fromkeys(signatures) if names in common]
    largest = [names for names in largest if not any(names < other for other in largest)]
    groups = {names: [] for names in largest}
    last = largest[0] if largest else None
    for unit, names in zip(units, signatures):
        if names in groups:
            last = names
        elif names:  # lines were lost
            last = next((other for other in largest if names < other), last)
        groups.setdefault(last, []).append(unit)  # a test alone goes on with what was before
    return list(groups.values())


def _owners(older, new, groups):
    """The training of each group; None if that cannot be told by the outputs."""
    if len(groups) == 1:
        return new if len(new) == 1 else None
    owners = [None] * len(groups)
    names = [max((unit[-1].names() for unit in group), key=len) for group in groups]
    for index, outputs in enumerate(names):
        fitting = [each for each in [*older, *new] if outputs <= each.layer_types.keys()]
        if len(fitting) == 1:
            owners[index] = fitting[0]
        else:
            before = [each for each in older if any(outputs <= block.names() for block in each.blocks[:1])]
            owners[index] = before[-1] if before else None
    free = [training for training in new if training not in owners]
    open_places = [index for index, owner in enumerate(owners) if owner is None]
    if len(free) > len(open_places):  # those before were made, but have not trained
        free = free[len(free) - len(open_places) :]
    for place, index in enumerate(open_places):
        owners[index] = free[min(place, len(free) - 1)] if free else new[-1]
    return owners


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
        key, python_class, value = match.groups()
        if key == "top":
            self._tops.append(value)
            self._types[value] = self._type
        elif key == "type" or self._type == "Python":
            self._type = value
            for top in self._tops:
                self._types[top] = value


class _Training:
    """One training: its blocks while the log is being read, its curves in the end."""

    def __init__(self):
        self.settings = {}
        self.layer_types = {}
        self.blocks = []

    def read_setting(self, line):
        match = _SETTING.match(line)
        if match:
            self.settings[match.group(1)] = match.group(2)

    def nets(self):
        return tuple(self.settings.get(key, "") for key in ("net", "train_net"))

    @property
    def name(self):
        for text in (self.settings.get("snapshot_prefix"), self._net()):
            name = re.split(r"[\\/]", text or "")[-1]
            if name:
                return name
        return ""

    def _net(self):
        net = "".join(self.nets())  # one of them is empty
        return "" if _TEMPORARY_NET.fullmatch(net) else os.path.splitext(net)[0]

    def finish(self):
        rows, restarts = [], []  # rows: (iteration, values), ascending
        for block in self.blocks:
            if rows and block.iteration < rows[-1][0]:
                restarts.append((rows[-1][0], block.iteration))
                while rows and rows[-1][0] >= block.iteration:
                    rows.pop()
            if not rows or rows[-1][0] != block.iteration:
                rows.append((block.iteration, {}))
            rows[-1][1].update(block.values)
        found = {}
        for iteration, values in rows:
            for key, value in values.items():
                series = found.setdefault(key, ([], []))
                series[0].append(iteration)
                series[1].append(value)
        numbers = {}
        for net, number, name, _ in sorted(found):
            numbers.setdefault((net, name), {}).setdefault(number)
        places = {key: {number: place for place, number in enumerate(found)} for key, found in numbers.items()}
        weights = {name: value for block in self.blocks for net, name, value in block.weights if net == "train"}
        curves = {}
        for key in sorted(found, key=_order):
            curves[self._curve_name(key, places[key[0], key[2]])] = found[key]
        return TrainingLog(self.name, [row[0] for row in rows], curves, weights, self.layer_types, restarts)

    def _curve_name(self, key, places):
        net, number, name, kind = key
        parts = [net, name]
        if len(places) > 1:
            place = places[number]
            parts.append(ACCURACIES[place] if self._is_accuracy(name, places) else str(place))
        return "/".join(part for part in [*parts, kind] if part)

    def _is_accuracy(self, name, places):
        """By the layer's type where the log shows it, else by the name."""
        known = self.layer_types.get(name)
        return len(places) == len(ACCURACIES) and (known == "SegAccuracy" if known else "acc" in name.lower())


def _order(key):
    """Curves in a reader's order: the totals, the training net's outputs by number, the test nets'."""
    net, number, name, kind = key
    return {"": 0, "train": 1}.get(net, 2), len(net), net, number, name != "total_loss", name, kind
