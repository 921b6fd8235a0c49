"""How fast is FID's network here, beside the convolutions in it alone and beside PyTorch's?

    python benchmarks/inception.py [--batch 16] [--repeats 5] [--torch /path/to/python]

Images per second of `evaluation.inception.features`, resize included, with random weights; of its
94 convolutions alone, one program each; and, with --torch, of the same convolutions in the PyTorch
of another interpreter, which leaves out norms, activations, pools and the resize. The best of the
repeats counts, and they take turns, since other work on the machine comes and goes.
"""

import argparse
import json
import subprocess
import time

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np

from edm_jax.evaluation import inception

TORCH = """
import json, sys, time, torch
import torch.nn.functional as F
convolutions = []
for x, w, stride, pad in json.loads(sys.stdin.readline()):
    b, h, width, c = x; kh, kw, i, o = w
    layout = dict(memory_format=torch.channels_last)
    x = torch.randn(b, c, h, width).to(**layout)
    w = torch.randn(o, i, kh, kw).to(**layout)
    convolutions.append((x, w, stride, [p[0] for p in pad]))
with torch.inference_mode():
    for _ in sys.stdin:
        start = time.perf_counter()
        for x, w, stride, pad in convolutions:
            F.conv2d(x, w, None, stride, pad)
        print(time.perf_counter() - start, flush=True)
"""


def convolutions(function, *arguments):
    """(input shape, kernel shape, strides, padding) of each convolution, in order."""
    found = []

    def visit(jaxpr):
        for equation in jaxpr.eqns:
            if equation.primitive.name == "conv_general_dilated":
                x, w = (list(variable.aval.shape) for variable in equation.invars)
                parts = equation.params["window_strides"], equation.params["padding"]
                found.append((x, w, *parts))
            for inner in jax.extend.core.jaxprs_in_params(equation.params):
                visit(inner)

    visit(jax.make_jaxpr(function)(*arguments).jaxpr)
    return found


def timed(function):
    """A function that calls it and returns the seconds."""

    def run():
        start = time.perf_counter()
        jax.block_until_ready(function())
        return time.perf_counter() - start

    return run


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--torch", metavar="PYTHON", help="an interpreter that has PyTorch")
    args = parser.parse_args()

    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (args.batch, 32, 32, 3), np.uint8)
    params = inception.Inception().init(jax.random.key(0), inception.inputs(images[:1]))["params"]
    network = jax.jit(inception.features)
    shapes = convolutions(inception.features, params, images)
    single = []
    for x, w, strides, pad in shapes:
        a, b = (jnp.asarray(rng.standard_normal(shape, np.float32)) for shape in (x, w))
        run = jax.jit(
            lambda a, b, strides=strides, pad=pad: jax.lax.conv_general_dilated(
                a, b, strides, pad, dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
        )
        single.append((run, a, b))

    runs = {
        "the network": timed(lambda: network(params, images)),
        f"its {len(shapes)} convolutions": timed(lambda: [run(a, b) for run, a, b in single]),
    }
    if args.torch:
        process = subprocess.Popen(
            [args.torch, "-c", TORCH], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        print(json.dumps(shapes), file=process.stdin, flush=True)

        def other():
            print(file=process.stdin, flush=True)
            return float(process.stdout.readline())

        runs["the same in PyTorch"] = other
    for run in runs.values():
        run()  # compiled
    best = {name: min(times) for name, times in zip(runs, zip(*(
        [run() for run in runs.values()] for _ in range(args.repeats))))}  # fmt: skip
    for name, seconds in best.items():
        speed = seconds / best["the network"]
        print(f"{name:24}{args.batch / seconds:8.1f} images/s   the network's / this {speed:5.2f}")
    if args.torch:
        process.stdin.close()
        process.wait()


if __name__ == "__main__":
    main()
