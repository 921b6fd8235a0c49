"""What solvers, grids and schedules there are, and the options of each, as a command lists them."""

from collections.abc import Mapping, Sequence

from edm_jax import schedules, timesteps
from edm_jax.cli.sampler import ARGUMENTS, FILES, RANGE
from edm_jax.options import Option
from edm_jax.samplers import SOLVERS


def list_solvers() -> str:
    """The solvers, the grids and the schedules, each with its options."""
    rows = [("solver", "order", "calls a step", "noise", "source")]
    for name, solver in SOLVERS.items():
        order, calls = ("–" if n is None else str(n) for n in (solver.order, solver.nfe_per_step))
        rows.append((name, order, calls, "yes" if solver.stochastic else "no", solver.source))
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    table = ["  ".join([*(cell.ljust(w) for cell, w in zip(r, widths)), r[4]]) for r in rows]
    lines = [table[0]]
    for line, solver in zip(table[1:], SOLVERS.values()):
        lines += [line, *describe(solver.options, "--option")]
    lines += ["", "grid (--timesteps)"]
    for name, grid in timesteps.GRIDS.items():
        lines += [name, *describe(grid.options, "--timesteps-option")]
    return "\n".join([*lines, "", "schedule (--schedule)", *schedules.SCHEDULES])


def describe(options: Mapping[str, Option], flag: str) -> list[str]:
    """The options as they are written: one line of those after `flag`, and one of the others.

    Args:
      options: name -> option.
      flag: what comes before a NAME=VALUE.
    """
    words, arguments = [], []
    for name, option in options.items():
        if name in FILES:
            words.append(f"{name}=FILE")
        elif option.type in ARGUMENTS:
            arguments.append(ARGUMENTS[option.type])
        elif flag == "--timesteps-option" and name in RANGE:
            own = "" if option.default is None else f" {option.default:g}"
            arguments.append(f"--{name.replace('_', '-')}{own}")
        elif option.type in (float, int, bool, str, Sequence):
            words.append(f"{name}={_values(option)}")
    lines = [" ".join(words) and f"    {flag} {' '.join(words)}", "    " + "  ".join(arguments)]
    return [line for line in lines if line.strip()]


def _values(option: Option) -> str:
    """The choices, the default one first; or the default; or the type."""
    if option.choices:
        first = [option.default] if option.default in option.choices else []
        rest = [choice for choice in option.choices if choice not in first]
        return "|".join(map(str, first + rest))
    if option.type is Sequence and option.default is None:
        return "A,B,…"
    return option.type.__name__ if option.default is None else str(option.default)
