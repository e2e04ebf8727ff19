"""exper/voc_mini: the study's lists, steps and tables; the loss's push beside the cross entropy's."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from helpers.files import write_pair
from helpers.paths import ROOT
from PIL import Image

FOLDER = ROOT / "exper" / "voc_mini"


@pytest.fixture
def modules(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    import study
    import tables

    return study, tables


def scores(*ious):
    return {"mean_iou": float(np.mean(ious)), "classes": {f"class {k}": {"iou": iou} for k, iou in enumerate(ious)}}


def test_nothing_is_trained_on_that_is_tuned_or_scored_on(modules, tmp_path):
    study, _ = modules
    (tmp_path / "list").mkdir()
    names = {"train": "scribbles", "train_full": "masks", "val": "masks"}
    for name, folder in names.items():
        lines = [f"images/{name[:3]}{k}.jpg {folder}/{name[:3]}{k}.png" for k in range(20)]
        (tmp_path / "list" / f"{name}.txt").write_text("\n".join(lines) + "\n")
    made = study.Study(tmp_path, tmp_path / "out", study.QUICK)
    made.write_lists()
    lists = {path.stem: study.read_lines(path) for path in (tmp_path / "out" / "list").iterdir()}
    images = {name: [line.split()[0] for line in lines] for name, lines in lists.items()}
    assert images["train"] == images["train_full"] and len(images["train"]) == 16
    assert images["held_out"] == images["held_out_scribbles"] == [f"images/tra{k}.jpg" for k in (0, 6, 12, 18)]
    assert not set(images["train"]) & set(images["held_out"])
    assert all("masks" in line for line in lists["held_out"] + lists["train_full"] + lists["val"])
    assert all("scribbles" in line for line in lists["held_out_scribbles"] + lists["train"])
    settings = [study.CONTROL, *study.SETTINGS]
    made.plan_first_phase(1)
    for setting in settings:
        made.plan_second_phase(1, setting, "held_out")
    made.plan_second_phase(1, settings[1], "val")
    assert all(need in made.steps for needs, _ in made.steps.values() for need in needs)
    # Second phases differ in the loss alone, and have with the first as many iterations as the full masks.
    names = [study.folder_of(1, setting) for setting in settings]
    variables = [made.steps[name, "held_out"][1] for name in names]
    differing = {key for each in variables for key in each if each[key] != variables[0][key]}
    assert differing <= {"DENSECRF_LOSS_WEIGHT", "BI_XY_STD", "BI_RGB_STD"} and len(set(names)) == len(names)
    assert made.steps[names[1], "val"][1] == variables[1]
    whole = made.steps["seed1/phase_one", "val"][1]["MAX_ITER"] + variables[0]["MAX_ITER2"]
    assert made.steps["seed1/full", "val"][1]["MAX_ITER"] == whole


def test_steps_run_once_and_after_those_they_need(modules, tmp_path, monkeypatch):
    study, _ = modules
    made = study.Study(tmp_path, tmp_path / "out", study.QUICK)
    made.plan_first_phase(1)
    for setting in study.SETTINGS:
        made.plan_second_phase(1, setting, "held_out")
    order, best = [], study.folder_of(1, study.SETTINGS[-1])

    def note(step):
        assert all(need in order for need in made.steps[step][0])
        order.append(step)
        made.scores_path(*step).parent.mkdir(parents=True, exist_ok=True)
        score = 1 if step[0] == best else 0
        made.scores_path(*step).write_text(json.dumps({"accuracy": {"mean_iou": score}}))

    monkeypatch.setattr(made, "run_step", note)
    made.run(jobs=2)
    assert sorted(order) == sorted(made.steps)
    made.run(jobs=2)
    assert len(order) == len(made.steps)
    assert made.best_setting(1) == study.SETTINGS[-1]


def test_report(modules):
    _, tables = modules
    ious = {"phase_one": (50, 52), "control": (51, 53), "phase_two": (56, 57), "full": (58, 62)}
    runs = {}
    for name, means in ious.items():
        for seed, value in zip((1, 2), means):
            plain, crf = scores(value - 10, value + 10), scores(value, value + 2)
            runs[f"seed{seed}/{name}"] = {"plain": plain, "dense_crf": crf}
    text = tables.report({"runs": runs, "tuning": [{"setting": ["0", 60, 15], "mean_iou": 47.125}]}, [1, 2])
    assert "| phase two: with the DenseCRF loss | **56.50 ± 0.71** | 57.50 ± 0.71 | 46.5 | 66.5 |" in text
    # (6 + 5) / (8 + 10), and 6 / 8, 5 / 10
    assert "gains 5.50 ± 0.71 points over phase one and 4.50 ± 0.71 over the control" in text
    assert "a gap of 9.00 ± 1.41 points to full masks: 61 % of it (seed by seed 75, 50 %)" in text
    assert "| 2 | 52.00 | 53.00 | 57.00 | 62.00 |" in text
    assert "| 0 | 60 | 15 | 47.12 |" in text


def test_report_without_a_gap(modules):
    _, tables = modules
    run = {"plain": scores(9, 10), "dense_crf": scores(9, 10)}
    runs = {f"seed1/{name}": run for name in tables.RUNS}
    runs["seed1/full"] = {"plain": scores(9, 10.002), "dense_crf": scores(9, 10)}  # written as 0.00
    text = tables.report({"runs": runs, "tuning": []}, [1])
    assert text.count("a gap of 0.00 points to full masks: - % of it (seed by seed - %)") == 2


def test_loss_weight(tmp_path):
    """The smaller the crop and the bandwidths, the less the DenseCRF loss pushes; the cross entropy does not care."""
    caffe = pytest.importorskip("caffe", reason="gradients come from a Caffe net")
    from rloss_caffe import Net

    lines = []
    for index in range(4):
        entry = write_pair(tmp_path, str(index), 330, 340, index)
        lines.append(f"{os.path.basename(entry.image)} {os.path.basename(entry.label)}\n")
    (tmp_path / "list.txt").write_text("".join(lines))
    template = ROOT / "exper" / "pascal_scribble" / "config" / "deeplab_squeezenet" / "test.prototxt"
    text = template.read_text().replace("${EXP}/list/${TEST_SET}.txt", str(tmp_path / "list.txt"))
    for name, value in {"DATA_ROOT": f"{tmp_path}/", "NUM_LABELS": "21", "EXP": "pascal_scribble"}.items():
        text = text.replace(f"${{{name}}}", value)
    (tmp_path / "test.prototxt").write_text(text.replace("${NET_ID}", "net"))
    net = Net(tmp_path / "test.prototxt", caffe.TEST)
    random = np.random.RandomState(0)
    for blobs in net.params.values():
        fan_in = blobs[0].data[0].size
        blobs[0].data[...] = random.normal(0, np.sqrt(2 / fan_in), blobs[0].data.shape)
    net.save(str(tmp_path / "net.caffemodel"))
    command = [sys.executable, str(FOLDER / "loss_weight.py"), "--data-root", f"{tmp_path}/", "--batches", "1"]
    command += ["--list", str(tmp_path / "list.txt"), "--weights", str(tmp_path / "net.caffemodel")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    rows = [[float(cell) for cell in line.strip("| ").split("|")] for line in done.stdout.splitlines()[2:]]
    found = {tuple(row[:4]): row[4:] for row in rows}
    base = found[225, 60, 15, 21]
    assert base[4] == pytest.approx(base[2] / base[3], rel=0.01)
    assert base[5] == pytest.approx(base[1] / (225**2 * 60 * 15), rel=0.01)
    assert found[225, 100, 15, 21][0] == base[0]
    assert found[225, 15, 15, 21][1] < found[225, 30, 15, 21][1] < base[1] < found[225, 100, 15, 21][1]
    assert found[225, 60, 5, 21][1] < base[1] < found[225, 60, 30, 21][1]
    assert found[113, 60, 15, 21][1] < base[1] < found[321, 60, 15, 21][1]


def test_limits(monkeypatch):
    pytest.importorskip("caffe", reason="the module runs a Caffe net")
    monkeypatch.syspath_prepend(str(FOLDER))
    import limits

    label = np.array([[0, 0, 0, 1, 1, 2, 2, 2, 2, 255]], np.uint8)
    predicted = np.array([[0, 0, 1, 0, 1, 1, 1, 2, 2, 2]])
    scores = np.eye(3, dtype=np.float32)[predicted].transpose(2, 0, 1)
    monkeypatch.setattr(limits, "NEAR", 2)
    result = limits.Result(3)
    result.add(scores, label)
    # IoU 2/4, 1/5, 2/4; background 2/4, foreground 5/7; recall 5/6; precision 5/6; 3 of the 5 found are right; of the
    # two nearest to the outline on each side one is wrong. With everything that is found as class 2: 2/4, 0/2, 4/6.
    expected = [(1 / 2 + 1 / 5 + 1 / 2) / 3, (1 / 2 + 5 / 7) / 2, 5 / 6, 5 / 6, 3 / 5]
    expected += [1 / 2, 1 / 2, (1 / 2 + 0 + 4 / 6) / 3]
    assert np.allclose(result.figures(), 100 * np.array(expected))


def test_free_scores_follow_the_image_and_the_scribbles(monkeypatch):
    """Two uniform halves, the middle of each unsure or wrong: the half's own class wins, but not against a scribble."""
    pytest.importorskip("caffe", reason="the module runs a Caffe net")
    monkeypatch.syspath_prepend(str(FOLDER))
    import bandwidths

    image = np.full((3, 41, 41), 50, np.float32)
    image[:, :, 20:] = -50
    scores = np.zeros((3, 6, 6), np.float32)
    scores[0, :, :3], scores[1, :, 3:] = 2, 2
    scores[:, 2, 1], scores[:, 2, 4] = (0, 0.5, 0), (0.5, 0, 0)
    lines = np.full((6, 6), 255, np.uint8)
    expected = np.zeros((41, 41), int)
    expected[:, 20:] = 1
    few, many = bandwidths.minimise(image, scores, lines, 15, 8, 1.8 / (41 * 41 * 15 * 8))
    for found in (few, many):
        assert found.shape == (3, 41, 41)
        assert (found.argmax(axis=0)[::8, ::8] == expected[::8, ::8]).all()
    assert (many.argmax(axis=0) == expected).mean() > 0.95
    lines[2, 1] = 2
    _, many = bandwidths.minimise(image, scores, lines, 15, 8, 1.8 / (41 * 41 * 15 * 8))
    assert many[:, 16, 8].argmax() == 2


