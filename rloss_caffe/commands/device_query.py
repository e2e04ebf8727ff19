"""``rloss-caffe device_query``: which GPUs this Caffe can use."""

import shutil
import subprocess

from rloss_caffe.commands import _log as log
from rloss_caffe.commands._devices import gpu_ids
from rloss_caffe.commands._flags import add_flags

__all__ = ["add_arguments", "run"]

EXAMPLE = "rloss-caffe device_query --gpu=all"


def add_arguments(parser):
    add_flags(parser, "gpu")


def run(arguments):
    """One line a GPU, and what the driver's own program says of it; an error where there is none."""
    ids = gpu_ids(arguments.gpu or "all")
    log.info(f"Querying GPUs {','.join(map(str, ids))}")
    for device in ids:
        log.info(f"Device id: {device}, usable by this Caffe")
    if shutil.which("nvidia-smi"):
        subprocess.run(["nvidia-smi", "--id=" + ",".join(map(str, ids))], check=False)
    return 0
