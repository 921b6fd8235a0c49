"""Archives, made anew: thirteen small images, and one as CIFAR-10's JPEG one is laid out."""

import io
import json
import zipfile

import numpy as np
import pytest
from PIL import Image

CLASSES = ("airplane", "cat", "truck")
PER_CLASS = 40


@pytest.fixture
def small_archive(tmp_path_factory):
    """The path of a zip of thirteen PNG images 6x6 with labels of four classes."""
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("small") / "x.zip"
    with zipfile.ZipFile(path, "w") as file:
        for i in range(13):
            buffer = io.BytesIO()
            Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8)).save(buffer, "PNG")
            file.writestr(f"{i:02d}.png", buffer.getvalue())
        labels = [[f"{i:02d}.png", i % 4] for i in range(13)]
        file.writestr("dataset.json", json.dumps({"labels": labels}))
    return path


@pytest.fixture(scope="session")
def jpeg_archive(tmp_path_factory):
    """The path of an archive: a folder of JPEG images 32x32 for each class, and dataset.json."""
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("jpegs") / "jpegs.zip"
    labels = []
    with zipfile.ZipFile(path, "w") as file:
        for target, name in enumerate(CLASSES):
            for i in range(PER_CLASS):
                pixels = rng.integers(0, 256, (4, 4, 3), np.uint8)
                image = Image.fromarray(pixels).resize((32, 32), Image.Resampling.BICUBIC)
                buffer = io.BytesIO()
                image.save(buffer, "JPEG", quality=90)
                member = f"{name}/{i:04d}.jpg"
                file.writestr(member, buffer.getvalue())
                labels.append([member, target])
        file.writestr("dataset.json", json.dumps({"labels": labels, "classes": CLASSES}))
    return path
