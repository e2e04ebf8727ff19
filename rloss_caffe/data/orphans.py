"""Notice that a net is gone.

pycaffe's Python layers hold a reference to themselves and so outlive their net, for good. A layer that owns processes
has to learn in another way that nobody else holds it any more: by counting its references.
"""

import sys
import threading
import time
import weakref

__all__ = ["when_orphaned"]

_INTERVAL = 0.5  # seconds


def when_orphaned(layer, function):
    """Call ``function()``, in another thread, soon after nothing but `layer` itself refers to `layer`.

    `function` must hold no reference to the layer.
    """
    threading.Thread(target=_watch, args=(weakref.ref(layer), function), daemon=True, name="rloss_caffe").start()


def _watch(reference, function):
    alone = _count(weakref.ref(_SelfReferring()))
    while (_count(reference) or 0) > alone:
        time.sleep(_INTERVAL)
    function()


def _count(reference):
    """How many references its target has, this function's own included; None once it is gone."""
    target = reference()
    return None if target is None else sys.getrefcount(target)


class _SelfReferring:
    """Like an orphaned layer: what `_count` says of it is what it says of one."""

    def __init__(self):
        self.itself = self
