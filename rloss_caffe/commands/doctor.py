"""Tell what will and will not work here, and how to mend it."""

import importlib
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from rloss_caffe.installation import add_extra, pip_install
from rloss_caffe.pictures.figures import check_matplotlib
from rloss_caffe.version import __version__

__all__ = ["add_arguments", "run"]

EXAMPLE = "rloss-caffe doctor"
ROOMS_WITH_KERNELS = ("numerics", "filtering", "losses")
PACKAGE = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Finding:
    """One line: the state is ok, warn (something optional is missing) or FAIL (the layers cannot run)."""

    state: str
    name: str
    text: str


# The probes run in processes of their own: an unknown layer type or a broken build ends the process, not just the net.

LOSS_NET = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 9 dim: 9 } } }
layer { name: "score" type: "Input" top: "score" input_param { shape { dim: 1 dim: 2 dim: 9 dim: 9 } } }
layer { name: "scale" type: "Scale" bottom: "score" top: "scale" }
layer { name: "prob" type: "Softmax" bottom: "scale" top: "prob" }
layer { name: "loss" type: "Python" bottom: "data" bottom: "prob" top: "loss" loss_weight: 1
  propagate_down: false propagate_down: true
  python_param { module: "rloss_caffe.layers" layer: "DenseCRFLoss" } }
"""

LOSS_PROBE = """
import sys
import caffe
if "Python" not in caffe.layer_type_list():
    sys.exit("no Python layers")
net = caffe.Net(sys.argv[1], caffe.TRAIN)
net.blobs["data"].data[...] = 50
net.blobs["score"].data[...] = 1
net.forward()
net.backward()
assert net.blobs["loss"].data.item() < 0 and net.blobs["prob"].diff.any()
print("runs")
"""

IMAGE_NET = """
layer { name: "data" type: "Python" top: "data" top: "label" python_param { module: "rloss_caffe.layers"
  layer: "ImageSegData" param_str: "{source: list.txt, root_folder: ./, label_type: PIXEL, crop_size: 8}" } }
"""

IMAGE_PROBE = """
import sys
import cv2, numpy, caffe
from PIL import Image
Image.fromarray(numpy.full((8, 8, 3), 7, numpy.uint8)).save("image.png")
Image.fromarray(numpy.full((8, 8), 1, numpy.uint8)).save("label.png")
net = caffe.Net(sys.argv[1], caffe.TEST)
net.forward()
assert (net.blobs["data"].data == 7).all() and (net.blobs["label"].data == 1).all()
print("runs")
"""

# A layer that tells which Python a caffe program has inside
TELLER = """
import sys, caffe
class Teller(caffe.Layer):
    def setup(self, bottom, top):
        print("\\ninside: Python", sys.version.split()[0], flush=True)
    def reshape(self, bottom, top):
        top[0].reshape(1)
    def forward(self, bottom, top):
        pass
    def backward(self, top, propagate_down, bottom):
        pass
"""
TELLER_NET = 'layer { name: "teller" type: "Python" top: "t" python_param { module: "teller" layer: "Teller" } }'

GPU_PROBE = "import caffe; caffe.set_mode_gpu(); caffe.set_device(0); print('GPU')"
TORCH_PROBE = """
import torch
print(torch.__version__)
print("yes" if hasattr(torch.library, "custom_op") else "no")
for index in range(torch.cuda.device_count()):
    print(f"cuda:{index} ({torch.cuda.get_device_name(index)})")
if torch.backends.mps.is_available():
    print("mps")
