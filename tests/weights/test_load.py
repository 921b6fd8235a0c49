"""`load`, `save` and the convert command: what a path holds, and what it does not."""

import dataclasses
import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

from edm_jax.cli import main as command
from edm_jax.model import Model, init_params
from edm_jax.networks import ddpmpp
from edm_jax.weights import checkpoint, directory, load, runs, save
from edm_jax.weights.errors import WeightsError
from edm_jax.weights.official.nvidia import to_state_dict
from edm_jax.weights.safetensors import read_safetensors, write_safetensors


def tiny(**changes):
    config = ddpmpp(
        resolution=8, model_channels=8, channel_mult=(1, 1), num_blocks=1, attn_resolutions=(4,),
        **changes,
    )  # fmt: skip
    like = jax.eval_shape(lambda: init_params(jax.random.key(0), config))
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda a: rng.normal(size=a.shape).astype(a.dtype), like)
    return Model.build(config, params)


@pytest.fixture(scope="module")
def model():
    return tiny(label_dim=3, augment_dim=9)


def same(first, second):
    assert first.config == second.config
    assert jax.tree.structure(first.params) == jax.tree.structure(second.params)
    jax.tree.map(np.testing.assert_array_equal, first.params, second.params)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"preconditioner": "flow", "preconditioner_arguments": {"time_scale": 1000.0}},
        {"preconditioner": "iddpm", "dtype": "bfloat16"},
        {"label_dim": 2, "class_names": ("circle", "écran")},
        {"embedding_type": "fourier", "channel_mult_noise": 2, "encoder_type": "residual",
         "resample_filter": (1, 3, 3, 1), "preconditioner": "ve"},
    ],
    ids=["edm", "flow", "iddpm", "names", "ve"],
)  # fmt: skip
def test_a_saved_model_comes_back_bit_for_bit(tmp_path, changes):
    model = tiny(**changes)
    save(model, tmp_path / "new" / "model")
    assert sorted(os.listdir(tmp_path / "new")) == ["model"]
    same(model, load(tmp_path / "new" / "model"))
    same(model, load(tmp_path / "new" / "model" / "weights.safetensors"))


def test_an_export_is_the_official_state_dict(tmp_path, model):
    path = tmp_path / "x.safetensors"
    directory.export_safetensors(model, path)
    found, metadata = read_safetensors(path)
    weights, arguments = to_state_dict(model)
    assert list(found) == list(weights)
    for name, value in weights.items():
        np.testing.assert_array_equal(found[name], value)
    assert arguments.items() >= json.loads(metadata["arguments"]).items()
    assert metadata["format"] == "pt"


def test_a_file_by_others_needs_only_the_arguments(tmp_path, model):
    path = tmp_path / "x.safetensors"
    weights, arguments = to_state_dict(model)
    arguments = {name: value for name, value in arguments.items() if name != "sigma_max"}
    write_safetensors(path, weights, metadata={"arguments": json.dumps(arguments)})
    loaded = load(path)
    jax.tree.map(np.testing.assert_array_equal, loaded.params, model.params)
    write_safetensors(path, weights)
    with pytest.raises(WeightsError, match=r"x\.safetensors: holds weights and not what the netw"):
        load(path)
    write_safetensors(path, weights, metadata={"arguments": "{"})
    with pytest.raises(WeightsError, match=r"x\.safetensors: damaged: the metadata are not JSON"):
        load(path)


def test_saving_takes_no_place_that_is_taken(tmp_path, model):
    (tmp_path / "empty").mkdir()
    save(model, tmp_path / "empty")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "x.safetensors").write_text("mine")
    for name, message in (
        ("empty", r"exists already; overwrite=True \(--overwrite\) replaces it"),
        ("x.safetensors", r"exists already; overwrite=True \(--overwrite\) replaces it"),
        ("file", "exists and is not a directory"),
        ("x.pkl", "must end in .safetensors or have no ending, got .pkl"),
    ):
        with pytest.raises(WeightsError, match=f"{name}: {message}"):
            save(model, tmp_path / name)
    assert (tmp_path / "file").read_text() == "mine"
    assert (tmp_path / "x.safetensors").read_text() == "mine"
    (tmp_path / "x.safetensors").unlink()
    with pytest.raises(WeightsError, match="file/x: (Not a directory|File exists)"):
        save(model, tmp_path / "file" / "x")
    assert sorted(os.listdir(tmp_path)) == ["empty", "file"]


def test_overwriting_replaces_models_and_nothing_else(tmp_path, model):
    other = model.replace(params=jax.tree.map(lambda a: 2 * a, model.params))
    for path in (tmp_path / "model", tmp_path / "model-1.5" / "x.safetensors"):
        save(model, path)
        save(other, path, overwrite=True)
        same(load(path), other)
        assert [entry.name for entry in path.parent.iterdir() if entry.name[0] == "."] == []
    (tmp_path / "model" / "notes.txt").write_text("mine")
    with pytest.raises(WeightsError, match="model: exists and is not a saved model"):
        save(model, tmp_path / "model", overwrite=True)
    assert (tmp_path / "model" / "notes.txt").read_text() == "mine"


