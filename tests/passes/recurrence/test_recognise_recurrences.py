"""recognise-recurrences: roles of the tensors around a selective scan."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from qcompiler.passes.canonical.recognise_activations import RecogniseActivations
from qcompiler.passes.recurrence.pipeline import recurrence_passes
from qcompiler.passes.recurrence.recognise_recurrences import RecogniseRecurrences
from qcompiler.passes.recurrence.roles import TensorRole, tensor_role, tensors_with_roles
from qcompiler.pipeline import Pipeline
from qcompiler.target import ScanForm
from tests.recurrences import MAMBA_STEP, build, mamba, mamba2


def roles(model: ir.Model) -> dict[str, str]:
    """Role to name."""
    return {str(tensor_role(value).value): str(value.name) for value in tensors_with_roles(model)}  # type: ignore[union-attr]


WANTED = {"x": "x", "dt": "dt", "A": "A", "B": "B", "C": "C", "first_state": "zeros", "last_state": "last", "y": "y"}


def test_scan() -> None:
    model = mamba()
    RecogniseActivations().run(model)
    outcome = RecogniseRecurrences().run(model)
    assert outcome.matched == ("last",)
    assert roles(model) == WANTED | {"gated": "out"}  # the gate is x again here: it keeps its first role
    assert not RecogniseRecurrences().run(model).modified


def test_decay_and_input_made_outside() -> None:
    model = mamba2()
    RecogniseRecurrences().run(model)
    found = roles(model)
    assert {key: found[key] for key in ("x", "B", "C", "y")} == {"x": "x", "B": "B", "C": "C", "y": "y"}
    assert found["dt"] == "z_n"


def test_roles_stand_after_the_rewrites() -> None:
    model = mamba()
    RecogniseActivations().run(model)
    model, _ = Pipeline(recurrence_passes(ScanForm(channels_last=True, chunk=4))).run(model)
    found = roles(model)
    assert {key: found[key] for key in ("x", "dt", "B", "C", "y", "gated")} == {
        "x": "x", "dt": "dt", "B": "B", "C": "C", "y": "y", "gated": "out",
    }  # fmt: skip


def test_one_step() -> None:
    model = build(
        """agraph (float[1,8] past, float[1,6,4] h, float[1,6] dt, float[1,6] x, float[1,4] B, float[1,4] C)
            => (float[1,6,4] h_next, float[1,6,1] y) {
          dt_c = Unsqueeze (dt, last)
          dtA = Mul (dt_c, A)
          a = Exp (dtA)
          ah = Mul (a, h)
          dtx = Mul (dt, x)
          dtx_c = Unsqueeze (dtx, last)
          B_r = Unsqueeze (B, one)
          b = Mul (dtx_c, B_r)
          h_next = Add (ah, b)
          C_c = Unsqueeze (C, last)
          y = MatMul (h_next, C_c)
        }""",
        last=np.array([2]), one=np.array([1]), A=-np.ones((6, 4), np.float32),
    )  # fmt: skip
    assert RecogniseRecurrences().run(model).matched == ("h_next",)
    assert roles(model) == {
        "x": "x", "dt": "dt", "A": "A", "B": "B", "C": "C", "first_state": "h", "last_state": "h_next", "y": "y",
    }  # fmt: skip


def test_reasons() -> None:
    outcome = RecogniseRecurrences().run(mamba2(exponential="Sigmoid"))
    assert [item.reason for item in outcome.skipped] == ["the factor of its state is no exponential"]
    outcome = RecogniseRecurrences().run(mamba(body=MAMBA_STEP.replace("Add (ah, b)", "Max (ah, b)")))
    assert [item.reason for item in outcome.skipped] == ["its next state is no sum"]
    assert {item.value for item in TensorRole} >= {"x", "dt", "A", "B", "C", "y", "z", "gated"}
