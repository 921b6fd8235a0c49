"""Published settings of EDM2 by name: which files, which scale, which sampler."""

import argparse
import pathlib

import pytest

from edm_jax.cli import sample
from edm_jax.cli.published import apply_published
from edm_jax.weights.published import SETTINGS


def applied(*words):
    parser = argparse.ArgumentParser(exit_on_error=False)
    sample.add_arguments(parser)
    args = parser.parse_args(words)
    apply_published(args)
    return args


@pytest.mark.parametrize(
    "name, net, guide, scale",
    [
        ("img512-s-fid", "img512-s-2147483-0.130", None, None),
        ("img512-xxl-dino", "img512-xxl-0939524-0.150", None, None),
        ("img64-xl-fid", "img64-xl-0671088-0.040", None, None),
        ("img512-l-cfg-fid", "img512-l-1879048-0.015", "img512-xs-uncond-2147483-0.015", 1.2),
        ("img512-s-autoguidance-fid", "img512-s-2147483-0.070", "img512-xs-0134217-0.125", 2.1),
        ("img512-xxl-autoguidance-dino", "img512-xxl-0939524-0.130", "img512-m-0268435-0.205", 2.3),
        ("img512-s-uncond-autoguidance-fid", "img512-s-uncond-2147483-0.070",
         "img512-xs-uncond-0134217-0.110", 2.85),
        ("img64-s-autoguidance-fid", "img64-s-1073741-0.045", "img64-xs-0134217-0.110", 1.7),
    ],
)  # fmt: skip
def test_files_and_scale(name, net, guide, scale):
    args = applied("--published", name, "--checkpoint", "files/", "--out", "x")
    assert args.checkpoint == f"files/edm2-{net}.pkl" and args.guidance == scale
    assert args.guide == (None if guide is None else f"files/edm2-{guide}.pkl")
    assert (args.solver, args.steps) == ("heun", 32)


def test_every_setting_has_its_own_name_and_a_score():
    assert len(SETTINGS) == 16 + 12 + 8
    assert all(name.endswith(("-fid", "-dino")) for name in SETTINGS)
    best = min((s for s in SETTINGS.values() if s.metric == "FID"), key=lambda s: s.score)
    assert best == SETTINGS["img64-s-autoguidance-fid"] and best.score == 1.01


def test_nothing_is_changed_where_none_is_named():
    args = applied("--checkpoint", "x")
    assert (args.checkpoint, args.solver, args.guide, args.guidance) == ("x", None, None, None)


@pytest.mark.parametrize(
    "words, message",
    [
        (
            ["img512-s-autoguidence-fid", "--checkpoint=x"],
            "did you mean 'img512-s-autoguidance-fid",
        ),
        (["img512-s-fid", "--checkpoint=x", "--guidance=2"], "--guidance must be left out .*2.0"),
        (["img512-s-fid", "--checkpoint=x", "--guide-ema=0.1"], "--guide-ema must be left out"),
        (["img512-s-fid", "--checkpoint=x", "--steps=10"], "--steps must be left out .* got 10"),
        (["img512-s-fid"], "--checkpoint must be the folder of the files"),
    ],
)
def test_what_does_not_go_together_is_named(words, message):
    with pytest.raises(ValueError, match=message):
        applied("--published", *words)


def test_the_page_has_every_setting():
    page = (pathlib.Path(__file__).parents[2] / "docs" / "weights.md").read_text()
    short = lambda file: f"`{file[5:-4]}`" if file else "–"
    for name, s in SETTINGS.items():
        row = (
            f"`{name}`",
            short(s.net),
            short(s.guide),
            f"{s.scale:g}",
            f"{s.metric} {s.score:.2f}",
        )
        assert f"| {' | '.join(row)} |" in page, name
