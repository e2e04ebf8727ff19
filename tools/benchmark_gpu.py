#!/usr/bin/env python
"""Measure the losses for PyTorch on a GPU, beside this package's CPU path, Gated CRF by unfolding, and MONAI's filter.

Usage: python tools/benchmark_gpu.py [--device cuda] [--parity FOLDER] [--runs 15] [--json FILE] [--profile] [--quick]

First the device's numbers are compared with those of the CPU's lattice and, with --parity, with the original's in
FOLDER/densecrf_loss.npz. No time is printed where they differ. Times are medians of several runs after a warm-up, taken
by CUDA's events; what is compared is called in turn. "cpu path" sends the tensors to the CPU, where the Numba lattice
filters, and the gradient back. With --device cpu the operations in tensors are timed, which no module uses there.
The aims on an H100: forward and backward of 12 x 21 x 321 x 321 in 15 ms, and of 21 x 512 x 512 in 4 ms.
"""

import argparse
import importlib
import json
import platform
import statistics
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from benchmark import MEAN, RGB_STD, XY_STD, crop, photographs, show
from torch.nn.functional import unfold

import rloss_caffe
from rloss_caffe.torch import DenseCRFLoss, LocalPottsLoss, _device
from rloss_caffe.torch._lattice import TensorLattice

CLASSES, RADIUS = 21, 5
CASES = [(size, batch) for size in (321, 513) for batch in (1, 4, 12)] + [(512, 1)]
QUICK = [(33, 1), (34, 2)]
TOLERANCE = 1e-6


def pictures(size, batch):
    """Crops of scikit-image's photographs minus the mean, or where it is missing soft blobs; (batch, 3, size, size)."""
    try:
        crops = [crop(picture, size) for picture in photographs(None, 0).values()]
        return np.array([crops[index % len(crops)] for index in range(batch)])
    except ImportError:
        y, x = np.mgrid[:size, :size] / size
        waves = [[np.sin(9 * x + index) * np.cos(7 * y + c) for c in range(3)] for index in range(batch)]
        noise = np.random.RandomState(0).randn(batch, 3, size, size)
        return (110 * np.array(waves) + 4 * noise + 128).astype(np.float32) - MEAN


def probabilities(size, batch, classes, device):
    """Class probabilities that vary smoothly, and differ from image to image."""
    y, x = (torch.arange(size, dtype=torch.float32, device=device)[each] for each in ((..., None), (None, ...)))
    scores = [
        [3 * torch.sin(x / (9 + k) + k + n) + 3 * torch.cos(y / (11 + k)) for k in range(classes)] for n in range(batch)
    ]
    return torch.stack([torch.stack(each) for each in scores]).softmax(1)


def disagreements(device, folder):
    """How far the device's numbers are from the CPU's, and from the original's: rows of a table."""
    images = pictures(65, 2)
    segmentations = probabilities(65, 2, CLASSES, "cpu").numpy()
    value, gradient = rloss_caffe.densecrf_loss(images, segmentations, XY_STD, RGB_STD)
    cases = {"photographs, Numba": (images, segmentations, XY_STD, RGB_STD, value, gradient)}
    if folder:
        file = np.load(Path(folder, "densecrf_loss.npz"))
        for case in sorted({key.split("/")[0] for key in file}):
            keys = "image", "segmentation", "bi_xy_std", "bi_rgb_std", "loss", "gradient"
            cases[case] = tuple(file[f"{case}/{key}"] for key in keys)
    rows = []
    for case, (images, segmentations, xy, rgb, value, gradient) in cases.items():
        options = {"bi_xy_std": float(xy), "bi_rgb_std": float(rgb)}
        tensors = [torch.from_numpy(each).to(device) for each in (images, segmentations)]
        found = [_device.evaluate("densecrf", options, *tensors) for _ in range(2)]
        one, gradient = found[0][1].cpu().numpy().astype(float), np.asarray(gradient, float)
        rows.append(
            {
                "case": case,
                "value": float(abs(found[0][0].item() - value) / abs(value)),
                "gradient": float(np.linalg.norm(one - gradient) / np.linalg.norm(gradient)),
                "equal twice": torch.equal(found[0][1], found[1][1]),
            }
        )
    return rows


