"""How often is a classifier right about digits that it has not seen, by how noisy they are?

    python benchmarks/classifier.py

Trains `configs/digits_classifier.py` on four fifths of the digits that the package brings, and
asks it about the rest at each of several noise levels.
"""

import argparse
import io
import json
import pathlib
import tempfile
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

import edm_jax
from configs import digits_classifier
from edm_jax.data import digits
from edm_jax.training.loop import train

SIGMAS = (0.002, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 20.0, 80.0)


def archive(path: pathlib.Path, images: np.ndarray, targets: np.ndarray) -> None:
    """Writes a data set of labelled images [n, 8, 8, 1]."""
    labels = []
    with zipfile.ZipFile(path, "w") as file:
        for i, (image, target) in enumerate(zip(images, targets)):
            stream, name = io.BytesIO(), f"{i:05d}.png"
            Image.fromarray(image[..., 0]).save(stream, "png")
            file.writestr(name, stream.getvalue())
            labels.append([name, int(target)])
        file.writestr("dataset.json", json.dumps({"labels": labels}))


def main() -> None:
    """Prints the accuracy and the cross-entropy at every noise level."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kimg", type=float, help="train this long instead of the configuration's")
    args = parser.parse_args()

    images, targets = digits.read()
    order = np.random.default_rng(0).permutation(len(images))
    held_out, seen = np.split(order, [len(order) // 5])
    config = digits_classifier.get_config()
    config.duration_kimg = args.kimg or config.duration_kimg
    with tempfile.TemporaryDirectory() as folder:
        config.data.archive = f"{folder}/seen.zip"
        archive(pathlib.Path(config.data.archive), images[seen], targets[seen])
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
