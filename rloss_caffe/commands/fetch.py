#!/usr/bin/env python
"""Fetch the data of the VOC scribble experiments into one VOC tree.

Usage: python tools/fetch_data.py --data-root VOC2012 [voc masks scribbles]

    voc         PASCAL VOC 2012, training and validation, from the organisers (about 2 GB)
                -> JPEGImages/, ImageSets/, SegmentationClass/
    masks       "SegmentationClassAug": VOC's masks and those of the Semantic Boundaries Dataset as label maps, in the
                packing that the authors of DeepLab made known -> SegmentationClassAug/
    scribbles   "pascal_2012_scribble": ScribbleSup's scribbles as label maps, from the authors of the regularised
                losses -> pascal_2012_scribble/
    scribblesup the same scribbles as the authors of ScribbleSup give them, XML files -> scribble_annotation/;
                tools/scribbles_to_png.py makes pascal_2012_scribble/ of them

For the scribbles no link is built in: get the archive where its authors offer it, then name it by --url. Any source
can be replaced: --url NAME=URL takes http, https and file addresses and local paths, zip and tar archives.
Read the terms of the data before you use it: the photographs are for research.

An interrupted download goes on when the command is given again. A folder appears in the tree only when it is complete,
and one that is there is left as it is. The archives stay in --downloads; delete them when you like.
"""

import argparse
import hashlib
import os
import shutil
import sys
import urllib.parse
import urllib.request
from collections import namedtuple
from pathlib import Path

from rloss_caffe.data.progress import progress_bar
from rloss_caffe.datasets.archives import unpack
from rloss_caffe.datasets.download import download

# url: None where none is built in. checksum: (algorithm, hexadecimal digits), or None where none is known to us.
# folders: what is taken over, and a pattern of the files that must be in it. gigabytes: no more, packed or unpacked.
Source = namedtuple("Source", "url place archive checksum folders gigabytes")
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


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(SOURCES)} (default: {' '.join(DEFAULT)})")
    parser.add_argument(
        "--data-root", default=os.environ.get("DATA_ROOT"), help="the VOC tree (default: $DATA_ROOT)", metavar="FOLDER"
    )
    parser.add_argument("--downloads", type=Path, metavar="FOLDER", help="for archives (default: DATA_ROOT/downloads)")
    parser.add_argument("--url", action="append", default=[], metavar="NAME=URL", help="fetch it from there")
    parser.add_argument(
        "--sha256", action="append", default=[], metavar="NAME=DIGITS", help="the checksum; 'none' turns checking off"
    )
    parser.add_argument("--retries", type=int, default=5, help="after a cut connection (default: 5)")
    arguments = parser.parse_args()
    if not arguments.data_root:
        parser.error("say where the data is to go: --data-root FOLDER, or set DATA_ROOT")
    unknown = [name for name in arguments.names if name not in SOURCES]
    if unknown:
        parser.error(f"unknown name {unknown[0]!r}; known are {', '.join(SOURCES)}")
    urls, checksums = by_name(parser, "--url", arguments.url), by_name(parser, "--sha256", arguments.sha256)
    for name, digits in checksums.items():
        if digits != "none" and (len(digits) != 64 or set(digits.lower()) - set("0123456789abcdef")):
            parser.error(f"--sha256 {name}: expected 64 hexadecimal digits or 'none', found {digits!r}")
    root = Path(arguments.data_root)
    root.mkdir(parents=True, exist_ok=True)

    failed = 0
    for name in dict.fromkeys(arguments.names or DEFAULT):
        source = SOURCES[name]
        if name in checksums:
            source = source._replace(checksum=None if checksums[name] == "none" else ("sha256", checksums[name]))
        source = source._replace(url=urls.get(name, source.url))
        try:
            fetch(name, source, root, arguments.downloads or root / "downloads", arguments.retries)
        except (OSError, ValueError) as error:
            print(f"fetch_data: {name}: {error}", file=sys.stderr)
            failed += 1
        except KeyboardInterrupt:
            print(f"\nfetch_data: {name}: interrupted; the same command goes on from here", file=sys.stderr)
            return 130
    return 1 if failed else 0


