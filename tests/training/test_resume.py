"""A run that goes on: with the same data and objective, and what changed is said."""

import json
import shutil
import threading

import numpy as np
import pytest
from tiny_run import tiny

from edm_jax.data import archive
from edm_jax.training import loop, metrics, resume
from edm_jax.training.config import LossConfig
from edm_jax.weights.checkpoint import Checkpoints

pytestmark = pytest.mark.usefixtures("small_networks")


@pytest.fixture(scope="module")
def half(small_networks, tmp_path_factory):
    """A run of four steps, to go on from."""
    workdir = tmp_path_factory.mktemp("half")
    config = tiny(duration_kimg=0.064, loss=LossConfig(weight="min_snr"))
    loop.train(config, str(workdir), quiet=True)
    return workdir


@pytest.fixture
def run(half, tmp_path):
    return shutil.copytree(half, tmp_path / "run")


def go_on(run, **changes):
    base = {"duration_kimg": 0.064, "loss": LossConfig(weight="min_snr")}
    return loop.train(tiny(**(base | changes)), str(run))


def rewrite(run, change):
    """Edits a checkpoint's record, as another version would have written it."""
    for path in run.glob("checkpoints/*/config/metadata"):
        record = json.loads(path.read_text())
        change(record)
        path.write_text(json.dumps(record))
        (path.parents[1] / "hashes.json").unlink()


@pytest.mark.slow
@pytest.mark.parametrize(
    "loss, message",
    [
        (LossConfig("v", weight="min_snr"), "loss.name must be .*, edm, got v"),
        (LossConfig(arguments={"p_mean": 0.0}), r"loss.arguments must be .*, \{\}, got \{'p_mean'"),
        (LossConfig(uncertainty=True), "loss.uncertainty must be .*, False, got True"),
    ],
    ids=lambda value: "",
)
def test_another_objective_is_refused(run, loss, message):
    with pytest.raises(ValueError, match=message):
        go_on(run, loss=loss)


@pytest.mark.slow
def test_what_changed_is_said_in_one_line(run, capsys):
    go_on(run, learning_rate=2e-3, ema_halflife_kimg=0.1, loss=LossConfig())
    said = capsys.readouterr().err
    [line] = [line for line in said.splitlines() if line.startswith("changed since step 4: ")]
    assert "learning_rate 0.001 -> 0.002" in line and "loss.weight min_snr -> None" in line
    assert "ema_halflife_kimg 0.05 -> 0.1" in line and line.count(" -> ") == 3
    assert f"edm-jax sample --checkpoint {run} " in said.splitlines()[-1]
    go_on(run)
    assert "changed since" not in capsys.readouterr().err


def test_other_names_of_earlier_versions_are_no_change(run, capsys):
    def earlier(record):
        record["config"]["loss"]["weight_arguments"] = {"gamma": 5.0}
        del record["data"], record["config"]["keep_checkpoints"]

    rewrite(run, earlier)
    go_on(run, loss=LossConfig(weight="min_snr", weight_arguments={"limit": 5.0}))
    assert "changed since" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda d: d._replace(images=d.images[:-1], targets=d.targets[:-1]), "count is 1796, not"),
        (lambda d: d._replace(images=255 - d.images), "its images differ"),
        (lambda d: d._replace(targets=d.targets[::-1]), "its labels differ"),
    ],
    ids=["count", "images", "labels"],
)
def test_another_data_set_is_refused(run, monkeypatch, change, message):
    load = loop.storage.load

    def other(*given, **options):
        source = load(*given, **options)
        return source._replace(dataset=change(source.dataset))

    monkeypatch.setattr(loop.storage, "load", other)
    with pytest.raises(
        ValueError, match=f"data.archive must hold the images of the run.*{message}"
    ):
        go_on(run)
    rewrite(run, lambda record: record.pop("data"))  # made before there were fingerprints
    assert go_on(run) is None


def test_the_fingerprint_does_not_depend_on_where_the_images_are():
    dataset = archive.load("digits")
    wanted = resume.fingerprint(dataset)
    assert wanted["count"] == 1797 and wanted["shape"] == [8, 8, 1]
    assert resume.fingerprint(dataset._replace(images=np.asfortranarray(dataset.images))) == wanted
    assert resume.fingerprint(dataset._replace(targets=None))["labels"] is None


def test_the_settings_lie_at_the_top_of_the_run(half):
    found = json.loads((half / loop.CONFIG).read_text())
    assert found["config"]["batch_size"] == 16 and found["model"]["resolution"] == 8
    assert found["data"]["count"] == 1797
    with Checkpoints(half, read_only=True) as checkpoints:
        assert checkpoints.record(4) == found


@pytest.mark.slow
def test_a_run_off_the_main_thread_trains(run):
    results = []
    config = tiny(loss=LossConfig(weight="min_snr"), duration_kimg=0.096)
    work = lambda: results.append(loop.train(config, str(run), quiet=True))
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert results == [None] and metrics.read(run)[-1]["step"] == 6


def test_numbers_that_json_has_no_word_for_are_null(tmp_path):
    with metrics.Metrics(tmp_path, 0) as log:
        log.write({"step": 1, "loss": 0.5, "grad_norm": float("nan"), "bins": [float("inf"), 1.0]})
    line = (tmp_path / metrics.STATS).read_text()
    assert line == '{"step": 1, "loss": 0.5, "grad_norm": null, "bins": [null, 1.0]}\n'


@pytest.mark.slow
def test_a_log_says_what_takes_the_time(run, capsys):
    go_on(run, duration_kimg=0.096, sample_kimg=0.096)
    lines = capsys.readouterr().err.splitlines()
    order = [lines.index(f"{what} …") for what in ("compiling", "drawing samples", "saving")]
    assert order == sorted(order)
