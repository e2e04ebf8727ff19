"""Snapshots that are whole or not there: written aside and moved into place, and looked at before they are used.

Caffe writes its files in place. A process that is killed meanwhile, or a full disk, leaves a truncated file under a
name that promises more. Files of the caffe program are looked at, too, without Caffe.
"""

import contextlib
import errno
import glob
import mmap
import os
import re
import shutil
from dataclasses import dataclass

from rloss_caffe.commands import _log

__all__ = ["SnapshotError", "Snapshots", "end_problem", "iteration_of", "newest_whole", "snapshots_of"]

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NEVER = 2**31 - 1  # an iteration that no solver reaches
_MANY = 1 << 16  # a state's path lies within its first bytes


class SnapshotError(OSError):
    """A snapshot could not be written; those that were there still are."""


# --- looking at files ------------------------------------------------------------------------------------------------


def end_problem(path):
    """Whether the end of a file that Caffe has just written is missing, in words; None if it is there.

    `rloss_caffe.nets.snapshots` looks at all of a file, for which it needs twice its size in memory.
    """
    if path.endswith(".h5"):
        from rloss_caffe.nets.weights import check_hdf5

        try:
            return check_hdf5(path)
        except ValueError as error:
            return str(error)
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        fields = _top_fields(file, size)
    if not fields or (path.endswith(".solverstate") and 4 not in fields):  # current_step, which Caffe writes last
        return f"{path} is truncated ({size} bytes)"
    return None


def _top_fields(file, size):
    """The numbers of a protobuf message's fields, if the message ends where the file does; else None."""
    found, position = set(), 0
    while position < size:
        file.seek(position)
        head = file.read(20)
        tag, used = _varint(head, 0)
        if tag is None or tag >> 3 == 0:
            return None
        kind = tag & 7
        if kind == 0:
            value, used = _varint(head, used)
            length = None if value is None else 0
        elif kind == 2:
            length, used = _varint(head, used)
        else:
            length = {1: 8, 5: 4}.get(kind)
        if length is None:
            return None
        found.add(tag >> 3)
        position += used + length
    return found if position == size else None


def _varint(data, start):
    """A number and the place behind it; (None, start) if the data end in its middle."""
    value = 0
    for index in range(start, min(len(data), start + 10)):
        value |= (data[index] & 0x7F) << (7 * (index - start))
        if data[index] < 0x80:
            return value, index + 1
    return None, start


def _learned_net(path):
    """(the path of the weights in a .solverstate, its place in the file, the place behind it)."""
    with open(path, "rb") as file:
        head, position = file.read(_MANY), 0
    while position < len(head):
        tag, after = _varint(head, position)
        if tag is None:
            break
        if tag == 2 << 3 | 2:
            length, start = _varint(head, after)
            return os.fsdecode(head[start : start + length]), position, start + length
        if tag & 7:
            break
        _, position = _varint(head, after)
    raise SnapshotError(f"{path} names no weights")


def iteration_of(state):
    """The iteration of a .solverstate, 0 if neither file nor name tells it."""
    with contextlib.suppress(OSError), open(state, "rb") as file:
        head = file.read(20)
        if head[:1] == b"\x08":  # the first field
            return _varint(head, 1)[0] or 0
    match = re.search(r"_iter_(\d+)\.solverstate(\.h5)?$", state)
    return int(match.group(1)) if match else 0


def _problem(path):
    """What keeps a state and its weights, or weights alone, from being used, in words; None if nothing does."""
    from rloss_caffe.nets.snapshots import check_snapshot

    try:
        check_snapshot(path)
    except ValueError as error:
        return str(error)
    return None


def _numbered(prefix, *endings):
    """The files of a prefix that have one of these endings, as {iteration: [path, ...]}."""
    found = {}
    for ending in endings:
        for path in glob.glob(f"{glob.escape(prefix)}_iter_*{ending}"):
            number = path[len(prefix) + len("_iter_") : -len(ending)]
            if number.isdigit():
                found.setdefault(int(number), []).append(path)
    return found


@dataclass
class Snapshot:
    """One iteration's files of a prefix.

    Attributes
    ----------
    iteration : int
    state : str
        The whole .solverstate, whose weights are whole, too; empty if there is none.
    has_weights : bool
        Whether its weights are there, whole.
    problems : list of str
        What is wrong with files that are not, in words.
    """

    iteration: int
    state: str
    has_weights: bool
    problems: list


