"""The numbers of the original implementations of guidance, in float64."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edm_jax import guidance, ideal, sample, samplers, timesteps
from edm_jax.checks import Remembering

pytestmark = pytest.mark.usefixtures("float64")


@pytest.fixture(scope="module")
def float64():
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module")
def g(golden):
    return golden("guidance.npz")


def cases(g, name="cases", kind=None):
    return [c for c in json.loads(str(g[name])) if kind in (None, c.get("kind"))]


def constant(value):
    return lambda x, sigma: jnp.asarray(value)


def near(got, expected, tolerance=1e-13, name=""):
    size = max(1, np.abs(expected).max())
    np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance * size, err_msg=name)


@pytest.mark.parametrize("scale", [0.0, 1.0, 2.0, 7.5])
def test_combinations(g, scale):
    main, guide = constant(g["D_cond"]), constant(g["D_uncond"])
    x, sigma = jnp.asarray(g["x"]), jnp.asarray(g["sigma"])
    rules = {
        "cfg": guidance.classifier_free(main, guide, scale),
        "cfg_ho": guidance.classifier_free(main, guide, scale, convention="ho_salimans"),
        "zero_star": guidance.zero_star(main, guide, scale),
        "autoguidance": guidance.autoguidance(main, guide, scale),
        "compose": guidance.compose([main], guide, [scale]),
    }
    for name, rule in rules.items():
        golden_name = name if f"out/{name}-{scale}" in g else "cfg"
        near(rule(x, sigma), g[f"out/{golden_name}-{scale}"])
    for phi in (0.7, 1.0):
        for name, on in (("rescale", "denoised"), ("rescale_eps", "epsilon")):
            rule = guidance.classifier_free(main, guide, scale, rescale=phi, rescale_on=on)
            near(rule(x, sigma), g[f"out/{name}-{scale}-{phi}"])


def test_thresholds(g):
    denoise = constant(g["threshold/x0"])
    x = jnp.asarray(g["threshold/x0"])
    for case in cases(g, kind="dynamic"):
        limit = np.inf if case["max_value"] is None else case["max_value"]
        rule = guidance.dynamic_threshold(denoise, case["percentile"], max_value=limit)
        near(rule(x, 1.0), g[f"out/{case['name']}"])
    near(guidance.clip(denoise)(x, 1.0), g["out/static"])


def test_adaptive_projection(g):
    now = [None, None]
    for case in cases(g, kind="apg"):
        original = case["use_original_formulation"]
        rule = guidance.adaptive_projected(
            lambda x, sigma: now[0],
            lambda x, sigma: now[1],
            # Its own scale for that form is what D_cond is added with: w - 1.
            case["scale"] + original,
            eta=case["eta"],
            norm_threshold=case["norm_threshold"],
            momentum=case["momentum"] or 0.0,
            base="cond" if original else "uncond",
        )
        memory = None
        for step, pair in enumerate(zip(g["apg/D_cond"], g["apg/D_uncond"])):
            now[:] = [jnp.asarray(part) for part in pair]
            if isinstance(rule, Remembering):
                memory = rule.init(now[0]) if memory is None else memory
                got, memory = rule.denoise(now[0], 1.0, memory)
            else:
                got = rule(now[0], 1.0)
            near(got, g[f"out/{case['name']}"][step], name=str(case))


def mixtures(g):
    """D of each label of the samples, D of none, the guide's D, and log p(y | x; sigma) [B]."""
    labels = g["labels"].argmax(axis=-1)

    def parts(label, means="means", stds="stds"):
        chosen = g["component_labels"] == label if label is not None else slice(None)
        weights = g["weights"][chosen]
        return g[means][chosen], g[stds][chosen], weights / weights.sum()

    def of_labels(means="means", stds="stds"):
        each = [ideal.mixture(*parts(label, means, stds)) for label in range(g["labels"].shape[1])]
        # Every sample by every label's denoiser, of which it keeps its own.
        return lambda x, sigma: jnp.stack([d(x, sigma) for d in each])[labels, jnp.arange(len(x))]

    def classifier(x, sigma):
        """log p(label, x; sigma), up to a constant of each sample: [B, L]."""
        means, stds, weights = (jnp.asarray(g[name]) for name in ("means", "stds", "weights"))
        variance = stds**2 + jnp.broadcast_to(jnp.asarray(sigma), (len(x),))[:, None] ** 2
        d2 = jnp.sum((x[:, None] - means) ** 2, axis=tuple(range(2, x.ndim + 1)))
        each = jnp.log(weights) - d2 / (2 * variance) - 0.5 * means[0].size * jnp.log(variance)
        own = g["component_labels"] == np.arange(g["labels"].shape[1])[:, None]
        return jax.nn.logsumexp(jnp.where(own, each[:, None], -jnp.inf), axis=-1)

    return {
        "cond": of_labels(),
        "uncond": ideal.mixture(*parts(None)),
        "guide": of_labels("guide_means", "guide_stds"),
        "log_prob": guidance.log_prob(classifier, jnp.asarray(g["labels"])),
    }


