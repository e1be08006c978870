"""decoder-lm: a LLaMA-style decoder with grouped queries and a KV cache, trained on novels and speeches.

One exported graph serves prefill (a cache of length 0) and decoding, by the names of optimum and onnxruntime-genai.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from models import language, text_windows
from models.trained import TrainedWeights, exported
from models.zoo import Array, Evaluation, Feeds, RealModel, Run, TestSet

WEIGHTS = TrainedWeights("decoder")
SHAPE = language.CacheShape(layers=6, kv_heads=2, head_dim=32)
CONTINUED = (1, 4, 16, 64)  # new tokens of the calibration windows that go on behind a cache, by turns


def path() -> Path:
    """cache/decoder-lm/model.onnx, exported on first use."""
    return exported("decoder-lm", WEIGHTS, ("model.onnx",), write)


def write(module: Any, name: str, file: Path) -> Any:
    """The one graph."""
    from qcompiler.torch_export import cached_inputs, export

    return export(module, cached_inputs(module), file, output_names=[language.LOGITS], force=True)


def _prefill(rows: Array) -> Feeds:
    return language.feeds(rows[0], SHAPE.empty())


def calibration() -> list[Feeds]:
    """Windows of the training text: three in four as prefill, the fourth goes on behind the float model's own cache.

    Shuffled once: whoever takes every eighth sample, as qcompile does to verify, would else get continuations alone.
    """
    from models.session import runner

    run = runner(path())
    batches: list[Feeds] = []
    for index, ids in enumerate(text_windows.calibration_windows()[:, :-1]):
        more = CONTINUED[index // 4 % len(CONTINUED)] if index % 4 == 3 else len(ids)
        before = ids[: len(ids) - more]
        past = SHAPE.taken(run(language.feeds(before, SHAPE.empty()))) if len(before) else SHAPE.empty()
        batches.append(language.feeds(ids[len(before) :], past))
    random.Random(0).shuffle(batches)
    return batches


def test_set(quick: bool) -> TestSet:
    """Prefill of windows of the held-out texts."""
    return text_windows.token_test(text_windows.held_out("quick" if quick else "small"), _prefill, 1)


def evaluate(run: Run, reference: Run | None, quick: bool) -> Evaluation:
    """The held-out texts by prefill, and the beginnings of some windows through the cache."""
    texts = text_windows.held_out("quick" if quick else "usual")
    found = language.evaluate(run, reference, texts, SHAPE, stretches=2 if quick else 8)
    return Evaluation(text_windows.with_bits(found.measures, texts), found.fidelity)


def evaluate_all(run: Run, reference: Run | None) -> Evaluation:
    """All windows of the held-out texts."""
    return text_windows.evaluate(run, reference, text_windows.held_out("full"), _prefill, 1)


def timing() -> Feeds:
    """One prefill of 128 tokens."""
    return _prefill(text_windows.held_out("quick")["novel"][:1, :-1])


MODEL = RealModel(
    name="decoder-lm",
    packages=(),
    output=language.LOGITS,
    path=path,
    calibration=calibration,
    test_set=test_set,
    timing=timing,
    headlines=("kl", "agreement"),
    family="LLaMA-style decoder with GQA and KV cache",
    licence=text_windows.LICENCE,
    assets=(WEIGHTS, text_windows.TEXT),
    notes=(
        *text_windows.NOTES,
        "cached_perplexity and uncached_perplexity are the same tokens through both paths: for the float model they "
        "must agree",
    ),
    evaluate=evaluate,
    training="models.training.decoder",
    trained=WEIGHTS,
    full=evaluate_all,
)
