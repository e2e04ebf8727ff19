"""exper/voc_mini: losses written on the command line, their weights by push, and tables of them."""

import subprocess
import sys

import numpy as np
import pytest
from helpers.paths import ROOT

for module in ("PIL", "cv2", "scipy", "tqdm"):
    pytest.importorskip(module, reason="the study's scripts use it")
pytest.importorskip("caffe", reason="the modules read parameters as Caffe layers do")

from helpers.files import write_pair  # noqa: E402

FOLDER = ROOT / "exper" / "voc_mini"


@pytest.fixture(autouse=True)
def beside_the_scripts(monkeypatch):
    """Import the study's modules as its scripts do, which have their folder on the path."""
    monkeypatch.syspath_prepend(str(FOLDER))


def test_sums_of_losses_are_read():
    from loss_terms import read_terms

    one, other = read_terms(
        "densecrf: {bi_xy_std: 30, weight: 3e-8} + densecrf: {bi_xy_std: 1e+1, push: 0.3, shrink: 4}"
    )
    assert (one.name, one.options, one.weight, one.push, one.shrink) == ("densecrf", {"bi_xy_std": 30}, 3e-8, None, 1)
    assert (other.options, other.weight, other.push, other.shrink) == ({"bi_xy_std": 10}, None, 0.3, 4)
    assert read_terms("densecrf")[0].options == {}


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "a loss must be one of densecrf"),
        ("dense_crf", "found 'dense_crf'"),
        ("densecrf + ", "found 'densecrf +'"),
        ("densecrf: {bi_xy_std: -1}", "bi_xy_std must be float > 0, found -1"),
        ("densecrf: {bi_xy_st: 1}", "did you mean 'bi_xy_std'"),
        ("densecrf: {push: 1, weight: 1}", "found both"),
        ("densecrf: {push: 0}", "push must be float > 0"),
        ("densecrf: {shrink: 0}", "shrink must be int >= 1"),
    ],
)
def test_what_is_no_loss_is_said(text, message):
    from loss_terms import read_terms

    with pytest.raises(ValueError) as error:
        read_terms(text)
    assert message in str(error.value)


def test_labels_go_to_losses_that_take_some():
    """And no image to a loss that wants none: a class that is tagged absent is pushed down everywhere."""
    from loss_terms import read_terms

    (term,) = read_terms("size_constraint: {tags: true}")
    labels = np.full((8, 8), 255, np.uint8)
    labels[0], labels[7] = 0, 2
    gradient = term.result(np.zeros((3, 8, 8), np.float32), np.full((3, 8, 8), 1 / 3, np.float32), labels).gradient()[0]
    assert (gradient[1] > 0).all() and (gradient[[0, 2]] == 0).all()
    assert term.option("tags") is True and term.option("penalty") == "quadratic"


@pytest.mark.parametrize("shrink", [1, 2, 4])
def test_a_terms_gradient_is_that_of_the_scores(shrink):
    """Against finite differences of the value, through softmax and interpolation."""
    from loss_terms import read_terms
    from scipy.special import softmax

    from rloss_caffe.numerics.interpolation import interpolate

    random = np.random.RandomState(shrink)
    image = random.uniform(20, 60, (3, 17, 21)).astype(np.float32)
    scores = random.normal(size=(3, 5, 6)).astype(np.float32)
    (term,) = read_terms(f"densecrf: {{bi_xy_std: 6, bi_rgb_std: 30, exact_gradient: true, shrink: {shrink}}}")

    def value(scores):
        blown_up = interpolate(scores[None].astype(np.float32), image.shape[1:])[0]
        return term.value(image, softmax(blown_up, axis=0))

    gradient = term.score_gradient(image, scores)
    for direction in random.normal(size=(3, *scores.shape)):
        difference = (value(scores + 1e-2 * direction) - value(scores - 1e-2 * direction)) / 2e-2
        # With shrink, the value is a sample of the probabilities, the gradient one of scores blown up to that size.
        assert (gradient * direction).sum() == pytest.approx(difference, rel=0.02, abs=1e-3 * np.abs(gradient).sum())


def test_weights_give_the_pushes_that_were_asked_for():
    import bandwidths
    from loss_terms import read_terms

    random = np.random.RandomState(0)
    samples = []
    for _ in range(2):
        image = random.uniform(20, 60, (3, 17, 21)).astype(np.float32)
        lines = np.full((17, 21), 255, np.uint8)
        lines[4:12, 4:12] = 1
        samples.append(bandwidths.Sample(image, random.normal(size=(3, 5, 6)).astype(np.float32), lines, lines))
    terms = read_terms("densecrf: {bi_xy_std: 8} + densecrf: {weight: 1e-3} + densecrf + densecrf: {push: 0.7}")
    pushes = bandwidths.pushes_of(terms, samples)
    weights = bandwidths.weights_of(terms, pushes, 0.4)
    assert weights[1] == 1e-3 and (weights * pushes)[[0, 2, 3]] == pytest.approx([0.2, 0.2, 0.7])
    cross_entropy = sum(
        np.abs(bandwidths.cross_entropy_gradient(each.scores, bandwidths.places(each))).sum() for each in samples
    )
    dense = sum(np.abs(terms[2].score_gradient(each.image, each.scores)).sum() for each in samples)
    assert weights[2] * dense == pytest.approx(0.2 * cross_entropy)


