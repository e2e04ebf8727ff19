"""Text files of other people, and files that are written whole or not at all."""

import os
import stat

import pytest

from rloss_caffe.data.files import printable, quoted, read_lines, read_text, replacing, shortened, write_text


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_mark_is_no_part_of_the_text(tmp_path, encoding):
    text = "Bäume.jpg 图.png\r\nb c\n\n"
    (tmp_path / "list.txt").write_bytes(text.encode(encoding))
    assert read_text(tmp_path / "list.txt") == text
    assert read_lines(tmp_path / "list.txt") == ["Bäume.jpg 图.png", "b c", ""]


def test_lines_end_where_files_end_them(tmp_path):
    for text, lines in (("", []), ("a", ["a"]), ("a\n", ["a"]), ("\n", [""]), ("a\rb\u2028c\x0bd\r\ne", None)):
        (tmp_path / "a").write_bytes(text.encode())
        assert read_lines(tmp_path / "a") == (["a", "b\u2028c\x0bd", "e"] if lines is None else lines)


def test_bytes_of_other_encodings_open_the_file_that_was_meant(tmp_path):
    name = "Bäume.jpg".encode("latin-1")
    (tmp_path / "list").write_bytes(name)
    text = read_text(tmp_path / "list")
    assert os.fsencode(text) == name and printable(text) == "B\\xe4ume.jpg"
    write_text(tmp_path / "again", text)
    assert (tmp_path / "again").read_bytes() == name


def test_messages_can_be_shown():
    text = "a\n\x1b[31m\udce4\ud800\u3000图"
    assert printable(text) == "a\\n\\x1b[31m\\xe4\\ud800\\u3000图" and quoted(text) == f"'{printable(text)}'"
    assert len(shortened("ab" * 1000)) == 303 and shortened("ab" * 100) == "ab" * 100


def test_a_mark_that_promises_too_much(tmp_path):
    (tmp_path / "a").write_bytes(b"\xff\xfea")
    with pytest.raises(ValueError, match="begins as a text in utf-16, but is none"):
        read_text(tmp_path / "a")


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old\n")
    with pytest.raises(KeyboardInterrupt), replacing(path) as temporary:
        with open(temporary, "w") as file:
            file.write("new")
        raise KeyboardInterrupt
    assert path.read_text() == "old\n" and os.listdir(tmp_path) == ["a.txt"]
    write_text(path, "new\n")
    assert path.read_text() == "new\n" and os.listdir(tmp_path) == ["a.txt"]
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask
    with pytest.raises(OSError, match=r"cannot write .*nowhere.a"):
        write_text(tmp_path / "nowhere" / "a", "")
