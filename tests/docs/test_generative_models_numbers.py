"""The numbers of Stability's generative-models: docs/from/generative_models.md holds.

Left out is what is a mistake there: the plateau of its trapezoid guider, which is 1 in place of the
scale, and `quantize_c_noise` with a c_noise that is no noise level. Left out too is what is not
here: the absolute error in place of the square.
"""

import functools
import json
import math

import by_rows
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edm_jax import (
    denoiser,
    guidance,
    ideal,
    objectives,
    preconditioning,
    samplers,
    tables,
    timesteps,
)

pytestmark = pytest.mark.usefixtures("float64")

QUARTER_LOG = lambda sigma: 0.25 * jnp.log(sigma)
WEIGHTS = {
    "EDMWeighting": objectives.edm_weight(0.5),
    "VWeighting": objectives.edm_weight(1.0),
    "EpsWeighting": objectives.inverse_square_weight(),
    "UnitWeighting": objectives.unit_weight(),
}


@pytest.fixture(scope="module")
def float64():
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module")
def g(golden):
    return golden("sgm.npz")


def cases(g, name="cases"):
    return json.loads(str(g[name]))


def near(got, expected, tolerance=1e-14, name=""):
    size = max(1, np.abs(expected).max())
    np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance * size, err_msg=name)


def grid(kind, n, kwargs, final="zero"):
    if kind == "EDMDiscretization":
        return timesteps.edm(n, **kwargs, final=final)
    if not kwargs:
        return timesteps.ddpm(n, betas="scaled_linear", spacing="truncated", final=final)
    ends = np.sqrt([kwargs["linear_start"], kwargs["linear_end"]])
    betas = np.linspace(*ends, kwargs["num_timesteps"]) ** 2
    return timesteps.from_alphas_cumprod(np.cumprod(1 - betas), n, spacing="truncated", final=final)


def test_discretizations(g):
    for case in cases(g, "discretizer_cases"):
        n, kind, kwargs = case["n"], case["kind"], case["kwargs"]
        levels = grid(kind, n, kwargs)
        if not case["do_append_zero"]:
            levels = levels[:-1]
        if case["flip"]:
            levels = levels[::-1]
        expected = g[f"discretizer/{case['name']}"]
        # Its table is float32.
        close = 1e-14 if kind == "EDMDiscretization" else 1e-7
        np.testing.assert_allclose(levels, expected, rtol=close, atol=1e-14, err_msg=str(case))


def test_the_lowest_level_may_be_the_end(g):
    """Without an appended zero: one step fewer, to sigma_min."""
    for case in cases(g, "discretizer_cases"):
        if case["kind"] == "EDMDiscretization" and not (case["do_append_zero"] or case["flip"]):
            levels = grid(case["kind"], case["n"] - 1, case["kwargs"], final="sigma_min")
            near(levels, g[f"discretizer/{case['name']}"])


def scaling(name, levels="scaled_linear", c_noise=None):
    if name == "EDMScaling":
        return preconditioning.edm(0.5)
    if name == "VScalingWithEDMcNoise":
        return preconditioning.v(levels, c_noise=QUARTER_LOG)
    make = {"EpsScaling": preconditioning.epsilon, "VScaling": preconditioning.v}[name]
    return make(levels, c_noise=c_noise)


def continuous(name):
    return scaling(name, c_noise=lambda sigma: sigma)


@pytest.mark.parametrize("name", ["EDMScaling", "EpsScaling", "VScaling", "VScalingWithEDMcNoise"])
def test_scalings_and_denoisers(g, name):
    network = lambda x, c: jnp.sin(1.3 * x + 0.01 * c[:, None, None, None])
    x, sigma = g["denoiser/x"], g["sigma"]
    made = continuous(name)
    rows = jax.jit(lambda s: [jnp.broadcast_to(f(s), s.shape) for f in made[:4]])(sigma)
    near(np.stack(rows), g[f"scaling/{name}"])
    denoise = jax.jit(denoiser(network, made))
    near(denoise(x, sigma), g[f"denoiser/continuous/{name}"])
    # DiscreteDenoiser: the nearest level of the table, in all four coefficients.
    whole = [c["name"] for c in cases(g, "discretizer_cases")
             if c["n"] == 1000 and c["flip"] and not c["do_append_zero"]]  # fmt: skip
    levels = np.float64(g[f"discretizer/{whole[0]}"])
    table = scaling("EpsScaling", levels)
    rounded, index = jax.jit(lambda s: (table.round_sigma(s), table.c_noise(s)))(sigma)
    near(rounded, g["denoiser/quantized_sigma"])
    np.testing.assert_array_equal(index, g["denoiser/sigma_to_idx"])
    # Its table is float32, and so is there what is computed from a level of it.
    close = 2.0**-22
    near(denoise(x, rounded), g[f"denoiser/discrete/{name}/quantize0"], close)
    if name in ("EpsScaling", "VScaling"):
        by_index = jax.jit(denoiser(network, scaling(name, levels)))(x, rounded)
        near(by_index, g[f"denoiser/discrete/{name}/quantize1"], close)


def test_weightings(g):
    found = jax.jit(lambda sigma: [weight(sigma) for weight in WEIGHTS.values()])(g["sigma"])
    for name, weights in zip(WEIGHTS, found):
        near(weights, g[f"weighting/{name}"])


