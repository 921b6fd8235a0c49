"""A denoiser that is asked once: what it said comes back, and not everything is kept."""

import numpy as np

from edm_jax.tuning import samples

X = np.random.default_rng(0).standard_normal((4, 2))
ROWS = slice(0, 4)


def counted(calls):
    def denoise(x, sigma, rows):
        assert x.dtype == np.float32 == sigma.dtype
        calls.append((float(sigma), rows.start))
        return x / (1 + sigma)

    return samples.Asked(denoise, np.dtype(np.float32))


def test_the_same_question_is_asked_once():
    calls = []
    ask = counted(calls)
    first = ask(X, 0.7, ROWS)
    assert first.dtype == np.float64
    np.testing.assert_array_equal(ask(X * (1 + 1e-12), 0.7, ROWS), first)  # the same in float32
    assert len(calls) == 1
    for x, sigma, rows in (X + 1, 0.7, ROWS), (X, 0.8, ROWS), (X, 0.7, slice(4, 8)):
        ask(x, sigma, rows)
    assert len(calls) == 4


def test_what_was_asked_longest_ago_is_forgotten_first(monkeypatch):
    calls = []
    ask = counted(calls)
    monkeypatch.setattr(samples, "KEPT", 2 * X.astype(np.float32).nbytes)
    for sigma in (1.0, 2.0, 1.0, 3.0, 1.0, 2.0):
        ask(X, sigma, ROWS)
    assert [sigma for sigma, _ in calls] == [1.0, 2.0, 3.0, 2.0]
