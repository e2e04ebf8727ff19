"""Mean-field inference: against pydensecrf, its own laws, and the DenseCRF layer in real Caffe nets."""

import numpy as np
import pytest
from helpers.images import smooth_image

from rloss_caffe import mean_field


def smooth_scores(classes, height, width, seed=0):
    gaussian_filter = pytest.importorskip("scipy.ndimage").gaussian_filter
    rng = np.random.RandomState(seed)
    return np.array([60 * gaussian_filter(rng.randn(height, width), 12) for _ in range(classes)], np.float32)


PHOTOS = ["astronaut", "chelsea", "coffee"]


@pytest.mark.parametrize("kernels", [((3, 3), (5, 50, 10)), ((3, 1), (4, 67, 3)), ((2, 2), (4, 65, 3))])
@pytest.mark.parametrize("photo", PHOTOS)
def test_pydensecrf(photo, kernels):
    densecrf = pytest.importorskip("pydensecrf.densecrf", reason="compares with pydensecrf, which is not installed")
    data = pytest.importorskip("skimage.data")
    image = np.ascontiguousarray(getattr(data, photo)()[::3, ::3])
    height, width = image.shape[:2]
    scores = smooth_scores(7, height, width)
    (pos_w, pos_xy), (bi_w, bi_xy, bi_rgb) = kernels
    peer = densecrf.DenseCRF2D(width, height, 7)
    peer.setUnaryEnergy(np.ascontiguousarray(-scores.reshape(7, -1)))
    options = {"kernel": densecrf.DIAG_KERNEL, "normalization": densecrf.NORMALIZE_AFTER}
    peer.addPairwiseGaussian(sxy=pos_xy, compat=pos_w, **options)
    peer.addPairwiseBilateral(sxy=bi_xy, srgb=bi_rgb, rgbim=image, compat=bi_w, **options)
    expected = np.array(peer.inference(10)).reshape(scores.shape)
    found = mean_field(scores, image.transpose(2, 0, 1), 10, [(pos_w, pos_xy)], [(bi_w, bi_xy, bi_rgb)])
    assert np.abs(found - expected).max() < 1e-3
    assert (found.argmax(0) == expected.argmax(0)).mean() >= 0.999


def softmax(scores):
    e = np.exp(scores - scores.max(0))
    return e / e.sum(0)


def test_without_kernels_or_iterations_it_is_the_softmax():
    scores = np.random.RandomState(0).randn(4, 9, 8)
    np.testing.assert_allclose(mean_field(scores), softmax(scores), atol=1e-6)
    found = mean_field(scores, max_iter=0, positional=[(3, 3)])
    np.testing.assert_allclose(found, softmax(scores), atol=1e-6)


def test_one_iteration_by_hand():
    from rloss_caffe import PermutohedralLattice, bilateral_features, positional_features

    image, scores = smooth_image(14, 12), np.random.RandomState(0).randn(4, 14, 12).astype(np.float32)
    potential = scores.astype(float)
    for weight, features in ((3, positional_features(14, 12, 2)), (5, bilateral_features(image, 20, 30))):
        lattice = PermutohedralLattice(features)
        potential += weight * lattice.filter(softmax(scores)) / lattice.filter(np.ones((14, 12)))
    found = mean_field(scores, image, 1, [(3, 2)], [(5, 20, 30)])
    np.testing.assert_allclose(found, softmax(potential), atol=1e-5)


def test_it_cleans_noise_up_to_the_edge():
    image = np.zeros((3, 30, 40), np.float32)
    image[:, :, 20:] = 120
    truth = image[0] > 60
    noisy = np.where(np.random.RandomState(0).rand(30, 40) < 0.2, ~truth, truth)
    scores = np.array([1.0 * ~noisy, 1.0 * noisy])
    found = mean_field(scores, image, bilateral=[(10, 15, 20)])
    np.testing.assert_allclose(found.sum(0), 1, atol=1e-5)
    assert (found.argmax(0) == truth).all()


def test_input_is_checked():
    scores = np.zeros((2, 4, 5))
    with pytest.raises(ValueError, match="scores must have shape"):
        mean_field(scores[0])
    with pytest.raises(ValueError, match="scores must be finite"):
        mean_field(np.full((2, 4, 5), np.nan))
    with pytest.raises(ValueError, match="need an image.*found none"):
        mean_field(scores, bilateral=[(1, 2, 3)])
    with pytest.raises(ValueError, match="need an image of the scores' size"):
        mean_field(scores, np.zeros((3, 5, 4)), bilateral=[(1, 2, 3)])
    with pytest.raises(ValueError, match="pos_xy_std must be"):
        mean_field(scores, positional=[(1, 0)])


KERNELS = "pos_w: 3\\npos_xy_std: 3\\nbi_w: 5\\nbi_xy_std: 20\\nbi_rgb_std: 10"


