"""Convolutions whose gradients are as fast inside of a loop as outside of one.

XLA's CPU backend brings the dimensions of a convolution into the order that its fast kernel takes,
but only outside of loops; and the gradient of a convolution has them in another order. In a loop
gradients are then left to a slow one: with respect to the input they take 3 times as long (jax
0.10) or 20 times (0.12), with respect to the weights 30 or 40 times. Here the order is changed
before XLA sees it.

A gradient with respect to the weights is a convolution whose window is the whole image; it is
summed here over a few rows at a time, which stay in the processor's cache: 1.1 times as fast as
XLA's outside of loops (jax 0.10) or 1.4 times (0.12), for images of 32x32.
"""

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ParamSpec, TypeVar, cast

import jax
import jax.numpy as jnp
from jax.extend import core

P = ParamSpec("P")
T = TypeVar("T")

CONVOLUTION = jax.lax.conv_general_dilated_p
# Operations that hold programs which can be traced again without knowing more than their inputs.
WITH_PROGRAMS = {"cond", "custom_jvp_call", "custom_vjp_call", "jit", "remat2", "scan", "while"}
# Numbers that are summed for a pixel of the result, above which it is done in parts.
SUMMED_AT_ONCE = 1024


def fast_in_loops(function: Callable[P, T], *, in_rows: bool = True) -> Callable[P, T]:
    """Makes the convolutions of a function, its loops included, fast on a CPU.

    `edm_jax.sample` does this for its own loop. It is of use around a loop of yours in which a
    network is differentiated, and around the gradient of a loop: `fast_in_loops(jax.grad(loss))`.
    A training step does it for its gradient. On other devices, and for convolutions in the usual
    order, nothing changes.

    Args:
      function: of arrays and pytrees of them.
      in_rows: whether gradients with respect to weights are summed over a few rows at a time. Not
        where a batch lies on several devices, which would add up their parts as often.

    Returns:
      The same function: same results to rounding; it can be jitted, mapped and differentiated.
      What is differentiated afterwards has to be wrapped again.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> loss = lambda x: 0.5 * (jnp.convolve(x, jnp.array([0.5, 0.5]), "full") ** 2).sum()
    >>> loop = lambda x: jax.lax.fori_loop(0, 2, lambda _, x: jax.grad(loss)(x), x)
    >>> fast_in_loops(loop)(jnp.array([1.0]))
    Array([0.25], dtype=float32)
    """

    @functools.wraps(function)
    def fast(*args: P.args, **kwargs: P.kwargs) -> T:
        config: Any = jax.config
        if config.jax_disable_jit:  # to look at the values on their way
            return function(*args, **kwargs)
        program, shapes = jax.make_jaxpr(function, return_shape=True)(*args, **kwargs)
        slow = _has_slow(program.jaxpr)
        run = functools.partial(_run, program, in_rows) if slow else core.jaxpr_as_fun(program)
        leaves = jax.tree.leaves((args, kwargs))
        if not any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
            run = jax.jit(run)  # one program, not one for each operation around the loop
        leaves = run(*leaves)
        return cast(T, jax.tree.unflatten(jax.tree.structure(shapes), leaves))

    return fast


def _run(program: core.ClosedJaxpr, in_rows: bool, *inputs: Any) -> list[Any]:
    """Runs a program, its slow convolutions in the fast order."""
    jaxpr = program.jaxpr
    values = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*program.consts, *inputs), strict=True))
    read = lambda atom: atom.val if isinstance(atom, core.Literal) else values[atom]
    for equation in jaxpr.eqns:
        operation, params = equation.primitive, equation.params
        operands = [read(atom) for atom in equation.invars]
        with equation.ctx.manager:  # what else was said of it, as metadata for XLA
            if _is_slow(equation):
                results = _convolve(*operands, in_rows=in_rows, **params)
            else:
                if operation.name in WITH_PROGRAMS:
                    params = {name: _reordered(value, in_rows) for name, value in params.items()}
                results = operation.bind(*operands, **operation.get_bind_params(params))
        values.update(
            zip(equation.outvars, results if operation.multiple_results else [results], strict=True)
        )
    return [read(atom) for atom in jaxpr.outvars]


