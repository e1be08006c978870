// The chart of SQNR by layer: a bar for each, sorted and filtered, and all of them in graph order above.

const drawLayers = (place) => {
  const graphs = data.layers;
  const names = Object.keys(graphs);
  const state = { graph: names[0], search: "", order: "worst", below: "" };
  const number = (row) => (typeof row[1] === "number" ? row[1] : row[1] === "inf" ? Infinity : -Infinity);
  const level = (value) => (value < 10 ? "low" : value < 20 ? "middle" : "high");
  const orders = {
    worst: (a, b) => number(a) - number(b) || a[5] - b[5],
    best: (a, b) => number(b) - number(a) || a[5] - b[5],
    graph: (a, b) => a[5] - b[5],
    name: (a, b) => (a[0] < b[0] ? -1 : 1),
  };
  const rows = Object.fromEntries(names.map((name) => [name, graphs[name].map((row, index) => [...row, index])]));
  const top = Math.max(10, ...names.flatMap((name) => rows[name].map(number)).filter(Number.isFinite));

  const overview = make("div", { class: "overview" });
  const list = make("ol", { class: "bars", id: "layer-rows" });
  const status = make("p", { class: "status", role: "status" });

  const drawRow = (row) => {
    const value = number(row);
    const width = 100 * Math.max(0, Math.min(1, value / top));
    const agreement = row[4] === null ? "" : `, agreement ${percent(row[4])}`;
    return make(
      "li", { title: `cosine ${row[2]}, largest error ${three(row[3])}${agreement}` },
      make("span", { class: "name" }, row[0]),
      make("span", { class: "track" }, make("span", { class: `bar ${level(value)}`, style: `width:${width}%` })),
      make("span", { class: "value" }, decibels(row[1])),
    );
  };
  const drawOverview = (all, found) => {
    const chosen = new Set(found.map((row) => row[5]));
    const [width, height] = [overview.clientWidth - 10, 120];
    const margin = 44;
    const across = (index) => margin + ((index + 0.5) / all.length) * (width - margin);
    const up = (value) => height - 6 - (Math.max(0, Math.min(top, value)) / top) * (height - 12);
    const lines = [10, 20].filter((value) => value < top).map((value) => [
      draw("line", { x1: margin, x2: width, y1: up(value), y2: up(value), class: "grid" }),
      draw("text", { x: 4, y: up(value) + 4, class: "tick" }, `${value} dB`),
    ]);
    const dots = all.map((row) =>
      draw("circle", {
        cx: across(row[5]).toFixed(1), cy: up(number(row)).toFixed(1), r: all.length > width / 8 ? 2.5 : 4.5,
        class: `${level(number(row))}${chosen.has(row[5]) ? "" : " dim"}`,
      }, draw("title", {}, `${row[0]}: ${decibels(row[1])} dB`)));
    overview.replaceChildren(draw("svg", {
      viewBox: `0 0 ${width} ${height}`, role: "img",
      "aria-label": "SQNR of all layers in graph order",
    }, lines, dots));
  };
  let redraw = () => {};
  addEventListener("resize", () => redraw());
  const paged = pagedList(list, status, 24, drawRow, "layers");
  const refresh = () => {
    const all = rows[state.graph];
    const found = all.filter((row) => matches(row[0], state.search)
      && (state.below === "" || number(row) < Number(state.below)));
    found.sort(orders[state.order]);
    drawOverview(all, found);
    redraw = () => drawOverview(all, found);
    paged.show(found, all.length);
  };
  const act = (key) => (value) => { state[key] = value; refresh(); };
  place.replaceChildren(
    make("div", { class: "controls" },
      searchBox("Search layers", act("search")),
      choice("Sort by", [["worst", "worst first"], ["best", "best first"], ["graph", "graph order"], ["name", "name"]],
        act("order")),
      choice("Show", [["", "all"], ["20", "below 20 dB"], ["10", "below 10 dB"]], act("below")),
      names.length > 1 ? choice("Graph", names.map((name) => [name, name]), act("graph")) : null),
    overview, status, list, paged.more,
  );
  refresh();
};
