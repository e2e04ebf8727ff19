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
from rloss_caffe.losses import LOSSES
from rloss_caffe.losses.gradients import compare_push, densecrf_gradients, loss_gradients, push

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
    said = capsys.readouterr()
    losses = re.findall(r"im0: 10 / (\d+): loss (\S+), push \S+ \(\S+ % with the cross entropy\), \S+ ms", said.out)
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
        (["im0.png", "--model", "m", "--weights", "w", "--probabilities", "x"], "choose one of --model, --probabil"),
        (["im0.png", "--labels", "labels", "--bi_xy_std", "3,4"], "--bi_xy_std: several values are for --sweep"),
        (["im0.png", "--labels", "labels", "--bi_xy_std", "0"], "bi_xy_std must be float > 0, found 0"),
        (["im0.png", "--labels", "labels", "--bi_xy_std", "wide"], "bi_xy_std must be float > 0, found wide"),
        (["--sweep", "--npz"], "--npz and --original-names are not for --sweep and --compare"),
        (["im0.png", "--labels", "labels", "--sweep", "--bi_xy_std", "1,2,3,4,5,6,7"], "at most 6 values of bi_xy_std"),
        (
            ["im0.png", "--labels", "labels", "--sweep", "--loss", "size_constraint"],
            "--sweep: size_constraint has no bandwidth; give a parameter several values, as --t 1,2",
        ),
        (["--loss", "unary"], "argument --loss: invalid choice: 'unary'"),
        (
            ["im0.png", "--labels", "labels", "--loss", "size_constraint", "--radius", "3"],
            "radius is no parameter of size_constraint, which has ignore_label, lower",
        ),
        (
            ["im0.png", "--labels", "labels", "--loss", "local_potts", "--relaxation", "cubic"],
            "relaxation must be one of bilinear, quadratic, absolute, found cubic",
        ),
        (["--compare", "densecrf"], "--compare: expected 2 to 6 losses, each once, found 1"),
        (["--compare", "densecrf,densecrf"], "--compare: expected 2 to 6 losses, each once"),
        (["--compare", "densecrf,unary"], "--compare: expected losses, densecrf, .*, found 'unary'"),
        (["--compare", "densecrf,local_potts", "--sweep"], "--compare and --sweep do not go together"),
        (["--compare", "densecrf,local_potts", "--loss", "densecrf"], "--compare and --loss do not go together"),
        (
            ["im0.png", "--probabilities", "arrays", "--labels", "few.png"],
            "few.png has the label 200, but there are 4 classes, from 0",
        ),
        (["--confidence", "0"], "--confidence must be above 0"),
        (["--mean", "1,2"], "expected 1 or 3 values"),
        (["--blur", "1e6"], "--blur must be from 0 to 500, found 1e.06"),
        (["--loss_weight", "0"], "--loss_weight must be above 0, found 0"),
        (["--mean", "nan"], "expected 1 or 3 values"),
        (["--width", "100"], "--width must be from 900 to 4000"),
    ],
)
def test_mistakes_are_told(folder, capsys, words, message):
    from PIL import Image

    Image.fromarray(np.full((37, 41), 200, np.uint8)).save("few.png")
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


def pushes_in(text):
    """{loss: (push, cross entropy, share in %, weight of equal push)}"""
    pattern = (
        r"im0: (\w+): push on the scores (\S+), cross entropy of \d+ labelled pixels (\S+): (\S+) % is the loss's; "
        r"equal at loss_weight (\S+)"
    )
    return {name: tuple(map(float, numbers)) for name, *numbers in re.findall(pattern, text)}


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_without_a_net(folder, capsys, loss):
    """The gradient is that of the function with these parameters and labels; the push that is told is its own."""
    words = ["im0.png", "--probabilities", "arrays", "--labels", "labels", "--loss", loss, "--loss_weight", 0.5]
    given = {"lower": 300.0} if loss == "size_constraint" else {}
    run(*words, *(f"--{name}={value}" for name, value in given.items()), "--npz", "--output", "out")
    said = capsys.readouterr()
    from rloss_caffe.commands._probabilities import _as_blob
    from rloss_caffe.data.reading import read_image, read_label

    probabilities, labels = np.load("arrays/im0.npy").astype(np.float32), read_label("labels/im0.png")
    own = {"bi_xy_std": 100.0, "bi_rgb_std": 15.0} if "bi_xy_std" in LOSSES[loss].__code__.co_varnames else {}
    if loss == "kernel_cut":  # or one part could not be seen beside the other
        own["densecrf_weight"] = 1e-7
    image = _as_blob(read_image("im0.png"), None)
    expected = loss_gradients(loss, image, probabilities, loss_weight=0.5, labels=labels, **own, **given)
    with np.load(folder / "out" / "im0_gradient.npz") as file:
        np.testing.assert_allclose(file["score_gradient"], expected.score, atol=1e-6 * np.abs(expected.score).max())
        assert file["loss_name"] == loss and file["loss_weight"] == 0.5
        assert float(file["loss"]) == pytest.approx(expected.value, rel=1e-6)
    found = compare_push(expected.score, probabilities, labels)
    (told,) = pushes_in(said.out).values()
    assert found.loss > 0 and found.labelled == (labels != 255).sum()
    wanted = (found.loss, found.cross_entropy, 100 * found.share, 0.5 * found.cross_entropy / found.loss)
    assert told == pytest.approx(wanted, rel=6e-3)


