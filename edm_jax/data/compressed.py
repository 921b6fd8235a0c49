"""Files that may be gzip, read without letting a small one become any amount of memory."""

import gzip
import pathlib
import zlib

# What data sets need, with room: pixels shrink to a third, the labels of MNIST to a half.
RATIO = 64
SPARE = 64 << 20  # bytes that any file may unpack to
_BLOCK = 1 << 20


def read(path: pathlib.Path) -> bytes:
    """Reads a file, unpacked if it is gzip.

    Args:
      path: the file; its first bytes decide.

    Returns:
      The content, at most RATIO times as long as the file, or SPARE.

    Raises:
      ValueError: a damaged gzip file, or one that unpacks to more.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        if file.read(2) != b"\x1f\x8b":
            file.seek(0)
            return file.read()
    limit = max(RATIO * size, SPARE)
    data = bytearray()
    try:
        with gzip.open(path) as file:
            while len(data) <= limit and (block := file.read(_BLOCK)):
                data += block
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: damaged gzip file ({error})") from None
    if len(data) > limit:
        raise ValueError(f"{path}: must unpack to at most {limit:,} bytes, got more")
    return bytes(data)