"""
TENSORFLOW_PROBE = """
import tensorflow
print(tensorflow.__version__)
import keras
print(keras.__version__)
print(len(tensorflow.config.list_physical_devices("GPU")))
"""
VERSION_PROBE = "import {0}; print(getattr({0}, '__version__', 'of unknown version')); print({0}.__file__)"


def add_arguments(parser):
    pass


def run(arguments):
    """Print one line a check; 0 if the DenseCRFLoss layer runs here, else 1."""
    findings = []
    for finding in _findings():
        print(f"{finding.state:5} {finding.name:15} {finding.text}", flush=True)
        findings.append(finding)
    state = {finding.name: finding.state for finding in findings}
    broken = [finding.name for finding in findings if finding.state == "FAIL"]
    print()
    if broken:
        print(f"The DenseCRFLoss layer cannot run here: see {', '.join(broken)}.")
        return 1
    print("The DenseCRFLoss layer runs here.")
    if state["ImageSegData"] != "ok":
        print("ImageSegData, which reads images, does not run here: see the lines with warn.")
    return 0


def _findings():
    yield Finding("ok", "rloss_caffe", f"{__version__}, {PACKAGE}")
    yield Finding("ok", "Python", f"{platform.python_version()}, {sys.executable}")
    yield _command()
    caffe = _python("import caffe; print(getattr(caffe, '__version__', 'of unknown version')); print(caffe.__file__)")
    numpy, protobuf = _numpy(caffe), _protobuf(caffe)
    yield numpy
    yield _version("numba", "its threading layer is not used, kernels run on the package's own threads")
    yield _threads()
    yield protobuf
    yield _version("yaml")
    yield _kernel_cache()
    if caffe.returncode:
        yield _broken_caffe(caffe)
    else:
        yield Finding("ok", "caffe", ", ".join(caffe.stdout.split("\n")[-2:]))
        yield _gpu()
        yield _python_layers()
    # A command that keeps the numpy and protobuf that are here is right only if these are.
    first = [finding.name for finding in (numpy, protobuf) if finding.state == "FAIL"]
    images = [_optional(name, "images", "ImageSegData needs it", first) for name in ("cv2", "PIL")]
    yield from images
    yield _image_layer(images, caffe)
    yield _matplotlib(_optional("matplotlib", "pictures", "pictures need it", first))
    yield _optional("skimage", "pictures", "the quickstart's photographs come with it", first)
    yield from (_optional(name, "draw", "rloss-caffe draw needs it", first) for name in ("bottle", "waitress"))
    yield _torch(first)
    yield _tensorflow(first)
    program = os.environ.get("CAFFE_BIN") or shutil.which("caffe")
    if program:
        yield _program(program)


def _command():
    """Which rloss-caffe a shell finds: it may be another Python's."""
    found = shutil.which("rloss-caffe")
    here = Path(sys.executable).with_name("rloss-caffe")
    if found and Path(found).resolve() == here.resolve():
        return Finding("ok", "rloss-caffe", found)
    instead = str(here) if here.exists() else f"{sys.executable} -m rloss_caffe"
    if found:
        return Finding("warn", "rloss-caffe", f"{found} is another Python's; this one's is {instead}")
    return Finding("warn", "rloss-caffe", f"not on PATH; the command is {instead}")


def _version(module, remark=""):
    try:
        found = importlib.import_module(module)
        return Finding("ok", module, "; ".join(filter(None, [found.__version__, remark])))
    except Exception as error:  # whatever a broken installation raises is the finding
        name = {"yaml": "pyyaml"}.get(module, module)
        mend = pip_install("--force-reinstall", "--no-deps", name)
        return Finding("FAIL", module, f"cannot be imported: {error}; this brings it: {mend}")


def _numpy(caffe):
    finding = _version("numpy")
    if (
        finding.state == "ok"
        and int(finding.text.split(".")[0]) >= 2
        and _says(caffe, r"NumPy 1\.|_ARRAY_API|multiarray")
    ):
        mend = pip_install("numpy<2")
        return Finding("FAIL", "numpy", f"{finding.text}, and this Caffe was built for numpy 1; this mends it: {mend}")
    return finding


def _threads():
    try:
        from rloss_caffe.numerics.threads import get_num_threads

        source = "RLOSS_NUM_THREADS" if os.environ.get("RLOSS_NUM_THREADS") else "the CPUs of this process"
        return Finding("ok", "threads", f"{get_num_threads()}, from {source}")
    except ValueError as error:
        return Finding("FAIL", "threads", str(error))


def _protobuf(caffe):
    try:
        from google.protobuf import __version__ as version
        from google.protobuf.internal import api_implementation
    except Exception as error:  # as in _version
        mend = pip_install("--force-reinstall", "protobuf>=3.12,<3.21")
        return Finding("FAIL", "protobuf", f"cannot be imported: {error}; this brings it: {mend}")
    kind = api_implementation.Type()
    if not version.startswith("3.") and _says(caffe, r"Descriptors cannot|caffe\.proto|descriptor pool"):
        mend = pip_install("protobuf<3.21")
        return Finding("FAIL", "protobuf", f"{version}, and this Caffe is older than protobuf 4; this mends it: {mend}")
    if kind == "python":
        return Finding("warn", "protobuf", f"{version}, pure Python: right but slow to read large nets")
    return Finding("ok", "protobuf", f"{version}, implementation {kind}")


