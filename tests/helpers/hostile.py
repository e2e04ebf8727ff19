"""Hostile values for the arguments of public functions, and the child process that calls a function with them.

A trial takes valid arguments, changes one of them, and calls. Only two ends are right: the result that the same call
gives with clean, separate float32 arrays, or a ValueError or TypeError whose text names the changed argument.
"""

import datetime
import fractions
import subprocess
import sys
from dataclasses import dataclass, field
from typing import Callable

import numpy as np

REFUSED, TAKEN, EITHER = "refused", "taken", "either"  # what may become of a hostile value


@dataclass
class Case:
    """A public function: how it is called with valid arguments, and what its arguments may hold."""

    call: Callable  # call(**arguments): an array, a number, or a tuple of them
    arguments: Callable  # arguments(rng): dict of valid ones; arrays are float32
    out: str = ""  # the name of the argument that receives the result
    may_be_none: tuple = ()
    may_be_infinite: tuple = ()  # arrays whose NaN and infinity go through to the result
    skipped_outside: tuple = ()  # arrays that must be finite only where the region of interest is not 0
    may_be_empty: tuple = ()
    positive: tuple = ()  # floats that must be > 0
    any_shape: tuple = ()  # arrays of which only the size counts
    any_leading: tuple = ()  # arrays (..., H, W)
    not_huge: tuple = ()  # whole numbers for which a huge one is valid, and takes for ever
    refused: dict = field(default_factory=dict)  # by argument, more values that must be refused


@dataclass
class Trial:
    """One argument's hostile value. `clean` is what it stands for, where it stands for something."""

    label: str
    value: object
    end: str = REFUSED
    clean: object = None
    does_not_fit: bool = False  # to the other arguments: an error may name one of those instead


class _Strange:
    def __repr__(self):
        raise RuntimeError("no text")


def array_trials(case, name, array):
    """Hostile variants of a valid array."""
    yield Trial("complex", array.astype(complex))
    yield Trial("object", array.astype(object))
    yield Trial("text", array.astype(str))
    yield Trial("bytes", array.astype("S8"))
    yield Trial("datetime64", np.zeros(array.shape, "datetime64[s]"))
    yield Trial("timedelta64", np.zeros(array.shape, "timedelta64[s]"))
    yield Trial("structured", np.zeros(array.shape, [("a", np.float32)]))
    yield Trial("masked", np.ma.masked_array(array, np.arange(array.size).reshape(array.shape) == 0))
    for other in ("text", {}, object(), _Strange(), datetime.datetime.now(), 1j, b"\0" * 8, [[1, 2], [3]], [None]):
        yield Trial(f"a {type(other).__name__}", other)
    yield Trial("None", None, TAKEN if name in case.may_be_none else REFUSED)
    if name not in case.any_shape:
        yield Trial("0-d", np.float32(3))
        end = EITHER if name in case.any_leading else REFUSED
        for label, other in (
            ("an axis more", np.stack([array] * 3)),
            ("an axis more behind", np.stack([array] * 3, -1)),
            ("30 axes", np.zeros((1,) * 30, np.float32)),
        ):
            yield Trial(label, other, end, other)
    if array.ndim > 1 or name not in case.any_shape:
        yield Trial("flat, and one more", np.append(array, 1))
    for axis in range(array.ndim):
        longer = np.concatenate([array, array.take([0], axis)], axis)
        yield Trial(f"longer axis {axis}", longer, EITHER, longer, does_not_fit=True)
        empty = np.empty(array.shape[:axis] + (0,) + array.shape[axis + 1 :], np.float32)
        yield Trial(f"empty axis {axis}", empty, EITHER if name in case.may_be_empty else REFUSED, empty)
    for bad in (np.nan, np.inf, -np.inf):
        spoiled = array.copy()
        spoiled.flat[spoiled.size // 2] = bad
        if name in case.skipped_outside:
            yield Trial(str(bad), spoiled, EITHER, np.where(np.isfinite(spoiled), spoiled, np.float32(0)))
        else:
            yield Trial(str(bad), spoiled, EITHER if name in case.may_be_infinite else REFUSED, spoiled)
    large = array.astype(float)
    large.flat[0] = 1e39
    yield Trial("1e39", large)
    largest = np.full_like(array, 3.4e38)
    yield Trial("3.4e38 everywhere", largest, EITHER, largest.copy())
    yield Trial("list", array.tolist(), TAKEN, array)
    yield Trial("tuple of arrays", tuple(array), TAKEN, array)
    yield Trial("float64", array.astype(float), TAKEN, array)
    for dtype in ("float16", "int8", "uint8", "int64", "uint64", "bool", ">f4", ">f8", "longdouble"):
        converted = np.abs(array).astype(dtype)
        yield Trial(dtype, converted, EITHER, converted.astype(np.float32))
    yield Trial("Fortran", np.asfortranarray(array), TAKEN, array)
    yield Trial("transposed", np.ascontiguousarray(array.T).T, TAKEN, array)
    wide = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), np.float32)
    wide[..., ::2] = array
    yield Trial("strided", wide[..., ::2], TAKEN, array)
    yield Trial("backwards", array[..., ::-1].copy()[..., ::-1], TAKEN, array)
    yield Trial("broadcast", np.broadcast_to(array[:1], array.shape), TAKEN, np.repeat(array[:1], len(array), 0))
    yield Trial("read-only", read_only(array), TAKEN, array)
    yield Trial("not aligned", unaligned(array), TAKEN, array)
    yield Trial("masked nowhere", np.ma.masked_array(array), EITHER, array)


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


