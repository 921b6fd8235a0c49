"""`edm-jax evaluate compare`: records of one kind beside each other, others refused with why."""

import pytest

from edm_jax.cli.main import main
from edm_jax.evaluation import records

RECORD = {
    "features": {"name": "inception", "sha256": "67", "input": "TF1 bilinear to 299"},
    "reference": {"sha256": "ab", "count": 50000},
    "images": {"count": 50000, "uint8": "floor", "seeds": [[0, 49999]]},
    "settings": {"kid_subset": 1000},
    "scores": {"fid": {"values": [1.79], "min": 1.79, "mean": 1.79, "std": 0.0}},
}


@pytest.fixture
def first(tmp_path):
    records.write(tmp_path / "a.json", RECORD)
    return str(tmp_path / "a.json")


def changed(place, value):
    record = {name: dict(part) for name, part in RECORD.items()}
    record[place[0]][place[-1]] = value
    return record


def compare(first, tmp_path, record):
    records.write(tmp_path / "b.json", record)
    return main(["evaluate", "compare", first, str(tmp_path / "b.json")])


def test_other_seeds_may_be_compared(first, tmp_path, capsys):
    assert compare(first, tmp_path, changed(("images", "seeds"), [[50000, 99999]])) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == ["fid", "1.79", "1.79"]


@pytest.mark.parametrize("place", [p if len(p) > 1 else (*p, "kid_subset") for p in records.SAME])
def test_what_a_score_depends_on_may_not_differ(first, tmp_path, capsys, place):
    assert compare(first, tmp_path, changed(place, "other")) == 1
    out = capsys.readouterr().out
    assert out.startswith("not comparable: ") and out.count("\n") == 1 and "other" in out


@pytest.mark.parametrize("text", ["", "[1]", "{}", '{"format": "edm_jax evaluation"}', "[" * 9999])
def test_another_file_is_no_record(first, tmp_path, capsys, text):
    (tmp_path / "b.json").write_text(text)
    assert main(["evaluate", "compare", first, str(tmp_path / "b.json")]) == 2
    assert "must be a record" in capsys.readouterr().err
    assert main(["evaluate", "compare", first, str(tmp_path / "none.json")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
