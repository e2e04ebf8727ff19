"""``rloss-caffe train``: run one of Caffe's solvers, as the caffe program does."""

import signal

from rloss_caffe.commands import _devices as devices
from rloss_caffe.commands import _loading as loading
from rloss_caffe.commands import _log as log
from rloss_caffe.commands import _training as training
from rloss_caffe.commands._flags import add_flags, existing_file, existing_files
from rloss_caffe.nets import check_solverstate, load_weights

__all__ = ["add_arguments", "run"]

EXAMPLE = "rloss-caffe train --solver=solver.prototxt --weights=init.caffemodel"


def add_arguments(parser):
    add_flags(parser, "solver", "snapshot", "weights", "gpu", "sigint_effect", "sighup_effect", "level", "stage")


def run(arguments):
    """Train to max_iter, or until a signal stops it; 0 in both cases, as a snapshot is there."""
    if not arguments.solver:
        raise ValueError("Need a solver definition to train.")
    if arguments.snapshot and arguments.weights:
        raise ValueError("Give a snapshot to resume training or weights to finetune but not both.")
    snapshot = existing_file("snapshot", arguments.snapshot) if arguments.snapshot else ""
    weights = existing_files("weights", arguments.weights)
    effects = {signal.SIGINT: arguments.sigint_effect}
    if hasattr(signal, "SIGHUP"):
        effects[signal.SIGHUP] = arguments.sighup_effect
    # From here on, not from the first iteration only: raised in the middle of 'import caffe', an interrupt gets lost.
    with training.Requests(effects) as requests:
        _train(arguments, snapshot, weights, effects, requests)
    return 0


def _train(arguments, snapshot, weights, effects, requests):
    parameters = loading.read_solver(arguments.solver)
    training.check_snapshot_folder(parameters, arguments.solver)
    wants_gpu = parameters.solver_mode == parameters.GPU
    gpus = devices.choose(arguments.gpu, wants_gpu, parameters.device_id)
    if len(gpus) > 1:
        from rloss_caffe.commands import _multi_gpu as multi_gpu

        if requests.take("stop"):
            raise KeyboardInterrupt
        with log.without_years():
            log.info(f"Using GPUs {', '.join(map(str, gpus))}")
            multi_gpu.train(arguments.solver, snapshot, weights, gpus, effects, arguments.level, arguments.stage)
            log.info("Optimization Done.")
        return
    devices.use(gpus[0] if gpus else None)
    with log.without_years():
        solver = loading.load_solver(arguments.solver, arguments.level, arguments.stage)
        for path in weights:
            log.info(f"Finetuning from {path}")
            for net in [solver.net, *solver.test_nets]:
                load_weights(net, path, log.warning)
        if snapshot:
            log.info(f"Resuming from {snapshot}")
            check_solverstate(snapshot, solver.net)
            solver.restore(snapshot)
        log.info("Starting Optimization")
        training.solve(solver, parameters, requests)
        log.info("Optimization Done.")
