"""The confusion matrix and SegAccuracy: plain NumPy, a twin of the original's rules, real nets and solvers."""

import warnings

import numpy as np
import pytest

from rloss_caffe.numerics import threads
from rloss_caffe.numerics.confusion import ConfusionMatrix, UnexpectedLabelError


def numpy_confusion(scores, labels, ignore_label=()):
    """Rows: labels; columns: the best class, the last one among equals."""
    n_classes = scores.shape[1]
    predicted = n_classes - 1 - np.argmax(scores[:, ::-1], axis=1)
    labels = labels.reshape(predicted.shape).astype(int)
    keep = ~np.isin(labels, list(ignore_label))
    counts = np.zeros((n_classes, n_classes), int)
    np.add.at(counts, (labels[keep], predicted[keep]), 1)
    return counts


def original_figures(counts):
    """The three figures with the original's rules, one class at a time."""
    n_classes, total = len(counts), counts.sum()
    recalls, jaccards = [], []
    for c in range(n_classes):
        right, row, column = counts[c, c], counts[c].sum(), counts[:, c].sum()
        union = row + column - right
        if row:
            recalls.append(right / row)
        jaccards.append(1.0 if right == union else right / union)
    return np.trace(counts) / total if total else 0.0, np.mean(recalls) if recalls else 0.0, np.mean(jaccards)


def figures(matrix):
    return matrix.pixel_accuracy(), matrix.mean_recall(), matrix.mean_jaccard()


def random_case(n=2, c=5, h=13, w=11, seed=0, values=(0, 1, 2, 3, 4, 255)):
    random = np.random.RandomState(seed)
    scores = random.randint(-2, 3, (n, c, h, w)).astype(np.float32)  # few values, so that there are many ties
    return scores, random.choice(values, (n, 1, h, w)).astype(np.float32)


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 5, 13, 11), (1, 21, 40, 40), (3, 2, 1, 700)])
@pytest.mark.parametrize("number", [1, 2, 5])
def test_counts(shape, number):
    scores, labels = random_case(*shape, values=[*range(shape[1]), 255])
    matrix = ConfusionMatrix(shape[1])
    threads.set_num_threads(number)
    try:
        matrix.add(scores, labels, [255])
        matrix.add(scores[:1], labels[:1], [255, 0])
    finally:
        threads.set_num_threads(None)
    expected = numpy_confusion(scores, labels, [255]) + numpy_confusion(scores[:1], labels[:1], [255, 0])
    np.testing.assert_array_equal(matrix.counts, expected)
    np.testing.assert_allclose(figures(matrix), original_figures(expected))


def test_last_class_wins_among_equal_scores():
    matrix = ConfusionMatrix(21)
    matrix.add(np.zeros((1, 21, 2, 2)), np.zeros((1, 1, 2, 2)))
    assert matrix.counts[0, 20] == 4


def original_prediction(scores):
    """The original's choice, NaN included: only scores after the last NaN compete, else that NaN's class wins."""
    last_nan = max([c for c, score in enumerate(scores) if np.isnan(score)], default=-1)
    pairs = [(score, c) for c, score in enumerate(scores) if c > last_nan]
    return max(pairs)[1] if pairs else len(scores) - 1


def test_nan_scores():
    random = np.random.RandomState(0)
    scores = random.choice([np.nan, 0, 1, 2, np.inf, -np.inf], (1, 4, 1, 900)).astype(np.float32)
    labels = np.arange(900, dtype=np.float32) % 4
    matrix = ConfusionMatrix(4)
    matrix.add(scores, labels)
    expected = np.zeros((4, 4), int)
    for pixel in range(900):
        expected[int(labels[pixel]), original_prediction(scores[0, :, 0, pixel])] += 1
    np.testing.assert_array_equal(matrix.counts, expected)
    assert matrix.has_seen_nan
    matrix.reset()
    assert not matrix.has_seen_nan and not matrix.counts.any()


def test_figures_when_classes_are_missing():
    matrix = ConfusionMatrix(5)
    assert figures(matrix) == (0, 0, 1)  # nothing counted
    assert matrix.mean_iou() == 0
    matrix.counts[0, 0], matrix.counts[0, 1], matrix.counts[2, 2] = 6, 2, 4  # 1 only predicted, 3 and 4 nowhere
    assert matrix.pixel_accuracy() == pytest.approx(10 / 12)
    assert matrix.mean_recall() == pytest.approx((6 / 8 + 1) / 2)
    np.testing.assert_allclose(matrix.class_iou(), [6 / 8, 0, 1, np.nan, np.nan])
    np.testing.assert_allclose(matrix.class_recall(), [6 / 8, np.nan, 1, np.nan, np.nan])
    assert matrix.mean_jaccard() == pytest.approx((6 / 8 + 0 + 1 + 1 + 1) / 5)
    assert matrix.mean_iou() == pytest.approx((6 / 8 + 1) / 2)
    assert list(matrix.present()) == [True, False, True, False, False]


