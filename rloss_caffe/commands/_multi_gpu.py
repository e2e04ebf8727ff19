"""Train on several GPUs: one process each, gradients averaged by NCCL through pycaffe.

Caffe's own program cannot do that with Python layers. This module follows the interface of the trainer that comes with
pycaffe; it could not be tried out, for lack of a machine with two GPUs.
"""

import multiprocessing
import multiprocessing.connection
import signal

from rloss_caffe.commands import _devices as devices
from rloss_caffe.commands import _loading as loading
from rloss_caffe.commands import _log as log
from rloss_caffe.commands._training import Requests, solve
from rloss_caffe.nets import check_solverstate, load_weights

__all__ = ["train"]


def train(solver_path, snapshot, weights, gpus, effects, level=0, stage=""):
    """Run until max_iter, or until a signal; RuntimeError if one of the processes fails."""
    import caffe

    if not hasattr(caffe, "NCCL"):
        raise ValueError("several GPUs need a Caffe that was built with NCCL (USE_NCCL := 1)")
    context = multiprocessing.get_context("spawn")
    shared = caffe.NCCL.new_uid(), solver_path, snapshot, weights, gpus, effects, level, stage, context.Value("l", -1)
    processes = [context.Process(target=_run, args=(rank, *shared)) for rank in range(len(gpus))]
    for process in processes:
        process.start()
    ignored = {number: signal.signal(number, signal.SIG_IGN) for number in effects}  # rank 0 has the handlers
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


def _run(rank, unique_id, solver_path, snapshot, weights, gpus, effects, level, stage, stop_at):
    import caffe

    devices.use(gpus[rank])
    caffe.set_solver_count(len(gpus))
    caffe.set_solver_rank(rank)
    caffe.set_multiprocess(True)
    solver = loading.load_solver(solver_path, level, stage)
    for path in weights:
        load_weights(solver.net, path, log.warning)
    if snapshot:
        check_solverstate(snapshot, solver.net)
        solver.restore(snapshot)
    nccl = caffe.NCCL(solver, unique_id)
    nccl.bcast()
    solver.add_callback(nccl)
    if solver.param.layer_wise_reduce:
        solver.net.after_backward(nccl)
    with Requests(effects if rank == 0 else dict.fromkeys(effects, "none")) as requests:
        together = _Together(solver, requests, stop_at)
        solve(solver, loading.read_solver(solver_path), together, is_root=rank == 0)


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