def test_an_overwriting_that_fails_keeps_the_old_model(tmp_path, model, monkeypatch):
    save(model, tmp_path / "model")
    replace, calls = type(epath.Path(tmp_path)).replace, []

    def second_fails(self, target):
        calls.append(target)
        if len(calls) == 3:  # the weights' own, the old model's aside, then the new one's
            raise OSError(5, "Input/output error")
        return replace(self, target)

    monkeypatch.setattr(type(epath.Path(tmp_path)), "replace", second_fails)
    with pytest.raises(WeightsError, match="model: Input/output error"):
        save(model, tmp_path / "model", overwrite=True)
    same(load(tmp_path / "model"), model)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_save_that_fails_leaves_nothing(tmp_path, model, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(directory, "export_safetensors", fail)
    with pytest.raises(WeightsError, match="model: No space left"):
        save(model, tmp_path / "model")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda text: text[:-5], "config.json is not JSON"),
        (lambda text: "[]", "not that of an edm_jax model"),
        (lambda text: text.replace('"version": 1', '"version": 2'), "version must be 1, got 2"),
        (lambda text: text.replace("num_blocks", "blocks"), "must be among .*got 'blocks'"),
        (lambda text: text.replace('"num_blocks": 1', '"num_blocks": 100000'), "do not fit"),
        (
            lambda text: text.replace('"num_blocks": 1', '"num_blocks": "1"'),
            "num_blocks must be of type int, got '1'",
        ),
        (lambda text: text.replace('"channel_mult": [\n   1', '"channel_mult": [\n   "1"'), "not"),
        (lambda text: text.replace('"song"', '"dhariwal"'), "do not fit|missing"),
        (lambda text: text.replace('"edm"', f'"{3000 * "x"}"'), "one of.{1,1000}…$"),
        (lambda text: text.replace('"edm"', '"edm3"'), "one of edm, vp.*got 'edm3'"),
        (lambda text: text.replace('"label_dim": 3', '"label_dim": 4'), "misshapen: .*map_label"),
    ],
)
def test_a_damaged_configuration(tmp_path, model, change, message):
    save(model, tmp_path / "model")
    config = tmp_path / "model" / "config.json"
    text = config.read_text()
    config.write_text(change(text))
    assert config.read_text() != text
    with pytest.raises(WeightsError, match=f"model: .*({message})"):
        load(tmp_path / "model")


def test_what_is_no_model_is_described(tmp_path):
    (tmp_path / "notes.txt").write_text("hello, this is text")
    (tmp_path / "empty").touch()
    (tmp_path / "folder").mkdir()
    for name, message in (
        ("nothing", "No such file"),
        ("notes.txt", r"notes\.txt: must hold .*got no model: the file begins with b'hello"),
        ("empty", "empty: must hold .*got no model: the file is empty"),
        ("folder", "folder: must hold .*got no model: the folder holds nothing"),
        ("", r"got no model: the folder holds empty, folder, notes\.txt"),
    ):
        with pytest.raises(WeightsError, match=message):
            load(tmp_path / name)


@pytest.mark.slow
def test_a_training_run_is_found_from_any_of_its_folders(tmp_path, model, monkeypatch):
    run = tmp_path / "run"
    with checkpoint.Checkpoints(run) as checkpoints:
        for step in (3, 12):
            average = jax.tree.map(lambda a, by=step / 3: jnp.asarray(by * a), model.params)
            about = {"model": dataclasses.asdict(model.config)}
            checkpoints.save(step, {"ema": average, "averages": {}}, about)
            checkpoints.wait()
    newest = model.replace(params=jax.tree.map(lambda a: 4.0 * a, model.params))
    for path in (run, run / "checkpoints", run / "checkpoints" / "12"):
        same(load(path), newest)
    same(load(run / "checkpoints" / "3"), model)
    monkeypatch.chdir(run / "checkpoints" / "3")
    same(load("../12/"), newest)
    with pytest.raises(FileNotFoundError, match=r"checkpoint of step 4 \(complete: 3, 12\)"):
        runs.restore_model(run, step=4)
    with pytest.raises(ValueError, match=r"ema must be one of .*\(it has none\), got 'wide'"):
        runs.restore_model(run, ema="wide")


def test_a_url_whose_package_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(WeightsError, match="^s3://bucket/run: Install s3fs"):
        load("s3://bucket/run")


def test_a_url_of_another_kind_is_named():
    with pytest.raises(ValueError, match="begin with gs://, s3:// or az://, got 'http://a/x.pkl'"):
        load("http://a/x.pkl")


@pytest.mark.slow
def test_the_command(tmp_path, model, capsys):
    directory.export_safetensors(model, tmp_path / "a.safetensors")
    steps = [("a.safetensors", "new/model"), ("new/model", "new/too/b.safetensors")]
    for source, out in steps:
        assert command.main(["convert", str(tmp_path / source), str(tmp_path / out)]) == 0
        assert "song network, 8×8×3, 3 classes, edm preconditioner" in capsys.readouterr().out
    same(model, load(tmp_path / "new/model"))
    copy = tmp_path / "new/too/b.safetensors"
    assert (tmp_path / "a.safetensors").read_bytes() == copy.read_bytes()

    for out in ("new/model", "new/too/b.safetensors"):
        again = ["convert", str(tmp_path / "no.pkl"), str(tmp_path / out)]
        assert command.main(again) == 2
        assert "exists already" in capsys.readouterr().err  # before the source is read
        again[1] = str(tmp_path / "new/model")
        assert command.main([*again, "--overwrite"]) == 0
        capsys.readouterr()
    assert command.main(["convert", str(tmp_path / "no.pkl"), str(tmp_path / "x")]) == 2
    assert "no.pkl: No such file" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


@pytest.mark.slow
def test_reading_needs_neither_torch_nor_orbax_nor_safetensors():
    script = (
        "import sys, edm_jax.weights.loading\n"
        "assert not {'torch', 'safetensors', 'orbax', 'edm_jax.training'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, env={**os.environ})
