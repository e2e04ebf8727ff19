"""Whether a person reads standard error on a terminal."""

import contextlib
import sys

__all__ = ["answered_by", "is_terminal"]

_answer = None  # a command's own, while it puts something between the process and the terminal


def is_terminal():
    """Whether standard error goes to a terminal, at once or through what a command has put in between."""
    if _answer is not None:
        return _answer()
    return sys.stderr is not None and sys.stderr.isatty()


@contextlib.contextmanager
def answered_by(function):
    """Within this context `is_terminal` is what ``function()`` says."""
    global _answer
    before, _answer = _answer, function
    try:
        yield
    finally:
        _answer = before
