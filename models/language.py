"""Language models with a key-value cache as inputs and outputs: feeds, perplexity through both paths, fidelity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from models.bootstrap import Measure, perplexity
from models.metrics import log_softmax
from models.zoo import Array, Evaluation, Feeds, Run, Scores, TestSet

LOGITS = "logits"
ROWS = 128  # positions whose distributions are in memory at once in double precision
STRETCH, PREFIX, SINGLE, CHUNK = 128, 64, 16, 16
"""Of the cached path: tokens in all, in the prefill, one by one after it, then in chunks."""


@dataclass(frozen=True, slots=True)
class CacheShape:
    """Sizes of past_key_values.{i}.key and .value: [batch, kv_heads, past, head_dim] for each layer i."""

    layers: int
    kv_heads: int
    head_dim: int

    def inputs(self) -> list[str]:
        """Names of the cache's inputs."""
        return [f"past_key_values.{i}.{part}" for i in range(self.layers) for part in ("key", "value")]

    def outputs(self) -> list[str]:
        """Names of the cache's outputs, in the order of `inputs`."""
        return [f"present.{i}.{part}" for i in range(self.layers) for part in ("key", "value")]

    def empty(self) -> dict[str, Array]:
        """The cache before the first token: length 0."""
        return {name: np.zeros((1, self.kv_heads, 0, self.head_dim), np.float32) for name in self.inputs()}

    def taken(self, outputs: Mapping[str, Array]) -> dict[str, Array]:
        """The next call's cache out of one call's outputs."""
        return {past: outputs[present] for past, present in zip(self.inputs(), self.outputs(), strict=True)}


def feeds(ids: Array, past: Mapping[str, Array]) -> Feeds:
    """Inputs for ids [T] behind a cache."""
    before = next(iter(past.values())).shape[2]
    return {
        "input_ids": np.asarray(ids, np.int64)[None],
        "attention_mask": np.ones((1, before + len(ids)), np.int64),
        "position_ids": np.arange(before, before + len(ids), dtype=np.int64)[None],
        **past,
    }


def windows(ids: Array, count: int, length: int) -> Array:
    """[count, length] consecutive ids from the beginning."""
    return np.asarray(ids[: count * length], np.int64).reshape(count, length)


def cached_logits(run: Run, ids: Array, shape: CacheShape) -> Array:
    """Logits [T, vocabulary] of ids [T] through prefill of PREFIX, SINGLE single steps, then chunks of CHUNK."""
    ends = [PREFIX, *range(PREFIX + 1, PREFIX + SINGLE + 1), *range(PREFIX + SINGLE + CHUNK, len(ids) + 1, CHUNK)]
    past, start, found = shape.empty(), 0, []
    for end in ends:
        outputs = run(feeds(ids[start:end], past))
        found.append(outputs[LOGITS][0])
        past, start = shape.taken(outputs), end
    return np.concatenate(found)


def nll(logits: Array, ids: Array) -> float:
    """Sum of -log p(ids[t + 1] | ids[:t + 1]) over the T - 1 tokens that have a predecessor, nats."""
    total = 0.0
    for start in range(0, len(ids) - 1, ROWS):
        stop = min(start + ROWS, len(ids) - 1)
        chosen = np.take_along_axis(log_softmax(logits[start:stop]), ids[start + 1 : stop + 1, None], axis=-1)
        total -= float(chosen.sum())
    return total


def closeness(logits: Array, reference: Array) -> tuple[float, int]:
    """Sum over rows of KL(reference || logits) in nats, and how many rows have the same most likely token."""
    total = 0.0
    for start in range(0, len(logits), ROWS):
        q, p = (log_softmax(rows[start : start + ROWS]) for rows in (logits, reference))
        total += float((np.exp(p) * (p - q)).sum())
    return total, int((logits.argmax(-1) == reference.argmax(-1)).sum())


def evaluate(
    run: Run, reference: Run | None, texts: Mapping[str, Array], shape: CacheShape, *, stretches: int
) -> Evaluation:
    """Perplexity of every text's windows by prefill, and of the first windows' beginnings by both paths.

    Args:
        texts: Name to windows [n, T]; the measure is called NAME_perplexity.
        stretches: How many windows of the first text go through the cache: cached_perplexity, to be compared with
            uncached_perplexity on the same tokens.
    """
    measures: dict[str, Measure] = {}
    kl, same, tokens = 0.0, 0, 0
    for name, rows in texts.items():
        sums = []
        for ids in rows:
            logits = run(feeds(ids, shape.empty()))[LOGITS][0]
            sums.append(nll(logits, ids))
            if reference is not None:
                more, equal = closeness(logits, reference(feeds(ids, shape.empty()))[LOGITS][0])
                kl, same, tokens = kl + more, same + equal, tokens + len(ids)
        measures[f"{name}_perplexity"] = perplexity(np.array(sums), np.full(len(rows), rows.shape[1] - 1))
    first = next(iter(texts.values()))[:stretches, :STRETCH]
    for name, logits_of in (
        ("cached", lambda ids: cached_logits(run, ids, shape)),
        ("uncached", lambda ids: run(feeds(ids, shape.empty()))[LOGITS][0]),
    ):
        sums = [nll(logits_of(ids), ids) for ids in first]
        measures[f"{name}_perplexity"] = perplexity(np.array(sums), np.full(len(first), first.shape[1] - 1))
    fidelity = {} if reference is None else {"kl": kl / tokens, "agreement": same / tokens}
    return Evaluation(measures, fidelity)


def prefill_test(name: str, rows: Array, shape: CacheShape) -> TestSet:
    """Windows [n, T] as a test set of one call each, for tools that know of no cache."""

    def measures(outputs: Sequence[Array]) -> dict[str, Measure]:
        sums = [nll(logits[0], ids) for logits, ids in zip(outputs, rows, strict=True)]
        return {f"{name}_perplexity": perplexity(np.array(sums), np.full(len(rows), rows.shape[1] - 1))}

    def fidelity(outputs: Sequence[Array], reference: Sequence[Array]) -> Scores:
        pairs = [closeness(a[0], b[0]) for a, b in zip(outputs, reference, strict=True)]
        return {"kl": sum(kl for kl, _ in pairs) / rows.size, "agreement": sum(same for _, same in pairs) / rows.size}

    return TestSet([feeds(ids, shape.empty()) for ids in rows], measures, fidelity, {"ids": rows})
