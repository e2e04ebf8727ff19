"""``rloss-caffe fetch``: downloads from a server of our own that misbehaves, and archives that mean harm."""

import gzip
import hashlib
import http.server
import io
import os
import random
import re
import signal
import subprocess
import sys
import tarfile
import threading
import time
import warnings
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rloss_caffe.datasets.archives import remove_tree, unpack
from rloss_caffe.datasets.download import download

CONTENT = os.urandom(1000) * 1000


class Server(http.server.ThreadingHTTPServer):
    """Serves `content`; `cut` bytes at most a connection, `failures` errors first. Keeps a record of what was asked."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.cut, self.failures, self.tag, self.ranges = CONTENT, None, [], '"1"', True
        self.log, self.go_on = [], threading.Event()
        self.go_on.set()
        self.url = f"http://127.0.0.1:{self.server_port}/data.zip"

    def handle_error(self, request, client_address):
        """A client that leaves early is no news."""


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server, start = self.server, 0
        wanted = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
        server.log.append(int(wanted.group(1)) if wanted else None)
        if server.failures:
            return self.send_error(server.failures.pop(0))
        content, status = server.content, 200
        if wanted and server.ranges and self.headers.get("If-Range") == server.tag:
            start, status = int(wanted.group(1)), 206
        if start >= len(content) > 0:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        self.send_response(status)
        if server.tag:
            self.send_header("ETag", server.tag)
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        end = len(content) if server.cut is None else start + server.cut
        self.wfile.write(content[start:end])
        server.go_on.wait(30)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


# --- downloads -------------------------------------------------------------------------------------------------------


def test_cut_connections_are_taken_up_again(server, tmp_path):
    server.cut = 300_000
    download(server.url, tmp_path / "a", retries=1, pause=0)
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert server.log == [None, 300_000, 600_000, 900_000]
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_an_interrupted_download_goes_on_in_the_next_call(server, tmp_path):
    server.cut = 300_000
    with pytest.raises(OSError, match="ended after 300000 of 1000000 bytes; 300000 bytes are kept"):
        download(server.url, tmp_path / "a", retries=0)
    assert not (tmp_path / "a").exists()
    server.cut = None
    download(server.url, tmp_path / "a", retries=0)
    assert (tmp_path / "a").read_bytes() == CONTENT and server.log == [None, 300_000]


@pytest.mark.parametrize("change", ["changed file", "other address", "no ranges", "no version", "weak version"])
def test_parts_of_two_versions_are_never_put_together(server, tmp_path, change):
    server.cut, url = 300_000, server.url
    if change in ("no version", "weak version"):
        server.tag = "" if change == "no version" else 'W/"1"'
    with pytest.raises(OSError):
        download(url, tmp_path / "a", retries=0)
    server.cut, server.content = None, CONTENT[::-1]
    if change == "changed file":
        server.tag = '"2"'
    if change == "other address":
        url = url.replace("data", "other")
    if change == "no ranges":
        server.ranges = False
    download(url, tmp_path / "a", retries=0)
    assert (tmp_path / "a").read_bytes() == CONTENT[::-1]


def test_a_complete_part_needs_nothing_more(server, tmp_path):
    server.cut = len(CONTENT) - 1
    with pytest.raises(OSError):
        download(server.url, tmp_path / "a", retries=0)
    with open(tmp_path / "a.part", "ab") as file:
        file.write(CONTENT[-1:])
    download(server.url, tmp_path / "a", retries=0)
    assert (tmp_path / "a").read_bytes() == CONTENT
    server.cut = 10
    with pytest.raises(OSError):
        download(server.url, tmp_path / "b", retries=0)
    (tmp_path / "b.part").write_bytes(2 * CONTENT)  # longer than the file is
    server.cut = None
    download(server.url, tmp_path / "b", retries=1, pause=0)
    assert (tmp_path / "b").read_bytes() == CONTENT


def test_server_errors(server, tmp_path, capsys):
    server.failures = [503, 500]
    download(server.url, tmp_path / "a", retries=2, pause=0)
    assert (tmp_path / "a").read_bytes() == CONTENT and "503" in capsys.readouterr().out
    server.failures, asked = [404, 404], len(server.log)
    with pytest.raises(OSError, match="404"):
        download(server.url, tmp_path / "b", retries=5, pause=0)
    assert len(server.log) == asked + 1  # asking again would not help
    server.failures = [503] * 3
    with pytest.raises(OSError, match="503"):
        download(server.url, tmp_path / "b", retries=2, pause=0)
    with pytest.raises(ValueError, match="more than the 999999"):
        download(server.url, tmp_path / "c", max_bytes=999_999)
    with pytest.raises(ValueError, match="http"):
        download("ftp://localhost/a", tmp_path / "d")
    assert not list(tmp_path.glob("[bcd]"))


# --- archives --------------------------------------------------------------------------------------------------------


def tar_bytes(*members, mode="w"):
    """members: (name, content) or a TarInfo."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode=mode) as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
                continue
            info = tarfile.TarInfo(member[0])
            info.size = len(member[1])
            tar.addfile(info, io.BytesIO(member[1]))
    return data.getvalue()


