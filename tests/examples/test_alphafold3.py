"""The example of AlphaFold 3's sampler is the published loop, and prints what spread it leaves."""

import pathlib
import runpy

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edm_jax import randomness, sample

FILE = pathlib.Path(__file__).parents[2] / "examples" / "alphafold3.py"
EXAMPLE = runpy.run_path(str(FILE))
KEYS = randomness.sample_keys(range(2))
MASK = np.array([[1.0, 1.0, 1.0, 1.0, 0.0], [1.0, 0.0, 1.0, 1.0, 1.0]])
HOOK_STREAM = np.array(2**32 - 1, np.uint32)


def denoise(x, sigma):
    """Not linear, and each atom sees the others."""
    together = x.sum(axis=1, keepdims=True)
    return 256 / (256 + sigma**2) * x + 16 * jnp.tanh(together / (16 + sigma)) / (1 + sigma)


def draws(shape):
    """The noise of every row, from each sample's key."""
    make = lambda row: randomness.normal(randomness.fold_in(KEYS, row), shape, dtype=jnp.float64)
    return np.asarray(jax.lax.map(make, jnp.arange(201)))


def placements():
    """Two directions and a shift for every row, from the stream that a hook has."""
    own = randomness.fold_in(KEYS, HOOK_STREAM)

    def make(row):
        turn, shift = randomness.split(randomness.fold_in(own, row))
        directions = randomness.normal(turn, (2, 3), dtype=jnp.float64)
        return directions, randomness.normal(shift, (1, 3), dtype=jnp.float64)

    return jax.tree.map(np.asarray, jax.lax.map(make, jnp.arange(200)))


def moved(x, mask, directions, shift):
    """Centre, rotation by Gram and Schmidt, shift: molecule by molecule."""
    result = np.zeros_like(x)
    for b, real in enumerate(mask):
        first = directions[b, 0] / np.linalg.norm(directions[b, 0])
        second = directions[b, 1] - (first @ directions[b, 1]) * first
        second /= np.linalg.norm(second)
        rotation = np.stack([first, second, np.cross(first, second)], axis=1)
        center = (real[:, None] * x[b]).sum(0) / (real.sum() + 1e-6)
        result[b] = real[:, None] * ((x[b] - center) @ rotation + shift[b])
    return result


def literal(noise, z, augment):
    """The published loop (Abramson et al. 2024, algorithm 18)."""
    fraction = np.arange(201) / 200
    levels = 16 * (160 ** (1 / 7) + fraction * (4e-4 ** (1 / 7) - 160 ** (1 / 7))) ** 7
    x = levels[0] * noise
    for k in range(200):
        x = augment(k, x)
        gamma = 0.8 if levels[k + 1] > 1.0 else 0.0
        t = levels[k] * (1 + gamma)
        x = x + 1.003 * np.sqrt(max(t**2 - levels[k] ** 2, 0.0)) * z[k]
        slope = (x - np.asarray(denoise(x, t))) / t
        x = x + 1.5 * (levels[k + 1] - t) * slope
    return x


@pytest.mark.slow
def test_the_sampler_is_the_published_loop_with_and_without_augmentation():
    tableau = EXAMPLE["sampler"]()
    assert (tableau.nfe, tableau.registers) == (200, 1)
    # 160 of the 200 steps are churned.
    assert np.count_nonzero(np.append(tableau.start[0, 1], tableau.weights[:, 0, -1])) == 160
    with jax.enable_x64(True):
        noise = randomness.normal(randomness.sample_keys([7, 8]), (5, 3), dtype=jnp.float64)
        z, (directions, shift) = draws((5, 3)), placements()
        plain = jax.jit(lambda noise: sample(denoise, tableau, noise, KEYS))(noise)
        expected = literal(np.asarray(noise), z, lambda k, x: x)
        np.testing.assert_allclose(plain, expected, rtol=1e-13, atol=1e-14 * np.abs(expected).max())
        hook = EXAMPLE["moved_at_random"](jnp.asarray(MASK))
        placed = jax.jit(lambda noise: sample(denoise, tableau, noise, KEYS, between=hook))(noise)
        augment = lambda k, x: moved(x, MASK, directions[k], shift[k])
        expected = literal(np.asarray(noise), z, augment)
        np.testing.assert_allclose(placed, expected, rtol=0, atol=1e-11)
    assert np.abs(placed - plain).max() > 1


@pytest.mark.slow
def test_rotations_are_uniform_rotations():
    draw = jax.jit(lambda keys: EXAMPLE["rotations"](keys, jnp.float32))
    turns = np.asarray(draw(randomness.sample_keys(range(3000))))
    np.testing.assert_allclose(
        turns @ turns.swapaxes(1, 2), np.tile(np.eye(3), (3000, 1, 1)), atol=1e-5
    )
    np.testing.assert_allclose(np.linalg.det(turns), 1.0, atol=1e-5)
    np.testing.assert_allclose(turns.mean(0), 0.0, atol=0.05)
    np.testing.assert_allclose((turns**2).mean(0), 1 / 3, atol=0.03)


@pytest.mark.slow
def test_atoms_are_drawn_in_float32_each_from_its_key():
    draw = jax.jit(lambda mask: EXAMPLE["sample_atoms"](denoise, mask, KEYS, steps=8))
    atoms = draw(np.float32(MASK))
    assert atoms.shape == (2, 5, 3) and atoms.dtype == jnp.float32
    assert np.isfinite(atoms).all() and not np.allclose(atoms[0], atoms[1], atol=1.0)


def test_the_command_prints_the_exact_moments(capsys):
    runpy.run_path(str(FILE), run_name="__main__")
    printed = capsys.readouterr().out
    rows = {line[:28].strip(): line[28:].split() for line in printed.splitlines()[2:]}
    assert rows == {
        "as published": ["0.529", "0.658", "0.685", "0.691"],
        "step scale 1": ["0.886", "0.867", "0.868", "0.870"],
        "published, 50 steps": ["0.358", "0.548", "0.598", "0.616"],
    }
    assert len(FILE.read_text().splitlines()) < 80
