#!/usr/bin/env python
"""Measure the lattice and the DenseCRF loss on real photographs, side by side with pydensecrf.

Usage: python tools/benchmark.py [--runs 15] [--json FILE] [--quick]

Every time is the median of several runs after a warm-up. What is compared (one thread and two, this package and
pydensecrf) is called in turn, so that a slow moment of the machine meets both, and the ratio is the median of the
ratios of such pairs. The photographs are scikit-image's.
pydensecrf is optional: pip install 'cython<3' wheel, then pip install --no-build-isolation pydensecrf2.
"""

import argparse
import ctypes
import itertools
import json
import multiprocessing
import os
import platform
import statistics
import sys
import time

import numba
import numpy as np

import rloss_caffe
from rloss_caffe.data.samples import MEAN_BGR
from rloss_caffe.losses import Workspace

MEAN = np.float32(MEAN_BGR)[:, np.newaxis, np.newaxis]
XY_STD, RGB_STD, CLASSES = 100, 15, 21
PHOTOS = ["astronaut", "coffee", "chelsea", "rocket"]


def photo(name, height, width):
    """A photograph of scikit-image, BGR minus the mean, (3, height, width)."""
    from skimage import data, transform

    rgb = transform.resize(getattr(data, name)(), (height, width), anti_aliasing=True)
    return np.ascontiguousarray((255 * rgb).round().astype(np.float32).transpose(2, 0, 1)[::-1]) - MEAN


def probabilities(n, classes, height, width):
    """Class probabilities that vary smoothly over the image, (n, classes, height, width)."""
    from scipy.special import softmax

    y, x = np.mgrid[:height, :width].astype(np.float32)
    phase = np.arange(classes, dtype=np.float32)[:, np.newaxis, np.newaxis]
    scores = 3 * np.sin(x / (9 + phase) + phase) + 3 * np.cos(y / (11 + phase))
    return np.repeat(softmax(scores, axis=0)[np.newaxis], n, 0).astype(np.float32)


