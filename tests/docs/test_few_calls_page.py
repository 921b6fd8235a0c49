"""The Python of docs/few-calls.md tunes a sampler, and its commands have the options it names."""

import pathlib
import re

from edm_jax.cli import sample, tune
from edm_jax.cli.options import Parser

PAGE = (pathlib.Path(__file__).parents[2] / "docs" / "few-calls.md").read_text()


def test_a_sampler_is_tuned(capsys):
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert "(128, 2)" in block and "noise, 5)" in block
    names: dict = {}
    exec(block.replace("(128, 2)", "(32, 2)").replace("noise, 5)", "noise, 2)"), names)
    assert "instead of" in capsys.readouterr().out
    assert names["tuned"].nfe == 2 and names["images"].shape == (32, 2)


def test_the_commands_have_their_options():
    for command, text in ((tune, "edm-jax tune"), (sample, "--steps 8 ")):
        lines = [line for line in PAGE.splitlines() if text in line and "--checkpoint" in line]
        assert lines
        for line in lines:
            parser = Parser()
            command.add_arguments(parser)
            words = line.partition("#")[0].split()
            parser.parse_args(words[words.index("--checkpoint") :])
