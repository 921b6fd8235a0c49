"""All scores of one set: their names, their settings, what is said of them."""

import numpy as np
import pytest

from edm_jax import evaluation
from edm_jax.evaluation import Statistics, records, scores
from edm_jax.evaluation.features import Extractor
from edm_jax.evaluation.references import Reference

RNG = np.random.default_rng(0)
REAL, FAKE = RNG.standard_normal((90, 8), np.float32), RNG.standard_normal((60, 8), np.float32)
HEAD = RNG.standard_normal((5, 8), np.float32)
KNOWN = Reference(Statistics.of(REAL), REAL[:50], None, "")


def measured(name, head=None, reference=KNOWN):
    extractor = Extractor(name, "", lambda _, images: images, head=head)
    chosen = scores.settings(len(FAKE), reference)
    found = scores.measure(FAKE, reference, extractor, chosen)
    assert list(found) == scores.names(extractor, chosen)
    return found


def test_every_score_of_inception():
    found = measured("inception", HEAD)
    near = evaluation.precision_recall(REAL[:50], FAKE, k=3)
    assert found == {
        "fid": evaluation.frechet(Statistics.of(FAKE), KNOWN.statistics),
        "fid_infinity": evaluation.frechet_infinity(FAKE, KNOWN.statistics, smallest=6).value,
        "kid": evaluation.kernel_distance(FAKE, REAL[:50], size=50).mean,
        **near._asdict(),
        "inception_score": pytest.approx(evaluation.inception_score(FAKE @ HEAD.T).mean, rel=1e-6),
    }


def test_no_other_network_has_an_fid():
    found = measured("mine")
    assert set(found) - {"precision", "recall", "density", "coverage"} == {
        "frechet_mine", "frechet_infinity_mine", "kernel_mine",
    }  # fmt: skip


def test_settings_are_the_papers_where_there_are_enough_images():
    many = KNOWN._replace(features=np.empty((10_000, 8), np.float32))
    assert scores.settings(50_000, many) == {
        "inception_score": {"splits": 10},
        "infinity": {"sizes": 15, "smallest": 5000},
        "kernel": {"subsets": 100, "size": 1000},
        "neighbours": {"k": 3, "fake": 10_000, "real": 10_000},
    }
    assert set(scores.settings(2, KNOWN._replace(features=None))) == {"inception_score"}
    measured("inception", HEAD, KNOWN._replace(features=None))


@pytest.mark.parametrize(
    "count, known, said",
    [
        (records.FULL, 90, ()),
        (60, 90, ("60 images, not 50000",)),
        (8, 8, ("8 images, not", "8 images and 8 features: the covariance has a rank of at most 7",
                "8 images of the reference and 8 features")),
        (records.FULL, None, ()),
    ],
)  # fmt: skip
def test_what_is_said(count, known, said):
    reference = KNOWN._replace(statistics=KNOWN.statistics._replace(num=known))
    found = scores.notes(count, reference, full=records.FULL)
    assert len(found) == len(said) and all(map(str.startswith, found, said))
