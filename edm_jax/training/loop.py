"""The training loop, read from top to bottom."""

import contextlib
import json
import re
import signal
import time
from typing import Any

import jax
import numpy as np
from etils import epath

from edm_jax.data import loader, storage
from edm_jax.model import Model, parameter_count
from edm_jax.runtime import engines, files, pictures, processes
from edm_jax.training import (
    averages,
    best,
    bins,
    checkpoint,
    metrics,
    posthoc,
    resume,
    samples,
    scoring,
    warm_start,
)
from edm_jax.training.assemble import assemble
from edm_jax.training.calls import grouped, in_one_call
from edm_jax.training.config import Config, check
from edm_jax.training.doubts import doubts
from edm_jax.training.interrupt import Interrupt
from edm_jax.training.progress import Progress
from edm_jax.training.state import TrainState
from edm_jax.weights.checkpoint import Checkpoints

CONFIG = "config.json"  # what the checkpoints know of the run too
_GRID = re.compile(r"samples-(\d+)\.png")
_STAYS = "checkpoints from before it stay"


class NonFiniteLossError(RuntimeError):
    """The loss of a step was NaN or infinite."""


def train(
    config: Config, workdir: str, *, quiet: bool = False, from_step: int | None = None
) -> signal.Signals | None:
    """Trains until `config.duration_kimg`, going on from the newest checkpoint in `workdir`.

    Args:
      config: the run's settings.
      workdir: the run's folder; made if it is not there.
      quiet: no progress bar and no messages but warnings.
      from_step: the checkpoint to go on from, 0 for the beginning; later ones are moved to
        `set_aside/`. None is the newest that is whole.

    Returns:
      The signal that stopped the run early, after a checkpoint was written; None at the end.

    Raises:
      ValueError: a setting that cannot be, a data set that does not fit, another run's folder.
      NonFiniteLossError: names the step; what was saved before stays, nothing else is written.
      OSError: the folder cannot be written, or another process trains in it.
    """
    report = Progress(quiet, speaks=processes.is_main())
    engine = engines.engine(config.engine, fsdp=config.fsdp)
    check(config, engine.devices)
    folder = files.made(workdir)

    # Data, model, step.
    data = storage.load(
        config.data.archive,
        kind=config.data.loader,
        labels=config.data.conditional,
        cache_dir=config.data.cache_dir,
        workers=config.data.workers,
        progress=report.bar,
    )
    dataset = data.dataset
    parts = assemble(
        config,
        engine,
        resolution=dataset.resolution,
        channels=dataset.channels,
        label_dim=dataset.label_dim,
        class_names=dataset.classes,
    )
    model, batch_size, total = parts.model, config.batch_size, config.total_steps
    abstract = jax.eval_shape(parts.initial)
    train_steps = engine.compile(in_one_call(parts.step), abstract)
    run_key = engine.key(config.seed)
    about = checkpoint.record(config, model.config, dataset)
    measure = scoring.Measure(config, model) if config.eval_kimg else None

    with contextlib.ExitStack() as stack:
        if processes.is_main() and files.is_local(folder):
            stack.enter_context(files.locked(folder / files.LOCK, wait=False))
        # State: fresh, or a checkpoint's.
        checkpoints = stack.enter_context(Checkpoints(workdir, keep=config.keep_checkpoints))
        start = checkpoint.starting_step(checkpoints, from_step, report.warn)
        if start:
            saved = checkpoints.record(start)
            resume.check_same_run(saved, config, model.config, about["data"])
            if changed := resume.changes(saved, config):
                report.say(f"changed since step {start}: {', '.join(changed)}")
            shardings = engine.shardings(abstract)
            placed = checkpoint.restore(checkpoints, start, abstract, shardings)
            current = engine.from_global(placed)
        else:
            current = engine.init(parts.initial)
            if config.init:
                current, note = warm_start.start_from(current, config.init)
                report.say(note)
        report.say(
            f"{len(dataset.images):,} images of {dataset.name}, "
            f"{parameter_count(abstract.params):,} parameters, {processes.device_summary()}, "
            f"engine {engine.name}" + (f"; going on from step {start}" if start else "")
        )
        for doubt in doubts(config):
            report.say(doubt)
        if start >= total:
            report.say(_done(workdir, start, model))
            return None

        if processes.is_main():
            _rewind(folder, start, report)
            files.write(folder / CONFIG, json.dumps(about, indent=1) + "\n")
        log_every = config.every(config.log_kimg)
        sample_every = config.every(config.sample_kimg)
        eval_every = config.every(config.eval_kimg)
        save_every = config.every(config.checkpoint_kimg)
        snapshot_every = config.every(config.ema_snapshot_kimg)
        due = lambda step, every: every > 0 and (step == total or step % every == 0)
        interrupt = stack.enter_context(Interrupt())
        log = stack.enter_context(metrics.Metrics(folder, start, silent=not processes.is_main()))
        batches = stack.enter_context(
            data.stream(
                config.seed,
                batch_size,
                start_step=start,
                stop_step=total,
                process_index=processes.process_index(),
                process_count=processes.process_count(),
                xflip=config.data.xflip,
                place=engine.put,
                ahead=config.steps_per_call + 1,
            )
        )
        keeps = best.Best(folder, by=measure.best_by) if measure and processes.is_main() else None
        report.start(start * batch_size, total * batch_size)
        stack.callback(report.stop)
        pending: list[tuple[int, Any]] = []
        watch = _Stopwatch(batches)

        for step, taken in grouped(batches, start, config.steps_per_call):
            with jax.transfer_guard("disallow"):
                current, numbers = train_steps(current, taken, run_key)
            pending.append((step, numbers))
            report.step(len(taken) * batch_size)
            # Processes agree on a call to stop after, one after the other.
            last = interrupt.after(-(-step // config.steps_per_call)) or step == total
            draw, keep = due(step, sample_every), due(step, snapshot_every)
            save, score = last or due(step, save_every), due(step, eval_every)

            if save or draw or keep or score or due(step, log_every):
                record = _fetch(pending, config, parts.schedule)
                record |= watch.lap(sum(len(n["loss"]) for _, n in pending) * batch_size)
                pending.clear()
                log.write(record)
                report.record(record)
            if (save or draw or keep or score) and not processes.all_finite(current):
                raise NonFiniteLossError(
                    f"the state must be finite after step {step}, got NaN or infinity; {_STAYS}"
                )
            if draw:
                report.doing("drawing samples")
                averaged = processes.gather_local(current.ema)
                if processes.is_main():
                    image = samples.grid(model.replace(params=averaged), config)
                    pictures.write(image, folder / f"samples-{step:08d}.png")
                watch.restart()
            if score and measure:
                report.doing("measuring")
                averaged = processes.gather_local(current.ema)
                if keeps:
                    averaged_model = model.replace(params=averaged)
                    if found := measure(averaged_model):
                        log.write({"step": step, "kimg": step * batch_size / 1e3, **found})
                        keeps.keep(averaged_model, step, found)
                    else:
                        report.warn(f"the scores of step {step} are not finite: none is written")
                watch.restart()
            if keep:
                for name, tree in _to_choose_from(current, config).items():
                    averaged = processes.gather_local(tree)
                    if processes.is_main():
                        posthoc.save(model.replace(params=averaged), folder, name, step)
                watch.restart()
            if save:
                checkpoint.save(checkpoints, step, engine.to_global(current), about)
            if last:
                break
        report.doing("saving")
        checkpoints.wait()
    if interrupt.signal is not None and step < total:
        report.say(
            f"stopped by {interrupt.signal.name} after step {step}; "
            "the same command goes on from there"
        )
        return interrupt.signal
    report.say(_done(workdir, total, model))
    return None


class _Stopwatch:
    """Speed, and the share of the time that the loop waited for data."""

    def __init__(self, batches: loader.Stream):
        self._batches = batches
        self.restart()

    def restart(self) -> None:
        self._began, self._waited = time.perf_counter(), self._batches.waited

    def lap(self, images: int) -> dict[str, float]:
        seconds = time.perf_counter() - self._began
        waited = self._batches.waited - self._waited
        self.restart()
        return {
            "images_per_second": round(images / seconds, 1),
            "data_wait_share": round(waited / seconds, 4),
        }


def _fetch(pending: list[tuple[int, Any]], config: Config, schedule) -> dict[str, Any]:
    # One wait for the device per interval; the steps themselves never wait for the host.
    values: list[tuple[int, dict[str, Any]]] = []
    for last, numbers in pending:
        numbers = processes.to_host(numbers)
        first = last - len(numbers["loss"]) + 1
        each = ({name: a[i] for name, a in numbers.items()} for i in range(last - first + 1))
        values.extend(enumerate(each, first))
    for step, numbers in values:
        if not np.isfinite(numbers["loss"]):
            loss = numbers["loss"]
            raise NonFiniteLossError(
                f"the loss of step {step} must be finite, got {loss}; {_STAYS}"
            )
    step = values[-1][0]
    return {
        "step": step,
        "kimg": step * config.batch_size / 1e3,
        **{
            name: float(np.mean([n[name] for _, n in values]))
            for name, first in values[0][1].items()
            if not first.ndim
        },
        "learning_rate": float(jax.jit(schedule)(step - 1)),
        **bins.merge([numbers for _, numbers in values]),
    }


def _to_choose_from(current: TrainState, config: Config) -> dict[str, Any]:
    """The averages that others are made of afterwards, by name."""
    names = averages.shares(config.batch_size, powers=config.ema_power)
    trees = {name: current.averages[name] for name in names}
    if config.ema_std:
        trees[averages.power_name(config.ema_std)] = current.ema
    return trees


def _done(workdir: str, steps: int, model: Model) -> str:
    use = f"to draw from it: edm-jax sample --checkpoint {workdir} --seeds 0-63 --out samples"
    if model.config.classifies:
        use = f"to guide by it: edm-jax sample --classifier {workdir} --guidance 2 …"
    return f"{workdir} is complete, {steps} steps; {use}"


def _rewind(folder: epath.Path, start: int, report: Progress) -> None:
    """Removes what an earlier attempt left unfinished, drew or averaged after the step `start`."""
    for unfinished in (folder, folder / posthoc.FOLDER, folder / best.FOLDER):
        files.remove_unfinished(unfinished)
    grids = [(_GRID.fullmatch(path.name), path) for path in folder.glob("samples-*.png")]
    late = [path for match, path in grids if match and int(match[1]) > start]
    for path in late:
        path.unlink()
    if removed := len(late) + posthoc.rewind(folder, start) + best.rewind(folder, start):
        report.say(f"removed {removed} grids and models of steps after {start}")
