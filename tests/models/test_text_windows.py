"""Windows of the corpus, perplexity and bits per byte, without torch and without the corpus."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pytest

from models import corpus, text_windows
from models.zoo import Array, Feeds

VOCABULARY = 9
IDS = np.random.default_rng(0).integers(0, VOCABULARY, 101)
TABLE = np.random.default_rng(1).normal(0, 1, (VOCABULARY, VOCABULARY))


@pytest.fixture(autouse=True)
def small_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Token i stands for i bytes."""
    monkeypatch.setattr(text_windows, "token_bytes", lambda: np.arange(VOCABULARY))


def bigram(feeds: Feeds) -> Mapping[str, Array]:
    return {"logits": TABLE[feeds["input_ids"]]}


def uniform(feeds: Feeds) -> Mapping[str, Array]:
    return {"logits": np.zeros((*feeds["input_ids"].shape, VOCABULARY))}


def feeds_of(rows: Array) -> Feeds:
    return {"input_ids": rows}


def test_windows_predict_every_token_once() -> None:
    rows = text_windows.windows(IDS, 10)
    assert rows.shape == (10, 11)
    assert np.array_equal(rows[:, 1:].ravel(), IDS[1:101]) and np.array_equal(rows[1:, 0], rows[:-1, -1])
    some = text_windows.windows(IDS, 10, 4)
    assert [np.flatnonzero((rows == row).all(-1))[0] for row in some] == [0, 3, 6, 9]
    assert len(text_windows.windows(IDS, 10, 99)) == 10


def test_uniform_logits_cost_the_vocabulary() -> None:
    rows = text_windows.windows(IDS, 10)
    found = text_windows.evaluate(uniform, None, {"novel": rows}, feeds_of, 3)
    assert found.fidelity == {}
    assert found.measures["novel_perplexity"].point() == pytest.approx(VOCABULARY)
    bits = 100 * math.log2(VOCABULARY) / IDS[1:101].sum()
    assert found.measures["novel_bits_per_byte"].point() == pytest.approx(bits)
    assert len(found.measures["novel_bits_per_byte"].rows) == 10, "items are windows"


def test_scores_are_those_of_the_whole_text() -> None:
    """A bigram model needs no context, so windows cost what the text costs in one piece."""
    logits = TABLE[IDS[:100]]
    chosen = (logits - np.log(np.exp(logits).sum(-1, keepdims=True)))[np.arange(100), IDS[1:]]
    found = text_windows.evaluate(bigram, uniform, {"novel": text_windows.windows(IDS, 10)}, feeds_of, 4)
    assert found.measures["novel_perplexity"].point() == pytest.approx(np.exp(-chosen.mean()))
    p = 1.0 / VOCABULARY
    q = np.exp(TABLE) / np.exp(TABLE).sum(-1, keepdims=True)
    rows = text_windows.windows(IDS, 10)
    kl = (p * (np.log(p) - np.log(q))).sum(-1)[rows].mean()
    assert found.fidelity["kl"] == pytest.approx(kl), "KL(reference || model) per token"
    assert found.fidelity["agreement"] == pytest.approx((TABLE.argmax(-1) == 0)[rows].mean())


def test_the_test_set_judges_as_evaluate_does() -> None:
    texts = {"novel": text_windows.windows(IDS, 10), "speeches": text_windows.windows(IDS[::-1], 20)}
    test = text_windows.token_test(texts, feeds_of, 4)
    outputs, reference = ([run(feeds)["logits"] for feeds in test.batches] for run in (bigram, uniform))
    whole = text_windows.evaluate(bigram, uniform, texts, feeds_of, 4)
    assert test.score(outputs) == {name: measure.point() for name, measure in whole.measures.items()}
    assert list(test.score(outputs)) == [
        "novel_perplexity", "novel_bits_per_byte", "speeches_perplexity", "speeches_bits_per_byte"
    ]  # fmt: skip
    assert test.fidelity(outputs, reference) == whole.fidelity
    assert np.array_equal(test.labels["speeches_ids"], texts["speeches"])


def test_tokens_stand_for_the_bytes_of_their_text(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tokenizers", reason="needs the extra 'models'")
    monkeypatch.undo()
    text = "Call me Ishmael: 1851, naïve — “whale”.\n\n\tŠ 鯨"
    ids = corpus.load_tokenizer().encode(text).ids
    sizes = text_windows.token_bytes()
    assert sizes[ids].sum() == len(text.encode()) and sizes[corpus.END] == 0 and len(sizes) == corpus.VOCABULARY
