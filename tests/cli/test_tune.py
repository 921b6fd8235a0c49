"""The command tune: a file beside the model that sample takes, says, and refuses when stale."""

import json
import shutil

import jax
import numpy as np
import pytest
from matplotlib.figure import Figure

from edm_jax import evaluation, generate, guided, sampler_for
from edm_jax.cli import plot_tuned
from edm_jax.cli.main import main
from edm_jax.evaluation import references
from edm_jax.samplers import heun
from edm_jax.weights import save, tuned_samplers

FEW = ["--nfe=2", "--seeds=0-7", "--batch=4"]


@pytest.fixture(scope="module")
def tuned(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "digits"
    save(model, path)
    assert main(["tune", f"--checkpoint={path}", *FEW, "--quiet"]) == 0
    return path


def drawn(checkpoint, out, *options):
    few = ["--seeds=0-1", "--batch=2"]
    return main(["sample", f"--checkpoint={checkpoint}", f"--out={out}", *few, *options])


def record(out):
    return json.loads((out / "sample.json").read_text())


@pytest.mark.slow
def test_the_file_holds_a_sampler_of_the_calls_asked_for(tuned):
    file = tuned_samplers.load(tuned / "samplers.json")
    (found,) = file.samplers.values()
    assert list(file.samplers) == [2] and found.tableau.nfe == 2
    assert 0 < found.error < found.fixed_error


@pytest.mark.slow
def test_sample_takes_it_by_default_and_says_so(tuned, model, tmp_path, capsys):
    assert drawn(tuned, tmp_path / "a", "--steps=2") == 0
    name = tuned_samplers.load(tuned / "samplers.json").samplers[2].name
    assert f"tuned: {name}: 2 network evaluations each" in capsys.readouterr().err
    assert record(tmp_path / "a")["solver"] == f"tuned: {name}"
    assert record(tmp_path / "a")["tableau"]
    assert drawn(tuned, tmp_path / "b", "--steps=2", "--untuned") == 0
    assert record(tmp_path / "b")["solver"] == "ipndm" and "tableau" not in record(tmp_path / "b")
    first, second = ((tmp_path / name / "000001.png").read_bytes() for name in "ab")
    assert first != second


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [["--steps=3"], ["--steps=2", "--solver=heun"], ["--steps=2", "--rho=5"],
                ["--steps=2", "--threshold=static"], ["--steps=2", "--option=order=2"]]
)  # fmt: skip
def test_another_sampler_or_guidance_leaves_it(tuned, tmp_path, options):
    assert drawn(tuned, tmp_path / "a", *options) == 0
    assert record(tmp_path / "a")["solver"] in ("ipndm", "heun")


@pytest.mark.slow
def test_evaluate_measures_it_and_says_so(tuned, tmp_path):
    reference = tmp_path / "digits.npz"
    words = ["--data=digits", f"--dest={reference}", "--features=pixels", "--keep=50", "--quiet"]
    assert main(["evaluate", "reference", *words]) == 0
    few = ["--batch=4", "--steps=2", "--num=40", "--fewer", "--quiet", "--features=pixels"]
    given = [f"--checkpoint={tuned}", f"--reference={reference}", *few]
    name = tuned_samplers.load(tuned / "samplers.json").samplers[2].name
    for options, solver in ([], f"tuned: {name}"), (["--untuned"], "ipndm"):
        out = tmp_path / f"{solver[:5]}.json"
        assert main(["evaluate", "fid", *given, *options, f"--out={out}"]) == 0
        assert json.loads(out.read_text())["images"]["made_with"]["solver"] == solver


