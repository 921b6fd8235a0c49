"""The zip writer: read by others, continued after a kill at any moment, byte for byte."""

import json
import zipfile

import pytest

from edm_jax.data import writer

ITEMS = [
    (f"a/{i}.png", bytes([i]) * (50 + i) if i % 3 else None, "odd" if i == 3 else None)
    for i in range(10)
]


def write(path, key="key", stop=None, items=ITEMS):
    """Writes ITEMS two at a time; `stop`: leave after so many calls, as a kill would."""
    with writer.opened(path, key) as out:
        done = len(out.records)
        for call, start in enumerate(range(done, len(items), 2)):
            if call == stop:
                return done
            out.add(items[start : start + 2])
        out.finish("dataset.json", b"{}")
    return done


def test_zipfile_reads_it(tmp_path):
    write(tmp_path / "x.zip")
    with zipfile.ZipFile(tmp_path / "x.zip") as file:
        assert file.testzip() is None
        expected = {name: data for name, data, _ in ITEMS if data} | {"dataset.json": b"{}"}
        assert {name: file.read(name) for name in file.namelist()} == expected
        assert {info.date_time[:3] for info in file.infolist()} == {(1980, 1, 1)}
    assert [path.name for path in tmp_path.iterdir()] == ["x.zip"]


def test_goes_on_after_a_kill_at_any_byte(tmp_path):
    whole, path = tmp_path / "whole.zip", tmp_path / "x.zip"
    write(whole)
    write(path, stop=3)
    partial, journal = tmp_path / "x.zip.partial", tmp_path / "x.zip.journal"
    data, lines = partial.read_bytes(), journal.read_bytes()
    assert not path.exists()
    # The data are on the disk before the journal names them; more data may be there, also halves.
    for cut in range(0, len(lines), 7):
        for tail in (b"", b"half a member"):
            partial.write_bytes(data + tail)
            journal.write_bytes(lines[:cut])
            done = write(path)
            assert done <= 6
            assert path.read_bytes() == whole.read_bytes()
            path.unlink()
    partial.write_bytes(data)
    journal.write_bytes(lines)
    assert write(path, stop=0) == 6  # nothing is done twice
    partial.write_bytes(data[:100])  # and a journal that promises too much is not believed
    assert write(path) == 2
    assert path.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("after", [0, 2])
@pytest.mark.parametrize("error", [ValueError("wrong"), OSError(28, "full"), KeyboardInterrupt()])
def test_a_failure_leaves_only_what_can_be_gone_on_with(tmp_path, error, after):
    with pytest.raises(type(error)) as caught, writer.opened(tmp_path / "x.zip", "key") as out:
        out.add(ITEMS[:after])
        raise error
    kept = after and not isinstance(error, ValueError)
    left = ["x.zip.journal", "x.zip.partial"] if kept else []
    assert sorted(path.name for path in tmp_path.iterdir()) == left
    notes = getattr(caught.value, "__notes__", [])
    assert notes == ["the same command goes on from x.zip.partial"][: bool(kept)]
    assert write(tmp_path / "x.zip") == (after if kept else 0)


def test_another_key_starts_again(tmp_path):
    path = tmp_path / "x.zip"
    write(path, key="one", stop=2)
    assert write(path, key="two") == 0


def test_two_writers_at_once_are_refused(tmp_path):
    with writer.opened(tmp_path / "x.zip", "key"):  # noqa: SIM117
        with pytest.raises(BlockingIOError, match="another process is at work"):
            with writer.opened(tmp_path / "x.zip", "key"):
                pass


@pytest.mark.slow
@pytest.mark.parametrize("start", [0, 5 << 30])
def test_sizes_beyond_the_old_limits(tmp_path, start):
    """More than 65,535 members, and places beyond 4 GiB in a file with a hole."""
    path = tmp_path / "x.zip"
    count = 70_000 if not start else 3
    with open(path, "wb") as file:
        file.seek(start)
        records = []
        for i in range(count):
            name = f"{i:06d}.png"
            records.append(writer.Record(name, file.tell(), 3, 0x352441C2))  # crc of b"abc"
            file.write(writer.member(name, b"abc"))
        file.write(writer.directory(records, file.tell()))
    with zipfile.ZipFile(path) as file:
        assert len(file.namelist()) == count
        assert file.read(f"{count - 1:06d}.png") == b"abc"


def test_a_journal_is_plain_json(tmp_path):
    write(tmp_path / "x.zip", stop=2)
    lines = (tmp_path / "x.zip.journal").read_text().splitlines()
    assert json.loads(lines[0]) == "key"
    assert json.loads(lines[1]) == [None, 0, 0, 0, None]
    assert json.loads(lines[4])[4] == "odd"