def special(name, kind, link="/etc/passwd"):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def zip_bytes(*members, compression=zipfile.ZIP_DEFLATED):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", compression) as file:
        for name, content in members:
            file.writestr(name, content)
    return data.getvalue()


def zip_link(name):
    info = zipfile.ZipInfo(name)
    info.external_attr = 0o120777 << 16
    return info


FILES = [("top/a.txt", b"a" * 1000), ("top/deep/b.txt", b"b"), ("./c.txt", b"")]


@pytest.mark.parametrize("kind", ["", ":gz", ":bz2", ":xz", "zip"])
def test_good_archives(tmp_path, kind):
    data = zip_bytes(*FILES) if kind == "zip" else tar_bytes(*FILES, mode=f"w{kind}")
    (tmp_path / "archive").write_bytes(data)
    unpack(tmp_path / "archive", tmp_path / "out")
    found = {path.relative_to(tmp_path / "out").as_posix(): path for path in (tmp_path / "out").rglob("*.txt")}
    assert {name: path.read_bytes() for name, path in found.items()} == {
        "top/a.txt": b"a" * 1000,
        "top/deep/b.txt": b"b",
        "c.txt": b"",
    }


def huge_header():
    """A pax header that says it is 8 GB long; tarfile would read it all into memory."""
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 8 << 30
    return info.tobuf(tarfile.GNU_FORMAT)


def negative_size():
    buffer = bytearray(tarfile.TarInfo("x").tobuf())
    buffer[124:136] = b"\xff" * 10 + b"\xfe\x00"
    buffer[148:156] = b"%06o\0 " % (sum(buffer) - sum(buffer[148:156]) + 256)
    return bytes(buffer)


def nameless_zip():
    """zipfile writes no member without a name: the one letter's length is set to 0 in both headers."""
    data = bytearray(zip_bytes(("a", b""), compression=zipfile.ZIP_STORED))
    central = data.index(b"PK\1\2")
    end = data.index(b"PK\5\6")
    del data[central + 46]
    data[central + 28] = 0
    del data[30]
    data[26] = 0
    size = end - 2 - (central - 1)
    end -= 2
    data[end + 12 : end + 20] = size.to_bytes(4, "little") + (central - 1).to_bytes(4, "little")
    return bytes(data)


