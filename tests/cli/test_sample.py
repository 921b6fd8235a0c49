"""The sample command: bytes that depend on the seed alone, and clear errors."""

import argparse
import dataclasses
import io
import json
import pathlib
from typing import Literal

import jax
import numpy as np
import pytest
from PIL import Image
from small_network import model_of

import edm_jax
from edm_jax import generation, schedules, timesteps
from edm_jax.cli import sampler
from edm_jax.cli.main import main
from edm_jax.model import Model, init_params
from edm_jax.samplers import (
    DEFAULT_SOLVER,
    DEFAULT_STEPS,
    SOLVERS,
    Loop,
    Solver,
    Tableau,
    ablation,
    heun,
)
from edm_jax.schedules import Schedule
from edm_jax.training.config import Config
from edm_jax.weights import save


def images_of(model, seeds, classes):
    parts = generation.generate(model, heun(timesteps.edm(4)), seeds, classes=classes, devices=1)
    return np.concatenate([part.images for part in parts])


@pytest.mark.slow
def test_labels_reach_the_network(model):
    three, four = (images_of(model, range(4), [c]) for c in (3, 4))
    assert (three != four).any()


@pytest.mark.slow
def test_a_path_ends_in_its_image(model):
    tableau = heun(timesteps.edm(4))
    paths, sigmas = generation.paths(model, tableau, range(4), columns=3)
    assert paths.shape == (4, 3, 8, 8, 1)
    assert sigmas[0] == 80 and sigmas[-1] == 0 and len(sigmas) == 3
    (part,) = generation.generate(model, tableau, range(4), batch_size=4, devices=1)
    assert part.seeds.tolist() == [0, 1, 2, 3]
    assert part.labels.tolist() == generation.pairs(model, range(4))[1].tolist()
    assert np.abs(paths[:, -1].astype(int) - part.images).max() <= 1


@pytest.mark.slow
def test_classes(model):
    seeds, labels = generation.pairs(model, [5, 6], "all")
    assert seeds.tolist() == [5, 6] * 10 and labels.tolist() == [c for c in range(10) for _ in "ab"]
    random = generation.pairs(model, range(200))[1].tolist()
    assert set(random) == set(range(10))
    assert random[7:9] == generation.pairs(model, [7, 8])[1].tolist()


@pytest.mark.slow
def test_each_seed_may_have_its_own_label(model):
    tableau = heun(timesteps.edm(2))
    chosen = dict(seeds=[3, 1, 3], labels=[9, 0, 2], batch_size=4, devices=1)
    (part,) = generation.generate(model, tableau, **chosen)
    assert part.seeds.tolist() == [3, 1, 3] and part.labels.tolist() == [9, 0, 2]
    for seed, label, image in zip(part.seeds, part.labels, part.images):
        alone = generation.generate(
            model, tableau, [seed], classes=int(label), batch_size=4, devices=1
        )
        np.testing.assert_array_equal(next(alone).images[0], image)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"classes": 10}, "class must be 0 to 9 for this model, got 10"),
        ({"classes": "cat"}, "class must be 0 to 9 for this model, got 'cat'"),
        ({"labels": [1, 2]}, "labels must be as many as seeds, 1, got 2"),
        ({"labels": [1], "classes": 3}, "classes must be left out where labels are given, got 3"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"devices": 9}, "devices must be 1 to 8, those of this process, got 9"),
        ({"seeds": [2**32]}, r"seeds must be integers in \[0, 2\*\*32\), got 4294967296"),
        ({"seeds": [0.5]}, r"seeds must be integers in \[0, 2\*\*32\), got 0.5"),
    ],
    ids=str,
)
def test_arguments_are_checked_when_called_not_when_the_first_image_is_drawn(
    model, arguments, message
):
    with pytest.raises(ValueError, match=message):
        generation.generate(model, heun(timesteps.edm(2)), **{"seeds": [0], **arguments})


