"""Work on images in several processes.

Decoding a small image holds the interpreter lock: two threads are slower than one. The workers
here are plain child processes that run this very file, for two reasons. The `spawn` method of
`multiprocessing` imports the caller's `__main__` again, which repeats the work of any script that
has no `if __name__ == "__main__"`, and `fork` is unsafe once JAX runs its threads. And a worker
imports `edm_jax.data` without `edm_jax/__init__.py`, so without JAX: it starts in a fifth of a
second.
"""

import collections
import contextlib
import os
import pickle
import queue
import signal
import subprocess
import sys
import types
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # of the package edm_jax


def cores() -> int:
    """Counts the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def imap(
    opened: Callable[[], AbstractContextManager[Callable]], tasks: Iterable, workers: int
) -> Iterator:
    """Works on tasks in parallel; gives the results in the order of the tasks.

    Args:
      opened: makes a context manager whose value is the function from a task to its result; each
        worker enters it once, for what it keeps open. Picklable, of this package: a function, or
        a `functools.partial` of one.
      tasks: picklable; read as results are taken, a few ahead.
      workers: the number of processes. Fewer than 2: this process does the work.

    Yields:
      The results.

    Raises:
      Exception: what the work raised, at its place in the order.
      RuntimeError: a worker died.
    """
    if workers < 2:
        with opened() as work:
            yield from map(work, tasks)
        return
    with contextlib.ExitStack() as stack:
        idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        for _ in range(workers):
            idle.put(stack.enter_context(_Worker(opened)))
        threads = ThreadPoolExecutor(workers)
        stack.callback(threads.shutdown, cancel_futures=True)

        def run(task):
            worker = idle.get()
            try:
                return worker.ask(task)
            finally:
                idle.put(worker)

        waiting: collections.deque[Future] = collections.deque()
        for task in tasks:
            waiting.append(threads.submit(run, task))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


class _Worker:
    """A child process that answers one request after the other."""

    def __init__(self, opened: Callable[[], AbstractContextManager[Callable]]):
        command = [sys.executable, "-P", os.path.abspath(__file__)]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe)
        assert self._process.stdin is not None and self._process.stdout is not None
        self._requests, self._answers = self._process.stdin, self._process.stdout
        self._send(opened)

    def _send(self, value) -> None:
        pickle.dump(value, self._requests, pickle.HIGHEST_PROTOCOL)
        self._requests.flush()

    def ask(self, task) -> Any:
        try:
            self._send(task)
            result, error = pickle.load(self._answers)
        except (OSError, EOFError, pickle.UnpicklingError):
            message = "a process that works on images died (is there enough memory?)"
            raise RuntimeError(message) from None
        if error is not None:
            raise error
        return result

    def __enter__(self) -> "_Worker":
        return self

    def __exit__(self, *_) -> None:
        with contextlib.suppress(OSError):
            self._requests.close()
        self._answers.close()
        self._process.wait()


def _main() -> None:
    """Runs a worker: requests on stdin, answers on stdout, until stdin closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's affair
    package = types.ModuleType("edm_jax")  # stands for __init__.py, which would import JAX
    package.__path__ = [ROOT]
    sys.modules["edm_jax"] = package
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # nothing that a library prints gets among the answers
    with contextlib.suppress(EOFError, BrokenPipeError), pickle.load(requests)() as work:
        while True:
            task = pickle.load(requests)
            answer: tuple[Any, Exception | None]
            try:
                answer = work(task), None
            except Exception as error:
                answer = None, error
            pickle.dump(answer, answers, pickle.HIGHEST_PROTOCOL)
            answers.flush()


if __name__ == "__main__":
    _main()
