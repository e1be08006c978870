"""What each pass matched and skipped, and the proofs that the function was kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from qcompiler.html_report.elements import Markup, folded, items, note, section, table, tag
from qcompiler.html_report.extras import Extras
from qcompiler.html_report.figures import count


def passes(document: Mapping[str, Any], extras: Extras) -> Markup:
    """A table of the passes that found something; the others by name."""
    rows, idle = [], []
    examples = [*extras.examples, *({} for _ in document["passes"])]
    for run, example in zip(document["passes"], examples, strict=False):
        if run["matched"] or run["skipped"] or run["undone"]:
            rows.append((tag("code", run["name"]), run["matched"], run["skipped"], _why(run, example)))
        else:
            idle.append(run["name"])
    found = [_table(rows)] if rows else [note("No pass found anything to do.")]
    if idle:
        names = ", ".join(dict.fromkeys(idle))
        said = f"{count(len(idle), 'run')} of passes found nothing to do"
        found.append(folded(said, tag("p", names, class_="words")))
    return section("passes", "Passes", note("In the order in which they ran; a pass may run again."), *found)


def certificates(document: Mapping[str, Any]) -> Markup:
    """A row for each proof."""
    proofs = document["certificates"]
    if not proofs:
        return section("certificates", "Proofs", note("No float rewrite changed the graph, so there is none to prove."))
    rows = [
        (
            _verdict(holds=item["holds"]),
            _passes(item["passes"]),
            item["arithmetic"],
            f"{item['samples']['calibration']} + {item['samples']['random']}",
            _difference(item["outputs"]),
            _difference(item["worst"]),
            item["bound"],
        )
        for item in proofs
    ]
    reasons = [item["reason"] for item in proofs if not item["holds"]]
    notes = list(dict.fromkeys(line for item in proofs for line in item["notes"]))
    headings = ("verdict", "passes", "arithmetic", "samples", "outputs", "worst tensor", "bound")
    return section(
        "certificates", "Proofs",
        note("Both graphs ran on calibration and random samples. A difference is the largest one over the tensor's "
             "largest magnitude; the bound follows from rounding, depth and lengths of sums."),
        table(headings, rows, words=3),
        *([items(reasons)] if reasons else []),
        *([folded(f"{count(len(notes), 'note')} on what weakens a proof", items(notes))] if notes else []),
    )  # fmt: skip


def _verdict(*, holds: bool) -> Markup:
    return tag("span", "holds" if holds else "undone", class_=f"state {'holds' if holds else 'fails'}")


def _table(rows: Iterable[Sequence[Any]]) -> Markup:
    head = tag("tr", tag("th", "pass"), tag("th", "matched", class_="number"), tag("th", "skipped", class_="number"),
               tag("th", "where, and why not"))  # fmt: skip
    body = [
        tag("tr", tag("td", name), tag("td", matched, class_="number", data_label="matched"),
            tag("td", skipped, class_="number", data_label="skipped"), tag("td", why, class_="words"))
        for name, matched, skipped, why in rows
    ]  # fmt: skip
    return tag("div", tag("table", tag("thead", head), tag("tbody", *body), class_="stack"), class_="wide")


def _why(run: Mapping[str, Any], example: Mapping[str, Any]) -> Markup:
    lines: list[Any] = []
    if run["undone"]:
        lines.append(tag("span", f"undone: {run['undone']}", class_="fails"))
    if run["matched"]:
        lines.append(_examples(example.get("matched", ()), run["matched"]))
    for reason, number in run["reasons"].items():
        places = _examples(example.get("skipped", {}).get(reason, ()), number)
        lines.append(f"{number} skipped: {reason}" + (f" ({places})" if places else ""))
    return Markup("".join(tag("div", line) for line in lines if line))


def _examples(names: Sequence[str], number: int) -> str:
    words = ", ".join(name for name in names if name)
    return f"{words} and {number - len(names)} more" if words and number > len(names) else words


def _passes(names: Sequence[str]) -> Markup | str:
    return ", ".join(names) if len(names) <= 3 else folded(count(len(names), "pass", "passes"), ", ".join(names))


def _difference(found: Mapping[str, Any] | None) -> str:
    return "" if found is None else str(found["difference"])