def unaligned(array):
    memory = np.zeros(array.nbytes + 1, np.uint8)[1:]
    moved = memory.view(np.float32).reshape(array.shape)
    moved[...] = array
    return moved


def out_trials(case, result):
    """Arrays for a result of that shape, most of which cannot take it."""
    fresh = np.full(result.shape, 7, np.float32)
    yield Trial("right", fresh, TAKEN)
    yield Trial("None", None, TAKEN)
    yield Trial("list", fresh.tolist())
    yield Trial("text", "text")
    yield Trial("number", 3.0)
    yield Trial("memoryview", memoryview(fresh))
    yield Trial("masked array", np.ma.masked_array(fresh))
    for dtype in ("float64", "int32", "complex64", "object", ">f4", "bool"):
        yield Trial(dtype, np.zeros(result.shape, dtype))
    yield Trial("smaller", np.empty((*result.shape[:-1], result.shape[-1] - 1), np.float32))
    yield Trial("larger", np.empty((*result.shape[:-1], result.shape[-1] + 1), np.float32))
    yield Trial("empty", np.empty(0, np.float32))
    if case.out not in case.any_shape:
        yield Trial("an axis more", fresh[np.newaxis])
    yield Trial("0-d", np.zeros((), np.float32))
    many = len([axis for axis in result.shape if axis > 1]) > 1
    yield Trial("Fortran", np.asfortranarray(fresh), REFUSED if many else EITHER)
    yield Trial("backwards", fresh[..., ::-1], REFUSED if result.shape[-1] > 1 else EITHER)
    if result.size > 1:
        one = np.lib.stride_tricks.as_strided(fresh, result.shape, (0,) * fresh.ndim)
        yield Trial("every value the same memory", one)
    yield Trial("read-only", read_only(fresh))
    yield Trial("not aligned", unaligned(fresh))


def number_trials(case, name, value):
    """Hostile variants of a valid whole number."""
    for bad in (1.5, float(value), "2", b"2", True, np.nan, np.inf, 1j, [value], (value,), np.array([value]), {}):
        yield Trial(f"{type(bad).__name__} {bad!r:.20}", bad)
    yield Trial("object", _Strange())
    yield Trial("datetime64", np.datetime64(3, "s"))
    yield Trial("None", None, TAKEN if name in case.may_be_none else REFUSED)
    if name not in case.not_huge:
        for other in (2**31, 2**62, 10**30, -(10**30), 10**5000):
            yield Trial(f"of {len(bin(other))} bits", other, EITHER, other)
    for other in (-1, 0):
        yield Trial(str(other), other, EITHER, other)
    yield Trial("int64", np.int64(value), TAKEN, value)
    yield Trial("0-d array", np.array(value), EITHER, value)


