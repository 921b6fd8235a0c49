"""The command tune: a file beside the model that sample takes, says, and refuses when stale."""

import json
import shutil

import jax
import pytest

from edm_jax.cli.main import main
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


@pytest.mark.parametrize(
    "options", [["--steps=3"], ["--steps=2", "--solver=heun"], ["--steps=2", "--rho=5"],
                ["--steps=2", "--threshold=static"], ["--steps=2", "--option=order=2"]]
)  # fmt: skip
def test_another_sampler_or_guidance_leaves_it(tuned, tmp_path, options):
    assert drawn(tuned, tmp_path / "a", *options) == 0
    assert record(tmp_path / "a")["solver"] in ("ipndm", "heun")


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
    ],
)
def test_bad_input_is_one_line_and_code_2(saved, options, message, capsys):
    assert main(["tune", f"--checkpoint={saved}", *FEW, *options]) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1 and message in error[0]