GOOD_TAR, GOOD_ZIP = tar_bytes(*FILES), zip_bytes(("a", bytes(range(250)) * 2), compression=zipfile.ZIP_STORED)
HOSTILE = {
    "tar, parent": (tar_bytes(("../evil", b"x")), "name '../evil'"),
    "tar, parent within": (tar_bytes(("a/../../evil", b"x")), "not a plain relative"),
    "tar, absolute": (tar_bytes(("/tmp/evil", b"x")), "'/tmp/evil'"),
    "tar, folder": (tar_bytes(special("../evil", tarfile.DIRTYPE)), "not a plain relative"),
    "tar, backslash": (tar_bytes(("..\\evil", b"x")), "not a plain relative"),
    "tar, drive": (tar_bytes(("C:evil", b"x")), "not a plain relative"),
    "tar, symlink": (tar_bytes(special("a", tarfile.SYMTYPE, ".."), ("a/evil", b"x")), "'a', which is a link"),
    "tar, hard link": (tar_bytes(special("a", tarfile.LNKTYPE)), "link"),
    "tar, device": (tar_bytes(special("a", tarfile.CHRTYPE)), "device"),
    "tar, pipe": (tar_bytes(special("a", tarfile.FIFOTYPE)), "device"),
    "tar, twice": (tar_bytes(("a", b"x"), ("a", b"y")), "'a' twice"),
    "tar, file as folder": (tar_bytes(("a", b"x"), ("a/b", b"y")), "'a/b' twice, or as a file and a folder"),
    "tar, bomb": (tar_bytes(("a", bytes(2_000_000)), mode="w:gz"), "more than 1000000 bytes"),
    "tar, many files": (tar_bytes(*((str(n), b"") for n in range(200))), "more than 100 files"),
    "tar, huge header": (gzip.compress(huge_header()), "impossible size"),
    "tar, huge second header": (
        GOOD_TAR[:2560] + huge_header(),
        "impossible size",
    ),
    "tar, negative size": (negative_size(), "impossible size"),
    "tar, cut in a file": (GOOD_TAR[:700], "damaged"),
    "tar, cut between files": (GOOD_TAR[:1536], "damaged or incomplete after 1536 bytes"),
    "tar, bad second header": (GOOD_TAR[:1600] + b"?" * 50 + GOOD_TAR[1650:], "damaged or incomplete after 1536"),
    "tar, gzip cut": (gzip.compress(GOOD_TAR)[:-4], "damaged"),
    "tar, gzip checksum": (gzip.compress(GOOD_TAR)[:-8] + bytes(8), "damaged"),
    "zip, parent": (zip_bytes(("../evil", b"x")), "name '../evil'"),
    "zip, absolute": (zip_bytes(("/tmp/evil", b"x")), "not a plain relative"),
    "zip, folder": (zip_bytes(("../evil/", b"")), "not a plain relative"),
    "zip, symlink": (zip_bytes((zip_link("a"), "/etc")), "link"),
    "zip, no name": (nameless_zip(), "a member without a name"),
    "zip, deep": (zip_bytes(("/".join(["d"] * 1900) + "/a", b"x")), "d/d/.*at most 32 folders"),
    "tar, deep folder": (tar_bytes(special("/".join(["d"] * 33), tarfile.DIRTYPE)), "at most 32 folders"),
    "zip, long name": (zip_bytes(("a" * 256, b"x")), "of 255 bytes each"),
    "tar, long name": (tar_bytes(("\u56fe" * 100, b"x")), "of 255 bytes each"),
    "zip, twice": (zip_bytes(("a", b"x"), ("./a", b"y")), "'./a' twice"),
    "zip, bomb": (zip_bytes(("a", bytes(2_000_000))), "more than 1000000 bytes"),
    "zip, many files": (zip_bytes(*((str(n), b"") for n in range(200))), "more than 100 files"),
    "zip, cut": (GOOD_ZIP[:-30], "damaged"),
    "zip, checksum": (GOOD_ZIP[:200] + bytes(8) + GOOD_ZIP[208:], "CRC"),
    "web page": (b"<!DOCTYPE html><html>Please log in</html>", "neither a zip nor a tar.*DOCTYPE html"),
    "empty": (b"", "neither a zip nor a tar"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_and_damaged_archives(tmp_path, case):
    data, message = HOSTILE[case]
    (tmp_path / "archive").write_bytes(data)
    with pytest.raises(ValueError, match=message) as error:
        unpack(tmp_path / "archive", tmp_path / "deep" / "out", max_bytes=1_000_000, max_files=100)
    assert str(error.value).startswith(str(tmp_path / "archive"))
    everything = [path for path in tmp_path.rglob("*") if "out" not in path.parts]
    assert {path.name for path in everything} == {"archive", "deep"}  # nothing outside the folder
    assert not any(path.is_symlink() for path in tmp_path.rglob("*"))


def test_removing_a_tree_of_any_depth(tmp_path):
    deep = tmp_path / "deep"
    deep.mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "kept").write_text("")
    here = os.open(deep, os.O_RDONLY)
    for number in range(1900):  # deeper than a path can say, and than Python recurses
        os.mkdir("d" * 20, dir_fd=here)
        if number % 500 == 0:
            os.symlink(tmp_path / "outside", "link", dir_fd=here)
            os.mkdir(f".removed {number}", dir_fd=here)
        inner = os.open("d" * 20, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)
    remove_tree(deep)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["outside"] and (tmp_path / "outside" / "kept").exists()
    remove_tree(deep)
    (tmp_path / "a").write_text("")
    os.symlink(tmp_path / "outside", tmp_path / "b")
    for name in "ab":
        remove_tree(tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["outside"]


NAMES = st.lists(
    st.sampled_from(["a", "b", "..", ".", "", "/", "\\", "C:", "\0", "\n", "x" * 300, "\u56fe", "__MACOSX", "d/" * 40]),
    max_size=5,
).map("/".join)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(NAMES, st.sampled_from("-dlhcbpz"), st.binary(max_size=30)), max_size=5), st.data())
def test_an_archive_is_unpacked_below_its_folder_or_refused(tmp_path_factory, members, data):
    """Names, kinds and damage of every sort; what is left can be removed."""
    folder = tmp_path_factory.mktemp("archive")
    stored = io.BytesIO()
    if data.draw(st.booleans()):
        kinds = dict(zip("-dlhcbp", "0521346"))
        with tarfile.open(fileobj=stored, mode=data.draw(st.sampled_from(["w", "w:gz", "w:xz"]))) as tar:
            for name, kind, content in members:
                info = special(name, kinds.get(kind, "7").encode(), "/etc/passwd")
                info.size = len(content) if kind == "-" else 0
                tar.addfile(info, io.BytesIO(content))
    else:
        modes = {"-": 0o100644, "d": 0o40755, "l": 0o120777, "c": 0o20644, "b": 0o60644, "p": 0o10644, "h": 0, "z": 0}
        with warnings.catch_warnings(), zipfile.ZipFile(stored, "w", zipfile.ZIP_DEFLATED) as file:
            warnings.simplefilter("ignore")  # a name that comes twice
            for name, kind, content in members:
                info = zipfile.ZipInfo(name or "a")
                info.external_attr = modes[kind] << 16
                file.writestr(info, content)
    content = bytearray(stored.getvalue())
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (folder / "archive").write_bytes(content)
    try:
        unpack(folder / "archive", folder / "out", 1_000_000, 100)
    except ValueError as error:
        assert str(error).startswith(str(folder / "archive"))
        str(error).encode()
    assert not [path for path in folder.rglob("*") if path.is_symlink() or not (path.is_dir() or path.is_file())]
    remove_tree(folder / "out")
    assert os.listdir(folder) == ["archive"]


