"""Threads for the kernels: plain Python threads that run Numba kernels with the GIL released.

Numba's own parallel loops are not used: their default threading layer (workqueue) must not be entered by two Python
threads at once and kills the process when it is, and two nets in two threads are ordinary use here. A shared pool of
Python threads has no such limit, needs no OpenMP or TBB library, and works the same everywhere. An executor of the
standard library takes 15 microseconds more a task, and an image of 321 x 321 is worked on in four steps of 0.3 to 1 ms.
"""

from __future__ import annotations

import atexit
import os
import threading
from queue import SimpleQueue
from typing import Any, Callable, Sequence

from rloss_caffe.numerics.arrays import whole_number

__all__ = ["bounds", "for_each_image", "get_num_threads", "resolve_num_threads", "run", "set_num_threads"]

_lock = threading.Lock()
_idle: list[_Worker] = []
_workers = 0  # those in use included
_num_threads = None


def _available_cpus():
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def get_num_threads() -> int:
    """The number of threads that filters and losses use.

    ``set_num_threads`` decides, else the environment's RLOSS_NUM_THREADS, else the CPUs this process may run on,
    divided by LOCAL_WORLD_SIZE: torchrun starts that many processes on a machine, and says so there.

    Returns
    -------
    int >= 1

    Raises
    ------
    ValueError
        RLOSS_NUM_THREADS is not a whole number >= 1.
    """
    if _num_threads is not None:
        return _num_threads
    text = os.environ.get("RLOSS_NUM_THREADS", "").strip()
    if not text:
        processes = os.environ.get("LOCAL_WORLD_SIZE", "").strip()  # not ours: what is no number says nothing
        return max(1, _available_cpus() // int(processes if processes.isdecimal() and int(processes) else 1))
    if not text.isdigit() or int(text) < 1:
        raise ValueError(f"the environment's RLOSS_NUM_THREADS must be a whole number >= 1, found {text!r}")
    return int(text)


def set_num_threads(num_threads: int | None) -> None:
    """Set the number of threads for the whole process; ``None`` returns to the default.

    Parameters
    ----------
    num_threads : int >= 1 or None

    Raises
    ------
    ValueError
        `num_threads` is not a whole number >= 1.
    """
    global _num_threads
    _num_threads = None if num_threads is None else whole_number("num_threads", num_threads, 1)


def resolve_num_threads(num_threads: int | None) -> int:
    """The number of threads behind an argument `num_threads`: itself, or for None `get_num_threads`.

    Every function with such an argument takes it through here.

    Raises
    ------
    ValueError
        `num_threads` is neither None nor a whole number >= 1.
    """
    return get_num_threads() if num_threads is None else whole_number("num_threads", num_threads, 1)


def bounds(length: int, parts: int, multiple: int = 1) -> list[tuple[int, int]]:
    """Split ``range(length)`` into at most `parts` pieces of nearly equal size, each starting at a multiple.

    Returns
    -------
    list of (int, int)
        Start and end of every piece; no piece is empty; no piece at all for length 0.
    """
    blocks = -(-length // multiple)
    parts = max(1, min(parts, blocks))
    edges = [min(length, (blocks * part // parts) * multiple) for part in range(parts + 1)]
    return [(start, end) for start, end in zip(edges, edges[1:]) if end > start]


def run(function: Callable[..., Any], tasks: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Call ``function(*task)`` for every task, in parallel; the caller's thread does its share.

    `function` should spend its time with the GIL released. It must not call `run` itself with more than one task, nor
    wait for another task: where other callers have the threads, the caller does what is left.

    Parameters
    ----------
    function : callable
    tasks : sequence of tuple

    Returns
    -------
    list
        The results, in the order of the tasks. The first exception, in that order, is raised after all have ended.
    """
    tasks = list(tasks)
    if len(tasks) <= 1:
        return [function(*task) for task in tasks]
    workers = _borrow(len(tasks) - 1)
    for worker, task in zip(workers, tasks[1:]):
        worker.give(function, task)
    outcomes = [_outcome(function, task) for task in (tasks[0], *tasks[len(workers) + 1 :])]
    outcomes[1:1] = [worker.take() for worker in workers]
    _idle.extend(workers)
    for _, error in outcomes:
        if error is not None:
            raise error
    return [result for result, _ in outcomes]


def for_each_image(function: Callable[[int, int], Any], count: int, num_threads: int | None = None) -> list[Any]:
    """Call ``function(index, threads)`` for every image of a batch with the machine's threads shared well.

    As long as there are images for all threads, each thread takes the next image and works on it alone; those left
    over run one after the other, with all threads inside the image.

    Returns
    -------
    list
        The results in the images' order. A ValueError gets the image's index in front; of several, the first image's.
    """
    threads = resolve_num_threads(num_threads)
    together = count // threads * threads
    results = [None] * count
    waiting = iter(range(together))  # next() of a range iterator is atomic under the GIL

    failed: dict[int, ValueError] = {}

    def call(index, inner):
        if any(index > other for other in list(failed)):
            return  # those before a failed one are still worked on: the first that fails is told, whatever the threads
        try:
            results[index] = function(index, inner)
        except ValueError as error:
            failed[index] = error

    def work():
        for index in waiting:
            call(index, 1)

    run(work, [()] * min(threads, together))
    for index in range(together, count):
        call(index, threads)
    if failed:
        first = min(failed)
        raise ValueError(f"image {first} of the batch: {failed[first]}") from failed[first]
    return results


class _Worker:
    """A thread that does one task after the other."""

    def __init__(self):
        self._tasks, self._ends = SimpleQueue(), SimpleQueue()
        self._outcome = None
        self._thread = threading.Thread(target=self._work, name="rloss_caffe", daemon=True)
        self._thread.start()

    def give(self, function, task):
        self._tasks.put((function, task))

    def take(self):
        """The task's result and its exception, one of them None.

        No task may outlive the arrays it works on: an interrupt, which may come at any time, waits for it.
        """
        interrupt = None
        while self._outcome is None:
            try:
                self._ends.get()
            except BaseException as caught:
                interrupt = caught
        (result, error), self._outcome = self._outcome, None
        return result, interrupt or error

    def end(self):
        self.give(None, ())
        self._thread.join()

    def _work(self):
        while True:
            function, task = self._tasks.get()
            if function is None:
                break
            self._outcome = _outcome(function, task)
            del function, task  # the arrays are their owner's
            self._ends.put(None)


def _outcome(function, task):
    try:
        return function(*task), None
    except BaseException as error:
        return None, error


def _borrow(count):
    """So many idle workers, or as many as can be had: the others work for other callers."""
    global _workers
    with _lock:
        borrowed = [_idle.pop() for _ in range(min(count, len(_idle)))]
        while len(borrowed) < count and _workers < count:
            borrowed.append(_Worker())
            _workers += 1
    return borrowed


def _end_workers():
    """Before the interpreter ends: a thread must not come back to it after that."""
    while _idle:
        _idle.pop().end()


def _forget_workers():
    """A forked child has none of the parent's threads."""
    global _idle, _workers, _lock
    _idle, _workers, _lock = [], 0, threading.Lock()


atexit.register(_end_workers)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_workers)
