"""``rloss-caffe gradient``: every source of probabilities and every option works, mistakes are told."""

import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from helpers.loss_nets import write_files, write_weights
from helpers.paths import ROOT

from rloss_caffe.commands import main
from rloss_caffe.commands._probabilities import soften
from rloss_caffe.datasets import examples
from rloss_caffe.losses.gradients import densecrf_gradients

pytest.importorskip("matplotlib", minversion="3.7")
pytest.importorskip("cv2", reason="images are read with OpenCV")
SCRIPT = ROOT / "exper" / "visualize_densecrf_gradient.py"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return write_files(tmp_path)


@pytest.fixture
def weights(folder):
    return write_weights(folder)


def run(*words):
    assert main(["gradient", *map(str, words)]) == 0


def run_script(*words, **options):
    return subprocess.run([sys.executable, str(SCRIPT), *map(str, words)], capture_output=True, text=True, **options)


def test_loss_weight_of_none(folder, weights, capsys):
    (folder / "none.prototxt").write_text((folder / "net.prototxt").read_text().replace("loss_weight: 1e-4", ""))
    words = [folder / "im0.png", "--model", folder / "none.prototxt", "--weights", weights, "--output", folder / "out"]
    assert main(["gradient", *map(str, words)]) == 1
    assert re.search("layer 'crf' has the loss_weight 0.*--loss_weight replaces it", capsys.readouterr().err)
    run(*words, "--loss_weight", 1e-4)
    assert (folder / "out" / "im0_gradient.png").is_file()


def test_soften():
    label = np.full((20, 30), 255, np.uint8)
    label[:, :10], label[:, 20:] = 0, 2
    sharp = soften(label, 4, confidence=0.8, blur=0)
    np.testing.assert_allclose(sharp[:, 0, 0], [0.85, 0.05, 0.05, 0.05], rtol=1e-6)
    np.testing.assert_allclose(sharp[:, 0, 15], 0.25)
    soft = soften(label, 4, confidence=0.8, blur=2)
    np.testing.assert_allclose(soft.sum(axis=0), 1, rtol=1e-6)
    assert 0.25 < soft[0, 10, 10] < 0.85 and soft[0, 10, 0] == pytest.approx(0.85, abs=1e-3)


def size_of(path):
    from PIL import Image

    with Image.open(path) as picture:
        return picture.size


def test_model_with_every_output(folder, weights, capsys):
    words = ["--model", folder / "fork.prototxt", "--weights", weights, "--output", folder / "out"]
    words += ["--list", folder / "list.txt", "--npz", "--original-names", "--classes", "class 1,3", "--width", 900]
    run(*words)
    said = capsys.readouterr()
    assert "layer 'crf': image 'picture', probabilities 'chances' (softmax of 'marks')" in said.err
    for name in ("im0_gradient.png", "im1_gradient.npz", "im0"):
        assert f"wrote {folder / 'out' / name}\n" in said.err
    assert not (folder / "rloss_output").exists()
    for name, size in (("im0", (41, 37)), ("im1", (44, 30))):
        assert size_of(folder / "out" / f"{name}_gradient.png")[0] == 900
        files = sorted(path.name for path in (folder / "out" / name).iterdir())
        assert files == ["1prob.png", "1scorediff.png", "3prob.png", "3scorediff.png"]
        assert {size_of(folder / "out" / name / file) for file in files} == {size}
    from rloss_caffe.nets.loss_net import LossNet

    with np.load(folder / "out" / "im1_gradient.npz") as file:
        arrays = dict(file)
    given = LossNet(folder / "net.prototxt", weights).predict(folder / "im1.png")
    expected = densecrf_gradients(given.image, given.probabilities, 9, 14, 1e-4)
    np.testing.assert_allclose(arrays["probability"], given.probabilities[:, :30, :44], atol=1e-6)
    for name, gradient in (("score_gradient", expected.score), ("probability_gradient", expected.probability)):
        np.testing.assert_allclose(arrays[name], gradient[:, :30, :44], atol=1e-5 * np.abs(gradient).max())
    assert float(arrays["loss"]) == pytest.approx(expected.value) and arrays["loss_weight"] == 1e-4
    assert (arrays["bi_xy_std"], arrays["bi_rgb_std"]) == (9, 14)


def test_settings_override_the_layer(folder, weights):
    words = [folder / "im0.png", "--model", folder / "net.prototxt", "--weights", weights, "--layer", "crf", "--npz"]
    words += ["--bi_xy_std", 6, "--bi_rgb_std", 33, "--loss_weight", 2, "--exact_gradient", "--mean", "100,110,120"]
    run(*words, "--names", "a,b,c,d", "--output", folder / "out")
    from rloss_caffe.nets.loss_net import LossNet

    given = LossNet(folder / "net.prototxt", weights, mean=[100, 110, 120]).predict(folder / "im0.png")
    expected = densecrf_gradients(given.image, given.probabilities, 6, 33, 2, exact_gradient=True)
    with np.load(folder / "out" / "im0_gradient.npz") as file:
        np.testing.assert_allclose(
            file["score_gradient"], expected.score[:, :37, :41], atol=1e-5 * np.abs(expected.score).max()
        )
        assert list(file["classes"]) == ["a", "b", "c", "d"]


