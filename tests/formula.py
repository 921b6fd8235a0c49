"""Weights of networks that no file has to hold: tensors of sines, and draws by name."""

import json
import zlib

import numpy as np


def sines(name, t, shape):
    """The weight of that official name, the t-th of its network in ASCII order."""
    *_, module, leaf = name.split(".")
    i = np.arange(int(np.prod(shape)), dtype=np.float64)
    s = np.sin(0.7 * i + 0.011 * (i % 97) ** 2 + 1.3 * t)
    if "norm" in module:
        s = 1 + 0.2 * s if leaf == "weight" else 0.1 * s
    elif leaf == "freqs":
        s = 4 * s
    else:
        s = s * (2 / (s.size / shape[0])) ** 0.5 if leaf == "weight" else 0.1 * s
    return s.astype(np.float32).reshape(shape)


def draws(name, shape):
    """Normal draws of that official name, exact in float16, on the scale of trained weights."""
    # RandomState's stream is frozen; float16 hides a last digit of another libm.
    normal = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
    if len(shape) > 1:
        return (normal / np.prod(shape[1:]) ** 0.5).astype(np.float16)
    mean = 1.0 if "norm" in name and name.endswith("weight") else 0.0
    return (mean + 0.1 * normal).astype(np.float16)


def filled(arrays):
    """The arrays of a golden file; one that holds `shapes` of weights gets them by `draws`."""
    if "shapes" not in arrays:
        return arrays
    others = {key: value for key, value in arrays.items() if key not in ("shapes", "order")}
    made = {
        f"weights/{name}": draws(name, shape)
        for name, shape in json.loads(str(arrays["shapes"])).items()
    }
    order = [f"weights/{name}" for name in json.loads(str(arrays["order"]))]
    return {key: value for key, value in others.items() if key not in order} | {
        key: (made | others)[key] for key in order
    }


def uniform(tag, name, shape):
    """The weight of that name in the networks of `inception.npz`, by numbers in [0, 1)."""
    seed = zlib.crc32(f"{tag}/{name}".encode())
    u = np.random.Generator(np.random.PCG64(seed)).random(int(np.prod(shape))).reshape(shape)
    leaf = name.rpartition(".")[2]
    if len(shape) > 1 and leaf == "weight":
        fan = np.prod(shape[1:])
        u = (2 * u - 1) * np.sqrt((6 if name.endswith("conv.weight") else 3) / fan)
    elif leaf in ("bias", "running_mean") and name != "fc.bias":
        u = 0.6 * u - 0.3
    elif leaf == "running_var":
        u = 0.5 + u
    elif leaf in ("weight", "gamma"):
        u = 0.75 + 0.5 * u
    else:
        u = 2 * u - 1
    return u.astype(np.float32)
