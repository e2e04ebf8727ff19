"""Progress bars: on a terminal, with the time left; elsewhere nothing."""

import os
import sys
import time

import pytest

from rloss_caffe.data.progress import in_threads, progress_bar, progressing


def test_nothing_is_shown_where_there_is_no_terminal(capfd):
    assert list(progressing(list("abc"), "counting")) == list("abc")
    assert list(in_threads(str.upper, list("abc"), "counting")) == list("ABC")
    with progress_bar(3, "counting", initial=1) as bar:
        bar.note({"loss": 1})
        bar.update(2)
        assert bar.n == 3 and not bar.is_shown
    assert capfd.readouterr() == ("", "")


def test_nothing_is_shown_without_tqdm(capfd, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    assert list(progressing(list("abc"), "counting")) == list("abc")
    assert capfd.readouterr() == ("", "")


def test_a_terminal_shows_the_time_left_and_is_clean_again():
    pytest.importorskip("tqdm", reason="it draws the bar")
    pty = pytest.importorskip("pty", reason="no Unix")
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as terminal:
        with progress_bar(4, "counting", "step", file=terminal) as bar:
            for number in range(3):
                time.sleep(0.15)
                bar.note({"loss": number})
                bar.update()
            assert bar.is_shown
        shown = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert "counting:  75%" in shown and "3/4 [00:00<00:00" in shown and "loss=" in shown
    assert not shown.rstrip("\r").rsplit("\r", 1)[-1].strip()
