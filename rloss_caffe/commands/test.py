"""Score a net, with the caffe program's flags and log, and then class by class.

The log has every batch's outputs and their means; on a terminal a bar stands for the batches. A table for each
SegAccuracy layer follows. Scoring ends when a score or a weight is NaN or infinite.
"""

import signal

import numpy as np

from rloss_caffe.commands import _devices, _finite, _flags, _log, _scores, _signals
from rloss_caffe.data.progress import progress_bar

__all__ = ["EXAMPLE", "add_arguments", "run"]

EXAMPLE = "rloss-caffe test --model=test.prototxt --weights=X.caffemodel --iterations=1449"


def add_arguments(parser):
    _flags.add_flags(parser, "model", "weights", "gpu", "iterations", "level", "stage", "allow_nonfinite")
    parser.add_argument("--json", "-json", metavar="FILE", help="write the classes' scores into this file, too")


def run(arguments):
    """0; 130 if a signal ended it early, in which case what is done counts."""
    if not arguments.model:
        raise ValueError("Need a model definition to score.")
    if not arguments.weights:
        raise ValueError("Need model weights to score.")
    weights = _flags.existing_files("weights", arguments.weights)
    with _signals.Requests(dict.fromkeys((signal.SIGINT, signal.SIGTERM), "stop")) as requests, _log.without_years():
        net = _load(arguments, weights)
        _log.info(f"Running for {arguments.iterations} iterations.")
        done = _score(net, arguments, requests)
    _report(net, done, arguments.json)
    return 0 if done == arguments.iterations else 130


def _load(arguments, weights):
    caffe = _signals.import_caffe()
    from rloss_caffe import nets

    gpus = _devices.gpu_ids(arguments.gpu)
    _devices.use(*gpus[:1])
    net = nets.load_net(arguments.model, caffe.TEST, level=arguments.level, stages=_flags.names(arguments.stage))
    for path in weights:
        nets.load_weights(net, path, _log.warning)
    problem = None if arguments.allow_nonfinite else _finite.weights_problem(net)
    if problem:
        raise _not_finite(f"{', '.join(weights)}: {problem}")
    return net


def _score(net, arguments, requests):
    """Log the outputs of every batch and their means; the number of batches done before a signal."""
    sums = {name: np.zeros(net.blobs[name].data.size) for name in net.outputs}
    watch, iterations = _finite.ScoreWatch(net), arguments.iterations
    loss, done, is_quiet = 0.0, 0, _log.on_terminal()
    with progress_bar(iterations, "scoring", "batch", file=_log.StatusLine()) as bar:
        while done < iterations and not requests.take("stop"):
            loss += net._forward(0, len(net.layers) - 1)
            for name, total in sums.items():
                values = net.blobs[name].data.ravel()
                total += values
                for value in () if is_quiet else values:
                    _log.info(f"Batch {done}, {name} = {value:.6g}")
            problem = None if arguments.allow_nonfinite else watch.problem()
            if problem:
                raise _not_finite(f"batch {done}: {problem}")
            done += 1
            bar.update()
    if done < iterations:
        _log.warning(f"Interrupted after {done} of {iterations} batches.")
    _log.info(f"Loss: {loss / max(done, 1):.6g}")
    loss_weights = dict(zip(net.blobs, net._blob_loss_weights))
    for name, total in sums.items():
        for value in total / max(done, 1):
            weight = loss_weights[name]
            weighted = f" (* {weight:.6g} = {weight * value:.6g} loss)" if weight else ""
            _log.info(f"{name} = {value:.6g}{weighted}")
    return done


def _not_finite(problem):
    return _finite.NotFiniteError(f"{problem}. Nothing is scored; --allow_nonfinite goes on")


def _report(net, done, json_path):
    from rloss_caffe.layers.image_seg_data import ImageSegData
    from rloss_caffe.layers.seg_accuracy import confusion_matrices

    for layer in net.layers:
        if isinstance(layer, ImageSegData):
            scored, there = done * layer.parameters.batch_size, len(layer.entries)
            if scored != there:
                _log.warning(f"{scored} images were scored, the list has {there}: see --iterations.")
    matrices = confusion_matrices(net)
    for name, layer in zip(net._layer_names, net.layers):
        if name in matrices:
            of = f"the last batch (layer {name!r} has 'reset: true')" if layer.parameters.reset else f"{done} batches"
            print(f"\n{name}, in per cent, over {of}:\n{_scores.table(matrices[name])}")
    if json_path:
        _scores.write_json(json_path, matrices)
        print(f"wrote {json_path}")
