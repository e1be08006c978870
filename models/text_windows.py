"""The corpus in windows, for the language models trained here: calibration, tests, perplexity and bits per byte.

A window of T tokens is T + 1 ids: each but the first is predicted, as training scored itself (training/language.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache

import numpy as np

from models import corpus
from models.bootstrap import Measure, perplexity, ratio
from models.language import LOGITS, closeness, nll
from models.packages import NpmFiles
from models.zoo import Array, Evaluation, Feeds, Run, Scores, TestSet

TEXT = NpmFiles(*corpus.PACKAGE, corpus.MEMBERS)
TESTS = {"novel": "test_novel", "speeches": "test_speeches"}
SIZES: dict[str, tuple[int, int | None]] = {
    "quick": (128, 2), "small": (256, 8), "usual": (512, 24), "full": (512, None)
}  # fmt: skip
"""Of a test: tokens of a window, windows of each text. Training scored itself on "full"."""
CALIBRATION, CALIBRATION_TOKENS = 32, 256
LICENCE = "Apache-2.0 (weights, trained here; the texts are in the public domain)"
NOTES = (
    "scored on 24 windows of 512 tokens of each held-out text, spread evenly; --full takes all whole windows (training "
    "also scored the few tokens behind the last)",
    "perplexities are per token of this repository's own tokenizer: compare models of others by bits per byte",
    "weights went through float16 once; model.onnx holds them as float32",
)
FeedsOf = Callable[[Array], Feeds]
"""Windows [rows, T + 1] to inputs."""


@cache
def ids_of(split: str) -> Array:
    """A split of the corpus as int64 ids."""
    return np.asarray(corpus.tokenize(TEXT.folder(), (split,))[split].ids, np.int64)


def windows(ids: Array, length: int, count: int | None = None) -> Array:
    """[count, length + 1]: windows that share no predicted token, evenly spread; all of them by default.

    The last id of a window is the first of the one behind it. What is left behind the last whole one is not used.
    """
    whole = (len(ids) - 1) // length
    chosen = np.arange(whole) if count is None else np.linspace(0, whole - 1, min(count, whole)).astype(int)
    return np.asarray(ids[chosen[:, None] * length + np.arange(length + 1)])


def held_out(size: str) -> dict[str, Array]:
    """Windows of the held-out text of each kind; `size` is a key of SIZES."""
    return {name: windows(ids_of(split), *SIZES[size]) for name, split in TESTS.items()}


def calibration_windows() -> Array:
    """[32, 257] of the training text."""
    return windows(ids_of("train"), CALIBRATION_TOKENS, CALIBRATION)


@cache
def token_bytes() -> Array:
    """UTF-8 bytes that each token stands for; the mark between documents stands for none."""
    tokenizer = corpus.load_tokenizer()
    sizes = [len(tokenizer.id_to_token(i)) for i in range(tokenizer.get_vocab_size())]  # one letter stands for one byte
    sizes[corpus.END] = 0
    return np.array(sizes, np.int64)


def with_bits(measures: Mapping[str, Measure], texts: Mapping[str, Array]) -> dict[str, Measure]:
    """NAME_bits_per_byte after each NAME_perplexity of `texts`; other measures behind them."""
    found: dict[str, Measure] = {}
    for name, rows in texts.items():
        found[f"{name}_perplexity"] = whole = measures[f"{name}_perplexity"]
        sizes = token_bytes()[rows[:, 1:]].sum(-1)
        found[f"{name}_bits_per_byte"] = ratio(whole.rows[:, 0] / math.log(2), sizes)
    return found | {name: measure for name, measure in measures.items() if name not in found}


def evaluate(run: Run, reference: Run | None, texts: Mapping[str, Array], feeds_of: FeedsOf, batch: int) -> Evaluation:
    """Perplexity and bits per byte of every text; KL per token and top-1 agreement with `reference`, if there is one.

    One batch of windows at a time: logits of a whole test set would take gigabytes.
    """
    measures: dict[str, Measure] = {}
    kl, same, tokens = 0.0, 0, 0
    for name, rows in texts.items():
        sums: list[float] = []
        for part in _parts(rows, batch):
            logits = run(feeds_of(part))[LOGITS]
            sums += [nll(found, ids) for found, ids in zip(logits, part, strict=True)]
            if reference is not None:
                for pair in zip(logits, reference(feeds_of(part))[LOGITS], strict=True):
                    more, equal = closeness(*pair)
                    kl, same, tokens = kl + more, same + equal, tokens + len(pair[0])
        measures[f"{name}_perplexity"] = perplexity(np.array(sums), np.full(len(rows), rows.shape[1] - 1))
    fidelity = {} if reference is None else {"kl": kl / tokens, "agreement": same / tokens}
    return Evaluation(with_bits(measures, texts), fidelity)


def token_test(texts: Mapping[str, Array], feeds_of: FeedsOf, batch: int) -> TestSet:
    """The same as a test set of one call a batch, for tools that keep outputs."""

    def judged(outputs: Sequence[Array], reference: Sequence[Array] | None) -> Evaluation:
        mine, theirs = iter(outputs), None if reference is None else iter(reference)
        other = None if theirs is None else lambda feeds: {LOGITS: next(theirs)}
        return evaluate(lambda feeds: {LOGITS: next(mine)}, other, texts, feeds_of, batch)

    def measures(outputs: Sequence[Array]) -> dict[str, Measure]:
        return judged(outputs, None).measures

    def fidelity(outputs: Sequence[Array], reference: Sequence[Array]) -> Scores:
        return judged(outputs, reference).fidelity

    batches = [feeds_of(part) for rows in texts.values() for part in _parts(rows, batch)]
    return TestSet(batches, measures, fidelity, {f"{name}_ids": rows for name, rows in texts.items()})


def _parts(rows: Array, batch: int) -> Iterator[Array]:
    return (rows[start : start + batch] for start in range(0, len(rows), batch))
