"""One training: partial cross entropy, a loss of rloss_caffe if wanted, and SGD, in one process or in several."""

import math
import time

import checkpoint
import torch
from crops import Crops
from network import optimizer
from settings import CROP, LOSSES, POWER
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

import rloss_caffe.torch as regularized
from rloss_caffe.data.progress import progress_bar
from rloss_caffe.datasets import examples

SAVE_EVERY = 50  # iterations


def make_loss(name):
    """A loss of phase two, with its weight: a function of images, probabilities, labels, and a region of interest."""
    loss = LOSSES[name]
    if name == "densecrf":  # called as the authors' own module
        bandwidths = {"sigma_rgb": loss.parameters["bi_rgb_std"], "sigma_xy": loss.parameters["bi_xy_std"]}
        module = regularized.DenseCRFLoss(loss.weight, **bandwidths)
        return lambda images, probabilities, labels, roi: module(images, probabilities, roi).squeeze()
    module, every = getattr(regularized, loss.layer)(loss.weight, **loss.parameters), slice(None, None, loss.stride)
    return lambda *maps: module(*(each[..., every, every] for each in maps))


def region(images):
    """Where the losses look, (N, H, W): not at padding, which is 0, nor, as in Caffe's layers, at colours near it."""
    return (images.abs() >= 1).any(dim=1).float()


def batch_loss(scores, images, labels, regularizer, processes):
    """This process's share of a batch's loss, and the cross entropy of the whole batch.

    The shares' sum is the loss of the whole batch. Cross entropy is the mean over the labelled pixels of the batch,
    and the processes have unequal numbers of them: the mean of their means would be another loss. The losses of
    rloss_caffe are means over images.

    Parameters
    ----------
    scores : Tensor (N, K, H, W)
    images : Tensor (N, 3, H, W)
    labels : Tensor (N, H, W), int64
        255 where nothing is said.
    regularizer : callable or None
        Of `make_loss`.
    processes : processes.Processes

    Returns
    -------
    share, cross_entropy : Tensor ()
    """
    scores = scores.float()
    own = functional.cross_entropy(scores, labels, ignore_index=examples.IGNORE, reduction="sum")
    sums = torch.stack([own.detach(), (labels != examples.IGNORE).sum().float(), own.new_tensor(float(len(images)))])
    total, all_labelled, all_images = processes.sum(sums)
    share = own / all_labelled.clamp(min=1)
    if regularizer is not None:
        value = regularizer(images, scores.softmax(dim=1), labels, region(images))
        share = share + value * len(images) / all_images
    return share, total / all_labelled.clamp(min=1)


def train(network, training, path, processes, seed, iterations, save_every, is_mixed):
    """Train a network to the training's end, from its checkpoint at `path` where there is one.

    Parameters
    ----------
    network : Module
        On the processes' device; its parameters are changed.
    training : settings.Training
    path : pathlib.Path
        Of the checkpoint, which in the end holds the result.
    processes : processes.Processes
    seed : int
        Of the crops.
    iterations, save_every : int
    is_mixed : bool
        Whether the network computes in bfloat16 where that is safe; the losses never do.
    """
    device = processes.device
    sgd = optimizer(network, training.base_lr)
    schedule = torch.optim.lr_scheduler.PolynomialLR(sgd, iterations, POWER)
    state = {"network": network, "optimizer": sgd, "scheduler": schedule}
    settings = {"title": training.title, "iterations": iterations, "seed": seed, "is_mixed": is_mixed}
    done = checkpoint.load(path, processes, settings, **state)
    parallel = DistributedDataParallel(network) if processes.count > 1 else network
    regularizer = make_loss(training.loss) if training.loss else None
    crops = Crops(training.labels, CROP, seed)
    for _ in range(done):
        crops.draw()
    average, start = None, time.perf_counter()
    hidden = None if processes.is_first else True
    with progress_bar(iterations, training.title, "it", initial=done, disable=hidden) as bar:
        for iteration in range(done + 1, iterations + 1):
            images, labels = map(torch.from_numpy, crops.cut(crops.draw(), processes.rank, processes.count))
            images, labels = images.to(device), labels.to(device, torch.int64)
            with torch.autocast(device.type, torch.bfloat16, enabled=is_mixed):
                scores = parallel(images)
            share, cross_entropy = batch_loss(scores, images, labels, regularizer, processes)
            sgd.zero_grad()
            (share * processes.count).backward()  # DistributedDataParallel divides by the number of processes
            sgd.step()
            schedule.step()
            value = float(cross_entropy)
            if not math.isfinite(value):
                raise ValueError(f"{training.title}: the cross-entropy is {value} after {iteration} iterations")
            average = value if average is None else 0.95 * average + 0.05 * value
            bar.note({"cross-entropy": f"{average:.4f}"})
            bar.update()
            if iteration % save_every == 0 or iteration == iterations:
                checkpoint.save(path, processes, settings, iteration, **state)
    if processes.is_first and done < iterations:
        seconds = time.perf_counter() - start
        print(
            f"{training.title:36} {iterations - done} iterations, {seconds:.0f} s, cross-entropy {average:.4f}",
            flush=True,
        )