@pytest.mark.slow
def test_python_takes_it_by_the_same_rule(tuned, model):
    wanted = tuned_samplers.load(tuned / "samplers.json").samplers[2].tableau
    assert sampler_for(model, 2, tuned=tuned) == wanted
    other = model.replace(params=jax.tree.map(lambda p: 1.01 * p, model.params))
    for message, given in (
        ("num_steps must be one of 2, those tuned in", (model, 3)),
        ("tuned must be of this model's weights", (other, 2)),
        ("tuned must be of a model and a file without guidance", (guided(model, 1.0), 2)),
    ):
        with pytest.raises(ValueError, match=message):
            sampler_for(*given, tuned=tuned)
    with pytest.raises(ValueError, match="tuned must be given without other names"):
        sampler_for(model, 2, solver="heun", tuned=tuned)


def test_a_plot_has_both_errors_by_calls(tmp_path):
    samplers = {
        nfe: tuned_samplers.TunedSampler("a", heun([1.0, 0.0]), 0.1 / nfe, "b", 0.3 / nfe)
        for nfe in (8, 5)
    }
    axes = Figure().subplots()
    plot_tuned.draw(axes, samplers)
    found = {line.get_label(): line.get_xydata().tolist() for line in axes.lines}
    assert found == {
        "best fixed choice": [[5, 0.3 / 5], [8, 0.3 / 8]],
        "tuned": [[5, 0.1 / 5], [8, 0.1 / 8]],
    }
    assert axes.get_yscale() == "log"


@pytest.mark.slow
def test_it_is_chosen_by_a_score_of_images_and_told_of_others(tuned, model, tmp_path, capsys):
    """The one of the lowest score, whatever its distance."""
    reference, path = tmp_path / "digits.npz", tmp_path / "digits"
    save(model, path)
    words = ["--data=digits", f"--dest={reference}", "--features=pixels", "--keep=50", "--quiet"]
    assert main(["evaluate", "reference", *words]) == 0
    by = ["--metric=frechet_pixels", f"--reference={reference}", "--metric-images=40"]
    plot = tmp_path / "plot.png"
    assert main(["tune", f"--checkpoint={path}", *FEW, *by, f"--plot={plot}"]) == 0
    row = capsys.readouterr().out.splitlines()[1]
    assert plot.exists() and row.startswith("2 ")
    told = float(row.partition("; frechet_pixels ")[2].split()[0])
    seeds, chosen = range(8, 8 + 80), sampler_for(model, 2, tuned=path)
    images = np.concatenate([p.images for p in generate(model, chosen, seeds, batch_size=4)])
    about, extractor = references.opened(reference, model.image_shape)
    features = np.concatenate(list(extractor.over([images], batch_size=4)))
    distance = evaluation.frechet(evaluation.Statistics.of(features[40:]), about.statistics)
    assert told == pytest.approx(distance, rel=1e-3)


@pytest.mark.slow
def test_a_file_of_other_weights_is_refused(tuned, model, tmp_path, capsys):
    other = jax.tree.map(lambda p: 1.01 * p, model.params)
    save(model.replace(params=other), tmp_path / "other")
    shutil.copy(tuned / "samplers.json", tmp_path / "other")
    assert drawn(tmp_path / "other", tmp_path / "a", "--steps=2") == 2
    assert "must be of the weights that are drawn from" in capsys.readouterr().err
    assert drawn(tmp_path / "other", tmp_path / "a", "--steps=2", "--untuned") == 0


@pytest.mark.parametrize(
    "options, message",
    [
        (["--nfe=0"], "--nfe must be numbers from 1 to 50"),
        (["--nfe=5,x"], "--nfe must be numbers from 1 to 50"),
        (["--seeds=0-2"], "--seeds must be at least 4, got 3"),
        (["--batch=0"], "--batch must be at least 1, got 0"),
        (["--checkpoint=/none/there"], "/none/there"),
        (["--metric=fid"], "--reference must be given with --metric, got none"),
        (["--reference=x.npz"], "--metric must be given with --reference, got none"),
    ],
)
def test_bad_input_is_one_line_and_code_2(saved, options, message, capsys):
    assert main(["tune", f"--checkpoint={saved}", *FEW, *options]) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1 and message in error[0]
