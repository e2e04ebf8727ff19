"""Lines in the format of Caffe's log, on standard error, where Caffe's own go, and a bar under them on a terminal."""

import contextlib
import os
import subprocess
import sys
import threading
from datetime import datetime

from rloss_caffe.numerics import terminal

__all__ = ["StatusLine", "info", "on_terminal", "show_as", "warning", "without_years"]

# Lines of ours to the rewriter begin with a zero byte.
_END, _STATUS, _SHOW_AS = b"\0\n", b"\0status ", b"\0show "
# Copies standard input to standard output up to _END. Python alone, in isolation, starts at once.
_REWRITER = r"""
import re, signal, sys
for name in ("SIGINT", "SIGTERM", "SIGHUP"):
    if hasattr(signal, name):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
status, renamed, erase = b"", [], b"\r\x1b[K"
write = sys.stdout.buffer.write
for line in iter(sys.stdin.buffer.readline, b""):
    if line == b"\0\n":
        break
    if line.startswith(b"\0status "):
        status = line[8:-1]
        write(erase + status)
    elif line.startswith(b"\0show "):
        renamed.append(line[6:-1].split(b"\0"))
    else:
        line = re.sub(rb"^([IWEF])\d{4}(\d{4} \d\d:)", rb"\1\2", line)
        for old, new in renamed:
            line = line.replace(old, new)
        write(erase + line + status if status else line)
    sys.stdout.buffer.flush()
if status:
    write(erase)
"""
_rewriter = None  # in use: its pipe's end, and the standard error behind it


@contextlib.contextmanager
def without_years():
    """Within this context the dates of all log lines are month and day, as parsers of Caffe's logs expect them.

    New versions of glog, which Caffe's wheel has, put the year in front, and have no switch for it. The lines come from
    C++, so a process of its own rewrites them: a thread would stand still while Caffe computes. As everything that is
    shown passes through it, it also keeps a progress bar below the lines.
    """
    global _rewriter
    sys.stderr.flush()
    original = os.dup(2)
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _REWRITER], stdin=subprocess.PIPE, stdout=original, start_new_session=True
    )
    os.dup2(process.stdin.fileno(), 2)
    _rewriter = process.stdin, original
    try:
        with terminal.answered_by(on_terminal):
            yield
    finally:
        _rewriter = None
        sys.stderr.flush()
        os.dup2(original, 2)
        with contextlib.suppress(OSError):  # it has been ended from outside
            process.stdin.write(_END)  # others may have the pipe open, too, so it would not end by itself
            process.stdin.close()
        process.wait()
        os.close(original)


def show_as(text, shown):
    """Within `without_years`: show other words in every line from now on, as a user's file for a copy of it."""
    _tell(_SHOW_AS + os.fsencode(text) + b"\0" + os.fsencode(shown) + b"\n")


def on_terminal():
    """Whether the log goes to a terminal."""
    return os.isatty(2 if _rewriter is None else _rewriter[1])


class StatusLine:
    """What a progress bar writes to within `without_years`: the line stays below the log's lines."""

    def write(self, text):
        _tell(_STATUS + text.strip("\r\n").replace("\n", " ").encode() + b"\n")

    def flush(self):
        pass

    def isatty(self):
        return _rewriter is not None and on_terminal()

    def fileno(self):
        return _rewriter[1]


def _tell(line):
    if _rewriter is not None:
        with contextlib.suppress(OSError):
            sys.stderr.flush()
            _rewriter[0].write(line)
            _rewriter[0].flush()


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
