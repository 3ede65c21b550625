"""Fetching a file so that nothing is lost: from several mirrors, resumable, checked, and never half there.

data.mnist and data.fashion_mnist use it; everything else in the course needs no network.
"""

import errno
import gzip
import hashlib
import http.client
import os
import urllib.error
import urllib.request
import zlib
from collections.abc import Sequence
from math import prod
from pathlib import Path

import numpy as np

from .files import put_in_place


def read_idx(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """A gzipped IDX file of unsigned bytes as an array of that shape.

    The header is four bytes 0, 0, 8 (unsigned bytes), number of axes, then the length of each axis, big-endian.
    """
    damaged = f"{path} is damaged; delete it, and it will be fetched again"
    try:
        content = gzip.decompress(path.read_bytes())
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{damaged} (not a whole gzip file: {error})") from error
    header = 4 + 4 * len(shape)
    if content[:4] != bytes([0, 0, 8, len(shape)]):
        raise ValueError(f"{damaged} (it starts with {content[:4].hex(' ')}; expected 00 00 08 {len(shape):02x})")
    found = tuple(np.frombuffer(content[4:header], dtype=">u4").tolist()) if len(content) >= header else ()
    if found != shape:
        raise ValueError(f"{damaged} (its header says {found}; expected {shape})")
    if len(content) - header != prod(shape):
        raise ValueError(f"{damaged} ({len(content) - header} bytes of data; expected {prod(shape)})")
    return np.frombuffer(content, dtype=np.uint8, offset=header).reshape(shape)


def download(urls: str | Sequence[str], path: str | Path, md5: str, timeout: float = 20) -> Path:
    """Fetches one file from the first mirror that has it, and goes on where an earlier attempt was cut off.

    What has come so far is kept beside `path` with the ending .part. Only a complete file with the right checksum is
    ever called `path`, so a file of that name can be trusted. A file that is there already is not fetched again.

    Args:
        urls: addresses (http or https) of the same file, tried in turn.
        path: where the file goes; missing folders are made.
        md5: its MD5 checksum, 32 hexadecimal digits. It finds damage; it does not protect from forgery.
        timeout: seconds without any data after which a mirror is given up.
    Returns:
        path, as a pathlib.Path.
    Raises:
        ValueError: no address, an address that is not http(s), or something that is no MD5 checksum.
        OSError: every mirror failed; the message says how each one did. Also a full disk or a protected folder.
    """
    urls, path, md5 = [urls] if isinstance(urls, str) else list(urls), Path(path), str(md5).lower()
    if not urls or not all(str(url).startswith(("http://", "https://")) for url in urls):
        raise ValueError(f"urls are {urls}; expected at least one address that starts with http:// or https://")
    if len(md5) != 32 or set(md5) - set("0123456789abcdef"):
        raise ValueError(f"md5 is {md5!r}; expected 32 hexadecimal digits")
    if path.exists():
        if md5_of(path) == md5:
            return path
        path.unlink()
        print(f"{path} had the wrong checksum; it was deleted and is fetched again")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    failures = []
    for _ in range(2):
        began_with_part = part.exists()
        for url in urls:
            try:
                _fetch(url, part, timeout)
            except (OSError, http.client.HTTPException) as error:
                if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EACCES, errno.EROFS):
                    raise  # the disk's fault: another mirror would not help
                failures.append(f"{url}: {getattr(error, 'reason', None) or error or type(error).__name__}")
                continue
            found = md5_of(part)
            if found == md5:
                put_in_place(part, path)
                return path
            part.unlink()
            failures.append(f"{url}: the file has MD5 {found}, expected {md5}; it was deleted")
        if not (began_with_part or part.exists()):
            break  # every mirror was asked for the whole file and none was cut off: a second round would end the same
    raise OSError(f"{path.name} could not be fetched:\n  " + "\n  ".join(failures))


def _fetch(url, part, timeout):
    """Completes `part` from one address. Raises OSError when the connection ends early; what came stays in `part`."""
    from tqdm.auto import tqdm

    have = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "diffusion-course", **({"Range": f"bytes={have}-"} if have else {})}
    try:
        reply = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and have:  # the part is as long as the file or longer
            part.unlink()
            return _fetch(url, part, timeout)
        raise
    with reply:
        # A server that knows no ranges sends everything; then the file begins anew. Should it be some other range, the
        # checksum finds out, and the next round asks for the whole file.
        resumed = reply.status == 206 and reply.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        have = have if resumed else 0
        length = reply.headers.get("Content-Length")
        total = None if length is None else have + int(length)
        with (
            open(part, "ab" if resumed else "wb") as file,
            tqdm(desc=part.stem, total=total, initial=have, unit="B", unit_scale=True) as bar,
        ):
            while chunk := reply.read(1 << 16):
                file.write(chunk)
                bar.update(len(chunk))
            file.flush()
            os.fsync(file.fileno())
    if total is not None and part.stat().st_size < total:
        raise OSError(f"the connection ended after {part.stat().st_size:,} of {total:,} bytes")


def md5_of(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