def test_damage_anywhere_is_an_error_or_harmless(tmp_path):
    randomly = random.Random(0)
    path = tmp_path / "archive"
    originals = [GOOD_TAR[:4096], tar_bytes(*FILES, mode="w:gz"), zip_bytes(*FILES)]
    refused = 0
    for number in range(300):
        data = bytearray(originals[number % 3])
        for _ in range(randomly.choice((1, 3, 10))):
            data[randomly.randrange(len(data))] = randomly.randrange(256)
        path.write_bytes(data)
        try:
            unpack(path, tmp_path / f"out{number}", 1_000_000)
        except ValueError:
            refused += 1
    assert refused > 100
    outside = {p.name for p in tmp_path.iterdir()} - {f"out{number}" for number in range(300)}
    assert outside == {"archive"}


# --- the tool --------------------------------------------------------------------------------------------------------


TOOL = [sys.executable, "-m", "rloss_caffe", "fetch"]


def fetch(root, *arguments):
    command = [*TOOL, "--data-root", str(root), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def voc_tar():
    names = [
        "JPEGImages/a.jpg",
        "ImageSets/Segmentation/val.txt",
        "SegmentationClass/a.png",
        "SegmentationObject/a.png",
    ]
    return tar_bytes(*((f"VOCdevkit/VOC2012/{name}", name.encode()) for name in names))


MASKS = zip_bytes(("SegmentationClassAug/a.png", b"mask"), ("__MACOSX/SegmentationClassAug/._a.png", b"junk"))


def test_fetch_over_a_cut_connection(server, tmp_path):
    server.content = MASKS
    server.cut = len(MASKS) // 2 + 1
    root, digest = tmp_path / "voc", hashlib.sha256(MASKS).hexdigest()
    first = fetch(root, "masks", "--url", f"masks={server.url}", "--retries", 0)
    assert first.returncode == 1 and "are kept, the same command goes on" in first.stderr
    assert "Traceback" not in first.stderr and not (root / "SegmentationClassAug").exists()
    second = fetch(root, "masks", "--url", f"masks={server.url}", "--sha256", f"masks={digest}")
    assert second.returncode == 0, second.stderr
    assert server.log == [None, server.cut]
    assert (root / "SegmentationClassAug" / "a.png").read_bytes() == b"mask"
    assert sorted(path.name for path in root.iterdir()) == ["SegmentationClassAug", "downloads"]
    third = fetch(root, "masks", "--url", f"masks={server.url}")
    assert third.returncode == 0 and "already in" in third.stdout and len(server.log) == 2


def test_control_c(server, tmp_path):
    server.content, server.cut = MASKS, 50
    server.go_on.clear()  # the server falls silent after 50 bytes
    root, part = tmp_path / "voc", tmp_path / "voc" / "downloads" / "SegmentationClassAug.zip.part"
    process = subprocess.Popen(
        [*TOOL, "--data-root", str(root), "masks", "--url", f"masks={server.url}"],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )
    deadline = time.monotonic() + 30
    while not part.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.5)  # until it waits for the server: Python loses an interrupt that comes while a module is imported
    process.send_signal(signal.SIGINT)
    error = process.communicate(timeout=30)[1]
    assert process.returncode == 130 and "the same command goes on" in error and "Traceback" not in error
    assert not (root / "SegmentationClassAug").exists()
    server.cut = None
    server.go_on.set()
    assert fetch(root, "masks", "--url", f"masks={server.url}").returncode == 0
    assert (root / "SegmentationClassAug" / "a.png").read_bytes() == b"mask"


