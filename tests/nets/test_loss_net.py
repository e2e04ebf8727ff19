"""What a net gives its DenseCRF loss for single images is what it gives in training."""

import numpy as np
import pytest
from helpers.loss_nets import LOSS, write_files, write_weights

from rloss_caffe.losses.gradients import densecrf_gradients, loss_gradients


@pytest.fixture
def folder(tmp_path):
    return write_files(tmp_path)


@pytest.fixture
def weights(folder):
    return write_weights(folder)


def test_gradients_are_those_of_training(folder, weights):
    import caffe

    from rloss_caffe.nets.loss_net import LossNet

    trained = caffe.Net(str(folder / "net_sure.prototxt"), caffe.TRAIN, weights=weights)
    net = LossNet(folder / "net.prototxt", weights)  # this one has a Dropout, which must not be felt
    assert (net.layer, net.image, net.probability, net.score) == ("crf", "picture", "chances", "marks")
    assert (net.bi_xy_std, net.bi_rgb_std, net.loss_weight, net.exact_gradient) == (9, 14, 1e-4, False)
    for index, size in enumerate([(37, 41), (30, 44)]):
        trained.forward()
        trained.backward()
        given = net.predict(folder / f"im{index}.png")
        assert given.size == size and given.image.shape == (3, 48, 48)
        np.testing.assert_allclose(given.image, trained.blobs["picture"].data[0], atol=1e-4)
        found = densecrf_gradients(given.image, given.probabilities, net.bi_xy_std, net.bi_rgb_std, net.loss_weight)
        assert found.value == pytest.approx(float(trained.blobs["crf"].data), rel=1e-5)
        for name, gradient in (("chances", found.probability), ("marks", found.score)):
            expected = trained.blobs[name].diff[0]
            assert np.abs(expected).max() > 1e-4
            np.testing.assert_allclose(gradient, expected, atol=1e-5 * np.abs(expected).max())


def test_both_dialects_give_the_same(folder, weights):
    from rloss_caffe.nets.loss_net import LossNet

    stock, fork = (LossNet(folder / f"{name}.prototxt", weights) for name in ("net", "fork"))
    assert (fork.bi_xy_std, fork.bi_rgb_std, fork.loss_weight) == (9, 14, 1e-4)
    first, second = (net.predict(folder / "im0.png") for net in (stock, fork))
    np.testing.assert_array_equal(first.image, second.image)
    np.testing.assert_array_equal(first.probabilities, second.probabilities)
    assert first.size == second.size


def test_images_of_any_size_without_a_crop(folder, weights):
    """Strides need sizes that fit; the image is padded up to the first one that does."""
    import caffe

    from rloss_caffe.nets.loss_net import LossNet

    text = """
layer { name: "picture" type: "Python" top: "picture" python_param { module: "nowhere" layer: "Unknown" } }
layer { name: "down" type: "Pooling" bottom: "picture" top: "down"
  pooling_param { pool: AVE kernel_size: 4 stride: 4 } }
layer { name: "narrow" type: "Convolution" bottom: "down" top: "narrow" convolution_param { num_output: 2
  kernel_size: 1 weight_filler { type: "gaussian" std: 0.1 } } }
layer { name: "up" type: "Deconvolution" bottom: "narrow" top: "up" convolution_param { num_output: 2 kernel_size: 4
  stride: 4 bias_term: false weight_filler { type: "gaussian" std: 0.5 } } }
layer { name: "chances" type: "Softmax" bottom: "up" top: "chances" }
"""
    (folder / "strided.prototxt").write_text(text + LOSS)
    plain = text.replace('"Python"', '"Input"').replace('python_param { module: "nowhere" layer: "Unknown" }', "")
    plain = plain.replace('type: "Input"', 'type: "Input" input_param { shape { dim: 1 dim: 3 dim: 40 dim: 44 } }')
    (folder / "plain.prototxt").write_text(plain)
    caffe.Net(str(folder / "plain.prototxt"), caffe.TEST).save(str(folder / "strided.caffemodel"))
    net = LossNet(folder / "strided.prototxt", folder / "strided.caffemodel")
    given = net.predict(folder / "im0.png")
    assert given.image.shape[1:] == given.probabilities.shape[1:] == (40, 44) and given.size == (37, 41)
    assert net.predict(folder / "im1.png").image.shape[1:] == (32, 44)


def test_nets_that_do_not_fit(folder, weights):
    from rloss_caffe.nets.loss_net import LossNet

    text = (folder / "net.prototxt").read_text()
    second = LOSS.replace('"crf"', '"other"').replace("bi_xy_std: 9", "bi_xy_std: 5")
    (folder / "two.prototxt").write_text(text + second)
    (folder / "none.prototxt").write_text(text.replace(LOSS, ""))
    with pytest.raises(ValueError, match=r"several loss layers, 'crf', 'other' \(DenseCRFLoss\); name the one"):
        LossNet(folder / "two.prototxt", weights)
    assert LossNet(folder / "two.prototxt", weights, layer="other").bi_xy_std == 5
    with pytest.raises(ValueError, match="no loss layer 'third', but 'crf', 'other'"):
        LossNet(folder / "two.prototxt", weights, layer="third")
    with pytest.raises(ValueError, match=r"none.prototxt has no loss layer: none of DenseCRFLoss, .*Loss$"):
        LossNet(folder / "none.prototxt", weights)
    with pytest.raises(ValueError, match="no such file: nowhere"):
        LossNet(folder / "net.prototxt", "nowhere")
    with pytest.raises(ValueError, match="several values|expected a mean"):
        LossNet(folder / "net.prototxt", weights, mean=[1, 2])
    (folder / "open.prototxt").write_text(text.replace("num_output: 4", "num_output: ${NUM_LABELS}"))
    with pytest.raises(ValueError, match=r"open.prototxt:12: .*NUM_LABELS"):
        LossNet(folder / "open.prototxt", weights)
    (folder / "wide.prototxt").write_text(text.replace("num_output: 4", "num_output: 5"))
    with pytest.raises(ValueError, match="does not fit the net: layer 'last' has blobs of shape 5 x 6 x 1 x 1, 5 in"):
        LossNet(folder / "wide.prototxt", weights)


