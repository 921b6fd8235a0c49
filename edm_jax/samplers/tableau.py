"""A sampler as data: one row of numbers per network evaluation."""

import dataclasses
import functools
import json
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from numpy.typing import ArrayLike

from edm_jax.quoting import quoted


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("start", "sigma", "weights"),
    meta_fields=("stochastic",),
)
@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Tableau:
    """A sampler that is linear in the state, the denoised image and noise.

    It keeps R registers `Y: [R, B, ...]`, of which Y[0] is where the denoiser is evaluated:

        start:  Y = start @ [noise; z]
        row k:  D = denoise(Y[0], sigma[k]);   Y <- weights[k] @ [Y; D; z_k]

    and its result is Y[0] after the last row. (Numerical analysts call it a general linear
    method.) Scaled processes run in the frame x / s(t), so their scaling too is only numbers.

    Attributes:
      start: `[R, 2]`, the first registers from the standard normal `noise` and a second draw z.
      sigma: `[K]`, the positive noise level of each evaluation.
      weights: `[K, R, R + 2]`, what each row makes of the registers, of D and of fresh noise.
      stochastic: whether z has weights, so that `sample` needs keys. Read from the numbers unless
        given; under a trace there are none to read.

    The numbers are numpy float64 when built on the host. A tableau is also a pytree, of its three
    arrays: as an argument of a jitted function it is traced, `stochastic` is static, and all the
    tableaux of one K, R and `stochastic` share one program.
    """

    start: Any
    sigma: Any
    weights: Any
    stochastic: bool = None  # type: ignore[assignment]  # read from the numbers

    def __post_init__(self) -> None:
        if self.stochastic is not None:
            return
        if is_traced(self):
            raise ValueError("stochastic must be given for a tableau of traced numbers, got None")
        noise = np.asarray(self.start)[..., 1:], np.asarray(self.weights)[..., -1:]
        object.__setattr__(self, "stochastic", any(bool(np.any(part)) for part in noise))

    @classmethod
    def from_rows(cls, start: ArrayLike, rows: Sequence[tuple[float, Sequence]]) -> "Tableau":
        """Stacks rows, the equations of a method, to a checked tableau.

        >>> Y, D, z = symbols(1)
        >>> Tableau.from_rows([[2.0, 0.0]], [(2.0, [0.5 * (Y[0] + D)]), (1.0, [D])])
        Tableau(nfe=2, registers=1, stochastic=False)

        Args:
          start: `[R, 2]`.
          rows: a list of `(sigma, registers)`, where registers are R vectors `[R + 2]` made of
            `symbols`.

        Returns:
          The tableau, float64.

        Raises:
          ValueError: shapes that disagree, entries that are not finite, noise levels not above 0.
        """
        return check(
            cls(
                np.asarray(start, np.float64),
                np.asarray([sigma for sigma, _ in rows], np.float64),
                np.asarray([registers for _, registers in rows], np.float64),
            )
        )

    def to_json(self) -> str:
        """Writes the numbers as JSON, each with the digits that give the same float64 back.

        An object of `start`, `sigma`, `weights` and `stochastic`: all that a runner in another
        language needs.

        >>> Tableau.from_rows([[2.0, 0.0]], [(2.0, [[0.0, 1.0, 0.0]])]).to_json()
        '{"start":[[2.0,0.0]],"sigma":[2.0],"weights":[[[0.0,1.0,0.0]]],"stochastic":false}'

        Returns:
          The text.

        Raises:
          ValueError: a tableau that is traced, or whose numbers `sample` would refuse.
        """
        if is_traced(self):
            raise ValueError("tableau must be concrete to be written, got one of traced numbers")
        fields = dataclasses.asdict(check(self))
        numbers = {name: np.asarray(value).tolist() for name, value in fields.items()}
        return json.dumps(numbers, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "Tableau":
        """Reads what `to_json` wrote: the same numbers, bit for bit.

        >>> tableau = Tableau(np.ones((1, 2)), np.ones(3), np.full((3, 1, 3), 0.1))
        >>> Tableau.from_json(tableau.to_json()) == tableau
        True

        Args:
          text: the JSON.

        Returns:
          The checked tableau, float64.

        Raises:
          ValueError: text that is no JSON of a tableau, numbers that make none.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        try:
            fields = json.loads(text)
            if sorted(fields) != sorted(names) or not isinstance(fields["stochastic"], bool):
                raise ValueError
            start, sigma, weights = (np.asarray(fields[name], np.float64) for name in names[:-1])
        except (TypeError, ValueError):
            raise ValueError(
                f"text must be a JSON object of {', '.join(names)}, got {quoted(text)}"
            ) from None
        return check(cls(start, sigma, weights, fields["stochastic"]))

    @property
    def nfe(self) -> int:
        """The number of network evaluations, K."""
        return np.shape(self.sigma)[-1]

    @property
    def registers(self) -> int:
        """The number of registers, R."""
        return np.shape(self.start)[-2]

    def __repr__(self) -> str:
        size = f"nfe={self.nfe}, registers={self.registers}"
        return f"Tableau({size}, stochastic={self.stochastic})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Tableau):
            return NotImplemented
        return self.stochastic == other.stochastic and all(
            np.array_equal(one, two) for one, two in zip(_numbers(self), _numbers(other))
        )

    __hash__ = None  # type: ignore[assignment]  # arrays: equal tableaux need not be one object


def _numbers(tableau: Tableau) -> tuple[Any, Any, Any]:
    return tableau.start, tableau.sigma, tableau.weights


def is_traced(tableau: Tableau) -> bool:
    """Whether the numbers of a tableau are known only when the program runs."""
    return any(isinstance(field, jax.core.Tracer) for field in _numbers(tableau))


class _Row(np.ndarray):
    """A vector over `(Y, D, z)` that only linear combinations leave."""

    def __array_ufunc__(self, ufunc, method, *inputs, **options):
        rows = [isinstance(value, _Row) for value in inputs]
        sizes = [np.size(value) for value in inputs]
        linear = method == "__call__" and (
            (ufunc in (np.negative, np.positive) and all(rows))
            # The scalar 0 is what `sum` begins with.
            or (ufunc in (np.add, np.subtract) and all(r or _zero(x) for r, x in zip(rows, inputs)))
            or (ufunc is np.multiply and sum(rows) == 1 and min(sizes) == 1)
            or (ufunc is np.divide and rows == [True, False] and sizes[1] == 1)
        )
        if not linear:
            raise ValueError(
                "rows of a tableau must be linear in Y, D and z: sums of these times numbers, got "
                f"the {ufunc.__name__} of {' and '.join(map(_describe, inputs))}"
            )
        arrays = [np.asarray(value) for value in inputs]
        return getattr(ufunc, method)(*arrays, **options).view(_Row)


def _zero(value: Any) -> bool:
    return np.ndim(value) == 0 and value == 0


def _describe(value: Any) -> str:
    return "a row" if isinstance(value, _Row) else repr(value)


def symbols(registers: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The unit vectors in which a row is written: `(Y, D, z)`.

    A row of a tableau is then the equation of its method, linear in these: anything else, such as
    the product of two of them, is an error. One step of Euler's from s to t:

    >>> Y, D, z = symbols(1)
    >>> s, t = 2.0, 1.0
    >>> x = Y[0]
    >>> (x + (t - s) * (x - D) / s).tolist()
    [0.5, 0.5, 0.0]

    Args:
      registers: R.

    Returns:
      Y `[R, R + 2]`, D `[R + 2]`, z `[R + 2]`.
    """
    basis = np.eye(registers + 2).view(_Row)
    return basis[:registers], basis[registers], basis[registers + 1]


def pad(tableau: Tableau, registers: int) -> Tableau:
    """Adds registers that stay zero, so that different methods share one compiled program.

    >>> pad(Tableau(np.ones((1, 2)), np.ones(3), np.ones((3, 1, 3))), 2)
    Tableau(nfe=3, registers=2, stochastic=True)

    Args:
      tableau: K rows of R registers.
      registers: the new R.

    Returns:
      The same sampler with `registers` registers.

    Raises:
      ValueError: fewer registers than there are.
    """
    tableau = check(tableau)
    size, extra = tableau.registers, registers - tableau.registers
    if extra < 0:
        raise ValueError(f"registers must be at least {size}, got {registers}")
    weights = np.zeros((tableau.nfe, registers, registers + 2))
    weights[:, :size, :size] = tableau.weights[:, :, :size]
    weights[:, :size, registers:] = tableau.weights[:, :, size:]
    start = np.concatenate([tableau.start, np.zeros((extra, 2))])
    return Tableau(start, tableau.sigma, weights, tableau.stochastic)


def check(tableau: Tableau) -> Tableau:
    """Returns a concrete tableau as numpy float64, or says what is wrong with it.

    Args:
      tableau: whose numbers are not traced.

    Returns:
      The same tableau.

    Raises:
      ValueError: no tableau, shapes that disagree, entries that are not finite, noise levels not
        above 0, noise in a tableau that says it has none.
    """
    if not isinstance(tableau, Tableau):
        raise ValueError(f"tableau must be a Tableau, such as heun(sigmas), got {tableau!r}")
    start, sigma, weights = (np.asarray(field, np.float64) for field in _numbers(tableau))
    tableau = Tableau(start, sigma, weights, tableau.stochastic)
    check_shapes(tableau)
    for name, field in (("start", start), ("sigma", sigma), ("weights", weights)):
        if not np.isfinite(field).all():
            raise ValueError(f"tableau.{name} must be finite, got {field}")
    if not (sigma > 0).all():
        raise ValueError(
            f"tableau.sigma must be positive (a denoiser is undefined at 0), got {sigma}"
        )
    if not tableau.stochastic and Tableau(start, sigma, weights).stochastic:
        raise ValueError("tableau.stochastic must be True where z has weights, got False")
    return tableau


def check_shapes(tableau: Tableau) -> None:
    """Raises ValueError unless the shapes of a tableau, concrete or traced, agree."""
    start, sigma, weights = (np.shape(field) for field in _numbers(tableau))
    if len(start) != 2 or start[0] < 1 or start[1] != 2:
        raise ValueError(f"tableau.start must have shape [R, 2], got {start}")
    if len(sigma) != 1 or sigma[0] < 1:
        raise ValueError(f"tableau.sigma must have shape [K] with K >= 1, got {sigma}")
    expected = (sigma[0], start[0], start[0] + 2)
    if weights != expected:
        raise ValueError(
            f"tableau.weights must have shape [K, R, R + 2] = {expected}, got {weights}"
        )