def float_trials(case, name, value):
    """Hostile variants of a valid float."""
    for bad in (np.nan, np.inf, -np.inf, 1e39, -1e39, 10**400, "15", b"15", True, 1j, [value], (), {}):
        yield Trial(f"{type(bad).__name__} {bad!r:.20}", bad)
    yield Trial("None", None, TAKEN if name in case.may_be_none else REFUSED)
    yield Trial("object", _Strange())
    for bad in (np.array([value]), np.array("15"), np.array(1j), np.array(None), np.datetime64(3, "s")):
        yield Trial(f"array {bad.dtype}", bad)
    for other in (-1.0, 0, -0.0, 1e-46):
        yield Trial(f"{other}", other, REFUSED if name in case.positive else EITHER, other)
    for other in (1e-3, 1e-38, 1e38):
        yield Trial(f"{other}", other, EITHER, other)
    yield Trial("float32", np.float32(value), TAKEN, float(np.float32(value)))
    yield Trial("float64", np.float64(value), TAKEN, value)
    yield Trial("fraction", fractions.Fraction(value), EITHER, value)
    yield Trial("0-d array", np.array(value), EITHER, value)


def flag_trials(case, name, value):
    for bad in ("False", "", 2, -1, 0.5, None, [], [True], np.array([1, 0]), 1j, {}):
        yield Trial(f"{type(bad).__name__} {bad!r:.20}", bad)
    yield Trial("object", _Strange())
    yield Trial("numpy's", np.bool_(value), TAKEN, value)
    yield Trial("int", int(value), EITHER, value)


def text_trials(case, name, value):
    yield Trial("None", None, TAKEN if name in case.may_be_none else REFUSED)
    for bad in (
        "",
        value.swapcase(),
        value + " ",
        b"bilinear",
        3,
        ["bilinear"],
        {},
        np.array([1, 2]),
        "x" * 10**5,
    ):
        yield Trial(f"{type(bad).__name__} {bad!r:.20}", bad)


def sequence_trials(case, name, value):
    yield Trial("list", list(value), TAKEN, value)
    yield Trial("object", _Strange())


def trials(case, name, value):
    if isinstance(value, np.ndarray):
        yield from array_trials(case, name, value)
    elif isinstance(value, bool):
        yield from flag_trials(case, name, value)
    elif isinstance(value, int):
        yield from number_trials(case, name, value)
    elif isinstance(value, float):
        yield from float_trials(case, name, value)
    elif isinstance(value, str):
        yield from text_trials(case, name, value)
    else:
        yield from sequence_trials(case, name, value)
    for position, bad in enumerate(case.refused.get(name, ())):
        yield Trial(f"refused {position}", bad)


def copied(arguments):
    return {name: value.copy() if type(value) is np.ndarray else value for name, value in arguments.items()}


def arrays_of(result):
    result = result if isinstance(result, tuple) else (result,)
    return [np.asarray(float(part) if type(part) is int else part) for part in result]


def same(found, expected, rounding=False):
    """Equal bit for bit, NaN like NaN; or up to rounding."""
    try:
        for a, b in zip(arrays_of(found), arrays_of(expected)):
            if rounding:
                np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
            else:
                np.testing.assert_array_equal(a, b)
    except AssertionError:
        return False
    return len(arrays_of(found)) == len(arrays_of(expected))


def is_finite(result):
    return all(np.isfinite(part).all() for part in arrays_of(result) if part.dtype.kind in "fc")


def judge(case, arguments, name, trial):
    """None where the trial ends right, else what is wrong."""
    given = {**copied(arguments), name: trial.value}
    before = copied(given)
    try:
        found = case.call(**given)
    except (ValueError, TypeError) as error:
        if trial.end == TAKEN:
            return f"was refused: {error}"
        names = given if trial.does_not_fit else [name]
        named = any(each.lower() in str(error).lower() for each in names)
        return None if named else f"the error does not name {name}: {error}"
    except Exception as error:
        return f"ended with {type(error).__name__}: {error}"
    for key, value in before.items():
        if key not in (name, case.out) and type(value) is np.ndarray and not np.array_equal(value, given[key]):
            return f"the input {key} was changed"
    if trial.end == REFUSED:
        return "was taken"
    if name == case.out:
        if trial.value is not None and found is not trial.value:
            return "the result is not in it"
        return None if same(found, case.call(**copied(arguments))) else "the result is wrong"
    if name not in case.may_be_infinite and not is_finite(found):
        return "the result holds NaN or infinity"
    expected = case.call(**copied({**arguments, name: trial.clean}))
    if not same(found, expected, rounding=name == "num_threads"):
        return "the result is not that of a clean argument"
    if name in case.may_be_infinite and not np.isfinite(trial.clean).all() and isinstance(found, np.ndarray):
        replaced = np.where(np.isfinite(trial.clean), trial.clean, np.float32(0))
        without = case.call(**copied({**arguments, name: replaced}))
        reached = ~np.isfinite(found)
        return None if np.array_equal(found[~reached], without[~reached]) else "NaN or infinity got lost"
    return None