def unfolded_crf(images, segmentations, xy_std, rgb_std):
    """Gated CRF as published: all neighbours of a window side by side; no region, pairs of pixels inside the image."""
    batch, _, height, width = images.shape
    side = 2 * RADIUS + 1

    def neighbours(tensor):
        return unfold(tensor, side, padding=RADIUS).view(batch, tensor.shape[1], side * side, height, width)

    inside = neighbours(torch.ones_like(images[:, :1]))
    colours = (neighbours(images) - images[:, :, None]).square().sum(1, keepdim=True) / (2 * rgb_std**2)
    y, x = torch.meshgrid(*[torch.arange(-RADIUS, RADIUS + 1, device=images.device)] * 2, indexing="ij")
    distance = (x.square() + y.square()).flatten()[:, None, None] / (2 * xy_std**2)
    kernel = torch.exp(-colours - distance) * inside * (distance > 0)
    total = kernel.sum() - (kernel * neighbours(segmentations) * segmentations[:, :, None]).sum()
    return total / (batch * height * width)


class MonaiFilter:
    """MONAI's lattice, normalised and for 16 channels at most: those of a batch in groups."""

    def __init__(self):
        self._filter = importlib.import_module("monai.networks.layers.filtering").PHLFilter

    def __call__(self, features, values):
        return [self._filter.apply(part.contiguous(), features) for part in values.split(16, 1)]


def reason(error):
    """The first line of what an exception says."""
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"


class Clock:
    """Milliseconds, bytes and waits of functions on one device."""

    def __init__(self, device, runs):
        self._device, self._runs = device, runs
        self._is_cuda = device.type == "cuda"

    def _wait(self):
        if self._is_cuda:
            torch.cuda.synchronize(self._device)
        elif self._device.type == "mps":
            torch.mps.synchronize()

    def _once(self, function):
        if not self._is_cuda:
            self._wait()
            start = time.perf_counter()
            function()
            self._wait()
            return 1e3 * (time.perf_counter() - start)
        events = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
        self._wait()
        events[0].record()
        function()
        events[1].record()
        self._wait()
        return events[0].elapsed_time(events[1])

    def medians(self, functions):
        """Of the functions' times, called in turn, by name; a function that cannot run has its reason."""
        times, failed = {name: [] for name in functions}, {}
        for run in range(self._runs + 2):
            for name, function in functions.items():
                if name in failed:
                    continue
                try:
                    elapsed = self._once(function)
                except Exception as error:  # out of memory, or a peer that does not build
                    failed[name] = reason(error)
                    if self._is_cuda:
                        torch.cuda.empty_cache()
                    continue
                if run >= 2:
                    times[name].append(elapsed)
        return {name: failed.get(name) or statistics.median(times[name]) for name in functions}

    def peak(self, function):
        """Bytes that it takes beside what is there; None where the device does not tell."""
        if not self._is_cuda:
            return None
        self._wait()
        before = torch.cuda.memory_allocated(self._device)
        torch.cuda.reset_peak_memory_stats(self._device)
        function()
        self._wait()
        return torch.cuda.max_memory_allocated(self._device) - before

    def waits(self, function):
        """How often it waits for the device; None where the device does not tell."""
        if not self._is_cuda:
            return None
        self._wait()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                function()
            finally:
                torch.cuda.set_sync_debug_mode("default")
        return sum("synchroniz" in str(each.message) for each in caught)


def measure(size, batch, classes, device, clock):
    """Rows of the tables of one size and batch: this package's times, its peers', and the memory."""
    images = torch.from_numpy(pictures(size, batch)).to(device)
    given = probabilities(size, batch, classes, device)
    features = _device._features(images, float(XY_STD), float(RGB_STD))
    values = given.flatten(2)
    lattice = TensorLattice(features)
    leaf = given.clone().requires_grad_()
    dense = DenseCRFLoss(1e-8, RGB_STD, XY_STD, 1.0)
    local = LocalPottsLoss(radius=RADIUS, rgb_std=RGB_STD)
    options = {"bi_xy_std": XY_STD, "bi_rgb_std": RGB_STD}

    def forward():
        if device.type == "cpu":  # where a module calls the Numba kernels
            _device.evaluate("densecrf", options, images, given, with_gradient=False)
            return
        with torch.no_grad():
            dense(images, given)

    def both(loss=dense):
        if device.type == "cpu":
            own_options = options if loss is dense else {"radius": RADIUS}
            _device.evaluate(loss.LOSS, own_options, images, given)
            return
        leaf.grad = None
        loss(images, leaf).backward()

    def cpu_path():
        result = rloss_caffe.densecrf_loss(images.cpu().numpy(), given.cpu().numpy(), **options)
        return torch.from_numpy(result.gradient(1e-8)).to(device)

    def unfolded():
        leaf.grad = None
        unfolded_crf(images, leaf, 6.0, RGB_STD).backward()

    def monai():
        MonaiFilter()(features.view(batch, -1, size, size), given)

    own = {
        "build": lambda: TensorLattice(features),
        "filter": lambda: lattice.filter(values),
        "loss forward": forward,
        "forward + backward": both,
    }
    peers = {
        "forward + backward": both,
        "cpu path": cpu_path,
        "MONAI filter": monai,
        "local Potts": lambda: both(local),
        "Gated CRF by unfold": unfolded,
    }
    case = {"size": size, "batch": batch, "classes": classes}
    speed = {**case, "vertices": lattice.num_vertices, **clock.medians(own)}
    beside = {**case, **clock.medians(peers)}
    memory = {**case}
    for name, function in [*own.items(), ("local Potts", peers["local Potts"])]:
        peak = clock.peak(function)
        memory[f"{name}, MB"] = None if peak is None else peak / 1e6
    waits = {**case, **{name: clock.waits(function) for name, function in own.items()}}
    return speed, beside, memory, waits


