"""Compiled programs, kept on the disk: a command that ran before begins without compiling."""

import hashlib
import os
import pathlib
import platform

from edm_jax.runtime import files

FOLDER = "JAX_COMPILATION_CACHE_DIR"
SECONDS = "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"
OFF = "off"


def keep(folder: str | None = None) -> None:
    """Lets this process keep the programs that it compiles, and take those that others kept.

    JAX's own environment variables go before the default folder and the least compile time.

    Args:
      folder: where; "off": nowhere; None: a folder of this kind of machine in the user's cache.

    Raises:
      ValueError: the folder cannot be made.
    """
    import jax

    if folder == OFF:
        jax.config.update("jax_enable_compilation_cache", False)
        return
    if SECONDS not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
    if folder is None and FOLDER in os.environ:
        return
    place = default() if folder is None else pathlib.Path(folder)
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if folder is None:  # a home that cannot be written to: nothing is kept
            return
        raise ValueError(
            f"--compilation-cache must be a folder that can be made, or off, got {folder!r}"
        ) from error
    jax.config.update("jax_compilation_cache_dir", str(place))


def default() -> pathlib.Path:
    """The folder of this kind of machine in the user's cache.

    Programs for a CPU use the instructions that it has, and homes are shared by many.
    """
    features = platform.machine()
    known = pathlib.Path("/proc/cpuinfo")
    if known.exists():
        lines = known.read_text().splitlines()
        features += next((line for line in lines if line.startswith(("flags", "Features"))), "")
    machine = hashlib.sha256(features.encode()).hexdigest()[:12]
    return files.user_cache() / machine
