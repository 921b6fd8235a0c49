"""Image files to uint8 arrays, in as many processes as there are cores.

Decoding a small image holds the interpreter lock, so threads do not help (two are slower than
one). The workers run this very file as a script: they import numpy and Pillow alone, start in a
fifth of a second, and leave the caller's `__main__` alone, which the `spawn` method of
`multiprocessing` would import again.
"""

import contextlib
import io
import os
import pathlib
import pickle
import queue
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from PIL import Image

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff")
CHUNK_PIXELS = 1 << 20  # pixels that a worker decodes between two answers


def to_array(image: Image.Image) -> np.ndarray:
    """Converts a picture of any mode to uint8 [H, W, 1] (gray) or [H, W, 3] (colour).

    Gray of 16 bits keeps its upper 8; transparency is laid over white; palettes and CMYK become
    RGB.

    >>> to_array(Image.new("RGBA", (2, 3), (255, 0, 0, 0))).shape
    (3, 2, 3)
    """
    if image.mode.startswith("I"):  # PNG and TIFF of 16 bits; Pillow's own conversion would clip
        return (np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)[..., None]
    if image.mode == "F":
        raise ValueError("images of floating-point values are not read")
    if "A" in image.getbands() or "transparency" in image.info:
        colour = image.mode not in ("LA", "La", "L", "1")
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image).convert("RGB" if colour else "L")
    if image.mode == "1":
        image = image.convert("L")
    if image.mode not in ("L", "RGB"):
        image = image.convert("RGB")
    array = np.asarray(image)
    return array[..., None] if array.ndim == 2 else array


@contextlib.contextmanager
def opened(path: str | os.PathLike) -> Iterator[Callable[[str], bytes]]:
    """Opens a zip file or a folder, and gives a function from a member's name to its bytes."""
    path = pathlib.Path(path)
    if path.is_dir():
        yield lambda name: (path / name).read_bytes()
    else:
        with zipfile.ZipFile(path) as file:
            yield file.read


def decode(data: bytes) -> np.ndarray:
    """Decodes the bytes of one image file.

    Args:
      data: a whole PNG, JPEG, WebP or other file that Pillow reads.

    Returns:
      uint8 [H, W, C] with C 1 or 3.

    Raises:
      ValueError: the file is damaged, truncated, or no image.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            return to_array(image)
    except Image.UnidentifiedImageError:
        raise ValueError("not an image file, or damaged at its beginning") from None
    except Exception as error:  # Pillow's readers raise many kinds on damaged files
        raise ValueError(f"cannot be decoded: {_one_line(error)}") from None


def decode_members(
    read: Callable[[str], bytes], names: Sequence[str], shape: tuple[int, int, int] | None = None
) -> np.ndarray:
    """Decodes several members of an archive, all of the same shape.

    Args:
      read: from a member's name to its bytes.
      names: [N] the members.
      shape: (H, W, C) that each must have; by default that of the first.

    Returns:
      uint8 [N, H, W, C].

    Raises:
      ValueError: names the member that is damaged or has another shape.
    """
    images = []
    for name in names:
        try:
            image = decode(read(name))
        except Exception as error:  # the zip reader raises many kinds on damaged archives
            raise ValueError(f"{name}: {_one_line(error)}") from None
        shape = shape or image.shape
        if image.shape != shape:
            raise ValueError(f"{name}: is {_size(image.shape)} where {_size(shape)} is expected")
        images.append(image)
    return np.stack(images)


def decode_all(
    path: str | os.PathLike,
    names: Sequence[str],
    shape: tuple[int, int, int],
    workers: int | None = None,
) -> Iterator[tuple[int, np.ndarray]]:
    """Decodes all members of an archive in parallel, in the order in which they get ready.

    Args:
      path: the zip file or folder.
      names: [N] the members.
      shape: (H, W, C) of every image.
      workers: the number of processes; by default one a core, none (this one does the work) when
        there is little to do.

    Yields:
      (the index of the first image, uint8 [n, H, W, C]), each image once.

    Raises:
      ValueError: as `decode_members`.
    """
    step = max(1, CHUNK_PIXELS // (shape[0] * shape[1]))
    starts = range(0, len(names), step)
    if workers is None:  # a process pays off from about 1 s of decoding
        pixels = len(names) * shape[0] * shape[1]
        workers = min(_cores(), int(pixels // (4 << 20)))
    if workers < 2:
        with opened(path) as read:
            for start in starts:
                yield start, decode_members(read, names[start : start + step], shape)
        return
    todo, done = queue.SimpleQueue(), queue.Queue(maxsize=2 * workers)
    stop = threading.Event()
    for start in starts:
        todo.put(start)

    def serve() -> None:
        """Feeds one worker process until nothing is left to do."""
        command = [sys.executable, "-P", os.path.abspath(__file__), os.fspath(path)]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe) as process:
            try:
                while not stop.is_set():
                    start = todo.get_nowait()
                    pickle.dump((names[start : start + step], shape), process.stdin)
                    process.stdin.flush()
                    done.put((start, pickle.load(process.stdout)))
            except queue.Empty:
                pass
            except (OSError, EOFError, pickle.UnpicklingError):
                done.put((0, RuntimeError("a process that decodes images died (out of memory?)")))
            finally:
                process.stdin.close()

    threads = [threading.Thread(target=serve, daemon=True) for _ in range(workers)]
    for thread in threads:
        thread.start()
    try:
        for _ in starts:
            start, answer = done.get()
            if isinstance(answer, Exception):
                raise answer
            yield start, answer
    finally:
        stop.set()
        while any(thread.is_alive() for thread in threads):
            try:  # a full queue would keep a thread from seeing the stop
                done.get(timeout=0.01)
            except queue.Empty:
                pass


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _size(shape: tuple[int, ...]) -> str:
    """Names a shape the way people do: width x height x channels."""
    return f"{shape[1]}x{shape[0]}x{shape[2]}"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _main() -> None:
    """Answers requests on stdin until it closes: (names, shape) -> an array or a ValueError."""
    with opened(sys.argv[1]) as read:
        while True:
            try:
                names, shape = pickle.load(sys.stdin.buffer)
            except EOFError:
                return
            try:
                answer = decode_members(read, names, shape)
            except ValueError as error:
                answer = error
            pickle.dump(answer, sys.stdout.buffer, protocol=pickle.HIGHEST_PROTOCOL)
            sys.stdout.buffer.flush()


if __name__ == "__main__":
    _main()
