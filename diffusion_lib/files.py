"""Writing a file so that it is never half there: whoever reads it sees the old one or the new one."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A file to write in place of `path`: it takes that name when the block ends, whole and in one moment.

    If the block raises, or the process is killed, `path` stays as it was. A file that was there keeps its permissions.

    Yields:
        path of an empty file in the same folder; write it by its name, or open it.
    """
    path = Path(path)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")  # two processes do not write the same one
    try:
        part.touch()
        mode = (path if path.exists() else part).stat().st_mode
        yield part
        part.chmod(mode)  # some writers make a file of their own, for its owner only
        put_in_place(part, path)
    finally:
        part.unlink(missing_ok=True)


def put_in_place(part: Path, path: Path) -> None:
    """Give a complete file its name, once its bytes are on the disk."""
    with open(part, "rb+") as file:
        os.fsync(file.fileno())
    os.replace(part, path)


def write_atomically(path: str | Path, content: bytes | str) -> None:
    """`content`, bytes or text (UTF-8), as the file `path`, through `replacing`."""
    with replacing(path) as part:
        part.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
