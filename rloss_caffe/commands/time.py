"""Time a net's layers, forward and backward, with the caffe program's flags and log."""

import time

from rloss_caffe.commands import _devices, _flags, _log, _signals

__all__ = ["EXAMPLE", "add_arguments", "run"]

EXAMPLE = "rloss-caffe time --model=train.prototxt --iterations=10"


def add_arguments(parser):
    _flags.add_flags(parser, "model", "gpu", "iterations", "phase", "level", "stage")


def run(arguments):
    """Time each layer, forward and backward, and all together."""
    if not arguments.model:
        raise ValueError("Need a model definition to time.")
    caffe = _signals.import_caffe()
    from rloss_caffe import nets

    gpus = _devices.gpu_ids(arguments.gpu)
    phase = caffe.TEST if arguments.phase == "TEST" else caffe.TRAIN
    with _log.without_years():
        _devices.use(*gpus[:1])
        stages = _flags.names(arguments.stage)
        _measure(nets.load_net(arguments.model, phase, level=arguments.level, stages=stages), arguments.iterations)
    return 0


def _measure(net, iterations):
    last = len(net.layers) - 1
    _log.info("Performing Forward")
    _log.info(f"Initial loss: {net._forward(0, last):.6g}")
    _log.info("Performing Backward")
    net._backward(last, 0)
    _log.info("*** Benchmark begins ***")
    _log.info(f"Testing for {iterations} iterations.")
    start = time.perf_counter()
    forward, backward = [0.0] * (last + 1), [0.0] * (last + 1)
    totals = [0.0, 0.0]
    for iteration in range(iterations):
        begin = time.perf_counter()
        totals[0] += _step(net._forward, range(last + 1), forward)
        totals[1] += _step(net._backward, range(last, -1, -1), backward)
        _log.info(f"Iteration: {iteration + 1} forward-backward time: {1e3 * (time.perf_counter() - begin):.6g} ms.")
    _log.info("Average time per layer: ")
    for index, name in enumerate(net._layer_names):
        _log.info(f"{name:>10}\tforward: {forward[index] / iterations:.6g} ms.")
        _log.info(f"{name:>10}\tbackward: {backward[index] / iterations:.6g} ms.")
    average = [total / iterations for total in totals]
    _log.info(f"Average Forward pass: {average[0]:.6g} ms.")
    _log.info(f"Average Backward pass: {average[1]:.6g} ms.")
    _log.info(f"Average Forward-Backward: {sum(average):.6g} ms.")
    _log.info(f"Total Time: {1e3 * (time.perf_counter() - start):.6g} ms.")
    _log.info("*** Benchmark ends ***")


def _step(function, layers, times):
    """Call ``function(i, i)`` for every layer, add its milliseconds to `times`; returns their sum."""
    sum_before = sum(times)
    for index in layers:
        start = time.perf_counter()
        function(index, index)
        times[index] += 1e3 * (time.perf_counter() - start)
    return sum(times) - sum_before
