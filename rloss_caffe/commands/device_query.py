"""Tell which GPUs this Caffe can use, and what the driver's own program says of them."""

import shutil
import subprocess

from rloss_caffe.commands import _devices, _flags, _log

__all__ = ["EXAMPLE", "add_arguments", "run"]

EXAMPLE = "rloss-caffe device_query --gpu=all"


def add_arguments(parser):
    _flags.add_flags(parser, "gpu")


def run(arguments):
    """One line a GPU, and what the driver's own program says of it; an error where there is none."""
    ids = _devices.gpu_ids(arguments.gpu or "all")
    _log.info(f"Querying GPUs {','.join(map(str, ids))}")
    for device in ids:
        _log.info(f"Device id: {device}, usable by this Caffe")
    if shutil.which("nvidia-smi"):
        subprocess.run(["nvidia-smi", "--id=" + ",".join(map(str, ids))], check=False)
    return 0