def test_a_sampler_that_does_not_fit_is_refused_when_called(model):
    def run(denoise, noise, keys):
        return denoise(noise, np.ones(3, np.float32)), 1  # only ever three at once

    loop = Loop(run, nfe=1, stochastic=False)
    assert generation.generate(model, loop, [0], batch_size=3)
    with pytest.raises((ValueError, TypeError)):
        generation.generate(model, loop, [0], batch_size=4)


def command(saved, out, *options):
    return main(["sample", "--checkpoint", saved, "--out", str(out), "--steps=3", *options])


@pytest.mark.slow
def test_the_command_writes_images_a_grid_and_labels(saved, tmp_path, capsys):
    out = tmp_path / "a"
    options = ["--seeds=0-2", "--class=all", "--batch=4"]
    assert command(saved, out, *options, f"--trajectory={tmp_path}/path.png") == 0
    assert str(out / "grid.png") in capsys.readouterr().out
    files = sorted(out.glob("class*/*.png"))
    assert len(files) == 30 and files[0].parent.name == "class000"
    with Image.open(files[0]) as image:
        assert image.size == (8, 8) and image.mode == "L"
    labels = json.loads((out / "dataset.json").read_text())["labels"]
    assert ["class007/000002.png", 7] in labels and len(labels) == 30
    assert (tmp_path / "path.png").is_file()

    # A run that was stopped goes on: what is there stays, what is missing comes back the same.
    kept, lost = files[3], files[5]
    stamp, content = kept.stat().st_mtime_ns, lost.read_bytes()
    lost.unlink()
    assert command(saved, out, *options) == 0
    assert kept.stat().st_mtime_ns == stamp
    assert lost.read_bytes() == content
    # Other settings do not overwrite it.
    assert command(saved, out, *options, "--rho=5") == 2
    assert "made with the rho 5.0" in (error := capsys.readouterr().err) and "with None" in error


def test_random_classes_go_flat_and_match_explicit_ones(saved, tmp_path):
    assert command(saved, tmp_path / "r", "--seeds=4", "--batch=4") == 0
    label = json.loads((tmp_path / "r/dataset.json").read_text())["labels"][0][1]
    assert command(saved, tmp_path / "c", "--seeds=4", "--batch=4", f"--class={label}") == 0
    random = (tmp_path / "r/000004.png").read_bytes()
    assert random == (tmp_path / f"c/class{label:03d}/000004.png").read_bytes()
    assert Image.open(io.BytesIO(random)).size == (8, 8)


