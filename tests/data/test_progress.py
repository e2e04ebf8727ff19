"""Progress bars where there is no terminal; tests/commands has those on one."""

import sys

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
