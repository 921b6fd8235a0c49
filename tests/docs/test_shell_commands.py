"""docs/commands.py: it finds the pages' shell commands, and each is one that its program takes."""

import importlib
import importlib.util
import pathlib
import re
import shlex

import pytest

from edm_jax.cli import settings, train
from edm_jax.cli.options import Parser

ROOT = pathlib.Path(__file__).parents[2]
SPEC = importlib.util.spec_from_file_location("docs_commands", ROOT / "docs" / "commands.py")
script = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(script)
PAGES = {str(page.relative_to(ROOT)): page for page in script.pages() if script.blocks(page)}


def commands(page):
    return [words for block in script.blocks(page) for words in script.commands(block)]


ALL = [words for page in PAGES.values() for words in commands(page)]


def test_commands_are_found_in_what_bash_adds():
    block = """python - <<'END'
edm-jax = "no command"
END
export A=1
for n in a b; do edm-jax dataset --source $n.npz --dest $n.zip; done
A=2 python train.py --config x \\
    --workdir y &   # edm-jax is not run here
"""
    assert [shlex.join(words) for words in script.commands(block)] == [
        "python -",
        "edm-jax dataset --source '$n.npz' --dest '$n.zip'",
        "python train.py --config x --workdir y",
    ]


def test_no_command_is_overlooked():
    lines = [
        line
        for page in PAGES.values()
        for block in script.blocks(page)
        for line in block.splitlines()
    ]
    begun = [line for line in lines if re.match(r"(edm-jax|python|make|pip|srun|gcloud)\b", line)]
    assert len(begun) > 80 and len(ALL) >= len(begun)


@pytest.mark.parametrize("table", ["LEFT_OUT", "SMALLER"])
def test_every_pattern_is_of_use(table):
    lines = [f"{shlex.join(words)} " for words in ALL]
    for pattern in getattr(script, table):
        assert any(re.search(pattern, line) for line in lines), pattern


@pytest.mark.parametrize("page", PAGES)
def test_every_command_is_one_that_its_program_takes(page):
    for words in commands(PAGES[page]):
        for given in [words] if script.why_not(words) else [words, script.smaller(words)]:
            take(given)


def take(words):
    """Parses a command as its program does, but for shell variables and data that are not here."""
    words = [word.replace("$i", "0") for word in words]
    if words[:2] == ["python", "train.py"]:
        words = ["edm-jax", "train", *words[2:]]
    if words[:2] == ["python", "sample.py"]:
        words = ["edm-jax", "sample", *words[2:]]
    if words[0] != "edm-jax" or len(words) == 1:
        return
    name, rest = words[1], words[2:]
    if name == "train":
        config = rest[rest.index("--config") + 1]
        train.parse(
            [word.replace(config, "digits") if "own_data" in config else word for word in rest]
        )
        return
    if name == "evaluate":
        name, rest = f"{name} {rest[0]}", rest[1:]
    parser = Parser()
    module = importlib.import_module(f"edm_jax.cli.{re.sub('[ -]', '_', name)}")
    module.add_arguments(parser)
    parser.parse_args(rest)


def test_a_command_writes_what_it_was_told_to():
    words = shlex.split("edm-jax evaluate bpd --data x.zip --out bpd.json --plot a/levels.png")
    assert script.told_to_write(words) == ["bpd.json", "a/levels.png"]


def test_a_setting_of_a_small_run_holds_over_the_page_s():
    words = shlex.split("python train.py --config configs/digits.py --config.duration_kimg=40")
    changes, _ = settings.take(script.smaller(words), "--config.")
    assert dict(changes)["duration_kimg"] == "0.128"
