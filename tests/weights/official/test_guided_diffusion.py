"""guided-diffusion's ADM against a forward pass that walks its own names, and the loader."""

import collections
import dataclasses
import tracemalloc
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import official_pickles as official
import pytest
from adm_files import archive, shapes

from edm_jax.model import init_params, parameter_count
from edm_jax.weights import load
from edm_jax.weights.errors import WeightsError
from edm_jax.weights.official import guided_diffusion, state_dicts, torch_tensors
from edm_jax.weights.official.nvidia import weights_of_model

HIGHEST = jax.lax.Precision.HIGHEST


def forward(weights, x, t, labels, num_blocks, levels):
    """ADM from Dhariwal and Nichol 2021 by its module names. NCHW; heads have 64 channels."""

    def conv(name, h, pad=1):
        w = weights[f"{name}.weight"]
        h = jax.lax.conv_general_dilated(h, w, (1, 1), [(pad, pad)] * 2, precision=HIGHEST)
        return h + weights[f"{name}.bias"][:, None, None]

    def linear(name, h):
        return jnp.dot(h, weights[f"{name}.weight"].T, precision=HIGHEST) + weights[f"{name}.bias"]

    def norm(name, h):
        groups = h.reshape(len(h), 32, -1)
        groups -= groups.mean(-1, keepdims=True)
        groups /= jnp.sqrt(jnp.square(groups).mean(-1, keepdims=True) + 1e-5)
        scale, bias = (weights[f"{name}.{leaf}"][:, None, None] for leaf in ("weight", "bias"))
        return groups.reshape(h.shape) * scale + bias

    def resize(h, change):
        b, c, side, _ = h.shape
        if change == "down":
            return h.reshape(b, c, side // 2, 2, side // 2, 2).mean((3, 5))
        return jnp.repeat(jnp.repeat(h, 2, 2), 2, 3) if change == "up" else h

    def res(name, h, change=None):
        y = resize(jax.nn.silu(norm(f"{name}.in_layers.0", h)), change)
        y, h = conv(f"{name}.in_layers.2", y), resize(h, change)
        scale, shift = jnp.split(linear(f"{name}.emb_layers.1", jax.nn.silu(emb)), 2, axis=1)
        y = norm(f"{name}.out_layers.0", y) * (1 + scale[:, :, None, None])
        y = conv(f"{name}.out_layers.3", jax.nn.silu(y + shift[:, :, None, None]))
        return y + (conv(f"{name}.skip_connection", h, 0) if h.shape != y.shape else h)

    def attend(name, h):
        b, c, *_ = h.shape
        y = norm(f"{name}.norm", h).reshape(b, c, -1)
        y = jnp.einsum("oc,bcs->bos", weights[f"{name}.qkv.weight"][..., 0], y, precision=HIGHEST)
        y += weights[f"{name}.qkv.bias"][:, None]
        q, k, v = (part.reshape(b, c // 64, 64, -1) for part in jnp.split(y, 3, axis=1))
        w = jax.nn.softmax(jnp.einsum("bhct,bhcs->bhts", q, k, precision=HIGHEST) / 8, axis=-1)
        y = jnp.einsum("bhts,bhcs->bhct", w, v, precision=HIGHEST).reshape(b, c, -1)
        w, bias = weights[f"{name}.proj_out.weight"][..., 0], weights[f"{name}.proj_out.bias"]
        y = jnp.einsum("oc,bcs->bos", w, y, precision=HIGHEST) + bias[:, None]
        return h + y.reshape(h.shape)

    def block(name, h, down=False):
        h = res(f"{name}.0", h, "down" if down else None)
        for i in (1, 2):
            if f"{name}.{i}.qkv.weight" in weights:
                h = attend(f"{name}.{i}", h)
            elif f"{name}.{i}.in_layers.0.weight" in weights:
                h = res(f"{name}.{i}", h, "up")
        return h

    width = weights["time_embed.0.weight"].shape[1]
    angles = t[:, None] * jnp.exp(-np.log(10000) * jnp.arange(width // 2) / (width // 2))
    emb = linear("time_embed.0", jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], 1))
    emb = linear("time_embed.2", jax.nn.silu(emb)) + weights["label_emb.weight"][labels]
    h = conv("input_blocks.0.0", x)
    stack = [h]
    for number in range(1, levels * (num_blocks + 1)):
        h = block(f"input_blocks.{number}", h, down=number % (num_blocks + 1) == 0)
        stack.append(h)
    h = res("middle_block.2", attend("middle_block.1", res("middle_block.0", h)))
    for number in range(levels * (num_blocks + 1)):
        h = block(f"output_blocks.{number}", jnp.concatenate([h, stack.pop()], 1))
    return conv("out.2", jax.nn.silu(norm("out.0", h)))


@pytest.fixture(scope="module")
def tiny():
    rng = np.random.default_rng(0)
    weights = {}
    for name, shape in shapes(128, (1, 1), 1, {1}, classes=3).items():
        values = rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]) or 1)
        if name.endswith("weight") and len(shape) == 1:
            values = 1 + 0.2 * values
        weights[name] = (0.1 * values if name.endswith("bias") else values).astype(np.float32)
    return weights


