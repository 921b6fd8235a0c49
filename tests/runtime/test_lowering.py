"""What runs here lowers for GPUs and TPUs too, with its products in the configured type."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edm_jax import objectives, samplers, timesteps
from edm_jax.model import Model
from edm_jax.networks import ddpmpp, edm2
from edm_jax.samplers import sample
from edm_jax.training import averages, optimizer, state
from edm_jax.training.calls import in_one_call
from edm_jax.training.step import make_train_step

SMALL = dict(
    resolution=8, channels=3, label_dim=3, model_channels=8, channel_mult=(1, 2), num_blocks=1,
    attn_resolutions=(4,), dtype="bfloat16",
)  # fmt: skip
CONFIGS = (ddpmpp(**SMALL), edm2(**SMALL, head_channels=8))
X, LABELS = jax.ShapeDtypeStruct((4, 8, 8, 3), jnp.float32), jnp.eye(4, 3)


@pytest.fixture(scope="module", params=CONFIGS, ids=lambda config: config.architecture)
def model(request):
    """A model without numbers."""
    return jax.eval_shape(lambda key: Model.init(key, request.param), jax.random.key(0))


def program(function, *arguments):
    """The program for both platforms, as text; they need not be here."""
    traced = jax.jit(function).trace(*arguments)
    return traced.lower(lowering_platforms=("cuda", "tpu")).as_text()


def convolved(text):
    """The types of the elements of every convolution."""
    found = re.findall(r"stablehlo\.convolution\(.*? : (\(tensor.*)", text)
    return [set(re.findall(r"x([a-z]+\d+)>", types)) for types in found]


def multiplied(text):
    """The operands of every matrix product of images or tokens, that is of more than two axes."""
    found = re.findall(r"stablehlo\.dot_general.*? : \((.*?)\) ->", text)
    return [types for types in found if re.search(r"<(\d+x){3,}[a-z]", types)]


@pytest.mark.slow
def test_a_sampler_holds_the_network_once(model):
    one = lambda model, x: model.denoiser(LABELS)(x, jnp.ones(4))
    tableau = samplers.heun(timesteps.edm(18))
    whole = lambda model, noise: sample(model.denoiser(LABELS), tableau, noise)
    denoised, drawn = program(one, model, X), program(whole, model, X)
    assert convolved(drawn) == [{"bf16"}] * len(convolved(denoised))
    assert len(convolved(denoised)) > 10 and "callback" not in drawn
    # 1×1 convolutions and attention.
    assert not [types for types in multiplied(drawn) if "f32" in types]
    assert len(multiplied(drawn)) > 10


@pytest.mark.slow
def test_a_training_step_convolves_in_the_configured_type(model):
    objective = objectives.build("edm", model, uncertainty=True)
    adam = optimizer.adam(optimizer.learning_rate(1e-3, 0, 4))
    adam = adam._replace(project=model.config.project)
    average = averages.Averages(averages.by_halflife(4, 1000.0), {})
    step = make_train_step(model, objective, adam, average, rounds=2)
    now = jax.eval_shape(lambda params: state.create(params, objective, adam), model.params)
    batch = {
        "images": jax.ShapeDtypeStruct(X.shape, np.uint8),
        "labels": jax.ShapeDtypeStruct(LABELS.shape, np.float32),
    }
    text = program(in_one_call(step), now, (batch, batch), jax.random.key(0))
    # Forward, and backward to inputs and kernels.
    assert set(map(frozenset, convolved(text))) == {frozenset({"bf16"})}
    assert len(convolved(text)) > 50 and "callback" not in text
    # The gradients of softmax stay in float32, as softmax does; [B, heads, N, N], N = 4².
    wide = [types for types in multiplied(text) if "f32" in types]
    assert len(multiplied(text)) > 50 and all("x16x16xf32" in types for types in wide)
