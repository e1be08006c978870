"""The figures under the verdict, a tile each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from qcompiler.html_report.elements import Markup, tag
from qcompiler.html_report.extras import Extras
from qcompiler.html_report.figures import count, decibels, size, three


def summary(document: Mapping[str, Any], extras: Extras) -> Markup:
    """Tiles: what was quantized, accuracy, size, NVIDIA's verdict, proofs, latency."""
    tiles = [
        tag("div", tag("dt", title), tag("dd", value, tag("small", detail)), class_="tile")
        for title, value, detail in _tiles(document, extras)
    ]
    return tag("dl", *tiles, class_="tiles")


def _tiles(document: Mapping[str, Any], extras: Extras) -> Iterator[tuple[str, str, str]]:
    quantized = document["quantized"].values()
    done, total = (sum(item[key] for item in quantized) for key in ("quantized", "total"))
    operators = ", ".join(f"{op} {item['quantized']}/{item['total']}" for op, item in document["quantized"].items())
    words = " and ".join(row["precision"] for row in document["precision"]) or "nothing"
    yield "Quantized", f"{done} of {total}" if total else "none", f"{operators or 'no operator'}; {words}"
    yield _accuracy(document["verification"])
    graphs = document["graphs"]
    before, after = (graphs[name]["weight_bytes"] for name in ("float", "model"))
    smaller = f", {before / after:.1f}x smaller" if 0 < after < before else ""
    yield "Weights", size(after), f"from {size(before)}{smaller}"
    check = document["check"]
    if check:
        messages = "; ".join(map(str, check.get("messages", ())[:1])) if check["verdict"] != "accepted" else ""
        yield "NVIDIA's builder", str(check["verdict"]), messages or str(check.get("tool", ""))
    proofs = document["certificates"]
    if proofs:
        holds = sum(item["holds"] for item in proofs)
        passes = len({name for item in proofs if item["holds"] for name in item["passes"]})
        worst = [item["outputs"]["difference"] for item in proofs if item["holds"] and item["outputs"]]
        largest = f"; largest difference {max(map(float, worst)):.1g}" if worst else ""
        yield "Float rewrites", f"{holds} of {len(proofs)} proven", f"{count(passes, 'pass', 'passes')}{largest}"
    yield _latency(extras)


def _accuracy(verification: Mapping[str, Any]) -> tuple[str, str, str]:
    for name in ("model", "host"):
        outputs = [item for item in verification.get(name, {}).get("outputs", ()) if not item.get("integer")]
        if outputs:
            worst = min(outputs, key=lambda item: item["sqnr"] if isinstance(item["sqnr"], (int, float)) else 1e9)
            samples = count(verification[name]["samples"], "held-out sample")
            several = f", the worst of {len(outputs)} outputs" if len(outputs) > 1 else ""
            return "Accuracy", decibels(worst["sqnr"]), f"SQNR, cosine {worst['cosine']}; {samples}{several}"
    for comparison in verification.values():
        for item in comparison["outputs"]:
            if item["agreement"] is not None:
                return "Accuracy", f"{item['agreement']:.2%}", f"equal elements; {comparison['samples']} samples"
    return "Accuracy", "not measured", "--no-verify"


def _latency(extras: Extras) -> tuple[str, str, str]:
    boards = extras.estimates.get("boards")
    if not boards:
        return "Latency", "not measured", "qcompile bench measures it, on this machine"
    first = boards[0]
    detail = f"least time on {first['title']}, estimated; {first['gain']:.2f}x FP16. Not measured"
    return "Latency bound", f"{three(first['int8'])} ms", detail
