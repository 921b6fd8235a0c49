"""The Python of docs/evaluation.md runs, and its tables name what there is."""

import pathlib
import re

import numpy as np

from edm_jax.data import archive
from edm_jax.evaluation import features

PAGE = (pathlib.Path(__file__).parents[2] / "docs" / "evaluation.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_sets_are_measured(monkeypatch):
    monkeypatch.setattr(features, "efficientnet_lite0", features.pixels)
    digits = archive.load("digits").images
    names = {"data": digits[:200], "images": digits[200:400]}
    exec(BLOCKS[0], names)
    assert 0 < names["distance"] < 2 and abs(names["kernel"]) < 0.1
    assert names["near"].precision > 0.5
    names["network"] = lambda x: x.reshape(len(x), -1)
    exec(BLOCKS[1], names)
    assert [part.shape for part in names["features"]] == [(200, 64), (200, 32)]


def test_every_extractor_is_told_of():
    for name in features.EXTRACTORS:
        assert f"| `{name}`" in PAGE
    for known in features.FILES.values():
        assert known.variable in PAGE and known.source + known.file in PAGE
    assert np.all([f"--{word}" in PAGE for word in ("fewer", "ranges", "keep", "images")])
