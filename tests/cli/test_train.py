"""The train command: settings, help, and one clear line for what is wrong."""

import os
import pathlib
import subprocess
import sys

import jax
import pytest
from etils import epath

import edm_jax
from edm_jax.cli import train as command
from edm_jax.cli.main import COMMANDS, main
from edm_jax.cli.train import parse

ROOT = pathlib.Path(__file__).parents[2]

CONFIG = "--config=configs/digits.py"


def test_settings_override_the_file():
    values = parse(
        [CONFIG, "--config.batch_size=64", "--config.model.channel_mult=(1,1)", "--workdir=x"]
    )
    assert values.config.batch_size == 64
    assert values.config.model.channel_mult == (1, 1)
    assert values.config.model.channels == 1
    assert values.workdir == "x" and not values.quiet


def test_settings_without_a_value_and_entries_of_dictionaries_can_be_given():
    values = parse(
        ["--config.loss.weight=min_snr", "--config.ema_power", "(0.05,0.1)", CONFIG, "--quiet",
         "--config.loss.arguments.p_mean=-0.4", "--config.loss.arguments.p_std", "1",
         "--config.model.preconditioner_arguments={'sigma_data': 0.3}", "--init=other.pkl"]
    )  # fmt: skip
    config = values.config
    assert config.loss.weight == "min_snr" and config.ema_power == (0.05, 0.1)
    assert config.loss.arguments == {"p_mean": -0.4, "p_std": 1}
    assert config.model.preconditioner_arguments == {"sigma_data": 0.3}
    assert config.init == "other.pkl" and values.quiet


OWN = """
import dataclasses
from configs import digits
from beside_{n} import SIZE

def get_config(text="1"):
    return dataclasses.replace(digits.get_config(), batch_size=SIZE * int(text))
"""


def test_a_configuration_of_ones_own_imports_ours_and_what_lies_beside_it(tmp_path):
    for n, size in enumerate((8, 16)):
        folder = tmp_path / str(n)
        folder.mkdir()
        (folder / "own.py").write_text(OWN.format(n=n))
        (folder / f"beside_{n}.py").write_text(f"SIZE = {size}")
        config = parse([f"--config={folder}/own.py:3"]).config
        assert config.batch_size == 3 * size and config.data.archive == "digits"


