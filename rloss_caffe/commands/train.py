"""Run one of Caffe's solvers, with the caffe program's flags and log.

Ctrl-C or SIGTERM stops the training after its iteration, with a snapshot to go on from; SIGHUP saves one and goes on.
A snapshot gets its name when it is whole. Training ends when a loss, a score or a weight is NaN or infinite.
"""

from rloss_caffe.commands import _devices, _flags, _log, _signals, _snapshots, _training

__all__ = ["EXAMPLE", "add_arguments", "run"]

EXAMPLE = "rloss-caffe train --solver=solver.prototxt --weights=init.caffemodel"


def add_arguments(parser):
    names = "solver", "snapshot", "weights", "gpu", "sigint_effect", "sighup_effect", "level", "stage"
    _flags.add_flags(parser, *names, "allow_nonfinite")


def run(arguments):
    """Train to max_iter, or until a signal stops it; 0 in both cases, as a snapshot is there."""
    with _signals.Requests(_training.read_effects(arguments)) as requests:
        job = _training.read_job(arguments)
        wants_gpu = job.parameters.solver_mode == job.parameters.GPU
        gpus = _devices.choose(arguments.gpu, wants_gpu, job.parameters.device_id)
        with _log.without_years():
            if len(gpus) > 1:
                from rloss_caffe.commands import _multi_gpu

                if requests.take("stop"):
                    raise KeyboardInterrupt
                _multi_gpu.train(job, gpus)
            else:
                with _snapshots.Snapshots(job.parameters, job.prefix) as snapshots:
                    solver = _training.make_solver(job, snapshots, *gpus)
                    _log.info("Starting Optimization")
                    _training.solve(solver, job, snapshots, requests)
            _log.info("Optimization Done.")
    return 0
