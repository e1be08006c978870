"""Every lint rule on graphs that break it and on legal relatives; NVIDIA's verdict beside ours where installed."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.backends.tensorrt.lint import RULES, lint
from qcompiler.backends.tensorrt.targets import ORIN_JP6
from qcompiler.diagnostics import Severity

REFUSED, BUILDS = "refused", "accepted"


@dataclass(frozen=True)
class Case:
    """A graph, the codes that lint must find in it, and what NVIDIA's parser and builder (TensorRT-RTX 1.7.1) say."""

    name: str
    text: str
    codes: frozenset[str]
    verdict: str
    constants: dict[str, Any] = field(default_factory=dict)
    opset: int = 19

    def model(self) -> ir.Model:
        domain = ', "com.microsoft" : 1' if "com.microsoft" in self.text else ""
        model = ir.from_onnx_text(f'<ir_version: 10, opset_import: ["" : {self.opset}{domain}]>\n{self.text}')
        read = {value.name: value for node in model.graph.all_nodes() for value in node.inputs if value is not None}
        for name, constant in {**COMMON, **self.constants}.items():
            if name not in read or read[name].producer() is not None:
                continue
            tensor = constant if isinstance(constant, ir.TensorProtocol) else ir.tensor(constant, name=name)
            value = read[name]
            value.const_value, value.type = tensor, ir.TensorType(tensor.dtype)
            value.shape = ir.Shape(tensor.shape.numpy())
            model.graph.register_initializer(value)
        for index, node in enumerate(model.graph.all_nodes()):
            node.name = node.name or f"{node.op_type}_{index}"
            if self.name == "empty-zero-point" and node.op_type == "DequantizeLinear":
                node.resize_inputs(3)  # the text form cannot write a trailing empty name
        return model


RNG = np.random.default_rng(0)
COMMON: dict[str, Any] = {
    "s": np.float32(0.02),
    "z": np.int8(0),
    "w": RNG.integers(-127, 128, (16, 32)).astype(np.int8),
    "sw": np.full(32, 0.01, np.float32),
    "zw": np.zeros(32, np.int8),
    "si": np.full(16, 0.01, np.float32),
    "zi": np.zeros(16, np.int8),
    "wf": RNG.standard_normal((16, 32)).astype(np.float32),
}
PAIR = "q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z)"
WEIGHT = "v = DequantizeLinear<axis = 1>(w, sw, zw)"


def product(pair: str = PAIR, weight: str = WEIGHT, more: str = "y = MatMul(d, v)", x: str = "float[4,16]") -> str:
    return f"g ({x} x) => (float[?,?] y) {{ {pair} {weight} {more} }}"


def case(name: str, text: str, codes: str, verdict: str, opset: int = 19, **constants: Any) -> Case:
    return Case(name, text, frozenset(codes.split()), verdict, constants, opset)


