"""Settings that are allowed, and probably not meant."""

from collections.abc import Iterator

from edm_jax.training.config import Config


def doubts(config: Config) -> Iterator[str]:
    """Lines for a reader who starts a run.

    Args:
      config: the run's settings.

    Yields:
      What is doubtful, with the settings' names and values.
    """
    if config.rampup_kimg > config.duration_kimg:
        rate = config.learning_rate * config.duration_kimg / config.rampup_kimg
        yield (
            f"the learning rate ends at {rate:.2g} and not at {config.learning_rate:g}: "
            f"rampup_kimg={config.rampup_kimg:g} is more than "
            f"duration_kimg={config.duration_kimg:g}"
        )