@pytest.mark.parametrize(
    "options, message",
    [
        (["--steps=0"], "--steps must be at least 1, got 0"),
        (["--class=12"], "class must be 0 to 9 for this model, got 12"),
        (["--class=cat"], "'all', 'random' or 'none', got 'cat'"),
        (["--seeds=9-3"], "--seeds must ascend"),
        (["--seeds=0-99999999999999999999"], "lie in [0, 2**32)"),
        (["--seeds=a"], "1,2,5-10, got 'a'"),
        (["--solver=huen"], "heun"),
        (["--solver=ddim", "--option=etaa=1"], "etaa"),
        (["--solver=ddim", "--option=eta=much"], "eta must be a number, got 'much'"),
        (["--solver=unipc", "--option=corrector=0"], "corrector must be True or False"),
        (["--solver=restart", "--option=intervals=(3,2,0.14,0.3)"], "(points, rounds, low, high)"),
        (
            ["--solver=euler_maruyama", "--schedule=vq"],
            "got 'vq'; did you mean",
        ),
        (["--solver=predictor_corrector", "--option=snr=-1"], "snr must lie in"),
        (["--solver=heun", "--option=churn=40"], "--option churn must be given by --s-churn"),
        (["--solver=heun", "--option=schedule=ve"], "schedule must be given by --schedule"),
        (["--solver=predictor_corrector", "--option=predictor=x"], "must be given in Python"),
        (["--schedule=vp"], "schedule must be given to a solver that has one (euler, heun"),
        (["--scaling=vp"], "scaling must be given to a solver that has one (euler, heun"),
        (["--timesteps=exponential", "--rho=3"], "got 'rho'"),
        (["--timesteps=flow", "--sigma-min=1"], "got 'sigma_min'"),
        (["--timesteps=edn"], "did you mean 'edm'"),
        (["--timesteps=ddpm", "--timesteps-option=offset=a"], "offset must be an integer"),
        (["--timesteps=ddpm", "--timesteps-option=spacing=odd"], "spacing must be one of"),
        (["--timesteps=ddpm", "--timesteps-option=ofset=1"], "did you mean 'offset'"),
        (["--solver=ddpm", "--option=variance=analytic"], "posterior_variance must be given"),
        (["--solver=ddim", "--option=eta"], "--option must look like NAME=VALUE, got 'eta'"),
        (
            ["--s-churn=1"],
            "--s-churn must be given with a solver that has churn (euler, heun, dpmpp_2s)",
        ),
        (["--batch=0"], "--batch must be at least 1, got 0"),
        (["--sigma-min=90"], "sigma_min"),
        (["--solver=heun", "--s-churn=-1"], "s_churn"),
        (["--checkpoint=/none/there"], "/none/there"),
        (["--out=/proc/none/x"], "/proc/none"),
        (["--trajectory=/proc/none/x.png"], "/proc/none"),
        (["--out=http://host/x"], "must be on a disk or begin with gs://"),
        (["--checkpoint=http://host/x"], "must be on a disk or begin with gs://"),
        (["--checkpoint=http://host/x", "--ema=halflife-1"], "must be on a disk or begin with gs"),
        (["--trajectory=http://host/x"], "must be on a disk or begin with gs://"),
        (
            ["--solver=analytic_dpm", "--option=posterior_variance=http://host/x"],
            "must be on a disk or begin with gs://",
        ),
    ],
)
def test_bad_input_is_one_line_and_code_2(saved, tmp_path, options, message, capsys):
    assert command(saved, tmp_path / "x", *options) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert message in error[-1] and error[-1].startswith("error: ")
    assert not (tmp_path / "x").exists()


REFUSED = {
    "analytic_dpm": "--option posterior_variance=FILE must be given",
    "consistency": "it is for consistency functions",
    "ddim_inversion": "it starts from images",
    "improved_ddpm": "for those that also predict a variance",
}


def sampler_of(config, *options):
    parser = argparse.ArgumentParser()
    sampler.add_sampler_arguments(parser)
    abstract = jax.eval_shape(lambda: init_params(jax.random.key(0), config))
    return sampler.make_sampler(parser.parse_args(options), Model.build(config, abstract))


@pytest.mark.parametrize("name", list(SOLVERS))
def test_every_solver_of_the_list_is_made_or_refused_with_its_reason(model, name):
    if name in REFUSED:
        with pytest.raises(ValueError, match=REFUSED[name]):
            sampler_of(model.config, f"--solver={name}")
        return
    made = sampler_of(model.config, f"--solver={name}", "--steps=5")
    if isinstance(made, Tableau):
        assert made.nfe >= 5 and made.stochastic == SOLVERS[name].stochastic
    else:
        assert isinstance(made, Loop) and made.stochastic == SOLVERS[name].stochastic


def test_solvers_for_other_models_are_made_for_those(model):
    config = dataclasses.replace(model.config, preconditioner="consistency")
    made = sampler_of(config, "--steps=2")
    # From 80 to a level between and then to sigma_min, where the function leads.
    assert made.nfe == 2 and made.sigma[0] == 80 and made.sigma[1] > 1
    assert made.weights[-1, 0, -1] == 0
    config = dataclasses.replace(model.config, learned_variance=True)
    assert sampler_of(config, "--solver=improved_ddpm").variance


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        ["--solver=unipc", "--option=order=3"],
        [
            "--solver=ddim",
            "--option=eta=0.5",
            "--discretization=ddpm",
            "--timesteps-option=spacing=leading",
        ],
        ["--solver=predictor_corrector"],
        ["--solver=adaptive", "--option=rtol=0.1", "--option=atol=0.1"],
        ["--solver=euler", "--timesteps=ve", "--schedule=ve", "--scaling=vp"],
    ],
    ids=" ".join,
)
def test_any_solver_of_the_list_samples(saved, tmp_path, options):
    assert command(saved, tmp_path, "--seeds=0-1", "--batch=2", *options) == 0
    first, second = (np.asarray(Image.open(tmp_path / f"00000{i}.png")) for i in (0, 1))
    assert (first != second).any()


