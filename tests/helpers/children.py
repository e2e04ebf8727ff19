"""Run what may end the process in a child."""

import faulthandler
import os
import signal
import tempfile


def in_child(function):
    """Call a function in a child process; returns whether a signal ended it, and what it wrote to standard error."""
    with tempfile.TemporaryFile() as log:
        child = os.fork()
        if child == 0:
            try:
                faulthandler.disable()
                os.dup2(log.fileno(), 1)
                os.dup2(log.fileno(), 2)
                function()
            finally:
                os._exit(0)
        status = os.waitpid(child, 0)[1]
        log.seek(0)
        return os.WIFSIGNALED(status), log.read().decode(errors="replace")


def heed_interrupts():
    """For `preexec_fn`: Ctrl-C ends a child as at a terminal. Where tests run in the background, it is ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
