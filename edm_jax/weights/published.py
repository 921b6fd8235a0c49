"""Which of NVIDIA's EDM2 files, guide and scale gave which published score.

The files are reconstructed averages, `edm2-img512-s-2147483-0.130.pkl`: data, size, thousands of
images, relative width. Scores are those of the official program (Karras et al. 2024, EDM2; and
2406.02507 for autoguidance): 50,000 images, Heun's sampler with 32 steps.
"""

from typing import NamedTuple

STEPS = 32
# Thousands of images of the whole training.
_WHOLE = {
    "img512": dict(xs=2147483, s=2147483, m=2147483, l=1879048, xl=1342177, xxl=939524),
    "img64": dict(s=1073741, m=2147483, l=1073741, xl=671088),
}


class Published(NamedTuple):
    """A published score and what it is of.

    Attributes:
      net: file of the model.
      guide: file of the guide, or None.
      scale: of the guidance; 1 is none.
      metric: "FID" or "FD_DINOv2".
      score: its value.
    """

    net: str
    guide: str | None
    scale: float
    metric: str
    score: float


def _file(net: str, std: float, kimg: int | None = None) -> str:
    data, size, *_ = net.split("-")
    return f"edm2-{net}-{kimg or _WHOLE[data][size]:07d}-{std:.3f}.pkl"


# Width and score, without guidance.
_PLAIN = {
    "FID": {
        "img512-xs": (0.135, 3.53), "img512-s": (0.130, 2.56), "img512-m": (0.100, 2.25),
        "img512-l": (0.085, 2.06), "img512-xl": (0.085, 1.96), "img512-xxl": (0.070, 1.91),
        "img64-s": (0.075, 1.58), "img64-m": (0.060, 1.43), "img64-l": (0.040, 1.33),
        "img64-xl": (0.040, 1.33),
    },
    "FD_DINOv2": {
        "img512-xs": (0.200, 103.39), "img512-s": (0.190, 68.64), "img512-m": (0.155, 58.44),
        "img512-l": (0.155, 52.25), "img512-xl": (0.155, 45.96), "img512-xxl": (0.150, 42.84),
    },
}  # fmt: skip
# Width, scale, score; the guide is XS without labels, of the same width.
_CLASSIFIER_FREE = {
    "FID": {
        "img512-xs": (0.045, 1.40, 2.91), "img512-s": (0.025, 1.40, 2.23),
        "img512-m": (0.030, 1.20, 2.01), "img512-l": (0.015, 1.20, 1.88),
        "img512-xl": (0.020, 1.20, 1.85), "img512-xxl": (0.015, 1.20, 1.81),
    },
    "FD_DINOv2": {
        "img512-xs": (0.150, 1.70, 79.94), "img512-s": (0.085, 1.90, 52.32),
        "img512-m": (0.015, 2.00, 41.98), "img512-l": (0.035, 1.70, 38.20),
        "img512-xl": (0.030, 1.70, 35.67), "img512-xxl": (0.015, 1.70, 33.09),
    },
}  # fmt: skip
# The guide and its thousands of images; width, the guide's width, scale, score.
_AUTOGUIDANCE = {
    "img512-s": ("img512-xs", 134217, {
        "FID": (0.070, 0.125, 2.10, 1.34), "FD_DINOv2": (0.120, 0.165, 2.45, 36.67)}),
    "img512-xxl": ("img512-m", 268435, {
        "FID": (0.075, 0.155, 2.05, 1.25), "FD_DINOv2": (0.130, 0.205, 2.30, 24.18)}),
    "img512-s-uncond": ("img512-xs-uncond", 134217, {
        "FID": (0.070, 0.110, 2.85, 3.86), "FD_DINOv2": (0.090, 0.125, 2.90, 90.39)}),
    "img64-s": ("img64-xs", 134217, {
        "FID": (0.045, 0.110, 1.70, 1.01), "FD_DINOv2": (0.105, 0.175, 2.20, 31.85)}),
}  # fmt: skip
_SUFFIX = {"FID": "fid", "FD_DINOv2": "dino"}


def _settings() -> dict[str, Published]:
    found = {}
    for metric, rows in _PLAIN.items():
        for net, (std, score) in rows.items():
            found[f"{net}-{_SUFFIX[metric]}"] = Published(_file(net, std), None, 1.0, metric, score)
    for metric, guided in _CLASSIFIER_FREE.items():
        for net, (std, scale, score) in guided.items():
            guide = _file("img512-xs-uncond", std)
            name = f"{net}-cfg-{_SUFFIX[metric]}"
            found[name] = Published(_file(net, std), guide, scale, metric, score)
    for net, (guide_net, kimg, scores) in _AUTOGUIDANCE.items():
        for metric, (std, guide_std, scale, score) in scores.items():
            guide = _file(guide_net, guide_std, kimg)
            name = f"{net}-autoguidance-{_SUFFIX[metric]}"
            found[name] = Published(_file(net, std), guide, scale, metric, score)
    return found


# By name: "img512-s-fid", "img512-s-cfg-fid", "img512-s-autoguidance-dino", …
SETTINGS = _settings()
