"""The package as an importer sees it."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import rloss_caffe


def python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_importing_is_light():
    """Neither Caffe nor Numba is loaded, so nothing compiles and nothing takes long."""
    loaded = python("import sys, rloss_caffe; print(*sys.modules)").split()
    assert "rloss_caffe" in loaded
    assert not {"caffe", "numba", "llvmlite", "scipy", "torch", "tensorflow", "keras", "jax"} & set(loaded)


def test_filters_and_losses_need_no_caffe():
    code = "import sys; sys.modules['caffe'] = None; import rloss_caffe; print(rloss_caffe.densecrf_loss.__name__)"
    assert python(code) == "densecrf_loss\n"


FRAMEWORKS = {
    "torch": {"torch", "keras", "commands"},
    "tensorflow": {"tensorflow", "keras", "commands"},
    "keras": {"keras", "commands"},
    "jax": {"jax.py", "keras", "commands"},
}
"""By framework, the rooms that may import it; the one of its name as a whole, others inside functions."""


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_only_the_room_of_that_name_imports_a_framework(framework):
    """The other imports are the doctor's, and those of Keras of what it computes with, inside functions."""
    importing = set()
    package = Path(rloss_caffe.__file__).resolve().parent
    for file in package.rglob("*.py"):
        for statement in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in statement.names] if isinstance(statement, ast.Import) else []
            if isinstance(statement, ast.ImportFrom):
                names = [statement.module or ""]
            if any(name.split(".")[0] == framework or name.startswith(f"rloss_caffe.{framework}") for name in names):
                importing.add(file.relative_to(package).parts[0])
                assert statement.col_offset or framework in (file.parent.name, file.stem), file
    assert importing <= FRAMEWORKS[framework] and importing & {framework, f"{framework}.py"}


@pytest.mark.parametrize(
    "framework, words",
    [
        ("torch", "needs PyTorch 2.4 or newer"),
        ("tensorflow", "needs TensorFlow 2.16 or newer"),
        ("keras", "needs Keras 3"),
        ("jax", "needs JAX"),
    ],
)
def test_what_is_for_a_framework_says_what_it_misses(framework, words):
    code = f"import sys; sys.modules[{framework!r}] = None; import rloss_caffe.{framework}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    message = done.stderr.splitlines()[-1]
    assert done.returncode == 1 and words in message and "pip install" in message


def test_layers_say_what_they_miss():
    code = "import sys; sys.modules['caffe'] = None; from rloss_caffe.layers import DenseCRFLoss"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    message = done.stderr.splitlines()[-1]
    assert done.returncode == 1 and "need pycaffe" in message and "doctor" in message


def test_public_names_exist():
    for name in rloss_caffe.__all__:
        assert getattr(rloss_caffe, name) is not None
    assert set(rloss_caffe.__all__) <= set(dir(rloss_caffe))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        rloss_caffe.nothing  # noqa: B018


def test_version():
    command = [sys.executable, "-m", "rloss_caffe", "--version"]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert output == f"rloss-caffe {rloss_caffe.__version__}\n"


def test_unknown_command_is_refused():
    command = [sys.executable, "-m", "rloss_caffe", "fly"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and "invalid choice: 'fly'" in done.stderr and "doctor" in done.stderr
