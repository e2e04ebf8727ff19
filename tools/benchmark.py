#!/usr/bin/env python
"""Measure the lattice and the losses on photographs as training sees them, side by side with pydensecrf.

Usage: python tools/benchmark.py [--runs 15] [--photographs FOLDER] [--only TABLE[,TABLE]] [--json FILE] [--quick]

The photographs are scikit-image's, and some of a folder where one is given. They are cropped, not shrunk: fine texture
costs time. One that is smaller than the crop is mirrored at its edges.
What is compared is called in turn, so that a slow moment of the machine meets both, and a ratio is the median of the
ratios of such pairs. What runs in one thread is timed in CPU time, what compares numbers of threads by the clock.
pydensecrf is optional: pip install 'cython<3' wheel, then pip install --no-build-isolation pydensecrf2.
So is Caffe.
"""

import argparse
import ctypes
import itertools
import json
import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numba
import numpy as np
from benchmark_layers import PHOTOS, make_net

import rloss_caffe
from rloss_caffe.data.reading import read_image
from rloss_caffe.data.samples import MEAN_BGR
from rloss_caffe.losses import Workspace

MEAN = np.float32(MEAN_BGR)[:, np.newaxis, np.newaxis]
XY_STD, RGB_STD, CLASSES = 100, 15, 21
BANDWIDTHS = {"bi_xy_std": XY_STD, "bi_rgb_std": RGB_STD}
SCALE = 1e-8  # of the gradients: a published loss weight


