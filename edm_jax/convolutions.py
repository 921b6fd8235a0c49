"""Convolutions whose gradients are as fast inside of a loop as outside of one.

XLA's CPU backend brings the dimensions of a convolution into the order that its fast kernel takes,
but only outside of loops; and the gradient of a convolution has them in another order. In a loop
gradients are then left to a slow one: with respect to the input they take 3 times as long (jax
0.10) or 20 times (0.12), with respect to the weights 30 or 40 times. Here the order is changed
before XLA sees it.
"""

import functools
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


def fast_in_loops(function: Callable[P, T]) -> Callable[P, T]:
    """Makes the convolutions of a function, its loops included, fast on a CPU.

    `edm_jax.sample` does this for its own loop. It is of use around a loop of yours in which a
    network is differentiated, and around the gradient of a loop: `fast_in_loops(jax.grad(loss))`.
    On other devices, and for convolutions in the usual order, nothing changes.

    Args:
      function: of arrays and pytrees of them.

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
        run = functools.partial(_run, program) if slow else core.jaxpr_as_fun(program)
        leaves = run(*jax.tree.leaves((args, kwargs)))
        return cast(T, jax.tree.unflatten(jax.tree.structure(shapes), leaves))

    return fast


def _run(program: core.ClosedJaxpr, *inputs: Any) -> list[Any]:
    """Runs a program, its slow convolutions in the fast order."""
    jaxpr = program.jaxpr
    values = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*program.consts, *inputs), strict=True))
    read = lambda atom: atom.val if isinstance(atom, core.Literal) else values[atom]
    for equation in jaxpr.eqns:
        operation, params = equation.primitive, equation.params
        operands = [read(atom) for atom in equation.invars]
        with equation.ctx.manager:  # what else was said of it, as metadata for XLA
            if _is_slow(equation):
                results = _convolve(*operands, **params)
            else:
                if operation.name in WITH_PROGRAMS:
                    params = {name: _reordered(value) for name, value in params.items()}
                results = operation.bind(*operands, **operation.get_bind_params(params))
        values.update(
            zip(equation.outvars, results if operation.multiple_results else [results], strict=True)
        )
    return [read(atom) for atom in jaxpr.outvars]


def _reordered(value: Any) -> Any:
    """A parameter of an operation, the programs in it with their convolutions in the fast order."""
    if type(value) is tuple:
        return tuple(_reordered(part) for part in value)
    if isinstance(value, core.ClosedJaxpr) and _has_slow(value.jaxpr):
        return jax.make_jaxpr(functools.partial(_run, value))(*value.in_avals)
    if isinstance(value, core.Jaxpr) and _has_slow(value):
        return _reordered(core.ClosedJaxpr(value, ())).jaxpr
    return value


def _convolve(x: Any, kernel: Any, *, dimension_numbers: Any, **params: Any) -> Any:
    """A convolution as given; on a CPU as one in the usual order between transpositions."""
    before, usual = dimension_numbers, _usual_order(x.ndim)

    def transposed(x, kernel):
        x = jnp.transpose(x, _from_to(before.lhs_spec, usual.lhs_spec))
        kernel = jnp.transpose(kernel, _from_to(before.rhs_spec, usual.rhs_spec))
        out = CONVOLUTION.bind(x, kernel, dimension_numbers=usual, **params)
        return jnp.transpose(out, _from_to(usual.out_spec, before.out_spec))

    as_given = functools.partial(CONVOLUTION.bind, dimension_numbers=before, **params)
    return jax.lax.platform_dependent(x, kernel, cpu=transposed, default=as_given)


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
