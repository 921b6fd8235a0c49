"""The one error of this room, and how it comes to name the file."""

import contextlib
import os
from collections.abc import Iterator

LONGEST = 1000  # characters of a message


class WeightsError(ValueError):
    """A file of weights that cannot be used: the message names the file and what is wrong."""


@contextlib.contextmanager
def naming(path: str | os.PathLike) -> Iterator[None]:
    """Puts the file's name before the message of any WeightsError or OSError raised inside.

    An ImportError is one too: some URLs need a package, gs:// for one gcsfs.

    Args:
      path: the file that is being read or written.

    Raises:
      WeightsError: in place of any of them.

    >>> with naming("x.pkl"):
    ...     raise WeightsError("truncated")
    Traceback (most recent call last):
    edm_jax.weights.errors.WeightsError: x.pkl: truncated
    """
    name = os.fspath(path)
    try:
        yield
    except WeightsError as error:
        text = _brief(error)
        if str(error).startswith(name):
            if text == str(error):
                raise
            raise WeightsError(text) from None
        raise WeightsError(f"{name}: {text}") from None
    except OSError as error:
        raise WeightsError(f"{name}: {error.strerror or error}") from error
    except ImportError as error:
        raise WeightsError(f"{name}: {error}") from error


def _brief(error: Exception) -> str:
    """One line, and no long one: what a damaged file holds may be quoted in it."""
    text = " ".join(str(error).split())
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
