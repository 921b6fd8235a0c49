"""A zip file that is written in order, can be continued after a kill, and appears when whole.

Beside the target `x.zip` stand, until it is done, `x.zip.partial`, the zip file so far, and
`x.zip.journal`, a line of JSON for each item: what it is, where it starts, its checksum. After a
kill the journal says how much of the partial file is whole, and the writing goes on there; the
bytes come out as if nothing had happened. Python's `zipfile` cannot go on with a file that has no
directory yet, so the few records of the format (members stored, not compressed; PKWARE's APPNOTE
6.3, sections 4.3.7 to 4.3.16) are written here.
"""

import contextlib
import json
import os
import pathlib
import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from edm_jax.runtime import files

_DATE = 0x21  # 1 January 1980, midnight: the bytes do not depend on the day
_VERSION, _UNIX, _MODE = 45, 3 << 8, 0o100644 << 16
_LARGE = 0xFFFFFFFF


class Record(NamedTuple):
    """What became of an item: its name in the zip or None, its place there, and a note."""

    name: str | None
    offset: int = 0
    size: int = 0
    checksum: int = 0
    note: str | None = None

    @property
    def end(self) -> int:
        """Where the next member starts."""
        return self.offset + 30 + len(self.name or "") + self.size


def member(name: str, data: bytes) -> bytes:
    """Makes the bytes of a stored member: header, name, content."""
    fields = (b"PK\3\4", _VERSION, 0, 0, 0, _DATE, zlib.crc32(data), len(data), len(data))
    return struct.pack("<4sHHHHHIIIHH", *fields, len(name), 0) + name.encode("ascii") + data


def directory(records: Sequence[Record], offset: int) -> bytes:
    """Makes the end of a zip file.

    Args:
      records: of the members.
      offset: where the directory stands in the file.

    Returns:
      The directory and its end records, those of ZIP64 included where they are needed.
    """
    parts = []
    for record in records:
        name = (record.name or "").encode("ascii")
        large = record.offset >= _LARGE
        extra = struct.pack("<HHQ", 1, 8, record.offset) if large else b""
        sizes = (record.checksum, record.size, record.size, len(name), len(extra))
        fields = (b"PK\1\2", _UNIX | _VERSION, _VERSION, 0, 0, 0, _DATE, *sizes)
        place = (0, 0, 0, _MODE, min(record.offset, _LARGE))
        parts.append(struct.pack("<4sHHHHHHIIIHHHHHII", *fields, *place))
        parts += [name, extra]
    entries = b"".join(parts)
    count, size, ending = len(records), len(entries), b""
    if count >= 0xFFFF or offset + size >= _LARGE:
        end = (b"PK\6\6", 44, _UNIX | _VERSION, _VERSION, 0, 0, count, count, size, offset)
        ending = struct.pack("<4sQHHIIQQQQ", *end)
        ending += struct.pack("<4sIQI", b"PK\6\7", 0, offset + size, 1)
    counts = (min(count, 0xFFFF),) * 2
    places = (min(size, _LARGE), min(offset, _LARGE))
    return entries + ending + struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, *counts, *places, 0)


class Writer:
    """Made by `opened`. `records` [done] are those of the items so far, in order."""

    def __init__(self, target: pathlib.Path, key: str):
        self._target = target
        self._partial = target.with_name(target.name + ".partial")
        self._journal_path = target.with_name(target.name + ".journal")
        self.records, end = self._recover(key)
        self._file = open(self._partial, "r+b" if self.records else "w+b")  # noqa: SIM115
        self._file.truncate(end)
        self._file.seek(end)
        self._journal = open(self._journal_path, "w")  # noqa: SIM115
        self._write_lines([key, *self.records])

    def _recover(self, key: str) -> tuple[list[Record], int]:
        """Reads the journal of a writing that was cut off: (its records, bytes that are whole)."""
        records, end = [], 0
        try:
            size = self._partial.stat().st_size
            lines = self._journal_path.read_text().split("\n")[:-1]  # the last may be half a line
            if not lines or json.loads(lines[0]) != key:
                return [], 0
            for line in lines[1:]:
                record = Record(*json.loads(line))
                if record.name:
                    if record.offset != end or record.end > size:
                        break
                    end = record.end
                records.append(record)
        except (OSError, ValueError, TypeError):
            pass  # nothing to go on from, or no further
        return records, end

    def _write_lines(self, values: list) -> None:
        self._journal.write("".join(json.dumps(value) + "\n" for value in values))
        self._journal.flush()

    def add(self, items: list[tuple[str, bytes | None, str | None]]) -> None:
        """Appends items.

        Args:
          items: of each its name in the zip (ASCII), its bytes or None to leave it out, a note.
        """
        added = []
        for name, data, note in items:
            if data is None:
                added.append(Record(None, note=note))
                continue
            added.append(Record(name, self._file.tell(), len(data), zlib.crc32(data), note))
            self._file.write(member(name, data))
        # The images are on the disk before the journal says so, also when the power fails.
        self._file.flush()
        os.fsync(self._file.fileno())
        self._write_lines(added)
        self.records += added

    def finish(self, name: str, data: bytes) -> None:
        """Adds a last member and gives the file its name."""
        members = [record for record in self.records if record.name]
        members.append(Record(name, self._file.tell(), len(data), zlib.crc32(data)))
        self._file.write(member(name, data))
        self._file.write(directory(members, self._file.tell()))
        self._file.flush()
        os.fsync(self._file.fileno())
        self.close()
        os.replace(self._partial, self._target)
        self._journal_path.unlink()

    def discard(self) -> None:
        """Removes what was written, once the files are closed."""
        self._partial.unlink(missing_ok=True)
        self._journal_path.unlink(missing_ok=True)

    def close(self) -> None:
        """Closes the files, and leaves them for a later writer to go on from."""
        self._file.close()
        self._journal.close()


@contextlib.contextmanager
def opened(target: str | os.PathLike, key: str, *, overwrite: bool = False) -> Iterator[Writer]:
    """Opens a zip file for writing, or for going on.

    Args:
      target: its name once it is whole; ends in .zip. Its folder is made.
      key: says what is written and how; another writer's partial file with another key is
        replaced.
      overwrite: whether `target` may exist; it is replaced at the end.

    Raises:
      FileExistsError: `target` exists.
      OSError: its folder cannot be made.
      BlockingIOError: another process writes it.
    """
    target = pathlib.Path(target)
    check_free(target, overwrite=overwrite)
    target.parent.mkdir(parents=True, exist_ok=True)
    lock = target.with_name(target.name + ".lock")
    with files.locked(lock, wait=False):
        writer = Writer(target, key)
        try:
            yield writer
        except BaseException as error:
            writer.close()
            # What the input itself forbids goes no better the next time.
            if isinstance(error, ValueError) or not writer.records:
                writer.discard()
            else:
                error.add_note(f"the same command goes on from {target.name}.partial")
            raise
        finally:
            writer.close()
            lock.unlink(missing_ok=True)


def check_free(target: pathlib.Path, *, overwrite: bool) -> None:
    """Raises FileExistsError where `target` exists and is not to be replaced."""
    if target.exists() and not overwrite:
        raise FileExistsError(f"{target}: exists already; overwrite=True (--overwrite) replaces it")