def test_fetch_from_files(tmp_path):
    root = tmp_path / "voc"
    (tmp_path / "voc.tar").write_bytes(voc_tar())
    (tmp_path / "scribbles.zip").write_bytes(zip_bytes(("a.png", b"stroke")))  # the files alone, without their folder
    xml = zip_bytes(("scribble_annotation/pascal_2012/a.xml", b"x"), ("scribble_annotation/pascal_context/a.xml", b"x"))
    (tmp_path / "xml.zip").write_bytes(xml)
    urls = [
        f"--url=voc={(tmp_path / 'voc.tar').as_uri()}",
        f"--url=scribbles={tmp_path / 'scribbles.zip'}",
        f"--url=scribblesup={tmp_path / 'xml.zip'}",
    ]
    result = fetch(root, "voc", "scribbles", "scribblesup", *urls)
    assert result.returncode == 1 and "md5" in result.stderr and "6cd6e144f989b92b3379bac3b3de84fd" in result.stderr
    assert (tmp_path / "voc.tar").exists() and not (root / "JPEGImages").exists()  # a user's own file is left alone
    assert (root / "pascal_2012_scribble" / "a.png").read_bytes() == b"stroke"
    assert (root / "scribble_annotation" / "pascal_2012" / "a.xml").exists()
    digest = hashlib.sha256((tmp_path / "scribbles.zip").read_bytes()).hexdigest()
    assert f"--sha256 scribbles={digest}" in result.stdout and "not compared with a checksum" in result.stdout
    result = fetch(root, "voc", urls[0], "--sha256", "voc=none")
    assert result.returncode == 0, result.stderr
    folders = ["ImageSets", "JPEGImages", "SegmentationClass", "pascal_2012_scribble", "scribble_annotation"]
    assert sorted(path.name for path in root.iterdir()) == folders
    assert (root / "ImageSets/Segmentation/val.txt").exists()