@dataclass
class Newest:
    """What there is of a training.

    Attributes
    ----------
    state : str
        The newest .solverstate that can be gone on from; empty if there is none.
    is_done : bool
        Whether the last iteration's weights are there.
    passed_over : list of str
        What is wrong with newer files, in words.
    """

    state: str
    is_done: bool
    passed_over: list


def snapshots_of(prefix, last=None):
    """Yield a `Snapshot` for each iteration of a prefix, newest first; none beyond the iteration `last`."""
    states = _numbered(prefix, ".solverstate", ".solverstate.h5")
    weights = _numbered(prefix, ".caffemodel", ".caffemodel.h5")
    for iteration in sorted({*states, *weights}, reverse=True):
        if last is not None and iteration > last:
            continue
        found = {state: _problem(state) for state in states.get(iteration, ())}
        whole = [state for state, problem in found.items() if problem is None]
        problems = [problem for problem in found.values() if problem]
        has_weights = bool(whole)
        if not found:
            broken = {path: _problem(path) for path in weights[iteration]}
            has_weights = None in broken.values()
            problems = [problem or f"{path} has no .solverstate" for path, problem in broken.items()]
        yield Snapshot(iteration, whole[0] if whole else "", has_weights, problems)


def newest_whole(prefix, last=None):
    """The newest whole snapshot of a prefix, not beyond the iteration `last`, as a `Newest`.

    Weights of the last iteration whose state has been removed are enough: nothing will go on from there.
    """
    passed_over = []
    for snapshot in snapshots_of(prefix, last):
        is_done = snapshot.iteration == last and snapshot.has_weights
        if snapshot.state or is_done:
            return Newest(snapshot.state, is_done, passed_over)
        passed_over += snapshot.problems
    return Newest("", False, passed_over)


# --- writing ---------------------------------------------------------------------------------------------------------


