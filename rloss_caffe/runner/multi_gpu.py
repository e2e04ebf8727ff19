"""Train on several GPUs: one process each, gradients averaged by NCCL through pycaffe.

Caffe's own program cannot do that with Python layers. This module follows the interface of the trainer that comes with
pycaffe; it could not be tried out, for lack of a machine with two GPUs.
"""

import multiprocessing
import signal

from rloss_caffe.runner import devices, loading
from rloss_caffe.runner.training import Requests, solve
from rloss_caffe.runner.weights import load_weights

__all__ = ["train"]


def train(solver_path, snapshot, weights, gpus, effects):
    """Run until max_iter, or until a signal; returns whether training went on to its end."""
    import caffe

    if not hasattr(caffe, "NCCL"):
        raise ValueError("several GPUs need a Caffe that was built with NCCL (USE_NCCL := 1)")
    context = multiprocessing.get_context("spawn")
    unique_id = caffe.NCCL.new_uid()
    stop_at, is_complete = context.Value("l", -1), context.Value("b", 0)
    shared = unique_id, solver_path, snapshot, weights, gpus, effects, stop_at, is_complete
    processes = [context.Process(target=_run, args=(rank, *shared)) for rank in range(len(gpus))]
    for process in processes:
        process.start()
    ignored = {number: signal.signal(number, signal.SIG_IGN) for number in effects}  # rank 0 has the handlers
    for process in processes:
        process.join()
    for number, handler in ignored.items():
        signal.signal(number, handler)
    failed = [gpus[rank] for rank, process in enumerate(processes) if process.exitcode]
    if failed:
        raise RuntimeError(f"training failed on GPU {', '.join(map(str, failed))}; the messages are above")
    return bool(is_complete.value)


def _run(rank, unique_id, solver_path, snapshot, weights, gpus, effects, stop_at, is_complete):
    import caffe

    devices.use(gpus[rank])
    caffe.set_solver_count(len(gpus))
    caffe.set_solver_rank(rank)
    caffe.set_multiprocess(True)
    solver = loading.load_solver(solver_path)
    for path in weights:
        load_weights(solver.net, path)
    if snapshot:
        solver.restore(snapshot)
    nccl = caffe.NCCL(solver, unique_id)
    nccl.bcast()
    solver.add_callback(nccl)
    if solver.param.layer_wise_reduce:
        solver.net.after_backward(nccl)
    with Requests(effects if rank == 0 else dict.fromkeys(effects, "none")) as requests:
        together = _Together(solver, requests, stop_at)
        complete = solve(solver, loading.read_solver(solver_path), together, saves=rank == 0)
    if rank == 0:
        is_complete.value = complete


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
