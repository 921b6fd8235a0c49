"""What the timing scripts share: calls that take turns, ratios within a turn, and their report.

A ratio is taken within a round, in which every call runs once, so that what else the machine does
falls on both sides of it. The median of the rounds is what is printed, with half the distance
between their quartiles; processor time, of all threads, counts no waiting for another program.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

BUSY = 0.1  # half the quartiles' distance over the median from which a machine is called busy
SEEDS = {"weights": 0, "inputs": 1}


class Times(NamedTuple):
    """What a call took in each round, in seconds: on the clock, and of all processors."""

    wall: list[float]
    cpu: list[float]

    @property
    def median(self) -> float:
        """Of the clock's."""
        return statistics.median(self.wall)


def parser(about: str) -> argparse.ArgumentParser:
    """The options that every such script has; `about` is its docstring."""
    made = argparse.ArgumentParser(description=about.splitlines()[0])
    made.add_argument("--small", action="store_true", help="small cases, in minutes")
    made.add_argument("--repeats", type=int, help="rounds that count (9; 3 with --small)")
    made.add_argument("--json", metavar="FILE", help="also add each case to it, as a line of JSON")
    return made


def once(call: Callable[[], Any]) -> tuple[float, float]:
    """Seconds of one call until its result is there, and of all processors."""
    wall, cpu = time.perf_counter(), time.process_time()
    jax.block_until_ready(call())
    return time.perf_counter() - wall, time.process_time() - cpu


def in_turn(
    calls: Mapping[Any, Callable[[], Any]], repeats: int, *, first: int = 1
) -> dict[Any, Times]:
    """Times of calls that take turns, every other round in the opposite order.

    Args:
      calls: by name.
      repeats: rounds that count.
      first: rounds that do not: they compile.
    """
    found = {name: Times([], []) for name in calls}
    for turn in range(-first, repeats):
        for name in list(calls)[:: 1 if turn % 2 else -1]:
            wall, cpu = once(calls[name])
            if turn >= 0:
                found[name].wall.append(wall)
                found[name].cpu.append(cpu)
    return found


def ratio(times: Times, base: Times) -> tuple[float, float]:
    """The median over the rounds of one over the other, and half the quartiles' distance."""
    low, middle, high = np.percentile(np.divide(times.wall, base.wall), (25, 50, 75))
    return float(middle), float(high - low) / 2


class Report:
    """Tables on the standard output, each case also as a line of JSON."""

    def __init__(self, benchmark: str, options: argparse.Namespace):
        """Says what is measured and where; options: parsed by `parser`."""
        self.repeats = options.repeats or (3 if options.small else 9)
        self._file, self._worst = options.json, 0.0
        self._about = {
            "benchmark": benchmark,
            "small": options.small,
            "jax": jax.__version__,
            "device": jax.devices()[0].device_kind,
            "seeds": SEEDS,
        }
        load = f", load {os.getloadavg()[0]:.1f} of {os.cpu_count()}"
        print(f"{benchmark}: jax {jax.__version__}, {self._about['device']}{load}")

    def table(self, title: str, *extra: str) -> None:
        """Begins a table; extra: names of columns beside the times."""
        self._title = title
        columns = "".join(f"{name:>14}" for name in extra)
        print(f"\n{title:40}{'ms':>10}{'ratio':>8}{'±':>7}{'cpu':>7}{columns}")

    def row(self, name: str, times: Times, base: Times, **extra: float) -> None:
        """A case beside the one that it is compared with, and further numbers of it."""
        middle, spread = ratio(times, base)
        self._worst = max(self._worst, spread / middle)
        cpu = statistics.median(times.cpu) / max(statistics.median(base.cpu), 1e-9)
        cells = f"{1e3 * times.median:10.2f}{middle:8.3f}{spread:7.3f}{cpu:7.2f}"
        print(f"{name:40}{cells}{_cells(extra)}", flush=True)
        self._line(name, seconds=times.wall, cpu_seconds=times.cpu, ratio=middle, **extra)

    def numbers(self, title: str, *columns: str) -> None:
        """Begins a table of numbers that are no times."""
        self._title = title
        print(f"\n{title:40}" + "".join(f"{name:>14}" for name in columns))

    def number(self, name: str, **values: float) -> None:
        """A row of it."""
        print(f"{name:40}{_cells(values)}", flush=True)
        self._line(name, **values)

    def end(self) -> None:
        """Warns where the rounds say that the machine was busy."""
        if self._worst > BUSY:
            print(
                f"\nwarning: ratios of single rounds differ by ±{self._worst:.0%} of their median: "
                "other work is on this machine; look at `cpu`, or run it again"
            )

    def _line(self, name: str, **values: Any) -> None:
        if self._file:
            with open(self._file, "a") as file:
                print(
                    json.dumps({**self._about, "table": self._title, "case": name, **values}),
                    file=file,
                )


def _cells(values: Mapping[str, float]) -> str:
    return "".join(f"{value:14,.4g}" for value in values.values())
