"""How fast is a denoiser beside its own convolutions and matrix products, written bare?

    python benchmarks/denoiser.py [--small] [--networks ddpmpp ncsnpp adm edm2]
        [--types float32 bfloat16] [--batches 1 8]

One table: the networks of the paper's runs and of EDM2 (size S), each beside a program of the
convolutions and matrix products in it and nothing else, and beside the matrix-product ceiling of
the device (2048³, the same type).
  ratio      the operations alone / the network: 1 is a network that costs nothing else
  of ceiling the network's operations a second over the ceiling's
  GFLOP      of those operations, counted from their shapes (products with padding are left out)
  by XLA     what the compiler counts in the whole network, over that
Weights and inputs are numpy's default_rng(seed).standard_normal in float32, the leaves in their
order times 0.02; class labels are none; sigma is 1.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pairs

from edm_jax import networks
from edm_jax.model import Model, init_params

NETWORKS = {
    "ddpmpp": networks.ddpmpp(label_dim=10, augment_dim=9),
    "ncsnpp": networks.ncsnpp(label_dim=10, augment_dim=9),
    "adm": networks.adm(label_dim=1000, augment_dim=9),
    "edm2": networks.edm2(label_dim=1000),
}
SMALL = dict(resolution=16, channel_mult=(1, 2), num_blocks=1, attn_resolutions=(8,))
PRODUCTS = ("conv_general_dilated", "dot_general")
SIDE = 2048  # of the matrices whose product is the ceiling


def with_numbers(config: networks.ModelConfig) -> Model:
    """The model with drawn weights: real initialisation takes longer than a measurement."""
    rng = np.random.default_rng(pairs.SEEDS["weights"])
    shapes = jax.eval_shape(lambda key: init_params(key, config), jax.random.key(0))
    draw = lambda leaf: jnp.asarray(0.02 * rng.standard_normal(leaf.shape, np.float32))
    return Model.build(config, jax.tree.map(draw, shapes))


def products(function: Callable, *arguments: Any) -> list[Any]:
    """Every convolution and matrix product of a function, as equations, in order."""
    found = []

    def visit(jaxpr):
        for equation in jaxpr.eqns:
            if equation.primitive.name in PRODUCTS:
                found.append(equation)
            for inner in jax.extend.core.jaxprs_in_params(equation.params):
                visit(inner)

    visit(jax.make_jaxpr(function)(*arguments).jaxpr)
    return found


def flop(equation: Any) -> float:
    """Multiplications and additions, 2 for each pair; those with padding are not done."""
    out, kernel = equation.outvars[0].aval, equation.invars[1].aval
    if equation.primitive.name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        depth = math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
        return 2.0 * math.prod(out.shape) * depth
    numbers = equation.params["dimension_numbers"]
    pairs_of_pixels = 1
    for i, (stride, (before, _)) in enumerate(
        zip(equation.params["window_strides"], equation.params["padding"])
    ):
        size = equation.invars[0].aval.shape[numbers.lhs_spec[2 + i]]
        side = kernel.shape[numbers.rhs_spec[2 + i]]
        place = np.arange(out.shape[numbers.out_spec[2 + i]])[:, None] * stride - before
        place = place + np.arange(side)
        pairs_of_pixels *= int(((place >= 0) & (place < size)).sum())
    batch, features = (out.shape[numbers.out_spec[i]] for i in (0, 1))
    return 2.0 * batch * features * kernel.shape[numbers.rhs_spec[1]] * pairs_of_pixels


def bare(equations: list[Any]) -> Callable[[], list[jax.Array]]:
    """One program of all the operations, of random numbers; each second operand is its own."""
    rng, firsts, operands = np.random.default_rng(pairs.SEEDS["inputs"]), {}, []
    for equation in equations:
        first, second = (
            jnp.asarray(rng.standard_normal(v.aval.shape, np.float32), v.aval.dtype)
            for v in equation.invars
        )
        key = (first.shape, first.dtype)
        operands.append((firsts.setdefault(key, first), second))
    run = jax.jit(
        lambda operands: [e.primitive.bind(*o, **e.params) for e, o in zip(equations, operands)]
    )
    return lambda: run(operands)


def ceiling(dtype: str) -> Callable[[], jax.Array]:
    """A product of two matrices."""
    rng = np.random.default_rng(pairs.SEEDS["inputs"])
    a, b = (jnp.asarray(rng.standard_normal((SIDE, SIDE), np.float32), dtype) for _ in range(2))
    run = jax.jit(jnp.dot)
    return lambda: run(a, b)


def measure(report: pairs.Report, name: str, model: Model, dtype: str, batch: int) -> None:
    """A row of the table."""
    rng = np.random.default_rng(pairs.SEEDS["inputs"])
    x = jnp.asarray(rng.standard_normal((batch, *model.image_shape), np.float32))
    call = lambda model, x: model.denoiser()(x, 1.0)
    equations = products(call, model, x)
    lowered = jax.jit(call).lower(model, x)
    program, count = lowered.compile(), sum(map(flop, equations))
    calls = {
        "bare": bare(equations),
        "network": lambda: program(model, x),
        "ceiling": ceiling(dtype),
    }
    times = pairs.in_turn(calls, report.repeats)
    seconds = times["network"].median
    report.row(
        f"{name}, {dtype}, batch {batch}",
        times["bare"],
        times["network"],
        **{
            "images/s": batch / seconds,
            "of ceiling": count / seconds / (2.0 * SIDE**3 / times["ceiling"].median),
            "GFLOP": count / 1e9,
            "by XLA": lowered.cost_analysis()["flops"] / count,
        },
    )


def main() -> None:
    """Prints the table."""
    parser = pairs.parser(__doc__)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--types", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--batches", nargs="+", type=int)
    args = parser.parse_args()
    report = pairs.Report("denoiser", args)
    report.table("bare operations / network", "images/s", "of ceiling", "GFLOP", "by XLA")
    for name in args.networks:
        config = NETWORKS[name]
        if args.small:
            config = dataclasses.replace(config, **SMALL, model_channels=32)
        model = with_numbers(config)
        for dtype in args.types:
            typed = Model.build(dataclasses.replace(config, dtype=dtype), model.params)
            for batch in args.batches or ((2,) if args.small else (1, 8)):
                measure(report, name, typed, dtype, batch)
    report.end()


if __name__ == "__main__":
    main()
