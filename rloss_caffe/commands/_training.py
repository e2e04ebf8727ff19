"""Run one of Caffe's solvers: what the flags and the solver file ask for, signals, snapshots, losses that fail."""

import contextlib
import os
import signal
from dataclasses import dataclass

from rloss_caffe.commands import _devices, _finite, _flags, _log, _signals, _snapshots
from rloss_caffe.data.progress import progress_bar

__all__ = ["Job", "make_solver", "read_effects", "read_job", "solve"]


@dataclass
class Job:
    """A training as flags and solver file describe it, read and checked once; processes can hand it to each other.

    Attributes
    ----------
    solver_path : str
    parameters : SolverParameter
        What the solver file says, with --level and --stage in it.
    prefix : str
        The snapshots' files begin with it.
    state : str
        The .solverstate to go on from, or "".
    weights : list of str
        .caffemodel files to start from.
    effects : dict
        Signal number to "snapshot", "stop" or "none".
    allow_nonfinite : bool
        Go on when a loss or a score is not finite.
    """

    solver_path: str
    parameters: object
    prefix: str
    state: str
    weights: list
    effects: dict
    allow_nonfinite: bool


def read_effects(arguments):
    """What each signal does; SIGTERM does what SIGINT does."""
    effects = {signal.SIGINT: arguments.sigint_effect, signal.SIGTERM: arguments.sigint_effect}
    if hasattr(signal, "SIGHUP"):
        effects[signal.SIGHUP] = arguments.sighup_effect
    return effects


def read_job(arguments):
    """The `Job` of a command's flags."""
    if not arguments.solver:
        raise ValueError("Need a solver definition to train.")
    if arguments.snapshot and arguments.weights:
        raise ValueError("Give a snapshot to resume training or weights to finetune but not both.")
    state = _flags.existing_file("snapshot", arguments.snapshot) if arguments.snapshot else ""
    weights = _flags.existing_files("weights", arguments.weights)
    _signals.import_caffe()
    from rloss_caffe import nets

    parameters = nets.read_solver(arguments.solver)
    if arguments.level:
        parameters.train_state.level = arguments.level
    parameters.train_state.stage.extend(_flags.names(arguments.stage))
    prefix = nets.snapshot_prefix(parameters, arguments.solver)
    effects = read_effects(arguments)
    return Job(arguments.solver, parameters, prefix, state, weights, effects, arguments.allow_nonfinite)


def make_solver(job, snapshots, device=None):
    """A caffe.Solver on a GPU or, without `device`, the CPU, with the job's weights or state in it."""
    from rloss_caffe import nets

    _devices.use(device)
    snapshots.show_in_log()
    _log.show_as(nets.COPY_PREFIX, "")
    parameters = snapshots.for_caffe(job.parameters)
    if job.state:
        done = _snapshots.iteration_of(job.state) * parameters.iter_size
        with _data_from(done):
            solver = nets.make_solver(parameters, job.solver_path)
        _log.info(f"Resuming from {job.state}")
        nets.check_solverstate(job.state, solver, _log.warning)
        solver.restore(job.state)
        return solver
    solver = nets.make_solver(parameters, job.solver_path)
    for path in job.weights:
        _log.info(f"Finetuning from {path}")
        for net in [solver.net, *solver.test_nets]:
            nets.load_weights(net, path, _log.warning)
    return solver


@contextlib.contextmanager
def _data_from(batch):
    """Let data layers that are set up meanwhile go on where the training was."""
    before = os.environ.get("RLOSS_BATCHES_DONE")
    os.environ["RLOSS_BATCHES_DONE"] = str(batch)
    try:
        yield
    finally:
        del os.environ["RLOSS_BATCHES_DONE"]
        if before is not None:
            os.environ["RLOSS_BATCHES_DONE"] = before


class _Stop(Exception):
    pass