def _reordered(value: Any, in_rows: bool) -> Any:
    """A parameter of an operation, the programs in it with their convolutions in the fast order."""
    if type(value) is tuple:
        return tuple(_reordered(part, in_rows) for part in value)
    if isinstance(value, core.ClosedJaxpr) and _has_slow(value.jaxpr):
        return jax.make_jaxpr(functools.partial(_run, value, in_rows))(*value.in_avals)
    if isinstance(value, core.Jaxpr) and _has_slow(value):
        return _reordered(core.ClosedJaxpr(value, ()), in_rows).jaxpr
    return value


def _convolve(x: Any, kernel: Any, *, dimension_numbers: Any, in_rows: bool, **params: Any) -> Any:
    """A convolution as given; on a CPU as one in the usual order between transpositions."""
    before, usual = dimension_numbers, _usual_order(x.ndim)

    def transposed(x, kernel):
        x = jnp.transpose(x, _from_to(before.lhs_spec, usual.lhs_spec))
        kernel = jnp.transpose(kernel, _from_to(before.rhs_spec, usual.rhs_spec))
        convolve = _in_rows if in_rows else CONVOLUTION.bind
        out = convolve(x, kernel, dimension_numbers=usual, **params)
        return jnp.transpose(out, _from_to(usual.out_spec, before.out_spec))

    as_given = functools.partial(CONVOLUTION.bind, dimension_numbers=before, **params)
    return jax.lax.platform_dependent(x, kernel, cpu=transposed, default=as_given)


def _in_rows(x: Any, kernel: Any, **params: Any) -> Any:
    """A convolution in the usual order; one whose window is large is summed over its rows.

    Args:
      x: [B, H, ..., I].
      kernel: [R, ..., I, O].
      params: of the operation.

    Returns:
      [B, H', ..., O].
    """
    height, row = kernel.shape[0], math.prod(kernel.shape[1:-1])
    fits = (r for r in range(height, 0, -1) if height % r == 0 and r * row <= SUMMED_AT_ONCE)
    rows, (vertical, *others) = next(fits, 1), params["padding"]
    results = x.shape[1] + sum(vertical) - height + 1
    steps = {*params["window_strides"], *params["lhs_dilation"], *params["rhs_dilation"]}
    of_rows = results < height and steps == {1} and min(vertical) >= 0
    if rows == height or not of_rows or x.dtype.itemsize < 4:  # sums of halves would be rounded
        return CONVOLUTION.bind(x, kernel, **params)
    x = jnp.pad(x, ((0, 0), vertical, *((0, 0) for _ in x.shape[2:])))
    params = {**params, "padding": ((0, 0), *others)}

    def part(start: Any, kernel: Any) -> Any:
        seen = jax.lax.dynamic_slice_in_dim(x, start, rows + results - 1, axis=1)
        return CONVOLUTION.bind(seen, kernel, **params)

    starts = jnp.arange(0, height, rows)
    blocks = kernel.reshape(len(starts), rows, *kernel.shape[1:])
    first = part(0, blocks[0])
    add = lambda total, block: (total + part(*block), None)
    return jax.lax.scan(add, first, (starts[1:], blocks[1:]))[0]


def _from_to(before: Sequence[int], after: Sequence[int]) -> list[int]:
    """The permutation after which what was at `before[i]` is at `after[i]`."""
    return [before[after.index(place)] for place in range(len(after))]


def _usual_order(ndim: int) -> jax.lax.ConvDimensionNumbers:
    """[B, ..., C] and [..., in, out]."""
    batch = (0, ndim - 1, *range(1, ndim - 1))
    return jax.lax.ConvDimensionNumbers(batch, (ndim - 1, ndim - 2, *range(ndim - 2)), batch)


def _is_slow(equation: core.JaxprEqn) -> bool:
    if equation.primitive is not CONVOLUTION:
        return False
    order = equation.params["dimension_numbers"]
    return order != _usual_order(len(order.lhs_spec))


def _has_slow(jaxpr: core.Jaxpr) -> bool:
    """Whether a program has such a convolution where it can be reordered."""
    for equation in jaxpr.eqns:
        known = equation.primitive.name in WITH_PROGRAMS
        inner = _programs(tuple(equation.params.values())) if known else ()
        if _is_slow(equation) or any(map(_has_slow, inner)):
            return True
    return False


def _programs(value: Any) -> Iterator[core.Jaxpr]:
    if type(value) is tuple:
        for part in value:
            yield from _programs(part)
    elif isinstance(value, core.ClosedJaxpr):
        yield value.jaxpr
    elif isinstance(value, core.Jaxpr):
        yield value