def test_limits_of_outlines_that_are_only_shifted(monkeypatch):
    """One factor for all images mends the first image and spoils the second, which is smaller."""
    pytest.importorskip("caffe", reason="the module runs a Caffe net")
    monkeypatch.syspath_prepend(str(FOLDER))
    import limits

    shifted = limits.Shifted()
    background = np.array([[0.8, 0.8, 0.6, 0.6, 0.1, 0.1]], np.float32)
    label = np.array([[0, 0, 1, 2, 2, 255]], np.uint8)
    shifted.add(np.stack([background, (1 - background) / 2, (1 - background) / 2]), label)
    # 0.6 against 0.2 takes a factor below 1/3, with which 0.8 is still above 0.1: all five are right.
    assert shifted.best() == pytest.approx(100)
    shifted.add(np.array([[[0.65]], [[0.34]], [[0.01]]], np.float32), np.array([[0]], np.uint8))
    # All but this one: background 2 of 3, foreground 3 of 4. Without a factor: 3 of 5, 1 of 3.
    assert shifted.best() == pytest.approx(100 * (2 / 3 + 3 / 4) / 2)


@pytest.mark.parametrize("off", [-4, 0, 4])
def test_the_loss_finds_the_outline_of_a_disc(monkeypatch, off):
    """Of a uniform disc on a uniform ground; the mask is too small or too large, and has a border of 'ignore'."""
    pytest.importorskip("caffe", reason="the module it shares functions with runs a Caffe net")
    monkeypatch.syspath_prepend(str(FOLDER))
    import moved_outlines

    rows, columns = np.mgrid[:81, :81]
    radius = np.hypot(rows - 40, columns - 40)
    image = np.where(radius < 20, np.float32(200), np.float32(50)) * np.ones((3, 1, 1), np.float32)
    label = np.where(radius < 20 + off - 2, 3, np.where(radius < 20 + off + 2, 255, 0)).astype(np.uint8)
    losses = moved_outlines.curve(image, moved_outlines.outwards(moved_outlines.sides_of(label)), 8, 8)
    # No object at all, which is what -16 leaves of the smallest mask, parts no pixels either.
    assert moved_outlines.MOVES[1 + np.argmin(losses[1:])] == -off


