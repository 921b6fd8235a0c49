"""Augmentation: reference outputs, closed forms, independence of samples, draws, bad input."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from edm_jax import augment

CASES = [*augment.Parameters._fields, "edm"]
PAIRS = ("translate_int", "aniso", "translate_frac")
EVERYTHING = augment.Settings(0.6, *[1.0] * 13)


def reference_parameters(arrays, case):
    """The draws of a case of the reference file as Parameters."""
    p = {k.split("/")[-1]: v for k, v in arrays.items() if k.startswith(f"{case}/params/")}
    if case == "edm":
        return augment.Parameters(
            xflip=p["xflip"],
            yflip=p["yflip"],
            scale=p["scale_w"],
            rotate_frac=p["angle"],
            aniso=np.stack([p["aniso_w"], p["aniso_r"]], 1),
            translate_frac=p["translate_w"].T,
        )
    if case == "aniso":
        return augment.Parameters(aniso=np.stack([p["w"], p["r"]], 1))
    (value,) = p.values()
    return augment.Parameters(**{case: value.T})


def as_images(array):
    return array if array.dtype == np.float32 else np.float32(array) / np.float32(127.5) - 1


@functools.cache
def jitted(settings):
    """augment(keys, images, p) of the settings with that p."""
    return jax.jit(lambda k, x, p: augment.augment(k, x, settings._replace(p=p)))


def some_images(shape, seed=0):
    return jax.random.uniform(jax.random.key(seed), shape, minval=-1.0, maxval=1.0)


apply = jax.jit(augment.apply)


@jax.jit
def apply_and_tell(images, parameters):
    return augment.apply(images, parameters), augment.labels(parameters, image_shape=images.shape)


def present(parameters):
    """Which columns of the labels of every transform belong to those that are there."""
    entries = zip(parameters, augment.pipeline.LABEL_ENTRIES.values())
    return np.concatenate([np.full(count, value is not None) for value, count in entries])


def check_reference(parameters, images, expected, labels):
    """One program serves every case: each transform is there, zeros where the case has none."""
    zeros = np.zeros(len(images), np.float32)
    full = {
        name: (np.stack([zeros, zeros], 1) if name in PAIRS else zeros) if value is None else value
        for name, value in parameters._asdict().items()
    }
    out, told = apply_and_tell(images, augment.Parameters(**full))
    rows = out.shape[1] // expected.shape[1]  # some cases keep every other row
    np.testing.assert_allclose(out[:, ::rows], expected, rtol=0, atol=1e-5)
    there = present(parameters)
    np.testing.assert_allclose(np.asarray(told)[:, there], labels, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(np.asarray(told)[:, ~there], 0)


@pytest.mark.parametrize("case", CASES)
def test_matches_the_reference(golden, case):
    arrays = golden("augment.npz")
    check_reference(
        reference_parameters(arrays, case),
        as_images(arrays["images"]),
        as_images(arrays[f"{case}/out"]),
        arrays[f"{case}/labels"],
    )


@pytest.mark.slow
def test_matches_the_reference_at_a_reflected_margin():
    """Shrunk, mirrored, turned, stretched and shifted images of 16 pixels, published numbers."""
    index = np.arange(2 * 3 * 16 * 16)
    images = np.sin(0.37 * index + 0.05 * (index % 11)).astype(np.float32).reshape(2, 3, 16, 16)
    parameters = augment.Parameters(
        xflip=np.float32([1, 0]),
        yflip=np.float32([1, 0]),
        scale=np.float32([0.8, -1.1]),
        rotate_frac=np.float32([-0.4 * np.pi, 0.8 * np.pi]),
        aniso=np.float32([[1.2, -0.6 * np.pi], [-0.7, 0]]),
        translate_frac=np.float32([[0.5, -0.3], [-0.9, 1.4]]),
    )
    told = [
        [1, 1, 0.8, -0.69098294, -0.9510565, -0.37082058, -1.1412678, 0.5, -0.3],
        [0, 0, -1.1, -1.809017, 0.58778536, -0.7, 0, -0.9, 1.4],
    ]
    np.testing.assert_allclose(jax.jit(augment.labels)(parameters), told, rtol=0, atol=1e-6)
    out = apply(images.transpose(0, 2, 3, 1), parameters).transpose(0, 3, 1, 2)
    first = [-0.89389545, -0.90660846, -1.0110598, -0.94380164]
    second = [-0.6255858, -0.7194445, -1.0061524, -0.9247082]
    third = [-0.40814206, -0.4646544, -0.9552299, -0.8377637]
    np.testing.assert_allclose(out[0, 0, :2, :4], [first, second], rtol=0, atol=5e-5)
    np.testing.assert_allclose(out[1, 2, 7, :4], third, rtol=0, atol=5e-5)
    np.testing.assert_allclose(
        [out.mean(), out.std(), out.min(), out.max()],
        [-0.05510382, 0.70036738, -1.0525267, 1.0524986],
        rtol=0,
        atol=5e-5,
    )


def test_images_move_as_the_inverse_map_says():
    """A smooth function, sampled, then resampled, is the function at the mapped coordinates."""
    height, width = 24, 40
    parameters = augment.Parameters(
        scale=np.float32([1.0]),
        rotate_frac=np.float32([0.3]),
        aniso=np.float32([[0.8, 1.1]]),
        translate_frac=np.float32([[0.4, -0.5]]),
    )
    y, x = np.mgrid[:height, :width] - np.array([(height - 1) / 2, (width - 1) / 2])[:, None, None]

    def smooth(x, y):
        return np.sin(0.25 * x + 0.15 * y) + 0.02 * x

    # By hand, from the definition: shift, turn to the axis, stretch, turn back, rotate, zoom.
    u, v = x - 0.4 * width / 8, y + 0.5 * height / 8

    def rotate(a, u, v):
        return np.cos(a) * u - np.sin(a) * v, np.sin(a) * u + np.cos(a) * v

    u, v = rotate(1.1, u, v)
    u, v = rotate(-1.1, u / 2**0.16, v * 2**0.16)
    u, v = rotate(0.3, u, v)
    u, v = u / 2**0.2, v / 2**0.2
    out = apply(np.float32(smooth(x, y))[None, :, :, None], parameters)[0, :, :, 0]
    inside = (abs(u) < width / 2 - 4) & (abs(v) < height / 2 - 4)
    assert inside.sum() > 300
    np.testing.assert_allclose(np.asarray(out)[inside], smooth(u, v)[inside], rtol=0, atol=5e-3)


@pytest.mark.slow
def test_whole_pixel_shifts_agree_in_both_transforms():
    """A sub-pixel shift of whole pixels is the integer shift, reflection included."""
    images = some_images((3, 16, 16, 2))
    pixels = np.float32([[2, 0], [0, 1], [-1, -2]])  # x right, y down
    moved = apply(images, augment.Parameters(translate_frac=pixels / 2))
    shifted = apply(images, augment.Parameters(translate_int=pixels * np.float32([0.5, -0.5])))
    np.testing.assert_allclose(moved, shifted, rtol=0, atol=2e-6)
    np.testing.assert_array_equal(shifted[0, :, 2:], images[0, :, :-2])
    np.testing.assert_array_equal(shifted[0, :, 0], images[0, :, 2])


def test_quarter_turns_are_counter_clockwise():
    images = some_images((4, 5, 5, 1))
    out = apply(images, augment.Parameters(rotate_int=np.arange(4.0)))
    for turns in range(4):
        np.testing.assert_array_equal(out[turns], np.rot90(images[turns], turns))


@pytest.mark.parametrize("channels", [1, 3])
def test_colour_transforms_come_with_their_widths(channels):
    """Brightened by 0.2, doubled in contrast, luma flipped: grey is -(0.2 + grey) * 2."""
    grey = jnp.broadcast_to(some_images((1, 4, 4, 1)), (1, 4, 4, channels))
    one = np.float32([1.0])
    drawn = augment.Parameters(
        brightness=one, contrast=2 * one, lumaflip=one, hue=one, saturation=one
    )
    np.testing.assert_allclose(apply(grey, drawn), -(grey + 0.2) * 2, rtol=0, atol=1e-6)


@pytest.fixture(scope="module")
def sixteen():
    """Keys and images of sixteen samples, and their augmented images and labels."""
    keys, images = jax.random.split(jax.random.key(0), 16), some_images((16, 8, 8, 3))
    return keys, images, jitted(augment.edm())(keys, images, 0.5)


@pytest.mark.slow
def test_a_sample_is_its_own_affair(sixteen):
    """Bit for bit the same alone and among others."""
    keys, images, (together, told) = sixteen
    part = slice(4, 5)
    alone, told_alone = jitted(augment.edm())(keys[part], images[part], 0.5)
    np.testing.assert_array_equal(alone, together[part])
    np.testing.assert_array_equal(told_alone, told[part])


def test_neighbours_do_not_matter(sixteen):
    keys, images, (together, _) = sixteen
    alone, _ = jitted(augment.edm())(keys, images.at[1:].set(0.0), 0.5)
    np.testing.assert_array_equal(alone[0], together[0])


@pytest.mark.slow
def test_eight_devices_draw_and_apply_the_same(sixteen):
    keys, images, expected = sixteen
    rows = NamedSharding(Mesh(np.array(jax.devices()), "data"), PartitionSpec("data"))
    arguments = jax.device_put(keys, rows), jax.device_put(images, rows)
    sharded = jitted(augment.edm())(*arguments, 0.5)
    assert sharded[0].sharding.is_equivalent_to(rows, 4)  # nothing was gathered onto one device
    np.testing.assert_array_equal(sharded[0], expected[0])
    np.testing.assert_array_equal(sharded[1], expected[1])


@pytest.mark.slow
def test_jit_changes_nothing():
    images = some_images((2, 8, 8, 3))
    drawn = augment.Parameters(yflip=np.float32([1, 0]), rotate_frac=np.float32([0.3, 2.0]))
    # Positions on the doubled grid round differently by up to 1e-5 of a pixel.
    eager = augment.apply(images, drawn)
    np.testing.assert_allclose(eager, apply(images, drawn), rtol=0, atol=1e-4)


@pytest.mark.slow
def test_nothing_drawn_changes_nothing():
    """Bit for bit, also beside neighbours that move; and the labels are zeros."""
    images = some_images((6, 16, 16, 3))
    keys = jax.random.split(jax.random.key(3), 6)
    out, told = jitted(EVERYTHING)(keys, images, 0.0)
    np.testing.assert_array_equal(out, images)
    np.testing.assert_array_equal(told, np.zeros((6, 19)))
    out, told = jitted(EVERYTHING)(keys, images, 0.05)
    still = np.asarray((told == 0).all(1))
    assert 0 < still.sum() < 6
    np.testing.assert_array_equal(out[still], images[still])
    assert (abs(out - images).max((1, 2, 3)) > 0.05)[~still].all()


COUNT, P = 20000, 0.3


@pytest.fixture(scope="module")
def draws():
    """Many draws: of every transform, of six of them, and of six with a tiny p."""

    @jax.jit
    def make(keys):
        everything = augment.draw(keys, EVERYTHING._replace(p=P))
        few = augment.draw(keys, augment.edm(P)._replace(xflip=1.0))
        return everything, few, augment.draw(keys, augment.edm(1e-6))

    return make(jax.random.split(jax.random.key(4), COUNT))


@pytest.mark.slow
def test_frequencies_and_widths_of_the_draws(draws):
    drawn = draws[0]
    for name, value in drawn._asdict().items():
        first = value if value.ndim == 1 else value[:, 0]
        zeros = {"xflip": 0.5, "yflip": 0.5, "lumaflip": 0.5, "rotate_int": 0.25}.get(name, 0.0)
        frequency = P * (1 - zeros)
        spread = np.sqrt(frequency * (1 - frequency) / COUNT)
        assert abs(float((first != 0).mean()) - frequency) < 5 * spread, name
        variance = {
            "xflip": None, "yflip": None, "lumaflip": None, "rotate_int": None,
            "translate_int": 1 / 3, "rotate_frac": np.pi**2 / 3, "hue": np.pi**2 / 3,
        }.get(name, 1.0)  # fmt: skip
        if variance is not None:
            happened = np.asarray(value)[np.asarray(first) != 0]
            happened = happened[:, 0] if name == "aniso" else happened
            assert abs(happened.mean()) < 5 * np.sqrt(variance / happened.size), name
            np.testing.assert_allclose(happened.var(), variance, rtol=0.1, err_msg=name)
    turned = np.asarray(drawn.aniso[:, 1])[np.asarray(drawn.aniso[:, 0]) != 0] != 0
    assert abs(turned.mean() - 0.5) < 5 * 0.5 / np.sqrt(turned.size)
    # No two transforms share a draw.
    columns = np.stack([drawn.scale, drawn.brightness, drawn.contrast, drawn.saturation])
    assert abs(np.corrcoef(columns) - np.eye(4)).max() < 5 / np.sqrt(COUNT)


def test_the_gate_of_x_flips_is_always_open(draws):
    rare = draws[2]
    assert abs(float(rare.xflip.mean()) - 0.5) < 5 * 0.5 / np.sqrt(COUNT)
    assert float((rare.yflip + abs(rare.scale)).sum()) == 0


def test_enabling_a_transform_changes_no_other_draw(draws):
    many, few, _ = draws
    for name, value in few._asdict().items():
        if value is not None:
            np.testing.assert_array_equal(value, getattr(many, name))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda k, x: augment.draw(k, augment.edm(1.5)), "p must be in"),
        (lambda k, x: augment.draw(k, augment.Settings(hue=-1.0)), "hue must be"),
        (
            lambda k, x: augment.draw(jax.random.key(0), augment.edm()),
            "keys must be typed keys|keys must have shape",
        ),
        (
            lambda k, x: augment.draw(jnp.zeros(2), augment.edm()),
            "keys must be typed keys|keys must have shape",
        ),
        (lambda k, x: augment.labels(augment.Parameters()), "must hold a transform, got none"),
        (
            lambda k, x: augment.labels(augment.draw(k, augment.Settings(translate_int=1.0))),
            "image_shape",
        ),
        (lambda k, x: augment.augment(k, x[0], augment.edm()), "images must have shape"),
        (lambda k, x: augment.augment(k, x[:, :4], augment.Settings(rotate_int=1.0)), "square"),
        (lambda k, x: augment.augment(k, x[..., :2], augment.Settings(hue=1.0)), "1 or 3"),
        (lambda k, x: augment.apply(x, augment.Parameters(scale=jnp.ones(1))), "images, linear"),
    ],
)
def test_bad_arguments(call, message):
    keys = jax.random.split(jax.random.key(0), 2)
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(call, keys, jnp.zeros((2, 8, 8, 3)))
