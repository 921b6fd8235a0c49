"""Small networks with weights by formula, and networks with the reference's weights."""

import functools
import json

import formula
import jax
import jax.numpy as jnp
import numpy as np

from edm_jax import preconditioning
from edm_jax.networks import DhariwalUNet, SongUNet
from edm_jax.weights.official.names import official_name, params_from_state_dict

GOLDEN = (
    "ddpmpp_vp_uncond",
    "ncsnpp_ve_uncond",
    "ddpmpp_edm_cond_augment",
    "ncsnpp_edm_uncond",
    "adm_edm_cond",
    "adm_iddpm_cond",
)
NCSNPP = dict(
    embedding_type="fourier",
    channel_mult_noise=2,
    encoder_type="residual",
    resample_filter=(1, 3, 3, 1),
)
SKIP = dict(encoder_type="skip", decoder_type="skip", resample_filter=(1, 3, 3, 1))
_SMALL = dict(img_resolution=8, in_channels=3, num_blocks=1, channel_mult=(1, 2))
_SMALL |= dict(attn_resolutions=(4,), label_dim=3, augment_dim=9)


def small(kind, out_channels=3, **changes):
    """A network of 8x8 images, two levels, three classes, nine augmentation labels."""
    settings = _SMALL | dict(out_channels=out_channels) | changes
    if kind == "adm":
        return DhariwalUNet(**({"model_channels": 64} | settings))
    kinds = {"ddpmpp": {}, "ncsnpp": NCSNPP, "skip": SKIP}
    return SongUNet(**({"model_channels": 16} | kinds[kind] | settings))


@functools.cache
def abstract_params(net):
    """The shapes of a network's parameters; nothing is allocated."""
    side = net.img_resolution
    x = jax.ShapeDtypeStruct((1, side, side, net.in_channels), jnp.float32)
    c_noise = jax.ShapeDtypeStruct((1,), jnp.float32)
    return jax.eval_shape(net.init, jax.random.key(0), x, c_noise)["params"]


def taps(net):
    """The resampling filter of a network."""
    return getattr(net, "resample_filter", (1, 1))


def formula_inputs():
    """x [4, 8, 8, 3], sigma [4] and labels of the formula cases; the last two have no labels."""
    i = np.arange(2 * 3 * 8 * 8, dtype=np.float64)
    x = (2 * np.sin(0.37 * i + 0.05 * (i % 11))).reshape(2, 3, 8, 8).transpose(0, 2, 3, 1)
    classes = np.eye(3, dtype=np.float32)[[2, 0]]
    augment = np.sin(np.arange(18.0)).reshape(2, 9).astype(np.float32)
    labels = dict(
        class_labels=np.concatenate([classes, np.zeros_like(classes)]),
        augment_labels=np.concatenate([augment, np.zeros_like(augment)]),
    )
    sigma = np.array([0.7, 12.0, 0.3, 0.3], np.float32)
    return np.concatenate([x, x]).astype(np.float32), sigma, labels


def formula_weights(net):
    """Official names -> tensors of `formula.sines`."""
    shapes = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(abstract_params(net)):
        shape = leaf.shape
        shape = {2: shape[::-1], 4: (shape[3:] + shape[2:3] + shape[:2])}.get(len(shape), shape)
        shapes["model." + official_name([key.key for key in path])] = shape
    return {name: formula.sines(name, t, shapes[name]) for t, name in enumerate(sorted(shapes))}


def formula_params(net):
    """The parameter tree of `formula_weights`."""
    return params_from_state_dict(formula_weights(net), abstract_params(net))


def official(arrays):
    """The official weights, float32, and the constructor arguments of a golden file."""
    weights = {
        name.removeprefix("weights/"): value.astype(np.float32)
        for name, value in arrays.items()
        if name.startswith("weights/")
    }
    return weights, json.loads(str(arrays["config"]))


def golden_case(arrays, **changes):
    """Network, preconditioner and parameters of a golden file; `changes` go to the network."""
    weights, config = official(arrays)
    kind, channels = config.pop("precond"), config.pop("img_channels")
    make = {"SongUNet": SongUNet, "DhariwalUNet": DhariwalUNet}[config.pop("model_type")]
    del config["arch"]
    config = {k: tuple(v) if isinstance(v, list) else v for k, v in config.items()}
    net = make(
        in_channels=channels,
        out_channels=channels * (2 if kind == "iddpm" else 1),
        **config,
        **changes,
    )
    settings = {"u": weights.pop("u")} if "u" in weights else {}
    params = params_from_state_dict(weights, abstract_params(net), resample_filter=taps(net))
    return net, preconditioning.PRECONDITIONERS[kind](**settings), params


@functools.partial(jax.jit, static_argnums=0)
def apply(net, params, x, c_noise, labels):
    """The compiled network; equal networks on equal shapes are compiled once a session."""
    return net.apply({"params": params}, x, c_noise, **labels)


def denoise(net, preconditioner, params, x, sigma, **labels):
    """D(x; sigma) as a numpy array."""
    network = lambda x, c_noise: apply(net, params, x, c_noise, labels)
    return np.asarray(preconditioning.denoiser(network, preconditioner)(x, sigma))


@functools.partial(jax.jit, static_argnums=0)
def fresh_params(net, key=None):
    """Newly initialised parameters."""
    key = jax.random.key(0) if key is None else key
    x = jnp.zeros((1, net.img_resolution, net.img_resolution, net.in_channels))
    return net.init(key, x, jnp.zeros(1))["params"]


def relative_error(found, expected):
    """Relative L2 distance of each image: [B]."""
    norm = lambda image: np.sqrt(np.square(np.asarray(image, np.float64)).sum((1, 2, 3)))
    return norm(found - expected) / norm(expected)
