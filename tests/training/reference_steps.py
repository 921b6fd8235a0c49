"""The network that the reference's optimizer steps begin with, and what they end with."""

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from edm_jax.model import Model, init_params
from edm_jax.networks import ddpmpp
from edm_jax.weights.official import names


@dataclasses.dataclass(frozen=True, eq=False)
class Raveled:
    """A network whose parameters are one vector, of which a step's program is the smaller.

    Attributes:
      network: a flax module.
      tree: the vector -> the module's parameters; on the host for one of numpy.
    """

    network: Any
    tree: Callable[[jax.Array], Any]

    def apply(self, variables, *arguments, **options):
        """As the module's, of the vector."""
        tree = self.tree(variables["params"])
        return self.network.apply({"params": tree}, *arguments, **options)


def raveled(model):
    """The model without parameters, its network `Raveled`, and its parameters as one vector."""
    leaves, structure = jax.tree.flatten(jax.tree.map(np.float32, model.params))
    ends = np.cumsum([leaf.size for leaf in leaves])[:-1]

    def tree(vector):
        parts = (np if isinstance(vector, np.ndarray) else jnp).split(vector, ends)
        return structure.unflatten([part.reshape(a.shape) for part, a in zip(parts, leaves)])

    vector = np.concatenate([leaf.ravel() for leaf in leaves])
    return model.replace(network=Raveled(model.network, tree), params=None), vector


def network(golden):
    """The `raveled` model of ddpmpp_edm_cond_augment.npz, and its parameters."""
    weights = golden("ddpmpp_edm_cond_augment.npz")
    net = json.loads(str(weights["config"]))
    config = ddpmpp(
        resolution=net["img_resolution"], channels=net["img_channels"], label_dim=net["label_dim"],
        augment_dim=net["augment_dim"], model_channels=net["model_channels"],
        channel_mult=tuple(net["channel_mult"]), num_blocks=net["num_blocks"],
        attn_resolutions=tuple(net["attn_resolutions"]), dropout=0.0,
    )  # fmt: skip
    tensors = {
        k.removeprefix("weights/"): v.astype(np.float32)
        for k, v in weights.items()
        if k.startswith("weights/")
    }
    like = jax.eval_shape(lambda: init_params(jax.random.key(0), config))
    return raveled(Model.build(config, names.params_from_state_dict(tensors, like)))


def compare(tree, wanted, atol=2e-6):
    """Asserts mean, deviation and first eight entries of every tensor; returns how many there were.

    A key bias has no gradient, and Adam turns its rounding noise into steps: it is left out.

    Args:
      tree: parameters.
      wanted: official name -> the ten numbers; others are not compared.
      atol: the absolute tolerance.
    """
    compared = 0
    for name, tensor in names.state_dict_from_params(jax.device_get(tree)).items():
        if name in wanted and not name.endswith("qkv.bias"):
            tensor = np.asarray(tensor, np.float64)
            found = [tensor.mean(), tensor.std(), *tensor.ravel()[:8]]
            expected = wanted[name][: len(found)]  # what follows a short tensor is filling
            np.testing.assert_allclose(found, expected, rtol=0, atol=atol, err_msg=name)
            compared += 1
    return compared
