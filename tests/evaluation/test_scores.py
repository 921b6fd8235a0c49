"""Scores of features against 50-digit numbers, closed forms, and the codes of the field."""

import json

import numpy as np
import pytest

from edm_jax import evaluation
from edm_jax.evaluation import Statistics, neighbours, statistics


@pytest.fixture(scope="module")
def metrics(golden):
    return golden("metrics.npz")


@pytest.fixture(scope="module")
def values(metrics):
    return json.loads(str(metrics["values"]))


FID = "real|fake real|real small_a|small_b small_a|small_a small_a|real const_a|const_b".split()
GAUSSIANS = "shift scale commute rank1 zero".split()


@pytest.mark.parametrize("pair", FID)
def test_frechet_is_exact_however_few_images(metrics, values, pair):
    a, b = (Statistics.of(metrics[name]) for name in pair.split("|"))
    exact = values["fid"][pair]["exact"]
    np.testing.assert_allclose(evaluation.frechet(a, b), exact, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(evaluation.frechet(b, a), exact, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("case", GAUSSIANS)
def test_frechet_of_gaussians(metrics, values, case):
    one, other = (
        Statistics(*(metrics[f"gauss/{case}/{part}{i}"] for part in ("mu", "sigma"))) for i in "12"
    )
    exact = values["fid"][f"gauss/{case}"]["exact"]
    np.testing.assert_allclose(evaluation.frechet(one, other), exact, rtol=1e-11)
    shifted = one._replace(mean=one.mean + np.arange(6))
    np.testing.assert_allclose(evaluation.frechet(one, shifted), 55, rtol=1e-13)


def test_statistics(metrics, monkeypatch):
    found = Statistics.of(metrics["real"])
    np.testing.assert_allclose(found.mean, metrics["stats/mu"], rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(found.covariance, metrics["stats/sigma"], rtol=1e-11, atol=1e-14)
    assert found.num == 300 and found.rank == 64 and Statistics.of(metrics["small_a"]).rank == 39
    parts = [Statistics.of(part) for part in np.split(metrics["real"], [2, 7, 150])]
    merged = parts[3].merge(parts[0]).merge(parts[2].merge(parts[1]))
    monkeypatch.setattr(statistics, "ROWS", 7)  # the last block has six rows
    for other in (merged, Statistics.of(metrics["real"])):
        assert other.num == 300
        np.testing.assert_allclose(other.mean, found.mean, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(other.covariance, found.covariance, rtol=1e-11, atol=1e-14)


def test_a_block_of_one_row_counts(monkeypatch):
    monkeypatch.setattr(statistics, "ROWS", 2)
    found = Statistics.of([[0.0], [2.0], [7.0]])
    assert found.mean == 3 and found.covariance == 13


def test_far_from_zero_no_digit_is_lost(metrics):
    moved = metrics["real"].astype(np.float64) + 1e6
    np.testing.assert_allclose(
        Statistics.of(moved).covariance, metrics["stats/sigma"], rtol=1e-7, atol=1e-9
    )


def test_kernel_distance(metrics, values):
    fake, real = metrics["fake"], metrics["real"]
    found = evaluation.kernel_distance(fake, real, subsets=10, size=100)
    np.testing.assert_allclose(found, [values["kid"]["mean"], values["kid"]["std"]], rtol=1e-12)
    np.testing.assert_allclose(
        evaluation.squared_mmd(fake, real), values["kid"]["full"], rtol=1e-12
    )


def test_cmmd(metrics, values):
    found = evaluation.cmmd(metrics["cmmd/x"], metrics["cmmd/y"])
    np.testing.assert_allclose(found, values["cmmd"], rtol=1e-10)


@pytest.mark.parametrize("k", (3, 5))
@pytest.mark.parametrize("case, a, b", [("real|fake", "real", "fake"),
                                        ("ties", "ties_real", "ties_fake")])  # fmt: skip
def test_precision_recall(metrics, values, k, case, a, b, monkeypatch):
    monkeypatch.setattr(neighbours, "ROWS", 64)
    expected = values["prdc"][f"{case}|{k}"]
    found = evaluation.precision_recall(metrics[a], metrics[b], k=k)._asdict()
    for name, value in found.items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-15, err_msg=name)


@pytest.mark.parametrize("splits", (1, 10))
@pytest.mark.parametrize("order", ("order", "shuffle2020"))
def test_inception_score(metrics, values, splits, order):
    logits = metrics["is/logits"]
    if order != "order":
        logits = logits[np.random.RandomState(2020).permutation(len(logits))]
    found = evaluation.inception_score(logits, splits=splits)
    expected = values["inception_score"][f"splits{splits}|{order}"]
    np.testing.assert_allclose(found, [expected["mean"], expected["std"]], rtol=1e-10)


def test_the_limit_of_many_images(metrics, values):
    found = evaluation.extrapolated(metrics["fdinf/n"], metrics["fdinf/fd"])
    expected = values["fd_infinity"]
    np.testing.assert_allclose(found, [expected["intercept"], expected["slope"]], rtol=1e-10)


def test_the_limit_has_no_bias():
    # Features of the reference's own law: E d² = (d + d (d + 1) / 4) / n, to 1/n², and the limit 0.
    rng, law = np.random.default_rng(0), Statistics(np.zeros(8), np.eye(8))
    found = np.array(
        [
            evaluation.frechet_infinity(rng.standard_normal((2000, 8)), law, smallest=200)
            for _ in range(100)
        ]
    )
    assert abs(found[:, 0].mean()) < 0.15 * 26 / 2000
    assert found[:, 1].mean() == pytest.approx(26, rel=0.15)


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda x: Statistics.of(x[:1]), "at least 2 rows, got 1"),
        (lambda x: Statistics.of(x[0]), "shape"),
        (lambda x: Statistics.of(x * np.nan), "finite"),
        (lambda x: evaluation.frechet(Statistics.of(x), Statistics.of(x[:, 1:])), "one width"),
        (lambda x: Statistics(x[0], x).merge(Statistics.of(x)), "num must be known"),
        (lambda x: evaluation.squared_mmd(x, x[:1]), "at least 2 rows"),
        (lambda x: evaluation.kernel_distance(x, x, size=9), "size must lie in"),
        (lambda x: evaluation.kernel_distance(x, x, size=3, subsets=0), "subsets"),
        (lambda x: evaluation.precision_recall(x, x, k=8), "k must lie in"),
        (lambda x: evaluation.precision_recall(x, x[:, 1:]), "one width"),
        (lambda x: evaluation.inception_score(x, splits=9), "splits must lie in"),
        (lambda x: evaluation.frechet_infinity(x, Statistics.of(x), smallest=8), "smallest"),
        (lambda x: evaluation.frechet_infinity(x, Statistics.of(x), sizes=1), "sizes"),
    ],
)  # fmt: skip
def test_bad_features_are_refused(metrics, call, words):
    with pytest.raises(ValueError, match=words.replace("[", r"\[")):
        call(metrics["real"][:8])


def test_reference_files(tmp_path, metrics):
    path = tmp_path / "ref.npz"
    mean, covariance = metrics["stats/mu"], metrics["stats/sigma"]
    np.savez(path, mu=mean, sigma=covariance, arr_0=np.array([object()]))
    found = evaluation.load_statistics(path)
    np.testing.assert_array_equal(found.covariance, covariance)
    assert found.num is None
    for bad, words in (
        ({"mu": mean}, "must hold mu"),
        ({"mu": mean, "sigma": mean}, "must hold mu"),
        ({"mu": mean, "sigma": covariance * np.inf}, "finite"),
    ):
        np.savez(path, **bad)
        with pytest.raises(ValueError, match=words):
            evaluation.load_statistics(path)
    path.write_bytes(path.read_bytes()[:99])
    with pytest.raises(ValueError, match="no readable"):
        evaluation.load_statistics(path)
