// The precision map: a cell for each node, coloured by what it runs in, with a search and a table of what it found.

const KINDS = {
  integer: "integer", models: "fewer bits in int8", weight_only: "int4 weights", kept: "kept float",
  island: "float between integers", float: "other float", other: "no floats",
};
const CODES = ["integer", "models", "weight_only", "kept", "float", "other"];

const drawNodeMap = (place) => {
  const { operators, reasons, precisions, rows, islands } = data.nodes;
  const kinds = Object.keys(KINDS);
  const state = { search: "", hidden: new Set(), island: -1 };
  const described = ([name, operator, code, precision, reason, island]) => {
    const between = CODES[code] === "float" && island >= 0 && !islands[island].moves;
    const kind = between ? "island" : CODES[code];
    const words = [
      precision >= 0 ? precisions[precision] : KINDS[kind],
      reason >= 0 ? reasons[reason] : "",
      island >= 0 ? `island ${island + 1}` : "",
    ];
    return { name, operator: operators[operator], kind, island, words: words.filter(Boolean).join("; ") };
  };
  const nodes = rows.map(described);
  const cells = nodes.map((node, index) =>
    make("i", { class: `cell ${node.kind}`, "data-node": index }));
  const grid = make("div", { class: "cells", role: "img", "aria-label": "All nodes in graph order" }, cells);
  const detail = make("p", { class: "detail", role: "status" }, "Point at a cell, or search.");
  const list = make("tbody", { id: "node-rows" });
  const status = make("p", { class: "status", role: "status" });
  const rowOf = (node) => make("tr", {},
    make("td", { class: "name" }, make("i", { class: `cell ${node.kind}` }), ` ${node.name}`),
    make("td", {}, node.operator), make("td", {}, node.words));
  const paged = pagedList(list, status, 12, rowOf, "nodes");

  const point = (event) => {
    const index = event.target.dataset?.node;
    if (index === undefined) return;
    const node = nodes[index];
    detail.replaceChildren(make("b", {}, node.name), ` ${node.operator}: ${node.words}`);
  };
  grid.addEventListener("mouseover", point);
  grid.addEventListener("click", point);

  const refresh = () => {
    const found = nodes.filter((node, index) => {
      const fits = !state.hidden.has(node.kind) && (state.island < 0 || node.island === state.island)
        && matches(`${node.name} ${node.operator} ${node.words}`, state.search);
      cells[index].classList.toggle("dim", !fits);
      return fits;
    });
    paged.show(found, nodes.length);
  };
  const toggle = (kind) => (event) => {
    if (!state.hidden.delete(kind)) state.hidden.add(kind);
    event.currentTarget.setAttribute("aria-pressed", String(!state.hidden.has(kind)));
    refresh();
  };
  const counts = Object.fromEntries(kinds.map((kind) => [kind, nodes.filter((node) => node.kind === kind).length]));
  const legend = kinds.filter((kind) => counts[kind]).map((kind) =>
    make("button", { type: "button", class: "chip", "aria-pressed": "true", onclick: toggle(kind) },
      make("i", { class: `cell ${kind}` }), ` ${KINDS[kind]} ${counts[kind]}`));
  const search = searchBox("Search nodes by name, operator or reason", (value) => { state.search = value; refresh(); });
  place.replaceChildren(
    make("div", { class: "controls" }, search, legend), grid, detail,
    drawIslands(islands, (chosen) => { state.island = chosen; refresh(); }),
    status,
    make("div", { class: "wide" }, make("table", { class: "stack" },
      make("thead", {}, make("tr", {}, make("th", {}, "node"), make("th", {}, "operator"), make("th", {}, "runs in"))),
      list)),
    paged.more,
  );
  refresh();
};

// The islands of float between integer nodes; a button shows one of them alone.
const drawIslands = (islands, act) => {
  const real = islands.map((island, index) => ({ ...island, index })).filter((island) => !island.moves);
  if (!real.length) return make("p", { class: "note" }, "No float arithmetic stands between integer nodes.");
  let chosen = -1;
  const buttons = [];
  const rows = real.map((island) => {
    const button = make("button", { type: "button", class: "small", "aria-pressed": "false", onclick: () => {
      chosen = chosen === island.index ? -1 : island.index;
      buttons.forEach(([one, index]) => one.setAttribute("aria-pressed", String(index === chosen)));
      act(chosen);
    } }, "show");
    buttons.push([button, island.index]);
    const operators = Object.entries(island.operators).map(([name, count]) => `${count} ${name}`).join(", ");
    return make("tr", {}, make("td", {}, String(island.index + 1)),
      make("td", { class: "number", "data-label": "nodes" }, String(island.nodes)), make("td", {}, button),
      make("td", { class: "words" }, operators),
      make("td", { class: "name" }, island.nodes > 1 ? `${island.first} … ${island.last}` : island.first));
  });
  const list = make("tbody", {});
  const status = make("span", {});
  const paged = pagedList(list, status, 8, (row) => row, "islands");
  paged.show(rows, rows.length);
  const headings = ["island", "nodes", "", "operators", "from, to"].map((word) =>
    make("th", { class: word === "nodes" ? "number" : null }, word));
  const title = `${real.length} float island${real.length > 1 ? "s" : ""} between integer nodes`;
  return make("details", { open: true }, make("summary", {}, title),
    make("div", { class: "wide" }, make("table", { class: "stack" }, make("thead", {}, make("tr", {}, headings)), list)),
    paged.more);
};
