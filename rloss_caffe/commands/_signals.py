"""What signals ask for, and Caffe's first import, in which they must wait."""

import contextlib
import signal

__all__ = ["Requests", "Terminated", "import_caffe", "terminated_as_interrupted"]

_ENDING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Terminated(KeyboardInterrupt):
    """SIGTERM came: what is under way ends as after Ctrl-C."""


class Requests:
    """What signals have asked for. Used as a context: handlers are put in place, and put back.

    Parameters
    ----------
    effects : dict
        Signal number to "snapshot", "stop" or "none".
    """

    def __init__(self, effects):
        self._effects = effects
        self._pending = set()

    def __enter__(self):
        self._previous = {number: signal.signal(number, self._note) for number in self._effects}
        return self

    def __exit__(self, *_):
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number, _):
        self._pending.add(self._effects[number])

    def take(self, effect):
        """Whether `effect` was asked for since the last time."""
        asked = effect in self._pending
        self._pending.discard(effect)
        return asked


def import_caffe():
    """The module caffe. A signal that comes while it is loaded takes effect afterwards: in there it would be lost."""
    if not hasattr(signal, "pthread_sigmask"):
        import caffe

        return caffe
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    try:
        import caffe
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return caffe


@contextlib.contextmanager
def terminated_as_interrupted():
    """Within this context SIGTERM raises `Terminated`, so that whatever runs tidies up; only in the main thread."""

    def end(*_):
        raise Terminated

    try:
        before = signal.signal(signal.SIGTERM, end)
    except ValueError:  # another thread has called us
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
