"""The handwritten digits that come with the package: 1,797 images of 8x8 pixels, 10 classes.

Source: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine
Learning Repository, 1998, https://doi.org/10.24432/C50P49. Licence: Creative Commons Attribution
4.0 International (CC BY 4.0), https://creativecommons.org/licenses/by/4.0/. These are the images
that scikit-learn's `load_digits` ships. Changed here: the values 0..16 are scaled to 0..255 by
round(v * 255 / 16). The same notice is in the file, under the name `notice`.
"""

import pathlib

import numpy as np

PATH = pathlib.Path(__file__).with_name("digits.npz")


def read() -> tuple[np.ndarray, np.ndarray]:
    """Reads the embedded digits.

    Returns:
      The images, uint8 [1797, 8, 8, 1], and the digits that they show, int32 [1797].

    >>> images, targets = read()
    >>> images.shape, images.max(), targets[:5]
    ((1797, 8, 8, 1), np.uint8(255), array([0, 1, 2, 3, 4], dtype=int32))
    """
    with np.load(PATH, allow_pickle=False) as file:
        return file["images"][..., None], file["labels"].astype(np.int32)


def notice() -> str:
    """Returns the source and licence of the digits, as the file itself states them.

    >>> "CC BY 4.0" in notice()
    True
    """
    with np.load(PATH, allow_pickle=False) as file:
        return str(file["notice"])
