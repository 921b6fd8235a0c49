"""Steps of a small run whose numbers must not depend on where they run.

As a program it is one of several processes: same_steps.py PORT COUNT INDEX OUT.npz
"""

import functools
import sys

import jax
import numpy as np
from small_network import SmallNetwork

from edm_jax import augment, objectives, preconditioning
from edm_jax.data import archive, loader
from edm_jax.model import Model
from edm_jax.networks import ddpmpp
from edm_jax.runtime import engines, processes
from edm_jax.training import averages, optimizer, state
from edm_jax.training.examples import example_keys, prepare
from edm_jax.training.step import make_train_step

CONFIG = ddpmpp(resolution=8, channels=1, label_dim=10, augment_dim=9)
BATCH = 16


def gathered(tree, axis_name):
    if axis_name is None:
        return tree
    return jax.lax.all_gather(tree, axis_name, tiled=True)


def parts(engine: engines.Engine):
    """The draw, the training step around it, and what makes the first state."""
    settings = augment.edm(0.5)
    prepared = prepare(functools.partial(augment.augment, settings=settings))
    adam = optimizer.adam(optimizer.learning_rate(1e-3, 0, BATCH))
    model = Model(None, SmallNetwork(), preconditioning.edm(), CONFIG)
    objective = objectives.build("edm", model)
    average = averages.Averages(averages.by_halflife(BATCH, 100.0))
    step = make_train_step(
        model, objective, adam, average, prepared=prepared, axis_name=engine.axis_name
    )

    def draw(now, batch, keys):
        return objective.draw(now.objective, keys[:, :2], *prepared(batch, keys[:, 2:]))

    return draw, step, functools.partial(initial, model, objective, adam)


def three_steps(engine: engines.Engine) -> dict[str, np.ndarray]:
    """Losses, the last step's draws, and the last parameters, whole."""
    dataset = archive.load("digits")
    draw, train_step, make = parts(engine)

    def step(now, batch, key):
        keys = example_keys(key, now.step, batch["images"].shape[0], axis_name=engine.axis_name)
        examples = draw(now, batch, keys)._asdict()
        examples |= examples.pop("conditions")
        masks = jax.vmap(jax.random.bits)(examples["dropout_keys"])
        shown = {**examples, "dropout_keys": masks}
        now, metrics = train_step(now, batch, key)
        return now, (metrics["loss"], gathered(shown, engine.axis_name))

    run, now, key = engine.compile(step, jax.eval_shape(make)), engine.init(make), engine.key(3)
    batches = loader.stream(
        dataset, 0, BATCH, stop_step=3, place=engine.put,
        process_index=processes.process_index(), process_count=processes.process_count(),
    )  # fmt: skip
    seen = []
    with batches:
        for batch in batches:
            now, (loss, examples) = run(now, batch, key)
            seen.append(float(processes.to_host(loss)))
    examples = jax.tree.map(whole, examples)
    params = [np.asarray(a) for a in jax.tree.leaves(processes.to_host(now.params))]
    return {
        "loss": np.array(seen),
        "params": np.concatenate([a.reshape(-1) for a in params]),
        **{name: value for name, value in examples.items() if value is not None},
    }


def initial(model, objective, adam) -> state.TrainState:
    inputs = (np.zeros((1, *n), np.float32) for n in ((8, 8, 1), (), (10,), (9,)))
    return state.create(model.network.init(jax.random.key(1), *inputs)["params"], objective, adam)


def whole(a: jax.Array) -> np.ndarray:
    return processes.to_host(a if a.is_fully_replicated else processes.gather_local(a))


def main() -> None:
    port, count, index, out = sys.argv[1:]
    processes.initialize(f"localhost:{port}", int(count), int(index))
    found = {}
    for name in ("jit", "pmap"):
        arrays = three_steps(engines.engine(name))
        found |= {f"{name}/{key}": value for key, value in arrays.items()}
    if processes.is_main():
        np.savez(out, **found)


if __name__ == "__main__":
    main()