def make_net(tmp_path, scores, param_str=KERNELS, image=True, data_dim=None, image_shape=None):
    caffe = pytest.importorskip("caffe", reason="the layers need pycaffe")
    n, _, height, width = scores.shape
    shapes = {"scores": scores.shape, "data_dim": data_dim or (n, 1, 1, 2)}
    if image:
        shapes["data"] = image_shape or (n, 3, height, width)
    text = ""
    for name, shape in shapes.items():
        dims = " ".join(f"dim: {size}" for size in shape)
        text += f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ {dims} }} }} }}\n'
    bottoms = " ".join(f'bottom: "{name}"' for name in shapes)
    text += f"""layer {{ name: "crf" type: "Python" {bottoms} top: "crf" python_param {{
        module: "rloss_caffe.layers" layer: "DenseCRF" param_str: "{param_str}" }} }}"""
    path = tmp_path / "net.prototxt"
    path.write_text(text)
    net = caffe.Net(str(path), caffe.TEST)
    net.blobs["scores"].data[...] = scores
    net.blobs["data_dim"].data[...] = np.array([height, width]).reshape(1, 1, 1, 2)
    return net


def test_layer_infers_the_region_inside_data_dim(tmp_path):
    scores = np.random.RandomState(0).randn(2, 4, 20, 24).astype(np.float32)
    net = make_net(tmp_path, scores)
    images = np.array([smooth_image(20, 24, seed=n) for n in range(2)])
    net.blobs["data"].data[...] = images
    net.blobs["data_dim"].data[...] = np.array([[20, 24], [13, 17]]).reshape(2, 1, 1, 2)
    net.forward()
    found = net.blobs["crf"].data
    kernels = {"positional": [(3, 3)], "bilateral": [(5, 20, 10)]}
    np.testing.assert_array_equal(found[0], mean_field(scores[0], images[0], **kernels))
    inside = mean_field(scores[1, :, :13, :17], images[1, :, :13, :17], **kernels)
    np.testing.assert_array_equal(found[1, :, :13, :17], inside)
    assert not found[1, :, 13:].any() and not found[1, :, :, 17:].any()
    net.blobs["scores"].reshape(1, 3, 6, 7)
    net.blobs["data_dim"].reshape(1, 1, 1, 2)
    net.blobs["data"].reshape(1, 3, 6, 7)
    net.blobs["data_dim"].data[...] = np.array([6, 7]).reshape(1, 1, 1, 2)
    net.forward()
    np.testing.assert_allclose(net.blobs["crf"].data.sum(1), 1, atol=1e-5)


def test_layer_without_image_gives_logarithms_on_request(tmp_path):
    scores = 200 * np.random.RandomState(0).randn(1, 3, 8, 9).astype(np.float32)
    net = make_net(tmp_path, scores, "{pos_w: 1, pos_xy_std: 2, output_probability: false, max_iter: 3}", image=False)
    net.forward()
    expected = mean_field(scores[0], max_iter=3, positional=[(1, 2)])
    found = net.blobs["crf"].data[0]
    assert np.isfinite(found).all() and found.min() < -80
    np.testing.assert_allclose(np.exp(found), expected, atol=1e-6)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"param_str": "pos_w: 3"}, "pos_w, pos_xy_std must have equal lengths, found 1, 0"),
        ({"param_str": "{bi_w: [1, 2], bi_xy_std: [3, 4], bi_rgb_std: 5}"}, "equal lengths, found 2, 2, 1"),
        ({"image": False}, "need the image as third bottom"),
        ({"param_str": "max_iter: -1"}, "max_iter must be int >= 0"),
        ({"param_str": "iterations: 5"}, "unknown parameter 'iterations'"),
        ({"data_dim": (1, 2, 1, 1)}, r"bottom 1 \(data_dim\) must have shape \(1, 1, 1, 2\)"),
        ({"image_shape": (1, 1, 6, 7)}, r"bottom 2 \(image\) must have shape \(1, 3, 6, 7\)"),
    ],
)
def test_layer_is_checked(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        make_net(tmp_path, np.zeros((1, 2, 6, 7)), **options)


@pytest.mark.parametrize("bad", [0, 7, np.nan])
def test_layer_checks_data_dim(tmp_path, bad):
    net = make_net(tmp_path, np.zeros((1, 2, 6, 7)))
    net.blobs["data_dim"].data[0, 0, 0, 0] = bad
    with pytest.raises(ValueError, match="image 0 of the batch: .*rows and columns from 1 to 6 and 7"):
        net.forward()


def test_layer_has_no_backward(tmp_path):
    net = make_net(tmp_path, np.zeros((1, 2, 6, 7)))
    path = tmp_path / "net.prototxt"
    path.write_text("force_backward: true\n" + path.read_text())
    import caffe

    net = caffe.Net(str(path), caffe.TEST)
    net.blobs["data_dim"].data[...] = 5
    net.forward()
    with pytest.raises(ValueError, match="no backward pass"):
        net.backward(diffs=["scores"])
