"""Bring archives of the VOC scribble experiments into one VOC tree, folder by folder, each whole or not at all."""

import hashlib
import os
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Optional, Tuple

from rloss_caffe.data.progress import progress_bar
from rloss_caffe.datasets.archives import remove_tree, unpack
from rloss_caffe.datasets.download import download

__all__ = ["DEFAULT", "SOURCES", "Source", "fetch"]


@dataclass(frozen=True)
class Source:
    """Where an archive is had, and what of it is wanted."""

    url: Optional[str]  # None where none is built in
    place: str  # in words
    archive: str  # the file's name
    checksum: Optional[Tuple[str, str]]  # algorithm and hexadecimal digits; None where none is known to us
    folders: Dict[str, str]  # what is taken over, and a pattern of the files that must be in it
    gigabytes: int  # no more, packed or unpacked


SOURCES = {
    "voc": Source(
        "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
        "the PASCAL VOC 2012 page of the organisers (University of Oxford, host.robots.ox.ac.uk)",
        "VOCtrainval_11-May-2012.tar",
        ("md5", "6cd6e144f989b92b3379bac3b3de84fd"),
        {"ImageSets": "Segmentation/val.txt", "SegmentationClass": "*.png", "JPEGImages": "*.jpg"},
        4,
    ),
    "masks": Source(
        "https://www.dropbox.com/s/oeu149j8qtbs1x0/SegmentationClassAug.zip?dl=1",
        "the DeepLab authors' link to SegmentationClassAug.zip, which many segmentation projects repeat",
        "SegmentationClassAug.zip",
        None,
        {"SegmentationClassAug": "*.png"},
        2,
    ),
    "scribbles": Source(
        None,
        "the 'rloss' project of Meng Tang et al. (ECCV 2018), whose data scripts fetch pascal_2012_scribble",
        "pascal_2012_scribble.zip",
        None,
        {"pascal_2012_scribble": "*.png"},
        2,
    ),
    "scribblesup": Source(
        None,
        "the ScribbleSup page of Jifeng Dai (Lin et al., CVPR 2016), PASCAL VOC 2012 scribble annotations",
        "scribble_annotation.zip",
        None,
        {"scribble_annotation": "*.xml"},
        2,
    ),
}
DEFAULT = ("voc", "masks", "scribbles")


def fetch(name, source, root, downloads, retries=5, say=print):
    """Bring the folders of a source into a tree; those that are there are left as they are.

    Parameters
    ----------
    name : str
        What messages call the source.
    source : Source
    root : Path
        The tree, an existing folder.
    downloads : Path
        Where archives go, made if needed.
    retries : int
        After a cut connection.
    say : callable
        Gets a line for people now and then.

    Raises
    ------
    ValueError
        The archive is missing, damaged, or not the one that was expected. A download of ours then gets another name,
        so that the next call fetches it anew.
    OSError
        The server refuses, the connection was cut too often, or files cannot be written.
    """
    missing = {folder: pattern for folder, pattern in source.folders.items() if not (root / folder).exists()}
    if not missing:
        say(f"{name}: {', '.join(source.folders)} already in {root}")
        return
    if source.url is None:
        raise ValueError(f"no link is built in. Get the archive from {source.place}, then: --url {name}=FILE-OR-URL")
    archive, ours = _local_path(source.url), False
    if archive is None:
        archive, ours = downloads / source.archive, True
        if not archive.exists():
            say(f"{name}: downloading {source.url}")
            downloads.mkdir(parents=True, exist_ok=True)
            try:
                download(source.url, archive, retries, source.gigabytes << 30, say=say)
            except OSError as error:
                raise OSError(f"{error}. The source is {source.place}; --url {name}=... takes another") from None
    elif not archive.is_file():
        raise ValueError(f"no such file: {archive}")
    try:
        digest = _check(archive, source.checksum)
        if not source.checksum:
            say(f"{name}: not compared with a checksum, none is known; it has --sha256 {name}={digest}")
        _install(archive, root, missing, source.gigabytes << 30, root / f".unpacking_{name}")
    except ValueError as error:
        if not ours:
            raise
        bad = archive.with_name(archive.name + ".bad")
        os.replace(archive, bad)  # else it would be taken for good the next time
        raise ValueError(f"{error}. The download is now {bad.name}; the same command fetches it anew") from None
    say(f"{name}: wrote {', '.join(str(root / folder) for folder in missing)}")


def _local_path(url):
    """The path that a file address or a plain path means; None for what must be downloaded."""
    if "://" not in url:
        return Path(url)
    if url.lower().startswith("file://"):
        return Path(urllib.request.url2pathname(urllib.parse.urlsplit(url).path))
    return None


def _check(archive, checksum):
    """The digest of a file; ValueError if another one is expected."""
    algorithm, expected = checksum or ("sha256", None)
    digest = hashlib.new(algorithm)
    with open(archive, "rb") as file, progress_bar(archive.stat().st_size, "  checking", "B", unit_scale=True) as bar:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
            bar.update(len(block))
    if expected is not None and digest.hexdigest() != expected.lower():
        raise ValueError(f"{archive} has the {algorithm} {digest.hexdigest()}, expected {expected.lower()}")
    return digest.hexdigest()


def _install(archive, root, folders, max_bytes, temporary):
    """Unpack beside the tree's folders, and move them to their names when all is there and whole."""
    remove_tree(temporary)  # of a run that was killed
    try:
        unpack(archive, temporary, max_bytes)
        found = {folder: _locate(temporary, folder, pattern, archive) for folder, pattern in folders.items()}
        for folder, path in found.items():
            path.rename(root / folder)
    finally:
        remove_tree(temporary)


def _locate(unpacked, name, pattern, archive):
    """The folder of that name with such files in it, wherever the archive has it; else the only one with such files."""
    folders = [unpacked, *(path for path in sorted(unpacked.rglob("*")) if path.is_dir())]
    holding = [path for path in folders if any(path.glob(pattern))]
    around = [path for path in folders if path.name == name and any(path.rglob(pattern))]
    chosen = [path for path in holding if path.name == name] or around or holding
    if len(chosen) != 1:
        raise ValueError(f"{archive}: expected one folder {name} with {pattern} in it, found {len(chosen) or 'none'}")
    return chosen[0]
