"""Every public function with hostile arguments, in a child process: the right result, or an error that names them."""

import importlib
import inspect
import os
import pkgutil

import pytest
from helpers.hostile import run_in_child
from helpers.public_functions import CASES, is_listed

import rloss_caffe

SEEDS = range(int(os.environ.get("RLOSS_HOSTILE_SEEDS", 1)))  # sets of valid arguments a function
ROOMS = ("numerics", "filtering", "losses", "bilateralfilter", "drawing.segment")


@pytest.mark.parametrize("room", ROOMS)
def test_a_right_result_or_an_error_that_names_the_argument(room):
    labels = [label for label in CASES if label.startswith(room)]
    tried, failures = run_in_child(labels, SEEDS)
    print(f"{room}: {tried} trials")
    assert not failures, "\n".join(failures)
    assert tried > 20 * len(labels)


def public_names():
    """Functions, classes and their methods that the modules of the rooms export, by module and name."""
    for room in ROOMS:
        module = importlib.import_module(f"rloss_caffe.{room}")
        modules = [module]
        for found in pkgutil.iter_modules(getattr(module, "__path__", ())):
            if not found.name.startswith("_"):
                modules.append(importlib.import_module(f"rloss_caffe.{room}.{found.name}"))
        for module in modules:
            for name in getattr(module, "__all__", ()):
                thing = getattr(module, name)
                if not callable(thing) or not thing.__module__.startswith("rloss_caffe."):
                    continue
                label = f"{thing.__module__}.{thing.__qualname__}"[len("rloss_caffe.") :]
                yield label
                if inspect.isclass(thing) and not issubclass(thing, Exception):
                    yield from (
                        f"{label}.{method}"
                        for method, function in vars(thing).items()
                        if inspect.isfunction(function)
                        and not method.startswith("_")
                        and len(inspect.signature(function).parameters) > 1
                    )


def test_no_public_function_is_missing():
    missing = {name for name in public_names() if not is_listed(name)}
    assert not missing, "add to tests/helpers/public_functions.py"


def test_the_list_holds_no_name_that_is_gone():
    assert not set(CASES) - set(public_names())


def test_exported_functions_are_in_the_rooms():
    """What the package exports comes from the rooms that are run through, or takes no arrays."""
    takes_no_arrays = {"Net", "get_solver", "__version__"}
    for name in set(rloss_caffe.__all__) - takes_no_arrays:
        home = getattr(rloss_caffe, name).__module__
        assert any(f"{home}.".startswith(f"rloss_caffe.{room}.") for room in ROOMS), f"{name} of {home}"
