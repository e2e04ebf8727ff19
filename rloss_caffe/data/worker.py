"""A worker process of `rloss_caffe.data.batches.Prefetcher`: tasks come on standard input, answers go to the output."""

import contextlib
import json
import mmap
import os
import queue
import signal
import sys
import threading

from rloss_caffe.data.batches import slot_arrays
from rloss_caffe.data.lists import Entry
from rloss_caffe.data.reading import import_cv2
from rloss_caffe.data.samples import SampleMaker

__all__ = ["main"]


def main():
    """Answer tasks until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints must not get between the answers
    with contextlib.suppress(BrokenPipeError):  # nobody waits for answers any more
        _work(sys.stdin, answers)


def _work(tasks, answers):
    start = json.loads(tasks.readline() or "null")
    if start is None:
        return
    import_cv2().setNumThreads(1)  # the workers are the parallelism
    with os.fdopen(start["memory"], "r+b") as file:
        slots = slot_arrays(mmap.mmap(file.fileno(), 0), start["shape"])
    maker = SampleMaker(**start["options"])
    print("{}", file=answers, flush=True)
    for line in _read_ahead(tasks):
        task = json.loads(line)
        data, label, size = (part[task["slot"], task["number"]] for part in slots)
        answer = {}
        try:
            size[...] = maker.make(Entry(**task["entry"]), task["position"], out=(data, label[0])).size
        except Exception as error:  # the process that asked decides; here it would go unseen
            answer["error"] = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        print(json.dumps(answer), file=answers, flush=True)


def _read_ahead(lines):
    """Yield lines, which a thread reads as soon as they come.

    The pipes hold some 65 kB each. Were tasks read one by one, the owner could wait for room to send one while this
    process waits for room to answer another.
    """
    waiting = queue.SimpleQueue()

    def read():
        for line in lines:
            waiting.put(line)
        waiting.put(None)

    threading.Thread(target=read, daemon=True).start()
    return iter(waiting.get, None)