def seconds(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def measure(functions, runs, clock=seconds):
    """Times in milliseconds of several functions, called in turn: array (runs, functions). `clock` calls and times."""
    for function in functions:
        clock(function)
        clock(function)
    return 1e3 * np.array([[clock(function) for function in functions] for _ in range(runs)])


def operations(size, batch):
    """The timed operations on a batch of photographs: names and functions."""
    images = np.array([photo(PHOTOS[index % len(PHOTOS)], size, size) for index in range(batch)])
    values = probabilities(batch, CLASSES, size, size)
    out = np.empty_like(values)
    features = [rloss_caffe.bilateral_features(image, XY_STD, RGB_STD) for image in images]
    lattices = [rloss_caffe.PermutohedralLattice(f) for f in features]
    loss = rloss_caffe.densecrf_loss(images, values, XY_STD, RGB_STD)
    bandwidths = {"bi_xy_std": XY_STD, "bi_rgb_std": RGB_STD}
    return {
        "build": lambda: [rloss_caffe.PermutohedralLattice(f) for f in features],
        "filter": lambda: [lattice.filter(v, out=o) for lattice, v, o in zip(lattices, values, out)],
        "build + filter": lambda: rloss_caffe.bilateral_filter_batch(images, values, XY_STD, RGB_STD, out=out),
        "loss forward": lambda: rloss_caffe.densecrf_loss(images, values, **bandwidths, work=loss.filtered),
        "loss backward": lambda: loss.gradient(1e-8, out=out),
    }


def speed_tables(runs, sizes):
    """Times with one thread and with two, and how many times as fast two are."""
    speed, gain = [], []
    for size, batch in itertools.product(sizes, (1, 4)):
        rows = [{"size": size, "batch": batch, "threads": threads} for threads in (1, 2)]
        ratios = {"size": size, "batch": batch}
        for name, function in operations(size, batch).items():

            def clock(threads, function=function):
                rloss_caffe.set_num_threads(threads)
                return seconds(function)

            times = measure((1, 2), runs, clock)
            for row, median in zip(rows, np.median(times, axis=0)):
                row[name] = float(median)
            ratios[name] = statistics.median(times[:, 0] / times[:, 1])
        speed += rows
        gain.append(ratios)
    return speed, gain


def loss_table(runs, size):
    """Value and gradient of the losses over pairs of pixels, as times of the DenseCRF loss; one thread, CPU time."""
    rloss_caffe.set_num_threads(1)
    images, values = photo("coffee", size, size)[np.newaxis], probabilities(1, CLASSES, size, size)
    labels = np.full((1, size, size), 255)
    for row, label in enumerate((0, 5, 7)):
        labels[0, size * (6 * row + 5) // 32, size * 5 // 32 : size * 9 // 32] = label

    def operation(loss, **options):
        work, out = Workspace(), np.empty_like(values)
        if loss is not rloss_caffe.local_potts_loss:
            options = {"bi_xy_std": XY_STD, "bi_rgb_std": RGB_STD, **options}
        return lambda: loss(images, values, work=work, **options).gradient(1e-8, out=out)

    def cpu_seconds(function):
        start = time.process_time()
        function()
        return time.process_time() - start

    dense, cut, both = rloss_caffe.densecrf_loss, rloss_caffe.normalized_cut_loss, rloss_caffe.kernel_cut_loss
    local = rloss_caffe.local_potts_loss
    rows = []
    for name, loss, options in [
        ("densecrf again", dense, {}),
        ("densecrf quadratic", dense, {"relaxation": "quadratic"}),
        ("densecrf VALID", dense, {"normalization": "VALID"}),
        ("densecrf AFFINITY", dense, {"normalization": "AFFINITY"}),
        ("densecrf symmetric", dense, {"kernel_normalization": "symmetric"}),
        ("densecrf gate", dense, {"gate": True, "labels": labels}),
        ("densecrf, 3 labelled classes", dense, {"classes": "labelled", "labels": labels}),
        ("densecrf, scale_factor 0.5", dense, {"scale_factor": 0.5}),
        ("normalised cut", cut, {}),
        ("normalised cut, 3 labelled classes", cut, {"labels": labels}),
        ("kernel cut", both, {}),
        ("kernel cut quadratic", both, {"relaxation": "quadratic"}),
        ("kernel cut symmetric", both, {"kernel_normalization": "symmetric"}),
        *(
            (f"local Potts, radius {radius}, {relaxation}", local, {"radius": radius, "relaxation": relaxation})
            for radius in (1, 5)
            for relaxation in ("bilinear", "quadratic", "absolute")
        ),
        ("local Potts, radius 1, own contrast", local, {"radius": 1, "contrast": "image"}),
        ("local Potts, radius 5, own contrast", local, {"radius": 5, "contrast": "image"}),
    ]:
        times = measure((operation(dense), operation(loss, **options)), 4 * runs, cpu_seconds)
        ratio = statistics.median(times[:, 1] / times[:, 0])
        rows.append({"loss": name, "ms": float(np.median(times[:, 1])), "of densecrf": ratio})
    return rows


def peer_table(runs, sizes):
    """Lattice and 21-class filter against pydensecrf's kernel set-up and one mean-field step; one thread each."""
    try:
        from pydensecrf import densecrf
    except ImportError:
        return None
    rloss_caffe.set_num_threads(1)
    rows = []
    for size, name in itertools.product(sizes, PHOTOS):
        image, values = photo(name, size, size), probabilities(1, CLASSES, size, size)[0]
        out = np.empty_like(values)
        rgb = np.ascontiguousarray((image + MEAN).transpose(1, 2, 0).astype(np.uint8))
        unary = np.ascontiguousarray(-np.log(values.reshape(CLASSES, -1) + 1e-6))

        def ours(image=image, values=values, out=out):
            return seconds(lambda: rloss_caffe.bilateral_filter(image, values, XY_STD, RGB_STD, out=out))

        def peer(rgb=rgb, unary=unary, size=size):
            crf = densecrf.DenseCRF2D(size, size, CLASSES)
            crf.setUnaryEnergy(unary)
            state = crf.startInference()
            start = time.perf_counter()
            crf.addPairwiseBilateral(sxy=XY_STD, srgb=RGB_STD, rgbim=rgb, compat=1)
            crf.stepInference(*state)
            return time.perf_counter() - start

        # pydensecrf times itself: its unary set-up and first softmax do not count.
        times = measure((ours, peer), runs, lambda function: function())
        one, other = map(float, np.median(times, axis=0))
        ratio = statistics.median(times[:, 1] / times[:, 0])
        rows.append({"photo": name, "size": size, "rloss_caffe": one, "pydensecrf": other, "ratio": ratio})
    return rows


def growth_tables(runs, megapixels, channels):
    rloss_caffe.set_num_threads(1)
    by_size, by_channels = [], []
    for size in megapixels:
        side = round((size * 1e6) ** 0.5)
        image, values = photo("coffee", side, side), probabilities(1, CLASSES, side, side)[0]
        out = np.empty_like(values)
        # The bandwidth grows with the image, as for the same scene at a higher resolution.
        features = rloss_caffe.bilateral_features(image, XY_STD * side / 321, RGB_STD)
        lattice = rloss_caffe.PermutohedralLattice(features)
        timed = [
            lambda f=features: rloss_caffe.PermutohedralLattice(f),
            lambda lattice=lattice, v=values, o=out: lattice.filter(v, out=o),
        ]
        build, apply = map(float, np.median(measure(timed, max(3, runs // 3)), axis=0))
        by_size.append(
            {
                "megapixels": size,
                "lattice points": lattice.num_vertices,
                "build": build,
                "filter": apply,
                "ns per pixel": 1e6 * (build + apply) / side**2,
                "lattice MB": lattice.nbytes / 1e6,
            }
        )
    image = photo("coffee", 321, 321)
    lattice = rloss_caffe.PermutohedralLattice(rloss_caffe.bilateral_features(image, XY_STD, RGB_STD))
    for count in channels:
        values = probabilities(1, count, 321, 321)[0]
        out = np.empty_like(values)
        apply = float(np.median(measure([lambda v=values, o=out: lattice.filter(v, out=o)], runs)))
        by_channels.append({"channels": count, "filter": apply, "per channel": apply / count})
    return by_size, by_channels


def peak_memory(side, threads):
    """Bytes that a lattice and one filter pass take at most, the lattice's points, and what it holds; Linux only."""
    rloss_caffe.set_num_threads(threads)
    rloss_caffe.bilateral_filter(np.ones((3, 64, 64)), np.ones((CLASSES, 64, 64)), 9, 9)
    image, values = photo("coffee", side, side), probabilities(1, CLASSES, side, side)[0]
    out = np.zeros_like(values)
    out += 1
    ctypes.CDLL(None).malloc_trim(0)  # freed memory that is still held would hide what is needed
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    before = _highest_memory()
    lattice = rloss_caffe.PermutohedralLattice(rloss_caffe.bilateral_features(image, XY_STD * side / 321, RGB_STD))
    lattice.filter(values, out=out)
    return _highest_memory() - before, lattice.num_vertices, lattice.nbytes


def _highest_memory():
    with open("/proc/self/status") as file:
        return 1024 * next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))


def memory_table(sides):
    """Peak memory above input and output, in a process of its own, beside the formula of the lattice's docstring."""
    rows = []
    for side, threads in itertools.product(sides, (1, 2)):
        try:
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                peak, points, held = pool.apply(peak_memory, (side, threads))
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


def show(title, rows):
    print(f"\n{title}\n")
    if not rows:
        print("(not measured)")
        return
    names = list(rows[0])
    cells = [[f"{row[name]:.2f}" if isinstance(row[name], float) else str(row[name]) for name in names] for row in rows]
    widths = [max(len(name), *(len(line[i]) for line in cells)) for i, name in enumerate(names)]
    print("| " + " | ".join(name.ljust(width) for name, width in zip(names, widths)) + " |")
    print("|" + "|".join("-" * (width + 2) for width in widths) + "|")
    for line in cells:
        print("| " + " | ".join(cell.rjust(width) for cell, width in zip(line, widths)) + " |")


FLAGS = ["sse4_2", "avx", "f16c", "fma", "avx2", "avx512f"]  # of the processor; those that make kernels faster
BUSY = 0.5  # processes that wait for each CPU


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
        "cpus": rloss_caffe.get_num_threads(),
        "load": load(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "numba": numba.__version__,
        "runs": runs,
    }


def load():
    """Processes that run or wait to run, mean of the last minute; None where the system does not tell."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=15, help="of everything timed; the median counts (default 15)")
    parser.add_argument("--json", metavar="FILE", help="write all numbers as JSON, too")
    parser.add_argument("--quick", action="store_true", help="small sizes and few runs: does it work?")
    arguments = parser.parse_args()
    sizes, megapixels, channels = (321, 513), (0.1, 0.25, 0.5, 1, 2, 4), (1, 2, 4, 8, 16, 21, 32, 64)
    sides = (321, 1000)
    if arguments.quick:
        arguments.runs, sizes, megapixels, channels, sides = 2, (65,), (0.01, 0.02), (1, 21), (65,)

    machine = describe_machine(arguments.runs)
    print(", ".join(f"{name} {value}" for name, value in machine.items()))
    if (machine["load"] or 0) > BUSY * machine["cpus"]:
        warning = f"other programs keep this machine busy (load {machine['load']} on {machine['cpus']} CPUs)"
        print(f"benchmark: {warning}: times are too long, and only the ratios tell something", file=sys.stderr)
    speed, gain = speed_tables(arguments.runs, sizes)
    show(f"Milliseconds, {XY_STD} / {RGB_STD}, {CLASSES} classes", speed)
    show("Two threads: times as fast as one", gain)
    losses = loss_table(arguments.runs, sizes[0])
    show(f"Losses over pairs of pixels, value and gradient at {sizes[0]} x {sizes[0]}, one thread", losses)
    peer = peer_table(arguments.runs, sizes)
    if peer is None:
        print("\npydensecrf is not installed: no comparison (see the head of this file)")
    else:
        show("Against pydensecrf, one thread each, milliseconds: lattice + filter, kernel set-up + one step", peer)
    by_size, by_channels = growth_tables(arguments.runs, megapixels, channels)
    show("Growth with the image, one thread, milliseconds", by_size)
    show("Growth with the channels, 321 x 321, one thread, milliseconds", by_channels)
    memory = memory_table(sides)
    show("Memory above input and output", memory)
    if arguments.json:
        results = {
            "machine": machine,
            "speed": speed,
            "two_threads": gain,
            "losses": losses,
            "pydensecrf": peer,
            "by_size": by_size,
            "by_channels": by_channels,
            "memory": memory,
        }
        with open(arguments.json, "w") as file:
            json.dump(results, file, indent=1)
        print(f"\nwrote {arguments.json}")


if __name__ == "__main__":
    main()