def test_probabilities_of_a_folder_and_their_own_output(folder):
    images = [folder / "im0.png", folder / "im1.png"]
    run(*images, "--probabilities", folder / "arrays", "--npz", "--output", folder / "out")
    run(
        images[0],
        "--probabilities",
        folder / "out" / "im0_gradient.npz",
        "--npz",
        "--output",
        folder / "again",
    )
    first, second = (np.load(folder / name / "im0_gradient.npz") for name in ("out", "again"))
    np.testing.assert_allclose(first["probability"], np.load(folder / "arrays" / "im0.npy"), rtol=1e-6)
    np.testing.assert_array_equal(first["score_gradient"], second["score_gradient"])
    assert (first["bi_xy_std"], first["bi_rgb_std"], first["loss_weight"]) == (100, 15, 1e-8)


def test_labels(folder):
    words = [folder / "im0.png", "--labels", folder / "labels", "--confidence", 0.8, "--blur", 0, "--npz"]
    run(*words, "--format", "jpg", "--output", folder / "out")
    with np.load(folder / "out" / "im0_gradient.npz") as file:  # as many classes as the labels ask for
        assert file["probability"].shape == (3, 37, 41) and list(file["classes"]) == ["class 0", "class 1", "class 2"]
        np.testing.assert_allclose(file["probability"][:, 10, 12], [0.2 / 3, 0.2 / 3, 0.8 + 0.2 / 3], rtol=1e-5)
    assert size_of(folder / "out" / "im0_gradient.jpg")[0] == 1200
    run(*words, "--names", "voc")
    with np.load(folder / "rloss_output" / "gradients" / "im0_gradient.npz") as file:
        assert file["probability"].shape == (21, 37, 41) and file["classes"][2] == "bicycle"


def test_all_images_have_the_same_classes(folder):
    from PIL import Image

    label = np.full((30, 44), 255, np.uint8)
    label[5] = 4
    Image.fromarray(label).save(folder / "labels" / "im1.png")
    run("im0.png", "im1.png", "--labels", "labels", "--npz")
    for name in ("im0", "im1"):
        with np.load(folder / "rloss_output" / "gradients" / f"{name}_gradient.npz") as file:
            assert len(file["probability"]) == 5


def test_a_class_that_the_image_does_not_have(folder, capsys):
    run("im0.png", "--labels", "labels", "--names", "sky,sea,land,sun", "--classes", "land,sun,sea")
    assert "im0: no pixel is sun or sea\n" in capsys.readouterr().out


def test_examples_have_their_names(folder, capsys):
    pytest.importorskip("skimage")
    label = examples.LABELS / "scribbles" / "coffee.png"
    run("coffee", "--labels", label, "--npz")
    with np.load(folder / "rloss_output" / "gradients" / "coffee_gradient.npz") as file:
        assert list(file["classes"]) == examples.CLASSES


def test_sweep(folder, capsys):
    words = [folder / "im0.png", "--labels", folder / "labels" / "im0.png", "--sweep", "--bi_rgb_std", "5,20"]
    run(*words, "--bi_xy_std", 10, "--output", folder / "out")
    assert size_of(folder / "out" / "im0_sweep.png")[0] == 1200
    losses = re.findall(r"im0: 10 / (\d+): loss (\S+), \S+ ms", capsys.readouterr().out)
    assert [rgb for rgb, _ in losses] == ["5", "20"] and float(losses[1][1]) < float(losses[0][1]) < 0