@pytest.mark.parametrize("name", ["cifar10", "cifar10.py", "configs/cifar10.py"])
def test_ours_are_found_by_name(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert parse([f"--config={name}:uncond"]).config.data.conditional is False
    (tmp_path / "configs").mkdir()  # a file that is there comes first
    (tmp_path / "configs" / "cifar10.py").write_text(
        "from configs import digits\ndef get_config(_): return digits.get_config()"
    )
    own = name.startswith("configs/")
    assert (parse([f"--config={name}:uncond"]).config.data.archive == "digits") is own


@pytest.mark.slow
def test_a_configuration_is_found_from_anywhere(tmp_path):
    """As by the installed command: no folder of the checkout is the current one, or on the path."""
    code = (
        "import sys; from edm_jax.cli.train import parse; root = sys.argv[1]; sys.path.remove(root)"
        "; print(parse([f'--config={root}/configs/afhqv2.py:ncsnpp']).config.model.dropout)"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, str(ROOT)], cwd=tmp_path, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert found.stdout.strip() == "0.25", found.stderr


@pytest.mark.parametrize(
    "content, argument, message",
    [
        ("", "", "must have a function get_config()"),
        ("get_config = dict", "", "must return a Config, got dict"),
        ("def get_config(text): ...", "", "own.py:ARGUMENT, got none"),
        ("def get_config(): ...", ":x", "must be given without an argument, got 'x'"),
    ],
)
def test_a_file_that_is_no_configuration_is_named(tmp_path, content, argument, message, capsys):
    (tmp_path / "own.py").write_text(content)
    assert main(["train", f"--config={tmp_path}/own.py{argument}", "--workdir=x"]) == 2
    error = capsys.readouterr().err
    assert message in error and "own.py" in error


@pytest.mark.parametrize(
    "content, line",
    [
        ("import numpy\n\nx = nothing", "line 3: NameError: name 'nothing' is not defined"),
        ("x = 1\ndef get_config(:", "line 2: SyntaxError: invalid syntax"),
        ("import no_such", "line 1: ModuleNotFoundError: No module named 'no_such'"),
        ("def get_config():\n    return int('x')", "line 2: ValueError: invalid literal for int()"),
        (
            "from edm_jax.networks import ddpmpp\ndef get_config():\n    return ddpmpp(wdth=1)",
            "line 3: TypeError: ",
        ),
    ],
)
def test_what_is_wrong_in_ones_own_configuration_is_one_line(tmp_path, content, line, capsys):
    (tmp_path / "own.py").write_text(content)
    assert main(["train", f"--config={tmp_path}/own.py", "--workdir=x"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {tmp_path}/own.py, {line}") and error.count("\n") == 1


def test_help_lists_every_setting_with_its_value(capsys):
    assert main(["train", CONFIG, "--help"]) == 0
    text = capsys.readouterr().out
    assert "--config.batch_size=" in text and "images per step over all devices" in text
    assert "--config.model.model_channels=32" in text and "--config.data.archive=digits" in text
    assert "--workdir FOLDER" in text and "--coordinator HOST:PORT" in text
    assert main(["train", "--help", "--config.seed=7"]) == 0  # without a file: the defaults
    assert "--config.seed=7 " in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([CONFIG, "--config.batch_siz=8"], "did you mean --config.batch_size?"),
        ([CONFIG, "--config.model.chanels=8"], "did you mean --config.model.channels?"),
        (
            [CONFIG, "--config.batch_size=many"],
            "--config.batch_size must be an integer, got 'many'",
        ),
        ([CONFIG, "--wrkdir=x"], "unrecognized arguments: --wrkdir=x"),
        ([CONFIG], "--workdir must be the folder of the run"),
        ([CONFIG, "--num-processes=two"], "--num-processes: invalid int value: 'two'"),
        (["--workdir=x"], "--config must be a file with get_config()"),
        ([CONFIG, "--workdir=x", "--config.seed"], "--config.seed must have a value"),
        ([CONFIG, "--workdir=x", "--config.loss.arguments.p_men=1"], "p_men"),
        (["--config=configs/none.py", "--workdir=x"], "one of ablation, afhqv2, "),
        (["--config=elsewhere/digits.py", "--workdir=x"], "got 'elsewhere/digits.py'"),
        ([CONFIG, "--workdir=x", "extra"], "unrecognized arguments: extra"),
        ([CONFIG, "--workdir=/proc/none/x"], "/proc/none"),
        ([CONFIG, "--workdir=http://host/x"], "must be on a disk or begin with gs://"),
        ([CONFIG, "--workdir=x", "--config.data.archive=none.zip"], "none.zip"),
    ],
)
def test_bad_input_is_one_line_and_code_2(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = [a.replace("configs/", f"{ROOT}/configs/") for a in arguments]
    assert main(["train", *arguments]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error and error.startswith("error: ") and "\n" not in error


def test_the_command_alone_prints_its_help(capsys):
    assert main([]) == 0
    text = capsys.readouterr().out
    assert text.startswith("usage: edm-jax") and all(f"\n  {name} " in text for name in COMMANDS)


def test_the_version_is_printed(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0 and capsys.readouterr().out.split() == [
        "edm_jax",
        edm_jax.__version__,
    ]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["trian"], "'trian'"),
        (["sample", "--stepz=3"], "unrecognized arguments: --stepz=3"),
        (["sample", "--steps=three"], "--steps: invalid int value: 'three'"),
        (["ema", "run"], "the following arguments are required: OUT, --std"),
    ],
)
def test_words_that_no_command_knows_are_one_line_and_code_2(arguments, message, capsys):
    assert main(arguments) == 2
    error = capsys.readouterr().err.strip()
    assert message in error and error.startswith("error: ") and "\n" not in error


def test_a_bucket_whose_package_is_missing_is_named(capsys, monkeypatch):
    def without(*_, **__):
        raise ImportError("Please install gcsfs to access Google Storage")

    monkeypatch.setattr(type(epath.Path("gs://bucket/x")), "mkdir", without)
    assert main(["train", CONFIG, "--workdir=gs://bucket/x"]) == 2
    assert capsys.readouterr().err == (
        "error: gs://bucket/x: Please install gcsfs to access Google Storage\n"
    )


def test_too_little_memory_is_one_line_that_says_what_needs_less(capsys, monkeypatch):
    def full(*_, **__):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating\n9 bytes")

    monkeypatch.setattr(command, "train", full)
    assert main(["train", CONFIG, "--workdir=x"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: out of memory; a smaller --config.microbatch")
    assert error.count("\n") == 1


@pytest.mark.slow
def test_devices_that_are_not_here_are_named():
    words = [sys.executable, "-m", "train", CONFIG, "--workdir=x"]
    environment = os.environ | {"JAX_PLATFORMS": "none_such"}
    found = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert found.returncode == 2
    assert found.stderr.splitlines()[-1].startswith("error: JAX_PLATFORMS must name devices")
    assert "Traceback" not in found.stderr and "got 'none_such'" in found.stderr
