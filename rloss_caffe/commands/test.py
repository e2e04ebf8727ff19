"""``rloss-caffe test``: score a net, as the caffe program does, and then class by class."""

import numpy as np

from rloss_caffe.commands import _devices as devices
from rloss_caffe.commands import _loading as loading
from rloss_caffe.commands import _log as log
from rloss_caffe.commands import _scores as scores
from rloss_caffe.commands._flags import add_flags, existing_files
from rloss_caffe.nets import load_weights

__all__ = ["add_arguments", "run"]

EXAMPLE = "rloss-caffe test --model=test.prototxt --weights=X.caffemodel --iterations=1449"


def add_arguments(parser):
    add_flags(parser, "model", "weights", "gpu", "iterations", "level", "stage")
    parser.add_argument("-json", "--json", metavar="FILE", help="write the classes' figures into this file, too")


def run(arguments):
    """Log every batch's outputs and their means, then print a table for each SegAccuracy layer."""
    if not arguments.model:
        raise ValueError("Need a model definition to score.")
    if not arguments.weights:
        raise ValueError("Need model weights to score.")
    weights = existing_files("weights", arguments.weights)
    gpus = devices.gpu_ids(arguments.gpu)
    devices.use(gpus[0] if gpus else None)
    import caffe

    with log.without_years():
        net = loading.load_net(arguments.model, caffe.TEST, arguments.level, arguments.stage)
        for path in weights:
            load_weights(net, path, log.warning)
        log.info(f"Running for {arguments.iterations} iterations.")
        done, means, loss = _score(net, arguments.iterations)
        log.info(f"Loss: {loss:.6g}")
        loss_weights = dict(zip(net.blobs, net._blob_loss_weights))
        for name, values in means.items():
            for value in values:
                weighted = ""
                if loss_weights[name]:
                    weighted = f" (* {loss_weights[name]:.6g} = {loss_weights[name] * value:.6g} loss)"
                log.info(f"{name} = {value:.6g}{weighted}")
    _report(net, done, arguments.json)
    return 0 if done == arguments.iterations else 130


def _score(net, iterations):
    """Batches done, mean outputs by blob name, mean loss; Ctrl-C ends it early, what is done counts."""
    sums = {name: np.zeros(net.blobs[name].data.size) for name in net.outputs}
    loss, done = 0.0, 0
    try:
        for batch in range(iterations):
            loss += net._forward(0, len(net.layers) - 1)
            for name, total in sums.items():
                values = net.blobs[name].data.ravel()
                total += values
                for value in values:
                    log.info(f"Batch {batch}, {name} = {value:.6g}")
            done += 1
    except KeyboardInterrupt:
        log.warning(f"Interrupted after {done} of {iterations} batches.")
    return done, {name: total / max(done, 1) for name, total in sums.items()}, loss / max(done, 1)


def _report(net, done, json_path):
    from rloss_caffe.layers.image_seg_data import ImageSegData
    from rloss_caffe.layers.seg_accuracy import confusion_matrices

    for layer in net.layers:
        if isinstance(layer, ImageSegData):
            scored, there = done * layer.parameters.batch_size, len(layer.entries)
            if scored != there:
                log.warning(f"{scored} images were scored, the list has {there}: see --iterations.")
    matrices = confusion_matrices(net)
    for name, layer in zip(net._layer_names, net.layers):
        if name in matrices:
            of = f"the last batch (layer {name!r} has 'reset: true')" if layer.parameters.reset else f"{done} batches"
            print(f"\n{name}, in per cent, over {of}:\n{scores.table(matrices[name])}")
    if json_path:
        scores.write_json(json_path, matrices)
