"""List files, as other people write them."""

import os
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rloss_caffe.data.lists import Entry, read_list, read_names


def write_list(folder, text):
    for name in ("a.jpg", "a.png", "a b.jpg", "a b.png", "b.png"):
        (folder / name).write_bytes(b"")
    path = folder / "list.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_list(tmp_path):
    path = write_list(tmp_path, "a.jpg a.png\r\n\n/a.jpg  a.png  more words\n")
    entries = read_list(path, str(tmp_path))
    assert [entry.line for entry in entries] == [1, 3]
    for entry in entries:
        assert os.path.samefile(entry.image, tmp_path / "a.jpg") and os.path.samefile(entry.label, tmp_path / "a.png")
    assert read_list(path, f"{tmp_path}/")[0].image == f"{tmp_path}/a.jpg"
    assert read_list(write_list(tmp_path, "a.jpg"), str(tmp_path), "NONE") == [Entry(1, f"{tmp_path}/a.jpg", None)]
    numbers = read_list(write_list(tmp_path, "a.jpg 7\na.jpg 300\na.jpg -1"), str(tmp_path), "IMAGE")
    assert [entry.label for entry in numbers] == [7, 255, 0]


@pytest.mark.parametrize(
    "text, label_type, message",
    [
        ("", "PIXEL", "is empty"),
        ("\ufeff\n", "PIXEL", "is empty"),
        ("a.jpg a.png\nb.jpg a.png", "PIXEL", "line 2: no such file: .*b.jpg"),
        ("a.jpg a.png\n\na.jpg c.png", "PIXEL", "line 3: no such file: .*c.png"),
        ("a.jpg", "PIXEL", "line 1: expected an image and a label, found 'a.jpg' alone"),
        ("a.jpg", "IMAGE", "line 1: expected an image and a label, found 'a.jpg' alone"),
        ("a.jpg a.png", "IMAGE", "line 1: .*found 'a.png'; for label maps write label_type: PIXEL"),
        (". a.png", "PIXEL", "line 1: not a file"),
        (
            "a c.jpg a.png",
            "PIXEL",
            "no such file: .*a; the line 'a c.jpg a.png' has several blanks, and at none of them",
        ),
        ("a c.jpg", "NONE", "line 1: no such file: .*/a$"),
        ("a\0.jpg a.png", "PIXEL", r"line 1: no such file: .*a\\x00.jpg"),
        (b"\xe4.jpg a.png", "PIXEL", r"line 1: no such file: .*\\xe4.jpg"),
    ],
)
def test_bad_list(tmp_path, text, label_type, message):
    with pytest.raises(ValueError, match=message) as error:
        read_list(write_list(tmp_path, text), str(tmp_path), label_type)
    str(error.value).encode()


def test_missing_list(tmp_path):
    with pytest.raises(ValueError, match="cannot read the list .*nothing.txt"):
        read_list(tmp_path / "nothing.txt")


@pytest.mark.parametrize(
    "line, label_type, expected",
    [
        ("a b.jpg a.png", "PIXEL", ("a b.jpg", "a.png")),  # as stock Caffe
        ("a b.jpg\ta.png", "PIXEL", ("a b.jpg", "a.png")),
        ("a b.jpg a b.png", "PIXEL", ("a b.jpg", "a b.png")),
        ("a.jpg a b.png", "PIXEL", ("a.jpg", "a b.png")),
        ("a.jpg b.png a.png", "PIXEL", ("a.jpg", "b.png")),  # as DeepLab's fork: what follows is ignored
        ("a b.jpg 7", "IMAGE", ("a b.jpg", 7)),
        ("a.jpg 7 words", "IMAGE", ("a.jpg", 7)),
        ("a b.jpg", "NONE", ("a b.jpg", None)),
        ("a b.jpg 7", "NONE", ("a b.jpg", None)),
        ("a.jpg a b.png", "NONE", ("a.jpg", None)),
    ],
)
def test_blanks_in_paths(tmp_path, line, label_type, expected):
    [entry] = read_list(write_list(tmp_path, line), f"{tmp_path}/", label_type)
    image, label = expected
    label = f"{tmp_path}/{label}" if isinstance(label, str) else label
    assert entry == Entry(1, f"{tmp_path}/{image}", label)
    if label_type == "PIXEL":
        assert read_names(tmp_path / "list.txt", tmp_path) == [Entry(1, *expected)]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_mark_at_the_beginning(tmp_path, encoding):
    path = write_list(tmp_path, "a.jpg a.png\r\n".encode(encoding))
    assert len(read_list(path, str(tmp_path))) == 1 and read_names(path) == [Entry(1, "a.jpg", "a.png")]


@pytest.mark.parametrize(
    "name", ["Bäume.jpg", "图片", "wide\u3000space", "a\u2028b", "a\x85b", b"B\xe4ume", "图".encode("gbk")]
)
def test_names_of_every_kind(tmp_path, name):
    name = os.fsencode(name)
    with open(os.path.join(os.fsencode(tmp_path), name), "wb"):
        pass
    [entry] = read_list(write_list(tmp_path, name + b" a.png"), str(tmp_path))
    assert os.path.isfile(entry.image) and os.fsencode(entry.image).endswith(name)


def test_names_need_no_files(tmp_path):
    (tmp_path / "list").write_text("/x.jpg y/x.png\n\n  z.jpg z.png what follows\n")
    expected = [Entry(1, "x.jpg", "y/x.png"), Entry(3, "z.jpg", "z.png")]
    for root in ("", "somewhere", "somewhere/", tmp_path):
        assert read_names(tmp_path / "list", root) == expected


def test_a_long_line_takes_no_long_time(tmp_path):
    start = time.perf_counter()
    for line in ("x " * 1_000_000, "x" * 1_000_000 + " y", "a.jpg a.png" + " x" * 1_000_000, "x " * 9_000):
        try:
            assert len(read_list(write_list(tmp_path, line), str(tmp_path))) == 1
        except ValueError as error:
            assert len(str(error)) < 2000
    assert time.perf_counter() - start < 20


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=200), st.sampled_from(["NONE", "IMAGE", "PIXEL"]))
def test_any_list_gives_files_that_exist_or_an_error_that_can_be_shown(tmp_path_factory, text, label_type):
    folder = tmp_path_factory.mktemp("list")
    path = write_list(folder, text.replace(b"\1", b"a.jpg a.png"))
    try:
        entries = read_list(path, f"{folder}/", label_type)
    except ValueError as error:
        str(error).encode()
    else:
        assert all(os.path.isfile(entry.image) for entry in entries)
        assert label_type != "PIXEL" or all(os.path.isfile(entry.label) for entry in entries)
