"""Batches of samples: made when they are asked for, or ahead of time in worker processes.

Worker processes, because Caffe holds Python's interpreter lock while its own layers run: a thread would stand still
just when there is time to work. They are programs of their own (`rloss_caffe.data.worker`), not forks, so they have
no copy of Caffe, its memory or its GPU. Batches come back through shared memory, tasks and answers through pipes, one
line of JSON each. A worker ends when its pipe closes, and the shared memory has no name from the beginning: both are
gone however this process ends.
"""

import contextlib
import json
import mmap
import os
import shutil
import subprocess
import sys
import tempfile
import weakref
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rloss_caffe.data.files import printable
from rloss_caffe.data.room import in_words

__all__ = ["Batch", "DirectReader", "Prefetcher", "has_workers", "slot_arrays", "slot_bytes"]


@dataclass(frozen=True)
class Batch:
    """What one forward pass is fed with, float32."""

    data: np.ndarray  # (N, C, H, W)
    label: np.ndarray  # (N, 1, H, W)
    size: np.ndarray  # (N, 2): rows and columns of each image before scaling


class DirectReader:
    """Makes every batch when it is asked for, in this process.

    Parameters
    ----------
    maker : SampleMaker
    entries : list of Entry
    positions : callable
        From a batch's number to the list of (position in the run, index of the entry) of its samples.
    """

    pids = ()

    def __init__(self, maker, entries, positions):
        self._maker, self._entries, self._positions = maker, entries, positions
        self._batch = 0

    def take(self):
        """The next `Batch`.

        Raises
        ------
        ValueError
            A sample cannot be made, or the samples of a batch differ in size.
        """
        tasks = self._positions(self._batch)
        samples = [self._maker.make(self._entries[index], position) for position, index in tasks]
        height, width = samples[0].label.shape
        for (_, index), sample in zip(tasks, samples):
            if sample.label.shape != (height, width):
                a, b = self._entries[tasks[0][1]], self._entries[index]
                raise ValueError(
                    "without a crop the images of a batch must have one size, found "
                    f"{width} x {height} in {printable(a.image)} (line {a.line} of the list) and "
                    f"{sample.label.shape[1]} x {sample.label.shape[0]} in {printable(b.image)} (line {b.line}); "
                    "set crop_size, or batch_size: 1"
                )
        self._batch += 1
        return Batch(
            np.array([sample.data for sample in samples]),
            np.array([sample.label for sample in samples])[:, np.newaxis],
            np.array([sample.size for sample in samples], np.float32),
        )

    def close(self):
        """Nothing is held."""


class Prefetcher:
    """Makes batches ahead in worker processes; like DirectReader, for samples of one size.

    Parameters
    ----------
    options : dict
        Of SampleMaker; `crop` must be given.
    entries, positions
        As for DirectReader.
    batch_size, channels : int
    slots : int >= 1
        How many batches are made ahead.
    workers : int >= 1
    """

    def __init__(self, options, entries, positions, batch_size, channels, slots, workers):
        self._entries, self._positions = entries, positions
        self._shape = slots, batch_size, channels, *options["crop"]
        self._submitted = self._taken = 0
        self._failure = None
        self._processes = []
        self._finalizer = weakref.finalize(self, _end, os.getpid(), self._processes)
        with _nameless_file(slot_bytes(self._shape)) as file:
            handle = file.fileno()
            self._slots = slot_arrays(mmap.mmap(handle, slot_bytes(self._shape)), self._shape)
            for _ in range(min(workers, batch_size * slots)):
                self._processes.append(_start_worker(handle))
            start = json.dumps({"options": options, "shape": self._shape, "memory": handle})
            for process in self._processes:
                self._send(process, start)
            for process in self._processes:
                self._receive(process)
        for _ in range(slots):
            self._submit()

    @property
    def pids(self):
        """The process ids of the workers."""
        return [process.pid for process in self._processes]

    def take(self):
        """As DirectReader.take; the arrays are valid until the next call, which lets workers fill them again.

        Raises
        ------
        ValueError
            A sample cannot be made.
        RuntimeError
            A worker has ended.
        """
        if self._failure:
            raise RuntimeError(self._failure)
        if self._taken:
            self._submit()
        error = None
        for worker in self._assigned(self._taken):
            # every answer is read, also after an error, so that the next batch finds its own
            error = self._receive(self._processes[worker]).get("error") or error
        if error:
            raise ValueError(error)
        slot = self._taken % self._shape[0]
        self._taken += 1
        return Batch(*(part[slot] for part in self._slots))

    def close(self):
        """End the workers."""
        self._failure = self._failure or "the workers have been ended"
        self._finalizer()

    def _assigned(self, batch):
        """The worker of each sample of a batch: in turn, going on from batch to batch."""
        first = batch * self._shape[1]
        return [(first + number) % len(self._processes) for number in range(self._shape[1])]

    def _submit(self):
        batch = self._submitted
        self._submitted += 1
        tasks = zip(self._assigned(batch), self._positions(batch))
        for number, (worker, (position, index)) in enumerate(tasks):
            task = {"slot": batch % self._shape[0], "number": number, "position": position}
            self._send(self._processes[worker], json.dumps(dict(task, entry=vars(self._entries[index]))))

    def _send(self, process, line):
        try:
            process.stdin.write(line.encode() + b"\n")
            process.stdin.flush()
        except OSError:
            self._fail(process)

    def _receive(self, process):
        line = process.stdout.readline()
        if not line.endswith(b"\n"):
            self._fail(process)
        return json.loads(line)

    def _fail(self, process):
        status = process.wait()
        ended = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
        self._failure = (
            f"a worker process that reads images {ended} (out of memory? its own message, if any, is above); "
            "'prefetch: 0' reads without workers"
        )
        self.close()
        raise RuntimeError(self._failure)


