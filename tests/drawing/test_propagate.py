"""`rloss-caffe propagate`: scribbles to full label maps, in real runs."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from helpers.children import heed_interrupts
from helpers.paths import ROOT
from helpers.segmentations import read, write, write_list, write_net

for module in ("PIL", "cv2"):
    pytest.importorskip(module, reason="photographs and label maps are read with it")

from rloss_caffe.commands import main  # noqa: E402
from rloss_caffe.data.lists import read_list  # noqa: E402
from rloss_caffe.data.palette import voc_palette  # noqa: E402
from rloss_caffe.drawing.folder import Folder  # noqa: E402
from rloss_caffe.drawing.segment import segment_from_scribbles  # noqa: E402


@pytest.fixture
def root(tmp_path):
    """Three photographs with scribbles, in a list; masks beside them."""
    write_list(tmp_path)
    lines = [f"images/im{number}.png scribbles/im{number}.png\n" for number in (1, 2, 3)]
    (tmp_path / "scribbles.txt").write_text("".join(lines))
    return tmp_path


def run(root, *words, status=0):
    words = [str(root / "scribbles.txt"), "--data-root", str(root), "--out", str(root / "out"), *map(str, words)]
    assert main(["propagate", *words]) == status


def times(root):
    return {path.name: path.stat().st_mtime_ns for path in (root / "out").iterdir()}


def test_label_maps_are_the_functions(root, capsys):
    run(root, "--masks", root / "masks", "--loss", "densecrf", "--bi_xy_std", 12)
    assert sorted(times(root)) == ["im1.png", "im2.png", "im3.png"]
    for number in (1, 2, 3):
        labels, strokes = read(root / "out" / f"im{number}.png"), read(root / "scribbles" / f"im{number}.png")
        pixels, options = read(root / "images" / f"im{number}.png"), {"bi_xy_std": 12}
        coarse = segment_from_scribbles(pixels, strokes, loss="densecrf", options=options, scale=0.25)
        found = segment_from_scribbles(pixels, strokes, loss="densecrf", options=options, scores=coarse)
        np.testing.assert_array_equal(labels, np.where(strokes == 255, found.labels, strokes))
        mask = read(root / "masks" / f"im{number}.png")
        assert (labels == mask)[mask != 255].mean() > 0.95
    from PIL import Image

    with Image.open(root / "out/im1.png") as stored:
        assert stored.mode == "P" and stored.getpalette() == voc_palette().ravel().tolist()
    line = capsys.readouterr().out.strip()
    assert line.startswith(f"wrote {root}/out: 3 label maps, mean IoU ") and line.endswith(
        "0 of 3 photographs were wrong"
    )
    assert float(line.split("mean IoU ")[1].split()[0]) > 90


def test_what_is_done_is_not_done_again(root, capsys):
    run(root)
    before = times(root)
    run(root)
    assert times(root) == before and "0 label maps, 3 more were there" in capsys.readouterr().out
    (root / "out/im2.png").unlink()
    run(root)
    after = times(root)
    assert {name for name in after if after[name] != before[name]} == {"im2.png"}
    os.utime(root / "scribbles/im3.png")  # drawn on since
    run(root)
    assert times(root)["im3.png"] != after["im3.png"] and times(root)["im1.png"] == before["im1.png"]
    run(root, "--push", 0.5)  # other settings
    assert all(times(root)[name] != before[name] for name in before)
    before = times(root)
    run(root, "--push", 0.5, "--again")
    assert all(times(root)[name] != before[name] for name in before)


def test_label_maps_of_others_stay(root, capsys):
    write(root / "out" / "im1.png", np.zeros((44, 50), np.uint8))
    run(root, status=1)
    assert "this command has not made it" in capsys.readouterr().err and len(times(root)) == 1
    run(root, "--again")
    assert len(times(root)) == 3
    assert (
        main(["propagate", str(root / "scribbles.txt"), "--data-root", str(root), "--out", str(root / "scribbles")])
        == 1
    )
    assert "holds the scribbles themselves" in capsys.readouterr().err


def test_what_is_unsure_is_left_out(root):
    run(root, "--steps", 3)
    every = read(root / "out/im1.png")
    run(root, "--steps", 3, "--min-confidence", 0.9)
    sure, strokes = read(root / "out/im1.png"), read(root / "scribbles/im1.png")
    assert (every < 255).all() and 0 < (sure == 255).mean() < 1
    np.testing.assert_array_equal(sure[sure < 255], every[sure < 255])
    np.testing.assert_array_equal(sure[strokes < 255], strokes[strokes < 255])


def test_wrong_photographs_are_told_and_the_others_done(root, capsys):
    (root / "images/im1.png").write_bytes(b"no picture")
    write(root / "scribbles" / "im2.png", np.full((30, 61), 255, np.uint8))
    with open(root / "scribbles.txt", "a") as file:
        file.write("images/none.png scribbles/none.png\n")
    run(root, "--masks", root / "masks", status=1)
    said = capsys.readouterr()
    assert (
        list(times(root)) == ["im3.png"] and "1 label maps" in said.out and "3 of 4 photographs were wrong" in said.out
    )
    lines = said.err.strip().split("\n")
    assert len(lines) == 3 and "images/im1.png" in lines[0] and "images/none.png" in lines[2]
    assert "images/im2.png has 62 x 30 pixels, " in lines[1] and "scribbles/im2.png has 61 x 30" in lines[1]


@pytest.mark.parametrize(
    "words, message",
    [
        (["--min-confidence", "2"], "--min-confidence must be from 0 to 1"),
        (["--weight", "1", "--push", "1"], "give one of them"),
        (["--classes", "all"], "--classes all needs --net"),
        (["--net", "x.prototxt"], "belong together"),
        (["--net", "x.prototxt", "--weights", "y"], "--net: there is no file x.prototxt"),
        (["--radius", "2"], "radius is no parameter of densecrf"),
        (["--bi_xy_std", "10,20"], "bi_xy_std must be one number here, found 10, 20"),
    ],
)
def test_options_that_do_not_fit_are_told(root, capsys, words, message):
    run(root, *words, status=1)
    assert message in capsys.readouterr().err and not (root / "out").exists()


def test_a_folder_that_was_drawn_in(tmp_path, capsys):
    root = write_list(tmp_path)
    (root / "images").rename(root / "JPEGImages")
    folder = Folder(root, ["background", "cup"])
    assert main(["propagate", str(root), "--out", str(root / "proposals")]) == 1
    assert "the names of the classes must be said" in capsys.readouterr().err
    for name in ("im1", "im3"):
        strokes = read(root / "scribbles" / f"{name}.png")
        folder.save_labels(name, np.where(strokes == 12, 1, strokes))
    folder.write_list()
    assert main(["propagate", str(root), "--out", str(root / "proposals")]) == 0
    assert sorted(os.listdir(root / "proposals")) == ["im1.png", "im3.png"]
    labels = read(root / "proposals/im1.png")
    assert labels[15, 20] == 1 and labels[2, 2] == 0
    text = (root / "list/train.txt").read_text().replace("pascal_2012_scribble", "proposals")
    (root / "list/proposals.txt").write_text(text)
    assert len(read_list(root / "list/proposals.txt", str(root))) == 2


@pytest.mark.parametrize("dialect", ["seg_data", "fork"])
def test_scores_start_from_a_net(root, capsys, dialect):
    """A real net in Caffe; without the strokes' help it says 12 where the image is bright."""
    pytest.importorskip("caffe", reason="nets run in Caffe")
    net, weights = write_net(root, dialect)
    run(root, "--net", net, "--weights", weights, "--classes", "all", "--steps", 0, "--masks", root / "masks")
    from rloss_caffe.nets.segmenter import Segmenter

    for number in (1, 2, 3):
        image, strokes = root / "images" / f"im{number}.png", read(root / "scribbles" / f"im{number}.png")
        expected = Segmenter(net, weights).predict(image)
        np.testing.assert_array_equal(read(root / "out" / image.name), np.where(strokes == 255, expected, strokes))
    before = times(root)
    run(root, "--net", net, "--weights", weights, "--classes", "all", "--steps", 0)
    assert times(root) == before
    os.utime(weights, (1, 1))  # other weights
    run(root, "--net", net, "--weights", weights)
    assert times(root) != before
    assert set(np.unique(read(root / "out/im1.png"))) == {0, 12}