@pytest.mark.slow
def test_the_network_is_the_same_function(tiny):
    model = guided_diffusion.from_state_dict(tiny, resolution=4)
    rng = np.random.default_rng(1)
    x, t = rng.normal(size=(2, 4, 4, 3)).astype(np.float32), np.array([3.0, 700.0], np.float32)
    labels = np.array([2, 0])

    def both(weights, params, x, t):
        theirs = forward(weights, x.transpose(0, 3, 1, 2), t, labels, num_blocks=1, levels=2)
        ours = model.network.apply({"params": params}, x, t, jax.nn.one_hot(labels, 3))
        return theirs.transpose(0, 2, 3, 1), ours

    expected, found = jax.jit(both)(tiny, model.params, x, t)
    assert found.shape == (2, 4, 4, 6)
    assert np.std(expected) > 0.1
    np.testing.assert_allclose(found, expected, atol=2e-5 * np.std(expected))


def test_the_older_order_of_heads(tiny):
    older = dict(tiny)
    for name, value in tiny.items():
        if ".qkv." in name:
            heads = value.reshape(3, len(value) // 192, 64, -1).transpose(1, 0, 2, 3)
            older[name] = heads.reshape(value.shape)
    first = guided_diffusion.from_state_dict(tiny, resolution=4)
    second = guided_diffusion.from_state_dict(older, resolution=4, new_attention_order=False)
    jax.tree.map(np.testing.assert_array_equal, first.params, second.params)


@pytest.mark.slow
def test_the_published_network_has_the_parameters_of_the_baseline():
    sizes = shapes(192, (1, 2, 3, 4), 3, {1, 2, 3}, classes=1000)
    assert sum(int(np.prod(shape)) for shape in sizes.values()) == 295_904_454
    empty = {name: np.broadcast_to(np.float32(0), shape) for name, shape in sizes.items()}
    config = guided_diffusion._structure(empty, 64)
    assert (config.label_dim, config.attn_resolutions) == (1000, (32, 16, 8))
    config = dataclasses.replace(config, preconditioner="iddpm")
    like = jax.eval_shape(lambda: init_params(jax.random.key(0), config))
    assert parameter_count(like) == 295_904_454


def test_archives_are_read_and_networks_other_than_the_published_refused(tiny, tmp_path):
    file = torch_tensors.read_any(archive(tiny), torch_tensors.TENSOR_GLOBALS)
    assert guided_diffusion.recognises(file.value)
    for name, value in state_dicts.weights_of(file).items():
        np.testing.assert_array_equal(value, tiny[name])
    path = tmp_path / "other.pt"
    path.write_bytes(archive(tiny))
    with pytest.raises(WeightsError, match=r"other\.pt: must be guided-diffusion.s 64×64 network"):
        load(path)
    few = {name: value for name, value in tiny.items() if value.size < 5000}
    path.write_bytes(archive(few, zipfile.ZIP_DEFLATED))
    with pytest.raises(WeightsError, match="compressed|more than it is long"):
        load(path)
    path.write_bytes(archive(few)[:-100])
    with pytest.raises(WeightsError, match=r"other\.pt: not a PyTorch archive"):
        load(path)


def changed(weights, name, value):
    rest = {key: other for key, other in weights.items() if key != name}
    return rest if value is None else {**rest, name: value}


@pytest.mark.parametrize(
    "name, value, message",
    [
        ("middle_block.1.qkv.bias", None, r"missing: model\.dec\.2x2_in0\.qkv\.bias"),
        ("out.2.weight", None, r"out\.2\.weight is missing"),
        (
            "out.2.weight",
            np.zeros((3, 128, 3, 3), np.float32),
            "must have 6 output channels, .* got 3",
        ),
        (
            "middle_block.1.qkv.weight",
            np.zeros((9, 3, 1), np.float32),
            "3 × 64 output channels a head",
        ),
        ("input_blocks.1.0.in_layers.2.weight", np.zeros(3, np.float32), r"the shape \(3,\)"),
        ("time_embed.0.weight", np.zeros((512, 64), np.float32), "groups of channels"),
        ("label_emb.weight", np.zeros((3, 7), np.float32), r"misshapen: model\.map_label\.weight"),
    ],
)
def test_what_does_not_fit(tiny, name, value, message):
    with pytest.raises(WeightsError, match=message):
        guided_diffusion.from_state_dict(changed(tiny, name, value), resolution=4)
    with pytest.raises(WeightsError, match="unknown tensor 'input_blocks.1.0.in_layers.7.weight'"):
        extra = {**tiny, "input_blocks.1.0.in_layers.7.weight": tiny["out.0.bias"]}
        guided_diffusion.from_state_dict(extra, resolution=4)


def test_it_can_be_exported(tiny):
    weights = weights_of_model(guided_diffusion.from_state_dict(tiny, resolution=4))
    np.testing.assert_array_equal(weights["model.map_label.weight"], tiny["label_emb.weight"].T)
    assert weights["u"].shape == (1001,)


def test_many_names_for_one_storage_are_not_copied(tmp_path):
    kind, nothing = official.Named("torch", "FloatStorage"), collections.OrderedDict()
    stored = official.Stored(("storage", kind, "0", "cpu", 100_000))
    records = {
        name: official.Made(official.TENSOR, (stored, 0, (100_000,), (1,), False, nothing))
        for name in ("time_embed.0.weight", "out.2.weight", *map(str, range(500)))
    }
    path = tmp_path / "bomb.pt"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("x/data/0", bytes(400_000))
        file.writestr("x/data.pkl", official.dumps(records, 2))
    tracemalloc.start()
    with pytest.raises(WeightsError, match=r"bomb\.pt: .*together are larger than the file"):
        load(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10e6
