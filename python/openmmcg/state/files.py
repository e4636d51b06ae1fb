"""Files that appear complete or not at all, and errors that name them."""

from __future__ import annotations

import errno
import json
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# What readers of zips, arrays, JSON, HDF5 and TorchScript raise where a file is not what it should be; h5py also an
# OSError without a number. Those with a number are the operating system's, which name the file by themselves.
_DAMAGE = (ValueError, LookupError, TypeError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error, struct.error)


@contextmanager
def reading(path: str | os.PathLike[str], what: str) -> Iterator[None]:
    """Let errors of the block, which parses a file, name the file and the remedy.

    Parameters
    ----------
    path
        The file.
    what
        What the error calls it, "a predictor" for example.

    Raises
    ------
    ValueError
        The block found that the file is damaged or something else.

    Examples
    --------
    >>> with reading("homo.npz", "a predictor"):
    ...     {}["description"]
    Traceback (most recent call last):
        ...
    ValueError: homo.npz is damaged, or not a predictor of this package (KeyError: 'description'); bring back a copy...
    """
    try:
        yield
    except (*_DAMAGE, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise ValueError(
            f"{path} is damaged, or not {what} of this package ({type(error).__name__}: {error}); bring back a copy, "
            "or remove it and make it anew"
        ) from error


@contextmanager
def replacing(path: str | os.PathLike[str], *, durable: bool = True) -> Iterator[Path]:
    """Give a file to write, which takes the place of `path` when the block ends without an error.

    So at every moment `path` is the old file or the new one, complete. What an attempt that failed left is removed.

    Parameters
    ----------
    path
        The file to be.
    durable
        Whether it has to survive the machine's end as well, and not only that of the process. That takes some
        milliseconds, too many for what is written several times a second.

    Raises
    ------
    OSError
        The file could not be written, for example for want of space; it names `path`.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with replacing(folder / "numbers.txt") as unfinished:
    ...     _ = unfinished.write_text("1 2 3")
    >>> [file.name for file in folder.iterdir()]
    ['numbers.txt']
    """
    path = Path(path)
    # Of this process alone: another one may write the same file.
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        yield unfinished
        if durable:
            with open(unfinished, "rb") as file:
                os.fsync(file.fileno())
        os.replace(unfinished, path)
    except BaseException as error:
        unfinished.unlink(missing_ok=True)
        if isinstance(error, OSError):
            kept = "what it held before is unharmed" if path.exists() else "nothing of it is left"
            reason = error.strerror or error
            raise OSError(
                error.errno, f"{path} could not be written ({reason}); {kept}. Make room and repeat"
            ) from error
        raise


def write_text(path: str | os.PathLike[str], text: str, *, durable: bool = True) -> None:
    """Write a text file such that at every moment there is either the old one or the new one, see `replacing`."""
    with replacing(path, durable=durable) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def append(path: str | os.PathLike[str], text: str, what: str, header: str = "") -> None:
    """Add text to the end of a file, all of it or nothing; the file is made where there is none.

    Parameters
    ----------
    path
        The file.
    text
        Whole lines.
    what
        What the error calls them.
    header
        What comes before them where the file is empty or new.

    Raises
    ------
    OSError
        It could not be written, for example for want of space; it names `path`.
    """
    with open(path, "ab", buffering=0) as file:
        end = file.tell()
        data = (text if end else header + text).encode()
        try:
            if file.write(data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            file.truncate(end)
            raise OSError(
                error.errno,
                f"{what} could not be written to {path} ({error.strerror}); what it held before is kept. Make room and "
                "go on",
            ) from error


def write_json(path: str | os.PathLike[str], content: Any, *, durable: bool = True) -> None:
    """As `write_text`, of what JSON can express.

    Raises
    ------
    ValueError
        The content holds NaN or an infinite number, which JSON has no words for.
    """
    write_text(path, json.dumps(content, indent=1, allow_nan=False), durable=durable)


def read_json(path: str | os.PathLike[str], what: str) -> Any:
    """The content of a JSON file.

    Parameters
    ----------
    path
        The file.
    what
        What the error about a damaged file calls it, "a checkpoint" for example.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        It is not JSON; the error names the file.
    """
    with reading(path, what):
        return json.loads(Path(path).read_text(encoding="utf-8"))
