"""The quickstart in Keras: a short run, and what it shares with Caffe's."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest
from helpers.paths import ROOT

pytest.importorskip("tensorflow", reason="the quickstart trains on TensorFlow")
keras = pytest.importorskip("keras", minversion="3", reason="needs Keras 3")
pytest.importorskip("skimage", reason="the photographs come with scikit-image")
Image = pytest.importorskip("PIL.Image", reason="the quickstart reads pictures with Pillow")
pytest.importorskip("matplotlib", minversion="3.7", reason="the pictures are drawn with matplotlib")
FOLDER = ROOT / "exper" / "quickstart_keras"
sys.path[:0] = [str(FOLDER), str(FOLDER.parent / "quickstart")]

import settings  # noqa: E402
from crops import Crops  # noqa: E402
from network import network, optimizer  # noqa: E402
from training import batches, train  # noqa: E402

from rloss_caffe.datasets import examples  # noqa: E402


def test_short_run(tmp_path):
    command = [sys.executable, str(FOLDER / "run.py"), "--quick", "--output", str(tmp_path), "--loss", "local_potts"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "RLOSS_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-3000:]
    tables = done.stdout[done.stdout.index("IoU in %") :]
    scores = re.findall(r"^(phase one|phase two|control|full supervision).*?(\d+\.\d)", tables, re.MULTILINE)
    assert len(scores) == 12  # six trainings, in two tables
    assert "The DenseCRF loss gains" in tables and "The local Potts loss gains" in tables
    for name in examples.PHOTOS:
        width, height = Image.open(tmp_path / "quick" / f"{name}.png").size
        assert width == 1200 and height > 600
    names = settings.trainings("local_potts")
    assert sorted(path.name for path in (tmp_path / "quick").iterdir()) == sorted(
        [f"{name}.keras" for name in names] + [f"{name}.png" for name in examples.PHOTOS]
    )
    found = [keras.models.load_model(tmp_path / "quick" / f"{name}.keras").get_weights()[0] for name in names]
    assert not any(np.array_equal(a, b) for a in found for b in found if a is not b)


def test_the_batches_are_caffes():
    crops = Crops("scribbles", settings.CROP, 3)
    for images, labels in batches("scribbles", 3).take(2):
        expected, maps = crops.cut(crops.draw())
        np.testing.assert_array_equal(np.moveaxis(images, -1, 1), expected)
        np.testing.assert_array_equal(labels, maps)


def test_what_stops_the_training():
    net = network()
    net.get_layer("score_coarse").bias.assign([np.nan] * 5)
    training = settings.TRAININGS["phase_one"]
    with pytest.raises(ValueError, match="partial cross-entropy: the loss is nan after 1 iterations"):
        train(net, training, 2, 1)


def test_learning_rate_is_caffes():
    """The policy "poly"; biases learn at twice the rate, and do not decay."""
    rates = optimizer(0.01, 400)
    weights = [keras.Variable(np.zeros(shape, np.float32)) for shape in ((1, 3), (3,))]
    for step in range(3):
        rate = 0.01 * (1 - step / 400) ** 0.9
        assert float(rates.learning_rate) == pytest.approx(rate)
        before = [weight.numpy().copy() for weight in weights]
        gradient = np.eye(3, dtype=np.float32)[step]
        rates.apply([keras.ops.convert_to_tensor(each) for each in (gradient[None], gradient)], weights)
        for weight, old, times in zip(weights, before, (1, 2)):
            assert (old - weight.numpy()).ravel()[step] == pytest.approx(times * rate)
    decaying = [layer.name for layer in network().layers if getattr(layer, "bias_regularizer", None)]
    assert not decaying
