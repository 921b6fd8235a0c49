"""The command restore: its files and scores, a run that was stopped, and what is refused."""

import dataclasses
import json
import sys

import numpy as np
import pytest
from etils import epath
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from edm_jax import load
from edm_jax.cli import made_with, restore_folder
from edm_jax.cli import restore as restore_command
from edm_jax.cli.main import main
from edm_jax.data import archive
from edm_jax.inverse import METHODS, TASKS
from edm_jax.model import Model
from edm_jax.runtime import pictures
from edm_jax.runtime.progress import Progress
from edm_jax.weights import save


@pytest.fixture(scope="module")
def small(model, tmp_path_factory):
    """A model that may be asked without a label."""
    path = tmp_path_factory.mktemp("models") / "small"
    save(model.replace(config=dataclasses.replace(model.config, label_dropout=0.1)), path)
    return str(path)


def restore(checkpoint, out, *options):
    few = ["--data=digits", "--num=3", "--draws=2", "--steps=3", "--batch=1", "--task=inpaint"]
    return main(["restore", f"--checkpoint={checkpoint}", f"--out={out}", *few, *options])


@pytest.fixture(scope="module")
def inpainted(small, tmp_path_factory):
    out = tmp_path_factory.mktemp("restored") / "new" / "inpainted"
    assert restore(small, out, "--quiet") == 0
    return out


