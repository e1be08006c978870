"""Operators that are one another in another precision, and where each keeps data, scales and zero points."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

COMMUTATIVE = frozenset(
    {"Add", "Mul", "Max", "Min", "Sum", "Mean", "And", "Or", "Xor", "Equal", "BitwiseAnd", "BitwiseOr", "BitwiseXor"}
)
WEIGHTED = frozenset({"MatMul", "Gemm", "Conv", "ConvTranspose"})
"""Families whose inputs 0 and 1 are multiplied and summed: where integer kernels pay."""

LAYOUT = frozenset({"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Identity"})


@dataclass(frozen=True, slots=True)
class IntegerForm:
    """An operator on codes.

    Attributes:
        family: The float operator it stands for.
        data: Input to the family's input.
        grids: The family's input to the inputs that hold its scale and its zero point; None where it has none.
        result: Inputs that hold scale and zero point of the output, where that is in codes.
    """

    family: str
    data: Mapping[int, int]
    grids: Mapping[int, tuple[int | None, int | None]] = field(default_factory=dict)
    result: tuple[int, int] | None = None


_INTEGER_PRODUCT = ({0: 0, 1: 1}, {0: (None, 2), 1: (None, 3)})
_TWO_OPERANDS = ({0: 0, 3: 1}, {0: (1, 2), 1: (4, 5)}, (6, 7))

INTEGER_FORMS: Mapping[tuple[str, str], IntegerForm] = {
    ("", "MatMulInteger"): IntegerForm("MatMul", *_INTEGER_PRODUCT),
    ("", "ConvInteger"): IntegerForm("Conv", *_INTEGER_PRODUCT),
    ("", "QLinearMatMul"): IntegerForm("MatMul", *_TWO_OPERANDS),
    ("", "QLinearConv"): IntegerForm("Conv", {0: 0, 3: 1, 8: 2}, {0: (1, 2), 1: (4, 5)}, (6, 7)),
    ("com.microsoft", "MatMulIntegerToFloat"): IntegerForm("MatMul", {0: 0, 1: 1, 6: 2}, {0: (2, 4), 1: (3, 5)}),
    ("com.microsoft", "DynamicQuantizeMatMul"): IntegerForm("MatMul", {0: 0, 1: 1, 4: 2}, {1: (2, 3)}),
    ("com.microsoft", "QGemm"): IntegerForm("Gemm", {0: 0, 3: 1, 6: 2}, {0: (1, 2), 1: (4, 5)}, (7, 8)),
    ("com.microsoft", "QLinearAdd"): IntegerForm("Add", *_TWO_OPERANDS),
    ("com.microsoft", "QLinearMul"): IntegerForm("Mul", *_TWO_OPERANDS),
    ("com.microsoft", "QLinearSigmoid"): IntegerForm("Sigmoid", {0: 0}, {0: (1, 2)}, (3, 4)),
    ("com.microsoft", "QLinearLeakyRelu"): IntegerForm("LeakyRelu", {0: 0}, {0: (1, 2)}, (3, 4)),
    ("com.microsoft", "QLinearGlobalAveragePool"): IntegerForm("GlobalAveragePool", {0: 0}, {0: (1, 2)}, (3, 4)),
    ("com.microsoft", "QLinearAveragePool"): IntegerForm("AveragePool", {0: 0}, {0: (1, 2)}, (3, 4)),
    ("com.microsoft", "QLinearSoftmax"): IntegerForm("Softmax", {0: 0}, {0: (1, 2)}, (3, 4)),
}

_FUSED = {"FusedMatMul": "MatMul", "FusedConv": "Conv", "FusedGemm": "Gemm"}


def domain_of(domain: str) -> str:
    """The domain, "" for both spellings of the standard one."""
    return "" if domain == "ai.onnx" else domain


def integer_form(domain: str, op_type: str) -> IntegerForm | None:
    """How the operator keeps its codes; None for operators on real numbers."""
    return INTEGER_FORMS.get((domain_of(domain), op_type))


def family_of(domain: str, op_type: str) -> str:
    """The operator, or the float operator that it stands for; with its domain where that is not standard."""
    form = integer_form(domain, op_type)
    if form is not None:
        return form.family
    if domain_of(domain) == "com.microsoft" and op_type in _FUSED:
        return _FUSED[op_type]
    return operator_name(domain, op_type)


def operator_name(domain: str, op_type: str) -> str:
    """`MatMul`, `com.microsoft::Gelu`."""
    domain = domain_of(domain)
    return f"{domain}::{op_type}" if domain else op_type
