#!/usr/bin/env python
"""The quickstart in Keras: train a small network on five photographs, without and with regularised losses.

Usage: python exper/quickstart_keras/run.py [--loss NAME] [--output FOLDER] [--quick] [--seed N]

The trainings, their settings, the tables and the pictures are those of exper/quickstart. README.md, beside this file,
tells what is different.
"""

import argparse
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before tensorflow is loaded: its log would bury ours
sys.path.append(str(Path(__file__).resolve().parents[1] / "quickstart"))  # what the quickstarts share

import keras
import numpy as np
from network import network
from report import compile_kernels, print_tables, run, write_pictures
from settings import STRIDE, trainings
from training import train

from rloss_caffe.data.files import replacing
from rloss_caffe.datasets import examples

FOLDER = Path(__file__).resolve().parent


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--loss", metavar="NAME", help="phase two with another loss as well, such as normalized_cut")
    add("--output", type=Path, default=FOLDER / "output", help="folder for weights and pictures")
    add("--quick", action="store_true", help="a few iterations only, to see that all works; written into OUTPUT/quick")
    add("--seed", type=int, default=1, help="of the first weights and of the crops")
    arguments = parser.parse_args()
    chosen = trainings(arguments.loss)
    output = arguments.output.resolve()
    if arguments.quick:
        output = output / "quick"
    output.mkdir(parents=True, exist_ok=True)
    begin = time.perf_counter()
    compile_kernels()
    networks, results = {}, {}
    for name, training in chosen.items():
        keras.utils.set_random_seed(arguments.seed)
        networks[name] = net = network()
        if training.start:
            net.set_weights(networks[training.start].get_weights())
        train(net, training, 4 if arguments.quick else training.iterations, arguments.seed)
        with replacing(output / f"{name}.keras") as temporary:
            net.save(f"{temporary}.keras")  # Keras wants a file to be called so
            os.replace(f"{temporary}.keras", temporary)
        results[name] = predict(net)
    print_tables(chosen, results)
    pictures = write_pictures(results, output)
    print(f"\nwrote {len(networks)} networks and {pictures} pictures into {output}")
    print(f"done in {time.perf_counter() - begin:.0f} s")


def predict(net):
    """Class probabilities of every photograph, {name: (K, H, W)}."""
    result = {}
    for photo in examples.PHOTOS:
        image = examples.as_blob(examples.load_photo(photo))
        height, width = image.shape[1:]
        padded = np.pad(image, ((0, 0), (0, -height % STRIDE), (0, -width % STRIDE)))
        scores = net(np.ascontiguousarray(padded.transpose(1, 2, 0))[None], training=False)
        probabilities = keras.ops.convert_to_numpy(keras.ops.softmax(scores))
        result[photo] = probabilities[0, :height, :width].transpose(2, 0, 1)
    return result


if __name__ == "__main__":
    run(main)
