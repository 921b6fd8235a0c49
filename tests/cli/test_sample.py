"""The sample command: bytes that depend on the seed alone, and clear errors."""

import argparse
import dataclasses
import io
import json

import jax
import numpy as np
import pytest
from PIL import Image
from small_network import SmallNetwork

from edm_jax import generation, timesteps
from edm_jax.cli import sampler
from edm_jax.cli.main import main
from edm_jax.model import Model, init_params
from edm_jax.samplers import SOLVERS, Churn, Tableau, heun


def images_of(model, seeds, batch_size=4, devices=8, classes="random", churn=None):
    tableau = heun(timesteps.edm(4), churn=churn)
    parts = generation.generate(
        model, tableau, seeds, classes=classes, batch_size=batch_size, devices=devices
    )
    return np.concatenate([part.images for part in parts])


def assert_same_bytes(model, churn, more=()):
    """On one device, on eight and on `more`, in either order, and nearly so in other batches."""
    seeds = range(19)
    eight = images_of(model, seeds, churn=churn)
    for devices in (1, *more):
        np.testing.assert_array_equal(images_of(model, seeds, devices=devices, churn=churn), eight)
    # Its neighbours and its place do not matter either.
    back = images_of(model, seeds[::-1], devices=1, churn=churn)
    np.testing.assert_array_equal(back[::-1], eight)
    # At another batch size the arithmetic may differ in the last place.
    other = images_of(model, seeds, batch_size=3, devices=1, churn=churn)
    assert np.abs(other.astype(int) - eight).max() <= 1
    assert np.std(eight.astype(float), axis=0).min() > 0


def test_an_image_is_the_same_bytes_on_any_number_of_devices(model):
    small = SmallNetwork()
    inputs = [np.zeros((1, *n), np.float32) for n in ((8, 8, 1), (), (10,))]
    params = jax.jit(small.init)(jax.random.key(1), *inputs)["params"]
    assert_same_bytes(model.replace(network=small, params=params), Churn(s_churn=2.0), (2, 4))


def test_an_image_of_a_unet_is_the_same_bytes_on_one_device_and_eight(model):
    assert_same_bytes(model, None)


def test_labels_reach_the_network(model):
    three, four = (images_of(model, range(4), classes=[c], devices=1) for c in (3, 4))
    assert (three != four).any()


def test_a_path_ends_in_its_image(model):
    tableau, wanted = heun(timesteps.edm(4)), generation.requests(model, range(4))
    paths = generation.paths(model, tableau, wanted, columns=3)
    assert paths.shape == (4, 3, 8, 8, 1)
    (part,) = generation.generate(model, tableau, range(4), batch_size=4, devices=1)
    assert part.seeds.tolist() == [0, 1, 2, 3]
    assert part.labels.tolist() == [r.label for r in wanted]
    images = part.images
    assert np.abs(paths[:, -1].astype(int) - images).max() <= 1


def test_classes(model):
    assert [r.label for r in generation.requests(model, [5, 6], "all")] == [
        c for c in range(10) for _ in range(2)
    ]
    random = [r.label for r in generation.requests(model, range(200))]
    assert set(random) == set(range(10))
    assert random[7:9] == [r.label for r in generation.requests(model, [7, 8])]
    with pytest.raises(ValueError, match="class is 10; this model's classes are 0 to 9"):
        generation.requests(model, [0], 10)


def command(saved, out, *options):
    return main(["sample", "--checkpoint", saved, "--out", str(out), "--steps=3", *options])


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
    assert "rho None, not 5.0" in capsys.readouterr().err


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
        (["--steps=0"], "--steps is 0"),
        (["--class=12"], "class is 12; this model's classes are 0 to 9"),
        (["--class=cat"], "--class is 'cat'"),
        (["--seeds=9-3"], "seeds ascend"),
        (["--seeds=a"], "--seeds is 'a'"),
        (["--solver=huen"], "heun"),
        (["--solver=ddim", "--option=etaa=1"], "etaa"),
        (["--solver=ddim", "--option=eta=much"], "eta must be a number, got 'much'"),
        (["--solver=unipc", "--option=corrector=0"], "corrector must be True or False"),
        (["--solver=restart", "--option=intervals=(3,2,0.14,0.3)"], "(points, rounds, low, high)"),
        (
            ["--solver=euler_maruyama", "--option=schedule=vq"],
            "got 'vq'; did you mean",
        ),
        (["--solver=predictor_corrector", "--option=snr=-1"], "snr must lie in"),
        (["--solver=heun", "--option=churn=40"], "its churn is --s-churn"),
        (["--solver=ddpm", "--option=variance=analytic"], "needs --option gamma=FILE"),
        (["--solver=ddim", "--option=eta"], "it must look like eta=0.5"),
        (["--s-churn=1"], "choices of the solvers heun and euler"),
        (["--batch=0"], "--batch is 0"),
        (["--sigma-min=90"], "sigma_min"),
        (["--solver=heun", "--s-churn=-1"], "s_churn"),
        (["--checkpoint=/none/there"], "/none/there"),
        (["--out=/proc/none/x"], "/proc/none"),
    ],
)
def test_bad_input_is_one_line_and_code_2(saved, tmp_path, options, message, capsys):
    assert command(saved, tmp_path / "x", *options) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert message in error[-1] and error[-1].startswith("error: ")
    assert not (tmp_path / "x").exists()


REFUSED = {
    "analytic_dpm": "needs --option gamma=FILE",
    "consistency": "a denoiser is no consistency function",
    "ddim_inversion": "seeds are no images",
    "improved_ddpm": "networks that also predict a variance",
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
        assert callable(made)


def test_solvers_for_other_models_are_made_for_those(model):
    config = dataclasses.replace(model.config, preconditioner="consistency")
    made = sampler_of(config, "--solver=consistency", "--steps=2")
    # From 80 to a level between and then to sigma_min, where the function leads.
    assert made.nfe == 2 and made.sigma[0] == 80 and made.sigma[1] > 1
    assert made.weights[-1, 0, -1] == 0
    config = dataclasses.replace(model.config, learned_variance=True)
    assert callable(sampler_of(config, "--solver=improved_ddpm"))


@pytest.mark.parametrize(
    "options",
    [
        ["--solver=unipc", "--option=order=3"],
        ["--solver=ddim", "--option=eta=0.5", "--discretization=ddpm"],
        ["--solver=predictor_corrector"],
        ["--solver=euler", "--discretization=ve", "--schedule=ve", "--scaling=vp"],
    ],
    ids=" ".join,
)
def test_any_solver_of_the_list_samples(saved, tmp_path, options):
    assert command(saved, tmp_path, "--seeds=0-1", "--batch=2", *options) == 0
    first, second = (np.asarray(Image.open(tmp_path / f"00000{i}.png")) for i in (0, 1))
    assert (first != second).any()


def test_the_list_of_solvers_is_the_registry(capsys):
    assert main(["sample", "--list-solvers"]) == 0
    lines = capsys.readouterr().out.splitlines()[1:]
    assert [line.split()[0] for line in lines] == list(SOLVERS)
