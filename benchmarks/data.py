"""How many images a second come from a zip, a memory-mapped file and memory?

    python benchmarks/data.py [--archive x.zip] [--images 20000] [--batch 512] [--seconds 2]

Without --archive it makes one of random 32x32 RGB images (stored PNG, the field's format). Prints a
table: decoding all of it once, then batches from each kind of storage, all in one run; and the
share of the time that a loop with a step of 20 ms waits for its batch.
"""

import argparse
import pathlib
import tempfile
import time

import numpy as np

from edm_jax.data import archive, loader, pool, prepare, streaming

STEP = 0.02  # seconds


def rate(batches, batch_size, seconds):
    """Images per second of an iterator; the first batch is not counted."""
    next(batches)
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        next(batches)
        count += batch_size
    return count / (time.perf_counter() - start)


def plain(dataset, batch_size):
    """The batches of the loader, without a thread."""
    step = 0
    while True:
        yield loader.batch(dataset, 0, step, batch_size)
        step += 1


def show(what, images_per_second, base):
    print(f"{what:44} {images_per_second:12,.0f} {images_per_second / base:10.2f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--archive")
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--seconds", type=float, default=2.0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        path = args.archive
        if path is None:
            path = folder / "random.zip"
            pixels = np.random.default_rng(0).integers(0, 256, (args.images, 32, 32, 3), np.uint8)
            np.save(folder / "random.npy", pixels)
            start = time.perf_counter()
            prepare.prepare(folder / "random.npy", path)
            print(f"made {path.name}: {args.images / (time.perf_counter() - start):,.0f} images/s")
        print(f"{'':44} {'images/s':>12} {'ratio':>10}")
        base = None
        for workers in sorted({0, 1, 2, pool.cores()} - {1}):
            start = time.perf_counter()
            memory = archive.load(path, workers=workers)
            found = len(memory.images) / (time.perf_counter() - start)
            base = base or found
            show(f"decode once, {workers or 'no'} worker processes", found, base)
        mapped = archive.load(path, memory_limit=0, cache_dir=folder / "cache")
        lazy = streaming.load(path)
        show("batches from the zip, one thread", rate(plain(lazy, args.batch), args.batch, 5), base)
        workers = pool.cores()
        with streaming.stream(lazy, 0, args.batch, workers=workers) as steps:
            for _ in range(4 * workers):  # what was made while the workers started
                next(steps)
            found = rate(steps, args.batch, 5)
        show(f"batches from the zip, grain, {workers} workers", found, base)
        for name, dataset in [("a memory-mapped file", mapped), ("memory", memory)]:
            found = rate(plain(dataset, args.batch), args.batch, args.seconds)
            show(f"batches from {name}", found, base)
            with loader.stream(dataset, 0, args.batch) as steps:
                found = rate(steps, args.batch, args.seconds)
            show("  the same, through the thread", found, base)
        for name, dataset in [("a memory-mapped file", mapped), ("memory", memory)]:
            with loader.stream(dataset, 0, args.batch) as steps:
                next(steps)
                waited, start = steps.waited, time.perf_counter()
                for _ in range(100):
                    time.sleep(STEP)
                    next(steps)
                share = (steps.waited - waited) / (time.perf_counter() - start)
            print(f"waiting, step of {STEP * 1e3:.0f} ms, {name}: {share:.3%}")


if __name__ == "__main__":
    main()
