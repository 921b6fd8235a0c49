"""The Python of docs/few-calls.md tunes a sampler."""

import pathlib
import re

PAGE = (pathlib.Path(__file__).parents[2] / "docs" / "few-calls.md").read_text()


def test_a_sampler_is_tuned(capsys):
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert "(128, 2)" in block and "noise, 5)" in block
    names: dict = {}
    exec(block.replace("(128, 2)", "(32, 2)").replace("noise, 5)", "noise, 2)"), names)
    assert "instead of" in capsys.readouterr().out
    assert names["tuned"].nfe == 2 and names["images"].shape == (32, 2)