def overlap_trials(case, arguments, shape):
    """Results that share memory with an input, and with nothing else: (input, label, arguments)."""
    size = int(np.prod(shape))
    for name, value in arguments.items():
        if type(value) is not np.ndarray:
            continue
        for shift in sorted({0, 1, 7, size // 2, value.size // 2, max(value.size - 1, 0), -1, 1 - size}):
            first, last = min(0, shift), max(value.size, shift + size)
            memory = np.full(last - first, 7, np.float32)
            inside = memory[-first : value.size - first].reshape(value.shape)
            inside[...] = value
            out = memory[shift - first : shift - first + size].reshape(shape)
            yield name, f"shifted by {shift}", {**copied(arguments), name: inside, case.out: out}


def run_case(label, case, seeds, report):
    """Every trial of a case, for several sets of valid arguments; `report(kind, text)` before and after each."""
    for seed in seeds:
        arguments = case.arguments(np.random.RandomState(seed))
        expected = case.call(**copied(arguments))
        for name, value in arguments.items():
            for trial in trials(case, name, value):
                report("TRY", f"{label} seed {seed}: {name} {trial.label}")
                problem = judge(case, arguments, name, trial)
                if problem:
                    report("BAD", problem)
        if not case.out:
            continue
        for trial in out_trials(case, np.asarray(expected)):
            report("TRY", f"{label} seed {seed}: {case.out} {trial.label}")
            problem = judge(case, arguments, case.out, trial)
            if problem:
                report("BAD", problem)
        for name, how, given in overlap_trials(case, arguments, np.shape(expected)):
            report("TRY", f"{label} seed {seed}: {case.out} over {name}, {how}")
            try:
                found = case.call(**given)
            except (ValueError, TypeError) as error:
                if case.out not in str(error):
                    report("BAD", f"the error does not name {case.out}: {error}")
            except Exception as error:
                report("BAD", f"ended with {type(error).__name__}: {error}")
            else:
                if found is not given[case.out] or not same(found, expected):
                    report("BAD", "the result is wrong")


def run_in_child(labels, seeds, timeout=600):
    """Run the named cases in a process of their own.

    Returns the number of trials, and the failures: texts that say what was tried and what came of it.
    """
    command = [sys.executable, "-X", "faulthandler", "-m", "helpers.hostile", f"{seeds.start}-{seeds.stop}", *labels]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=_environment())
    tried, failures, last = 0, [], "nothing"
    for line in done.stdout.splitlines():
        kind, _, text = line.partition(" ")
        if kind == "TRY":
            tried, last = tried + 1, text
        elif kind == "BAD":
            failures.append(f"{last}: {text}")
    if done.returncode != 0:
        failures.append(f"{last}: the process ended with status {done.returncode}\n{done.stderr[-1500:]}")
    return tried, failures


def _environment():
    import os
    from pathlib import Path

    tests = Path(__file__).resolve().parents[1]
    paths = [str(tests), str(tests.parent), os.environ.get("PYTHONPATH", "")]
    return dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, paths)))


def main():
    import resource
    import warnings

    from helpers.public_functions import CASES

    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (12 << 30, 12 << 30))  # a huge size is refused, not swapped
    first, last = map(int, sys.argv[1].split("-"))

    def report(kind, text):
        print(kind, " ".join(text.split()), flush=True)

    for label in sys.argv[2:]:
        run_case(label, CASES[label], range(first, last), report)


if __name__ == "__main__":
    main()
