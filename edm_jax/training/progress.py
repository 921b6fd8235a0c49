"""What a run says in the terminal: a header, a progress bar, one line an interval without one."""

import sys

from tqdm import tqdm


class Progress:
    """Messages on standard error: in a terminal with a progress bar, in a log line by line."""

    def __init__(self, quiet: bool, speaks: bool = True):
        """Says nothing but warnings where `quiet`, and nothing at all unless it `speaks`."""
        self.quiet, self._speaks = quiet or not speaks, speaks
        self._terminal = sys.stderr.isatty()
        self._bar = tqdm(disable=True)  # until there is a total to show

    def say(self, text: str) -> None:
        """Prints a line."""
        if not self.quiet:
            tqdm.write(text, file=sys.stderr)

    def warn(self, text: str) -> None:
        """Prints a line that must be read, also where the run is quiet."""
        if self._speaks:
            tqdm.write(f"warning: {text}", file=sys.stderr)

    def start(self, seen: int, total: int) -> None:
        """Begins the bar at `seen` of `total` images."""
        self._bar = tqdm(
            total=total,
            initial=seen,
            unit="img",
            unit_scale=True,
            disable=self.quiet or not self._terminal,
            dynamic_ncols=True,
        )
        self.doing("compiling")

    def doing(self, what: str) -> None:
        """Says what takes the time until the next step."""
        if self._terminal:
            self._bar.set_description(what)
        else:
            self.say(f"{what} …")

    def step(self, images: int) -> None:
        """Moves the bar by a step's images."""
        self._bar.set_description("training", refresh=False)
        self._bar.update(images)

    def record(self, record: dict[str, float]) -> None:
        """Shows an interval's numbers."""
        self._bar.set_postfix(loss=f"{record['loss']:.4f}", refresh=False)
        if not self._terminal:
            seconds = (self._bar.total - record["kimg"] * 1000) / record["images_per_second"]
            self.say(
                f"step {record['step']}  {record['kimg']:.1f} kimg  loss {record['loss']:.4f}  "
                f"{record['images_per_second']:.0f} img/s  {tqdm.format_interval(seconds)} left"
            )

    def stop(self) -> None:
        """Ends the bar."""
        self._bar.close()
