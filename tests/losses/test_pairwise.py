"""What the pairwise losses share: the degree beside A S', label maps, the region of interest."""

import numpy as np
import pytest
from helpers.images import probabilities, smooth_image

from rloss_caffe import PermutohedralLattice, bilateral_features, region_of_interest
from rloss_caffe.losses._pairwise import Workspace, apply_affinity, label_array


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("work", [None, Workspace()])
def test_degree_is_one_channel_more(threads, work):
    images = np.array([smooth_image(14, 15, seed=n) for n in range(2)])
    images[1, :, :3] = 0
    segmentations = probabilities(2, 4, 14, 15)
    seen = []

    def formula(image):
        image.write()
        seen.append((image.degree.copy(), image.filtered.copy()))
        return float(image.degree.sum()), 1.0

    batch = apply_affinity(formula, images, segmentations, 10, 30, with_degree=True, num_threads=threads, work=work)
    rois = region_of_interest(images)
    assert batch.memory.shape == (2, 5, 14, 15) and len(seen) == 2
    np.testing.assert_array_equal(batch.roi, rois)
    for index in range(2):
        lattice = PermutohedralLattice(bilateral_features(images[index], 10, 30))
        degree = lattice.filter(rois[index])
        np.testing.assert_allclose(batch.memory[index, 4], degree, rtol=1e-5, atol=1e-6)
        expected = lattice.filter(segmentations[index], roi=rois[index])
        np.testing.assert_allclose(batch.memory[index, :4], expected, rtol=1e-5, atol=1e-6)
        assert batch.values[index] == pytest.approx(float(degree.sum()), rel=1e-5)
        assert any(
            np.array_equal(d, batch.memory[index, 4]) and np.array_equal(f, batch.memory[index, :4]) for d, f in seen
        )


def test_a_formula_that_overflows_is_told():
    images, segmentations = smooth_image(6, 7)[None], probabilities(1, 2, 6, 7)
    with pytest.raises(ValueError, match="image 0 of the batch: segmentations must not be so large"):
        apply_affinity(lambda image: (float("inf"), 1.0), images, segmentations, 5, 5)


def test_labels():
    labels = np.array([[[0, 1, 255], [3, 255, 2]]] * 2)
    expected = label_array(labels, (2, 4, 2, 3))
    assert expected.dtype == np.int32 and (expected == labels).all()
    np.testing.assert_array_equal(label_array(labels[:, None].astype(np.float32), (2, 4, 2, 3)), expected)
    np.testing.assert_array_equal(label_array(np.where(labels == 255, -1, labels), (2, 4, 2, 3), -1)[0, 0], [0, 1, -1])


@pytest.mark.parametrize("bad", [4, -1, 1.5, np.nan, np.inf, 254])
def test_labels_that_are_none(bad):
    labels = np.zeros((2, 1, 2, 3))
    labels[1, 0, 1, 2] = bad
    with pytest.raises(ValueError, match="image 1 of the batch: labels must be whole.* 0 to 3,.*255.*row 1, column 2"):
        label_array(labels, (2, 4, 2, 3))


@pytest.mark.parametrize("shape", [(2, 2, 4), (2, 2, 2, 3), (1, 2, 3), (2, 1, 3, 2), (12,)])
def test_shapes_of_labels(shape):
    with pytest.raises(ValueError, match=r"labels must have shape \(2, 2, 3\) or \(2, 1, 2, 3\), found shape"):
        label_array(np.zeros(shape), (2, 4, 2, 3))


def test_region_of_interest_is_checked():
    with pytest.raises(ValueError, match="images must have shape"):
        region_of_interest(np.zeros((3, 4, 5)))
    with pytest.raises(ValueError, match="images must hold real numbers"):
        region_of_interest(np.full((1, 1, 2, 2), "x"))
