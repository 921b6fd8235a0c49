"""Data sets: reading archives, batches as a function of the step, preparation."""

from edm_jax.data.archive import Dataset, load
from edm_jax.data.loader import Stream, batch, stream

__all__ = ["Dataset", "Stream", "batch", "load", "stream"]