class Snapshots:
    """Writes the snapshots of a solver, when the solver file says so. Used as a context while the training runs.

    Caffe gets a prefix in a hidden folder beside the files. What it has written there is looked at, brought onto the
    disk, and moved to its name: a file of that name is whole, however the process ends.

    Parameters
    ----------
    parameters : SolverParameter
    prefix : str
        The files are PREFIX_iter_N.caffemodel and .solverstate, with .h5 behind them if the format is HDF5.
    """

    def __init__(self, parameters, prefix):
        self._prefix, self._interval = prefix, parameters.snapshot
        self._after_train = parameters.snapshot_after_train
        is_hdf5 = parameters.snapshot_format == parameters.HDF5
        self._endings = (".caffemodel.h5", ".solverstate.h5") if is_hdf5 else (".caffemodel", ".solverstate")
        self._copies = 2 if parameters.snapshot_diff else 1
        self._histories = 2 if parameters.type in ("Adam", "AdaDelta") else 1
        folder, name = os.path.split(prefix)
        self.folder = folder or os.curdir
        self._aside = os.path.join(folder, f".{name}_unfinished")
        self.prefix_aside = os.path.join(self._aside, name)
        self._lock = None
        self.last = None  # iteration of the last one that is known to be whole

    def __enter__(self):
        if self._interval or self._after_train:
            self._prepare()
        return self

    def __exit__(self, *_):
        if self._lock is not None:
            with contextlib.suppress(OSError):
                shutil.rmtree(self._aside)
            os.close(self._lock)

    def for_caffe(self, parameters):
        """The solver's parameters for Caffe: it writes aside, and only when it is told to."""
        result = type(parameters)()
        result.CopyFrom(parameters)
        result.snapshot_prefix, result.snapshot_after_train = self.prefix_aside, False
        if self._interval:
            result.snapshot = _NEVER
        return result

    def show_in_log(self):
        """Let the log show the final names, and the settings as they are in the solver file."""
        _log.show_as(self.prefix_aside, self._prefix)
        _log.show_as(f"snapshot: {_NEVER}", f"snapshot: {self._interval}")
        _log.show_as("snapshot_after_train: false", f"snapshot_after_train: {str(self._after_train).lower()}")

    def is_due(self, iteration, max_iter):
        """Whether the solver file asks for one now."""
        if iteration == self.last:
            return False
        regular = self._interval and iteration % self._interval == 0
        return bool(regular) or (self._after_train and iteration >= max_iter)

    def save(self, solver):
        """Write a snapshot of the solver's iteration.

        Raises
        ------
        SnapshotError
            There is no room, or the files could not be written. Older ones are as they were.
        """
        iteration = int(solver.iter)
        try:
            if self._lock is None:
                self._prepare()
            self._claim_room(solver)
            solver.snapshot()
            aside = [f"{self.prefix_aside}_iter_{iteration}{ending}" for ending in self._endings]
            final = [f"{self._prefix}_iter_{iteration}{ending}" for ending in self._endings]
            for path in aside:
                problem = end_problem(path)
                if problem:
                    raise SnapshotError(problem)
            _name_weights(aside[1], aside[0], final[0])
            for path in aside:
                _to_disk(path)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(final[1])  # an old state must not get new weights
            for source, target in zip(aside, final):
                os.replace(source, target)
            _to_disk(self.folder)
        except OSError as error:
            reason = error.strerror if error.strerror and not isinstance(error, SnapshotError) else error
            kept = "there is no older one" if self.last is None else f"that of iteration {self.last} is kept"
            raise SnapshotError(f"no snapshot of iteration {iteration} in {self.folder}: {reason}; {kept}") from None
        finally:
            self._clear()
        self.last = iteration

    def _prepare(self):
        """Find out at the start, not after hours, that nothing can be written; remove what a killed process left."""
        try:
            if not os.path.isdir(self.folder):
                os.makedirs(self.folder)
                _log.info(f"Made the folder {self.folder} for snapshots.")
            os.makedirs(self._aside, exist_ok=True)
            lock = os.open(os.path.join(self._aside, "lock"), os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise SnapshotError(f"snapshots cannot be written into {self.folder!r}: {error.strerror}") from None
        if not _is_ours(lock):
            os.close(lock)
            raise SnapshotError(f"another training writes snapshots as {self._prefix}_iter_N, and is not done yet")
        self._lock = lock
        self._clear()

    def _clear(self):
        for path in glob.glob(f"{glob.escape(self.prefix_aside)}_iter_*"):
            with contextlib.suppress(OSError):
                os.unlink(path)

    def _claim_room(self, solver):
        """Ask the file system for as much as Caffe will write: it ends the process when it cannot."""
        values = sum(int(blob.count) for blobs in solver.net.params.values() for blob in blobs)
        weights, history = 4 * values * self._copies + _MANY, 4 * values * self._histories + _MANY
        sizes = [weights, history, history]  # the state is there twice for a moment
        paths = [f"{self.prefix_aside}_iter_room{number}" for number in range(len(sizes))]
        free = shutil.disk_usage(self.folder).free
        try:
            for path, size in zip(paths, sizes):
                with open(path, "wb") as file:
                    if hasattr(os, "posix_fallocate"):
                        os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            if error.errno not in _NO_ROOM:  # a file system that cannot tell
                return
            raise SnapshotError(
                f"it needs {sum(sizes) / 1e6:.1f} MB, {error.strerror} ({free / 1e6:.1f} MB are free)"
            ) from None
        finally:
            for path in paths:
                with contextlib.suppress(OSError):
                    os.unlink(path)


def _is_ours(lock):
    """Take the lock, which the system gives back when this process ends, however it does."""
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:  # a file system without locks
        return True
    return True


def _name_weights(state, written, final):
    """Let a state name its weights by their final path."""
    if state.endswith(".h5"):
        old, new = os.fsencode(written), os.fsencode(final)
        with open(state, "r+b") as file, mmap.mmap(file.fileno(), 0) as content:
            place = content.find(old)
            if place < 0 or len(new) > len(old):
                raise SnapshotError(f"{state} names no weights")
            content[place : place + len(old)] = new.ljust(len(old), b"\0")  # a C string, which ends at its zero
        return
    name, start, end = _learned_net(state)
    if name != written:
        raise SnapshotError(f"{state} names other weights: {name}")
    text = os.fsencode(final)
    with open(state, "rb") as source, open(f"{state}.named", "wb") as target:
        target.write(source.read(start) + b"\x12" + _as_varint(len(text)) + text)
        source.seek(end)
        shutil.copyfileobj(source, target, 1 << 20)
    os.replace(f"{state}.named", state)


def _as_varint(value):
    data = bytearray()
    while value >= 0x80:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*data, value])


def _to_disk(path):
    """Wait until the system has written a file or folder."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError:
        if not os.path.isdir(path):  # some systems refuse folders
            raise
    finally:
        os.close(handle)
