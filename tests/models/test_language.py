"""Perplexity and fidelity of language models with a cache, on models of a few lines."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from models import language
from models.zoo import Array, Feeds, Run

SHAPE = language.CacheShape(layers=1, kv_heads=1, head_dim=4)
VOCABULARY = 11
TABLE = np.random.default_rng(0).normal(0, 1, (VOCABULARY, 4)).astype(np.float32)
IDS = np.random.default_rng(1).integers(0, VOCABULARY, (3, 160))


def model(*, forgets: bool = False, sharper: float = 1.0) -> Run:
    """Logits are products of the mean of all token vectors so far with the table; the keys of the cache hold them.

    With `forgets`, the vectors in the cache are not read.
    """

    def run(feeds: Feeds) -> Mapping[str, Array]:
        past = feeds["past_key_values.0.key"][0, 0]
        new = TABLE[feeds["input_ids"][0]]
        known = np.concatenate([past, new])
        assert feeds["attention_mask"].shape == (1, len(known))
        assert feeds["position_ids"][0, 0] == len(past)
        seen = new if forgets else known
        mean = np.cumsum(seen, axis=0) / np.arange(1, len(seen) + 1)[:, None]
        logits = sharper * (mean[-len(new) :] @ TABLE.T)
        return {"logits": logits[None], "present.0.key": known[None, None], "present.0.value": known[None, None]}

    return run


def uniform(feeds: Feeds) -> Mapping[str, Array]:
    found = dict(model()(feeds))
    return found | {"logits": np.zeros_like(found["logits"])}


def test_uniform_logits_have_the_vocabulary_as_perplexity() -> None:
    found = language.evaluate(uniform, None, {"text": IDS}, SHAPE, stretches=2)
    assert {name: m.point() for name, m in found.measures.items()} == {
        name: pytest.approx(VOCABULARY) for name in ("text_perplexity", "cached_perplexity", "uncached_perplexity")
    }
    assert found.fidelity == {} and len(found.measures["text_perplexity"].rows) == 3


def test_perplexity_judges_the_next_token() -> None:
    ids = np.array([0, 1, 2])
    logits = np.log(np.array([[0.2, 0.5, 0.3], [0.1, 0.1, 0.8], [0.9, 0.05, 0.05]]))
    assert language.nll(logits, ids) == pytest.approx(-np.log(0.5) - np.log(0.8))


def test_both_paths_agree_unless_the_cache_is_not_read() -> None:
    right = language.evaluate(model(), None, {"text": IDS}, SHAPE, stretches=3).measures
    assert right["cached_perplexity"].point() == pytest.approx(right["uncached_perplexity"].point(), rel=1e-5)
    wrong = language.evaluate(model(forgets=True), None, {"text": IDS}, SHAPE, stretches=3).measures
    assert wrong["cached_perplexity"].point() != pytest.approx(wrong["uncached_perplexity"].point(), rel=1e-2)


def test_cached_logits_cover_every_token() -> None:
    ids = IDS[0, : language.STRETCH]
    expected = model()(language.feeds(ids, SHAPE.empty()))["logits"][0]
    np.testing.assert_allclose(language.cached_logits(model(), ids, SHAPE), expected, rtol=1e-5)


def test_fidelity_is_kl_and_agreement_per_token() -> None:
    same = language.evaluate(model(), model(), {"text": IDS}, SHAPE, stretches=1).fidelity
    assert same == {"kl": pytest.approx(0.0, abs=1e-9), "agreement": 1.0}
    other = language.evaluate(model(sharper=2.0), model(), {"text": IDS}, SHAPE, stretches=1).fidelity
    assert other["kl"] > 0.01 and other["agreement"] == 1.0, "sharper, but the same order"
    logits = np.log(np.array([[0.5, 0.5], [0.25, 0.75]]))
    reference = np.log(np.array([[0.25, 0.75], [0.25, 0.75]]))
    kl, equal = language.closeness(logits, reference)
    assert kl == pytest.approx(0.25 * np.log(0.25 / 0.5) + 0.75 * np.log(0.75 / 0.5)) and equal == 1


def test_windows_are_consecutive() -> None:
    found = language.windows(np.arange(100), 3, 30)
    assert found.shape == (3, 30) and found[2, 0] == 60 and found.dtype == np.int64


def test_the_prefill_test_is_the_same_measure() -> None:
    test = language.prefill_test("text", IDS, SHAPE)
    outputs = [model()(feeds)["logits"] for feeds in test.batches]
    whole = language.evaluate(model(), None, {"text": IDS}, SHAPE, stretches=1).measures["text_perplexity"]
    assert test.score(outputs)["text_perplexity"] == pytest.approx(whole.point())
    assert test.fidelity(outputs, outputs)["kl"] == pytest.approx(0.0, abs=1e-9)
