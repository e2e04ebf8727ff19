"""exper/voc_mini: the study's lists, steps and tables; the loss's push beside the cross entropy's."""

import itertools
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from helpers.paths import ROOT

for module in ("PIL", "cv2", "matplotlib", "scipy", "tqdm"):
    pytest.importorskip(module, reason="the study's scripts use it")

from helpers.files import write_pair  # noqa: E402
from PIL import Image  # noqa: E402

FOLDER = ROOT / "exper" / "voc_mini"


@pytest.fixture(autouse=True)
def beside_the_scripts(monkeypatch):
    """Import the study's modules as its scripts do, which have their folder on the path."""
    monkeypatch.syspath_prepend(str(FOLDER))


def scores(*ious):
    return {"mean_iou": float(np.mean(ious)), "classes": {f"class {k}": {"iou": iou} for k, iou in enumerate(ious)}}


def test_nothing_is_trained_on_that_is_tuned_or_scored_on(tmp_path):
    import study

    (tmp_path / "list").mkdir()
    names = {"train": "scribbles", "train_full": "masks", "val": "masks"}
    for name, folder in names.items():
        lines = [f"images/{name[:3]}{k}.jpg {folder}/{name[:3]}{k}.png" for k in range(20)]
        (tmp_path / "list" / f"{name}.txt").write_text("\n".join(lines) + "\n")
    made = study.Study(tmp_path, tmp_path / "out", study.QUICK)
    made.write_lists()
    lists = {path.stem: study.entries_of(path) for path in (tmp_path / "out" / "list").iterdir()}
    images = {name: [line.split()[0] for line in lines] for name, lines in lists.items()}
    assert images["train"] == images["train_full"] and len(images["train"]) == 16
    assert images["held_out"] == images["held_out_scribbles"] == [f"images/tra{k}.jpg" for k in (0, 6, 12, 18)]
    assert not set(images["train"]) & set(images["held_out"])
    assert all("masks" in line for line in lists["held_out"] + lists["train_full"] + lists["val"])
    assert all("scribbles" in line for line in lists["held_out_scribbles"] + lists["train"])
    candidates = study.candidates_of([*study.SETTINGS, "densecrf: {weight: 3e-8, bi_xy_std: 31.5}"])
    assert list(candidates) == [*study.SETTINGS, "densecrf_2"]
    settings = [study.CONTROL, *itertools.chain(*candidates.values())]
    made.plan_first_phase(1)
    made.plan_full_masks(1)
    for setting in settings:
        made.plan_second_phase(1, setting)
    assert {test_set for _, test_set in made.steps} == {"held_out"}
    folders = made.folders(1, {"densecrf": settings[1]})
    for folder in folders.values():
        made.plan_final_scores(folder)
    assert all(need in made.steps for step in made.steps.values() for need in step.needs)
    assert len(folders) == 4 and {(folder, study.WITH_CRF) for folder in folders.values()} <= made.steps.keys()
    # Second phases differ in the loss alone, and have with the first as many iterations as the full masks.
    names = [study.folder_of(1, setting) for setting in settings]
    variables = [made.steps[name, "held_out"].variables for name in names]
    differing = {key for each in variables for key in each if each[key] != variables[0][key]}
    assert differing == {"LOSS", "LOSS_WEIGHT", "LOSS_PARAMS"} and len(set(names)) == len(names)
    assert made.steps[names[1], "val"].variables == variables[1]
    whole = made.steps["seed1/phase_one", "held_out"].variables["MAX_ITER"] + variables[0]["MAX_ITER2"]
    assert made.steps["seed1/full", "held_out"].variables["MAX_ITER"] == whole


def test_settings_become_the_run_scripts_words():
    import study

    setting = study.read_setting("densecrf: {exact_gradient: true, bi_rgb_std: 15, weight: 3e-8, bi_xy_std: 30.5}")
    assert setting == study.Setting("densecrf", "3e-8", "bi_rgb_std: 15, bi_xy_std: 30.5, exact_gradient: true")
    assert setting.folder == "densecrf/weight_3e-8_bi_rgb_std_15_bi_xy_std_30.5_exact_gradient_true"
    assert study.CONTROL.folder == "none" and study.phase_of("seed1/none") == "trainwithnoloss"
    assert study.phase_of(f"seed1/{setting.folder}") == "trainwithdensecrfloss"
    assert study.phase_of("seed1/local_potts/weight_1") == "trainwithlocalpottsloss"
    for wrong in ("densecrf", "densecrf: {bi_xy_std: 3}", "densecrf: {push: 1}", "densecrf: {weight: 1, shrink: 2}"):
        with pytest.raises(ValueError, match="a setting is one loss with a weight, without push or shrink"):
            study.read_setting(wrong)
    with pytest.raises(ValueError, match="a loss must be one of densecrf, "):
        study.candidates_of(["crf"])


