#!/usr/bin/env python
"""How long `segment_from_scribbles` takes: the coarse answer after a stroke, and the full one that goes on from it.

A photograph that scikit-image ships, at --size, with a few strokes of each class. The image is prepared, as after the
first stroke; the medians of --runs. A page that is to answer within half a second needs the coarse one to.
"""

import argparse
import time

import numpy as np
from PIL import Image

from rloss_caffe import get_num_threads
from rloss_caffe.datasets.examples import load_photo
from rloss_caffe.datasets.strokes import draw_polyline
from rloss_caffe.drawing.segment import PreparedImage, segment_from_scribbles
from rloss_caffe.losses import LOSSES


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="500x375", help="width x height (default 500x375)")
    parser.add_argument("--classes", type=int, default=4, help="default 4")
    parser.add_argument("--losses", default=",".join(name for name in LOSSES if name != "size_constraint"))
    parser.add_argument("--runs", type=int, default=3, help="default 3")
    arguments = parser.parse_args()
    width, height = map(int, arguments.size.split("x"))
    image = np.array(Image.fromarray(load_photo("coffee")).resize((width, height)))
    labels, rng = np.full((height, width), 255, np.uint8), np.random.RandomState(0)
    for stroke in range(3 * arguments.classes):
        start, end = rng.uniform(0, [width, height]), rng.uniform(0, [width, height])
        draw_polyline(labels, [start, start + 0.3 * (end - start)], stroke % arguments.classes, 3)
    prepared = PreparedImage(image)
    print(f"{arguments.size}, {arguments.classes} classes, {get_num_threads()} threads; seconds")
    print(f"{'loss':16}{'coarse, first':>14}{'coarse':>8}{'full':>8}{'from nothing':>14}")
    for loss in arguments.losses.split(","):
        segment_from_scribbles(image, labels, loss=loss, steps=1)  # compiles
        _, first = timed(PreparedImage(image), labels, loss, scale=0.25)
        times = []
        for _ in range(arguments.runs):
            result, coarse = timed(prepared, labels, loss, scale=0.25)
            _, full = timed(prepared, labels, loss, scores=result)
            times.append([coarse, full])
        _, alone = timed(PreparedImage(image), labels, loss)
        coarse, full = np.median(times, axis=0)
        print(f"{loss:16}{first:14.3f}{coarse:8.3f}{full:8.3f}{alone:14.3f}", flush=True)


def timed(image, labels, loss, **options):
    start = time.perf_counter()
    result = segment_from_scribbles(image, labels, loss=loss, **options)
    result.labels.max()
    return result, time.perf_counter() - start


if __name__ == "__main__":
    main()
