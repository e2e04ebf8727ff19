"""``rloss-caffe time``: how long every layer of a net takes, as the caffe program measures it."""

import time

from rloss_caffe.commands import _devices as devices
from rloss_caffe.commands import _loading as loading
from rloss_caffe.commands import _log as log
from rloss_caffe.commands._flags import add_flags

__all__ = ["add_arguments", "run"]

EXAMPLE = "rloss-caffe time --model=train.prototxt --iterations=10"


def add_arguments(parser):
    add_flags(parser, "model", "gpu", "iterations", "phase", "level", "stage")


def run(arguments):
    """Time each layer, forward and backward, and all together."""
    if not arguments.model:
        raise ValueError("Need a model definition to time.")
    gpus = devices.gpu_ids(arguments.gpu)
    devices.use(gpus[0] if gpus else None)
    import caffe

    phase = caffe.TEST if arguments.phase == "TEST" else caffe.TRAIN
    with log.without_years():
        _measure(loading.load_net(arguments.model, phase, arguments.level, arguments.stage), arguments.iterations)
    return 0


def _measure(net, iterations):
    last = len(net.layers) - 1
    log.info("Performing Forward")
    log.info(f"Initial loss: {net._forward(0, last):.6g}")
    log.info("Performing Backward")
    net._backward(last, 0)
    log.info("*** Benchmark begins ***")
    log.info(f"Testing for {iterations} iterations.")
    start = time.perf_counter()
    forward, backward = [0.0] * (last + 1), [0.0] * (last + 1)
    totals = [0.0, 0.0]
    for iteration in range(iterations):
        begin = time.perf_counter()
        totals[0] += _step(net._forward, range(last + 1), forward)
        totals[1] += _step(net._backward, range(last, -1, -1), backward)
        log.info(f"Iteration: {iteration + 1} forward-backward time: {1e3 * (time.perf_counter() - begin):.6g} ms.")
    log.info("Average time per layer: ")
    for index, name in enumerate(net._layer_names):
        log.info(f"{name:>10}\tforward: {forward[index] / iterations:.6g} ms.")
        log.info(f"{name:>10}\tbackward: {backward[index] / iterations:.6g} ms.")
    average = [total / iterations for total in totals]
    log.info(f"Average Forward pass: {average[0]:.6g} ms.")
    log.info(f"Average Backward pass: {average[1]:.6g} ms.")
    log.info(f"Average Forward-Backward: {sum(average):.6g} ms.")
    log.info(f"Total Time: {1e3 * (time.perf_counter() - start):.6g} ms.")
    log.info("*** Benchmark ends ***")


def _step(function, layers, times):
    """Call ``function(i, i)`` for every layer, add its milliseconds to `times`; returns their sum."""
    sum_before = sum(times)
    for index in layers:
        start = time.perf_counter()
        function(index, index)
        times[index] += 1e3 * (time.perf_counter() - start)
    return sum(times) - sum_before
