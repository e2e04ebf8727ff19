"""Curves are drawn as they are in the logs, and whatever is in the logs can be drawn."""

import math

import numpy as np
import pytest
from helpers.logs import begin, say, step
from hypothesis import given, settings
from hypothesis import strategies as st

from rloss_caffe.pictures import curves


@pytest.fixture
def phases(tmp_path):
    paths = tmp_path / "one.log", tmp_path / "two.log"
    paths[0].write_text(begin("one", "one") + "".join(step(i, 3 - i / 100) for i in range(0, 110, 10)))
    paths[1].write_text(begin("two", "two") + "".join(step(i, 2 - i / 100, -1e6) for i in range(0, 60, 10)))
    return paths


def test_joined_phases(phases):
    pytest.importorskip("matplotlib", minversion="3.7")
    figure = curves.draw(curves.read_runs([], [phases]), window=3)
    total, crf = figure.axes[0], figure.axes[2]
    drawn = [line for line in total.lines if len(line.get_xdata()) > 2]
    assert [line.get_xdata()[0] for line in drawn] == [0, 0, 100, 100]  # as logged and smoothed, each phase by itself
    np.testing.assert_array_equal(drawn[2].get_xdata(), range(100, 160, 10))
    np.testing.assert_allclose(drawn[2].get_ydata(), [2, 1.9, 1.8, 1.7, 1.6, 1.5])
    (line,) = (line for line in total.lines if line.get_linestyle() == ":")
    assert list(line.get_xdata()) == [100, 100] and [text.get_text() for text in total.texts] == ["phase 2"]
    assert crf.get_title(loc="left") == "densecrf_loss (DenseCRF loss), times 1e-07"
    np.testing.assert_allclose(crf.lines[1].get_ydata(), -0.1)


def test_phases_whose_iterations_go_on_stay_in_place(phases):
    phases[1].write_text("".join(step(i, 1) for i in range(100, 130, 10)))
    (run,) = curves.read_runs([], [phases])
    assert [phase.offset for phase in run.phases] == [0, 0]


def test_overlaid_runs_and_their_labels(phases):
    pytest.importorskip("matplotlib", minversion="3.7")
    runs = curves.read_runs(phases, labels=["first", "second"])
    figure = curves.draw(runs)
    one, two = figure.axes[0].lines
    assert one.get_color() != two.get_color() and len(one.get_xdata()) == 11 and len(two.get_xdata()) == 6
    assert [text.get_text() for text in figure.legends[0].texts] == ["first", "second"]
    with pytest.raises(ValueError, match=r"expected 2 labels, one a run \(one, two\), found 1"):
        curves.read_runs(phases, labels=["first"])


def test_a_phase_that_two_runs_share_is_striped(phases, tmp_path):
    pytest.importorskip("matplotlib", minversion="3.7")
    other = tmp_path / "three.log"
    other.write_text(phases[1].read_text().replace("1.9", "1.8"))
    lines = curves.draw(curves.read_runs([], [phases, (phases[0], other)]), window=1).axes[0].lines
    drawn = [line for line in lines if len(line.get_xdata()) > 2]
    assert [line.is_dashed() for line in drawn] == [False, False, True, False]
    assert len({line.get_color() for line in drawn}) == 2


def test_logs_of_one_name_in_two_folders(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "train.log").write_text(step(0, 1))
    runs = curves.read_runs([tmp_path / folder / "train.log" for folder in ("a", "b")])
    assert [run.label for run in runs] == [str(tmp_path / folder / "train.log") for folder in ("a", "b")]


def test_nan_is_marked_not_hidden(tmp_path):
    pytest.importorskip("matplotlib", minversion="3.7")
    path = tmp_path / "bad.log"
    path.write_text("".join(say(f"Iteration {i}, loss = {v}") for i, v in enumerate(["2", "nan", "inf", "1"])))
    axes = curves.draw(curves.read_runs([path])).axes[0]
    curve, marks = axes.lines
    np.testing.assert_array_equal(curve.get_ydata(), [2, np.nan, np.nan, 1])
    assert list(marks.get_xdata()) == [1, 2] and marks.get_marker() == "x"
    assert axes.get_ylim()[0] > 0.5 and axes.get_ylim()[1] < 2.5


def test_smoothing():
    pytest.importorskip("numpy", minversion="1.20", reason="as matplotlib 3.7 does")
    random = np.random.RandomState(0)
    values, places = random.rand(50), np.arange(50.0)

    def smooth(values, window, kind):
        return curves.smooth(range(len(values)), values, window, kind)[1]

    padded = np.concatenate([[np.nan] * 3, values, [np.nan] * 3])
    windows = np.lib.stride_tricks.sliding_window_view(padded, 7)
    np.testing.assert_array_equal(curves.smooth(places, values, 7)[0], places)
    np.testing.assert_allclose(smooth(values, 7, "median"), np.nanmedian(windows, axis=1))
    weights = 0.75 ** np.arange(50)[::-1]  # a window of 7 points: each new one counts a quarter
    expected = 0.25 * (weights[1:] * values[1:]).sum() + weights[0] * values[0]
    np.testing.assert_allclose(smooth(values, 7, "ema")[-1], expected)
    np.testing.assert_array_equal(smooth(values, 1, "median"), values)
    np.testing.assert_allclose(smooth(values, 1, "ema"), values)
    np.testing.assert_array_equal(smooth([1, math.nan, math.inf, 3], 3, "median"), [1, math.nan, math.nan, 3])
    np.testing.assert_array_equal(smooth([1, math.nan, 3], 3, "ema"), [1, math.nan, 2])


