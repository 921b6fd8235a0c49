"""FID's network against torch-fidelity's numbers, with weights that a formula makes."""

import formula
import jax
import jax.numpy as jnp
import numpy as np
import official_pickles as pickles
import pytest

from edm_jax.evaluation import features, inception
from edm_jax.evaluation.resize import tf1_bilinear
from edm_jax.weights.errors import WeightsError

IMAGES = ("0", "3", "5", "6")  # of the golden file: 32x32, gray 28x28, 40x56, 360x360
FIRST = 2  # of them go through the network


def unit_shapes(shapes, prefix=""):
    """(name, shape of its kernel) of every convolution with a norm."""
    for name, inner in shapes.items():
        if name == "conv":
            yield prefix, inner["kernel"].shape
        else:
            yield from unit_shapes(inner, f"{prefix}{name}.")


@pytest.fixture(scope="module")
def numbers(golden):
    return golden("inception.npz")


@pytest.fixture(scope="module")
def weights(numbers):
    """A state dict with the names and shapes of the published file."""
    shapes = inception.parameter_shapes()
    wanted = {"fc.weight": (1008, 2048), "fc.bias": (1008,)}
    for prefix, (height, width, inputs, count) in unit_shapes(shapes):
        wanted[f"{prefix}conv.weight"] = count, inputs, height, width
        for part in ("weight", "bias", "running_mean", "running_var"):
            wanted[f"{prefix}bn.{part}"] = (count,)
    tag = str(numbers["tag"])
    return {name: formula.uniform(tag, name, shape) for name, shape in wanted.items()}


@pytest.fixture(scope="module")
def found(numbers, weights):
    """Features, blocks and sFID's features of the first images, in one compiled call."""
    params, head = inception.from_state_dict(weights)
    x = jnp.concatenate([inception.inputs(numbers[f"image/{i}"][None]) for i in IMAGES[:FIRST]])

    @jax.jit
    def run(params, x):
        network = inception.Inception()
        is_block = lambda module, _: type(module).__name__.startswith("Mixed")
        return network.apply(
            {"params": params}, x, mutable=["intermediates", "spatial"],
            capture_intermediates=is_block,
        )  # fmt: skip

    return head, *jax.device_get(run(params, x))


def assert_close(found, expected, tolerance=1e-5):
    for a, b in zip(found, expected):
        assert np.linalg.norm(np.float64(a) - b) < tolerance * np.linalg.norm(b)


@pytest.mark.slow
def test_the_weights_are_those_of_the_reference(numbers, weights):
    assert len(weights) == 472
    sums = sum(np.array([w.sum(dtype=float), (w.astype(float) ** 2).sum()])
               for w in weights.values())  # fmt: skip
    np.testing.assert_allclose(sums, numbers["weight_sums"], rtol=1e-9)


@pytest.mark.parametrize("place", range(len(IMAGES)), ids=IMAGES)
def test_the_resize_of_tensorflow_1(numbers, place):
    x = np.asarray(inception.inputs(numbers[f"image/{IMAGES[place]}"][None]))[0]
    index = numbers["resized/index"]
    np.testing.assert_allclose(x[np.ix_(index, index)], numbers["resized/grid"][place], atol=1e-6)
    stats = x.mean((0, 1), np.float64), x.std((0, 1), np.float64), x.min((0, 1)), x.max((0, 1))
    np.testing.assert_allclose(stats, numbers["resized/stats"][place], atol=1e-5)


def test_a_resize_to_the_same_size_changes_nothing(numbers):
    images = numbers["image/5"][None, :, :40]
    np.testing.assert_array_equal(tf1_bilinear(images, 40), images)


@pytest.mark.slow
def test_features_and_logits(numbers, found):
    head, features, _ = found
    assert_close(features, numbers["features"][:FIRST])
    assert_close(features @ head.T, numbers["logits"][:FIRST])


def test_spatial_features(numbers, found):
    kept = found[2]["spatial"]["Mixed_6d"]["first"][0]
    assert_close(kept[..., :7].reshape(FIRST, -1), numbers["spatial"][:FIRST])


def test_every_block(numbers, found):
    blocks = {key: value for key, value in numbers.items() if key.startswith("block/Mixed")}
    assert len(blocks) == 11
    for key, expected in blocks.items():
        (block,) = found[2]["intermediates"][key.removeprefix("block/")]["__call__"]
        assert_close(block.mean((1, 2), np.float64), expected)


def test_the_functions_take_bytes(monkeypatch):
    seen = []

    class Network:
        def apply(self, variables, x, mutable=False):
            seen.append(x)
            kept = {"spatial": {"Mixed_6d": {"first": (jnp.ones((1, 17, 17, 192)),)}}}
            return (None, kept) if mutable else x

    monkeypatch.setattr(inception, "Inception", Network)
    images = np.full((1, 8, 8, 1), 255, np.uint8)
    assert inception.features({}, images).shape == (1, 299, 299, 3)
    assert inception.spatial_features({}, images).shape == (1, 2023)
    assert all(float(x.max()) == float(x.min()) == 127 / 128 for x in seen)


@pytest.mark.parametrize("name", ["Mixed_7c.branch_pool.bn.running_var", "fc.weight"])
def test_another_network_is_refused(weights, name):
    for bad in (None, np.zeros(3, np.float32)):
        changed = {key: value for key, value in weights.items() if key != name}
        changed |= {} if bad is None else {name: bad}
        with pytest.raises(WeightsError, match=f"Inception of FID, with {name} of shape"):
            inception.from_state_dict(changed)


def test_without_the_file_it_is_said_where_to_get_it(monkeypatch, tmp_path):
    monkeypatch.delenv(features.FILES["inception"].variable, raising=False)
    with pytest.raises(ValueError, match=r"got none; get it from https://github.com/.*\.pth"):
        features.inception()
    monkeypatch.setenv(features.FILES["inception"].variable, str(tmp_path / "none.pth"))
    with pytest.raises(ValueError, match="none.pth; get it from"):
        features.inception()


def test_another_file_is_refused_by_its_name(tmp_path):
    path = tmp_path / "other.pth"
    path.write_bytes(pickles.dumps({"fc.weight": pickles.tensor(np.zeros((2, 3), np.float32))}))
    with pytest.raises(WeightsError, match="other.pth: must hold the Inception of FID"):
        features.inception(path)
    path.write_bytes(pickles.dumps([1]))
    with pytest.raises(WeightsError, match="other.pth: must hold a state dict"):
        features.inception(path)
