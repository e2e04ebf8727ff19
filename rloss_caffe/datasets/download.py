"""Download a large file so that an interruption costs little: what has come is kept, and the rest asked for."""

import http.client
import json
import os
import time
import urllib.error
import urllib.request
from pathlib import Path

from rloss_caffe.data.progress import progress_bar

__all__ = ["download"]

_BLOCK = 1 << 18


def download(url, path, retries=5, max_bytes=1 << 40, timeout=60, pause=1.0, say=print):
    """Fetch an http or https address into a file, going on where an earlier call was cut off.

    The file grows as ``NAME.part`` and gets its name when complete. ``NAME.part.json`` keeps what tells one version of
    the file on the server from another, so that parts of two are never put together.

    Parameters
    ----------
    url : str
    path : path
        An existing file is overwritten once the new one is complete.
    retries : int
        How often a cut connection is taken up again without a byte of progress in between.
    max_bytes : int
        More are refused.
    timeout : float
        Seconds without a byte after which the connection counts as cut.
    pause : float
        Seconds before the first new attempt; doubled for every further one, up to 30.
    say : callable
        Gets a line for people before each new attempt.

    Raises
    ------
    OSError
        The server refuses, or the connection was cut too often. What has come is kept.
    ValueError
        The file is larger than `max_bytes`, or the address is not http or https.
    """
    if not url.lower().startswith(("http://", "https://")):
        raise ValueError(f"cannot download {url!r}: the address must begin with http:// or https://")
    path = Path(path)
    part = path.with_name(path.name + ".part")
    attempt = 0
    while True:
        before = _size(part)
        try:
            _fetch(url, part, max_bytes, timeout)
            break
        except urllib.error.HTTPError as error:
            if error.code < 500 and error.code not in (408, 429):
                raise OSError(f"{url}: the server answered {error.code} {error.reason}") from None
            problem = f"{error.code} {error.reason}"
        except (OSError, http.client.HTTPException) as error:
            problem = str(getattr(error, "reason", error)) or type(error).__name__
        attempt = 1 if _size(part) > before else attempt + 1
        if attempt > retries:
            kept = f"; {_size(part)} bytes are kept, the same command goes on from there" if _size(part) else ""
            raise OSError(f"{url}: {problem}{kept}")
        wait = min(pause * 2 ** (attempt - 1), 30)
        say(f"{url}: {problem}; again in {wait:g} s")
        time.sleep(wait)
    os.replace(part, path)
    _about(part).unlink()


def _size(path):
    return path.stat().st_size if path.exists() else 0


def _about(part):
    return part.with_name(part.name + ".json")


def _fetch(url, part, max_bytes, timeout):
    """One connection: add to `part` what it lacks."""
    have, version = _size(part), _known_version(url, part)
    if have and not version:
        have = 0  # of another address, or of a server that names no version: it may have changed
    headers = {"User-Agent": "rloss_caffe", "Accept-Encoding": "identity"}
    if have:
        headers.update({"Range": f"bytes={have}-", "If-Range": version})
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not have:
            raise
        if error.headers.get("Content-Range", "").replace(" ", "") == f"bytes*/{have}":
            return  # nothing beyond what is there: it was complete
        part.unlink()
        raise ConnectionError("the server has no such part of the file; starting anew") from None
    with response:
        if have and not _continues(response, have):
            have = 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        if (total or 0) > max_bytes:
            raise ValueError(f"{url} has {total} bytes, more than the {max_bytes} that are expected at most")
        version = response.headers.get("ETag", "") or response.headers.get("Last-Modified", "")
        version = "" if version.startswith("W/") else version  # a weak tag says nothing about bytes
        with open(part, "ab" if have else "wb") as file:
            _about(part).write_text(json.dumps({"url": url, "version": version}))
            with progress_bar(total, f"  {part.name[:-5]}", "B", initial=have, unit_scale=True) as bar:
                for block in iter(lambda: response.read(_BLOCK), b""):
                    have += len(block)
                    if have > max_bytes:
                        raise ValueError(f"{url} has more than the {max_bytes} bytes that are expected at most")
                    file.write(block)
                    bar.update(len(block))
    if total is not None and have < total:
        raise ConnectionError(f"the connection ended after {have} of {total} bytes")


def _known_version(url, part):
    try:
        about = json.loads(_about(part).read_text())
        return about["version"] if about["url"] == url else ""
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _continues(response, have):
    content_range = response.headers.get("Content-Range", "").replace(" ", "")
    return response.status == 206 and content_range.startswith(f"bytes{have}-")
