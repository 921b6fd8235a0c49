"""Any state, any noise, a function between rows, a start on the way, chosen states."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edm_jax import normal, randomness, sample_keys, samplers, timesteps

LEVELS = timesteps.edm(6)
HEUN = samplers.heun(LEVELS)
CHURNED = samplers.heun(LEVELS, churn=samplers.Churn(20))
NOISY_END = samplers.analytic_dpm(LEVELS, posterior_variance=lambda s: s * s / (1 + s * s))
KEYS = randomness.sample_keys(range(8))
NOISE = np.asarray(randomness.normal(randomness.sample_keys(range(100, 108)), (3,)))
TREE = {"a": NOISE[:, :1], "b": NOISE[:, 1:]}


def ideal(x, sigma):
    return jax.tree.map(lambda a: 0.1 + 0.25 / (0.25 + sigma**2) * (a - 0.1), x)


def identity(row, keys, registers):
    return registers


# -- the program -------------------------------------------------------------------------------


def literal(denoise, tableau, noise, keys):
    """The loop of a tableau, written out for one array."""
    size, noisy = tableau.registers, tableau.stochastic
    start, sigma, weights = (
        jnp.asarray(field, noise.dtype) for field in (tableau.start, tableau.sigma, tableau.weights)
    )
    if not noisy:
        start, weights = start[:, :1], weights[:, :, : size + 1]

    def draw(row):
        drawn = randomness.normal(randomness.fold_in(keys, row), noise.shape[1:], dtype=noise.dtype)
        return (drawn,)

    def combine(table, vectors):
        result = []
        for i in range(size):
            total = table[i, 0] * vectors[0]
            for j in range(1, len(vectors)):
                total = total + table[i, j] * vectors[j]
            result.append(total)
        return tuple(result)

    def step(registers, row):
        index, level, table = row
        vectors = (*registers, jnp.asarray(denoise(registers[0], level), noise.dtype))
        return combine(table, vectors + (draw(index) if noisy else ())), None

    registers = combine(start, (noise, *(draw(0) if noisy else ())))
    rows = jnp.arange(1, tableau.nfe + 1), sigma, weights
    return jax.lax.scan(step, registers, rows)[0][0]


@pytest.mark.parametrize("tableau", [HEUN, CHURNED, samplers.ipndm(LEVELS)])
def test_a_single_array_has_the_program_of_the_literal_loop(tableau):
    """To the letter, so that what is unused costs nothing."""
    for dtype in (jnp.float32, jnp.bfloat16):
        arguments = tableau, NOISE.astype(dtype), KEYS
        programs = []
        for loop in (samplers.sample, literal):
            call = lambda *given, loop=loop: loop(ideal, *given)
            programs.append((str(jax.make_jaxpr(call)(*arguments)), lowered(call, arguments)))
        assert programs[0] == programs[1]


def lowered(call, arguments):
    return jax.jit(call).lower(*arguments).as_text()


@pytest.mark.slow
@pytest.mark.parametrize("tableau", [HEUN, CHURNED, NOISY_END, samplers.dpmpp_sde(LEVELS)])
def test_an_identity_between_changes_no_bit(tableau):
    results = [
        jax.jit(lambda z, k, b=between: samplers.sample(ideal, tableau, z, k, between=b))(
            NOISE, KEYS
        )
        for between in (None, identity)
    ]
    assert jnp.array_equal(*results)


@pytest.mark.slow
def test_an_identity_between_changes_no_bit_of_a_traced_tableau():
    results = [
        jax.jit(lambda t, z, k, b=between: samplers.sample(ideal, t, z, k, between=b))(
            CHURNED, NOISE, KEYS
        )
        for between in (None, identity)
    ]
    assert jnp.array_equal(*results)


@pytest.mark.slow
def test_unrolled_rows_give_the_same():
    with jax.enable_x64(True):
        plain = samplers.sample(ideal, CHURNED, np.float64(NOISE), KEYS)
        unrolled = samplers.sample(ideal, CHURNED, np.float64(NOISE), KEYS, unroll=4)
    np.testing.assert_allclose(unrolled, plain, rtol=0, atol=1e-12)
    program = jax.make_jaxpr(lambda z: samplers.sample(ideal, HEUN, z, unroll=4))(NOISE)
    assert "unroll=4" in str(program)


# -- any state ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_state_of_two_leaves_gives_what_their_concatenation_gives():
    coupled = lambda x, sigma: 0.1 * jnp.roll(x, 1, axis=-1) / (1 + sigma)

    def split(x, sigma):
        denoised = coupled(jnp.concatenate([x["a"], x["b"]], -1), sigma)
        return {"a": denoised[:, :1], "b": denoised[:, 1:]}

    rows = np.random.default_rng(1).standard_normal((CHURNED.nfe + 1, *NOISE.shape), np.float32)
    parts = {"a": rows[..., :1], "b": rows[..., 1:]}
    for tableau, given, given_parts in ((HEUN, None, None), (CHURNED, rows, parts)):
        whole, states = samplers.sample(coupled, tableau, NOISE, row_noise=given, trajectory=True)
        tree, tree_states = samplers.sample(
            split, tableau, TREE, row_noise=given_parts, trajectory=True
        )
        for array, leaves in ((whole, tree), (states, tree_states)):
            joined = np.concatenate([leaves["a"], leaves["b"]], -1)
            np.testing.assert_allclose(joined, array, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_each_leaf_has_draws_and_a_dtype_of_its_own():
    state = {"a": NOISE[:, :1].astype(jnp.bfloat16), "b": NOISE}
    levels = []

    def denoise(x, sigma):
        levels.append(sigma.dtype)
        return ideal(x, sigma)

    result = samplers.sample(denoise, CHURNED, state, KEYS)
    assert (result["a"].dtype, result["b"].dtype) == (jnp.bfloat16, jnp.float32)
    assert levels == [jnp.float32]

    @jax.jit
    @jax.vmap
    def normal(row):
        keys = randomness.fold_in(KEYS, row)
        leaves = (randomness.fold_in(keys, leaf) for leaf in range(2))
        return [randomness.normal(leaf, (3,), dtype=jnp.float64) for leaf in leaves]

    with jax.enable_x64(True):
        twice = [np.float64(NOISE)] * 2
        alike = samplers.sample(ideal, CHURNED, twice, KEYS)
        assert not np.array_equal(*alike)
        own = normal(np.arange(CHURNED.nfe + 1, dtype=np.uint32))
        given = samplers.sample(ideal, CHURNED, twice, row_noise=own)
        for one, two in zip(alike, given):
            np.testing.assert_allclose(one, two, rtol=0, atol=1e-12)


# -- any noise ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_draw_is_called_with_the_keys_of_each_row_and_what_to_be_like():
    seen = []

    def draw(keys, like):
        seen.append((like.shape, like.dtype))
        return signs(keys, like)

    drawn = samplers.sample(ideal, CHURNED, NOISE, KEYS, draw=draw)
    of_row = jax.jit(jax.vmap(lambda k: signs(randomness.fold_in(KEYS, k), NOISE)))
    rows = of_row(np.arange(CHURNED.nfe + 1, dtype=np.uint32))
    given = samplers.sample(ideal, CHURNED, NOISE, row_noise=rows)
    np.testing.assert_allclose(drawn, given, rtol=0, atol=3e-6)
    assert set(seen) == {(NOISE.shape, NOISE.dtype)}
    same = samplers.sample(ideal, CHURNED, NOISE, KEYS, draw=randomness.normal_like)
    assert np.array_equal(same, samplers.sample(ideal, CHURNED, NOISE, KEYS))


def test_a_deterministic_tableau_draws_nothing():
    result = samplers.sample(ideal, HEUN, NOISE, draw=lambda keys, like: 1 / 0)
    assert np.array_equal(result, samplers.sample(ideal, HEUN, NOISE))


# -- between rows ------------------------------------------------------------------------------


def stir(row, keys, registers):
    """Something of the row, of the keys and of every register."""
    noise = randomness.uniform(keys, (3,), dtype=registers[0].dtype)
    return tuple((0.9 + 0.01 * row) * y + 0.1 * (i + 1) * noise for i, y in enumerate(registers))


@pytest.mark.slow
def test_between_is_called_before_the_noise_of_each_row():
    rows = np.random.default_rng(0).standard_normal((CHURNED.nfe + 1, *NOISE.shape))
    result, states = samplers.sample(
        ideal, CHURNED, NOISE, KEYS, row_noise=rows, between=stir, trajectory=True
    )
    own = randomness.fold_in(KEYS, np.array(2**32 - 1, np.uint32))

    def stirred(row, Y):
        if row == CHURNED.nfe:
            return Y
        noise = np.asarray(randomness.uniform(randomness.fold_in(own, row), (3,)))
        return np.stack([(0.9 + 0.01 * row) * y + 0.1 * (i + 1) * noise for i, y in enumerate(Y)])

    Y = np.tensordot(CHURNED.start[:, :1], np.asarray(NOISE)[None], 1)
    Y = stirred(0, Y) + CHURNED.start[:, 1, None, None] * rows[0]
    expected = [Y[0]]
    for k, (sigma, weights) in enumerate(zip(CHURNED.sigma, CHURNED.weights)):
        Y = np.tensordot(weights[:, :-1], np.stack([*Y, ideal(Y[0], sigma)]), 1)
        Y = stirred(k + 1, Y) + weights[:, -1, None, None] * rows[k + 1]
        expected.append(Y[0])
    np.testing.assert_allclose(result, expected[-1], atol=2e-5)
    np.testing.assert_allclose(states, expected, rtol=2e-6, atol=2e-5)


def signs(keys, like):
    return randomness.rademacher(keys, like.shape[1:], dtype=like.dtype)


@pytest.mark.slow
def test_with_between_and_draw_jit_vmap_and_eight_devices_agree():
    call = lambda z, k: samplers.sample(ideal, CHURNED, z, k, between=stir, draw=signs)
    traced = lambda t, z, k: samplers.sample(ideal, t, z, k, between=stir, draw=signs)
    split = lambda a: a.reshape(4, 2, *a.shape[1:])
    assert jax.device_count() == 8
    with jax.enable_x64(True):
        noise = jnp.asarray(NOISE, jnp.float64)
        jitted = jax.jit(call)
        expected = jitted(noise, KEYS)
        results = {
            "argument": jax.jit(traced)(CHURNED, noise, KEYS),
            "vmap": jax.jit(jax.vmap(call))(split(noise), split(KEYS)),
            "8 devices": jax.pmap(call)(noise[:, None], KEYS[:, None]),
            "neighbours": jitted(noise[::-1], KEYS[::-1])[::-1],
        }
    for name, result in results.items():
        result = np.reshape(result, expected.shape)
        np.testing.assert_allclose(result, expected, rtol=0, atol=1e-12, err_msg=name)


@pytest.mark.slow
def test_gradients_pass_through_between():
    with jax.enable_x64(True):
        noise = jnp.asarray(NOISE, jnp.float64)

        @jax.jit
        def value(amount):
            between = lambda row, keys, Y: jax.tree.map(lambda y: y + amount * jnp.sin(y), Y)
            return samplers.sample(ideal, CHURNED, noise, KEYS, between=between, draw=signs).var()

        step = 1e-5
        finite = (value(0.3 + step) - value(0.3 - step)) / (2 * step)
        np.testing.assert_allclose(jax.grad(value)(0.3), finite, rtol=1e-6)


@pytest.mark.slow
def test_repaint_keeps_the_known_region():
    """Where y is known, every state is y at the level of its row (Lugmayr et al. 2022)."""
    tableau = samplers.euler_ancestral(LEVELS)
    known, y = np.array([True, False, True]), np.float32([0.5, 0.0, -0.5])
    added = np.append(tableau.start[0, 1], tableau.weights[:, 0, -1])[:-1]
    spread = np.float32(np.sqrt(tableau.sigma**2 - added**2))

    def repaint(row, keys, registers):
        reference = y + jnp.asarray(spread)[row] * randomness.normal(keys, (3,))
        return (jnp.where(known, reference, registers[0]),)

    keys = randomness.sample_keys(range(4000))
    noise = randomness.normal(randomness.sample_keys(range(5000, 9000)), (3,))
    _, states = samplers.sample(ideal, tableau, noise, keys, between=repaint, trajectory=True)
    states = np.asarray(states)
    own = randomness.fold_in(keys, np.array(2**32 - 1, np.uint32))
    folded = jax.jit(lambda keys, k: randomness.normal(randomness.fold_in(keys, k), (3,)))
    for k, level in enumerate(tableau.sigma):
        there = states[k][:, [0, 2]]
        np.testing.assert_allclose(there.mean(0), [0.5, -0.5], atol=0.07 * level + 1e-3)
        np.testing.assert_allclose(there.std(0), level, rtol=0.05)
        reference = y + spread[k] * np.asarray(folded(own, np.uint32(k)))
        fresh = np.float32(added[k]) * np.asarray(folded(keys, np.uint32(k)))
        expected = (reference + fresh)[:, [0, 2]]
        np.testing.assert_allclose(there, expected, rtol=1e-5, atol=1e-5)


# -- a start on the way, chosen states ---------------------------------------------------------


@pytest.mark.slow
def test_a_start_is_the_first_register():
    x = np.float32(LEVELS[0]) * NOISE
    for tableau in (HEUN, samplers.ipndm(LEVELS), CHURNED, samplers.unipc(LEVELS)):
        expected = samplers.sample(ideal, tableau, NOISE, KEYS)
        result = samplers.sample(ideal, tableau, start=x, keys=KEYS)
        np.testing.assert_allclose(result, expected, rtol=0, atol=1e-5)
    _, states = samplers.sample(ideal, HEUN, start=x, trajectory=True)
    assert np.array_equal(np.asarray(states)[0], x)


def test_a_start_on_the_way_goes_on_where_the_sampler_was():
    _, states = samplers.sample(ideal, samplers.euler(LEVELS), NOISE, trajectory=True)
    states = np.asarray(states)
    for half in (2, 4):
        rest = samplers.euler(LEVELS[half:])
        result = samplers.sample(ideal, rest, start=states[half])
        np.testing.assert_allclose(result, states[-1], rtol=0, atol=1e-6)
        by_argument = jax.jit(lambda table, x: samplers.sample(ideal, table, start=x))
        np.testing.assert_allclose(by_argument(rest, states[half]), result, rtol=0, atol=1e-6)


def test_churn_is_added_to_a_start():
    added = CHURNED.start[0, 1]
    rows = np.ones((CHURNED.nfe + 1, *NOISE.shape), np.float32)
    _, states = samplers.sample(ideal, CHURNED, start=NOISE, row_noise=rows, trajectory=True)
    assert added > 10
    np.testing.assert_allclose(np.asarray(states)[0], NOISE + added, rtol=1e-6)


def test_every_register_starts_in_proportion():
    tableau = samplers.Tableau(
        np.array([[4.0, 0.0], [2.0, 1.0]]),
        np.array([1.0]),
        np.array([[[0, 1, 0, 0], [0, 0, 0, 0]]]),
    )
    rows = np.full((2, *NOISE.shape), 3.0, np.float32)
    result = samplers.sample(ideal, tableau, start=NOISE, row_noise=rows)
    np.testing.assert_allclose(result, 0.5 * NOISE + 3.0, rtol=1e-6)


@pytest.mark.slow
def test_chosen_states_are_those_and_no_others_are_kept():
    given = np.random.default_rng(0).standard_normal((CHURNED.nfe + 1, *NOISE.shape))
    with jax.enable_x64(True):
        noise = np.float64(NOISE)
        call = lambda rows: samplers.sample(ideal, CHURNED, noise, row_noise=given, trajectory=rows)
        plain, states = map(np.asarray, call(True))
        for rows in ([0, 4, 11], [11, 3, 3], np.array([2])):
            result, some = call(rows)
            np.testing.assert_allclose(result, plain, rtol=0, atol=1e-12)
            np.testing.assert_allclose(some, states[rows], rtol=1e-12, atol=1e-12)
    _, leaves = samplers.sample(ideal, HEUN, TREE, trajectory=[3, 5])
    assert jax.tree.map(jnp.shape, leaves) == {"a": (2, 8, 1), "b": (2, 8, 2)}
    text = lowered(lambda z: samplers.sample(ideal, HEUN, z, trajectory=[3, 5]), (NOISE,))
    assert "tensor<2x8x3" in text and f"tensor<{HEUN.nfe}x8x3" not in text


@pytest.mark.slow
def test_gradients_pass_through_chosen_states():
    call = lambda z: samplers.sample(ideal, HEUN, z, trajectory=[3])[1].sum()
    every = lambda z: samplers.sample(ideal, HEUN, z, trajectory=True)[1][3].sum()
    both = jax.jit(lambda z: (jax.grad(call)(z), jax.grad(every)(z)))
    np.testing.assert_allclose(*both(NOISE), rtol=1e-5)


# -- bad arguments -----------------------------------------------------------------------------


def untraced(x, sigma):
    raise AssertionError("the denoiser was traced")


def sample(noise=NOISE, keys=KEYS, tableau=CHURNED, **options):
    return samplers.sample(untraced, tableau, noise, keys, **options)


LOOP = samplers.predictor_corrector([1.0, 0.0])


@pytest.mark.parametrize(
    "call, message",
    [
        (
            lambda: sample({"a": NOISE, "b": NOISE[:4]}),
            r"a tree of them with one B, got \{'a': 'float32\[8, 3\]', 'b': 'float32\[4, 3\]'\}",
        ),
        (lambda: sample({"a": NOISE, "b": jnp.float32(1)}), "noise must be a floating array"),
        (lambda: sample({}), "noise must be a floating array"),
        (lambda: sample(None), "noise or start must be given, got none"),
        (lambda: sample(start=NOISE), "noise or start must be given, got both"),
        (lambda: sample(None, start=np.arange(3)), r"start must be .* got int32\[3\]"),
        (
            lambda: sample(None, start=NOISE, tableau=samplers.Tableau(
                np.array([[0.0, 1.0]]), np.ones(1), np.ones((1, 1, 3)))),
            r"start must be left out for a tableau that begins at 0, got float32\[8, 3\]",
        ),
        (
            lambda: sample(draw=lambda keys, like: jnp.zeros(like.shape, jnp.bfloat16)),
            r"draw must return noise like the state, float32\[8, 3\], got bfloat16\[8, 3\]",
        ),
        (
            lambda: sample(draw=lambda keys, like: jnp.zeros(like.shape[1:])),
            r"draw must return noise like the state, float32\[8, 3\], got float32\[3\]",
        ),
        (
            lambda: sample(TREE, draw=lambda keys, like: like["a"] and NOISE),
            r"draw must return noise like the state, \{'a': .*\}, got float32\[8, 3\]",
        ),
        (
            lambda: sample(draw=randomness.normal_like, row_noise=jnp.ones((12, 8, 3))),
            "draw must be left out where row_noise is given",
        ),
        (
            lambda: sample(between=lambda row, keys, Y: (Y[0][:4], Y[1])),
            r"between must return registers like those it is given, \('float32\[8, 3\]', 'f.*\), "
            r"got \('float32\[4, 3\]', 'float32\[8, 3\]'\)",
        ),
        (
            lambda: sample(between=lambda row, keys, Y: (Y[0].astype(jnp.float16), Y[1])),
            r"between must return .* got \('float16",
        ),
        (lambda: sample(between=lambda row, keys, Y: Y[0]), "between must return .* got float32"),
        (lambda: sample(between=lambda row, keys, Y: list(Y)), r"between must return .* got \["),
        (
            lambda: sample(keys=KEYS[:3], tableau=HEUN, between=identity),
            r"keys must have shape \[B\] = \(8,\), got \(3,\)",
        ),
        (
            lambda: sample(TREE, row_noise=jnp.ones((12, 8, 3))),
            r"row_noise must have shape \[K \+ 1, B, ...\] = \{'a': \(12, 8, 1\)",
        ),
        (lambda: sample(trajectory=[0, 12]), r"list of rows from 0 to 11, got \[0, 12\]"),
        (lambda: sample(trajectory=[-1]), r"list of rows from 0 to 11, got \[-1\]"),
        (lambda: sample(trajectory=[]), r"list of rows from 0 to 11, got \[\]"),
        (lambda: sample(trajectory=3), "list of rows from 0 to 11, got 3"),
        (lambda: sample(unroll=0), "unroll must be a positive integer, got 0"),
        (lambda: sample(tableau=LOOP, between=identity), "between must be left out for a Loop"),
        (lambda: sample(tableau=LOOP, draw=identity), "draw must be left out for a Loop"),
        (lambda: sample(tableau=LOOP, unroll=2), "unroll must be left out for a Loop, got 2"),
        (lambda: sample(None, start=NOISE, tableau=LOOP), "start must be left out for a Loop"),
        (lambda: sample(TREE, tableau=LOOP), "noise must be one array for a Loop, got {'a'"),
    ],
)  # fmt: skip
def test_bad_arguments_are_named_before_anything_is_traced(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_denoiser_of_another_structure_is_refused():
    with pytest.raises(ValueError, match=r"shape of x, \{'a': \(8, 1\), 'b': .*got \(8, 1\)"):
        samplers.sample(lambda x, sigma: x["a"], HEUN, TREE)


@pytest.mark.slow
def test_a_denoiser_can_remember_its_calls():
    """Each D is averaged with the one before it, which a plain loop can do as well."""
    grid = timesteps.edm(5)
    noise = normal(sample_keys(range(4)), (3,))

    def denoise(x, sigma, memory):
        before, calls = memory
        now = ideal(x, sigma)
        return 0.5 * (now + before), (now, calls + 1)

    remembering = samplers.Remembering(lambda x: (jnp.zeros_like(x), jnp.zeros((), int)), denoise)
    got = jax.jit(lambda n: samplers.sample(remembering, samplers.euler(grid), n))(noise)
    x, before = grid[0] * noise, 0.0
    for s, t in zip(grid, grid[1:]):
        now = ideal(x, s)
        x = x + (t - s) * (x - 0.5 * (now + before)) / s
        before = now
    np.testing.assert_allclose(got, x, rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="denoise must be a function for a Loop"):
        samplers.sample(remembering, samplers.predictor_corrector(grid), noise, KEYS[:4])
