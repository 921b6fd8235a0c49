"""How often is a classifier right about digits that it has not seen, by how noisy they are?

    python benchmarks/classifier.py

Trains `configs/digits_classifier.py` on four fifths of the digits that the package brings, and
asks it about the rest at each of several noise levels.
"""

import argparse
import pathlib
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
from held_out import split, write

import edm_jax
from configs import digits_classifier
from edm_jax.data import digits
from edm_jax.training.loop import train

SIGMAS = (0.002, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 20.0, 80.0)


def main() -> None:
    """Prints the accuracy and the cross-entropy at every noise level."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kimg", type=float, help="train this long instead of the configuration's")
    args = parser.parse_args()

    images, targets = digits.read()
    held_out, seen = split()
    config = digits_classifier.get_config()
    config.duration_kimg = args.kimg or config.duration_kimg
    with tempfile.TemporaryDirectory() as folder:
        config.data.archive = f"{folder}/seen.zip"
        write(pathlib.Path(config.data.archive), seen)
        train(config, f"{folder}/run")
        model = edm_jax.load(f"{folder}/run")

    y = jnp.asarray(images[held_out], jnp.float32) / 127.5 - 1
    labels, draws = targets[held_out], 10
    logits = jax.jit(model.classifier())
    print(f"sigma   accuracy   nats      ({len(y)} digits, {draws} draws of noise)")
    for sigma in SIGMAS:
        keys = jax.random.split(jax.random.key(1), draws)
        noisy = [y + sigma * jax.random.normal(key, y.shape) for key in keys]
        log_p = np.stack([jax.nn.log_softmax(logits(x, jnp.float32(sigma))) for x in noisy])
        right = (log_p.argmax(-1) == labels).mean()
        nats = -np.take_along_axis(log_p, labels[None, :, None], 2).mean()
        print(f"{sigma:<7} {100 * right:6.1f} %  {nats:7.3f}")


if __name__ == "__main__":
    main()