@pytest.mark.slow
def test_a_learned_variance_of_a_conditional_model_samples(model, tmp_path):
    config = dataclasses.replace(model.config, learned_variance=True)
    save(model_of(config), tmp_path / "learned")
    words = ["--seeds=0-2", "--batch=2", "--solver=improved_ddpm"]
    assert command(str(tmp_path / "learned"), tmp_path / "out", *words) == 0
    assert len(list((tmp_path / "out").glob("0*.png"))) == 3


def test_the_list_is_the_registries(capsys):
    assert main(["sample", "--list-solvers"]) == 0
    text = capsys.readouterr().out
    parts = [part.splitlines() for part in text.strip().split("\n\n")]
    names = [[line.split()[0] for line in p[1:] if not line.startswith(" ")] for p in parts]
    assert names == [list(SOLVERS), list(timesteps.GRIDS), list(schedules.SCHEDULES)]
    assert "    --option eta=0.0 convention=ddim|dpm|linear\n" in text
    assert "--option posterior_variance=FILE eta=1.0 last_noise=inf" in text
    assert "    --timesteps-option final=zero|sigma_min\n    --sigma-min 0.002" in text
    assert "round_sigma" not in text


@pytest.mark.slow
def test_a_solver_of_ones_own_needs_no_change_of_the_command(saved, tmp_path, monkeypatch, capsys):
    def mine(
        sigmas, *, pull: float = 1.0, mode: Literal["a", "b"] = "a", schedule: Schedule = None
    ):
        assert mode == "b" and schedule.sigma(4.0) == 2.0
        return heun([pull * sigma for sigma in sigmas])

    monkeypatch.setitem(SOLVERS, "mine", Solver(mine, 2, 2, False, "nowhere"))
    words = ["--solver=mine", "--option=pull=0.5", "--option=mode=b", "--schedule=ve"]
    assert command(saved, tmp_path / "a", "--seeds=0", "--batch=1", *words) == 0
    half = ["--solver=heun", "--sigma-max=40", "--sigma-min=0.001"]
    assert command(saved, tmp_path / "b", "--seeds=0", "--batch=1", *half) == 0
    first, same = ((tmp_path / name / "000000.png").read_bytes() for name in "ab")
    assert first == same
    assert main(["sample", "--list-solvers"]) == 0
    assert "    --option pull=1.0 mode=a|b\n    --schedule\n" in capsys.readouterr().out


def test_the_schedule_of_the_paper_is_fitted_to_the_grid(model):
    words = ["--timesteps=vp", "--schedule=vp", "--scaling=vp", "--steps=5"]
    ends = {"sigma_min": 0.01, "sigma_max": 50.0}
    flags = ["--sigma-min=0.01", "--sigma-max=50"]
    made = sampler_of(model.config, "--solver=heun", *words, *flags)
    named = ablation(5, timesteps="vp", schedule="vp", scaling="vp", **ends)
    np.testing.assert_array_equal(made.weights, named.weights)


def test_the_default_solver_is_named_in_one_place():
    readme = (pathlib.Path(edm_jax.__file__).parents[1] / "README.md").read_text()
    claim = f"takes `{DEFAULT_SOLVER}` with {DEFAULT_STEPS} network evaluations"
    assert claim in " ".join(readme.split())
    assert Config().sample_steps == DEFAULT_STEPS
