"""Progress: a bar in a terminal, lines in a log, nothing where it is quiet."""

import io

import pytest

from edm_jax.runtime import progress
from edm_jax.runtime.progress import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def work(clock, **settings):
    with Progress(total=4, initial=1, desc="reading x", **settings) as report:
        for seconds in (1.0, progress.EVERY + 1, 1.0):
            clock[0] += seconds
            report.update(1)


def test_a_log_has_lines_now_and_then_and_at_the_end(clock, capsys):
    work(clock)
    assert capsys.readouterr().err == "reading x …\n3/4 img\n4/4 img\n"
    work(clock, counts=False)
    assert capsys.readouterr().err == "reading x …\n"
    work(clock, quiet=True)
    assert capsys.readouterr().err == ""


def test_a_terminal_has_a_bar(clock, monkeypatch):
    monkeypatch.setattr("sys.stderr", terminal := Terminal())
    work(clock)
    said = terminal.getvalue()
    assert "\r" in said and "reading x:" in said and "4/4" in said and "4/4 img\n" not in said
    monkeypatch.setattr("sys.stderr", terminal := Terminal())
    work(clock, quiet=True)
    assert terminal.getvalue() == ""


def test_things_are_counted_when_they_are_done(clock, capsys):
    with Progress(total=2, unit="batches") as report:
        for index, _ in enumerate(report.counted("ab")):
            clock[0] += 2 * progress.EVERY
            report.say(f"at {index}")
    assert capsys.readouterr().err == "at 0\n1/2 batches\nat 1\n2/2 batches\n"