def test_tasks_are_done_once_and_after_those_they_need():
    import schedule

    needs = {"d": ["c"], "e": [], "a": [], "b": ["a"], "c": ["a", "b"], "f": []}
    order, at_once, most, looks = [], 0, 0, 0
    lock = threading.Lock()

    def do(task):
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
            assert all(need in order for need in needs[task])
        time.sleep(0.02)
        with lock:
            at_once -= 1
            order.append(task)

    def look():
        nonlocal looks
        looks += 1

    schedule.run_all(needs, [], do, 2, look)
    assert sorted(order) == sorted(needs) and most == 2 and looks >= 3
    assert order.index("a") < 2  # as others wait for it
    order[:] = ["a", "e"]
    schedule.run_all(needs, ["a", "e"], do, 2)
    assert sorted(order) == sorted(needs)


def test_no_task_is_begun_after_one_that_failed():
    import schedule

    done = []

    def do(task):
        if task == "b":
            raise RuntimeError("b failed")
        time.sleep(0.1)
        done.append(task)

    with pytest.raises(RuntimeError, match="b failed"):
        schedule.run_all({"a": [], "b": [], "c": ["a"], "d": []}, [], do, 2)
    assert done == ["a"]


def test_progress_is_read_from_the_steps_log(tmp_path):
    import study

    for name in ("held_out", "val"):
        (tmp_path / "list").mkdir(exist_ok=True)
        (tmp_path / "list" / f"{name}.txt").write_text("a.jpg a.png\n" * 3)
    made = study.Study(tmp_path, tmp_path, study.QUICK)
    made.plan_full_masks(1)
    made.plan_final_scores("seed1/full")
    step = made.steps["seed1/full", "held_out"]
    assert made.work(step) == 4 + 2 + 3 and made.progress(step) == 0
    assert made.work(made.steps["seed1/full", "val"]) == made.work(made.steps["seed1/full", study.WITH_CRF]) == 3
    log = made.log_path(step)
    log.parent.mkdir(parents=True)
    log.write_text("Iteration 700 (of another time)\n")
    step.begins_at = log.stat().st_size
    assert made.progress(step) == 0
    with open(log, "a") as file:
        file.write("I1126 Iteration 0 (0 iter/s), loss = 1\nI1126 Iteration 4, lr = 0.1\n")
    assert made.progress(step) == 4
    with open(log, "a") as file:
        file.write("I1126 Iteration 6, loss = 1\nI1126 Batch 0, accuracy = 1\nI1126 Batch 1, accuracy = 1\n")
    assert made.progress(step) == 7
    made.weights(step.folder).parent.mkdir(parents=True)
    made.weights(step.folder).touch()
    assert made.work(step) == 3
    made.scores_path(*step.name).parent.mkdir(parents=True)
    made.scores_path(*step.name).write_text("{}")
    assert made.progress(step) >= 9


