"""The folder of samples: what it holds is what its record says, and it is a data set."""

import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from etils import epath
from PIL import Image
from small_network import model_of

from edm_jax.cli import made_with, sample_folder
from edm_jax.cli.main import main
from edm_jax.data import archive
from edm_jax.generation import batches
from edm_jax.model import Model
from edm_jax.runtime import pictures, processes
from edm_jax.weights import save
from edm_jax.weights.checkpoint import Checkpoints

SMALL_COMMAND = pathlib.Path(__file__).parents[1] / "small_command.py"
FEW = ["--steps=2", "--batch=2", "--seeds=0-1", "--solver=euler"]


def sample(checkpoint, out, *options):
    return main(["sample", f"--checkpoint={checkpoint}", f"--out={out}", *FEW, *options])


@pytest.fixture
def other(model, tmp_path):
    """Another model, saved under the path of `trained`."""
    return model.replace(params=jax.tree.map(lambda p: 1.5 * p, model.params))


def last_line(capsys):
    return capsys.readouterr().err.strip().splitlines()[-1]


@pytest.mark.slow
def test_images_of_other_weights_under_the_same_path_are_not_mixed(model, other, tmp_path, capsys):
    out = tmp_path / "out"
    save(model, tmp_path / "run")
    assert sample(tmp_path / "run", out) == 0
    before = {file.name: file.read_bytes() for file in out.iterdir()}
    save(model, tmp_path / "moved")
    assert sample(tmp_path / "moved", out) == 0  # the weights decide, not where they lie
    for file in (tmp_path / "run").iterdir():
        file.unlink()
    save(other, tmp_path / "run")
    assert sample(tmp_path / "run", out, "--seeds=0-3") == 2
    assert "--out must be a folder of images made with the weights" in (error := last_line(capsys))
    assert "choose another folder, or remove that one" in error
    assert {file.name: file.read_bytes() for file in out.iterdir()} == before


@pytest.mark.slow
def test_another_file_under_the_same_path_is_found(saved, tmp_path, capsys):
    file, out = tmp_path / "v.npz", tmp_path / "out"
    words = ["--solver=analytic_dpm", f"--option=posterior_variance={file}"]
    np.savez(file, sigma=np.array([80.0, 0.002]), value=np.array([0.9, 0.1]))
    assert sample(saved, out, *words) == 0
    assert sample(saved, out, *words, "--seeds=0-2") == 0
    np.savez(file, sigma=np.array([80.0, 0.002]), value=np.array([0.9, 0.2]))
    assert sample(saved, out, *words) == 2
    assert "made with the option ['posterior_variance=" in last_line(capsys)


def test_a_folder_that_another_command_writes_to_is_refused_and_left_alone(saved, tmp_path, capsys):
    out = tmp_path / "out"
    with made_with.alone(epath.Path(out)):
        assert sample(saved, out) == 2
        assert last_line(capsys).endswith("out/.lock: another process is at work here")
        assert [file.name for file in out.iterdir()] == [".lock"]
    assert not out.exists()
    assert sample(saved, out) == sample(saved, out) == 0


@pytest.mark.parametrize("inside", ["", "checkpoints", "checkpoints/5"])
def test_the_record_names_the_step_that_the_weights_are_of(model, other, tmp_path, inside):
    record = {"config": {}, "model": dataclasses.asdict(model.config)}
    first, second = jax.device_put(model.params), jax.device_put(other.params)
    with Checkpoints(tmp_path / "run") as checkpoints:
        checkpoints.save(3, {"ema": first}, record)
        checkpoints.save(5, {"ema": second, "averages": {"half": first}}, record)
    found = []
    for name, words in {"a": [], "b": ["--ema=half"]}.items():
        assert sample(tmp_path / "run" / inside, tmp_path / name, *words) == 0
        found.append(json.loads((tmp_path / name / "sample.json").read_text()))
    assert [record["step"] for record in found] == [5, 5]
    wanted = [made_with.digest(each.params) for each in (other, model)]
    assert [record["weights"] for record in found] == wanted


