"""The descent of free scores: Adam's steps against Caffe's, all of it against a twin, and the study that shares it."""

import json

import numpy as np
import pytest
from helpers.paths import ROOT, shared_path

from rloss_caffe.drawing.descent import Adam
from rloss_caffe.drawing.segment import DEFAULT_OPTIONS, segment_from_scribbles


def test_adam_makes_the_steps_of_caffes_solver(tmp_path):
    caffe = pytest.importorskip("caffe", reason="its solver is the oracle")
    (tmp_path / "net.prototxt").write_text(
        """layer { name: "in" type: "DummyData" top: "one" top: "goal" dummy_data_param {
             shape { dim: 1 dim: 1 } shape { dim: 1 dim: 5 }
             data_filler { type: "constant" value: 1 } data_filler { type: "constant" value: 3 } } }
           layer { name: "w" type: "InnerProduct" bottom: "one" top: "w"
             inner_product_param { num_output: 5 bias_term: false weight_filler { type: "gaussian" std: 2 } } }
           layer { name: "loss" type: "EuclideanLoss" bottom: "w" bottom: "goal" top: "loss" }"""
    )
    (tmp_path / "solver.prototxt").write_text(
        f"""net: "{tmp_path / "net.prototxt"}" type: "Adam" base_lr: 0.2 lr_policy: "poly" power: 1 max_iter: 30
            momentum: 0.9 momentum2: 0.99 delta: 1e-8 random_seed: 1 display: 0"""
    )
    caffe.set_mode_cpu()
    solver = caffe.get_solver(str(tmp_path / "solver.prototxt"))
    weights = solver.net.params["w"][0].data
    ours, adam = weights.copy(), Adam()
    for step in range(30):
        solver.step(1)
        ours += adam.step(ours - 3, 0.2 * (1 - step / 30))  # the loss is half the squared distance to 3
        assert np.allclose(ours, weights, atol=1e-4), step


def plain_softmax(scores):
    powers = np.exp(scores - scores.max(axis=0))
    return powers / powers.sum(axis=0)


def plain_descent(image, labels, scores, weight, radius, xy_std, rgb_std, steps, rate=0.2):
    """Cross entropy plus the local Potts loss, all pairs of pixels in one matrix, in double precision."""
    classes, height, width = scores.shape
    rows, columns = np.mgrid[:height, :width].reshape(2, -1)
    distance = ((rows[:, None] - rows) ** 2 + (columns[:, None] - columns) ** 2) / (2 * xy_std**2)
    colours = image.reshape(-1, 3).astype(float)
    difference = ((colours[:, None] - colours) ** 2).sum(axis=-1) / (2 * rgb_std**2)
    near = np.maximum(np.abs(rows[:, None] - rows), np.abs(columns[:, None] - columns)) <= radius
    affinity = np.exp(-distance - difference) * near / len(rows)
    np.fill_diagonal(affinity, 0)
    scores, labels = scores.reshape(classes, -1).astype(float), labels.ravel()
    given = np.flatnonzero(labels != 255)
    mean, square = np.zeros_like(scores), np.zeros_like(scores)
    for step in range(1, steps + 1):
        p = plain_softmax(scores)
        outer = -2 * weight * p @ affinity
        gradient = p * (outer - (p * outer).sum(axis=0))
        for pixel in given:
            gradient[:, pixel] += p[:, pixel] / len(given)
            gradient[labels[pixel], pixel] -= 1 / len(given)
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.99 * square + 0.01 * gradient**2
        size = rate * (1 - (step - 1) / steps) * np.sqrt(1 - 0.99**step) / (1 - 0.9**step)
        scores = scores - size * mean / (np.sqrt(square) + 1e-8)
    p = plain_softmax(scores)
    value = weight * (affinity.sum() - (p * (p @ affinity)).sum()) - np.log(p[labels[given], given]).mean()
    return p.reshape(classes, height, width), value


@pytest.mark.parametrize("seed", range(4))
def test_the_engine_goes_where_a_plain_twin_goes(seed):
    rng = np.random.RandomState(seed)
    image = rng.randint(60, 80, (9, 12, 3)).astype(np.uint8)
    image[:, rng.randint(4, 8) :] += 100
    labels = np.full((9, 12), 255, np.uint8)
    labels[4, 1], labels[5, 2], labels[3, 10], labels[7, 9] = 0, 2, 1, 1
    start = rng.normal(size=(3, 9, 12)).astype(np.float32)
    options = {"radius": 2, "xy_std": 1.5, "rgb_std": 20, "contrast": "fixed", "space": "gaussian"}
    options.update(relaxation="bilinear", normalization="VALID")
    found = segment_from_scribbles(
        image, labels, loss="local_potts", options=options, weight=0.7, scores=start, steps=30
    )
    expected, value = plain_descent(image, labels, start, 0.7, 2, 1.5, 20, 30)
    np.testing.assert_allclose(found.probabilities, expected, atol=1e-4)
    np.testing.assert_array_equal(found.labels, expected.argmax(axis=0))
    assert found.value == pytest.approx(value, rel=1e-4)


@pytest.mark.parametrize("loss", ["densecrf", "normalized_cut", "local_potts"])
def test_the_study_asks_with_the_same_descent(monkeypatch, loss):
    """Its free scores of a photograph against the engine's."""
    pytest.importorskip("caffe", reason="the study reads parameters as Caffe layers do")
    pytest.importorskip("scipy", reason="the study uses it")
    monkeypatch.syspath_prepend(str(ROOT / "exper" / "voc_mini"))
    root = shared_path("voc_mini")
    import bandwidths
    from loss_terms import read_terms

    from rloss_caffe.data.reading import read_image, read_label
    from rloss_caffe.datasets.examples import as_blob
    from rloss_caffe.drawing.segment import PreparedImage

    line = (root / "list/train.txt").read_text().split("\n")[40]
    path, strokes = (str(root / word) for word in line.split())
    pixels = np.ascontiguousarray(read_image(path)[::2, ::2, ::-1])
    pixels[(np.abs(as_blob(pixels)) < 1).all(axis=0)] = 0  # there the study's region of interest ends, not the engine's
    lines = read_label(strokes)[::2, ::2]
    present = np.setdiff1d(lines, [255])
    assert len(present) > 1
    numbers = np.full(256, 255, np.uint8)
    numbers[present] = np.arange(len(present))
    scores = np.random.RandomState(0).normal(size=(len(present), *lines.shape)).astype(np.float32)
    options = dict(DEFAULT_OPTIONS[loss])
    terms = read_terms(f"{loss}: {json.dumps(options)}".replace('"', ""))
    monkeypatch.setattr(bandwidths, "STRIDE", 1)
    sample = bandwidths.Sample(as_blob(pixels), scores, numbers[lines], None)
    pushes = bandwidths.pushes_of(terms, [sample])
    weight = 0.6 / pushes[0]
    _, expected = bandwidths.minimise(sample, terms, [weight])
    found = segment_from_scribbles(
        PreparedImage(pixels), numbers[lines], loss=loss, weight=weight, scores=scores, steps=bandwidths.MANY
    )
    assert np.abs(found.scores - expected).max() < 1e-2 * np.abs(expected).max()
    assert (found.labels != expected.argmax(axis=0)).mean() < 1e-3
