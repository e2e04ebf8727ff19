"""Which inner loops the lattice runs on: the generated ones, or where those do not compile, their plain twins.

The generated loops (`_embed`, `_rows`, `_generated_pairs`) are LLVM instructions written through Numba's extension
interface. They rely on

* ``numba.extending.intrinsic(prefer_literal=True)``: an intrinsic gets the type of an integer constant of a closure as
  a literal, with its ``literal_value``, and returns ``types.void(...)`` and a function that writes the code;
* ``context.make_array(type)(context, builder, value)``: an array's structure has ``data``, a pointer to its items, and
  ``shape``, a tuple of 64-bit sizes; items of a C-contiguous array lie in order, with nothing between them;
* ``context.get_dummy_value()`` as the value of a void function;
* ``llvmlite.ir``: vector types and constants, ``builder.gep``, ``bitcast``, ``load`` and ``store`` with ``align``,
  ``shuffle_vector``, ``insert_element``, ``select``, ``if_then``, ``if_else``, a loop of ``append_basic_block``,
  ``cbranch`` and ``phi``, and the arithmetic, whose flag ``contract`` lets a product and a sum round once (where both
  terms of a sum are products, versions differ in the one that they do not round); a type's ``as_pointer()``
  (pointers that know what they point to: llvmlite passes them on as LLVM's opaque pointers where those are in use);
* LLVM itself: the functions ``llvm.rint.v16f32`` and ``llvm.fabs.v16f32``; that without fast-math flags no operation
  is reassociated or fused; that vectors wider than the machine's are split.

The first two are Numba's documented interface for extensions, the rest is not promised to anyone. So nothing here may
break a user on a newer version: if a kernel does not compile, one warning says so, and the plain loops take over for
the rest of the process. RLOSS_PLAIN_KERNELS=1 asks for them from the start.
"""

import importlib
import os
import threading
import warnings
from functools import lru_cache

import numba

__all__ = ["kernels"]

_STAGES = "Failed in nopython mode pipeline", "Internal error at"
_lock = threading.Lock()
_is_plain = None  # not decided yet


def kernels(make, *constants):
    """The kernels ``make(loops, *constants)``, which change to the plain loops when the generated ones fail."""
    if _use_plain():
        return make(_loops("plain"), *constants)
    return _generated(make, *constants)


@lru_cache(maxsize=None)
def _generated(make, *constants):
    try:
        generated = make(_loops("generated"), *constants)
    except Exception as error:  # a version without something that the generating modules import
        _give_up(error)
        return make(_loops("plain"), *constants)
    return tuple(_guarded(kernel, make, constants, place) for place, kernel in enumerate(generated))


def _guarded(kernel, make, constants, place):
    """A kernel that is compiled when it is called first; should that fail, its twin does the work.

    Kernels raise nothing themselves but MemoryError, and are compiled before they touch any array.
    """

    def call(*arguments):
        if not _is_plain:
            try:
                return kernel(*arguments)
            except MemoryError:
                raise
            except Exception as error:
                _give_up(error)
        return make(_loops("plain"), *constants)[place](*arguments)

    return call


def _loops(name):
    return importlib.import_module(f"rloss_caffe.filtering._{name}")


def _use_plain():
    global _is_plain
    with _lock:
        if _is_plain is None:
            _is_plain = os.environ.get("RLOSS_PLAIN_KERNELS", "").strip() not in ("", "0")
            if _is_plain:
                _warn("RLOSS_PLAIN_KERNELS is set")
        return _is_plain


def _give_up(error):
    global _is_plain
    with _lock:
        if not _is_plain:
            _is_plain = True
            # A kernel inside a kernel: Numba's stages come first, a line or two each, and the reason behind them.
            reason = [line for line in str(error).splitlines() if not line.startswith(_STAGES)]
            text = " ".join(f"{type(error).__name__}: {' '.join(reason)}".split())[:200]
            _warn(f"Numba {numba.__version__} cannot compile the generated kernels ({text})")


def _warn(reason):
    warnings.warn(
        f"rloss_caffe: {reason}, so the lattice runs on plain kernels: the results are the same, it takes longer",
        RuntimeWarning,
        stacklevel=2,
    )
