"""The train command: settings, help, and one clear line for what is wrong."""

import pytest

from edm_jax.cli.main import main
from edm_jax.cli.train import parse

CONFIG = "--config=configs/digits.py"


def test_settings_override_the_file():
    values = parse(
        [CONFIG, "--config.batch_size=64", "--config.model.channel_mult=(1,1)", "--workdir=x"]
    )
    assert values.config.batch_size == 64
    assert values.config.model.channel_mult == (1, 1)
    assert values.config.model.channels == 1


def test_settings_without_a_value_and_lists_can_be_given():
    values = parse(
        [CONFIG, "--config.loss.weight=min_snr", "--config.ema_power=(0.05,0.1)",
         "--config.loss.importance=True", "--init=other.pkl", "--workdir=x"]
    )  # fmt: skip
    assert values.config.loss.weight == "min_snr" and values.config.loss.importance is True
    assert values.config.ema_power == (0.05, 0.1) and values.init == "other.pkl"


def test_help_lists_every_setting_with_its_value(capsys):
    assert main(["train", CONFIG, "--help"]) == 0
    text = capsys.readouterr().out
    assert "--config.batch_size=" in text and "images per step over all devices" in text
    assert "--config.model.model_channels=" in text and "--config.data.archive=digits" in text


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([CONFIG, "--config.batch_siz=8"], "did you mean --config.batch_size?"),
        ([CONFIG, "--config.model.chanels=8"], "did you mean --config.model.channels?"),
        ([CONFIG, "--config.batch_size=many"], "batch_size=many"),
        ([CONFIG, "--wrkdir=x"], "workdir"),
        ([CONFIG], "--workdir is missing"),
        (["--workdir=x"], "--config is missing"),
        (["--config=configs/none.py", "--workdir=x"], "none.py"),
        ([CONFIG, "--workdir=x", "extra"], "unexpected argument 'extra'"),
        ([CONFIG, "--workdir=/proc/none/x"], "/proc/none"),
        ([CONFIG, "--workdir=x", "--config.data.archive=none.zip"], "none.zip"),
    ],
)
def test_bad_input_is_one_line_and_code_2(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    import pathlib

    root = pathlib.Path(__file__).parents[2]
    arguments = [a.replace("configs/", f"{root}/configs/") for a in arguments]
    assert main(["train", *arguments]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error and error.startswith("error: ") and "\n" not in error