def solve(solver, job, snapshots, requests, is_root=True):
    """``solver.solve()``, that can be interrupted, with snapshots that are whole.

    Signals that come in the middle of an iteration take effect at its end: what is saved is always a whole number of
    iterations. An error in a layer does not lose the training either: a snapshot is saved first.

    Parameters
    ----------
    solver : caffe.Solver
        From `make_solver`.
    job : Job
    snapshots : Snapshots
    requests : Requests
    is_root : bool
        Of several solvers that train together only the root, that of rank 0, saves snapshots.

    Returns
    -------
    bool
        Whether training went on to its end.

    Raises
    ------
    NotFiniteError
        A loss, a score or a weight is not finite; the snapshots are those from before.
    SnapshotError
        The last snapshot could not be written.
    """
    run = _Run(solver, job, snapshots, requests, is_root)
    with run.bar:
        try:
            if is_root:
                solver.solve()
            else:
                solver.step(run.max_iter - solver.iter)  # solve() is the root's in Caffe, too
            run.between_iterations()
            return True
        except _Stop:
            run.save_at_the_end()
            if solver.iter >= run.max_iter:
                return True
            _log.info("Optimization stopped early.", "solver.cpp:1")
            return False
        except (_finite.NotFiniteError, _snapshots.SnapshotError):
            raise
        except Exception:
            run.rescue()
            raise


class _Run:
    """What happens between Caffe's iterations."""

    def __init__(self, solver, job, snapshots, requests, is_root):
        self._solver, self._snapshots, self._requests, self._is_root = solver, snapshots, requests, is_root
        self.max_iter, self._after_train = job.parameters.max_iter, job.parameters.snapshot_after_train
        self._allow_nonfinite = job.allow_nonfinite
        self._watch = _finite.ScoreWatch(solver.net)
        self._first = self._tried = int(solver.iter)  # the iteration of the last snapshot, whether it could be saved
        snapshots.last = self._first if job.state else None
        self.bar = progress_bar(self.max_iter, "training", "iteration", initial=self._first, file=_log.StatusLine())
        self._losses = [name for name, weight in zip(solver.net.blobs, solver.net._blob_loss_weights) if weight]
        last_layer = len(solver.net.layers) - 1
        solver.add_callback(self.between_iterations, lambda: None)
        if hasattr(solver.net, "before_forward"):
            # Caffe saves before its tests, which may be long, and listens to signals between their batches.
            for net in [solver.net, *solver.test_nets]:
                net.before_forward(lambda layer: layer == 0 and self.between_iterations())
            solver.net.after_forward(lambda layer: layer == last_layer and self._check_scores())
        else:
            solver.add_callback(lambda: None, self._check_scores)

    def between_iterations(self):
        self._show_progress()
        iteration = int(self._solver.iter)
        wanted = self._requests.take("snapshot")
        if wanted or (iteration != self._tried and self._snapshots.is_due(iteration, self.max_iter)):
            self._save(is_last=iteration >= self.max_iter)
        if self._requests.take("stop"):
            raise _Stop

    def save_at_the_end(self):
        if self._after_train and self._solver.iter != self._tried:
            self._save(is_last=True)

    def _save(self, is_last=False):
        """A snapshot that fails is no reason to end a training, but for the last one."""
        self._tried = int(self._solver.iter)
        if not self._is_root:
            return
        problem = None if self._allow_nonfinite else _finite.weights_problem(self._solver.net)
        if problem:
            raise self._not_finite(problem)
        try:
            self._snapshots.save(self._solver)
        except _snapshots.SnapshotError as error:
            if is_last:
                raise
            _log.warning(f"{error}. Training goes on, and the next snapshot is tried again.")

    def _check_scores(self):
        problem = None if self._allow_nonfinite else self._watch.problem()
        if problem:
            raise self._not_finite(problem)

    def _not_finite(self, problem):
        last = self._snapshots.last
        kept = "no snapshot was saved before" if last is None else f"the last snapshot is of iteration {last}"
        return _finite.NotFiniteError(
            f"iteration {self._solver.iter}: {problem}. Training ends; {kept}. "
            "A smaller base_lr or loss_weight may help; --allow_nonfinite goes on"
        )

    def _show_progress(self):
        done = int(self._solver.iter) - self.bar.n
        if done > 0 and self.bar.is_shown:
            blobs = self._solver.net.blobs
            losses = {name: f"{float(blobs[name].data.sum()):.4g}" for name in self._losses}
            self.bar.note(losses)
            self.bar.update(done)

    def rescue(self):
        """A layer has failed; what was trained before is worth keeping."""
        iteration = int(self._solver.iter)
        if not self._is_root or iteration == self._tried:
            return
        if _finite.weights_problem(self._solver.net):
            _log.warning(
                f"Training failed in iteration {iteration} with weights that are not finite; nothing is saved."
            )
            return
        _log.warning(f"Training failed in iteration {iteration}; the state before it is saved.")
        self._save()
