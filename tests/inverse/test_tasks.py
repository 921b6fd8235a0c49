"""Tasks by name: what each one measures, its picture, and what is refused."""

import jax
import numpy as np
import pytest

from edm_jax import inverse
from edm_jax.inverse import TASKS, build_operator

SHAPE = (8, 8, 3)
X = np.random.default_rng(0).standard_normal((2, *SHAPE)).astype(np.float32)
SIZES = {
    "inpaint": (2, 48 * 3),
    "super-resolve": (2, 4, 4, 3),
    "deblur": (2, 8, 8, 3),
    "motion-deblur": (2, 8, 8, 3),
    "colorize": (2, 8, 8, 1),
    "fourier": (2, 32, 3, 2),
    "phase-retrieval": (2, 12, 12, 3),
}


@pytest.mark.parametrize("name", TASKS)
def test_every_task_measures_and_has_a_picture(name):
    operator = build_operator(name, SHAPE)
    y = jax.eval_shape(lambda x: operator(x), X)
    assert y.shape == SIZES[name]
    assert jax.eval_shape(lambda y: inverse.picture(operator, y, SHAPE), y).shape == X.shape


@pytest.mark.slow
def test_what_each_measures():
    half = build_operator("inpaint", SHAPE, share=0.5, mask_seed=3)
    operators = [
        build_operator("inpaint", SHAPE, box=(0, 1, 8, 7)),
        lambda x: inverse.picture(half, half(x), SHAPE),
        build_operator("super-resolve", SHAPE, factor=4),
        build_operator("colorize", SHAPE),
        build_operator("motion-deblur", SHAPE, length=3),
        build_operator("fourier", SHAPE, share=0.01),
    ]
    measured = jax.jit(lambda x: [operator(x) for operator in operators])(X)
    kept, seen, means, gray, moved, first = map(np.asarray, measured)
    np.testing.assert_array_equal(kept, X[:, :, 0].reshape(2, -1))
    known = (seen != 0).all(-1)
    assert known.sum() == 2 * 32 and (known[0] == known[1]).all()
    np.testing.assert_array_equal(seen, np.where(known[..., None], X, 0))
    blocks = X.reshape(2, 2, 4, 2, 4, 3).mean((2, 4))
    np.testing.assert_allclose(means, blocks, atol=1e-6)
    np.testing.assert_allclose(gray, X.mean(-1, keepdims=True), atol=1e-6)
    left, middle, right = inverse.motion_kernel(3)[1]
    across = left * X[:, :, :-2] + middle * X[:, :, 1:-1] + right * X[:, :, 2:]
    np.testing.assert_allclose(moved[:, :, 1:-1], across, atol=1e-6)
    np.testing.assert_allclose(first[:, 0, :, 0], X.sum((1, 2)) / 8, atol=1e-5)


def test_a_picture_of_a_smaller_image_is_enlarged():
    y = np.arange(4, dtype=np.float32).reshape(1, 2, 2, 1)
    shown = jax.jit(lambda y: inverse.picture(lambda x: x, y, (4, 4, 1)))(y)
    np.testing.assert_array_equal(shown[0, :, :, 0], np.kron([[0, 1], [2, 3]], np.ones((2, 2))))


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("inpant", {}, "did you mean 'inpaint'"),
        ("inpaint", {"box": (0, 0, 9, 2)}, "within 8 x 8 pixels"),
        ("inpaint", {"box": (0, 0, 0, 2)}, "within 8 x 8 pixels"),
        ("inpaint", {"box": (-1, 0, 2, 2)}, "within 8 x 8 pixels"),
        ("inpaint", {"box": (0, 0, 2)}, "within 8 x 8 pixels"),
        ("inpaint", {"box": (0, 0, 2.5, 2)}, "within 8 x 8 pixels"),
        ("inpaint", {"box": (0, 0, 8, 8)}, "got everything hidden"),
        ("inpaint", {"share": 0.001}, "got nothing hidden"),
        ("inpaint", {"share": 1.5}, "share must lie in"),
        ("inpaint", {"share": 0.5, "box": (0, 0, 2, 2)}, "share must be left out"),
        ("super-resolve", {"factor": 3}, "factor must divide"),
        ("super-resolve", {"factor": 1}, "factor must be at least 2"),
        ("super-resolve", {"kernel": "lanczos"}, "kernel must be one of box, bicubic"),
        ("motion-deblur", {"length": 9}, "at most 8 pixels"),
        ("motion-deblur", {"length": 4}, "length must be odd"),
        ("motion-deblur", {"angle": float("inf")}, "angle must be finite"),
        ("fourier", {"share": 0.0}, r"share must lie in \(0.0, 1.0\]"),
        ("phase-retrieval", {"pad": -1}, "pad must not be negative"),
        ("colorize", {"std": 1.0}, "must be given no options"),
    ],
)
def test_what_is_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        build_operator(name, SHAPE, **options)


def test_gray_images_have_no_colours_to_find():
    with pytest.raises(ValueError, match="images must have colours"):
        build_operator("colorize", (8, 8, 1))
