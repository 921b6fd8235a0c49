"""Files that are written whole or not at all, on disks and in buckets."""

import fsspec
import pytest
from etils import epath
from fsspec.implementations.memory import MemoryFileSystem

from edm_jax.runtime import files
from edm_jax.training import metrics


class Bucket(MemoryFileSystem):
    """What gcsfs would be, in memory."""

    protocol = ("gs", "gcs")
    store, pseudo_dirs = {}, [""]

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.replace("gs://", "memory://"))


@pytest.fixture
def bucket():
    fsspec.register_implementation("gcs", Bucket, clobber=True)
    yield "gs://bucket"
    Bucket.store.clear()


def test_a_file_appears_when_it_is_whole(tmp_path):
    path = tmp_path / "file"
    files.write(path, "before")
    with pytest.raises(KeyError), files.whole(path) as file:
        file.write(b"half of it")
        raise KeyError
    assert path.read_text() == "before"
    files.write(path, "after")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert path.read_text() == "after"


def test_urls_stay_as_they_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert files.absolute("runs/a") == epath.Path(tmp_path / "runs/a")
    assert str(files.absolute("gs://bucket/runs/a")) == "gs://bucket/runs/a"
    assert files.is_local("runs/a") and not files.is_local(epath.Path("gs://bucket/a"))


def test_a_bucket_holds_the_lines_of_a_run(bucket):
    workdir = epath.Path(f"{bucket}/run")
    workdir.mkdir(parents=True)
    for start, steps in ((0, (1, 2, 3)), (2, (3, 4))):  # it went on from step 2
        with metrics.Metrics(workdir, start) as log:
            for step in steps:
                log.write({"step": step, "loss": 0.5})
    assert [r["step"] for r in metrics.read(workdir)] == [1, 2, 3, 4]
    assert [p.name for p in workdir.iterdir()] == [metrics.STATS]


@pytest.mark.parametrize("where", ["disk", "bucket"])
def test_folders_and_what_was_left_unfinished_are_removed(where, tmp_path, bucket):
    folder = epath.Path(tmp_path if where == "disk" else bucket) / "removed"
    for name in ("gone", "stays", ".half.12.tmp"):
        (folder / name / "below").mkdir(parents=True)
        (folder / name / "below/file").write_text("content")
    for name in (".one.png.12.tmp", ".lock", "one.png"):
        (folder / name).write_text("content")
    files.remove(folder / "gone")
    files.remove_unfinished(folder)
    files.remove_unfinished(folder / "not there")
    assert {path.name for path in folder.iterdir()} == {"stays", ".lock", "one.png"}
    assert (folder / "stays/below/file").read_text() == "content"