@pytest.mark.slow
def test_classifier_guidance(g):
    m = mixtures(g)
    x, sigma = g["classifier/x"], g["classifier/sigma"]
    rules = {"uncond": m["uncond"], "cond": m["cond"]}
    for scale in (1.0, 3.0):
        rules["guided", scale] = guidance.classifier(m["uncond"], m["log_prob"], scale)
        rules["free", scale] = guidance.classifier_free(m["cond"], m["uncond"], scale)
    made = jax.jit(lambda x, sigma: [rule(x, sigma) for rule in rules.values()])(x, sigma)
    found = dict(zip(rules, map(np.asarray, made)))
    near(found["uncond"], g["classifier/D"], 1e-11)
    near(found["cond"], g["classifier/D_cond"], 1e-11)
    for scale in (1.0, 3.0):
        near(found["guided", scale], g[f"classifier/D_guided-{scale}"], 1e-11)
        # With the exact classifier the two kinds of guidance are one.
        near(found["guided", scale], found["free", scale], 1e-11)


@pytest.mark.slow
def test_trajectories(g):
    m = mixtures(g)
    cond, uncond, guide = m["cond"], m["uncond"], m["guide"]
    for case in cases(g, "traj_cases"):
        kind, scale, n = case["kind"], case["scale"], case["num_steps"]
        rules = {
            "cfg": lambda: guidance.classifier_free(cond, uncond, scale),
            "autoguidance": lambda: guidance.autoguidance(cond, guide, scale),
            "interval_sigma": lambda: guidance.classifier_free(
                cond, uncond, scale, interval=case["interval"]
            ),
            "interval_index": lambda: guidance.in_steps(
                cond, lambda main: guidance.classifier_free(main, uncond, scale), *case["interval"]
            ),
            "apg": lambda: guidance.adaptive_projected(
                cond, uncond, scale, eta=case["eta"], norm_threshold=case["norm_threshold"],
                base="uncond",
            ),
            "rescale": lambda: guidance.classifier_free(cond, uncond, scale, rescale=case["phi"]),
            "dynamic": lambda: guidance.dynamic_threshold(
                guidance.classifier_free(cond, uncond, scale), case["percentile"]
            ),
            "cls": lambda: guidance.classifier(uncond, m["log_prob"], scale),
        }  # fmt: skip
        churn = None
        if "S_churn" in case:
            churn = samplers.Churn(case["S_churn"], case["S_min"], case["S_max"], case["S_noise"])
        tableau = samplers.heun(timesteps.edm(n), churn=churn)
        noise = None
        if tableau.stochastic:
            given = g[f"traj/noise/{case['name']}"]
            noise = np.zeros((tableau.nfe + 1, *g["latents"].shape))
            # The draws of the original are those of churned steps alone, in order.
            rows = np.concatenate(
                [
                    [np.any(tableau.start[:, -1] != 0)],
                    np.any(tableau.weights[:, :, -1] != 0, axis=1),
                ]
            )
            noise[np.flatnonzero(rows)] = given[: rows.sum()]
        got = sample(rules[kind](), tableau, g["latents"], row_noise=noise)
        near(got, g[f"traj/out/{case['name']}"], 1e-11)


@pytest.mark.slow
def test_adm(g):
    m = mixtures(g)
    sigmas = g["adm/sigmas"]
    v = 0.5 * (jnp.asarray(g["adm/v"]) + 1.0)
    start = np.sqrt(1 + sigmas[0] ** 2) / sigmas[0] * g["latents"]
    for case in cases(g, "adm_cases"):
        denoise = m["uncond"]
        if case["clip_denoised"]:
            denoise = guidance.clip(denoise)
        noise = np.concatenate([np.zeros((1, *start.shape)), g[f"adm/noise/{case['name']}"]])
        variance = {"FIXED_SMALL": "small", "FIXED_LARGE": "large", "LEARNED_RANGE": "learned"}[
            case["variance"]
        ]
        if case["form"] == "score":
            guided = guidance.classifier(denoise, m["log_prob"], case["scale"])
            tableau = samplers.ddim(sigmas, eta=case["eta"])
        elif variance != "learned":
            guided = guidance.mean_shift(
                denoise, m["log_prob"], case["scale"], sigmas, variance=variance
            )
            tableau = samplers.ddpm(sigmas, variance=variance)
        else:
            plain = denoise
            guided = guidance.mean_shift(
                lambda x, s, plain=plain: (plain(x, s), v),
                m["log_prob"], case["scale"], sigmas, variance="learned",
            )  # fmt: skip
            x, guided = sigmas[0] * start, jax.jit(guided)
            for k, (s, t) in enumerate(zip(sigmas, sigmas[1:])):
                moved, given = guided(x, s)
                r = t**2 / s**2
                x = r * x + (1 - r) * moved
                if t > 0:
                    small = t**2 * (1 - r)
                    large = (s**2 - t**2) * (1 + t**2) / (1 + s**2)
                    x = (
                        x
                        + np.exp(0.5 * (given * np.log(large) + (1 - given) * np.log(small)))
                        * (noise[k + 1])
                    )
            near(x, g[f"adm/out/{case['name']}"], 1e-11, str(case))
            continue
        got = sample(guided, tableau, start, row_noise=noise)
        near(got, g[f"adm/out/{case['name']}"], 1e-11, str(case))
