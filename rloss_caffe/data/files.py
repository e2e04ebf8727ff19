"""Text files as other programs write them, and files of ours that are written whole or not at all."""

import codecs
import contextlib
import os
import re
import tempfile

__all__ = ["printable", "quoted", "read_lines", "read_text", "replacing", "shortened", "write_text"]

# A file that begins so says which encoding it has. Windows' editors write these marks.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_text(path):
    """The text of a file: UTF-8, or what its byte-order mark says; the mark is no part of the text.

    Bytes that are not UTF-8 (names in Latin-1 or GBK) become lone surrogates, as in Python's own file names, so that a
    path out of the text opens the file that was meant. `printable` makes such a text fit to be shown.

    Raises
    ------
    OSError
        The file cannot be read.
    ValueError
        A mark promises UTF-16 or UTF-32, and the rest is not.
    """
    with open(path, "rb") as file:
        data = file.read()
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            try:
                return data.decode(encoding, "surrogateescape" if encoding == "utf-8-sig" else "strict")
            except UnicodeError as error:
                raise ValueError(f"{printable(path)} begins as a text in {encoding}, but is none: {error}") from None
    return data.decode("utf-8", "surrogateescape")


def read_lines(path):
    r"""The lines of a text file, without their ends (``\n``, ``\r\n``, ``\r``); errors as of `read_text`.

    No other character ends a line, as names may hold it.
    """
    lines = re.split("\r\n|\r|\n", read_text(path))
    return lines if lines[-1] else lines[:-1]


def printable(text):
    r"""A text or path as a terminal takes it: ``\xe4`` for a byte that is not UTF-8, ``\n`` for a line's end."""
    text = os.fspath(text)
    return text if text.isprintable() else "".join(map(_printable, text))


def _printable(character):
    if "\udc80" <= character <= "\udcff":
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character if character.isprintable() else character.encode("unicode_escape").decode()


def shortened(text, most=300):
    """`printable`, with three points in the middle of what is longer than `most` characters."""
    text = printable(text)
    return text if len(text) <= most else f"{text[: most // 2]}...{text[-(most // 2) :]}"


def quoted(text):
    """`shortened`, in quotation marks, for messages."""
    return f"'{shortened(text)}'"


@contextlib.contextmanager
def replacing(path):
    """Write a file whole or not at all, however this program ends.

    Gives the name of a temporary file in the same folder. When the block ends without an error, that file takes the
    name `path`; after an error it is removed, and what was at `path` stays.

    Raises
    ------
    OSError
        There is no such folder, or it cannot be written into.

    Example
    -------
    ::

        with replacing("label.png") as temporary:
            picture.save(temporary, format="PNG")
    """
    path = os.fspath(path)
    try:
        handle, temporary = tempfile.mkstemp(dir=os.path.dirname(path) or ".", suffix=".part")
    except OSError as error:
        raise OSError(error.errno, f"cannot write {printable(path)}: {error.strerror}") from None
    try:
        os.close(handle)
        yield temporary
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)  # mkstemp's files are for their owner alone
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def write_text(path, text):
    """Write a text in UTF-8, whole or not at all; lone surrogates become the bytes that they stand for."""
    with replacing(path) as temporary, open(
        temporary, "w", encoding="utf-8", errors="surrogateescape", newline=""
    ) as file:
        file.write(text)
