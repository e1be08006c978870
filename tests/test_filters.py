"""--include, --exclude, --exclude-op."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.errors import UsageError
from qcompiler.filters import nodes_kept_float
from qcompiler.options import CompileOptions
from tests.building import build


def layers() -> ir.Model:
    return build("""m (float[N, 4] x, bool c) => (float[N, 4] y) {
        [enc_0_fc] a = MatMul(x, w) [enc_0_act] b = Relu(a) [enc_1_fc] d = MatMul(b, w)
        [branch] y = If(c) <then_branch = t () => (float[N, 4] u) { [inner] u = Neg(d) },
                            else_branch = e () => (float[N, 4] v) { [other] v = Abs(d) }>
    }""", w=np.eye(4, dtype=np.float32))  # fmt: skip


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({}, set()),
        ({"exclude": ("fc",)}, {"enc_0_fc", "enc_1_fc"}),
        ({"exclude": ("^enc_0", "1_fc$")}, {"enc_0_fc", "enc_0_act", "enc_1_fc"}),
        ({"include": ("enc_0",)}, {"enc_1_fc", "branch", "inner", "other"}),
        ({"include": ("fc",), "exclude": ("_1_",)}, {"enc_0_act", "branch", "inner", "other", "enc_1_fc"}),
        ({"exclude_op": ("MatMul",)}, {"enc_0_fc", "enc_1_fc"}),
        ({"exclude_op": ("Neg",)}, {"inner"}),
        ({"exclude": ("inner",)}, {"inner"}),
    ],
)
def test_names(options: dict[str, tuple[str, ...]], kept: set[str]) -> None:
    assert nodes_kept_float(layers(), CompileOptions(**options)) == kept  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "where", "says"),
    [
        ({"exclude": ("enc_0_fcc",)}, "--exclude", "enc_0_fc"),
        ({"include": ("^zz$",)}, "--include", "matches no node"),
        ({"exclude": ("(",)}, "--exclude", "not a regular expression"),
        ({"exclude_op": ("Matmul",)}, "--exclude-op", "MatMul"),
        ({"exclude_op": ("Conv",)}, "--exclude-op", "the model has no operator 'Conv'"),
    ],
)
def test_what_matches_nothing_is_an_error(options: dict[str, tuple[str, ...]], where: str, says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        nodes_kept_float(layers(), CompileOptions(**options))  # type: ignore[arg-type]
    assert caught.value.where == where
