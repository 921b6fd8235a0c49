"""The pool: order, errors, and what its processes leave alone."""

import functools
import os
import pickle
import subprocess
import sys
import textwrap
import time

import pytest

from edm_jax.data import decode, pool


@pytest.fixture
def folder(tmp_path):
    for i in range(40):
        (tmp_path / str(i)).write_bytes(bytes([i]) * i)
    return tmp_path


@pytest.mark.parametrize("workers", [0, 3])
def test_results_come_in_the_order_of_the_tasks(folder, workers):
    names = [str(i) for i in range(40)]
    results = list(pool.imap(functools.partial(decode.opened, folder), names, workers))
    assert results == [bytes([i]) * i for i in range(40)]


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_comes_at_its_place_and_ends_the_work(folder, workers, capfd):
    results = pool.imap(functools.partial(decode.opened, folder), ["3", "x", "4"], workers)
    assert next(results) == b"\3\3\3"
    with pytest.raises(FileNotFoundError):
        next(results)
    assert capfd.readouterr().err == ""


def test_leaving_early_ends_the_processes(folder, capfd):
    results = pool.imap(functools.partial(decode.opened, folder), map(str, range(40)), 2)
    next(results)
    began = time.perf_counter()
    results.close()
    assert time.perf_counter() - began < 5
    assert capfd.readouterr().err == ""


def test_a_dead_worker_is_an_error_not_a_wait(folder):
    with pytest.raises(RuntimeError, match="process that works on images died"):
        list(pool.imap(_Deadly(), ["a"] * 5, 2))


class _Deadly:
    """Unpickles to a call that ends the process."""

    def __reduce__(self):
        return os._exit, (3,)


@pytest.mark.slow
def test_a_worker_imports_no_jax_and_repeats_no_main(folder, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import functools, importlib, sys
            print("once")
            from edm_jax.data import decode, pool
            print(list(pool.imap(functools.partial(decode.opened, {str(folder)!r}), ["2"], 2)))
            """
        )
    )
    root = os.path.dirname(pool.ROOT)
    done = subprocess.run(
        [sys.executable, script],
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "once\n[b'\\x02\\x02']\n", done.stderr
    # The worker itself, asked for the names of its modules.
    requests = pickle.dumps(functools.partial(decode.opened, folder)) + pickle.dumps("2")
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-P", pool.__file__],
        input=requests,
        capture_output=True,
    )
    assert pickle.loads(done.stdout) == (b"\2\2", None)
    imported = {line.split("|")[-1].strip() for line in done.stderr.decode().splitlines()}
    assert "edm_jax.data.decode" in imported
    assert not {"jax", "jaxlib"} & imported
