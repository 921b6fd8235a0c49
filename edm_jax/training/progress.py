"""What a run says in the terminal: a header, a progress bar, one line an interval without one."""

import functools
import sys

from tqdm import tqdm

from edm_jax.runtime import progress


class Progress:
    """Messages on standard error: in a terminal with a progress bar, in a log line by line."""

    def __init__(self, quiet: bool, speaks: bool = True):
        """Says nothing but warnings where `quiet`, and nothing at all unless it `speaks`."""
        self._quiet, self._speaks = quiet or not speaks, speaks
        self._total, self._at = 0, ""
        # What makes a bar of its own for reading the data.
        self.bar = functools.partial(progress.Progress, quiet=self._quiet)
        self._bar = progress.Progress(total=0, quiet=True)  # until there is a total to show

    def say(self, text: str) -> None:
        """Prints a line."""
        if not self._quiet:
            tqdm.write(text, file=sys.stderr)

    def warn(self, text: str) -> None:
        """Prints a line that must be read, also where the run is quiet."""
        if self._speaks:
            tqdm.write(f"warning: {text}", file=sys.stderr)

    def start(self, seen: int, total: int) -> None:
        """Begins the bar at `seen` of `total` images."""
        self._total = total
        self._bar = self.bar(total=total, initial=seen, counts=False)  # `record` has the lines
        self.doing("compiling")

    def doing(self, what: str) -> None:
        """Says what takes the time until the next step."""
        self._at = what
        self._bar.at(what)

    def step(self, images: int) -> None:
        """Moves the bar by a step's images."""
        if self._at != "training":
            self.doing("training")
        self._bar.update(images)

    def record(self, record: dict[str, float]) -> None:
        """Shows an interval's numbers."""
        if sys.stderr.isatty():
            self._bar.note(f"loss={record['loss']:.4f}")
            return
        seconds = (self._total - record["kimg"] * 1000) / record["images_per_second"]
        self.say(
            f"step {record['step']}  {record['kimg']:.1f} kimg  loss {record['loss']:.4f}  "
            f"{record['images_per_second']:.0f} img/s  {tqdm.format_interval(seconds)} left"
        )

    def stop(self) -> None:
        """Ends the bar."""
        self._bar.close()