def test_large_counts_do_not_overflow():
    matrix = ConfusionMatrix(2)
    matrix.counts[...] = 2**40
    assert figures(matrix) == pytest.approx((0.5, 0.5, 1 / 3))


@pytest.mark.parametrize("label", [5, -1, 254.7, 1e20, -1e20, np.nan, np.inf])
def test_unexpected_labels(label):
    scores, labels = random_case()
    labels[1, 0, 3, 4] = label
    matrix = ConfusionMatrix(5)
    with pytest.raises(UnexpectedLabelError, match=r"Unexpected label .*num: 1\. row: 3\. col: 4\. Labels must be"):
        matrix.add(scores, labels, [255])
    assert not matrix.counts.any()


def test_fractions_are_cut_off_and_ignoring_comes_first():
    scores = np.zeros((1, 3, 1, 5), np.float32)
    matrix = ConfusionMatrix(3)
    matrix.add(scores, np.float32([1.9, -0.5, 255.2, -1, 2]), [255, -1, 2])
    np.testing.assert_array_equal(matrix.counts.sum(1), [1, 1, 0])


def test_the_first_unexpected_label_is_named_whatever_the_threads():
    scores, labels = np.zeros((1, 3, 1, 4000), np.float32), np.zeros((1, 1, 1, 4000), np.float32)
    labels[..., [700, 3900]] = 9
    with pytest.raises(UnexpectedLabelError, match="col: 700"):
        ConfusionMatrix(3).add(scores, labels)


@pytest.mark.parametrize("scores, labels", [((2, 4, 3, 3), (2, 1, 3, 3)), ((2, 5, 3, 3), (2, 1, 3, 4)), ((5,), (1,))])
def test_wrong_shapes(scores, labels):
    with pytest.raises(ValueError, match="of shape|must have shape"):
        ConfusionMatrix(5).add(np.zeros(scores), np.zeros(labels))


# In real nets


def input_layer(name, shape):
    dims = " ".join(f"dim: {size}" for size in shape)
    return f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ {dims} }} }} }}\n'


def accuracy_layer(param_str="ignore_label: 255", extra=""):
    return (
        'layer { name: "accuracy" type: "Python" bottom: "score" bottom: "label" top: "accuracy" '
        f"{extra} python_param {{ "
        f'module: "rloss_caffe.layers" layer: "SegAccuracy" param_str: "{param_str}" }} }}\n'
    )


@pytest.fixture
def make_net(tmp_path):
    caffe = pytest.importorskip("caffe", reason="the layers need pycaffe")

    def make(param_str="ignore_label: 255", score=(2, 5, 13, 11), label=(2, 1, 13, 11), before="", extra=""):
        text = before + input_layer("score", score) + input_layer("label", label) + accuracy_layer(param_str, extra)
        (tmp_path / "net.prototxt").write_text(text)
        return caffe.Net(str(tmp_path / "net.prototxt"), caffe.TEST)

    return make


def feed(net, scores, labels):
    for name, values in (("score", scores), ("label", labels)):
        net.blobs[name].reshape(*values.shape)
        net.blobs[name].data[...] = values
    net.forward()
    return net.blobs["accuracy"].data


@pytest.mark.parametrize("metric", ["PixelAccuracy", "ClassAccuracy", "PixelIOU"])
def test_each_batch(make_net, metric):
    net = make_net(f"{{ignore_label: 255, metric: {metric}}}")
    for seed in range(3):
        scores, labels = random_case(seed=seed)
        top = feed(net, scores, labels)
        assert top.shape == (1, 1, 1, 3)
        expected = original_figures(numpy_confusion(scores, labels, [255]))
        np.testing.assert_array_equal(top.ravel(), np.float32(expected))


def test_running_figures_and_the_reset_hook(make_net):
    from rloss_caffe.layers.seg_accuracy import confusion_matrices

    net = make_net("{ignore_label: [255, 4], reset: false}")
    matrix = confusion_matrices(net)["accuracy"]
    for _ in range(2):
        total = 0
        for seed, shape in enumerate([(2, 5, 13, 11), (1, 5, 4, 7), (3, 5, 1, 1)]):  # the net is reshaped meanwhile
            scores, labels = random_case(*shape, seed=seed)
            total = total + numpy_confusion(scores, labels, [255, 4])
            top = feed(net, scores, labels)
            np.testing.assert_array_equal(top.ravel(), np.float32(original_figures(total)))
        np.testing.assert_array_equal(matrix.counts, total)
        matrix.reset()


def test_scores_without_rows_and_columns(make_net):
    net = make_net(score=(3, 4), label=(3,))
    top = feed(net, np.eye(4, dtype=np.float32)[[0, 1, 3]], np.float32([0, 2, 3]))
    assert top.flat[0] == pytest.approx(2 / 3)


