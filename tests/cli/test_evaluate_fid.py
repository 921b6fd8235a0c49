"""`edm-jax evaluate fid`: one number however often it is stopped, with all it depends on."""

import json

import numpy as np
import pytest

from edm_jax.cli import evaluate_fid
from edm_jax.cli.main import main
from edm_jax.data import archive
from edm_jax.evaluation import records

SHORT = ["--batch=1", "--solver=euler", "--steps=2", "--num=40", "--fewer", "--quiet"]


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("references") / "digits.npz")
    words = ["--data=digits", f"--dest={path}", "--features=pixels", "--keep=100", "--quiet"]
    assert main(["evaluate", "reference", *words]) == 0
    return path


@pytest.fixture
def measure(reference, saved, tmp_path):
    def run(name, *words, of=("--checkpoint", saved)):
        out = tmp_path / name
        given = [*of, "--reference", reference, "--features=pixels", "--out", str(out), *words]
        return main(["evaluate", "fid", *given]), out

    return run


@pytest.mark.slow
def test_a_killed_measurement_goes_on_to_the_same_bits(measure, monkeypatch, capsys):
    code, whole = measure("whole.json", *SHORT, "--ranges=2")
    assert code == 0
    with monkeypatch.context() as patch:
        write = evaluate_fid.collection.np.save
        written = []

        def dying(file, rows):
            if len(written) == 4:
                raise KeyboardInterrupt
            written.append(len(rows))
            write(file, rows)

        patch.setattr(evaluate_fid.collection.np, "save", dying)
        assert measure("killed.json", *SHORT, "--ranges=2")[0] == 130
    assert written == [16, 16, 8, 16]
    code, killed = measure("killed.json", *SHORT, "--ranges=2")
    assert code == 0 and killed.read_bytes() == whole.read_bytes()
    assert sorted(path.name for path in killed.parent.iterdir()) == ["killed.json", "whole.json"]


def test_the_record_says_what_the_scores_depend_on(measure, capsys):
    code, out = measure("a.json", *SHORT[:-1], "--ranges=2")
    assert code == 0
    said = capsys.readouterr().out
    assert said.split()[:3] == ["min", "mean", "std"] and "note: 40 images, not 50000" in said
    record = records.read(out)
    assert set(record["scores"]) == {
        "frechet_pixels", "frechet_infinity_pixels", "kernel_pixels", "precision", "recall",
        "density", "coverage",
    }  # fmt: skip
    assert record["images"]["seeds"] == [[0, 39], [40, 79]] and record["images"]["nfe"] == 2
    assert len(record["images"]["tableau"]) == 32 and record["images"]["made_with"]["weights"]
    assert "floor" in record["images"]["uint8"] and record["features"]["name"] == "pixels"
    assert record["reference"]["count"] == 1797 and record["versions"]["jax"]
    assert any("rank" in note for note in record["notes"])
    score = record["scores"]["frechet_pixels"]
    assert score["min"] == min(score["values"]) and len(set(score["values"])) == 2
    assert measure("a.json", *SHORT)[0] == 2  # nothing is replaced unasked
    assert "exists already" in capsys.readouterr().err


def test_data_against_itself(measure, capsys):
    code, out = measure("itself.json", "--fewer", of=("--images", "digits"))
    assert code == 0
    scores = json.loads(out.read_text())["scores"]
    assert abs(scores["frechet_pixels"]["mean"]) < 1e-6
    # The hundred features that were kept are among the images.
    assert scores["recall"]["mean"] == scores["coverage"]["mean"] == 1
    assert capsys.readouterr().out.splitlines()[0].startswith("frechet_pixels")


def test_samples_in_an_npz_are_images(measure, tmp_path):
    digits = archive.load("digits").images
    np.savez(tmp_path / "samples.npz", digits[::20], np.zeros(len(digits[::20]), int))
    of = ("--images", str(tmp_path / "samples.npz"))
    code, out = measure("samples.json", "--fewer", "--quiet", of=of)
    assert code == 0
    record = records.read(out)
    assert record["images"]["count"] == 90 and record["images"]["path"] == of[1]
    assert 0 < record["scores"]["frechet_pixels"]["mean"] < 0.5
    np.savez(tmp_path / "samples.npz", digits[::20] / 255)
    assert measure("float.json", "--fewer", "--quiet", of=of)[0] == 2


def test_components_are_fitted_on_the_reference(saved, tmp_path, capsys):
    path, out = str(tmp_path / "pca.npz"), tmp_path / "pca.json"
    by = ["--features=pca", "--quiet"]
    words = ["--data=digits", f"--dest={path}", "--components=5", "--keep=50", *by]
    assert main(["evaluate", "reference", *words]) == 0
    of = ["--images=digits", "--fewer", "--num=50", f"--reference={path}", f"--out={out}"]
    assert main(["evaluate", "fid", *of, *by]) == 0
    record = records.read(out)
    assert record["features"]["width"] == 5 and len(record["features"]["sha256"]) == 64
    assert 0 < record["scores"]["frechet_pca"]["mean"] < 1
    assert main(["evaluate", "fid", *of, "--overwrite", "--features=pixels"]) == 2
    assert "must be of features whose name is 'pixels'" in capsys.readouterr().err
    words = ["--data=digits", f"--dest={path}", "--components=5", "--overwrite"]
    assert main(["evaluate", "reference", *words, "--features=pixels"]) == 2
    assert main(["evaluate", "reference", *words[:2], "--components=0", *words[3:], *by]) == 2
    assert "components must lie in [1, 64], got 0" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words, said",
    [
        ((), "--num must be 50000, or fewer with --fewer"),
        (("--fewer", "--num=1"), "at least 2"),
        (("--fewer", "--num=2000"), "--num must be at most 1797"),
        (("--ranges=2",), "--ranges must be left out"),
        (("--decoder=a:b",), "--decoder must be left out with --images, got a:b"),
        (("--batch=0",), "--batch must be at least 1"),
        (("--inception=x.pth",), "--inception must be left out"),
        (("--checkpoint=x",), "one of --checkpoint and --images"),
    ],
)
def test_what_cannot_be_measured_is_refused(measure, capsys, words, said):
    code, out = measure("no.json", *words, of=("--images", "digits"))
    assert code == 2 and not list(out.parent.iterdir())
    assert said in capsys.readouterr().err


def test_a_reference_of_others_knows_fewer_scores(measure, reference, tmp_path):
    with np.load(reference) as arrays:
        np.savez(tmp_path / "official.npz", mu=arrays["mu"], sigma=arrays["sigma"])
    words = ["--fewer", "--quiet", f"--reference={tmp_path / 'official.npz'}"]
    code, out = measure("official.json", *words, of=("--images", "digits"))
    assert code == 0
    record = records.read(out)
    assert set(record["scores"]) == {"frechet_pixels", "frechet_infinity_pixels"}
    assert record["reference"]["extractor"] is None


def test_a_reference_is_not_replaced_unasked(reference, capsys):
    words = ["--data=digits", f"--dest={reference}", "--features=pixels"]
    assert main(["evaluate", "reference", *words]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main(["evaluate", "reference", "--data=digits"]) == 2
    assert main(["evaluate", "reference", *words[:2], "--keep=0", "--overwrite"]) == 2