Q8 = ir.DataType.FLOAT8E4M3FN
CASES = [
    case("legal", product(), "", BUILDS),
    case(
        "legal-weight-quantized-in-graph",
        product(weight="vq = QuantizeLinear<axis = 1>(wf, sw, zw) v = DequantizeLinear<axis = 1>(vq, sw, zw)"),
        "",
        BUILDS,
    ),
    case(
        "zero-point",
        product("q = QuantizeLinear(x, s, z3) d = DequantizeLinear(q, s, z3)"),
        "QC501",
        REFUSED,
        z3=np.int8(3),
    ),
    case(
        "zero-point-of-weight",
        product(weight="v = DequantizeLinear<axis = 1>(w, sw, zo)"),
        "QC501",
        REFUSED,
        zo=np.arange(32).astype(np.int8),
    ),
    # The newer parser reinterprets uint8 codes as int8 with a warning: only lint notices that they saturate.
    case("uint8", product("q = QuantizeLinear(x, s, u) d = DequantizeLinear(q, s, u)"), "QC502", BUILDS, u=np.uint8(0)),
    case(
        "quantized-bias",
        product(more="m = MatMul(d, v) b = DequantizeLinear(bq, s) y = Add(m, b)"),
        "QC503",
        REFUSED,
        bq=np.ones(32, np.int32),
    ),
    case("dead-channel", product(), "QC504", REFUSED, sw=np.zeros(32, np.float32)),
    case(
        "negative-scale",
        product("q = QuantizeLinear(x, sn, z) d = DequantizeLinear(q, sn, z)"),
        "QC504",
        REFUSED,
        sn=np.float32(-0.1),
    ),
    case("scale-count", product(weight="v = DequantizeLinear<axis = 1>(w, si, zi)"), "QC505", REFUSED),
    case(
        "int16",
        product("q = QuantizeLinear(x, s, z16) d = DequantizeLinear(q, s, z16)"),
        "QC506",
        REFUSED,
        21,
        z16=np.int16(0),
    ),
    case("matmul-integer", "g (int8[4,16] x) => (int32[4,32] y) { y = MatMulInteger(x, w) }", "QC507", REFUSED),
    case(
        "bit-shift", 'g (uint8[4] x) => (uint8[4] y) { y = BitShift<direction = "LEFT">(x, x) }', "QC507 QC509", REFUSED
    ),
    case("unique", "g (float[4] x) => (float[?] y) { y = Unique(x) }", "QC507", REFUSED),
    case(
        "uint4",
        product(weight="v = DequantizeLinear<axis = 1>(w4, sw, z4)"),
        "QC508",
        REFUSED,
        21,
        w4=ir.tensor(np.ones((16, 32), np.uint8), dtype=ir.DataType.UINT4),
        z4=ir.tensor(np.zeros(32, np.uint8), dtype=ir.DataType.UINT4),
    ),
    case(
        "int4-blocks",
        product(weight="v = DequantizeLinear<axis = 0, block_size = 16>(w4, sb)"),
        "",
        BUILDS,
        21,
        w4=ir.tensor(RNG.integers(-7, 8, (16, 32)).astype(np.int8), dtype=ir.DataType.INT4),
        sb=np.full((1, 32), 0.1, np.float32),
    ),
    case(
        "block-count",
        product(weight="v = DequantizeLinear<axis = 0, block_size = 8>(w, sb)"),
        "QC505",
        REFUSED,
        21,
        sb=np.full((3, 32), 0.1, np.float32),
    ),
    case("uint8-concat", "g (uint8[4] x) => (uint8[8] y) { y = Concat<axis = 0>(x, x) }", "QC509", REFUSED),
    case("uint8-through-cast", "g (uint8[4] x) => (float[4] y) { c = Cast<to = 1>(x) y = Relu(c) }", "", BUILDS),
    case(
        "empty-zero-point",
        product("q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s)", "v = DequantizeLinear(w, s)"),
        "QC510",
        REFUSED,
    ),
    case("mixed-types", "g (float[4] x) => (float[4] y) { h = Cast<to = 10>(x) y = Add(h, x) }", "QC511", REFUSED),
    case(
        "mixed-types-in-scan",
        """g (float[3] a, float[5,3] x, float16[3] k) => (float[3] t, float[5,3] y) {
        t, y = Scan<num_scan_inputs = 1, body = b (float[3] p, float[3] v) => (float[3] n, float[3] o) {
            m = Mul(v, k) n = Add(p, m) o = Relu(n) }>(a, x) }""",
        "QC511",
        REFUSED,
    ),
    case(
        "scan",
        """g (float[3] a, float[5,3] x, float[3] k) => (float[3] t, float[5,3] y) {
        t, y = Scan<num_scan_inputs = 1, body = b (float[3] p, float[3] v) => (float[3] n, float[3] o) {
            m = Mul(v, k) n = Add(p, m) o = Relu(n) }>(a, x) }""",
        "",
        BUILDS,
    ),
    case(
        "scalar-codes",
        "g (float[4] x) => (float[4] y) { c = DequantizeLinear(k, s, z) y = Mul(x, c) }",
        "QC512",
        REFUSED,
        k=np.int8(5),
    ),
    case(
        "one-element-codes",
        "g (float[4] x) => (float[4] y) { c = DequantizeLinear(k, s, z) y = Mul(x, c) }",
        "",
        BUILDS,
        k=np.array([5], np.int8),
    ),
    case(
        "gather-codes",
        "g (int32[4] x) => (float[4,32] y) { r = Gather(w, x) y = DequantizeLinear(r, s, z) }",
        "QC512",
        REFUSED,
    ),
    case(
        "foreign-domain", "g (float[4,4] x) => (float[4,4] y) { y = com.microsoft.FusedMatMul(x, x) }", "QC513", REFUSED
    ),
    case("dynamic", product(x="float[N,16]"), "QC514", BUILDS),
    case(
        "loop-without-condition",
        """g (float[3] x) => (float[3] y) {
        y = Loop<body = b (int64 i, bool c, float[3] p) => (bool d, float[3] n) {
            n = Relu(p) d = Identity(c) }>(n4, , x) }""",
        "QC515",
        REFUSED,
        n4=np.array(4, np.int64),
    ),
    case(
        "output-dtype",
        product("q = QuantizeLinear<output_dtype = 2>(x, s, z) d = DequantizeLinear(q, s, z)"),
        "QC502 QC516",
        REFUSED,
        21,
    ),
    case(
        "half-scale-below-19",
        "g (float16[4,16] x) => (float16[4,16] y) { q = QuantizeLinear(x, h, z) y = DequantizeLinear(q, h, z) }",
        "QC517",
        BUILDS,
        17,
        h=np.float16(0.02),
    ),
    case(
        "float8",
        product("q = QuantizeLinear(x, s, z8) d = DequantizeLinear(q, s, z8)", "v = DequantizeLinear(w8, s, z8)"),
        "QC518",
        REFUSED,
        z8=ir.tensor(np.zeros((), Q8.numpy()), dtype=Q8),
        w8=ir.tensor(np.ones((16, 32), Q8.numpy()), dtype=Q8),
    ),
    case("wrong-axis", product(weight="v = DequantizeLinear<axis = 0>(w, si, zi)"), "QC520", BUILDS),
    case(
        "activation-per-channel",
        product("q = QuantizeLinear<axis = 1>(x, si, zi) d = DequantizeLinear<axis = 1>(q, si, zi)"),
        "QC521",
        BUILDS,
    ),
    case(
        "layout-between",
        product("t = Transpose(x) q = QuantizeLinear(t, s, z) e = DequantizeLinear(q, s, z) d = Transpose(e)"),
        "QC522 QC526",
        BUILDS,
    ),
    case("softmax-input", f"g (float[4,16] x) => (float[4,16] y) {{ {PAIR} y = Softmax(d) }}", "QC523", BUILDS),
    case(
        "additive-mask",
        f"g (float[4,16] x, float[4,16] c) => (float[4,16] y) {{ {PAIR} a = Add(c, d) y = Softmax(a) }}",
        "QC523",
        BUILDS,
    ),
    case("left-in-float", product(more="m = MatMul(d, v) t = Transpose(m) y = MatMul(m, t)"), "QC524", BUILDS),
    case(
        "concat-scales",
        """g (float[4,16] x, float[4,16] c) => (float[4,32] y) {
        q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z)
        p = QuantizeLinear(c, s2, z) e = DequantizeLinear(p, s2, z) y = Concat<axis = 1>(d, e) }""",
        "QC525",
        BUILDS,
        s2=np.float32(0.5),
    ),
    case("one-input-float", product("d = Relu(x)"), "QC526", BUILDS),
    case(
        "int8-bias",
        product(more="b = DequantizeLinear(bq, s, z) y = Gemm(d, v, b)"),
        "QC527",
        BUILDS,
        bq=np.ones(32, np.int8),
    ),
]