def test_noise_distributions(g):
    shares = np.array([0.5 * (1 + math.erf(z / math.sqrt(2))) for z in g["sampling/rand"]])
    normal = jax.jit(objectives.log_normal(-1.2, 1.2).quantile)
    near(normal(shares), g["sampling/EDMSampling"], 1e-13)
    levels = tables.sigmas(tables.alphas_cumprod("scaled_linear"))
    drawn = jax.jit(objectives.discrete(levels).quantile)((g["sampling/idx"] + 0.5) / 1000)
    np.testing.assert_allclose(drawn, g["sampling/DiscreteSampling"], rtol=1e-7)


def test_losses(g):
    network = lambda x, c: jnp.sin(1.3 * x + 0.01 * c[:, None, None, None])
    y, sigma, noise = (g[f"loss/{name}"] for name in ("y", "sigma", "noise"))
    count = 0

    @functools.cache
    def each_loss(scaling, weighting):
        made = denoiser(network, continuous(scaling))
        return jax.jit(lambda noise: objectives.loss(made, y, sigma, noise, WEIGHTS[weighting]))

    for case in cases(g, "loss_cases"):
        if case["loss_type"] != "l2":
            continue
        # Offset noise is another noise: one more normal for each sample and channel.
        offset = case["offset_noise_level"] * g["loss/offset"][:, None, None, :]
        each = np.asarray(each_loss(case["scaling"], case["weighting"])(noise + offset))
        near(each.mean((1, 2, 3)), g[f"loss/out/{case['name']}"], name=str(case))
        count += 1
    assert count == 24


def scales(kind, kwargs, batch):
    """The guidance scale of each sample, or None for none."""
    if kind == "IdentityGuider":
        return None
    if kind == "VanillaCFG":
        return kwargs["scale"]
    kwargs = dict(kwargs)
    frames, top = kwargs.pop("num_frames"), kwargs.pop("max_scale")
    if "period_fusing" in kwargs:
        kwargs["fuse"] = kwargs.pop("period_fusing")
    makers = {
        "LinearPredictionGuider": guidance.linear_over_frames,
        "TrianglePredictionGuider": guidance.triangle_over_frames,
    }
    return np.tile(makers[kind](frames, top, **kwargs), batch // frames)


def test_guiders(g):
    cond, uncond = (jnp.asarray(g[f"guider/{name}"]) for name in ("cond", "uncond"))
    for case in cases(g, "guider_cases"):
        if case["kind"] == "TrapezoidPredictionGuider":
            continue
        scale = scales(case["kind"], case["kwargs"], len(cond))
        expected = g[f"guider/out/{case['name']}"]
        if scale is None:
            near(cond, expected)
            continue
        if np.ndim(scale):
            near(scale[:5], g[f"guider/scale/{case['name']}"])
        guided = guidance.classifier_free(lambda x, s: cond, lambda x, s: uncond, scale)
        near(guided(cond, 1.0), expected, name=str(case))


def denoisers(g):
    """D of the label of each sample, and D of none."""

    def part(label=None):
        chosen = slice(None) if label is None else g["component_labels"] == label
        weights = g["weights"][chosen]
        return ideal.mixture(g["means"][chosen], g["stds"][chosen], weights / weights.sum())

    each = [part(label) for label in g["labels"].argmax(1)]

    def cond(x, sigma):
        return jnp.concatenate([d(x[i : i + 1], sigma) for i, d in enumerate(each)])

    return jax.jit(cond), jax.jit(part())


def tableau(case, sigmas):
    kwargs, name = dict(case["kwargs"]), case["sampler"]
    if name in ("EulerEDMSampler", "HeunEDMSampler"):
        renamed = {"s_tmin": "s_min", "s_tmax": "s_max"}
        churn = samplers.Churn(**{renamed.get(k, k): v for k, v in kwargs.items()})
        make = samplers.euler if name[0] == "E" else samplers.heun
        return make(sigmas, churn=churn if kwargs else None)
    make = {
        "EulerAncestralSampler": samplers.euler_ancestral,
        "DPMPP2SAncestralSampler": samplers.dpmpp_2s_ancestral,
        "DPMPP2MSampler": samplers.dpmpp_2m,
        "LinearMultistepSampler": samplers.lms,
    }[name]
    return make(sigmas, **kwargs)


def row_noise(made, draws):
    """[K + 1, B, ...]: the draws in their order, where the tableau takes one."""
    takes = [np.any(made.start[:, -1])] + [np.any(row[:, -1]) for row in made.weights]
    noise = np.zeros((made.nfe + 1, *draws.shape[1:]))
    noise[np.flatnonzero(takes)] = draws[: sum(takes)]
    return noise, sum(takes)


def test_samplers(g):
    cond, uncond = denoisers(g)
    for case in cases(g):
        sigmas = grid(case["discretizer"], case["n"], case["discretizer_kwargs"])
        made = tableau(case, sigmas)
        assert made.nfe == case["nfe"], case
        scale = scales(case["guider"], case["guider_kwargs"], len(g["latents"]))
        denoise = cond if scale is None else guidance.classifier_free(cond, uncond, scale)
        noise = np.sqrt(1 + sigmas[0] ** 2) * g["latents"] / made.start[0, 0]
        given = None
        if made.stochastic:
            draws = g[f"noise/{case['name']}"]
            given, used = row_noise(made, draws)
            # Its ancestral samplers draw at the last step too, and discard it.
            assert len(draws) - used == ("Ancestral" in case["sampler"]), case
        drawn = by_rows.sampled(denoise, made, noise, given)
        close = 1e-6 if case["discretizer"] == "LegacyDDPMDiscretization" else 1e-13
        near(drawn, g[f"out/{case['name']}"], close, str(case))