@pytest.mark.parametrize(
    "words, message",
    [
        (["nowhere.jpg"], "no such image: nowhere.jpg; nor is it one of the examples: astronaut, camera"),
        (
            ["im0.png"],
            "say where the class probabilities of im0.png come from.*--model quickstart takes the quickstart's",
        ),
        (["rocket", "im0.png"], "say where the class probabilities of im0.png come from"),
        (["im0.png", "--model", "quickstart", "--weights", "x"], "--model quickstart has weights of its own"),
        (["im0.png", "labels/im0.png", "--labels", "labels"], "several images have the name im0"),
        (["im0.png", "--labels", "labels/im1.png"], "labels/im1.png is 44 x 30, but the image im0 41 x 37"),
        (["im0.png", "--labels", "arrays"], "nothing for the image im0: no arrays/im0.png"),
        (["im0.png", "--labels", "labels", "--names", "a,b"], "has the label 2, but there are 2 names of classes"),
        (
            ["im0.png", "--labels", "labels", "--classes", "unicorn"],
            "--classes: expected names or numbers of class 0, class 1, class 2, found .unicorn",
        ),
        (
            ["im0.png", "--probabilities", "scores.npy"],
            "scores.npy holds no probabilities.*Scores need a softmax first",
        ),
        (["im0.png", "--probabilities", "flat.npy"], r"must hold floating-point probabilities .K, H, W., found"),
        (["im0.png", "--probabilities", "empty.npy"], r"must hold floating-point probabilities .*found.*.3, 0, 0."),
        (["im0.png", "--probabilities", "last.npy"], "Its classes are in the last axis, expected in the first"),
        (["im0.png", "--probabilities", "nan.npy"], "nan.npy holds 1 NaN and 0 infinite values"),
        (["im0.png", "--probabilities", "cut.npz"], "cannot read probabilities from cut.npz"),
        (["im0.png", "--probabilities", "im0.png"], "cannot read probabilities from im0.png"),
        (["im0.png", "--probabilities", "arrays", "--names", "a"], "--names: expected 4 names, found 1"),
        (["im0.png", "--model", "net.prototxt"], "--model and --weights belong together"),
        (["im0.png", "--labels", "labels", "--probabilities", "x"], "choose one of --probabilities, --labels"),
        (["--bi_xy_std", "3,4"], "--bi_xy_std: several values are for --sweep"),
        (["--bi_xy_std", "0"], "bandwidths must be above 0, found 0"),
        (["--sweep", "--npz"], "--npz and --original-names are not for --sweep"),
        (["--sweep", "--bi_xy_std", "1,2,3,4,5,6,7"], "at most 6 values"),
        (["--confidence", "0"], "--confidence must be above 0"),
        (["--mean", "1,2"], "expected 1 or 3 values"),
        (["--blur", "1e6"], "--blur must be from 0 to 500, found 1e.06"),
        (["--loss_weight", "0"], "--loss_weight must be above 0, found 0"),
        (["--mean", "nan"], "expected 1 or 3 values"),
        (["--width", "100"], "--width must be from 900 to 4000"),
    ],
)
def test_mistakes_are_told(folder, capsys, words, message):
    np.save("scores.npy", 3 * np.load("arrays/im0.npy"))
    np.save("flat.npy", np.zeros((37, 41)))
    np.save("empty.npy", np.zeros((3, 0, 0)))
    probabilities = np.load("arrays/im0.npy")
    np.save("last.npy", probabilities.transpose(1, 2, 0))
    np.savez("cut.npz", probabilities)
    (folder / "cut.npz").write_bytes((folder / "cut.npz").read_bytes()[:500])
    probabilities[1, 2, 3] = np.nan
    np.save("nan.npy", probabilities)
    try:
        assert main(["gradient", *words]) == 1
    except SystemExit as error:  # what the parser itself refuses
        assert error.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("rloss-caffe gradient: ") and re.search(message, last)
    assert not (folder / "rloss_output").exists()


def test_gpu_that_is_not_there(folder, weights, capsys):
    from rloss_caffe.commands._devices import has_gpu

    if has_gpu(7):
        pytest.skip("there is a GPU 7")
    words = ["im0.png", "--model", "net.prototxt", "--weights", weights, "--gpu", "7"]
    assert main(["gradient", *words]) == 1
    assert capsys.readouterr().err.startswith("rloss-caffe gradient: --gpu=7: this Caffe is CPU-only")


@pytest.mark.parametrize(
    "missing, words, message",
    [
        ("matplotlib", ["--labels", "labels"], "pictures are drawn with matplotlib"),
        ("skimage", ["rocket", "--probabilities", "arrays"], "the photo rocket is from scikit-image"),
        ("caffe", ["rocket"], "--labels and --probabilities need none"),
    ],
)
def test_what_is_missing_is_told(folder, missing, words, message):
    (folder / f"{missing}.py").write_text("raise ImportError('not here')")
    path = os.pathsep.join(map(str, (folder, ROOT)))
    done = run_script(*words, env={"PYTHONPATH": path, "PATH": ""})
    assert done.returncode == 1 and message in done.stderr
    assert "Traceback" not in done.stderr


def run_copy(folder, *words):
    """The command in a copy of the checkout."""
    command = [sys.executable, "-m", "rloss_caffe", "gradient", *words]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment)


def test_quickstart_is_trained_once(tmp_path):
    for module in ("caffe", "skimage", "tqdm"):
        pytest.importorskip(module, reason="the quickstart trains in Caffe on scikit-image's photographs")
    shutil.copytree(ROOT / "rloss_caffe", tmp_path / "rloss_caffe")
    done = run_copy(tmp_path, "rocket")
    assert done.returncode == 1 and "the quickstart's network needs the project's checkout" in done.stderr
    quickstart = tmp_path / "exper" / "quickstart"
    shutil.copytree(ROOT / "exper" / "quickstart", quickstart, ignore=shutil.ignore_patterns("output", "__pycache__"))
    solver = quickstart / "solver.prototxt"
    text, count = re.subn(r"max_iter: \d+", "max_iter: 2", solver.read_text())
    assert count == 1
    solver.write_text(text)
    first, second = (run_copy(tmp_path, "rocket", "--classes", "rocket,background") for _ in range(2))
    assert first.returncode == 0, first.stderr
    assert second.returncode == 0, second.stderr
    assert "training the quickstart's network" in first.stderr and (quickstart / "output").is_dir()
    assert "training" not in second.stderr
    assert size_of(tmp_path / "rloss_output" / "gradients" / "rocket_gradient.png")[0] == 1200
