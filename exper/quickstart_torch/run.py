#!/usr/bin/env python
"""The quickstart in PyTorch: train a small network on five photographs, without and with regularised losses.

Usage: python exper/quickstart_torch/run.py [--loss NAME] [--output FOLDER] [--quick] [--resume]
       torchrun --nproc_per_node 2 exper/quickstart_torch/run.py ...

The trainings, their settings, the tables and the pictures are those of exper/quickstart. README.md, beside this file,
tells about several processes and machines, checkpoints, and mixed precision.
"""

import argparse
import sys
import time
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "quickstart"))  # what both quickstarts share

import torch
from network import Network
from processes import start
from report import compile_kernels, print_tables, run, write_pictures
from settings import STRIDE, trainings
from torch.nn import functional
from training import SAVE_EVERY, train

from rloss_caffe.datasets import examples
from rloss_caffe.numerics.arrays import whole_number

FOLDER = Path(__file__).resolve().parent


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--loss", metavar="NAME", help="phase two with another loss as well, such as normalized_cut")
    add("--output", type=Path, default=FOLDER / "output", help="folder for weights and pictures")
    add("--quick", action="store_true", help="a few iterations only, to see that all works; written into OUTPUT/quick")
    add("--seed", type=int, default=1, help="of the first weights and of the crops")
    add("--resume", action="store_true", help="go on from the checkpoints in OUTPUT, where there are some")
    add("--save-every", type=int, default=SAVE_EVERY, metavar="N", help="iterations from checkpoint to checkpoint")
    add("--bf16", action="store_true", help="mixed precision: the network in bfloat16, the losses in float32")
    arguments = parser.parse_args()
    whole_number("--save-every", arguments.save_every, 1)
    output = arguments.output.resolve()
    if arguments.quick:
        output = output / "quick"
    begin = time.perf_counter()
    processes = start()
    chosen = trainings(arguments.loss)
    if processes.count > len(examples.PHOTOS):
        raise ValueError(f"there are {len(examples.PHOTOS)} photographs, too few for {processes.count} processes")
    if processes.is_first:
        output.mkdir(parents=True, exist_ok=True)
        for path in output.glob("tmp*.part"):
            path.unlink()  # what a killed run was writing
        for name in () if arguments.resume else chosen:
            (output / f"{name}.pt").unlink(missing_ok=True)
    if processes.local_rank == 0:
        compile_kernels()  # the others wait, and find them compiled
    processes.wait()

    networks, results = {}, {}
    for name, training in chosen.items():
        torch.manual_seed(arguments.seed)
        networks[name] = network = Network().to(processes.device)
        if training.start:
            network.load_state_dict(networks[training.start].state_dict())
        iterations = 4 if arguments.quick else training.iterations
        path = output / f"{name}.pt"
        train(network, training, path, processes, arguments.seed, iterations, arguments.save_every, arguments.bf16)
        if processes.is_first:
            results[name] = predict(network, processes.device)
    if processes.is_first:
        print_tables(chosen, results)
        pictures = write_pictures(results, output)
        print(f"\nwrote {len(networks)} weights files and {pictures} pictures into {output}")
        print(f"done in {time.perf_counter() - begin:.0f} s")
    processes.end()


@torch.no_grad()
def predict(network, device):
    """Class probabilities of every photograph, {name: (K, H, W)}."""
    result = {}
    for photo in examples.PHOTOS:
        image = torch.from_numpy(examples.as_blob(examples.load_photo(photo)))
        height, width = image.shape[1:]
        padded = functional.pad(image, (0, -width % STRIDE, 0, -height % STRIDE))
        probabilities = network(padded[None].to(device)).softmax(dim=1)
        result[photo] = probabilities[0, :, :height, :width].cpu().numpy()
    return result


if __name__ == "__main__":
    run(main)
