"""Runs that measure their samples: scores in stats.jsonl, the best model by its step."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from small_network import model_of
from tiny_run import tiny

import edm_jax
from edm_jax.data import archive
from edm_jax.evaluation import likelihoods, references
from edm_jax.evaluation.features import Extractor, pixels
from edm_jax.training import best, loop, metrics, scoring
from edm_jax.training.config import check

pytestmark = pytest.mark.usefixtures("small_networks")
NAME = "frechet_pixels"


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    path = tmp_path_factory.mktemp("references") / "digits.npz"
    references.save(path, pixels()(archive.load("digits").images[:200]), pixels())
    return str(path)


@pytest.fixture(scope="module")
def run(small_networks, reference, tmp_path_factory):
    """A run of 12 steps of 16 images, measured after every fourth."""
    workdir = tmp_path_factory.mktemp("run")
    config = tiny(eval_kimg=0.064, eval_reference=reference, eval_images=20, sample_steps=2)
    loop.train(config, str(workdir), quiet=True)
    return workdir


@pytest.fixture(scope="module")
def model(small_networks):
    return model_of(dataclasses.replace(tiny().model, resolution=8, channels=1, label_dim=10))


def scores_of(workdir):
    return {r["step"]: r[NAME] for r in metrics.read(workdir) if NAME in r}


@pytest.mark.slow
def test_the_scores_are_written_and_the_best_is_a_model(run):
    found = scores_of(run)
    assert list(found) == [4, 8, 12] and len(set(found.values())) == 3
    lowest = min(found, key=found.get)
    (kept,) = (run / best.FOLDER).iterdir()
    assert kept.name == f"step-{lowest:08d}"
    measured = [r for r in metrics.read(run) if r["step"] == lowest and NAME in r]
    assert {"precision", "coverage", "kernel_pixels", "kimg"} <= set(measured[0])


@pytest.mark.slow
def test_what_is_kept_is_what_was_measured(run, reference):
    config = tiny(eval_reference=reference, eval_images=20, sample_steps=2)
    (kept,) = (run / best.FOLDER).iterdir()
    model = edm_jax.load(kept)
    found = scoring.Measure(config, model)(model)
    assert found[NAME] == pytest.approx(min(scores_of(run).values()), rel=1e-6)


@pytest.mark.slow
def test_images_held_out_cost_what_the_command_says(run, reference, monkeypatch):
    few = functools.partial(likelihoods.Settings, steps=2, solver="heun", elbo_levels=4)
    monkeypatch.setattr(likelihoods, "Settings", few)
    config = tiny(
        eval_reference=reference, eval_images=20, sample_steps=2, eval_data="digits",
        eval_data_images=9, eval_best="bits_per_dim",
    )  # fmt: skip
    (kept,) = (run / best.FOLDER).iterdir()
    model = edm_jax.load(kept)
    measure = scoring.Measure(config, model)
    found = measure(model)
    assert measure.best_by == "bits_per_dim" and next(iter(found)) == NAME and 3 < found[NAME] < 20
    chosen = np.arange(9) * 1797 // 9
    digits = archive.load("digits")
    rows = lambda indices: (digits.images[indices], digits.label_rows(indices))
    (alone,) = likelihoods.batches(model, few(), rows, chosen, batch_size=64)
    assert found["bits_per_dim"] == pytest.approx(alone.flow.mean(), rel=1e-6)
    assert found["elbo_bits_per_dim"] == pytest.approx(alone.elbo.sum(1).mean(), rel=1e-6)
    broken = model.replace(params=jax.tree.map(lambda p: p * np.nan, model.params))
    assert scoring.Measure(tiny(eval_data="digits", eval_data_images=9), model)(broken) == {}


def test_only_a_better_one_replaces_it_and_a_later_one_goes(model, tmp_path):
    folder = loop.files.made(tmp_path)
    keeps = best.Best(folder, by=NAME)
    for step, value, kept, anew in ((4, 2.0, 4, False), (8, 3.0, 4, True), (10, 1.5, 10, False),
                                    (12, 1.0, 12, True), (12, 1.0, 12, False)):  # fmt: skip
        keeps = best.Best(folder, by=NAME) if anew else keeps  # as after an interruption
        with metrics.Metrics(folder, step - 1) as log:
            log.write({"step": step, NAME: value, "recall": value})
        assert keeps.keep(model, step, {"other": -step, NAME: value}) == (kept == step)
        names = [path.name for path in (tmp_path / best.FOLDER).iterdir()]
        assert names == [f"step-{kept:08d}"]
    by_recall = best.Best(folder, by="recall")  # of which more is better
    (folder / metrics.STATS).unlink()  # no score is read again
    assert by_recall.keep(model, 8, {"recall": 3.0})
    assert [path.name for path in (tmp_path / best.FOLDER).iterdir()] == ["step-00000008"]
    assert not by_recall.keep(model, 12, {"recall": 1.0})
    assert best.rewind(folder, 8) == 0 and best.rewind(folder, 7) == 1
    assert not list((tmp_path / best.FOLDER).iterdir())


@pytest.mark.slow
def test_images_that_are_none_are_not_measured(run, reference):
    config = tiny(eval_reference=reference, eval_images=20, sample_steps=2)
    (kept,) = (run / best.FOLDER).iterdir()
    model = edm_jax.load(kept)
    broken = model.replace(params=jax.tree.map(lambda p: p * np.nan, model.params))
    assert scoring.Measure(config, model)(broken) == {}


def test_what_cannot_be_measured_stops_a_run_before_it_begins(model, tmp_path):
    with pytest.raises(ValueError, match="eval_reference must name a file .* or eval_data"):
        check(tiny(eval_kimg=1.0), 1)
    with pytest.raises(ValueError, match="eval_data_images must be at most 1797, got 1798"):
        scoring.Measure(tiny(eval_data="digits", eval_data_images=1798), model)
    with pytest.raises(ValueError, match="eval_best must be one of bits_per_dim, elbo_bits_per_di"):
        scoring.Measure(tiny(eval_data="digits", eval_best="fid"), model)
    with pytest.raises(FileNotFoundError):
        scoring.Measure(tiny(eval_reference=str(tmp_path / "none.npz")), model)
    mine = Extractor("mine", "", lambda _, images: images)
    references.save(tmp_path / "mine.npz", np.eye(3, dtype=np.float32), mine)
    with pytest.raises(ValueError, match="must be of features by one of inception"):
        scoring.Measure(tiny(eval_reference=str(tmp_path / "mine.npz")), model)
    references.save(tmp_path / "small.npz", np.eye(3, dtype=np.float32), pixels())
    with pytest.raises(ValueError, match="must be of 64 features, .*, got 3"):
        scoring.Measure(tiny(eval_reference=str(tmp_path / "small.npz")), model)