def test_number_of_classes_may_change_only_when_every_batch_stands_alone(make_net):
    net = make_net()
    scores, labels = random_case(c=7)
    expected = original_figures(numpy_confusion(scores, labels, [255]))
    np.testing.assert_array_equal(feed(net, scores, labels).ravel(), np.float32(expected))
    with pytest.raises(ValueError, match="had 5 classes, found 7"):
        feed(make_net("{ignore_label: 255, reset: false}"), scores, labels)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"param_str": "metric: IOU"}, "metric must be one of PixelAccuracy"),
        ({"param_str": "ignore_label: a"}, "ignore_label must be list of int"),
        ({"param_str": "ignore_labels: 3"}, "did you mean 'ignore_label'"),
        ({"param_str": "reset: 1"}, "reset must be bool"),
        ({"label": (1, 1, 13, 11)}, r"bottom 1 \(label\) must have shape \(2, 1, 13, 11\)"),
        ({"label": (2, 2, 13, 11)}, r"bottom 1 \(label\) must have shape \(2, 1, 13, 11\)"),
        ({"label": (2, 1, 13, 12)}, r"bottom 1 \(label\) must have shape \(2, 1, 13, 11\)"),
        ({"score": (2, 5, 13, 11, 1)}, r"bottom 0 \(scores\) must have shape \(N, C, H, W\)"),
        ({"extra": 'bottom: "label"'}, "expected 2 bottom blobs"),
        ({"extra": 'top: "second"'}, "expected 1 top blobs"),
    ],
)
def test_layer_errors(make_net, options, message):
    with pytest.raises(ValueError, match=message):
        make_net(**options)


def test_unexpected_label_in_a_net_leaves_it_usable(make_net):
    net = make_net("{ignore_label: 255, reset: false}")
    scores, labels = random_case()
    bad = labels.copy()
    bad[1, 0, 2, 3] = 5
    with pytest.raises(ValueError, match=r"SegAccuracy: bottom 1 \(label\): Unexpected label 5\. num: 1\. row: 2"):
        feed(net, scores, bad)
    expected = original_figures(numpy_confusion(scores, labels, [255]))
    np.testing.assert_array_equal(feed(net, scores, labels).ravel(), np.float32(expected))


@pytest.mark.parametrize("reset", ["true", "false"])
def test_nan_is_reported_in_every_batch_that_has_some(make_net, reset):
    net = make_net(f"{{ignore_label: 255, reset: {reset}}}")
    good, labels = random_case()
    bad = good.copy()
    bad[1, 0, 0, 0] = np.nan
    for scores in (good, bad, good, bad):
        with warnings.catch_warnings(record=True) as record:
            warnings.simplefilter("always")
            feed(net, scores, labels)
        texts = [str(warning.message) for warning in record]
        if scores is good:
            assert not texts
        else:
            assert len(texts) == 1 and "SegAccuracy: bottom 0 (scores) holds NaN in image 1 of the batch" in texts[0]


def test_no_backward_pass(make_net):
    net = make_net(before="force_backward: true\n")
    feed(net, *random_case())
    with pytest.raises(ValueError, match="no backward pass"):
        net.backward()


@pytest.mark.parametrize("reset", ["true", "false"])
def test_in_a_solver(tmp_path, reset):
    """A training net never asks for a gradient; the test net counts on through test phases, and can be emptied."""
    caffe = pytest.importorskip("caffe", reason="the layers need pycaffe")
    from rloss_caffe.layers.seg_accuracy import confusion_matrices

    (tmp_path / "net.prototxt").write_text(
        'layer { name: "data" type: "DummyData" top: "data" top: "label" dummy_data_param {\n'
        "  shape { dim: 2 dim: 3 dim: 6 dim: 6 } shape { dim: 2 dim: 1 dim: 6 dim: 6 }\n"
        '  data_filler { type: "gaussian" } data_filler { type: "constant" value: 1 } } }\n'
        'layer { name: "score" type: "Convolution" bottom: "data" top: "score" convolution_param { num_output: 4 '
        'kernel_size: 1 weight_filler { type: "gaussian" std: 0.1 } } }\n'
        'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss" }\n'
        + accuracy_layer(f"reset: {reset}")
    )
    (tmp_path / "solver.prototxt").write_text(
        f'net: "{tmp_path}/net.prototxt"\nbase_lr: 1\nlr_policy: "fixed"\nmax_iter: 20\nrandom_seed: 1\n'
        "test_iter: 2\ntest_interval: 10\nsnapshot_after_train: false\n"
    )
    solver = caffe.get_solver(str(tmp_path / "solver.prototxt"))
    matrix = confusion_matrices(solver.test_nets[0])["accuracy"]
    solver.step(11)  # two test phases of two batches of 72 pixels
    assert matrix.counts.sum() == (72 if reset == "true" else 4 * 72)
    matrix.reset()
    solver.step(10)
    assert matrix.counts.sum() == (72 if reset == "true" else 2 * 72)
    assert solver.net.blobs["accuracy"].data.flat[0] > 0.9  # every pixel is of class 1: soon learned