def has_workers():
    """Whether worker processes can be had. They inherit the shared memory as an open file, as Windows cannot."""
    return os.name == "posix"


def slot_bytes(shape):
    """The size of `slots` batches of a shape (slots, N, C, H, W) in shared memory."""
    slots, batch, channels, height, width = shape
    return 4 * slots * batch * ((channels + 1) * height * width + 2)


def slot_arrays(memory, shape):
    """The shared memory as arrays: data (slots, N, C, H, W), label (slots, N, 1, H, W), size (slots, N, 2)."""
    slots, batch, channels, height, width = shape
    arrays, offset = [], 0
    for part in ((channels, height, width), (1, height, width), (2,)):
        full = (slots, batch, *part)
        count = int(np.prod(full))
        arrays.append(np.frombuffer(memory, np.float32, count, offset).reshape(full))
        offset += 4 * count
    return arrays


def _nameless_file(size):
    """An open file of that size without a name, in memory where there is room: small containers have little of it."""
    folders = [folder for folder in ("/dev/shm", tempfile.gettempdir()) if os.path.isdir(folder)]
    for folder in folders:
        # Looked at first: to be refused the last of many gigabytes takes time, and leaves others none meanwhile.
        if shutil.disk_usage(folder).free < size:
            continue
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            file = stack.enter_context(tempfile.TemporaryFile(dir=folder))
            # Room is claimed now: where it is missing, a later write would end the process.
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                os.truncate(file.fileno(), size)
            stack.pop_all()
            return file
    raise OSError(
        f"there is no room for {in_words(size)} of batches that are made ahead: "
        + ", ".join(f"{folder} has {in_words(shutil.disk_usage(folder).free)}" for folder in folders)
        + "; lower prefetch ('prefetch: 0' needs none), batch_size or the crop"
    )


def _start_worker(handle):
    """A worker that inherits the shared memory, an open file."""
    code = "import sys; sys.path[:0] = sys.argv[1:]; from rloss_caffe.data.worker import main; main()"
    package = str(Path(__file__).resolve().parents[2])
    return subprocess.Popen(
        [_python(), "-c", code, package],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=[handle],
        start_new_session=True,  # Ctrl-C is for the training, which may want a last batch
    )


def _python():
    """The interpreter; where Python is embedded in the caffe program, sys.executable may not be one."""
    version = "python{}.{}".format(*sys.version_info)
    for path in (sys.executable, os.path.join(sys.exec_prefix, "bin", version), shutil.which(version)):
        if path and "python" in os.path.basename(path).lower() and os.access(path, os.X_OK):
            return path
    raise OSError(f"no {version} program was found to run workers with; 'prefetch: 0' reads without workers")


def _end(owner, processes):
    """End the workers; not in a fork of the process they belong to."""
    if os.getpid() != owner:
        return
    for process in processes:
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                pipe.close()
        process.kill()  # it holds nothing that needs care
        process.wait()