def _kernel_cache():
    """Where Numba keeps the compiled kernels, by its own word."""
    try:
        folders = sorted({folder for room in ROOMS_WITH_KERNELS for folder in _cache_folders(room)})
    except Exception as error:  # as in _version: numba may be what is broken
        return Finding("FAIL", "kernel cache", f"the kernels cannot be loaded: {error}")
    if not folders:
        text = "no folder is writable, kernels compile at every start; set NUMBA_CACHE_DIR to one"
        return Finding("warn", "kernel cache", text)
    count = sum(len(list(Path(folder).glob("*.nbc"))) for folder in folders)
    parent = os.path.commonpath(folders)
    inside = [os.path.relpath(folder, parent) for folder in folders]
    place = f"{parent}{os.sep}{{{','.join(inside)}}}" if len(folders) > 1 else parent
    return Finding("ok", "kernel cache", f"{place}, {count} compiled kernels")


def _cache_folders(room):
    """The folders of all kernels of a room; none for a kernel without a cache."""
    from numba.core.dispatcher import Dispatcher

    for path in (PACKAGE / room).glob("*.py"):
        module = importlib.import_module(f"rloss_caffe.{room}.{path.stem}".replace(".__init__", ""))
        for value in vars(module).values():
            if isinstance(value, Dispatcher) and value.stats.cache_path:
                yield value.stats.cache_path


def _broken_caffe(caffe):
    text = f"{sys.executable} fails at 'import caffe': {_reason(caffe)}"
    files = re.findall('File "(.*?)", line', caffe.stderr)
    if len(files) > 1:  # the last one tells whose fault it is: Caffe's, or that of something it imports
        text += f" (in {files[-1]})"
    if _says(caffe, "No module named '?caffe'?$"):
        text += "; " + _caffe_remedy()
    return Finding("FAIL", "caffe", text)


def _caffe_remedy():
    if sys.version_info[:2] < (3, 10) and sys.platform == "linux" and platform.machine() == "x86_64":
        return f"put your own build's python folder on PYTHONPATH, or take the wheel: {add_extra('caffe')}"
    return "put your own build's python folder on PYTHONPATH; a wheel exists for Python 3.6 to 3.9 on Linux x86-64 only"


def _gpu():
    if _python(GPU_PROBE).returncode:
        return Finding("warn", "GPU", "none: this Caffe is CPU-only or finds no device; use solver_mode: CPU")
    return Finding("ok", "GPU", "yes")


def _python_layers():
    done = _python(LOSS_PROBE, LOSS_NET)
    if done.stdout.endswith("runs"):
        return Finding("ok", "Python layers", "DenseCRFLoss went forward and backward in a net")
    if "no Python layers" in done.stderr:
        return Finding("FAIL", "Python layers", "not compiled in; build Caffe with WITH_PYTHON_LAYER := 1")
    return Finding("FAIL", "Python layers", _reason(done))


def _optional(module, extra, purpose, first):
    """A module of an extra: its version and place, or how to get it, without harm to a Caffe that works."""
    done = _python(VERSION_PROBE.format(module))
    name = {"PIL": "Pillow", "skimage": "scikit-image"}.get(module, module)
    if done.returncode:
        return _missing(name, extra, purpose, first, done)
    return Finding("ok", name, ", ".join(done.stdout.split("\n")[-2:]))


def _missing(name, extra, purpose, first, done):
    mend = f"this brings it: {add_extra(extra)}"
    if first:
        mend = f"mend {' and '.join(first)} first, then run this again"
    return Finding("warn", name, f"cannot be imported: {_reason(done)}; {purpose}; {mend}")


def _torch(first):
    """Which devices PyTorch has, and what computes the losses there."""
    done = _python(TORCH_PROBE)
    if done.returncode:
        return _missing("torch", "torch", "rloss_caffe.torch needs it", first, done)
    version, is_new, *devices = done.stdout.split("\n")
    if is_new != "yes":
        return Finding("warn", "torch", f"{version}; rloss_caffe.torch needs 2.4 or newer")
    text = f"{version}: tensors on the CPU use the Numba lattice; "
    if devices:
        text += f"on {', '.join(devices)} the lattice is in tensor operations, and self-labelling goes to the CPU"
    else:
        text += "no GPU"
    return Finding("ok", "torch", text)


