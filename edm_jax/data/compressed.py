"""What is in gzip and zip files, without letting a small one become any amount of memory."""

import gzip
import pathlib
import zipfile
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


def check_member(info: zipfile.ZipInfo, *, ratio: int = RATIO) -> None:
    """Refuses a member of a zip that unpacks to more than its bytes are good for.

    Args:
      info: of the member.
      ratio: how many times as long as its bytes it may become; SPARE bytes it may in any case.

    Raises:
      ValueError: it is larger, or packed in a way whose reading cannot be stopped on its way.
    """
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(
            f"{info.filename}: must be stored or deflated, got method {info.compress_type} of zip"
        )
    limit = max(ratio * info.compress_size, SPARE)
    if info.file_size > limit:
        raise ValueError(
            f"{info.filename}: must unpack to at most {limit:,} bytes, got {info.file_size:,}"
        )


def read_member(file: zipfile.ZipFile, name: str) -> bytes:
    """Reads a member of a zip.

    Args:
      file: the open zip.
      name: of the member; of two the later one.

    Returns:
      Its content, at most RATIO times as long as what is stored, or SPARE.

    Raises:
      KeyError: there is none of that name.
      ValueError: it would unpack to more.
      zipfile.BadZipFile: it is damaged, or longer than the zip's directory says.
    """
    info = file.getinfo(name)
    check_member(info)
    with file.open(info) as member:  # `file.read` unpacks whatever is there, and then cuts it
        return member.read(info.file_size)
