"""Whether processes live."""

import time

import pytest


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def ended(pids, seconds=10):
    deadline = time.time() + seconds
    while any(map(is_alive, pids)) and time.time() < deadline:
        time.sleep(0.02)
    return not any(map(is_alive, pids))


def open_terminal():
    """Both ends of a pseudo-terminal; the test is skipped where there are none, as in some containers."""
    pty = pytest.importorskip("pty", reason="no Unix")
    try:
        return pty.openpty()
    except OSError as error:
        pytest.skip(f"no pseudo-terminals here: {error}")
