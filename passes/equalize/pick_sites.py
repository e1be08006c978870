"""From what was measured at each site to sets of sites to rewrite: without added nodes and with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from qcompiler.passes.equalize.choose_shift_scale import Choice
from qcompiler.passes.equalize.fold_shift_scale import ShiftScale
from qcompiler.passes.sites.records import Kind, Site

WORTH = 0.9
"""A site is rewritten where its readers lose a tenth of their error, and with added nodes only where they lose half."""
WORTH_NODES = 0.5
WORTH_FACTORS = 0.8
"""Behind an activation function a shift alone is one node: factors too have to take away a fifth of what it leaves."""
BUT_VALUES = "_but_values"
Parameters = dict[str, ShiftScale]


def pick(
    sites: Sequence[Site],
    choices: Mapping[str, Choice],
    methods: Sequence[str],
    nodes: Mapping[Kind, Sequence[str]],
) -> Parameters:
    """The best method of each site; methods that add nodes only where `nodes` names them for its kind."""
    made: Parameters = {}
    for site in sites:
        choice = choices[site.name]
        tried = [item for item in methods if item in choice.best]
        free = [item for item in tried if is_free(site, choice.best[item])]
        best = _least(choice, free)
        bar = WORTH * choice.losses["none"]
        if best is not None and choice.losses[best] <= bar:
            bar = WORTH_NODES * choice.losses[best]
        else:
            best, bar = None, WORTH_NODES * choice.losses["none"]
        costly = _least(choice, [item for item in tried if item in nodes.get(site.kind, ())])
        if costly is not None and choice.losses[costly] <= bar:
            fewer = "shift" in tried and choice.losses["shift"] <= min(bar, choice.losses[costly] / WORTH_FACTORS)
            best = "shift" if fewer else costly
        if best is not None:
            made[site.name] = choice.best[best]
    return made


def with_and_without_values(sites: Sequence[Site], tried: Mapping[str, Parameters]) -> dict[str, Parameters]:
    """Each set, where it has any, and without the values of attention: their shift passes through probabilities, which
    on a coarse grid do not sum to one, and no loss of the output projection shows that."""
    values = {site.name for site in sites if site.kind is Kind.VALUE}
    found: dict[str, Parameters] = {}
    for name, made in tried.items():
        others = {site: item for site, item in made.items() if site not in values}
        if made:
            found[name] = made
        if others and len(others) < len(made):
            found[name + BUT_VALUES] = others
    return found


def same(one: Parameters, other: Parameters) -> bool:
    """Whether both rewrite the same sites by the same arrays."""
    return one.keys() == other.keys() and all(one[name] is other[name] for name in one)


def is_free(site: Site, made: ShiftScale) -> bool:
    """Whether the rewrite adds no node (but a bias to a layer that has none)."""
    if not site.scales:
        return False
    return not site.edges or (not made.scales and all(edge.bias is not None and edge.axis == -1 for edge in site.edges))


def _least(choice: Choice, methods: Sequence[str]) -> str | None:
    return min(methods, key=lambda item: choice.losses[item], default=None)