@pytest.mark.parametrize("given", CASES, ids=lambda given: given.name)
def test_rule(given: Case) -> None:
    findings = lint(given.model(), ORIN_JP6)
    codes = {item.code for item in findings} - {"QC528"}  # int4 and int16 need opset 21, above what orin-jp6 documents
    assert codes == given.codes, [str(item) for item in findings]
    assert all(item.hint for item in findings)
    assert all(item.where for item in findings if item.code != "QC528")


def test_every_rule_has_a_bad_case() -> None:
    covered = {code for given in CASES for code in given.codes} | {"QC528"}
    untested = {rule.code for rule in RULES} - covered
    assert untested == {"QC519"}, "a Scan of integers has its own test"


def test_scan_of_integers() -> None:
    text = """g (int32[3] a, int32[5,3] x) => (int32[3] t, int32[5,3] y) {
        t, y = Scan<num_scan_inputs = 1, body = b (int32[3] p, int32[3] v) => (int32[3] n, int32[3] o) {
            n = Add(p, v) o = Identity(n) }>(a, x) }"""
    assert {item.code for item in lint(case("", text, "", BUILDS).model(), ORIN_JP6)} == {"QC519"}


def test_opset_above_the_documented_one() -> None:
    findings = lint(case("", product(), "", BUILDS, 24).model(), ORIN_JP6)
    assert [(item.code, item.severity) for item in findings] == [("QC528", Severity.WARNING)]


def test_codes_are_unique_and_lint_only_reads() -> None:
    assert len({rule.code for rule in RULES}) == len(RULES)
    model = CASES[0].model()
    before = ir.to_onnx_text(model)
    lint(model, ORIN_JP6)
    assert ir.to_onnx_text(model) == before


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """NVIDIA's verdict on every case, all in one process apart: loading the library takes longer than most builds."""
    folder = tmp_path_factory.mktemp("cases")
    for given in CASES:
        ir.save(given.model(), folder / f"{given.name}.onnx")
    script = """
import json, pathlib, sys
from qcompiler.backends.tensorrt.build_check import build
for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    print("verdict", json.dumps([path.stem, build(path)]), flush=True)
"""
    done = subprocess.run([sys.executable, "-c", script, str(folder)], capture_output=True, text=True, check=False)
    lines = [line.split(" ", 1)[1] for line in done.stdout.splitlines() if line.startswith("verdict ")]
    return dict(json.loads(line) for line in lines)


@pytest.mark.skipif(importlib.util.find_spec("tensorrt_rtx") is None, reason="NVIDIA's library is not installed")
@pytest.mark.parametrize("given", CASES, ids=lambda given: given.name)
def test_verdict_of_the_real_parser_and_builder(given: Case, verdicts: dict[str, dict[str, Any]]) -> None:
    answer = verdicts[given.name]
    assert answer["verdict"] == given.verdict, answer["messages"]
    if given.verdict == REFUSED:
        found = lint(given.model(), ORIN_JP6)
        assert [item for item in found if item.severity is Severity.ERROR], "lint misses what the real parser refuses"
