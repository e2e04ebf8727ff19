"""The package's own threads."""

import os
import subprocess
import sys
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rloss_caffe import get_num_threads, set_num_threads
from rloss_caffe.numerics import threads
from rloss_caffe.numerics.threads import bounds, for_each_image, run


@pytest.fixture(autouse=True)
def default_threads(monkeypatch):
    for name in ("RLOSS_NUM_THREADS", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    set_num_threads(None)
    yield
    set_num_threads(None)


def test_number_of_threads(monkeypatch):
    assert get_num_threads() >= 1
    monkeypatch.setenv("RLOSS_NUM_THREADS", "7")
    assert get_num_threads() == 7
    set_num_threads(3)
    assert get_num_threads() == 3
    set_num_threads(None)
    assert get_num_threads() == 7


@settings(deadline=None)
@given(cpus=st.integers(1, 256), processes=st.integers(1, 300))
def test_processes_of_one_machine_share_its_cpus(cpus, processes):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threads, "_available_cpus", lambda: cpus)
        patch.setenv("LOCAL_WORLD_SIZE", str(processes))
        share = get_num_threads()
        assert share == 1 if processes > cpus else cpus - processes < share * processes <= cpus
        patch.setenv("RLOSS_NUM_THREADS", "7")
        assert get_num_threads() == 7


@pytest.mark.parametrize("strange", ["", "0", "-2", "all", "1.5", "²"])
def test_what_is_no_number_of_processes_changes_nothing(monkeypatch, strange):
    alone = get_num_threads()
    monkeypatch.setenv("LOCAL_WORLD_SIZE", strange)
    assert get_num_threads() == alone


@pytest.mark.parametrize("bad", [0, -1, 1.5, True, "two", float("nan")])
def test_bad_numbers_are_refused(bad):
    with pytest.raises(ValueError, match="num_threads must be a whole number >= 1"):
        set_num_threads(bad)


@pytest.mark.parametrize("bad", ["0", "-2", "many", "1.5"])
def test_bad_environment_is_refused(monkeypatch, bad):
    monkeypatch.setenv("RLOSS_NUM_THREADS", bad)
    with pytest.raises(ValueError, match="RLOSS_NUM_THREADS must be"):
        get_num_threads()


@pytest.mark.parametrize("length", [0, 1, 15, 16, 17, 100, 1000])
@pytest.mark.parametrize("parts", [1, 2, 3, 40])
@pytest.mark.parametrize("multiple", [1, 16])
def test_bounds_cover_everything_once(length, parts, multiple):
    pieces = bounds(length, parts, multiple)
    assert [n for start, end in pieces for n in range(start, end)] == list(range(length))
    assert len(pieces) <= parts and all(start % multiple == 0 and end > start for start, end in pieces)


def test_results_keep_their_order_and_threads_differ():
    barrier = threading.Barrier(4)

    def task(number):
        barrier.wait(timeout=30)  # only passes if all four run at once
        return number, threading.get_ident()

    results = run(task, [(number,) for number in range(4)])
    assert [number for number, _ in results] == [0, 1, 2, 3]
    assert len({thread for _, thread in results}) == 4


def test_an_exception_is_raised_after_all_tasks_have_ended():
    ended = []

    def task(number):
        if number == 1:
            raise ValueError("the second")
        ended.append(number)

    with pytest.raises(ValueError, match="the second"):
        run(task, [(number,) for number in range(5)])
    assert sorted(ended) == [0, 2, 3, 4]
    assert run(task, []) == []


def test_callers_share_the_threads_and_none_waits_for_another():
    """Each caller does what no thread is there for."""
    run(abs, [(-1,)] * 4)
    before = threading.active_count()
    counts, everyone = [], threading.Barrier(6)

    def task(number):
        counts.append(threading.active_count())
        time.sleep(0.01)
        return number**2

    def call(results):
        everyone.wait(30)
        for _ in range(5):
            results.append(run(task, [(number,) for number in range(4)]))

    results = [[] for _ in range(6)]
    callers = [threading.Thread(target=call, args=(own,)) for own in results]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(60)
    assert all(own == [[0, 1, 4, 9]] * 5 for own in results)
    assert max(counts) <= before + len(callers)


def test_an_interrupt_waits_for_the_tasks_and_leaves_the_threads_usable():
    code = """
import os, signal, threading, time
from rloss_caffe.numerics.threads import run
signal.signal(signal.SIGINT, signal.default_int_handler)
ended = []
def task(number):
    if number:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.3)
    ended.append(number)
for turn in range(3):
    ended.clear()
    try:
        run(task, [(0,), (1,), (2,)])
    except KeyboardInterrupt:
        assert sorted(ended) == [0, 1, 2] or 0 not in ended and sorted(ended) == [1, 2], ended
    else:
        raise AssertionError("was not interrupted")
names = run(lambda: (time.sleep(0.2), threading.current_thread().name)[1], [()] * 3)
assert names[0] == "MainThread" and names[1:] == ["rloss_caffe"] * 2, names
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize("daemon", [False, True])
def test_a_process_ends_while_threads_are_at_work(daemon):
    """Its last call was a moment ago, or another thread calls all the time."""
    code = f"""
import threading
import numpy as np
from rloss_caffe import PermutohedralLattice
lattice = PermutohedralLattice(np.random.RandomState(0).randn(2, 1 << 15), num_threads=3)
values = np.ones((2, lattice.num_points))
def work():
    while True:
        lattice.filter(values)
if {daemon}:
    threading.Thread(target=work, daemon=True).start()
for _ in range(3):
    lattice.filter(values)
"""
    for _ in range(3):
        subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_of_several_bad_images_the_first_is_told_whichever_thread_is_quicker():
    for slow in (0, 1):
        third = threading.Event()

        def function(index, inner, slow=slow, third=third):
            if index == 2:
                third.set()
            if index == slow:
                assert third.wait(10)  # so that the other thread takes the third image, and this one the fourth
            if index >= 2:
                raise ValueError("is bad")

        with pytest.raises(ValueError, match="^image 2 of the batch: is bad"):
            for_each_image(function, 4, 2)
    assert for_each_image(lambda index, inner: index, 7, 3) == list(range(7))


def test_a_forked_child_gets_threads_of_its_own():
    code = """
import os
from rloss_caffe.numerics.threads import run
run(lambda n: n, [(n,) for n in range(3)])
child = os.fork()
if child == 0:
    os._exit(0 if run(lambda n: n, [(n,) for n in range(3)]) == [0, 1, 2] else 1)
assert os.waitpid(child, 0)[1] == 0
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
