"""The one error of this room, and how it comes to name the file."""

import contextlib
import os
from collections.abc import Iterator


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
        if str(error).startswith(name):
            raise
        raise WeightsError(f"{name}: {error}") from None
    except OSError as error:
        raise WeightsError(f"{name}: {error.strerror or error}") from error
    except ImportError as error:
        raise WeightsError(f"{name}: {error}") from error
