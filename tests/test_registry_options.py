"""Options are what signatures say, and what is given against them is an error that names it."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pytest

from edm_jax import options
from edm_jax.schedules import Schedule


def entry(
    sigmas,
    alpha=1.0,
    *,
    order: Literal[1, 2] = 2,
    rho: float | None = None,
    corrector: bool = True,
    schedule: Schedule | None = None,
    levels: Literal["a", "b"] | Sequence[float] = "a",
    variance: float,
):
    """Positional parameters are no options."""


def plain(sigmas):
    """Has none."""


KNOWN = options.options_of(entry)


def test_options_are_the_keyword_only_parameters():
    assert list(KNOWN) == ["order", "rho", "corrector", "schedule", "levels", "variance"]
    assert KNOWN["order"] == options.Option(int, 2, (1, 2))
    assert KNOWN["rho"] == options.Option(float, None)
    assert KNOWN["corrector"] == options.Option(bool, True)
    assert KNOWN["schedule"] == options.Option(Schedule, None)
    assert KNOWN["levels"] == options.Option(str, "a", ("a", "b"))
    assert KNOWN["variance"] == options.Option(float, None, required=True)
    assert options.options_of(plain) == {}


def test_what_is_given_is_checked():
    options.check_options("entry", KNOWN, {"variance": 1.0, "corrector": np.bool_(False)})
    for known, given, message in (
        (KNOWN, {"variance": 1, "rh": 7}, "an option of entry must be one of order, .*'rho'"),
        (KNOWN, {"variance": 1, "corrector": 0}, "corrector must be True or False, got 0"),
        (KNOWN, {"rho": 7.0}, "variance must be given for entry, got none"),
        ({}, {"rho": 7.0}, "entry must be given no options, got 'rho'"),
    ):
        with pytest.raises(ValueError, match=message):
            options.check_options("entry", known, given)


def test_entries_are_found_by_their_names():
    entries = {"heun": 1, "euler": 2}
    assert options.find("solver", "euler", entries) == 2
    with pytest.raises(ValueError, match="solver must be one of heun, euler, got 'oiler'; did you"):
        options.find("solver", "oiler", entries)
    for name in ("qqqq", 3, None, ["heun"]):
        with pytest.raises(ValueError, match="solver must be one of heun, euler, got") as caught:
            options.find("solver", name, entries)
        assert repr(name) in str(caught.value)
