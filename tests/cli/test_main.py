"""The console command: its help, and what the end of a program becomes in the terminal."""

import importlib
import re
import shlex
import subprocess
import sys

import jax
import pytest

from edm_jax import __version__
from edm_jax.cli import settings
from edm_jax.cli.main import COMMANDS, main, run
from edm_jax.cli.options import Parser

LESS = "a smaller --batch needs less; "
BATCHES = [("sample", LESS), ("posterior-variance", LESS), ("tune", LESS)]


def noted(error, note):
    error.add_note(note)
    return error


@pytest.mark.parametrize(
    "error, code, line",
    [
        (ValueError("x must\n be 1"), 2, "error: x must be 1"),
        (noted(OSError(28, "disk full"), "go on"), 2, "error: [Errno 28] disk full; go on"),
        (OSError(), 2, "error: OSError"),
        (noted(KeyboardInterrupt(), "go on"), 130, "interrupted; go on"),
        (ImportError("Install s3fs to access S3"), 2, "error: Install s3fs to access S3"),
        (MemoryError(), 1, "error: out of memory"),
    ],
)
def test_the_end_of_a_program_is_one_line(capsys, error, code, line):
    def program():
        raise error

    assert run(program) == code
    assert capsys.readouterr().err == f"{line}\n"


def test_a_missing_module_of_ours_is_not_hidden():
    def program():
        raise ImportError("no module", name="edm_jax.nothing")

    with pytest.raises(ImportError):
        run(program)


def test_help_version_and_unknown_commands(capsys):
    assert main([]) == 0
    assert "edm-jax COMMAND --help" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["--version"])
    assert __version__ in capsys.readouterr().out
    assert main(["trian"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def module_of(name):
    return importlib.import_module(f"edm_jax.cli.{name.translate(str.maketrans('- ', '__'))}")


def all_commands():
    """The names of all commands, those below others too."""
    for name in COMMANDS:
        below = getattr(module_of(name), "COMMANDS", None)
        yield from [name] if below is None else [f"{name} {command}" for command in below]


def parser_of(name):
    """A command's own parser."""
    module = module_of(name)
    if hasattr(module, "parser"):
        return module.parser()
    parser = Parser(prog=name, description=module.__doc__)
    module.add_arguments(parser)
    return parser


def options_of(name):
    """The option strings of a command, with their words."""
    parser = parser_of(name)
    return {flag: action.help for action in parser._actions for flag in action.option_strings}


@pytest.mark.parametrize("name", [name for name in all_commands() if " " in name])
def test_commands_below_others_are_found_and_told(name, capsys):
    above, _, command = name.partition(" ")
    assert main([above]) == 0
    assert f"  {command} " in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main([above, command, "--help"])
    assert f"edm-jax {name}" in capsys.readouterr().out
    assert main([above, "noting"]) == 2
    assert command in capsys.readouterr().err


def test_the_same_option_has_the_same_words_in_every_command():
    words = {}
    for name in all_commands():
        for flag, text in options_of(name).items():
            text = text and re.sub(r" \([^()]*\)$", "", text)  # the default is a command's own
            words.setdefault(flag, {}).setdefault(text, []).append(name)
    words = {flag: said for flag, said in words.items() if flag not in ("-h", "--help", "--out")}
    assert not {flag: said for flag, said in words.items() if len(said) > 1}
    assert list(words["--quiet"].values()) == [list(all_commands())]


def examples_of(name):
    """The examples at the end of a command's help: (command, what follows it), as words."""
    text = parser_of(name).format_help()
    examples = text[text.index("\nexamples:\n    edm-jax ") :].replace("\\\n", " ")
    for program, *words in map(shlex.split, examples.strip().splitlines()[1:]):
        assert program == "edm-jax"
        length = 2 if words[0] == "evaluate" else 1
        yield " ".join(words[:length]), words[length:]


@pytest.mark.parametrize("name", list(all_commands()))
def test_help_ends_with_examples_that_can_be_typed(name):
    found = list(examples_of(name))
    assert name in [command for command, _ in found]
    for command, words in found:
        _, rest = settings.take(words, "--config.")
        parser_of(command).parse_args(rest)
        if not re.search("--list-|--check |--help", f"{shlex.join(words)} "):
            usage = parser_of(command).format_usage().splitlines()[0]
            needed = re.findall(r"(?<!\[)--[a-z-]+", usage)
            assert set(needed) <= set(words)


@pytest.mark.parametrize("name, less", [("ema", ""), ("convert", ""), *BATCHES])
def test_too_little_memory_is_one_line_in_every_command(name, less, capsys, monkeypatch):
    module = module_of(name)

    def full(_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating\n9 bytes")

    monkeypatch.setattr(module, "run", full)
    assert main([name, *{"ema": ["a", "b", "--std=0.1"], "convert": ["a", "b"]}.get(name, [])]) == 1
    assert capsys.readouterr().err == (
        f"error: out of memory; {less}RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes\n"
    )


@pytest.mark.slow
def test_a_reader_that_goes_is_no_error():
    words = [sys.executable, "-m", "edm_jax", "sample", "--list-solvers"]
    program = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    program.stdout.close()
    assert program.wait() == 141 and program.stderr.read() == b""
    program.stderr.close()