@pytest.mark.parametrize(
    "content, message",
    [
        (b"<html>Please log in</html>", "neither a zip nor a tar"),
        (tar_bytes(("SegmentationClassAug/a.png", b"x"), special("b", tarfile.SYMTYPE)), "link"),
        (zip_bytes(("masks.txt", b"x")), "expected one folder SegmentationClassAug"),
        (MASKS[:-30], "damaged"),
    ],
    ids=["page", "link", "folder", "cut"],
)
def test_nothing_is_half_unpacked(server, tmp_path, content, message):
    server.content = content
    result = fetch(tmp_path / "voc", "masks", "--url", f"masks={server.url}")
    assert result.returncode == 1 and message in result.stderr and "Traceback" not in result.stderr
    assert [path.name for path in (tmp_path / "voc").iterdir()] == ["downloads"]
    assert [path.name for path in (tmp_path / "voc" / "downloads").iterdir()] == ["SegmentationClassAug.zip.bad"]
    server.content = MASKS
    assert fetch(tmp_path / "voc", "masks", "--url", f"masks={server.url}").returncode == 0


def test_a_wrong_checksum_and_a_killed_run(server, tmp_path):
    server.content, root = MASKS, tmp_path / "voc"
    (root / ".unpacking_masks").mkdir(parents=True)
    (root / ".unpacking_masks" / "old").write_text("of a run that was killed")
    url = f"masks={server.url}"
    result = fetch(root, "masks", "--url", url, "--sha256", "masks=" + 64 * "0")
    assert result.returncode == 1 and f"expected {64 * '0'}" in result.stderr
    assert not (root / "SegmentationClassAug").exists()
    assert fetch(root, "masks", "--url", url).returncode == 0
    assert sorted(path.name for path in root.iterdir()) == ["SegmentationClassAug", "downloads"]


def test_a_deep_archive_does_not_stop_later_calls(server, tmp_path):
    """An older version left such a folder, and failed on it from then on: Python before 3.13 cannot remove it."""
    root = tmp_path / "voc"
    left = root / ".unpacking_masks"
    left.mkdir(parents=True)
    here = os.open(left, os.O_RDONLY)
    for _ in range(1900):
        os.mkdir("folder", dir_fd=here)
        here, outer = os.open("folder", os.O_RDONLY, dir_fd=here), here
        os.close(outer)
    os.close(here)
    server.content = zip_bytes(("/".join(["d"] * 1900) + "/a.png", b"x"))
    result = fetch(root, "masks", "--url", f"masks={server.url}")
    assert result.returncode == 1 and "at most 32 folders" in result.stderr and "Traceback" not in result.stderr
    assert [path.name for path in root.iterdir()] == ["downloads"]
    server.content = MASKS
    assert fetch(root, "masks", "--url", f"masks={server.url}").returncode == 0


def test_what_the_tool_says(tmp_path):
    result = fetch(tmp_path, "scribbles", "scribblesup", "masks", "--url", "masks=nowhere.zip")
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert "rloss" in result.stderr and "ScribbleSup" in result.stderr and "--url scribbles=" in result.stderr
    assert "no such file: nowhere.zip" in result.stderr
    assert "unknown name 'vox'" in fetch(tmp_path, "vox").stderr
    assert "NAME=" in fetch(tmp_path, "--url", "http://somewhere").stderr
    assert "64 hexadecimal" in fetch(tmp_path, "--sha256", "voc=12").stderr