def test_scattered_labels(tmp_path):
    """As many pixels of each class as the scribbles have, all of them true, and near the outlines, too."""
    mask, scribbles = np.zeros((40, 60), np.uint8), np.full((40, 60), 255, np.uint8)
    mask[10:30, 20:50] = 7
    mask[9:31, 19:20] = 255
    scribbles[20, 25:45] = 7
    scribbles[3, 5:55] = 0
    for name, label in (("masks", mask), ("scribbles", scribbles)):
        Image.fromarray(label).save(tmp_path / f"{name}.png")
        (tmp_path / f"{name}.txt").write_text(f"a.jpg {name}.png\n")
    Image.fromarray(mask).save(tmp_path / "a.jpg")
    command = [sys.executable, str(FOLDER / "scattered_labels.py"), "--data-root", str(tmp_path)]
    command += [f"--{name}={tmp_path / name}.txt" for name in ("masks", "scribbles")]
    subprocess.run([*command, "--output", str(tmp_path / "out")], check=True)
    image, label = (tmp_path / "out" / "list.txt").read_text().split()
    scattered = np.array(Image.open(tmp_path / label))
    assert image == "a.jpg" and scattered.shape == mask.shape
    labelled = scattered != 255
    assert (scattered == mask)[labelled].all()
    assert [np.count_nonzero(scattered == k) for k in (0, 7)] == [50, 20]
    assert len(np.unique(np.nonzero(labelled)[0])) > 15
    (tmp_path / "scribbles.txt").write_text("a.jpg scribbles.png\na.jpg scribbles.png\n")
    done = subprocess.run([*command, "--output", str(tmp_path / "out")], capture_output=True, text=True)
    assert done.returncode and "has 1 images" in done.stderr and "has 2" in done.stderr