def by_name(parser, option, values):
    result = {}
    for value in values:
        name, separator, rest = value.partition("=")
        if not separator or not rest or name not in SOURCES:
            parser.error(f"{option} expects NAME=..., NAME one of {', '.join(SOURCES)}; found {value!r}")
        result[name] = rest
    return result


def fetch(name, source, root, downloads, retries):
    missing = {folder: pattern for folder, pattern in source.folders.items() if not (root / folder).exists()}
    if not missing:
        print(f"{name}: {', '.join(source.folders)} already in {root}")
        return
    if source.url is None:
        raise ValueError(f"no link is built in. Get the archive from {source.place}, then: --url {name}=FILE-OR-URL")
    archive, ours = local_path(source.url), False
    if archive is None:
        archive, ours = downloads / source.archive, True
        if not archive.exists():
            print(f"{name}: downloading {source.url}")
            downloads.mkdir(parents=True, exist_ok=True)
            try:
                download(source.url, archive, retries, source.gigabytes << 30)
            except OSError as error:
                raise OSError(f"{error}. The source is {source.place}; --url {name}=... takes another") from None
    elif not archive.is_file():
        raise ValueError(f"no such file: {archive}")
    try:
        check(name, archive, source.checksum)
        install(archive, root, missing, source.gigabytes << 30, f".unpacking_{name}")
    except ValueError as error:
        if not ours:
            raise
        bad = archive.with_name(archive.name + ".bad")
        os.replace(archive, bad)  # else it would be taken for good the next time
        raise ValueError(f"{error}. The download is now {bad.name}; the same command fetches it anew") from None
    print(f"{name}: {', '.join(missing)} now in {root}")


def local_path(url):
    """The path that a file address or a plain path means; None for what must be downloaded."""
    if "://" not in url:
        return Path(url)
    if url.lower().startswith("file://"):
        return Path(urllib.request.url2pathname(urllib.parse.urlsplit(url).path))
    return None


def check(name, archive, checksum):
    """Compare the checksum; where none is known, print one to compare with another day."""
    algorithm, expected = checksum or ("sha256", None)
    digest = hashlib.new(algorithm)
    with open(archive, "rb") as file, progress_bar(archive.stat().st_size, "  checking", "B", unit_scale=True) as bar:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
            bar.update(len(block))
    if expected is None:
        print(f"{name}: not compared with a checksum, none is known; it has --sha256 {name}={digest.hexdigest()}")
    elif digest.hexdigest() != expected.lower():
        raise ValueError(f"{archive} has the {algorithm} {digest.hexdigest()}, expected {expected.lower()}")


def install(archive, root, folders, max_bytes, temporary):
    """Unpack beside the tree's folders, and move them to their names when all is there and whole."""
    temporary = root / temporary
    shutil.rmtree(temporary, ignore_errors=True)  # of a run that was killed
    try:
        unpack(archive, temporary, max_bytes)
        found = {folder: locate(temporary, folder, pattern, archive) for folder, pattern in folders.items()}
        for folder, path in found.items():
            path.rename(root / folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def locate(unpacked, name, pattern, archive):
    """The folder of that name with such files in it, wherever the archive has it; else the only one with such files."""
    folders = [unpacked, *(path for path in sorted(unpacked.rglob("*")) if path.is_dir())]
    holding = [path for path in folders if any(path.glob(pattern))]
    around = [path for path in folders if path.name == name and any(path.rglob(pattern))]
    chosen = [path for path in holding if path.name == name] or around or holding
    if len(chosen) != 1:
        raise ValueError(f"{archive}: expected one folder {name} with {pattern} in it, found {len(chosen) or 'none'}")
    return chosen[0]


if __name__ == "__main__":
    sys.exit(main())
