"""How many bits a dimension do held-out digits cost, and does the denoiser obey its equation?

    python benchmarks/likelihood.py --checkpoint runs/digits-part --train train.zip \
        --test test.zip --record bpd.json --out docs/likelihood.png

The model must have been trained on --train alone; --record is what `edm-jax evaluate bpd` wrote of
it on --test. Beside it stand densities that no network has a part in, fitted to --train for every
class: a Gaussian with a full covariance, and a kernel estimate, of the same dequantised pixels. The
one width of each is the best for --test, which favours them. A histogram of each pixel by itself
is told what no density is: that only 17 of the 256 values occur.
"""

import argparse
import json

import jax
import jax.numpy as jnp
import numpy as np

from edm_jax import ideal, load, normal, sample_keys
from edm_jax.cli import plot_levels
from edm_jax.data import archive
from edm_jax.likelihood import bits_per_dim, dequantize, fokker_planck_residual

WIDTHS = np.geomspace(0.01, 0.5, 18)
LEVELS = np.geomspace(0.01, 40.0, 14)


def classes(path, *, dequantized=True):
    """Images [n, 64] by class."""
    data = archive.load(path, labels=True)
    y, count = data.images, len(data.images)
    if dequantized:
        y = np.asarray(dequantize(y, sample_keys(range(count))), np.float64)
    label = data.label_rows(np.arange(count)).argmax(1)
    return [y[label == c].reshape(-1, y[0].size) for c in range(data.label_dim)]


def histogram(train, test):
    """Bits of each pixel by itself, in each class, of the values that occur; one of each added."""
    values = np.unique(np.concatenate(train))
    bits = []
    for rows, new in zip(train, test):
        counts = 1.0 + (rows[:, :, None] == values).sum(0)
        shares = counts / counts.sum(1, keepdims=True)
        bits.append(-np.log2(((new[:, :, None] == values) * shares).sum(2)))
    return float(np.concatenate(bits).mean())


def best(density, test):
    """(bits, width) of the width that costs the test images least."""
    found = []
    for width in WIDTHS:
        nats = np.concatenate([np.asarray(p(rows, width)) for p, rows in zip(density, test)])
        found.append(float(bits_per_dim(nats, test[0].shape[1]).mean()))
    return min(found), WIDTHS[int(np.argmin(found))]


def rivals(train, test):
    gaussian, kernels = [], []
    for rows in train:
        cov = np.cov(rows.T)
        gaussian.append(ideal.gaussian_log_prob(rows.mean(0), covariance=(cov + cov.T) / 2))
        ones = np.ones(len(rows))
        kernels.append(jax.jit(ideal.mixture_log_prob(rows, 0 * ones, ones)))
    return {"Gaussian of each class": best(gaussian, test), "kernels": best(kernels, test)}


def residuals(model, path, count=64):
    """RMS, by noise level, of the residual, of its left side, and of D - y."""
    data = archive.load(path, labels=True)
    rows = np.linspace(0, len(data.images), count, endpoint=False).astype(int)
    y = np.asarray(data.images[rows], np.float32) / 127.5 - 1
    labels = jnp.asarray(data.label_rows(rows))
    noise = normal(sample_keys(range(count)), y.shape[1:])

    @jax.jit
    def at(sigma):
        denoise, x = model.denoiser(labels), y + sigma * noise
        rms = lambda a: jnp.sqrt(jnp.mean(a**2))
        left = jax.jvp(lambda s: denoise(x, s), (sigma,), (sigma,))[1]
        return rms(fokker_planck_residual(denoise, x, sigma)), rms(left), rms(denoise(x, sigma) - y)

    return np.array([[float(v) for v in at(jnp.float32(sigma))] for sigma in LEVELS])


def draw(record, found, out):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    plot_levels.draw(left, record["elbo_terms"])
    names = "residual", "σ ∂D/∂σ, its left side", "D − y"
    for values, name, style in zip(found.T, names, ("C3-", "C0-", "C7--")):
        right.plot(LEVELS, values, style, label=name)
    right.set(
        xscale="log", yscale="log", xlabel="noise level σ", ylabel="RMS, of pixels in [−1, 1]"
    )
    right.legend(fontsize=8)
    right.grid(alpha=0.3)
    figure.savefig(out, dpi=90)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("checkpoint", "train", "test", "record", "out"):
        parser.add_argument(f"--{name}", required=True)
    args = parser.parse_args()
    with jax.enable_x64(True):
        train, test = classes(args.train), classes(args.test)
        for name, (bits, width) in rivals(train, test).items():
            print(f"{name:24} {bits:.3f} bits/dim at width {width:.3f}")
    bits = histogram(*(classes(path, dequantized=False) for path in (args.train, args.test)))
    print(f"{'histogram of each pixel':24} {bits:.3f}")
    with open(args.record) as file:
        record = json.load(file)
    for name, score in record["scores"].items():
        print(f"{name:24} {score['mean']:.3f} ± {score['standard_error']:.3f}")
    found = residuals(load(args.checkpoint), args.test)
    print("\n  sigma  residual  left side     D - y")
    for sigma, row in zip(LEVELS, found):
        print(f"{sigma:7.3f} " + " ".join(f"{value:9.4f}" for value in row))
    draw(record, found, args.out)


if __name__ == "__main__":
    main()
