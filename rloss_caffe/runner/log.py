"""Lines in the format of Caffe's log, on standard error, where Caffe's own go."""

import os
import sys
import threading
from datetime import datetime

__all__ = ["info", "warning"]


def info(text, place="caffe.cpp:1"):
    """One line; like Caffe's, silent with GLOG_minloglevel > 0."""
    _write("I", 0, text, place)


def warning(text, place="caffe.cpp:1"):
    """One line, silent with GLOG_minloglevel > 1."""
    _write("W", 1, text, place)


def _write(letter, level, text, place):
    if _minimum_level() <= level:
        prefix = f"{letter}{datetime.now():%m%d %H:%M:%S.%f} {threading.get_native_id():5d} {place}] "
        sys.stderr.write("".join(f"{prefix}{line}\n" for line in text.splitlines()))
        sys.stderr.flush()


def _minimum_level():
    text = os.environ.get("GLOG_minloglevel", "")  # noqa: SIM112 - glog's own name
    return int(text) if text.isdigit() else 0
