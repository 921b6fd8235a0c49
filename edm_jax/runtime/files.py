"""Paths on disks and in buckets, files that are written whole or not at all, and locks."""

import contextlib
import errno
import os
import pathlib
import shutil
from collections.abc import Iterator
from typing import BinaryIO

import platformdirs
from etils import epath

LOCK = ".lock"  # in a folder that one command at a time writes to


def is_local(path: str | os.PathLike) -> bool:
    """Whether a path is of this machine's file system, not a URL such as gs://bucket/run."""
    return "://" not in os.fspath(path)


def user_cache() -> pathlib.Path:
    """The project's folder in the user's cache directory; it need not be there."""
    return pathlib.Path(platformdirs.user_cache_dir("edm_jax"))


def located(name: str | os.PathLike) -> epath.Path:
    """The path of a name or a URL.

    Raises:
      ValueError: a URL of a kind that is not read, such as http://.
    """
    try:
        return epath.Path(name)
    except KeyError as error:
        kinds = "gs://, s3:// or az://"
        raise ValueError(
            f"a path must be on a disk or begin with {kinds}, got {os.fspath(name)!r}"
        ) from error


def absolute(name: str | os.PathLike) -> epath.Path:
    """The path from the root; a URL stays as it is."""
    found = located(name)
    return epath.Path(os.path.abspath(found)) if is_local(found) else found


def made(folder: str | os.PathLike) -> epath.Path:
    """A folder that is there: made, with those above it, where it is not.

    To be asked before the work whose result it takes.

    Args:
      folder: its name or URL.

    Returns:
      Its path.

    Raises:
      OSError: it cannot be made.
      ValueError: a URL of a kind that is not read, or that needs a package that is missing.
    """
    path = located(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except ImportError as error:  # gs:// needs gcsfs
        raise ValueError(f"{path}: {error}") from error
    return path


@contextlib.contextmanager
def whole(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """A file that appears under its name when the block has ended well, and else not at all.

    Args:
      path: the file to make; one that exists is replaced. Its folder must exist.

    Yields:
      The file, open for writing bytes.

    Raises:
      OSError: the path cannot be written.
    """
    path = located(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            if is_local(path):  # on the disk before it has its name, whatever happens to the power
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_folder(path: str | os.PathLike) -> Iterator[epath.Path]:
    """A folder that appears under its name when the block has ended well, and else not at all.

    Args:
      path: the folder to make, which must not be there. The one above it must be.

    Yields:
      The folder to write to, under another name.

    Raises:
      OSError: it cannot be written.
    """
    path = located(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir()
        yield temporary
        temporary.rename(path)
    finally:
        temporary.rmtree(missing_ok=True)


def write(path: str | os.PathLike, content: str | bytes) -> None:
    """Writes a file, whole or not at all; text as UTF-8.

    Args:
      path: the file to make; one that exists is replaced.
      content: what it shall hold.

    Raises:
      OSError: the path cannot be written.
    """
    with whole(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def remove(folder: epath.Path) -> None:
    """Removes a folder; on a disk it is whole under its name until it has none.

    Args:
      folder: with all that is in it.
    """
    if is_local(folder):  # in a bucket nothing is renamed, only copied
        folder = folder.replace(folder.with_name(f".{folder.name}.{os.getpid()}.tmp"))
    folder.rmtree()


def remove_unfinished(folder: epath.Path) -> None:
    """Removes what killed processes left there under temporary names.

    Args:
      folder: where nobody else is writing; it may not be there.
    """
    for path in folder.glob(".*.tmp"):
        path.rmtree() if path.is_dir() else path.unlink()


def reserve(path: str | os.PathLike) -> None:
    """Takes the space of a file on the disk, which a file of zeros may not have yet.

    Without it a full disk kills a process that writes to the mapped file (SIGBUS), with no message.

    Args:
      path: a local file of its full size.

    Raises:
      OSError: the disk is full.
    """
    size = os.path.getsize(path)
    with open(path, "r+b") as file:
        if hasattr(os, "posix_fallocate"):
            try:
                os.posix_fallocate(file.fileno(), 0, size)
            except OSError as error:
                raise OSError(error.errno, error.strerror, os.fspath(path)) from None


def check_space(folder: str | os.PathLike, size: int) -> None:
    """Refuses to begin what would not end: a file system in a bucket is never full.

    Args:
      folder: where something is to be written; it exists.
      size: of it, in bytes.

    Raises:
      OSError: the disk has less space left.
    """
    if is_local(folder) and (free := shutil.disk_usage(folder).free) < size:
        words = (
            f"{os.strerror(errno.ENOSPC)}: {size / 1e6:,.1f} MB are needed, {free / 1e6:,.1f} left"
        )
        raise OSError(errno.ENOSPC, words, os.fspath(folder))


@contextlib.contextmanager
def locked(path: str | os.PathLike, *, wait: bool = True) -> Iterator[bool]:
    """Holds a lock file.

    Args:
      path: the file; made if missing, and left there.
      wait: for another holder to end; otherwise that is an error.

    Yields:
      Whether it is held: where there is no `flock` (Windows, some network file systems), it is not.

    Raises:
      BlockingIOError: another process holds the lock.
    """
    try:
        import fcntl
    except ImportError:
        yield False
        return
    with open(path, "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise BlockingIOError(f"{path}: another process is at work here") from None
        except OSError:
            held = False
        else:
            held = True
        yield held
