"""Lists, reading, samples and worker processes behind ImageSegData; no Caffe needed."""

import gc
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

cv2 = pytest.importorskip("cv2", reason="images are read with OpenCV")
Image = pytest.importorskip("PIL.Image", reason="label maps are read with Pillow")

from helpers.files import write_pair  # noqa: E402
from helpers.processes import ended, is_alive  # noqa: E402

from rloss_caffe.data import room  # noqa: E402
from rloss_caffe.data.batches import DirectReader, Prefetcher  # noqa: E402
from rloss_caffe.data.lists import Entry  # noqa: E402
from rloss_caffe.data.room import available_memory, check_room, in_words  # noqa: E402
from rloss_caffe.data.samples import Order, SampleMaker  # noqa: E402

MEAN = [104.008, 116.669, 122.675]


# --- samples ---------------------------------------------------------------------------------------------------------


def parts(sample):
    return sample.data, sample.label, sample.size


def test_plain_sample(tmp_path):
    entry = write_pair(tmp_path, "a", 5, 7)
    image = cv2.imread(entry.image).astype(np.float32)
    data, label, size = parts(SampleMaker(mean_value=MEAN).make(entry, 0))
    assert data.dtype == label.dtype == np.float32 and size == (5, 7)
    assert np.allclose(data, (image - np.float32(MEAN)).transpose(2, 0, 1), atol=1e-5)
    assert np.array_equal(label, image[:, :, 0] // 16)
    one_mean, _, _ = parts(SampleMaker(mean_value=[100], scale=0.5).make(entry, 0))
    assert np.array_equal(one_mean, (image.transpose(2, 0, 1) - 100) / 2)
    grey, _, _ = parts(SampleMaker(is_color=False).make(entry, 0))
    assert np.array_equal(grey[0], cv2.imread(entry.image, cv2.IMREAD_GRAYSCALE))


@pytest.mark.parametrize("mean", [[], [100], MEAN])
def test_padding_is_bottom_right(tmp_path, mean):
    entry = write_pair(tmp_path, "a", 5, 7)
    plain, plain_label, _ = parts(SampleMaker(mean_value=mean).make(entry, 0))
    data, label, _ = parts(SampleMaker(mean_value=mean, crop=(9, 8), ignore_label=254).make(entry, 0))
    assert np.array_equal(data[:, :5, :7], plain) and np.array_equal(label[:5, :7], plain_label)
    assert not data[:, 5:].any() and not data[:, :, 7:].any()
    assert (label[5:] == 254).all() and (label[:, 7:] == 254).all()


def test_test_crop_is_the_middle(tmp_path):
    entry = write_pair(tmp_path, "a", 10, 13)
    plain, plain_label, _ = parts(SampleMaker().make(entry, 0))
    data, label, size = parts(SampleMaker(crop=(5, 4)).make(entry, 0))
    assert (
        np.array_equal(data, plain[:, 2:7, 4:8]) and np.array_equal(label, plain_label[2:7, 4:8]) and size == (10, 13)
    )
    tall, _, _ = parts(SampleMaker(crop=(12, 4)).make(entry, 0))  # padded one way, cropped the other
    assert np.array_equal(tall[:, :10], plain[:, :, 4:8]) and not tall[:, 10:].any()


def find_window(window, image):
    """Where a crop stands in the image: (row, column, mirrored)."""
    height, width = window.shape[1:]
    places = []
    for mirrored in (False, True):
        pattern = window[:, :, ::-1] if mirrored else window
        for row in range(image.shape[1] - height + 1):
            for column in range(image.shape[2] - width + 1):
                if np.array_equal(image[:, row : row + height, column : column + width], pattern):
                    places.append((row, column, mirrored))
    assert len(places) == 1
    return places[0]


def test_random_crops_and_mirrors_reach_every_place_evenly(tmp_path):
    entry = write_pair(tmp_path, "a", 8, 7)
    plain, plain_label, _ = parts(SampleMaker().make(entry, 0))
    maker = SampleMaker(crop=(6, 6), random_crop=True, mirror=True, seed=3)
    counts = {}
    for position in range(600):
        data, label, _ = parts(maker.make(entry, position))
        row, column, mirrored = place = find_window(data, plain)
        counts[place] = counts.get(place, 0) + 1
        expected = plain_label[row : row + 6, column : column + 6]
        assert np.array_equal(label, expected[:, ::-1] if mirrored else expected)
    assert len(counts) == 3 * 2 * 2
    # 50 each on average; chi square with 11 degrees of freedom, 99.9 %
    assert sum((count - 50) ** 2 / 50 for count in counts.values()) < 31.3


def test_scaling(tmp_path):
    """OpenCV's own resizing is the definition; sizes are cut off: 333 * 0.75 = 249."""
    entry = write_pair(tmp_path, "a", 333, 21)
    image, label = cv2.imread(entry.image), cv2.imread(entry.label, 0)
    data, labels, size = parts(SampleMaker(scale_factors=[0.75]).make(entry, 0))
    assert data.shape == (3, 249, 15) and size == (333, 21)
    assert np.array_equal(data, cv2.resize(image, (15, 249), interpolation=cv2.INTER_LINEAR).transpose(2, 0, 1))
    assert np.array_equal(labels, cv2.resize(label, (15, 249), interpolation=cv2.INTER_NEAREST))
    factors = [0.5, 0.75, 1, 1.25, 1.5]
    heights = [SampleMaker(scale_factors=factors).make(entry, position).data.shape[1] for position in range(60)]
    assert set(heights) == {int(333 * factor) for factor in factors}


def test_new_size_keeps_labels_pure(tmp_path):
    entry = write_pair(tmp_path, "a", 20, 30)
    cv2.imwrite(entry.label, np.where(np.arange(30) < 15, 3, 200).astype(np.uint8)[np.newaxis].repeat(20, 0))
    data, label, size = parts(SampleMaker(new_size=(31, 47)).make(entry, 0))
    assert data.shape == (3, 31, 47) and size == (31, 47) and set(np.unique(label)) == {3, 200}


def test_labels_of_whole_images(tmp_path):
    image = write_pair(tmp_path, "a", 5, 7).image
    assert (SampleMaker().make(Entry(1, image, 9), 0).label == 9).all()
    assert (SampleMaker(ignore_label=77).make(Entry(1, image, None), 0).label == 77).all()


def test_sizes_must_agree(tmp_path):
    a, b = write_pair(tmp_path, "a", 5, 7), write_pair(tmp_path, "b", 5, 8)
    with pytest.raises(ValueError, match=r"line 4 of the list: .*7 x 5 in .*a.png and 8 x 5 in .*b_label.png"):
        SampleMaker().make(Entry(4, a.image, b.label), 0)


def test_order():
    assert [Order(3)[position] for position in range(7)] == [0, 1, 2, 0, 1, 2, 0]
    assert [Order(3, skip=2)[position] for position in range(4)] == [2, 0, 1, 2]
    order = Order(50, shuffle=True, seed=1)
    epochs = [[order[50 * epoch + place] for place in range(50)] for epoch in range(3)]
    assert all(sorted(epoch) == list(range(50)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    again = Order(50, shuffle=True, seed=1)
    assert [again[place] for place in range(100, 150)] == epochs[2]
    assert [Order(50, shuffle=True, seed=2)[place] for place in range(50)] != epochs[0]


# --- batches ---------------------------------------------------------------------------------------------------------

OPTIONS = {"crop": (24, 24), "random_crop": True, "mirror": True, "scale_factors": [0.5, 1, 1.5], "mean_value": MEAN}


def make_readers(entries, batch_size=3, slots=2, workers=2):
    order = Order(len(entries), shuffle=True, seed=5)

    def positions(batch):
        first = batch * batch_size
        return [(position, order[position]) for position in range(first, first + batch_size)]

    yield DirectReader(SampleMaker(**OPTIONS), entries, positions)
    yield Prefetcher(OPTIONS, entries, positions, batch_size, 3, slots, workers)


@pytest.fixture
def entries(tmp_path):
    return [write_pair(tmp_path, str(index), 20 + index, 30 - index, index) for index in range(5)]


@pytest.mark.parametrize("slots, workers", [(1, 1), (2, 2), (3, 7)])
def test_workers_make_the_same_batches(entries, slots, workers):
    direct, prefetcher = make_readers(entries, slots=slots, workers=workers)
    for _ in range(8):
        for expected, found in zip(parts(direct.take()), parts(prefetcher.take())):
            assert np.array_equal(expected, found)
    prefetcher.close()


linux = pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="looks at processes in /proc")


@linux
def test_workers_end_with_their_owner(entries):
    _, prefetcher = make_readers(entries)
    pids = prefetcher.pids
    assert len(pids) == 2 and all(map(is_alive, pids))
    del prefetcher
    gc.collect()
    assert ended(pids)


@linux
def test_the_shared_memory_has_no_name(entries):
    """So it is gone with the last process that has it, however that ends."""
    _, prefetcher = make_readers(entries)
    for pid in ("self", *prefetcher.pids):
        with open(f"/proc/{pid}/maps") as file:
            mapped = [line.split(maxsplit=5)[5].strip() for line in file if "/dev/shm" in line or "/tmp/" in line]
        mapped = [path for path in mapped if ".so" not in os.path.basename(path)]
        assert mapped and all(path.endswith("(deleted)") for path in mapped)
    prefetcher.close()


@linux
@pytest.mark.parametrize("seconds", [0, 0.1, 0.3, 0.6])
def test_nothing_is_left_of_a_process_that_is_killed_at_any_time(entries, tmp_path, seconds):
    """Its first word comes before its workers have started, and after Python has tried the temporary folder with a
    file of its own."""
    code = (
        "import sys, json, tempfile, time\n"
        "from rloss_caffe.data.batches import Prefetcher\nfrom rloss_caffe.data.lists import Entry\n"
        "entries = [Entry(1, sys.argv[1], sys.argv[2])]\ntempfile.gettempdir()\n"
        "print('now', flush=True)\n"
        "p = Prefetcher({'crop': (500, 500)}, entries, lambda batch: [(batch, 0)], 1, 3, 40, 2)\ntime.sleep(60)\n"
    )
    before = set(os.listdir("/dev/shm"))
    command = [sys.executable, "-c", code, entries[0].image, entries[0].label]
    environment = dict(os.environ, TMPDIR=str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
    process.stdout.readline()
    time.sleep(seconds)
    process.kill()
    process.wait()
    assert not [name for name in set(os.listdir("/dev/shm")) - before if "rloss" in name]
    assert not os.listdir(tmp_path / "tmp")


@linux
def test_workers_end_with_a_killed_process(entries):
    code = (
        "import sys, json, time\n"
        "from rloss_caffe.data.batches import Prefetcher\nfrom rloss_caffe.data.lists import Entry\n"
        "entries = [Entry(**entry) for entry in json.loads(sys.argv[1])]\n"
        "p = Prefetcher({'crop': (8, 8)}, entries, lambda batch: [(batch, 0)], 1, 3, 2, 2)\n"
        "print(*p.pids, flush=True)\ntime.sleep(60)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, json.dumps([vars(entry) for entry in entries])], stdout=subprocess.PIPE, text=True
    )
    pids = [int(pid) for pid in process.stdout.readline().split()]
    assert len(pids) == 2
    process.kill()
    process.wait()
    assert ended(pids)


@linux
def test_a_worker_that_dies_is_an_error_not_a_hang(entries):
    _, prefetcher = make_readers(entries)
    os.kill(prefetcher.pids[1], signal.SIGKILL)
    with pytest.raises(RuntimeError, match="worker process that reads images was ended by signal 9"):
        for _ in range(4):
            prefetcher.take()
    with pytest.raises(RuntimeError, match="signal 9"):
        prefetcher.take()
    assert ended(prefetcher.pids)


@linux
def test_workers_do_not_mind_an_interrupt(entries):
    direct, prefetcher = make_readers(entries)
    for pid in prefetcher.pids:
        os.kill(pid, signal.SIGINT)
    time.sleep(0.1)
    for _ in range(4):
        assert np.array_equal(direct.take().data, prefetcher.take().data)
    prefetcher.close()


def test_a_file_that_vanishes_is_named_and_training_may_go_on(entries):
    direct, prefetcher = make_readers(entries, slots=1)
    os.rename(entries[2].label, entries[2].label + ".away")
    messages = []
    for _ in range(4):
        try:
            prefetcher.take()
        except ValueError as error:
            messages.append(str(error))
            break
    assert len(messages) == 1 and "line 3 of the list" in messages[0] and "2_label.png" in messages[0]
    prefetcher.close()


def test_many_bad_files_and_batches_ahead_are_no_hang(tmp_path):
    """More tasks and answers than the pipes hold at once."""
    code = (
        "import sys\n"
        "from rloss_caffe.data.batches import Prefetcher\nfrom rloss_caffe.data.lists import Entry\n"
        "entries = [Entry(1, sys.argv[1], None)]\n"
        "p = Prefetcher({'crop': (8, 8)}, entries, lambda batch: [(batch, 0)] * 10, 10, 3, 200, 1)\n"
        "try:\n    p.take()\nexcept ValueError as error:\n    print(error)\n"
    )
    path = str(tmp_path / ("a long name " * 15))
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, timeout=100)
    assert f"line 1 of the list: could not open or decode the image {path}" in done.stdout, done.stderr


def test_batches_without_crop_need_one_size(entries):
    reader = DirectReader(SampleMaker(), entries, lambda batch: [(0, 0), (1, 1)])
    with pytest.raises(ValueError, match=r"30 x 20 in .*0.png \(line 1 of the list\) and 29 x 21 in .*1.png"):
        reader.take()


def test_no_room_for_shared_memory(entries):
    with pytest.raises(OSError, match="no room for"):
        Prefetcher({"crop": (2**15, 2**15)}, entries, lambda batch: [], 4096, 3, 4, 1)


def test_a_claim_is_compared_with_what_is_there():
    assert 1e6 < available_memory() < 1e15
    check_room(1000, "nothing much")
    with pytest.raises(ValueError, match="a big thing, which takes 1.0 PB of memory, and .* are available"):
        check_room(10**15, "a big thing")
    assert [in_words(size) for size in (5, 1234, 123456789, 1.6e12)] == ["5 bytes", "1.2 kB", "123 MB", "1.6 TB"]


@linux
def test_the_limit_of_a_control_group_counts(tmp_path, monkeypatch):
    """On a tree of files as Linux shows it: a group within one that has a limit."""
    inner = tmp_path / "job" / "step"
    inner.mkdir(parents=True)
    for folder, limit, used in ((inner, "max", 5000), (tmp_path / "job", "9000", 7000), (tmp_path, "max", 9000)):
        (folder / "memory.max").write_text(f"{limit}\n")
        (folder / "memory.current").write_text(f"{used}\n")
        (folder / "memory.stat").write_text("anon 1\nactive_file 20\ninactive_file 300\n")
    names = ("memory.max", "memory.current")
    monkeypatch.setattr(room, "_groups", lambda: [(folder, names) for folder in (inner, tmp_path / "job", tmp_path)])
    assert available_memory() == 9000 - 7000 + 320