def test_thin_scribbles_that_the_score_map_misses_are_said():
    import bandwidths

    lines = np.full((17, 21), 255, np.uint8)
    lines[5] = 1
    sample = bandwidths.Sample(np.zeros((3, 17, 21), np.float32), np.zeros((3, 5, 6), np.float32), lines, lines)
    with pytest.raises(ValueError, match="no scribble meets a row and a column whose number is a multiple of 4"):
        bandwidths.pushes_of([], [sample])


@pytest.fixture
def images(tmp_path):
    """Arguments that name two images with masks; the scribbles are some of their rows."""
    from PIL import Image

    lines = []
    for index in range(2):
        entry = write_pair(tmp_path, str(index), 61, 81, index)
        label = np.zeros((61, 81), np.uint8)
        label[15:45, 20 + index : 60] = 1 + index
        Image.fromarray(label).save(entry.label)
        scribbles = np.full_like(label, 255)
        scribbles[4::24] = label[4::24]
        Image.fromarray(scribbles).save(tmp_path / f"scribbles{index}.png")
        lines.append([entry.image[len(str(tmp_path)) + 1 :], f"scribbles{index}.png", entry.label.split("/")[-1]])
    (tmp_path / "masks.txt").write_text("".join(f"{image} {mask}\n" for image, _, mask in lines))
    (tmp_path / "scribbles.txt").write_text("".join(f"{image} {drawn}\n" for image, drawn, _ in lines))
    return ["--data-root", f"{tmp_path}/", "--list", str(tmp_path / "masks.txt")]


def test_latent_labels_are_found_at_the_scores_size_and_follow_scribbles():
    """Two uniform halves, each with one scribble; the network knows nothing but a little of a third class."""
    import bandwidths

    image = np.full((3, 41, 41), 50, np.float32)
    image[:, :, 20:] = -50
    lines = np.full((41, 41), 255, np.uint8)
    lines[16:20, 4:12], lines[16:20, 28:36] = 0, 1
    scores = np.zeros((3, 11, 11), np.float32)
    scores[2] = 0.1
    sample = bandwidths.Sample(image, scores, lines, lines)
    term = bandwidths.read_latent("self_label: {shrink: 4, contrast: image, lambda: 20, steps: 200}")
    found = bandwidths.latent_labels(term, sample)
    assert found.shape == (3, 41, 41) and np.allclose(found.sum(axis=0), 1, atol=1e-4)
    assert (found.argmax(axis=0)[:, :16] == 0).all() and (found.argmax(axis=0)[:, 24:] == 1).all()
    for text in ("densecrf", "self_label + self_label", "self_label: {push: 1}"):
        with pytest.raises(ValueError, match="--latent must be self_label, without weight or push"):
            bandwidths.read_latent(text)


def run(script, *arguments):
    return subprocess.run(
        [sys.executable, str(FOLDER / script), *arguments], capture_output=True, text=True, timeout=300
    )


def rows_of(output):
    return [line.strip("| \n").split(" | ") for line in output.splitlines()[2:]]


def test_bandwidths_has_a_row_for_each_push_and_number_of_steps(images, tmp_path):
    sum_of_two = "densecrf: {bi_xy_std: 5, weight: 1e-4} + densecrf: {bi_xy_std: 9, push: 0.2}"
    options = ["--scribbles", str(tmp_path / "scribbles.txt"), "--push", "0.1", "0.4", "--kernel", "9,15"]
    done = run("bandwidths.py", *images, *options, "--loss", sum_of_two)
    assert done.returncode == 0, done.stderr
    start, *rows = rows_of(done.stdout)
    assert start[0] == "-" and float(start[4]) > 0
    assert [row[0] for row in rows] == [sum_of_two] * 2 + ["densecrf: {bi_xy_std: 9, bi_rgb_std: 15}"] * 4
    assert [row[1] for row in rows[2:]] == ["0.1", "0.1", "0.4", "0.4"] and rows[0][1].endswith(" + 0.2")
    assert rows[0][2].startswith("0.0001 + ") and [row[3] for row in rows] == ["25", "100"] * 3
    assert float(rows[4][2]) == pytest.approx(4 * float(rows[2][2]), rel=0.01)
    done = run("bandwidths.py", *images, *options, "--push", "0")
    assert done.returncode and done.stderr.splitlines()[-1].endswith("--push must be above 0")


def test_moved_outlines_of_a_sum_is_the_sum(images):
    one, other = "densecrf: {bi_xy_std: 5, weight: 1}", "densecrf: {bi_xy_std: 9, bi_rgb_std: 20, weight: 2}"
    done = run("moved_outlines.py", *images, "--loss", one, "--loss", other, "--loss", f"{one} + {other}")
    assert done.returncode == 0, done.stderr
    values = [np.array(row[1:], float) for row in rows_of(done.stdout)]
    assert len(values) == 3
    assert all(np.max(row[:6]) == 100 for row in values)
    # In per cent of its highest, a sum of curves lies between them where their highest lie at one place.
    low, high = np.minimum(values[0], values[1])[:6], np.maximum(values[0], values[1])[:6]
    if values[0][:6].argmax() == values[1][:6].argmax():
        assert (values[2][:6] >= low - 0.11).all() and (values[2][:6] <= high + 0.11).all()
    done = run("moved_outlines.py", *images, "--loss", "densecrf + densecrf")
    assert done.returncode == 1 and "needs a weight" in done.stderr and len(done.stderr.splitlines()) == 1
