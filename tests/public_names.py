"""Every public name, used as a typed program would: mypy checks this file strictly, and tests/test_typing.py runs it.

What is assigned to a declared name has that type, or mypy complains; so it does where a name has no types at all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

import rloss_caffe
from rloss_caffe import bilateralfilter

if TYPE_CHECKING:
    from numpy.typing import NDArray


def filters() -> NDArray[np.float32]:
    image = np.full((3, 6, 7), 50, np.float32)
    values = np.ones((2, 6, 7), np.float32)
    features: NDArray[np.float32] = rloss_caffe.bilateral_features(image, 5.0, 10.0)
    positions: NDArray[np.float32] = rloss_caffe.positional_features(6, 7, 3.0)
    lattice: rloss_caffe.PermutohedralLattice = rloss_caffe.PermutohedralLattice(features)
    filtered: NDArray[np.float32] = lattice.filter(values, reverse=True)
    filtered = rloss_caffe.PermutohedralLattice(positions).filter(values, out=filtered)
    filtered = rloss_caffe.bilateral_filter(image, values, 5.0, 10.0)
    batch: NDArray[np.float32] = rloss_caffe.bilateral_filter_batch(image[None], values[None], 5.0, 10.0)
    filtered += batch[0]
    return filtered


def losses() -> float:
    images = np.full((1, 3, 6, 7), 50, np.float32)
    segmentations = np.full((1, 2, 6, 7), 0.5, np.float32)
    roi: NDArray[np.float32] = rloss_caffe.region_of_interest(images)
    result = rloss_caffe.densecrf_loss(images, segmentations, bi_xy_std=5.0, bi_rgb_std=10.0, roi=roi)
    gradient: NDArray[np.float32] = result.gradient(2.0)
    local = rloss_caffe.local_potts_loss(images, segmentations, radius=2, relaxation="absolute", roi=roi)
    gradient += local.gradient()
    value: float = result.value
    cut = rloss_caffe.normalized_cut_loss(images, segmentations, labels=np.zeros((1, 6, 7)), roi=roi)
    both = rloss_caffe.kernel_cut_loss(images, segmentations, normalization="AFFINITY", scale_factor=0.5)
    value += both.value + cut.value + float(cut.gradient().sum())
    learned = rloss_caffe.self_label_loss(images, segmentations, lambda_=50, labels=np.full((1, 6, 7), 255), roi=roi)
    value += learned.value + learned.terms.latent + float(learned.latent.sum())
    refined: NDArray[np.float32] = rloss_caffe.mean_field(images[0], segmentations[0])
    value += rloss_caffe.size_constraint_loss(segmentations, upper=[20.0, 5.0], roi=roi).value
    return value + float(gradient.sum()) + float(refined.sum())


def segmentation() -> NDArray[np.float32]:
    labels = np.full((6, 7), 255)
    labels[1, 1], labels[4, 5] = 0, 1
    found = rloss_caffe.segment_from_scribbles(np.zeros((6, 7, 3), np.uint8), labels, loss="local_potts", push=0.3)
    again = rloss_caffe.segment_from_scribbles(np.zeros((6, 7), np.uint8), labels, scores=found, scale=0.5)
    values: NDArray[np.float32] = again.probabilities + again.scores + again.gradient
    first: NDArray[np.float32] = values[found.labels[0, 0]] + again.value
    return first


def swig_module() -> NDArray[np.float32]:
    image = np.full(3 * 6 * 7, 50, np.float32)
    values, filtered = np.ones(6 * 7, np.float32), np.zeros(6 * 7, np.float32)
    bilateralfilter.bilateralfilter(image, values, filtered, 6, 7, 10.0, 5.0)
    bilateralfilter.bilateralfilter_batch(image, values, filtered, 1, 1, 6, 7, 10.0, 5.0)
    return filtered


def threads() -> int:
    rloss_caffe.set_num_threads(1)
    number: int = rloss_caffe.get_num_threads()
    rloss_caffe.set_num_threads(None)
    return number


def nets(path: str) -> None:
    net = rloss_caffe.Net(path, 1)
    net.forward()


def solvers(path: str) -> None:
    rloss_caffe.get_solver(path).step(1)


def version() -> str:
    return rloss_caffe.__version__
