"""Train on several GPUs: one process each, gradients averaged by NCCL through pycaffe.

Caffe's own program cannot do that with Python layers. This module follows the interface of the trainer that comes with
pycaffe; it could not be tried out, for lack of a machine with two GPUs.
"""

import multiprocessing
import multiprocessing.connection
import signal
import sys

from rloss_caffe.commands import _log, _signals, _snapshots, _training

__all__ = ["train"]


def train(job, gpus):
    """Run until max_iter, or until a signal; RuntimeError if one of the processes fails."""
    import caffe

    if not hasattr(caffe, "NCCL"):
        raise ValueError("several GPUs need a Caffe that was built with NCCL (USE_NCCL := 1)")
    _log.info(f"Using GPUs {', '.join(map(str, gpus))}")
    context = multiprocessing.get_context("spawn")
    shared = job, gpus, caffe.NCCL.new_uid(), context.Value("l", -1)
    processes = [context.Process(target=_run, args=(rank, *shared)) for rank in range(len(gpus))]
    for process in processes:
        process.start()
    ignored = {number: signal.signal(number, signal.SIG_IGN) for number in job.effects}  # rank 0 has the handlers
    try:
        _join(processes, gpus)
    finally:
        for number, handler in ignored.items():
            signal.signal(number, handler)


def _join(processes, gpus):
    """Wait for all. If one fails the others end too: they would wait for its gradients for ever."""
    running = {process.sentinel: gpu for process, gpu in zip(processes, gpus)}
    by_sentinel = {process.sentinel: process for process in processes}
    failed = []
    while running:
        for sentinel in multiprocessing.connection.wait(list(running)):
            gpu = running.pop(sentinel)
            by_sentinel[sentinel].join()
            if by_sentinel[sentinel].exitcode:
                failed.append(gpu)
        if failed:
            for sentinel in running:
                by_sentinel[sentinel].kill()
                by_sentinel[sentinel].join()
            raise RuntimeError(f"training failed on GPU {', '.join(map(str, failed))}; the messages are above")


def _run(rank, job, gpus, unique_id, stop_at):
    caffe = _signals.import_caffe()
    caffe.set_solver_count(len(gpus))
    caffe.set_solver_rank(rank)
    caffe.set_multiprocess(True)
    try:
        with _signals.Requests(job.effects if rank == 0 else dict.fromkeys(job.effects, "none")) as requests:
            snapshots = _snapshots.Snapshots(job.parameters, job.prefix)
            if rank > 0:
                _train(rank, job, gpus, unique_id, stop_at, snapshots, requests)
                return
            with snapshots:
                _train(rank, job, gpus, unique_id, stop_at, snapshots, requests)
    except (ValueError, RuntimeError, OSError) as error:
        sys.exit(f"rloss-caffe train: GPU {gpus[rank]}: {error}")


def _train(rank, job, gpus, unique_id, stop_at, snapshots, requests):
    import caffe

    solver = _training.make_solver(job, snapshots, gpus[rank])
    nccl = caffe.NCCL(solver, unique_id)
    nccl.bcast()
    solver.add_callback(nccl)
    if solver.param.layer_wise_reduce:
        solver.net.after_backward(nccl)
    _training.solve(solver, job, snapshots, _Together(solver, requests, stop_at), is_root=rank == 0)


class _Together:
    """Requests for all ranks: they stop before the same iteration, or they would wait for each other for ever.

    Ranks are at most one iteration apart, so two iterations ahead is in the future of all of them.
    """

    def __init__(self, solver, requests, stop_at):
        self._solver, self._requests, self._stop_at = solver, requests, stop_at

    def take(self, effect):
        if effect == "snapshot":
            return self._requests.take(effect)
        if self._requests.take(effect):
            self._stop_at.value = self._solver.iter + 2
        return 0 <= self._stop_at.value <= self._solver.iter
