"""Where compiled programs are kept, and what decides it."""

import jax
import pytest

from edm_jax.cli.main import main
from edm_jax.runtime import compilation

NAMES = (
    "jax_enable_compilation_cache",
    "jax_compilation_cache_dir",
    "jax_persistent_cache_min_compile_time_secs",
)


@pytest.fixture(autouse=True)
def as_before(monkeypatch, tmp_path):
    before = {name: getattr(jax.config, name) for name in NAMES}
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv(compilation.FOLDER)
    monkeypatch.delenv(compilation.SECONDS)
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def now():
    return [getattr(jax.config, name) for name in NAMES]


def test_by_default_the_user_s_cache_has_a_folder_for_this_kind_of_machine(tmp_path):
    compilation.keep()
    (folder,) = (tmp_path / "home" / "edm_jax").iterdir()
    assert now() == [True, str(folder), 0.2]


def test_jax_s_own_variables_go_before_the_defaults(monkeypatch):
    monkeypatch.setenv(compilation.FOLDER, "elsewhere")
    monkeypatch.setenv(compilation.SECONDS, "9")
    before = now()
    compilation.keep()
    assert now() == before


def test_a_folder_or_none(tmp_path, monkeypatch):
    monkeypatch.setenv(compilation.FOLDER, "elsewhere")
    compilation.keep(str(tmp_path / "here"))
    assert now() == [True, str(tmp_path / "here"), 0.2] and (tmp_path / "here").is_dir()
    compilation.keep("off")
    assert not now()[0]


def test_a_home_that_cannot_be_written_to_keeps_nothing(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    before = now()[:2]
    compilation.keep()
    assert now()[:2] == before


@pytest.mark.parametrize("command", ["train", "sample"])
def test_the_commands_have_it(command, tmp_path, capsys):
    (tmp_path / "file").touch()
    words = {
        "train": [f"--config={tmp_path}/run.py", f"--workdir={tmp_path}/run"],
        "sample": [f"--checkpoint={tmp_path}", f"--out={tmp_path}/out"],
    }
    (tmp_path / "run.py").write_text(
        "from edm_jax.training.config import Config\nget_config = Config"
    )
    options = [*words[command], f"--compilation-cache={tmp_path}/file/below"]
    assert main([command, *options]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: --compilation-cache must be a folder that can be made, or off")
