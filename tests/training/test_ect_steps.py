"""Steps of consistency tuning and samples of a tuned network against the reference."""

import json

import by_rows
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference_steps

from edm_jax import objectives, preconditioning, samplers
from edm_jax.objectives import Pairs, State, nearer
from edm_jax.objectives.ect import Stage
from edm_jax.training import averages, optimizer, state
from edm_jax.training.step import make_train_step

# What is tuned: EDM's own network, with the same coefficients.
MAPS_TO_0 = preconditioning.consistency(sigma_min=0.0, noise_scale=0.25)


@pytest.mark.slow
def test_eight_steps_of_the_reference(golden):
    reference, (model, params) = golden("few_steps.npz"), reference_steps.network(golden)
    given = {k.removeprefix("ect/training/"): v for k, v in reference.items()}
    settings = json.loads(str(given["settings"]))
    model = model.replace(preconditioner=MAPS_TO_0)
    b1, b2 = settings["betas"]
    schedule = optimizer.learning_rate(settings["lr"], 0, 6)
    radam = optimizer.adam(schedule, b1=b1, b2=b2, eps=settings["eps"], rectified=True)

    def draw(memory, keys, y, conditions):
        t = jnp.exp(settings["P_mean"] + settings["P_std"] * y["n"])
        return Pairs(y["y"], t, nearer(t, memory.kept.number), y["eps"], conditions)

    objective = objectives.build("ect", model, q=settings["q"], c=settings["c"])
    objective = objective._replace(draw=draw)
    halflife = 6 * np.log(0.5) / np.log(settings["ema_beta"])
    step = jax.jit(
        make_train_step(
            model,
            objective,
            radam,
            averages.Averages(averages.by_halflife(6, halflife, rampup_ratio=None)),
            prepared=lambda batch, keys: (batch["data"], batch["conditions"]),
        )
    )
    now = jax.jit(lambda params: state.create(params, objective, radam))(params)
    for i, stage in enumerate(settings["stages"]):
        now = now.replace(objective=State(kept=Stage(jnp.int32(stage), jnp.int32(0))))
        row = lambda *names: {n: np.asarray(given[n][i], np.float32) for n in names}
        batch = {
            "data": row("y", "n", "eps"),
            "conditions": row("class_labels", "augment_labels"),
        }
        now, metrics = step(now, batch, jax.random.key(0))
        # t - r is small in the last two steps: float32 has few digits of it.
        wanted = given["loss"][i].mean()
        assert metrics["loss"] == pytest.approx(wanted, rel=1e-5 if i < 6 else 3e-4)
        assert metrics["grad_norm"] == pytest.approx(given["grad_norm"][i], rel=5e-4)
        assert now.objective.kept.images == 6
    compared = 0
    for kind, tree in (("params", now.params), ("ema", now.ema)):
        known = dict(zip(given["names"], given[kind]))
        compared += reference_steps.compare(model.network.tree(np.asarray(tree)), known)
    assert compared > 150


@pytest.mark.slow
def test_samples_of_the_reference_s_network(golden):
    """In one to three calls, by the coefficients that the reference draws with."""
    reference, (model, params) = golden("few_steps.npz"), reference_steps.network(golden)
    given = {k.removeprefix("ect/network/"): v for k, v in reference.items()}
    single = lambda name: jnp.asarray(given[name], jnp.float32)
    network = jax.jit(model.replace(params=params).prediction(single("class_labels")))
    from_3 = preconditioning.consistency(sigma_min=0.003, noise_scale=0.25)

    def close(found, wanted):
        norm = lambda image: np.sqrt(np.square(np.asarray(image, np.float64)).sum((1, 2, 3)))
        assert (norm(found - wanted) / norm(wanted)).max() < 1e-5

    for kind, row in (("eval", from_3), ("train", MAPS_TO_0)):
        found = preconditioning.denoiser(network, row)(single("x"), single("sigma"))
        close(found, given[f"denoised_{kind}"])
    denoise, latents = preconditioning.denoiser(network, from_3), single("latents")
    for case in json.loads(str(reference["ect/sample_cases"])):
        if case["net"] == "network":
            tableau = samplers.consistency([*case["sigmas"], 0.0], sigma_min=0.0)
            noise = np.stack([0 * latents, *single("noise")[: tableau.nfe - 1], 0 * latents])
            call = lambda x, sigma: denoise(x, np.full(3, sigma, np.float32))
            close(by_rows.sampled(call, tableau, latents, noise), given[case["name"]])