def photographs(folder, count):
    """Photographs by name, BGR minus the mean, (3, H, W): scikit-image's, and `count` evenly spread ones of a folder.

    ImageSegData does the same to them.
    """
    from skimage import data

    pictures = {name: getattr(data, name)()[:, :, ::-1] for name in PHOTOS}
    if folder is not None:
        paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
        if not paths:
            raise SystemExit(
                f"benchmark: --photographs must name a folder with JPEG or PNG files, found none in {folder}"
            )
        for path in paths[:: -(-len(paths) // count)]:
            pictures[path.stem] = read_image(path)
    return {name: picture.transpose(2, 0, 1).astype(np.float32) - MEAN for name, picture in pictures.items()}


def crop(picture, size):
    """The middle of a picture, (3, size, size), unscaled."""
    short = [max(0, size - side) for side in picture.shape[1:]]
    picture = np.pad(picture, [(0, 0), *((total // 2, total - total // 2) for total in short)], mode="symmetric")
    top, left = ((side - size) // 2 for side in picture.shape[1:])
    return np.ascontiguousarray(picture[:, top : top + size, left : left + size])


def probabilities(n, classes, height, width):
    """Class probabilities that vary smoothly over the image, (n, classes, height, width)."""
    from scipy.special import softmax

    y, x = np.mgrid[:height, :width].astype(np.float32)
    phase = np.arange(classes, dtype=np.float32)[:, np.newaxis, np.newaxis]
    scores = 3 * np.sin(x / (9 + phase) + phase) + 3 * np.cos(y / (11 + phase))
    return np.repeat(softmax(scores, axis=0)[np.newaxis], n, 0).astype(np.float32)


def wall(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def cpu(function):
    start = time.process_time()
    function()
    return time.process_time() - start


class Timed:
    """Something to be timed: a function, on how many threads, and by which clock."""

    def __init__(self, function, threads=1, clock=None):
        self._function, self._threads = function, threads
        self._clock = clock or cpu

    def __call__(self):
        rloss_caffe.set_num_threads(self._threads)
        return self._clock(self._function)


class Times:
    """Times of several `Timed`, by name, called in turn."""

    def __init__(self, timed, runs):
        for each in timed.values():
            each()
            each()
        rounds = [[each() for each in timed.values()] for _ in range(runs)]
        self._times = dict(zip(timed, 1e3 * np.array(rounds).T))

    def median(self, name):
        """In milliseconds."""
        return float(np.median(self._times[name]))

    def ratio(self, one, other):
        """The median of the ratios of what was called in the same turn."""
        return float(np.median(self._times[one] / self._times[other]))


def operations(images, values):
    """The timed operations on a batch of images: names and functions."""
    out = np.empty_like(values)
    features = [rloss_caffe.bilateral_features(image, XY_STD, RGB_STD) for image in images]
    lattices = [rloss_caffe.PermutohedralLattice(f) for f in features]
    work, exact = Workspace(), Workspace()
    loss = rloss_caffe.densecrf_loss(images, values, **BANDWIDTHS)

    def value_and_gradient(memory, **options):
        rloss_caffe.densecrf_loss(images, values, **BANDWIDTHS, work=memory, **options).gradient(SCALE, out=out)

    return {
        "build": lambda: [rloss_caffe.PermutohedralLattice(f) for f in features],
        "filter": lambda: [lattice.filter(v, out=o) for lattice, v, o in zip(lattices, values, out)],
        "build + filter": lambda: rloss_caffe.bilateral_filter_batch(images, values, XY_STD, RGB_STD, out=out),
        "loss forward": lambda: rloss_caffe.densecrf_loss(images, values, **BANDWIDTHS, work=work),
        "loss backward": lambda: loss.gradient(SCALE, out=out),
        "compatible": lambda: value_and_gradient(work),
        "exact": lambda: value_and_gradient(exact, exact_gradient=True),
    }


def peer(image, values):
    """pydensecrf's kernel set-up and one mean-field step; it times them itself, its unary set-up does not count."""
    from pydensecrf import densecrf

    height, width = image.shape[1:]
    rgb = np.ascontiguousarray((image + MEAN)[::-1].transpose(1, 2, 0).round().astype(np.uint8))
    unary = np.ascontiguousarray(-np.log(values.reshape(CLASSES, -1) + 1e-6))

    def clock(_):
        crf = densecrf.DenseCRF2D(width, height, CLASSES)
        crf.setUnaryEnergy(unary)
        state = crf.startInference()

        def step():
            crf.addPairwiseBilateral(sxy=XY_STD, srgb=RGB_STD, rgbim=rgb, compat=1)
            crf.stepInference(*state)

        return cpu(step)

    return Timed(None, clock=clock)


def has_peer():
    try:
        from pydensecrf import densecrf  # noqa: F401
    except ImportError:
        return False
    return True


def photograph_tables(pictures, sizes, runs):
    """One image at a time: times, and what is compared, each as a ratio of pairs; and the ratios' range."""
    times, ratios = [], []
    compared = has_peer()
    for size, (name, picture) in itertools.product(sizes, pictures.items()):
        image, values = crop(picture, size), probabilities(1, CLASSES, size, size)
        calls = operations(image[np.newaxis], values)
        timed = {name: Timed(call) for name, call in calls.items()}
        if compared:
            timed["pydensecrf"] = peer(image, values[0])
        measured = Times(timed, runs)
        # Apart from the others: what runs between would leave the second CPU asleep, and its cache empty.
        together = {}
        for call in ("build + filter", "loss forward"):
            one_and_two = Times({threads: Timed(calls[call], threads, wall) for threads in (1, 2)}, 2 * runs)
            together[call] = one_and_two.ratio(1, 2)
        where = {"photograph": name, "size": size}
        shown = [name for name in ("pydensecrf", *calls) if name in timed and name not in ("compatible", "exact")]
        times.append({**where, **{name: measured.median(name) for name in shown}})
        times[-1]["ns a pixel"] = 1e6 * times[-1]["build + filter"] / size**2
        ratios.append(
            {
                **where,
                "pydensecrf / (build + filter)": measured.ratio("pydensecrf", "build + filter") if compared else None,
                "forward / (build + filter)": measured.ratio("loss forward", "build + filter"),
                "exact / compatible": measured.ratio("exact", "compatible"),
                "1 / 2 threads, build + filter": together["build + filter"],
                "1 / 2 threads, forward": together["loss forward"],
            }
        )
    return times, ratios


def range_of(ratios, sizes):
    """Minimum, median and maximum of every column of ratios, for every size."""
    rows = []
    for size, (word, of) in itertools.product(
        sizes, {"minimum": min, "median": statistics.median, "maximum": max}.items()
    ):
        lines = [row for row in ratios if row["size"] == size]
        names = [name for name in lines[0] if name not in ("photograph", "size")]
        values = {name: [row[name] for row in lines] for name in names}
        rows.append({"size": size, "": word, **{n: None if None in v else of(v) for n, v in values.items()}})
    return rows


def batch_table(pictures, sizes, runs):
    """Batches, with one thread and with two, by the clock; five images leave one for two threads together."""
    rows = []
    pictures = list(pictures.values())
    for size, batch in itertools.product(sizes, (4, 5)):
        images = np.array([crop(pictures[index % len(pictures)], size) for index in range(batch)])
        calls = operations(images, probabilities(batch, CLASSES, size, size))
        names = "build + filter", "loss forward", "loss backward"
        timed = {(name, threads): Timed(calls[name], threads, wall) for name in names for threads in (1, 2)}
        measured = Times(timed, runs)
        row = {"size": size, "batch": batch}
        for name in names:
            row[f"{name}, 1 thread"], row[f"{name}, 2"] = (measured.median((name, threads)) for threads in (1, 2))
            row[f"{name}, 1 / 2"] = measured.ratio((name, 1), (name, 2))
        rows.append(row)
    return rows


NET = """
force_backward: false
layer {{ name: "image" type: "Input" top: "image" input_param {{ shape {{ dim: 1 dim: 3 dim: {size} dim: {size} }} }} }}
layer {{ name: "scores" type: "Input" top: "scores"
  input_param {{ shape {{ dim: 1 dim: {classes} dim: {size} dim: {size} }} }} }}
layer {{ name: "scale" type: "Scale" bottom: "scores" top: "scaled"
  scale_param {{ filler {{ type: "constant" value: 1 }} }} }}
layer {{ name: "softmax" type: "Softmax" bottom: "scaled" top: "softmax" }}
layer {{ name: "loss" type: "Python" bottom: "image" bottom: "softmax" top: "loss"
  propagate_down: false propagate_down: true loss_weight: {scale}
  python_param {{ module: "rloss_caffe.layers" layer: "DenseCRFLoss"
    param_str: "{{bi_xy_std: {xy}, bi_rgb_std: {rgb}}}" }} }}
"""


def caffe_table(pictures, sizes, runs):
    """The layer inside a real net, in one thread, beside the lattice and the filter alone on the same image."""
    try:
        import caffe  # noqa: F401
    except ImportError:
        return None
    rows = []
    for size, (name, picture) in itertools.product(sizes, pictures.items()):
        text = NET.format(size=size, classes=CLASSES, scale=SCALE, xy=XY_STD, rgb=RGB_STD)
        with tempfile.TemporaryDirectory() as folder:
            net = make_net(Path(folder), text)
        image, values = crop(picture, size)[np.newaxis], probabilities(1, CLASSES, size, size)
        net.blobs["image"].data[...], net.blobs["scores"].data[...] = image, np.log(values)
        net.forward()
        net.backward()
        values = net.blobs["softmax"].data.copy()
        layer = list(net._layer_names).index("loss")
        timed = {
            "build + filter": Timed(operations(image, values)["build + filter"]),
            "layer forward": Timed(lambda net=net, layer=layer: net._forward(layer, layer)),
            "layer backward": Timed(lambda net=net, layer=layer: net._backward(layer, layer)),
            "net forward": Timed(net.forward),
            "net backward": Timed(net.backward),
        }
        measured = Times(timed, runs)
        rows.append(
            {
                "photograph": name,
                "size": size,
                **{name: measured.median(name) for name in timed},
                "layer forward / (build + filter)": measured.ratio("layer forward", "build + filter"),
            }
        )
    return rows


def loss_table(pictures, sizes, runs):
    """Value and gradient of the other losses, as times of the DenseCRF loss; one thread."""
    rows = {}
    for size in sizes:
        images, values = crop(pictures["coffee"], size)[np.newaxis], probabilities(1, CLASSES, size, size)
        labels = np.full((1, size, size), 255)
        for row, label in enumerate((0, 5, 7)):
            labels[0, size * (6 * row + 5) // 32, size * 5 // 32 : size * 9 // 32] = label
        for name, call in loss_calls(images, values, labels).items():
            measured = Times({"densecrf": Timed(loss_calls(images, values, labels)["densecrf"]), 0: Timed(call)}, runs)
            row = rows.setdefault(name, {"loss": name})
            row[f"ms at {size}"], row[f"of densecrf at {size}"] = measured.median(0), measured.ratio(0, "densecrf")
    return list(rows.values())


def loss_calls(images, values, labels):
    dense, cut, both = rloss_caffe.densecrf_loss, rloss_caffe.normalized_cut_loss, rloss_caffe.kernel_cut_loss
    local, own = rloss_caffe.local_potts_loss, rloss_caffe.self_label_loss
    size = rloss_caffe.size_constraint_loss
    cases = {
        "densecrf": (dense, {}),
        "densecrf quadratic": (dense, {"relaxation": "quadratic"}),
        "densecrf VALID": (dense, {"normalization": "VALID"}),
        "densecrf AFFINITY": (dense, {"normalization": "AFFINITY"}),
        "densecrf symmetric": (dense, {"kernel_normalization": "symmetric"}),
        "densecrf gate": (dense, {"gate": True, "labels": labels}),
        "densecrf, exact gradient": (dense, {"exact_gradient": True}),
        "densecrf, 3 labelled classes": (dense, {"classes": "labelled", "labels": labels}),
        "densecrf, scale_factor 0.5": (dense, {"scale_factor": 0.5}),
        "normalised cut": (cut, {}),
        "normalised cut, 3 labelled classes": (cut, {"labels": labels}),
        "kernel cut": (both, {}),
        "kernel cut quadratic": (both, {"relaxation": "quadratic"}),
        "kernel cut symmetric": (both, {"kernel_normalization": "symmetric"}),
    }
    for radius, relaxation in itertools.product((1, 5), ("bilinear", "quadratic", "absolute")):
        name = f"local Potts, radius {radius}, {relaxation}"
        cases[name] = local, {"radius": radius, "relaxation": relaxation}
    for radius in (1, 5):
        cases[f"local Potts, radius {radius}, own contrast"] = local, {"radius": radius, "contrast": "image"}
    cases["self label"] = own, {"labels": labels}
    cases["self label, dense kernel"] = own, {"labels": labels, "kernel": "dense"}
    cases["size constraint, tags"] = size, {"labels": labels}
    calls = {}
    for name, (loss, options) in cases.items():
        arrays = (values,) if loss is size else (images, values)
        if loss is not size:
            options = {"work": Workspace(), **options}
        if loss in (dense, cut, both) or options.get("kernel") == "dense":
            options = {**BANDWIDTHS, **options}
        out = np.empty_like(values)
        calls[name] = lambda loss=loss, arrays=arrays, options=options, out=out: loss(*arrays, **options).gradient(
            SCALE, out=out
        )
    return calls


FIRST_CALL = """
import time
start, cpu = time.perf_counter(), time.process_time()
import rloss_caffe
{imports}
imported = time.perf_counter()
import numpy as np
y, x = np.mgrid[:321, :321]
image = np.float32([[60 * np.sin(x / 7.) + y / 4. - 80, 50 * np.cos(y / 9.), (x * y) % 97]])
values = np.full((1, 21, 321, 321), 1 / 21, np.float32)
{call}
print(imported - start, time.perf_counter() - start, time.process_time() - cpu)
"""
FIRST_CALLS = {
    "densecrf": ("rloss_caffe.densecrf_loss", "rloss_caffe.densecrf_loss(image, values, 100, 15).gradient(1e-8)"),
    "local Potts": ("rloss_caffe.local_potts_loss", "rloss_caffe.local_potts_loss(image, values).gradient(1e-8)"),
    "self label": ("rloss_caffe.self_label_loss", "rloss_caffe.self_label_loss(image, values).gradient(1e-8)"),
    "interpolation": (
        "from rloss_caffe.numerics.interpolation import interpolate",
        "interpolate(values[:, :, :41, :41], (321, 321))",
    ),
}


def first_call_table(names):
    """Import and first call in a process of its own: with an empty cache, and with the one that this has filled."""
    rows = []
    for name in names:
        imports, call = FIRST_CALLS[name]
        code = FIRST_CALL.format(imports=imports, call=call)
        with tempfile.TemporaryDirectory() as folder:
            environment = dict(
                os.environ, NUMBA_CACHE_DIR=folder, PYTHONPATH=str(Path(rloss_caffe.__file__).parents[1])
            )
            for cache in ("empty", "filled"):
                done = subprocess.run(
                    [sys.executable, "-c", code],
                    env=environment,
                    stdout=subprocess.PIPE,
                    text=True,
                    check=True,
                )
                imported, whole, used = map(float, done.stdout.split())
                rows.append(
                    {"first call": name, "cache": cache, "import, s": imported, "all, s": whole, "CPU, s": used}
                )
    return rows


def size_table(picture, megapixels, runs):
    """Larger and larger images of the same texture."""
    rows = []
    for size in megapixels:
        side = round((size * 1e6) ** 0.5)
        image, values = crop(picture, side), probabilities(1, CLASSES, side, side)[0]
        out = np.empty_like(values)
        features = rloss_caffe.bilateral_features(image, XY_STD, RGB_STD)
        lattice = rloss_caffe.PermutohedralLattice(features)
        build = Timed(lambda features=features: rloss_caffe.PermutohedralLattice(features))
        apply = Timed(lambda lattice=lattice, values=values, out=out: lattice.filter(values, out=out))
        measured = Times({"build": build, "filter": apply}, max(3, runs // 3))
        row = {"megapixels": size, "lattice points": lattice.num_vertices}
        row.update({name: measured.median(name) for name in ("build", "filter")})
        row["ns a pixel"] = 1e6 * (row["build"] + row["filter"]) / side**2
        rows.append({**row, "lattice MB": lattice.nbytes / 1e6})
    return rows


def channel_table(picture, channels, runs):
    image = crop(picture, 321)
    lattice = rloss_caffe.PermutohedralLattice(rloss_caffe.bilateral_features(image, XY_STD, RGB_STD))
    timed = {}
    for count in channels:
        values = probabilities(1, count, 321, 321)[0]
        out = np.empty_like(values)
        timed[count] = Timed(lambda values=values, out=out: lattice.filter(values, out=out))
    measured = Times(timed, runs)
    rows = [{"channels": count, "filter": measured.median(count)} for count in channels]
    return [{**row, "a channel": row["filter"] / row["channels"]} for row in rows]


def peak_memory(picture, threads):
    """Bytes that a lattice and one filter pass take at most, the lattice's points, and what it holds; Linux only."""
    rloss_caffe.set_num_threads(threads)
    rloss_caffe.bilateral_filter(np.ones((3, 64, 64)), np.ones((CLASSES, 64, 64)), 9, 9)
    values = probabilities(1, CLASSES, *picture.shape[1:])[0]
    out = np.zeros_like(values)
    out += 1
    ctypes.CDLL(None).malloc_trim(0)  # freed memory that is still held would hide what is needed
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    before = _highest_memory()
    lattice = rloss_caffe.PermutohedralLattice(rloss_caffe.bilateral_features(picture, XY_STD, RGB_STD))
    lattice.filter(values, out=out)
    return _highest_memory() - before, lattice.num_vertices, lattice.nbytes


def _highest_memory():
    with open("/proc/self/status") as file:
        return 1024 * next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))


def memory_table(picture, sides):
    """Peak memory above input and output, in a process of its own, beside the formula of the lattice's docstring."""
    rows = []
    for side, threads in itertools.product(sides, (1, 2)):
        try:
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                peak, points, held = pool.apply(peak_memory, (crop(picture, side), threads))
        except (OSError, AttributeError, StopIteration) as error:
            print(f"peak memory cannot be measured here: {error}")
            return None
        n, d, width = side * side, 5, 24
        lattice = 8 * n * (d + 1) + 8 * points * (d + 1)
        building = 4 * n * d * (2 if n % 16 else 1)  # the features, and their padded copy where one is needed
        filtering = (8 + 4 * (threads - 1)) * (points + 1) * width
        rows.append(
            {
                "side": side,
                "threads": threads,
                "lattice points": points,
                "held MB": held / 1e6,
                "held, formula": lattice / 1e6,
                "peak MB": peak / 1e6,
                "peak, formula": (lattice + max(building, filtering)) / 1e6,
            }
        )
    return rows


def show(title, rows, why="not measured"):
    print(f"\n{title}\n")
    if not rows:
        print(f"({why})", flush=True)
        return
    names = list(rows[0])
    cells = [[_shown(row[name]) for name in names] for row in rows]
    widths = [max(len(name), *(len(line[i]) for line in cells)) for i, name in enumerate(names)]
    print("| " + " | ".join(name.ljust(width) for name, width in zip(names, widths)) + " |")
    print("|" + "|".join("-" * (width + 2) for width in widths) + "|")
    for line in cells:
        print("| " + " | ".join(cell.rjust(width) for cell, width in zip(line, widths)) + " |", flush=True)


def _shown(value):
    return "-" if value is None else f"{value:.2f}" if isinstance(value, float) else str(value)


FLAGS = ["sse4_2", "avx", "f16c", "fma", "avx2", "avx512f"]  # of the processor; those that make kernels faster
BUSY = 0.2  # CPUs that other programs use, beyond which a measurement is not to be trusted


def cpu_info(name):
    """A line of Linux's list of processors; empty elsewhere."""
    try:
        with open("/proc/cpuinfo") as info:
            return next(line.split(":", 1)[1].strip() for line in info if line.startswith(name))
    except (OSError, StopIteration):
        return ""


def describe_machine(runs):
    flags = cpu_info("flags").split()
    return {
        "processor": cpu_info("model name") or platform.processor() or "unknown",
        "flags": " ".join(flag for flag in FLAGS if flag in flags),
        "cpus": os.cpu_count(),
        "threads": rloss_caffe.get_num_threads(),
        "load": load(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "numba": numba.__version__,
        "runs": runs,
    }


def load():
    """Processes that run or wait to run, mean of the last minute; None where the system does not tell."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


class Others:
    """What other programs use of the machine, from now on."""

    def __init__(self):
        self._start = self._read()

    @staticmethod
    def _read():
        """Seconds: by the clock, of all CPUs at work (Linux only), and of this process and its children."""
        try:
            with open("/proc/stat") as file:
                fields = [int(field) for field in file.readline().split()[1:9]]
        except (OSError, ValueError):
            return None
        busy = (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")  # without idling and waiting
        return np.array([time.perf_counter(), busy, sum(os.times()[:4])])

    def cpus(self):
        """How many CPUs they have kept busy; None where the system does not tell."""
        if self._start is None:
            return None
        elapsed, busy, own = self._read() - self._start
        return round(max(0.0, float(busy - own)) / elapsed, 2)


def warn_if_busy(others, when):
    if (others or 0) > BUSY:
        print(
            f"benchmark: warning: other programs {when} {others} of this machine's CPUs: times are too long, ratios "
            "between numbers of threads are wrong, and other ratios tell something",
            file=sys.stderr,
            flush=True,
        )


TABLES = ["photographs", "batches", "caffe", "losses", "size", "channels", "memory", "first_calls"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=15, help="of everything timed; the median counts (default 15)")
    parser.add_argument("--photographs", metavar="FOLDER", type=Path, help="with more photographs: JPEG or PNG files")
    parser.add_argument("--count", type=int, default=8, help="how many to take of that folder (default 8)")
    parser.add_argument("--sizes", metavar="SIZE[,SIZE]", default="321,513", help="of the crops (default 321,513)")
    parser.add_argument("--only", metavar="TABLE[,TABLE]", help=f"measure only these: {', '.join(TABLES)}")
    parser.add_argument("--json", metavar="FILE", help="write all numbers as JSON, too")
    parser.add_argument("--quick", action="store_true", help="small sizes and few runs, in seconds: does it work?")
    arguments = parser.parse_args()
    tables = arguments.only.split(",") if arguments.only else TABLES
    unknown = [table for table in tables if table not in TABLES]
    if unknown:
        parser.error(f"--only must name some of {', '.join(TABLES)}, found {unknown[0]!r}")
    try:
        sizes = [int(size) for size in arguments.sizes.split(",")]
    except ValueError:
        sizes = []
    if not sizes or min(sizes) < 33 or arguments.runs < 1 or arguments.count < 1:
        parser.error("--sizes must be whole numbers >= 33 with commas between, --runs and --count >= 1")
    megapixels, channels, sides = (0.1, 0.25, 0.5, 1, 2, 4), (1, 2, 4, 8, 16, 21, 32, 64), (321, 1000)
    runs, first_calls = arguments.runs, list(FIRST_CALLS)
    if arguments.quick:
        runs, sizes, megapixels, channels, sides, first_calls = 2, [65], (0.01, 0.02), (1, 21), (65,), []

    results = {"machine": describe_machine(runs)}
    before = Others()
    time.sleep(0.5)
    results["machine"]["others before"] = before.cpus()
    print(", ".join(f"{name} {value}" for name, value in results["machine"].items()), flush=True)
    warn_if_busy(results["machine"]["others before"], "use")
    pictures = photographs(arguments.photographs, arguments.count)
    coffee = pictures["coffee"]
    during = Others()
    if "photographs" in tables:
        results["photographs"], results["ratios"] = photograph_tables(pictures, sizes, runs)
        results["ratios' range"] = range_of(results["ratios"], sizes)
        show(f"Milliseconds, {XY_STD} / {RGB_STD}, {CLASSES} classes, one thread", results["photographs"])
        show("Ratios, one image", results["ratios"])
        show("Ratios, all photographs", results["ratios' range"])
        if not has_peer():
            print("\npydensecrf is not installed: no comparison (see the head of this file)")
    if "batches" in tables:
        results["batches"] = batch_table(pictures, sizes, runs)
        show("Batches, milliseconds by the clock", results["batches"])
    if "caffe" in tables:
        results["caffe"] = caffe_table(pictures, sizes, runs)
        show("DenseCRFLoss in a Caffe net, milliseconds, one thread", results["caffe"], "Caffe is not installed")
    if "losses" in tables:
        results["losses"] = loss_table(pictures, sizes, runs)
        show("Losses, value and gradient, one thread", results["losses"])
    if "size" in tables:
        results["by_size"] = size_table(coffee, megapixels, runs)
        show("Growth with the image, one thread, milliseconds", results["by_size"])
    if "channels" in tables:
        results["by_channels"] = channel_table(coffee, channels, runs)
        show("Growth with the channels, 321 x 321, one thread, milliseconds", results["by_channels"])
    if "memory" in tables:
        results["memory"] = memory_table(coffee, sides)
        show("Memory above input and output", results["memory"])
    if "first_calls" in tables:
        results["first_calls"] = first_call_table(first_calls)
        show("Import and first call at 321 x 321", results["first_calls"])
    results["machine"]["others during"] = during.cpus()
    results["machine"]["load after"] = load()
    print(f"\nothers during {results['machine']['others during']}, load after {results['machine']['load after']}")
    warn_if_busy(results["machine"]["others during"], "used, while this ran,")
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(results, indent=1))
        print(f"\nwrote {arguments.json}")


if __name__ == "__main__":
    main()
