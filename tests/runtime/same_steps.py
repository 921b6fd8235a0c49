"""Steps of a small run whose numbers must not depend on where they run.

As a program it is one of several processes: same_steps.py PORT COUNT INDEX OUT.npz
"""

import functools
import sys

import jax
import jax.numpy as jnp
import numpy as np
from small_network import SmallNetwork

from edm_jax import augment, objectives, preconditioning
from edm_jax.data import archive, loader
from edm_jax.model import Model
from edm_jax.networks import ddpmpp
from edm_jax.runtime import engines, processes
from edm_jax.training import averages, optimizer, state
from edm_jax.training.examples import prepare
from edm_jax.training.step import make_train_step

# Draws of every kind, without the resampling, which takes as long to compile as all the rest.
AUGMENT = augment.Settings(0.5, xflip=1e8, yflip=1, rotate_int=1, brightness=1)
ENTRIES = augment.label_dim(AUGMENT)
CONFIG = ddpmpp(resolution=8, channels=1, label_dim=10, augment_dim=ENTRIES)
BATCH = 16


def shown(examples):
    """All that a step draws and is given, by name."""
    arrays = examples._asdict()
    arrays |= arrays.pop("conditions")
    arrays["dropout_keys"] = jax.random.key_data(arrays["dropout_keys"])
    return {name: value for name, value in arrays.items() if value is not None}


def noted(objective: objectives.Objective) -> objectives.Objective:
    """The objective that keeps what its last step drew."""
    single = {"sigma": (), "class_labels": (10,), "augment_labels": (ENTRIES,)}
    sizes = single | dict.fromkeys(("y", "noise"), (8, 8, 1))
    nothing = {name: jnp.zeros((BATCH, *size)) for name, size in sizes.items()}
    nothing["dropout_keys"] = jnp.zeros((BATCH, 2), jnp.uint32)
    return objective._replace(
        init=lambda: objectives.State(kept=nothing),
        update=lambda state, e, losses, gather: state._replace(kept=gather(shown(e))),
    )


def parts(engine: engines.Engine, changed=lambda objective: objective):
    """The training step with EDM's objective, or that changed, and what makes the first state."""
    prepared = prepare(functools.partial(augment.augment, settings=AUGMENT))
    adam = optimizer.adam(optimizer.learning_rate(1e-3, 0, BATCH))
    model = Model(None, SmallNetwork(), preconditioning.edm(), CONFIG)
    objective = changed(objectives.build("edm", model))
    average = averages.Averages(averages.by_halflife(BATCH, 100.0))
    step = make_train_step(
        model, objective, adam, average, prepared=prepared, axis_name=engine.axis_name
    )
    return step, functools.partial(initial, model, objective, adam)


def three_steps(engine: engines.Engine) -> dict[str, np.ndarray]:
    """Losses, the last step's draws, and the last parameters, whole."""
    dataset = archive.load("digits")
    step, make = parts(engine, noted)
    run, now, key = engine.compile(step, jax.eval_shape(make)), engine.init(make), engine.key(3)
    batches = loader.stream(
        dataset, 0, BATCH, stop_step=3, place=engine.put,
        process_index=processes.process_index(), process_count=processes.process_count(),
    )  # fmt: skip
    losses = []
    with batches:
        for batch in batches:
            now, metrics = run(now, batch, key)
            losses.append(float(processes.to_host(metrics["loss"])))
    params = [np.asarray(a) for a in jax.tree.leaves(processes.to_host(now.params))]
    return {
        "loss": np.array(losses),
        "params": np.concatenate([a.reshape(-1) for a in params]),
        **processes.to_host(now.objective.kept),
    }


def initial(model, objective, adam) -> state.TrainState:
    inputs = (np.zeros((1, *n), np.float32) for n in ((8, 8, 1), (), (10,), (ENTRIES,)))
    return state.create(model.network.init(jax.random.key(1), *inputs)["params"], objective, adam)


def main() -> None:
    port, count, index, out = sys.argv[1:]
    processes.initialize(f"localhost:{port}", int(count), int(index))
    found = three_steps(engines.engine("jit"))
    if processes.is_main():
        np.savez(out, **found)


if __name__ == "__main__":
    main()