def test_a_long_curve_is_smoothed_at_some_places_and_keeps_its_peaks(tmp_path):
    pytest.importorskip("matplotlib", minversion="3.7")
    values = np.random.RandomState(0).rand(30_000)
    values[12_345] = 9
    x, y = curves.smooth(np.arange(30_000), values, 301)
    assert len(x) == curves.FINEST and (x[0], x[-1]) == (0, 29_999)
    for place in (0, 500, 999):
        middle = int(x[place])
        assert y[place] == np.median(values[max(0, middle - 150) : middle + 151])
    path = tmp_path / "long.log"
    path.write_text("".join(say(f"Iteration {i}, loss = {value:.6g}") for i, value in enumerate(values)))
    thin, thick = curves.draw(curves.read_runs([path])).axes[0].lines
    assert len(thin.get_xdata()) == 2 * curves.FINEST
    assert thin.get_ydata().max() == 9 and thin.get_ydata().min() == pytest.approx(values.min(), abs=1e-6)
    assert len(thick.get_xdata()) == curves.FINEST


def test_two_test_nets_look_different(tmp_path):
    pytest.importorskip("matplotlib", minversion="3.7")
    path = tmp_path / "two.log"
    text = "".join(
        say(f"Iteration {i}, Testing net (#{k})") + say(f"    Test net output #0: acc = 0.{k + 1}")
        for i in (0, 10)
        for k in range(3)
    )
    path.write_text(text)
    figure = curves.draw(curves.read_runs([path]))
    looks = {(line.get_marker(), line.get_markerfacecolor()) for line in figure.axes[0].lines}
    assert len(looks) == 3
    legend = [text.get_text() for text in figure.legends[0].texts]
    assert legend == ["two", "test net 0", "test net 1", "test net 2"]


def test_panels_can_be_chosen(phases):
    runs = curves.read_runs(phases)
    assert [title for title, _, _ in curves.chosen_panels(runs, ["lr", "*crf*"])] == [
        "densecrf_loss (DenseCRF loss), times 1e-07",
        "learning rate",
    ]
    with pytest.raises(ValueError, match="no curve fits 'losses'; there are total_loss, train/loss/weighted"):
        curves.chosen_panels(runs, ["lr", "losses"])


def test_more_outputs_and_runs_than_can_be_seen(tmp_path):
    pytest.importorskip("matplotlib", minversion="3.7")
    path = tmp_path / "many.log"
    lines = [say("Iteration 0, loss = 1"), *(say(f"    Train net output #{k}: out{k} = {k}") for k in range(300))]
    path.write_text("".join(lines) + say("Iteration 10, loss = 1"))
    runs = curves.read_runs([path] * 25, labels=[f"run {k} {'with a long name ' * 12}" for k in range(25)])
    figure = curves.draw(runs)
    assert len(figure.axes) == curves.MOST_PANELS
    figure.canvas.draw()
    height = figure.bbox.height
    assert 2000 < height < 20_000 and figure.legends[0].get_window_extent().x1 <= figure.bbox.width
    assert all(axes.get_window_extent().height > 100 for axes in figure.axes)


names = st.text(st.characters(blacklist_categories=("Cs", "Cc", "Zs", "Zl", "Zp")), min_size=1, max_size=8)
numbers = st.one_of(
    st.floats(width=32).map(repr),
    st.sampled_from(["1.#QNAN", "-nan(ind)", "1.#INF", "9" * 400, "1e300", "-1e308", "1e308", "1e-320", "$x^"]),
)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(names, numbers), max_size=4),
    st.lists(st.tuples(st.integers(0, 2**31), numbers), min_size=1, max_size=5),
    st.sampled_from(["0.01", "0", "nan", "1e300", "-1", "1e-300"]),
)
@pytest.mark.filterwarnings("ignore:Glyph", "ignore:.*Matplotlib currently does not support")
def test_whatever_is_read_can_be_drawn(tmp_path_factory, outputs, steps, rate):
    pytest.importorskip("matplotlib", minversion="3.7")
    text = ""
    for iteration, loss in steps:
        text += say(f"Iteration {iteration}, loss = {loss}")
        for number, (name, value) in enumerate(outputs):
            text += say(f"    Train net output #{number}: {name}$ = {value} (* 1 = {value} loss)")
        text += say(f"Iteration {iteration}, lr = {rate}")
    path = tmp_path_factory.getbasetemp() / "drawn.log"
    path.write_text(text, encoding="utf-8")
    runs = curves.read_runs([path], labels=["$\\frac{$"])
    figure = curves.draw(runs)
    figure.canvas.draw()
    for axes in figure.axes:
        assert np.isfinite([*axes.get_xlim(), *axes.get_ylim()]).all()


def test_losses_have_titles():
    titles = {
        "DenseCRFLoss": "DenseCRF loss",
        "NormalizedCutLoss": "normalized cut loss",
        "LocalPottsLoss": "local Potts loss",
        "SizeConstraintLoss": "size constraint",
        "SoftmaxWithLoss": "cross-entropy",
        "EuclideanLoss": "euclidean loss",
        "Python": "",
        "": "",
    }
    assert {layer: curves.loss_title(layer) for layer in titles} == titles
