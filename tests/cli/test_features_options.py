"""What a command line says of the features in which images are compared."""

import argparse

import pytest

from edm_jax.cli.features import add_feature_arguments, make_extractor
from edm_jax.evaluation import features


def made(*words):
    parser = argparse.ArgumentParser()
    add_feature_arguments(parser)
    return make_extractor(parser.parse_args(words), pca=lambda: "fitted")


def test_features_that_need_no_file():
    assert made("--features", "pca") == "fitted"
    assert made("--features", "pixels").about() == features.pixels().about()


def test_who_has_no_file_is_told_what_needs_none(monkeypatch):
    for known in features.FILES.values():
        monkeypatch.delenv(known.variable, raising=False)
    with pytest.raises(ValueError, match="INCEPTION must name") as none:
        made()
    assert none.value.__notes__ == ["--features efficientnet_lite0, pixels, pca need no such file"]
    with pytest.raises((ValueError, OSError)) as other:
        made("--inception", "nowhere.pth")
    assert not hasattr(other.value, "__notes__")


def test_a_file_of_other_features_is_refused():
    with pytest.raises(ValueError, match="--dinov2 must be left out with --features pixels"):
        made("--features", "pixels", "--dinov2", "x.pth")