def test_missing_data_is_named_before_anything_is_begun(tmp_path):
    command = [
        sys.executable,
        str(FOLDER / "study.py"),
        "--data-root",
        str(tmp_path),
        "--output",
        str(tmp_path / "out"),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1 and not (tmp_path / "out").exists()
    assert done.stderr.startswith(f"study: missing: {tmp_path / 'list' / 'train.txt'}, ")
    assert "squeezenet_v1.0.caffemodel; " in done.stderr and "README.md" in done.stderr


def results(seeds=(1, 2)):
    """What results.json would hold, of two losses."""
    ious = {"phase_one": (50, 52), "control": (51, 53), "densecrf": (56, 57), "local_potts": (51, 51), "full": (58, 62)}
    runs = {}
    for name, means in ious.items():
        for seed, value in zip(seeds, means):
            plain, crf, held_out = scores(value - 10, value + 10), scores(value, value + 2), scores(value / 2)
            runs[f"seed{seed}/{name}"] = {"plain": plain, "dense_crf": crf, "held_out": held_out}
    settings = {loss: {"loss": loss, "weight": "1", "parameters": ""} for loss in ("densecrf", "local_potts")}
    tuning = [{"loss": "densecrf", "weight": "3e-8", "parameters": "bi_xy_std: 60", "mean_iou": 47.125}]
    return {"runs": runs, "settings": settings, "tuning": tuning}


def test_report():
    import report

    text = report.report(results(), [1, 2])
    assert (
        "| phase two: with the DenseCRF loss | **56.50 ± 0.71** | 57.50 ± 0.71 | 28.25 ± 0.35 | 46.5 | 66.5 |" in text
    )
    assert "| phase two: with the local Potts loss | **51.00 ± 0.00** |" in text
    # (6 + 5) / (8 + 10), and 6 / 8, 5 / 10
    assert "own scores: the DenseCRF loss gains 5.50 ± 0.71 points over phase one and 4.50 ± 0.71 over the c" in text
    assert "a gap of 9.00 ± 1.41 points to full masks: 61 % of it (seed by seed 75, 50 %)" in text
    assert "held out: the local Potts loss gains 0.00 ± 0.71 points over phase one and -0.50 ± 0.71 over" in text
    assert "| seed | phase one | control | densecrf | local potts | full |" in text
    assert "| 2 | 52.00 | 53.00 | 57.00 | 51.00 | 62.00 |" in text
    assert "| densecrf | 3e-8 | bi_xy_std: 60 | 47.12 |" in text


def test_two_settings_of_a_loss_are_told_apart():
    import report

    found = results()
    found["settings"]["local_potts"].update(loss="densecrf", parameters="kernel_normalization: symmetric")
    text = report.report(found, [1, 2])
    assert "| phase two: with the DenseCRF loss, weight 1, kernel_normalization: symmetric | **51.00" in text


def test_report_without_a_gap():
    import report

    found = results([1])
    for run in found["runs"].values():
        run.update(plain=scores(9, 10), dense_crf=scores(9, 10), held_out=scores(9))
    found["runs"]["seed1/full"]["plain"] = scores(9, 10.002)  # written as 0.00
    text = report.report(found, [1])
    assert text.count("a gap of 0.00 points to full masks: - % of it (seed by seed - %)") == 6


def test_loss_weight(tmp_path):
    """The smaller the crop and the bandwidths, the less the DenseCRF loss pushes; the cross entropy does not care."""
    caffe = pytest.importorskip("caffe", reason="gradients come from a Caffe net")
    from rloss_caffe import Net

    lines = []
    for index in range(4):
        entry = write_pair(tmp_path, str(index), 140, 150, index)
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
    settings = [(97, 60, 15), (97, 15, 15), (97, 100, 15), (97, 60, 5), (97, 60, 30), (65, 60, 15), (129, 60, 15)]
    command += [f"--setting={crop},{xy_std},{rgb_std},21" for crop, xy_std, rgb_std in settings]
    reduced = "densecrf: {bi_xy_std: 15, bi_rgb_std: 15, shrink: 4}"
    command += ["--crop=97", f"--loss={reduced}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    cells = [line.strip("| ").split(" | ") for line in done.stdout.splitlines()[2:]]
    names = [f"densecrf: {{bi_xy_std: {xy_std}, bi_rgb_std: {rgb_std}}}" for _, xy_std, rgb_std in settings]
    assert cells[0][:3] == [reduced, "97", "21"]
    assert [row[:3] for row in cells[1:]] == [[name, str(crop), "21"] for name, (crop, *_) in zip(names, settings)]
    rows = [[float(cell) for cell in row[3:]] for row in cells]
    sixteenth, base, near, far, narrow, wide, small, large = rows
    # With base's bandwidth at a quarter of the size: a sixteenth of the pixels, each with a sixteenth of the pairs.
    assert sixteenth[0] == base[0] and base[1] / 1000 < sixteenth[1] < base[1] / 50
    assert base[4] == pytest.approx(base[0] / base[1], rel=0.01)
    assert base[5] == pytest.approx(base[2] / base[3], rel=0.01)
    assert base[6] == pytest.approx(base[1] / (97**2 * 60 * 15), rel=0.01)
    assert far[0] == base[0]
    assert near[1] < base[1] < far[1]
    assert narrow[1] < base[1] < wide[1]
    assert small[1] < base[1] < large[1]


def test_limits():
    pytest.importorskip("caffe", reason="the module runs a Caffe net")
    import outline_scores

    label = np.array([[0, 0, 0, 1, 1, 2, 2, 2, 2, 255]], np.uint8)
    predicted = np.array([[0, 0, 1, 0, 1, 1, 1, 2, 2, 2]])
    scores = np.eye(3, dtype=np.float32)[predicted].transpose(2, 0, 1)
    result = outline_scores.OutlineScores(3, near=2)
    result.add(scores, label)
    # IoU 2/4, 1/5, 2/4; background 2/4, foreground 5/7; recall 5/6; precision 5/6; 3 of the 5 found are right; of the
    # two nearest to the outline on each side one is wrong. With everything that is found as class 2: 2/4, 0/2, 4/6.
    expected = [(1 / 2 + 1 / 5 + 1 / 2) / 3, (1 / 2 + 5 / 7) / 2, 5 / 6, 5 / 6, 3 / 5]
    expected += [1 / 2, 1 / 2, (1 / 2 + 0 + 4 / 6) / 3]
    assert np.allclose(result.values(), 100 * np.array(expected))


def test_free_scores_follow_the_image_and_the_scribbles():
    """Two uniform halves, the middle of each unsure or wrong: the half's own class wins, but not against a scribble."""
    pytest.importorskip("caffe", reason="the module runs a Caffe net")
    import bandwidths
    from loss_terms import read_terms

    image = np.full((3, 41, 41), 50, np.float32)
    image[:, :, 20:] = -50
    scores = np.zeros((3, 11, 11), np.float32)
    scores[0, :, :5], scores[1, :, 5:] = 2, 2
    scores[:, 4, 2], scores[:, 4, 8] = (0, 0.5, 0), (0.5, 0, 0)
    lines = np.full((41, 41), 255, np.uint8)
    expected = np.zeros((41, 41), int)
    expected[:, 20:] = 1
    terms, weights = read_terms("densecrf: {bi_xy_std: 15, bi_rgb_std: 8}"), [1.8 / (41 * 41 * 15 * 8)]
    few, many = bandwidths.minimise(bandwidths.Sample(image, scores, lines, expected), terms, weights)
    for found in (few, many):
        assert found.shape == (3, 41, 41)
        assert (found.argmax(axis=0)[::8, ::8] == expected[::8, ::8]).all()
    assert (many.argmax(axis=0) == expected).mean() > 0.95
    lines[16, 8] = 2
    _, many = bandwidths.minimise(bandwidths.Sample(image, scores, lines, expected), terms, weights)
    assert many[:, 16, 8].argmax() == 2


def test_limits_of_outlines_that_are_only_shifted():
    """One factor for all images mends the first image and spoils the second, which is smaller."""
    pytest.importorskip("caffe", reason="the module runs a Caffe net")
    import outline_scores

    shifted = outline_scores.ShiftedScores()
    background = np.array([[0.8, 0.8, 0.6, 0.6, 0.1, 0.1]], np.float32)
    label = np.array([[0, 0, 1, 2, 2, 255]], np.uint8)
    shifted.add(np.stack([background, (1 - background) / 2, (1 - background) / 2]), label)
    # 0.6 against 0.2 takes a factor below 1/3, with which 0.8 is still above 0.1: all five are right.
    assert shifted.best() == pytest.approx(100)
    shifted.add(np.array([[[0.65]], [[0.34]], [[0.01]]], np.float32), np.array([[0]], np.uint8))
    # All but this one: background 2 of 3, foreground 3 of 4. Without a factor: 3 of 5, 1 of 3.
    assert shifted.best() == pytest.approx(100 * (2 / 3 + 3 / 4) / 2)


@pytest.mark.parametrize("off", [-4, 0, 4])
def test_the_loss_finds_the_outline_of_a_disc(off):
    """Of a uniform disc on a uniform ground; the mask is too small or too large, and has a border of 'ignore'."""
    pytest.importorskip("caffe", reason="the module it shares functions with runs a Caffe net")
    import moved_outlines
    import outline_scores

    terms = moved_outlines.terms_of("densecrf: {bi_xy_std: 8, bi_rgb_std: 8}")
    rows, columns = np.mgrid[:81, :81]
    radius = np.hypot(rows - 40, columns - 40)
    image = np.where(radius < 20, np.float32(200), np.float32(50)) * np.ones((3, 1, 1), np.float32)
    label = np.where(radius < 20 + off - 2, 3, np.where(radius < 20 + off + 2, 255, 0)).astype(np.uint8)
    losses = moved_outlines.curve(image, moved_outlines.outwards(outline_scores.sides_of(label)), terms)
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
