"""CPU or GPU. A Caffe built for CPUs ends the process when it is asked for a GPU, so another process asks first."""

import os
import subprocess
import sys

from rloss_caffe.commands import _log, _signals

__all__ = ["choose", "gpu_ids", "has_gpu", "use"]


def has_gpu(device=0):
    """Whether this Caffe can use that GPU."""
    code = f"import caffe; caffe.set_device({device}); caffe.set_mode_gpu()"
    environment = dict(os.environ, GLOG_minloglevel="4")
    return subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment).returncode == 0


def gpu_ids(text):
    """The ids of a --gpu flag: ``""``, ``"0"``, ``"0,1"`` or ``"all"``.

    Raises
    ------
    ValueError
        No list of ids; or a GPU that this Caffe cannot use, or none at all.
    """
    if not text:
        return []
    if text == "all":
        ids = []
        while has_gpu(len(ids)):
            ids.append(len(ids))
        if not ids:
            raise ValueError("--gpu=all: this Caffe is CPU-only or finds no GPU; leave the flag out to use the CPU")
        return ids
    if not all(part.strip().isdigit() for part in text.split(",")):
        raise ValueError(f"--gpu: expected ids such as 0 or 0,1, or 'all', found {text!r}")
    ids = [int(part) for part in text.split(",")]
    for device in ids:
        if not has_gpu(device):
            raise ValueError(
                f"--gpu={text}: this Caffe is CPU-only or finds no GPU {device}; leave the flag out to use the CPU"
            )
    return ids


def choose(flag, solver_wants_gpu=False, solver_device=0):
    """The GPUs to use, an empty list for the CPU; without a flag what the solver wants, if it can be had."""
    ids = gpu_ids(flag)
    if not ids and solver_wants_gpu:
        if has_gpu(solver_device):
            return [solver_device]
        _log.warning(
            "The solver says solver_mode: GPU, but this Caffe is CPU-only or finds no GPU: using the CPU. "
            "Write solver_mode: CPU to say so."
        )
    return ids


def use(device=None):
    """Set Caffe's mode: a GPU's id, or None for the CPU."""
    caffe = _signals.import_caffe()
    if device is None:
        _log.info("Use CPU.")
        caffe.set_mode_cpu()
    else:
        _log.info(f"Use GPU with device ID {device}")
        caffe.set_device(device)
        caffe.set_mode_gpu()
