"""The dataset command: what it prints, what it writes, one line and exit code 2 on bad input."""

import numpy as np
import pytest
from PIL import Image

from edm_jax.cli.main import main


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(6):
        path = tmp_path / "source" / "ab"[i % 2] / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), np.uint8)).save(path)
    return tmp_path / "source"


def test_make_and_check(folder, tmp_path, capsys):
    made = tmp_path / "x.zip"
    arguments = ["dataset", "--source", str(folder), "--dest", str(made)]
    assert main([*arguments, "--resolution", "16", "--transform", "center-crop"]) == 0
    shown = capsys.readouterr()
    assert shown.out == f"{made}: 6 images, 16x16 RGB, 2 classes\n"
    assert shown.err == "writing x.zip …\n6/6 img\n"
    assert main(["dataset", "--check", str(made), "--quiet"]) == 0
    shown = capsys.readouterr()
    assert "2 classes of 3 images (a, b)" in shown.out and "sigma_data" in shown.out
    assert shown.err == ""
    with Image.open(tmp_path / "x-sheet.png") as sheet:
        assert sheet.width > 100


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "give --source and --dest"),
        (["--source", "{folder}"], "give --source and --dest"),
        (["--check", "a.zip", "--source", "b"], "--check goes without"),
        (["--check", "{tmp}/none.zip"], "none.zip: no such file or folder"),
        (["--source", "{tmp}/none", "--dest", "{tmp}/x.zip"], "none: no such file or folder"),
        (["--source", "{folder}", "--dest", "{tmp}/x.tar"], "dest must end in .zip"),
        (["--source", "{folder}", "--dest", "{folder}/a/0.jpg/x.zip"], "must be square, got 30x20"),
        (["--source", "{folder}", "--dest", "{tmp}/old.zip"], "already; overwrite=True (--overwr"),
    ],
)
def test_bad_input_is_one_line(folder, tmp_path, capsys, arguments, message):
    (tmp_path / "old.zip").write_bytes(b"")
    filled = [text.format(folder=folder, tmp=tmp_path) for text in arguments]
    assert main(["dataset", *filled, "--quiet"]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.count("\n") == 1
    assert message in shown.err


def test_a_bad_option_is_named(capsys):
    assert main(["dataset", "--source", "a", "--dest", "b.zip", "--resolution", "big"]) == 2
    assert "must be like 64 or 512x384, got 'big'" in capsys.readouterr().err


def test_progress_is_lines_in_a_log_and_quiet_is_quiet_but_for_what_is_left_out(tmp_path, capsys):
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(3):
        Image.fromarray(np.full((8, 8), i, np.uint8)).save(folder / f"{i}.png")
    words = ["dataset", f"--source={folder}", "--overwrite", f"--dest={tmp_path / 'x.zip'}"]
    assert main(words) == 0
    said = capsys.readouterr()
    assert said.err == "writing x.zip …\n3/3 img\n" and "3 images" in said.out
    assert main([*words, "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    (folder / "3.png").write_bytes(b"no image")
    assert main([*words, "--quiet"]) == 0
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("warning: ") and "skipped 1 of 4" in said.err
    assert main(["dataset", f"--check={tmp_path / 'x.zip'}"]) == 0
    assert capsys.readouterr().err == "reading x.zip …\n3/3 img\n"