def profile(device):
    """Where the time of a batch of twelve goes, as PyTorch's profiler tells."""
    images = torch.from_numpy(pictures(321, 12)).to(device)
    leaf = probabilities(321, 12, CLASSES, device).requires_grad_()
    loss = DenseCRFLoss(1e-8, RGB_STD, XY_STD, 1.0)
    for _ in range(3):
        loss(images, leaf).backward()
    with torch.profiler.profile() as found:
        loss(images, leaf).backward()
        torch.cuda.synchronize(device)
    print(found.key_averages().table(sort_by="self_cuda_time_total", row_limit=40, max_name_column_width=60))


def describe(device, runs):
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or device.type
    return {
        "device": f"{device} ({name})",
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "python": platform.python_version(),
        "cpus": rloss_caffe.get_num_threads(),
        "runs": runs,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, mps, or cpu (default cuda)")
    parser.add_argument("--parity", metavar="FOLDER", help="the folder with the original's results")
    parser.add_argument("--runs", type=int, default=15, help="of everything timed; the median counts (default 15)")
    parser.add_argument("--json", metavar="FILE", help="write all numbers as JSON, too")
    parser.add_argument("--profile", action="store_true", help="tell where the time goes, too (CUDA)")
    parser.add_argument("--quick", action="store_true", help="small sizes and few runs: does it work?")
    arguments = parser.parse_args()
    try:
        device = torch.device(arguments.device)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        sys.exit(f"benchmark_gpu: no device {arguments.device}: {reason(error)}; --device cpu --quick runs anywhere")
    runs, cases, classes = arguments.runs, CASES, CLASSES
    if arguments.quick:
        runs, cases, classes = 2, QUICK, 3

    results = {"machine": describe(device, runs), "parity": disagreements(device, arguments.parity)}
    print(", ".join(f"{name} {value}" for name, value in results["machine"].items()))
    shown = [
        {key: f"{each:.1e}" if isinstance(each, float) else each for key, each in row.items()}
        for row in results["parity"]
    ]
    show("Relative difference of the DenseCRF loss's value and gradient", shown)
    wrong = [
        row["case"]
        for row in results["parity"]
        if not (row["value"] < TOLERANCE and row["gradient"] < TOLERANCE and row["equal twice"])
    ]
    if wrong:
        sys.exit(
            f"benchmark_gpu: the numbers on {device} are not the CPU's ({', '.join(wrong)}): no time is worth a look"
        )
    clock = Clock(device, runs)
    tables = zip(*(measure(size, batch, classes, device, clock) for size, batch in cases))
    titles = {
        "speed": f"Milliseconds, {XY_STD} / {RGB_STD}",
        "peers": "Milliseconds, forward and backward but for MONAI's filter",
        "memory": "Peak memory beside what is there before",
        "waits": "How often the host waits for the device",
    }
    for (name, title), rows in zip(titles.items(), tables):
        results[name] = list(rows)
        if device.type == "cuda" or name in ("speed", "peers"):  # other devices do not tell
            show(title, results[name])
    if arguments.profile and device.type == "cuda":
        profile(device)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(results, indent=1))
        print(f"\nwrote {arguments.json}")


if __name__ == "__main__":
    main()
