#!/usr/bin/env python
"""Measure two layers in real Caffe nets: ImageSegData's images a second, and Interp beside Caffe's Deconvolution.

Usage: python tools/benchmark_layers.py [--runs 15] [--quick]

The images are scikit-image's photographs as JPEGs of VOC's usual size, 500 x 375, with palette PNGs for labels. Every
time is a median after a warm-up.
"""

import argparse
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rloss_caffe.datasets import voc

os.environ.setdefault("GLOG_minloglevel", "2")  # before caffe is loaded: its log would bury the tables

PHOTOS = ["astronaut", "coffee", "chelsea", "rocket"]
DATA = """
layer {{ name: "data" type: "Python" top: "data" top: "label"
  python_param {{ module: "rloss_caffe.layers" layer: "ImageSegData" param_str: "{{{parameters}}}" }} }}
"""
PARAMETERS = (
    "source: {folder}/list.txt, root_folder: {folder}/, label_type: PIXEL, batch_size: {batch}, shuffle: true, "
    "mirror: true, crop_size: {crop}, mean_value: [104.008, 116.669, 122.675], seed: 1, {more}"
)
# Holds Python's interpreter lock as a network's trunk does.
BUSY = """
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 64 kernel_size: 3 stride: 2 weight_filler { type: "xavier" } } }
layer { name: "silence" type: "Silence" bottom: "conv" bottom: "label" }
"""
ZOOM = """
layer { name: "scores" type: "DummyData" top: "scores"
  dummy_data_param { shape { dim: 4 dim: 21 dim: SIZE dim: SIZE } data_filler { type: "gaussian" std: 1 } } }
layer { name: "scale" type: "Scale" bottom: "scores" top: "scaled" }
layer { name: "interp" type: "Python" bottom: "scaled" top: "interp"
  python_param { module: "rloss_caffe.layers" layer: "Interp" param_str: "zoom_factor: 8" } }
layer { name: "deconvolution" type: "Deconvolution" bottom: "scaled" top: "deconvolution" param { lr_mult: 0 }
  convolution_param { num_output: 21 group: 21 kernel_size: 15 stride: 8 pad: 7 bias_term: false
    weight_filler { type: "bilinear" } } }
layer { name: "a" type: "Reduction" bottom: "interp" top: "a" loss_weight: 1 }
layer { name: "b" type: "Reduction" bottom: "deconvolution" top: "b" loss_weight: 1 }
"""


class Sizes(NamedTuple):
    runs: int
    warm_up: int = 6  # longer than the batches that were made ahead
    images: int = 40
    batch: int = 20
    crop: int = 321
    scores: int = 41  # rows and columns of what is enlarged


QUICK = Sizes(runs=1, warm_up=1, images=4, batch=2, crop=65, scores=9)


def make_images(folder, count):
    """Photographs and label maps, and the list of them."""
    from PIL import Image
    from skimage import data

    lines = []
    for index in range(count):
        photo = Image.fromarray(getattr(data, PHOTOS[index % len(PHOTOS)])()).resize((500, 375))
        photo.save(folder / f"{index}.jpg", quality=90)
        label = Image.fromarray((np.asarray(photo)[:, :, 0] // 13).astype(np.uint8))
        label.putpalette(voc.palette().tobytes())
        label.save(folder / f"{index}.png")
        lines.append(f"{index}.jpg {index}.png\n")
    (folder / "list.txt").write_text("".join(lines))


def make_net(folder, text):
    import caffe

    path = folder / "net.prototxt"
    path.write_text(text)
    caffe.set_mode_cpu()
    return caffe.Net(str(path), caffe.TRAIN)


def median_seconds(function, sizes):
    times = []
    for _ in range(sizes.warm_up + sizes.runs):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times[sizes.warm_up :])


def images_table(folder, sizes):
    batches = f"batches of {sizes.batch} at crop {sizes.crop}"
    print(f"\nImageSegData, {batches}; 'waiting' is its forward pass in a net that computes meanwhile\n")
    print("| | alone, images/s | beside a convolution: computing, ms | waiting for data, ms |\n|---|---|---|---|")
    for scales in ("", "scale_factors: [0.5, 0.75, 1, 1.25, 1.5], "):
        for workers in (0, 1, 2):
            more = scales + ("prefetch: 0" if not workers else f"workers: {workers}")
            parameters = PARAMETERS.format(folder=folder, more=more, batch=sizes.batch, crop=sizes.crop)
            text = DATA.format(parameters=parameters)
            net = make_net(folder, text)
            alone = median_seconds(lambda net=net: net._forward(0, 0), sizes)
            net.layers[0]._feed.close()
            net = make_net(folder, text + BUSY)
            waits = []

            def step(net=net, waits=waits):
                start = time.perf_counter()
                net._forward(0, 0)
                waits.append(time.perf_counter() - start)
                for _ in range(4):
                    net._forward(1, 1)

            both = median_seconds(step, sizes)
            net.layers[0]._feed.close()
            wait = statistics.median(waits[sizes.warm_up :])
            name = ("scaled, " if scales else "") + (
                f"{workers} worker{'s' * (workers > 1)}" if workers else "prefetch: 0"
            )
            print(f"| {name} | {sizes.batch / alone:.0f} | {1e3 * (both - wait):.0f} | {1e3 * wait:.0f} |")


def interp_table(folder, sizes):
    from rloss_caffe import set_num_threads

    net = make_net(folder, ZOOM.replace("SIZE", str(sizes.scores)))
    net.forward()
    net.backward()
    assert np.allclose(net.blobs["interp"].data, net.blobs["deconvolution"].data, atol=1e-4)
    names = list(net._layer_names)
    small, large = (f"{side} x {side}" for side in (sizes.scores, 8 * sizes.scores - 7))
    print(f"\nInterp and Deconvolution, zoom 8, 4 x 21 x {small} to {large}, one net, ms\n")
    print("| threads | Interp forward | Deconvolution forward | Interp backward | Deconvolution backward |")
    print("|---|---|---|---|---|")
    for threads in (1, 2):
        set_num_threads(threads)
        times = []
        for way in (net._forward, net._backward):
            for name in ("interp", "deconvolution"):
                index = names.index(name)
                times.append(1e3 * median_seconds(lambda way=way, index=index: way(index, index), sizes))
        print(f"| {threads} | " + " | ".join(f"{value:.1f}" for value in times) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--quick", action="store_true", help="small sizes and one run: does it work?")
    arguments = parser.parse_args()
    sizes = QUICK if arguments.quick else Sizes(arguments.runs)
    print(f"{platform.machine()}, Python {platform.python_version()}, medians of {sizes.runs} runs")
    with tempfile.TemporaryDirectory() as folder:
        make_images(Path(folder), sizes.images)
        images_table(Path(folder), sizes)
        interp_table(Path(folder), sizes)


if __name__ == "__main__":
    main()