def content(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*.*")}


def last_line(capsys):
    return capsys.readouterr().err.strip().splitlines()[-1]


def pixels(folder, part, place, draw=None):
    return pictures.read(folder / restore_folder.name_of(part, place, draw))


@pytest.mark.slow
def test_the_folder_holds_what_was_measured_and_what_came_of_it(inpainted, small):
    record = json.loads((inpainted / "restore.json").read_text())
    data = archive.load("digits")
    assert [row["image"] for row in record["images"]] == [0, 599, 1198]
    truth, measured = pixels(inpainted, "truth", 599), pixels(inpainted, "measured", 599)
    np.testing.assert_array_equal(truth, data.images[599])
    hidden = np.zeros((8, 8, 1), bool)
    hidden[2:6, 2:6] = True
    assert (measured[hidden] == 128).all()
    inside = ~hidden & (truth > 40) & (truth < 215)  # noise is clipped at the ends
    off = (measured[inside].astype(float) - truth[inside]) / 127.5
    assert 0.025 < off.std() < 0.1
    assert record["weights"] == made_with.digest(load(small).params)
    assert record["task_option"] == {"box": None, "share": None, "mask_seed": 0}
    assert record["method"] == "mmps" and record["method_option"]["iterations"] == 5
    assert (record["noise"], record["seed"], record["label"]) == (0.05, 0, "none")
    assert record["solver"] == "ipndm" and record["steps"] == 3


def test_scores_are_those_of_the_files(inpainted):
    record = json.loads((inpainted / "restore.json").read_text())
    for row in record["images"]:
        place = row["image"]
        truth = pixels(inpainted, "truth", place)
        drawn = np.stack([pixels(inpainted, "draws", place, k) for k in range(2)])
        errors = np.mean((drawn / 255.0 - truth / 255.0) ** 2, axis=(1, 2, 3))
        np.testing.assert_allclose(row["psnr"], -10 * np.log10(errors))
        mean = drawn.mean(0)
        assert row["psnr_of_mean"] == peak_signal_noise_ratio(truth, mean, data_range=255)
        for score, image in zip([*row["ssim"], row["ssim_of_mean"]], [*drawn, mean]):
            gray = truth[..., 0].astype(float), image[..., 0].astype(float)
            assert score == pytest.approx(structural_similarity(*gray, data_range=255))
        np.testing.assert_array_equal(pixels(inpainted, "mean", place), np.round(mean))
        wide = np.clip(np.round(np.abs(drawn[1] - drawn[0].astype(float)) * 2**0.5), 0, 255)
        np.testing.assert_array_equal(pixels(inpainted, "deviation", place), wide)
    every = np.concatenate([row["psnr"] for row in record["images"]])
    assert record["average"]["psnr"] == pytest.approx(every.mean())


def test_equal_images_have_no_psnr():
    psnr, ssim = restore_folder.metrics()
    image = np.arange(192.0).reshape(8, 8, 3)
    assert psnr(image, image) is None and ssim(image, image) == 1.0
    rows = [{"image": 3, "psnr": [None, 20.0]}, {"image": 4, "psnr": [30.0, None]}]
    assert restore_folder.averages(rows) == {"psnr": 25.0}
    assert restore_folder.averages([{"image": 3, "psnr": [None]}]) == {"psnr": None}
    assert [restore_folder.ssim_window((n, n, 1)) for n in (4, 5, 8, 32)] == [3, 5, 7, 7]


@pytest.mark.slow
def test_an_image_depends_on_nothing_else_of_the_call(inpainted, small, tmp_path):
    assert restore(small, tmp_path, "--num=1", "--draws=3", "--batch=2") == 0
    for part, draw in [("measured", None), ("draws", 0), ("draws", 1)]:
        same = pixels(inpainted, part, 0, draw), pixels(tmp_path, part, 0, draw)
        np.testing.assert_array_equal(*same)
    first, second = (pixels(tmp_path, "draws", 0, k) for k in (0, 2))
    assert (first != second).any()


@pytest.mark.slow
def test_a_run_that_was_stopped_ends_as_if_it_had_not_been(small, tmp_path, monkeypatch, capsys):
    more = ["--num=6"]  # 12 draws, 8 of them in the first batch
    assert restore(small, tmp_path / "whole", *more) == 0
    with monkeypatch.context() as patch:

        def stop(*_):
            raise KeyboardInterrupt

        patch.setattr(Progress, "update", stop)
        assert restore(small, tmp_path / "out", *more) == 130
    there = content(tmp_path / "out")
    assert sum("draws" in str(name) for name in there) == 8
    (tmp_path / "out" / "draws" / ".000000-01.png.7.tmp").write_bytes(b"half")
    assert "average" not in json.loads((tmp_path / "out" / "restore.json").read_text())
    capsys.readouterr()
    assert restore(small, tmp_path / "out", *more) == 0
    assert "12/12" in capsys.readouterr().err
    assert content(tmp_path / "out") == content(tmp_path / "whole")
    assert restore(small, tmp_path / "out", *more) == 0  # nothing left to do
    assert content(tmp_path / "out") == content(tmp_path / "whole")


@pytest.mark.slow
def test_one_draw_has_no_deviation(small, tmp_path):
    options = ["--task=super-resolve", "--noise=0", "--method=steps.ddnm", "--draws=1", "--label=3"]
    assert restore(small, tmp_path, *options) == 0
    record = json.loads((tmp_path / "restore.json").read_text())
    assert set(record["average"]) == {"psnr", "ssim"}
    assert not list((tmp_path / "mean").iterdir())
    assert record["solver"] is None and record["label"] == "3"
    truth, drawn = (pixels(tmp_path, *which).astype(float) for which in
                    (("truth", 599), ("draws", 599, 0)))  # fmt: skip
    means = lambda image: image.reshape(4, 2, 4, 2).mean((1, 3))
    # DDNM meets a measurement without noise, but for what rounding and clipping to bytes move.
    inside = (drawn.reshape(4, 2, 4, 2) % 255 > 0).all((1, 3))
    assert inside.any()
    assert np.abs(means(drawn) - means(truth))[inside].max() < 1
    np.testing.assert_allclose(
        pixels(tmp_path, "measured", 599)[::2, ::2, 0], means(truth), atol=0.76
    )


NO_NOISE = ["--noise=0", "--method=steps.repaint"]
WRONG = [
    (["--draws=0"], "--draws must be at least 1"),
    (["--noise=nan"], "--noise must be finite and not negative, got nan"),
    (["--noise=-1"], "--noise must be finite"),
    (["--seed=-1"], "seed must lie in [0, 2**32)"),
    (["--steps=0"], "--steps must be at least 1"),
    (["--label=12"], "--label must be one of the model's 10 classes"),
    (["--task-option=box=4,4,8,8"], "box must be top,left,height,width within 8 x 8 pixels"),
    (["--task-option=share=nan"], "share must lie in [0.0, 1.0], got nan"),
    (["--task-option=share=1"], "must hide some pixels and not all, got everything hidden"),
    (["--task-option=factor=2"], "an option of the task 'inpaint' must be one of box"),
    (["--task=super-resolve", "--task-option=factor=3"], "factor must divide the height"),
    (["--task=deblur", "--task-option=std=nan"], "std must be positive and finite, got nan"),
    (["--task=motion-deblur", "--task-option=length=9"], "length must be at most 8 pixels"),
    (["--task=colorize"], "images must have colours"),
    (["--method=mmsp"], "did you mean 'mmps'?"),
    (["--method=steps.ddnm"], "method must be one that is for noise, sigma_y = 0.05 (mmps, "),
    (["--method=dps", "--noise=0"], "one that is for measurements without noise"),
    (["--method=steps.ddrm", "--task=fourier"], "for operators that are no inverse.Spectral"),
    ([*NO_NOISE, "--task=phase-retrieval"], "for operators that are not linear"),
    (["--method-option=iterations=0"], "iterations must be a positive integer"),
    (["--method-option=eta=1"], "an option of the method 'mmps' must be one of iterations"),
    (["--method=steps.ddrm", "--solver=heun"], "--solver must be left out with a method that"),
    (["--method=steps.dps", "--method-option=variance=learned"], "asks for no variance"),
    (["--solver=improved_ddpm"], "solver must be for this network"),
    (["--data=/nowhere"], "nowhere"),
]  # fmt: skip


@pytest.mark.parametrize("options, message", WRONG, ids=[" ".join(given) for given, _ in WRONG])
def test_what_is_wrong_is_said_in_one_line(small, tmp_path, capsys, options, message):
    assert restore(small, tmp_path / "out", *options) == 2
    error = capsys.readouterr().err.strip()
    assert message in error and "\n" not in error and "JAX" not in error
    assert not (tmp_path / "out").exists()


def test_a_model_that_knows_labels_alone_must_be_told_one(saved, tmp_path, capsys):
    assert restore(saved, tmp_path / "out") == 2
    assert "--label must be 'own' or a class" in last_line(capsys)


def test_a_model_of_latents_is_refused(saved_latent_model, latent_data, tmp_path, capsys):
    assert restore(saved_latent_model, tmp_path / "out", f"--data={latent_data[0]}") == 2
    assert "must be a model of pixels, got one of latents" in last_line(capsys)


@pytest.mark.slow
def test_a_folder_of_something_else_is_refused_and_left_alone(inpainted, small, tmp_path, capsys):
    before = content(inpainted)
    for options, message in {
        "--noise=0.1": "images made with the noise 0.1",
        "--label=own": "images made with the label 'own'",
        "--method=pigdm": "images made with the method 'pigdm'",
        "--seed=1": "images made with the seed 1",
    }.items():
        assert restore(small, inpainted, options) == 2
        assert message in last_line(capsys)
    digits = archive.load("digits")
    for i in range(3):
        pictures.write(pictures.to_image(digits.images[i]), tmp_path / f"{i}.png")
    assert restore(small, inpainted, f"--data={tmp_path}", "--num=1") == 0  # the same first image
    assert content(inpainted).keys() == before.keys()
    (tmp_path / "0.png").unlink()
    assert restore(small, inpainted, f"--data={tmp_path}", "--num=1") == 2
    assert "--data must be what" in last_line(capsys)
    assert restore(small, tmp_path) == 2
    assert "--out must be a new folder, or one of restored images" in last_line(capsys)
    with made_with.alone(epath.Path(tmp_path / "busy")):
        assert restore(small, tmp_path / "busy") == 2
        assert "another process is at work here" in last_line(capsys)


@pytest.mark.slow
def test_images_of_nan_are_named_and_not_written(small, tmp_path, monkeypatch, capsys):
    nothing = lambda self, labels=None: lambda x, sigma: x * np.nan
    with monkeypatch.context() as patch:
        patch.setattr(Model, "denoiser", nothing)
        assert restore(small, tmp_path / "out", "--num=1") == 1
    error = last_line(capsys)
    assert error.startswith("error: 2 images hold NaN or infinity and were not written: draws/")
    assert not (tmp_path / "out" / "grid.png").exists()
    assert restore(small, tmp_path / "out", "--num=1") == 0


def test_without_scikit_image_it_says_what_to_install(small, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "skimage.metrics", None)
    assert restore(small, tmp_path / "out") == 2
    assert last_line(capsys) == "error: restore needs scikit-image: pip install 'edm_jax[restore]'"


def test_the_list_is_the_registries(capsys):
    assert main(["restore", "--list-methods"]) == 0
    text = capsys.readouterr().out
    parts = [part.splitlines() for part in text.strip().split("\n\n")]
    names = [[line.split()[0] for line in p[1:] if not line.startswith(" ")] for p in parts]
    assert names == [list(TASKS), list(METHODS)]
    assert "--task-option box=A,B,… share=float mask_seed=0\n" in text
    assert "--task-option factor=2 kernel=box|bicubic\n" in text
    assert restore_command.LESS_MEMORY == "a smaller --batch"