def test_compare_gives_all_the_push_of_the_first(folder, capsys, monkeypatch):
    from rloss_caffe.pictures import gradient_figures as figures

    drawn = []
    draw = figures.draw_comparison
    monkeypatch.setattr(figures, "draw_comparison", lambda *arguments: drawn.append(arguments[0]) or draw(*arguments))
    words = ["im0.png", "--probabilities", "arrays", "--labels", "labels", "--output", "out", "--loss_weight", 1e-3]
    run(*words, "--compare", "densecrf,local_potts,size_constraint", "--bi_xy_std", 9, "--radius", 2, "--lower", 300)
    told = dict(re.findall(r"im0: (\w+): push on the scores \S+ at loss_weight (\S+)", capsys.readouterr().out))
    assert list(told) == ["densecrf", "local_potts", "size_constraint"] and float(told["densecrf"]) == 1e-3
    (results,) = drawn
    first = push(results[0].score)
    for result in results:
        assert push(result.score) == pytest.approx(first, rel=1e-4)
        assert float(told[result.settings.loss]) == pytest.approx(result.settings.loss_weight, rel=6e-3)
    assert results[0].settings.parameters["bi_xy_std"] == 9 and results[1].settings.parameters["radius"] == 2
    assert size_of(folder / "out" / "im0_comparison.png")[0] == 1200


def test_the_mean_push_of_several_images(folder, capsys):
    run(
        "im0.png",
        "im1.png",
        "--probabilities",
        "arrays",
        "--labels",
        "labels",
        "--output",
        "out",
        "--loss_weight",
        1e-4,
    )
    said = capsys.readouterr().out
    pattern = r"(\S+): densecrf: push on the scores (\S+), cross entropy of .* labelled pixels (\S+): (\S+) %"
    *own, mean = [(name, *map(float, numbers)) for name, *numbers in re.findall(pattern, said)]
    assert [each[0] for each in own] == ["im0", "im1"] and "mean of 2 images: densecrf: push" in said
    loss, cross_entropy = np.mean([each[1:3] for each in own], axis=0)
    assert mean[1:] == pytest.approx((loss, cross_entropy, 100 * loss / (loss + cross_entropy)), rel=1e-2)
    assert float(said.split()[-1]) == pytest.approx(1e-4 * cross_entropy / loss, rel=1e-2)


def test_a_loss_that_pushes_nothing_is_told(folder, capsys):
    run("im0.png", "--labels", "labels", "--compare", "densecrf,size_constraint", "--no-tags", "--upper", 1e6)
    assert "im0: size_constraint: pushes nothing, whatever its weight\n" in capsys.readouterr().out


def test_sweep_over_any_parameters(folder, capsys):
    words = ["im0.png", "--labels", "labels", "--sweep", "--loss", "local_potts"]
    run(*words, "--radius", "1,2", "--contrast", "image", "--space", "inverse_distance", "--output", "out")
    tried = re.findall(r"im0: (\S+): loss", capsys.readouterr().out)
    assert tried == ["1", "2"]  # the other bandwidths have no effect
    run(*words, "--rgb_std", "4,9", "--output", "out")
    assert len(re.findall(r"im0: \S+ / \S+: loss", capsys.readouterr().out)) == 6


def test_a_net_whose_loss_wants_labels(folder, weights, capsys):
    net = (folder / "net.prototxt").read_text()
    net = net.replace('bottom: "chances" top: "crf"', 'bottom: "chances" bottom: "truth" top: "crf"')
    net = re.sub(r'layer: "DenseCRFLoss"\s+param_str: ".*?"', 'layer: "LocalPottsLoss" param_str: "radius: 2"', net)
    (folder / "labels.prototxt").write_text(net)
    words = ["im0.png", "--model", "labels.prototxt", "--weights", weights]
    assert main(["gradient", *map(str, words)]) == 1
    problem = "the layer 'crf' has a bottom for labels, 'truth': --labels or a list says where those of im0 are"
    assert problem in capsys.readouterr().err
    run(*words, "--labels", "labels", "--npz", "--output", "out")
    assert "local_potts" in pushes_in(capsys.readouterr().out)
    with np.load("out/im0_gradient.npz") as file:
        assert (file["radius"], file["loss_weight"], file["loss_name"]) == (2, 1e-4, "local_potts")


def test_a_net_and_another_loss(folder, weights, capsys):
    words = ["im0.png", "--model", "net.prototxt", "--weights", weights, "--output", "out", "--npz"]
    run(*words, "--loss", "size_constraint", "--upper", 5)
    assert "im0: size_constraint: push on the scores " in capsys.readouterr().out
    with np.load("out/im0_gradient.npz") as file:
        assert file["loss_weight"] == 1e-2 and "bi_xy_std" not in file


def test_labels_of_a_list(folder, capsys):
    """Where all lines have a label map, it is what the loss and the cross entropy get."""
    lines = [f"{folder}/im{n}.png {folder}/labels/im{n}.png" for n in range(2)]
    (folder / "labelled.txt").write_text("\n".join(lines))
    run("--list", "labelled.txt", "--probabilities", "arrays", "--output", "out")
    by_list = capsys.readouterr().out
    run("im0.png", "im1.png", "--labels", "labels", "--probabilities", "arrays", "--output", "out")
    assert capsys.readouterr().out == by_list and "densecrf" in pushes_in(by_list)
    (folder / "half.txt").write_text(f"{lines[0]}\n{folder}/im1.png")
    run("--list", "half.txt", "--probabilities", "arrays", "--output", "out")
    assert not pushes_in(capsys.readouterr().out)
