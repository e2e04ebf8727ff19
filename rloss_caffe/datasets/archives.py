"""Unpack archives that somebody else made, trusting nothing in them."""

import errno
import os
import re
import stat
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

from rloss_caffe.data.files import quoted
from rloss_caffe.data.progress import progress_bar

__all__ = ["remove_tree", "unpack"]

_BLOCK = 1 << 18
_DEEPEST = 32  # folders; the data sets have four
_LONGEST = 255  # bytes of a name, in most file systems


def unpack(archive, folder, max_bytes=20 << 30, max_files=500_000):
    """Unpack a zip or tar archive (compressed or not) into a folder, with all its checksums checked.

    Only plain files and folders are accepted, with relative names below the folder; owners and permissions are not
    taken over. What macOS adds to zips is left out. The archive is known by its content, not by its name.

    Parameters
    ----------
    archive : path
    folder : path
        Made if needed, should be empty. After an error it holds a part of the files.
    max_bytes, max_files : int
        More are refused, counted while they are written, whatever the archive says of itself.

    Raises
    ------
    ValueError
        The archive is damaged, incomplete, or holds something that is refused: the message names archive and member.
    """
    archive, folder = Path(archive), Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    writer = _Writer(folder, max_bytes, max_files)
    try:
        with open(archive, "rb") as file:
            start = file.read(40)
        if start[:4] in (b"PK\3\4", b"PK\5\6"):
            _unpack_zip(archive, writer)
        else:
            _unpack_tar(archive, writer, start)
    except _Refused as error:
        raise ValueError(f"{archive}: {error}") from None
    except OSError as error:
        if error.errno not in (None, errno.EINVAL):
            raise  # no space, no permission: not the archive's fault
        raise ValueError(f"{archive}: damaged: {error}") from None  # of gzip and bz2; an impossible offset in a zip
    # On damaged archives tarfile, zipfile and the decompressors raise what they name, and much that they do not:
    # struct.error, IndexError, KeyError, NotImplementedError, OverflowError.
    except Exception as error:
        raise ValueError(f"{archive}: damaged or cannot be unpacked: {error or type(error).__name__}") from None


def remove_tree(folder):
    """Remove a folder and all that is in it, however deep; nothing happens where there is none.

    `shutil.rmtree` recurses, and gives up at some thousand folders within each other. Here each folder's folders are
    moved up into the one that goes, so that no path grows long.
    """
    folder = os.fspath(folder)
    if os.path.islink(folder) or os.path.isfile(folder):
        os.unlink(folder)
    if not os.path.isdir(folder):
        return
    waiting, number = [folder], 0
    while waiting:
        current = waiting.pop()
        with os.scandir(current) as entries:
            for entry in list(entries):
                if not entry.is_dir(follow_symlinks=False):
                    os.unlink(entry.path)
                elif current == folder:
                    waiting.append(entry.path)
                else:
                    moved = folder
                    while os.path.lexists(moved):
                        number += 1
                        moved = os.path.join(folder, f".removed {number}")
                    os.rename(entry.path, moved)
                    waiting.append(moved)
        if current != folder:
            os.rmdir(current)
    os.rmdir(folder)


class _Refused(Exception):
    pass


class _Writer:
    """Writes members below a folder, and counts."""

    def __init__(self, folder, max_bytes, max_files):
        self._folder, self._bytes, self._files = folder, max_bytes, max_files
        self._max_bytes, self._max_files = max_bytes, max_files

    def write(self, name, stream, size):
        """Write a file; `stream` must give `size` bytes."""
        path = self._folder.joinpath(*_safe_parts(name))
        self._files -= 1
        if self._files < 0:
            raise _Refused(f"holds more than {self._max_files} files")
        written = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = open(path, "xb")  # noqa: SIM115
        except (FileExistsError, NotADirectoryError):
            raise _Refused(f"holds {quoted(name)} twice, or as a file and a folder") from None
        with file:
            for block in iter(lambda: stream.read(_BLOCK), b""):
                written += len(block)
                self._bytes -= len(block)
                if self._bytes < 0:
                    raise _Refused(f"would unpack to more than {self._max_bytes} bytes")
                file.write(block)
        if written != size:
            raise _Refused(f"damaged: {quoted(name)} has {written} bytes of {size}")


def _safe_parts(name):
    parts = [part for part in PurePosixPath(name).parts if part != "."]
    if not parts or name.startswith("/") or ".." in parts or re.search(r"[\\:\x00-\x1f]", name):
        raise _Refused(f"holds the name {quoted(name)}, which is not a plain relative one")
    if len(parts) > _DEEPEST or max(len(os.fsencode(part)) for part in parts) > _LONGEST:
        raise _Refused(
            f"holds the name {quoted(name)}; names have at most {_DEEPEST} folders, of {_LONGEST} bytes each"
        )
    return parts


class _Member(tarfile.TarInfo):
    """Refuses headers that would make tarfile itself read without end."""

    @classmethod
    def frombuf(cls, buf, encoding, errors):
        member = super().frombuf(buf, encoding, errors)
        if member.size < 0 or (member.type not in tarfile.REGULAR_TYPES and member.size > 1 << 20):
            raise _Refused(f"holds {quoted(member.name)} with an impossible size, {member.size}")
        return member


def _unpack_tar(archive, writer, start):
    try:
        tar = tarfile.open(archive, tarinfo=_Member)  # noqa: SIM115
    except tarfile.ReadError:
        raise _Refused(f"neither a zip nor a tar archive; it begins with {start!r}") from None
    with tar, progress_bar(None, "  unpacking") as bar:
        for member in tar:
            if member.isreg() and not member.issparse():
                writer.write(member.name, tar.extractfile(member), member.size)
            elif not member.isdir():
                raise _Refused(f"holds {quoted(member.name)}, which is a link or device, not a plain file or folder")
            elif PurePosixPath(member.name) != PurePosixPath("."):
                _safe_parts(member.name)
            tar.members = []  # else all headers are kept, and a bomb of empty files fills the memory
            bar.update()
        # tarfile takes a cut between two members, or a damaged header, for the end. A true end is a block of zeros.
        tar.fileobj.seek(tar.offset)
        if tar.fileobj.read(512) != bytes(512):
            raise _Refused(f"damaged or incomplete after {tar.offset} bytes")
        while tar.fileobj.read(_BLOCK):
            pass  # to the end of a compressed file, where its checksum is


def _unpack_zip(archive, writer):
    with zipfile.ZipFile(archive) as file:
        members = [m for m in file.infolist() if "__MACOSX" not in m.filename and not m.filename.endswith(".DS_Store")]
        with progress_bar(len(members), "  unpacking") as bar:
            for member in members:
                if not member.filename:  # zipfile itself stumbles over it
                    raise _Refused("holds a member without a name")
                kind = stat.S_IFMT(member.external_attr >> 16)
                if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                    raise _Refused(
                        f"holds {quoted(member.filename)}, which is a link or device, not a plain file or folder"
                    )
                if member.is_dir():
                    _safe_parts(member.filename)
                else:
                    with file.open(member) as stream:
                        writer.write(member.filename, stream, member.file_size)
                bar.update()