@pytest.mark.slow
def test_what_decides_no_image_is_no_part_of_the_record(saved, tmp_path):
    assert sample(saved, tmp_path / "out") == 0
    more = ["--batch=1", "--quiet", "--class=3", f"--trajectory={tmp_path / 'p.png'}"]
    assert sample(saved, tmp_path / "out", *more) == 0


def test_a_command_that_fails_before_the_first_image_leaves_no_record(
    saved, tmp_path, monkeypatch, capsys
):
    def full(*_):
        raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9 bytes.")

    with monkeypatch.context() as patch:
        patch.setattr(batches, "_mapped", lambda devices: full)
        assert sample(saved, tmp_path / "out", "--batch=512") == 1
    error = capsys.readouterr().err.strip().splitlines()
    assert error[-1].startswith("error: out of memory; a smaller --batch needs less")
    assert not (tmp_path / "out").exists()


def test_a_full_disk_is_one_line(saved, tmp_path, monkeypatch, capsys):
    def full(image, path):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(pictures, "write", full)
    assert sample(saved, tmp_path / "out", "--quiet") == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: ") and "No space left on device" in line


@pytest.fixture
def half_broken(model, monkeypatch):
    """Makes seed 1 come out as NaN, and seed 2 with one infinite pixel."""
    draw = Model.denoiser

    def denoiser(self, *labels):
        inner = draw(self, *labels)

        def denoise(x, sigma):
            found = inner(x, sigma)
            rows = np.arange(x.shape[0]).reshape(-1, 1, 1, 1)
            broken = np.where(rows == 1, np.nan, 0.0)
            pixel = np.zeros((1, 8, 8, 1))
            pixel[0, 3, 3] = 1.0
            return found + broken + jax.numpy.where((rows == 2) & (pixel == 1), np.inf, 0.0)

        return denoise

    monkeypatch.setattr(Model, "denoiser", denoiser)

    def mapped(devices):  # of a function of its own, or the compiled program would outlive the test
        run = lambda *given: batches._images(*given)
        return processes.map_local(run, (None, None, 0, 0), devices)

    monkeypatch.setattr(batches, "_mapped", mapped)


@pytest.mark.slow
def test_images_of_nan_are_named_and_not_written(saved, half_broken, tmp_path, capsys):
    out = tmp_path / "out"
    assert sample(saved, out, "--seeds=5-8", "--batch=4") == 1
    error = last_line(capsys)
    assert error.startswith("error: 2 images hold NaN or infinity and were not written: ")
    assert error.endswith("000006.png, 000007.png")
    assert sorted(file.name for file in out.glob("0*.png")) == ["000005.png", "000008.png"]
    assert not (out / "grid.png").exists()


@pytest.mark.slow
def test_the_folder_is_a_data_set(saved, model, tmp_path, capsys):
    out = tmp_path / "out"
    assert sample(saved, out, "--class=3") == 0
    path = out / "path.png"
    assert sample(saved, out, "--class=7,0", f"--trajectory={path}") == 0
    assert sample(saved, out, "--seeds=4-9", "--batch=8") == 0
    assert path.is_file() and (out / "grid.png").is_file()
    found = archive.load(out)
    assert len(found.images) == 12 and found.resolution == 8
    drawn = dict(json.loads((out / "dataset.json").read_text())["labels"])
    assert [drawn[f"class00{c}/000001.png"] for c in (0, 3, 7)] == [0, 3, 7]
    # Six of random classes and six of those that were asked for, of earlier calls too.
    assert sum("/" in name for name in drawn) == 6 and len(drawn) == 12
    alone = tmp_path / "alone"
    assert sample(saved, alone, "--seeds=8", f"--class={drawn['000008.png']}") == 0
    (image,) = alone.glob("class*/*.png")
    assert image.read_bytes() == (out / "000008.png").read_bytes()
    assert main(["dataset", f"--check={out}"]) == 0
    assert "images      12" in capsys.readouterr().out
    assert main(["dataset", f"--source={out}", f"--dest={tmp_path}/x.zip"]) == 0
    again = archive.load(tmp_path / "x.zip")
    np.testing.assert_array_equal(again.images, found.images)
    np.testing.assert_array_equal(again.targets, found.targets)