LABELS_AND_REGION = """
layer { name: "slice" type: "Slice" bottom: "picture" top: "blue" top: "rest" slice_param { slice_point: 1 } }
layer { name: "size" type: "AbsVal" bottom: "blue" top: "blue_size" }
layer { name: "region" type: "Threshold" bottom: "blue_size" top: "region" threshold_param { threshold: 60 } }
layer { name: "potts" type: "Python" bottom: "picture" bottom: "chances" bottom: "truth" bottom: "REGION" top: "potts"
  loss_weight: 0.5 propagate_down: false propagate_down: true propagate_down: false propagate_down: false
  python_param { module: "rloss_caffe.layers" layer: "LocalPottsLoss" param_str: "{radius: 2, classes: labelled}" } }
"""


def test_labels_and_region_are_those_of_training(folder, weights):
    """The label map through ImageSegData, a region of interest that the net makes of the image."""
    import caffe

    from rloss_caffe.data.reading import read_label
    from rloss_caffe.nets.loss_net import LossNet

    text = (folder / "net_sure.prototxt").read_text().replace(LOSS, LABELS_AND_REGION.replace("REGION", "region"))
    (folder / "list.txt").write_text("".join(f"{folder}/im{n}.png {folder}/labels/im{n}.png\n" for n in range(2)))
    (folder / "labels.prototxt").write_text(text.replace("label_type: NONE", "label_type: PIXEL"))
    trained = caffe.Net(str(folder / "labels.prototxt"), caffe.TRAIN, weights=weights)
    net = LossNet(folder / "labels.prototxt", weights)
    assert (net.loss, net.label, net.roi, net.has_roi) == ("local_potts", "truth", "region", True)
    assert net.parameters["radius"] == 2 and net.parameters["classes"] == "labelled"
    for index in range(2):
        trained.forward()
        trained.backward()
        given = net.predict(folder / f"im{index}.png")
        labels = given.fit_labels(read_label(folder / "labels" / f"im{index}.png"))
        np.testing.assert_array_equal(labels, trained.blobs["truth"].data[0, 0])
        np.testing.assert_array_equal(given.roi, trained.blobs["region"].data[0, 0])
        assert 0 < given.roi.mean() < 1
        found = loss_gradients(
            net.loss,
            given.image,
            given.probabilities,
            loss_weight=net.loss_weight,
            labels=labels,
            roi=given.roi,
            **net.parameters,
        )
        assert found.value == pytest.approx(float(trained.blobs["potts"].data), rel=1e-5) and found.value > 0
        for name, gradient in (("chances", found.probability), ("marks", found.score)):
            expected = trained.blobs[name].diff[0]
            np.testing.assert_allclose(gradient, expected, atol=1e-5 * np.abs(expected).max())


def test_a_region_that_is_not_made_of_the_image(folder, weights):
    from rloss_caffe.nets.loss_net import LossNet

    text = (folder / "net.prototxt").read_text().replace(LOSS, LABELS_AND_REGION.replace("REGION", "truth"))
    (folder / "other.prototxt").write_text(text)
    net = LossNet(folder / "other.prototxt", weights)
    assert (net.roi, net.has_roi) == ("truth", False)
    given = net.predict(folder / "im0.png")
    assert given.roi.shape == (48, 48) and given.roi[:37, :41].all() and given.roi.sum() == 37 * 41


POOLED = """layer { name: "pool" type: "Pooling" bottom: "picture" top: "pooled"
  pooling_param { kernel_size: 1 stride: 2 } }
layer { name: "small" type: "Power" bottom: "pooled\""""
SIZE = """layer { name: "size" type: "Python" bottom: "chances" top: "size" loss_weight: 1
  python_param { module: "rloss_caffe.layers" layer: "SizeConstraintLoss" param_str: "upper: 50" } }
"""


def test_a_loss_without_an_image_behind_coarse_scores(folder, weights):
    """SizeConstraintLoss at the scores' own resolution; labels are shrunk as by an Interp layer."""
    import caffe

    from rloss_caffe.nets.loss_net import LossNet

    text = (folder / "net_sure.prototxt").read_text()
    text = text.replace('layer { name: "small" type: "Power" bottom: "picture"', POOLED).replace(LOSS, SIZE)
    (folder / "size.prototxt").write_text(text)
    trained = caffe.Net(str(folder / "size.prototxt"), caffe.TRAIN, weights=weights)
    trained.forward()
    net = LossNet(folder / "size.prototxt", weights)
    given = net.predict(folder / "im0.png")
    assert (net.loss, net.image, given.image, given.roi) == ("size_constraint", None, None, None)
    np.testing.assert_allclose(given.probabilities, trained.blobs["chances"].data[0], atol=1e-5)
    assert given.probabilities.shape[1:] == (25, 25) and given.padded == (48, 48) and given.size == (20, 22)
    found = loss_gradients(net.loss, None, given.probabilities, **net.parameters)
    assert found.value == pytest.approx(float(trained.blobs["size"].data), rel=1e-5) and found.value > 0
    label = np.arange(37 * 41).reshape(37, 41) % 4
    assert given.fit_labels(label).shape == (25, 25) and given.fit_labels(label)[24, 24] == 255
