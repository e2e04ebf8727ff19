"""Lines in the format of Caffe's log, on standard error, where Caffe's own go."""

import contextlib
import os
import subprocess
import sys
import threading
from datetime import datetime

__all__ = ["info", "warning", "without_years"]

_END = b"\0\n"
# Copies standard input to standard output up to _END; Python alone, in isolation, starts at once.
_FILTER = r"""
import re, signal, sys
for number in {signal.SIGINT, getattr(signal, "SIGHUP", signal.SIGINT)}:
    signal.signal(number, signal.SIG_IGN)
for line in iter(sys.stdin.buffer.readline, b""):
    if line == b"\0\n":
        break
    sys.stdout.buffer.write(re.sub(rb"^([IWEF])\d{4}(\d{4} \d\d:)", rb"\1\2", line))
    sys.stdout.buffer.flush()
"""


@contextlib.contextmanager
def without_years():
    """Within this context the dates of all log lines are month and day, as parsers of Caffe's logs expect them.

    New versions of glog, which Caffe's wheel has, put the year in front, and have no switch for it. The lines come from
    C++, so a process of its own rewrites them: a thread would stand still while Caffe computes.
    """
    sys.stderr.flush()
    original = os.dup(2)
    rewriter = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _FILTER], stdin=subprocess.PIPE, stdout=original, start_new_session=True
    )
    os.dup2(rewriter.stdin.fileno(), 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(original, 2)
        with contextlib.suppress(OSError):  # it has been ended from outside
            rewriter.stdin.write(_END)  # others may have the pipe open, too, so it would not end by itself
            rewriter.stdin.close()
        rewriter.wait()
        os.close(original)


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
