"""Files of latents: .npy, float32 [8, H, W], four channels of means and four of deviations."""

import io

import numpy as np

CHANNELS = 8
SUFFIX = ".npy"


def read(data: bytes) -> np.ndarray:
    """Decodes the bytes of one file; nothing in it is executed.

    Args:
      data: a whole .npy file.

    Returns:
      float32 [H, W, 8].

    Raises:
      ValueError: damaged, or another array.
    """
    try:
        found = np.load(io.BytesIO(data), allow_pickle=False)
    except MemoryError:
        raise
    except Exception as error:  # headers fail in many ways
        raise ValueError(f"not a .npy file ({' '.join(str(error).split())})") from None
    wanted = f"float32 [{CHANNELS}, H, W], means and then deviations"
    if type(found) is not np.ndarray or found.dtype.kind != "f" or found.ndim != 3:
        raise ValueError(f"latents must be {wanted}, got {getattr(found, 'dtype', 'no array')} "
                         f"{list(np.shape(found))}")  # fmt: skip
    if len(found) != CHANNELS:
        raise ValueError(f"latents must be {wanted}, got {len(found)} channels")
    if not np.isfinite(found).all() or found[CHANNELS // 2 :].min(initial=0) < 0:
        raise ValueError("latents must be finite, and their deviations not negative")
    return np.ascontiguousarray(found.transpose(1, 2, 0), np.float32)


def write(moments: np.ndarray) -> bytes:
    """The bytes of a file of float32 [H, W, 8]."""
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(moments.transpose(2, 0, 1), np.float32))
    return buffer.getvalue()