def test_ctrl_c_leaves_whole_label_maps_and_is_gone_on_from(root, capsys):
    with open(root / "scribbles.txt", "w") as file:
        for number in range(200):
            for kind in ("images", "scribbles"):
                os.link(root / kind / "im1.png", root / kind / f"many{number}.png")
            file.write(f"images/many{number}.png scribbles/many{number}.png\n")
    words = ["propagate", "scribbles.txt", "--data-root", str(root), "--out", "out", "--steps", "100"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "rloss_caffe", *words]
    told = {"stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, cwd=root, env=environment, **told, preexec_fn=heed_interrupts)
    limit = time.monotonic() + 200
    while time.monotonic() < limit and not list(root.glob("out/*.png")):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=100)[1]
    assert process.returncode == 130 and "the same command goes on with the other photographs" in said
    made = list((root / "out").iterdir())
    assert 0 < len(made) < 200 and all(path.suffix == ".png" for path in made)
    shapes = {read(path).shape for path in made}
    assert shapes == {(44, 50)}
    lines = (root / "scribbles.txt").read_text().split("\n")
    (root / "scribbles.txt").write_text("\n".join(lines[: len(made) + 2]))
    run(root, "--steps", 100)
    assert f"2 label maps, {len(made)} more were there" in capsys.readouterr().out
