"""Memory that is used again: nobody gets what another still holds, and not too much is kept."""

import gc
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rloss_caffe.numerics import memory
from rloss_caffe.numerics.memory import Memory


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch):
    monkeypatch.setattr(memory, "_kept", {})


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 3000), st.sampled_from(["f4", "i4", "i8"])), min_size=1, max_size=5))
def test_arrays_are_apart_and_start_at_cache_lines(pieces):
    block = Memory(sum(count * np.dtype(dtype).itemsize for count, dtype in pieces), len(pieces))
    arrays = [block.array((count,), dtype) for count, dtype in pieces]
    for number, (array, (count, dtype)) in enumerate(zip(arrays, pieces)):
        assert array.shape == (count,) and array.dtype == dtype and array.ctypes.data % 64 == 0
        array[:] = number
    for number, array in enumerate(arrays):
        assert (array == number).all()


def test_memory_is_used_again_once_nobody_has_it():
    one = Memory(1_000_000)
    place, other = one.array((10,), "f4").ctypes.data, Memory(1_000_000)
    assert other.array((10,), "f4").ctypes.data != place
    del one
    gc.collect()
    assert Memory(1_000_000).array((10,), "f4").ctypes.data == place


def test_what_is_kept_has_a_limit(monkeypatch):
    monkeypatch.setattr(memory, "MOST_KEPT", 1 << 20)
    for size in (1 << 18, 1 << 19, 1 << 21, 3 << 17):
        blocks = [Memory(size) for _ in range(9)]
        del blocks
        gc.collect()
        assert sum(size * len(blocks) for size, blocks in memory._kept.items()) <= 1 << 20
    assert any(memory._kept.values())  # the sizes in use now, not those of before


def test_threads_never_share():
    failures = []

    def work(number):
        for size in range(100_000, 500_000, 1000):
            array = (block := Memory(size)).array((size // 4,), "f4")
            array[:] = number
            if not (array == number).all():
                failures.append(size)
            del array, block

    workers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not failures