def _tensorflow(first):
    """Whether TensorFlow and Keras are new enough, and where the losses are computed."""
    done = _python(TENSORFLOW_PROBE)
    if done.returncode:
        return _missing("tensorflow", "tensorflow", "rloss_caffe.tensorflow needs it", first, done)
    version, keras, gpus = done.stdout.split("\n")[-3:]
    if int(keras.split(".")[0]) < 3:
        return Finding("warn", "tensorflow", f"{version} with Keras {keras}; rloss_caffe.keras needs Keras 3")
    where = "; tensors on a GPU go there and come back" if int(gpus) else ""
    return Finding("ok", "tensorflow", f"{version}, Keras {keras}: the losses are computed on the CPU{where}")


def _matplotlib(finding):
    """One that is there may be too old."""
    try:
        check_matplotlib()
    except ImportError as error:
        return Finding("warn", finding.name, str(error)) if finding.state == "ok" else finding
    return finding


def _image_layer(images, caffe):
    missing = [finding.name for finding in images if finding.state != "ok"] + ["caffe"] * bool(caffe.returncode)
    if missing:
        return Finding("warn", "ImageSegData", f"does not run without {' and '.join(missing)}")
    done = _python(IMAGE_PROBE, IMAGE_NET)
    if done.stdout.endswith("runs"):
        return Finding("ok", "ImageSegData", "read an image and its label map in a net")
    return Finding("warn", "ImageSegData", f"does not run: {_reason(done)}")


def _program(program):
    """A caffe program has a Python of its own inside, which finds this package and numba by PYTHONPATH only."""
    path = _program_path()
    told = _caffe_time(program, TELLER_NET, path)
    inside = re.search("inside: (Python [0-9.]+)", told.stdout)
    if not inside:
        return Finding("warn", "caffe program", f"{program} does not run Python layers: {_reason(told)}")
    setting = f"PYTHONPATH={shlex.quote(os.pathsep.join(path))}"
    done = _caffe_time(program, LOSS_NET, path)
    if done.returncode:
        why = f"does not run DenseCRFLoss, even with {setting}: {_reason(done)}"
        return Finding("warn", "caffe program", f"{program}, {inside.group(1)} inside, {why}")
    return Finding("ok", "caffe program", f"{program}, {inside.group(1)} inside, runs DenseCRFLoss with {setting}")


def _program_path():
    """The folders with this package and with what it imports, as far as they are this environment's own."""
    folders = [str(PACKAGE.parent)]
    for name in ("numba", "numpy", "yaml", "google.protobuf", "cv2", "PIL"):
        spec = importlib.util.find_spec(name)
        if spec and spec.origin:
            folder = str(Path(spec.origin).resolve().parents[name.count(".") + 1])
            if sys.prefix == sys.base_prefix or Path(sys.prefix).resolve() in Path(folder).parents:
                folders.append(folder)
    return list(dict.fromkeys(folders))


def _caffe_time(program, net, path):
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "teller.py").write_text(TELLER)
        Path(folder, "net.prototxt").write_text(net)
        paths = [folder, *path, os.environ.get("PYTHONPATH", "")]
        command = [os.path.abspath(program) if os.sep in program else program, "time", "-model", "net.prototxt"]
        return _process([*command, "-iterations", "1"], folder, PYTHONPATH=os.pathsep.join(filter(None, paths)))


def _python(code, net=""):
    """Run code in this Python, in a folder of its own, with the path of the net as argument."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "net.prototxt").write_text(net)
        Path(folder, "list.txt").write_text("image.png label.png\n")
        paths = [str(PACKAGE.parent), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
        paths = [os.path.abspath(path) for path in paths if path]
        return _process([sys.executable, "-c", code, "net.prototxt"], folder, PYTHONPATH=os.pathsep.join(paths))


def _process(command, folder, **environment):
    environment = dict(os.environ, GLOG_minloglevel="2", **environment)
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, timeout=300)
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(command, 1, "", str(error))
    done.stdout, done.stderr = done.stdout.strip(), done.stderr.strip()
    return done


def _says(done, pattern):
    return done.returncode and re.search(pattern, done.stderr, re.MULTILINE)


def _reason(done):
    """The last line of what a process complained of: the exception's, or glog's fatal one."""
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    fatal = [line for line in lines if re.match(r"F\d{4} ", line)]
    return (fatal or lines or [f"the process ended with status {done.returncode}"])[-1].strip()
