"""Writes what the page runs: python docs/playground/export.py

Every table is made by the line of Python that the page shows for it, and is kept under that line.
So the page cannot show a line that makes another table.
"""

import base64
import gzip
import itertools
import json
import pathlib
import sys

import numpy as np

import edm_jax

HERE = pathlib.Path(__file__).parent
SIGMA_MIN, SIGMA_MAX = 0.002, 80.0
STEPS = (4, 6, 10, 18, 36)
RHOS = (1, 3, 5, 7, 10)
WORSE = 0.3  # what the guide of autoguidance adds to the deviation of its data

# name: (what the page calls it, the line that makes it)
GRIDS = {
    "edm": ("EDM: even in σ^(1/ρ)", "edm_jax.timesteps.edm({steps}, rho={rho})"),
    "exponential": ("Exponential: even in log σ", "edm_jax.timesteps.exponential({steps})"),
    "vp": (
        "VP: even in its time",
        f"edm_jax.timesteps.vp({{steps}}, sigma_min={SIGMA_MIN}, sigma_max={SIGMA_MAX})",
    ),
    "tangent": ("Tangent: even in atan σ", "edm_jax.timesteps.tangent({steps}, sigma_data=1.0)"),
}
SCHEDULES = {"edm": "EDM: σ = t", "vp": "VP: β(t) linear", "ve": "VE: σ = √t"}
SCALINGS = {"none": "none: s = 1", "vp": "VP: s = 1/√(1 + σ²)"}
CHURNS = (0, 2, 5, 10)

# name: (what the page calls it, whether it takes a schedule and churn, its option, the values)
SOLVERS: dict[str, tuple[str, bool, str, list[tuple[str, str]]]] = {
    "euler": ("Euler", True, "", []),
    "heun": ("Heun", True, "", []),
    "ipndm": ("iPNDM", False, "order", [(str(n), f"order={n}") for n in (4, 2)]),
    "dpmpp_2m": ("DPM-Solver++(2M)", False, "", []),
    "dpmpp_3m": ("DPM-Solver++(3M)", False, "", []),
    "dpmpp_2s": ("DPM-Solver++(2S)", False, "", []),
    "dpm_solver_2": ("DPM-Solver-2", False, "", []),
    "unipc": ("UniPC", False, "", []),
    "deis": ("DEIS", False, "", []),
    "lms": ("LMS", False, "", []),
    "ddim": ("DDIM", False, "η", [(str(eta), f"eta={eta}") for eta in (0.0, 0.5, 1.0)]),
    "ddpm": (
        "DDPM",
        False,
        "variance",
        [(word, f'variance="{word}"') for word in ("small", "large")],
    ),
    "euler_maruyama": ("Euler–Maruyama", False, "", []),
    "dpmpp_2m_sde": (
        "DPM-Solver++(2M) SDE",
        False,
        "η",
        [(str(eta), f"eta={eta}") for eta in (1.0, 0.5)],
    ),
    "dpmpp_sde": ("DPM-Solver++ SDE", False, "", []),
    "sa_solver": ("SA-Solver", False, "", []),
    "annealed_langevin": (
        "Annealed Langevin",
        False,
        "draws a level",
        [(str(n), f"steps_per_level={n}") for n in (5, 1)],
    ),
}

RING = """\
angle = np.arange(8) * np.pi / 4
means, stds = 1.4 * np.stack([np.cos(angle), np.sin(angle)], axis=1), np.full(8, 0.12)
weights, labels = np.ones(8), np.arange(8) % 2"""
SPIRALS = """\
angle = np.linspace(0.8, 4.2, 14)
arm = 0.42 * angle[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
means, stds = np.concatenate([arm, -arm]), np.full(28, 0.09)
weights, labels = np.ones(28), np.repeat([0, 1], 14)"""
# name: (what the page calls it, the lines that make it)
DATA = {
    "peaks": (
        "Two peaks, as in figure 3",
        "means, stds = np.array([[-1.0], [1.0]]), np.array([0.05, 0.05])\n"
        "weights, labels = np.ones(2), np.array([0, 1])",
    ),
    "bumps": (
        "Three bumps",
        "means, stds = np.array([[-1.3], [0.2], [1.2]]), np.array([0.12, 0.3, 0.06])\n"
        "weights, labels = np.array([2.0, 2.0, 1.0]), np.array([0, 1, 1])",
    ),
    "gaussian": (
        "One Gaussian",
        "means, stds = np.array([[0.3]]), np.array([0.5])\n"
        "weights, labels = np.ones(1), np.array([0])",
    ),
    "spirals": ("Two spirals", SPIRALS),
    "ring": ("A ring of eight", RING),
}


