"""``rloss-caffe doctor``: what will and will not work here, and how to mend it."""

import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

from rloss_caffe.version import __version__

__all__ = ["add_arguments", "run"]

EXAMPLE = "rloss-caffe doctor"

# Runs in a process of its own: an unknown layer type or a broken build ends the process, not just the net.
PROBE = """
import sys, tempfile
import caffe
if "Python" not in caffe.layer_type_list():
    sys.exit("no Python layers")
text = '''
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 9 dim: 9 } } }
layer { name: "score" type: "Input" top: "score" input_param { shape { dim: 1 dim: 2 dim: 9 dim: 9 } } }
layer { name: "scale" type: "Scale" bottom: "score" top: "scale" }
layer { name: "prob" type: "Softmax" bottom: "scale" top: "prob" }
layer { name: "loss" type: "Python" bottom: "data" bottom: "prob" top: "loss" loss_weight: 1
  propagate_down: false propagate_down: true
  python_param { module: "rloss_caffe.layers" layer: "DenseCRFLoss" } }
'''
with tempfile.NamedTemporaryFile("w", suffix=".prototxt") as file:
    file.write(text)
    file.flush()
    net = caffe.Net(file.name, caffe.TRAIN)
net.blobs["data"].data[...] = 50
net.blobs["score"].data[...] = 1
net.forward()
net.backward()
assert net.blobs["loss"].data.item() < 0 and net.blobs["prob"].diff.any()
print("runs")
"""

GPU_PROBE = "import caffe; caffe.set_mode_gpu(); caffe.set_device(0); print('GPU')"


def add_arguments(parser):
    pass


def run(arguments):
    """Print one line a check; 0 if the DenseCRFLoss layer runs here, else 1."""
    findings = [
        ("ok", "rloss_caffe", f"{__version__}, {Path(__file__).resolve().parent.parent}"),
        ("ok", "Python", f"{platform.python_version()}, {sys.executable}"),
        _version("numpy"),
        _numba(),
        _threads(),
        _protobuf(),
        _version("yaml"),
        _cache(),
        *_caffe(),
    ]
    for state, name, text in findings:
        print(f"{state:5} {name:15} {text}")
    broken = [name for state, name, _ in findings if state == "FAIL"]
    print()
    if broken:
        print(f"The DenseCRFLoss layer cannot run here: see {', '.join(broken)}.")
        return 1
    print("The DenseCRFLoss layer runs here.")
    return 0


def _version(module):
    try:
        return "ok", module, __import__(module).__version__
    except Exception as error:  # whatever a broken installation raises is the finding
        return "FAIL", module, f"cannot be imported: {error}; pip install --force-reinstall rloss_caffe mends it"


def _numba():
    state, name, text = _version("numba")
    if state == "ok":
        text += "; its threading layer is not used, kernels run on the package's own threads"
    return state, name, text


def _threads():
    try:
        from rloss_caffe.numerics.threads import get_num_threads

        source = "RLOSS_NUM_THREADS" if os.environ.get("RLOSS_NUM_THREADS") else "the CPUs of this process"
        return "ok", "threads", f"{get_num_threads()}, from {source}"
    except ValueError as error:
        return "FAIL", "threads", str(error)


def _protobuf():
    try:
        from google.protobuf import __version__ as version
        from google.protobuf.internal import api_implementation
    except Exception as error:  # as in _version
        return "FAIL", "protobuf", f"cannot be imported: {error}; pip install protobuf mends it"
    kind = api_implementation.Type()
    if kind == "python":
        return "warn", "protobuf", f"{version}, pure Python: right but slow to read large nets"
    return "ok", "protobuf", f"{version}, implementation {kind}"


def _cache():
    """Where Numba keeps compiled kernels: its own order of places."""
    import rloss_caffe

    places = [
        os.environ.get("NUMBA_CACHE_DIR"),
        Path(rloss_caffe.__file__).parent / "filtering" / "__pycache__",
        Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "numba",
    ]
    for place in filter(None, places):
        try:
            Path(place).mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=place):
                return "ok", "kernel cache", str(place)
        except OSError:
            continue
    return "warn", "kernel cache", "no folder is writable, kernels compile at every start; set NUMBA_CACHE_DIR to one"


def _caffe():
    code, output, error = _python("import caffe; print(caffe.__file__)")
    if code:
        reason = error.splitlines()[-1] if error else f"status {code}"
        yield "FAIL", "caffe", f"'import caffe' fails: {reason}; {_caffe_remedy()}"
        return
    yield "ok", "caffe", output
    code, _, error = _python(GPU_PROBE)
    if code:
        yield "warn", "GPU", "none: this Caffe is CPU-only or finds no device; use solver_mode: CPU"
    else:
        yield "ok", "GPU", "yes"
    code, output, error = _python(PROBE)
    if code == 0 and output.endswith("runs"):
        yield "ok", "Python layers", "DenseCRFLoss went forward and backward in a net"
    elif "no Python layers" in error:
        yield "FAIL", "Python layers", "not compiled in; build Caffe with WITH_PYTHON_LAYER := 1"
    else:
        reason = error.splitlines()[-1] if error else f"the process ended with status {code}"
        yield "FAIL", "Python layers", reason


def _caffe_remedy():
    if sys.version_info[:2] < (3, 10) and sys.platform == "linux" and platform.machine() == "x86_64":
        return "pip install 'rloss_caffe[caffe]' brings one, or put your own build's python folder on PYTHONPATH"
    return "a wheel exists for Python 3.6 to 3.9 on Linux x86-64 only; else put your own build on PYTHONPATH"


def _python(code):
    environment = dict(os.environ, GLOG_minloglevel="2")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    return done.returncode, done.stdout.strip(), done.stderr.strip()
