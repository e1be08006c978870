"""Names to passes and targets: aliases, nearest names, plug-ins and their clashes."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import EntryPoint

import pytest

from qcompiler import registry
from qcompiler.backends.onnxruntime.targets import ORT_CPU
from qcompiler.backends.tensorrt.targets import ORIN_JP6
from qcompiler.errors import UsageError
from qcompiler.passes.cleanup.drop_no_ops import DropNoOps


@pytest.fixture
def plug_ins(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[EntryPoint]]:
    """Entry points that the registry finds, besides our own tables."""
    points: list[EntryPoint] = []
    monkeypatch.setattr(registry, "entry_points", lambda group: [item for item in points if item.group == group])
    registry._table.cache_clear()
    yield points
    registry._table.cache_clear()


def test_names_and_aliases() -> None:
    assert registry.find_target("orin-jp6") is ORIN_JP6
    assert registry.find_target("orin") is ORIN_JP6
    assert registry.find_target("ort-cpu") is ORT_CPU
    assert "orin" not in registry.target_names()
    assert registry.target_names() == tuple(sorted(registry.target_names()))
    assert registry.find_pass("drop-no-ops") is DropNoOps


def test_no_two_targets_share_a_name_or_an_alias() -> None:
    targets = [registry.find_target(name) for name in registry.target_names()]
    words = [word for target in targets for word in (target.name, *target.aliases)]
    assert len(words) == len(set(words))


@pytest.mark.parametrize(("word", "near"), [("orinn", "orin"), ("ort-cpux", "ort-cpu"), ("orin-jp8", "orin-jp7")])
def test_unknown_target_gets_the_nearest(word: str, near: str) -> None:
    with pytest.raises(UsageError, match=f"unknown target '{word}'") as caught:
        registry.find_target(word)
    assert near in (caught.value.hint or "")


def test_unknown_pass_gets_the_nearest_or_some() -> None:
    with pytest.raises(UsageError, match="drop-no-ops"):
        registry.find_pass("drop-noops")
    with pytest.raises(UsageError, match=r"unknown pass 'zzz' \(try carry-float16"):
        registry.find_pass("zzz")


def test_plug_ins_are_found(plug_ins: list[EntryPoint]) -> None:
    plug_ins.append(EntryPoint("mine", "qcompiler.passes.cleanup.drop_no_ops:DropNoOps", registry.PASS_GROUP))
    plug_ins.append(EntryPoint("board", "qcompiler.backends.tensorrt.targets:ORIN_JP6", registry.TARGET_GROUP))
    assert "mine" in registry.pass_names()
    assert registry.find_pass("mine") is DropNoOps
    assert registry.find_target("board") is ORIN_JP6
    assert "board" not in registry.pass_names()


def test_a_plug_in_may_repeat_a_row_but_not_change_it(plug_ins: list[EntryPoint]) -> None:
    plug_ins.append(EntryPoint("drop-no-ops", "qcompiler.passes.cleanup.drop_no_ops:DropNoOps", registry.PASS_GROUP))
    assert registry.find_pass("drop-no-ops") is DropNoOps
    registry._table.cache_clear()
    plug_ins.append(EntryPoint("drop-no-ops", "other.package:Other", registry.PASS_GROUP))
    with pytest.raises(UsageError, match=r"two .* are called 'drop-no-ops': .*DropNoOps and other.package:Other"):
        registry.find_pass("drop-no-ops")


def test_two_plug_ins_with_one_name_clash(plug_ins: list[EntryPoint]) -> None:
    plug_ins.append(EntryPoint("theirs", "a.b:C", registry.PASS_GROUP))
    plug_ins.append(EntryPoint("theirs", "d.e:F", registry.PASS_GROUP))
    with pytest.raises(UsageError, match=r"a.b:C and d.e:F"):
        registry.pass_names()