@pytest.mark.slow
def test_the_folder_of_a_model_without_labels_is_a_data_set(model, tmp_path):
    config = dataclasses.replace(model.config, label_dim=0)
    save(model_of(config), tmp_path / "plain")
    assert sample(tmp_path / "plain", tmp_path / "out") == 0
    found = archive.load(tmp_path / "out")
    assert len(found.images) == 2 and found.targets is None


def test_classes_go_by_their_names(model, tmp_path, capsys):
    names = ("circle", "square, filled", *"cdefghij")
    config = dataclasses.replace(model.config, class_names=names)
    save(model.replace(config=config), tmp_path / "named")
    out = tmp_path / "out"
    assert sample(tmp_path / "named", out, "--class=circle,j") == 0
    assert sample(tmp_path / "named", out, "--class=square, filled") == 0
    assert sorted(p.name for p in out.glob("class*")) == ["class000", "class001", "class009"]
    assert archive.load(out).classes == names
    assert sample(tmp_path / "named", out, "--class=cirle") == 2
    assert "of circle, square" in last_line(capsys)


def test_a_grid_has_a_row_for_each_of_several_classes(tmp_path, monkeypatch):
    made = []

    def grid(images, columns, *, row_labels):
        made.append((images, columns, row_labels))

    monkeypatch.setattr(pictures, "grid", grid)
    monkeypatch.setattr(pictures, "write", lambda *_: None)
    labels = np.repeat([5, 2], 3)
    names = [sample_folder.name_of(seed, label) for label in (5, 2) for seed in range(3)]
    for value, name in enumerate(names):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((2, 2), value, np.uint8)).save(tmp_path / name)
    sample_folder.write_grid(tmp_path, names, labels, list("abcdef"))
    images, columns, rows = made[0]
    assert images[:, 0, 0, 0].tolist() == list(range(6)) and columns == 3 and rows == ["f", "c"]
    sample_folder.write_grid(tmp_path, names[:3], labels[:3], ())
    assert made[1][1:] == (3, [])


@pytest.mark.parametrize("count", [1, 2, 3, 8, 30, 64, 100, 399])
def test_a_grid_is_near_a_landscape_and_bounded(count):
    columns = sample_folder.fitting_columns(count)
    picture = pictures.grid(np.zeros((count, 8, 8, 1), np.uint8), columns)
    assert max(picture.size) < 1150
    assert 0.3 <= picture.height / picture.width <= 1.35


def test_quiet_is_quiet_and_a_log_has_lines(saved, tmp_path, capsys):
    assert sample(saved, tmp_path / "a", "--quiet") == 0
    said = capsys.readouterr()
    assert said.out == said.err == ""
    assert sample(saved, tmp_path / "b") == 0
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("2 images of 8×8×1, euler: 2 network evaluations each")
    assert lines[1:] == ["compiling …", "sampling …", "2/2 img", "drawing the grid …"]


@pytest.mark.slow
def test_a_killed_command_leaves_whole_files_and_the_same_command_completes_them(saved, tmp_path):
    out = tmp_path / "out"
    words = [f"--checkpoint={saved}", f"--out={out}", *FEW, "--seeds=0-199", "--batch=4", "--quiet"]
    command = [sys.executable, str(SMALL_COMMAND), "sample", *words]
    program = subprocess.Popen(command, env={**os.environ, "JAX_PLATFORMS": "cpu"})
    while len(list(out.glob("0*.png"))) < 20:
        assert program.poll() is None
        time.sleep(0.01)
    program.send_signal(signal.SIGKILL)
    program.wait()
    there = {file.name: file.read_bytes() for file in out.glob("0*.png")}
    assert 20 <= len(there) < 200 and (out / "sample.json").is_file()
    assert main(["sample", *words]) == 0
    assert main(["sample", *words[:1], f"--out={tmp_path / 'whole'}", *words[2:]]) == 0
    for file in (tmp_path / "whole").iterdir():
        if file.name != "sample.json":
            assert (out / file.name).read_bytes() == file.read_bytes(), file.name
    assert all((out / name).read_bytes() == content for name, content in there.items())