def evaluate(line: str):
    """What a line of Python of the page makes."""
    return eval(line, {"edm_jax": edm_jax})


def grids() -> list[str]:
    """The lines of all grids."""
    return [
        code.format(steps=steps, rho=rho)
        for steps, (name, (_, code)) in itertools.product(STEPS, GRIDS.items())
        for rho in (RHOS if name == "edm" else RHOS[:1])
    ]


def processes() -> dict[str, str]:
    """Schedule and scaling -> the argument of a solver; EDM's own is the default."""
    ends = f"ends=({SIGMA_MIN}, {SIGMA_MAX})"
    found = {
        f"{schedule} {scaling}": "schedule=edm_jax.schedules.process("
        f'"{schedule}", scaling="{scaling}"{f", {ends}" if schedule == "vp" else ""})'
        for schedule, scaling in itertools.product(SCHEDULES, SCALINGS)
    }
    return found | {"edm none": ""}


def churns() -> dict[str, str]:
    """Amount of churn -> the argument of a solver."""
    of = lambda amount: f"churn=edm_jax.samplers.Churn(s_churn={amount})" if amount else ""
    return {str(amount): of(amount) for amount in CHURNS}


def arguments(solver: str) -> list[str]:
    """All that a solver is asked for beside its grid."""
    _, scheduled, _, values = SOLVERS[solver]
    if scheduled:  # churn is offered in EDM's own frame, as in algorithm 2
        return list(dict.fromkeys([*processes().values(), *churns().values()]))
    return [code for _, code in values] or [""]


def line(solver: str, grid: str, argument: str) -> str:
    """The line of Python that makes a table."""
    return f"edm_jax.samplers.{solver}({grid}{argument and ', '}{argument})"


def lines(solver: str) -> list[str]:
    """The lines of all tables of a solver."""
    return [line(solver, *choice) for choice in itertools.product(grids(), arguments(solver))]


def data(code: str) -> dict:
    """The numbers of a data set."""
    made: dict = {"np": np}
    exec(code, made)
    return {name: made[name].tolist() for name in ("means", "stds", "weights", "labels")}


def choices() -> dict:
    """What the page offers, with the pieces of Python that it puts together."""
    registry = edm_jax.samplers.SOLVERS
    return {
        "sigma_min": SIGMA_MIN,
        "sigma_max": SIGMA_MAX,
        "betas": edm_jax.schedules.vp_betas(SIGMA_MIN, SIGMA_MAX),
        "worse": WORSE,
        "steps": STEPS,
        "rhos": RHOS,
        "grids": {name: {"label": label, "code": code} for name, (label, code) in GRIDS.items()},
        "schedules": SCHEDULES,
        "scalings": SCALINGS,
        "processes": processes(),
        "churns": churns(),
        "solvers": {
            name: {
                "label": label,
                "order": registry[name].order,
                "source": registry[name].source,
                "scheduled": scheduled,
                "option": option,
                "values": values,
            }
            for name, (label, scheduled, option, values) in SOLVERS.items()
        },
        "data": {
            name: {"label": label, "code": code, **data(code)}
            for name, (label, code) in DATA.items()
        },
    }


def write(folder: pathlib.Path) -> None:
    """Writes choices.js and a file of tables for each solver."""
    (folder / "tables").mkdir(exist_ok=True)
    text = json.dumps(choices(), indent=1, ensure_ascii=False)
    (folder / "choices.js").write_text(f"const CHOICES = {text};\n")
    for solver in SOLVERS:
        tables = (f"{json.dumps(text)}:{evaluate(text).to_json()}" for text in lines(solver))
        members = ",\n".join(tables)
        packed = base64.b64encode(gzip.compress(f"{{{members}}}".encode(), mtime=0)).decode()
        (folder / "tables" / f"{solver}.js").write_text(f'TABLES["{solver}"] = "{packed}";\n')


if __name__ == "__main__":
    write(pathlib.Path(sys.argv[1]) if sys.argv[1:] else HERE)
