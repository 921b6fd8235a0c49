"""Augmentation as the network is trained on it: a digit eight times, and one colour picture."""

import jax
import numpy as np
from drawing import figure, save

from edm_jax import augment, sample_keys
from edm_jax.data import archive

COUNT = 9


def pictures() -> np.ndarray:
    """[2, 64, 64, 3]: a digit enlarged, and shapes in colour, in [-1, 1]."""
    digit = archive.load("digits").images[3].repeat(8, 0).repeat(8, 1) / 127.5 - 1
    down, right = np.mgrid[0:64, 0:64] / 63
    colour = np.stack([down, right, 1 - down], -1)
    colour[(down - 0.4) ** 2 + (right - 0.35) ** 2 < 0.05] = (1.0, 0.8, 0.1)
    colour[40:56, 34:58] = (0.1, 0.3, 0.7)
    return np.stack([np.broadcast_to(digit, (64, 64, 3)), 2 * colour - 1])


def augmented(p: float, count: int) -> np.ndarray:
    """Each picture `count` times [2, count, 64, 64, 3], augmented with probability p."""
    settings = augment.edm(p)
    run = jax.jit(lambda keys, images: augment.augment(keys, images, settings)[0])
    rows = [run(sample_keys(range(count)), np.broadcast_to(image, (count, *image.shape)))
            for image in pictures().astype(np.float32)]  # fmt: skip
    return np.stack(rows)


def main() -> None:
    """Draws the originals, and what may become of them."""
    made, axes = figure(2, COUNT, width=9.0, height=2.2)
    found = augmented(0.6, COUNT - 1)
    for row, original, others in zip(axes, pictures(), found):
        for ax, image in zip(row, [original, *others]):
            ax.imshow(np.clip(image * 0.5 + 0.5, 0, 1))
            ax.axis("off")
    axes[0, 0].set_title("original", fontsize=9)
    save(made, __file__)


if __name__ == "__main__":
    main()
