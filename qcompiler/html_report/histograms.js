// Histograms of the quantized tensors with the threshold at which their codes end.

const drawHistograms = (place) => {
  const [width, height] = [256, 84];
  const levels = Object.fromEntries(data.tables.map((item) => [item.tensor, item.levels]));
  const items = data.histograms.map(([name, low, high, first, last, clipped, counts], index) => ({
    name, low, high, first, last, clipped, counts, index,
    top: Math.max(Math.abs(low), Math.abs(high)), reach: Math.max(Math.abs(first), Math.abs(last)),
  }));
  const orders = {
    graph: (a, b) => a.index - b.index,
    clipped: (a, b) => b.clipped - a.clipped || a.index - b.index,
    outliers: (a, b) => b.top / b.reach - a.top / a.reach,
    name: (a, b) => (a.name < b.name ? -1 : 1),
  };
  const state = { search: "", order: "graph" };

  const curve = (item) => {
    const span = Math.max(item.top, item.reach) || 1;
    const tallest = Math.log1p(Math.max(...item.counts));
    const step = (item.top / span) * width / item.counts.length;
    const path = item.counts.map((count, index) => {
      const tall = count ? Math.max(1, (Math.log1p(count) / tallest) * (height - 4)) : 0;
      return tall ? `M${(index * step).toFixed(1)} ${height}v${(-tall).toFixed(1)}h${step.toFixed(2)}v${tall.toFixed(1)}z` : "";
    }).join("");
    const edge = ((item.reach / span) * width).toFixed(1);
    const ticks = (levels[item.name] || []).map((level) => (Math.abs(level) / span) * width)
      .map((at) => draw("line", { x1: at.toFixed(1), x2: at.toFixed(1), y1: height - 8, y2: height, class: "level" }));
    return draw("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", role: "img",
      "aria-label": `histogram of ${item.name}` },
    draw("rect", { x: edge, y: 0, width: Math.max(0, width - edge), height, class: "beyond" }),
    draw("path", { d: path, class: "fill" }), ticks,
    draw("line", { x1: edge, x2: edge, y1: 0, y2: height, class: "threshold" }));
  };
  const card = (item) => make("figure", { class: "card" },
    make("figcaption", { class: "name", title: item.name }, item.name), curve(item),
    make("div", { class: "scale" }, make("span", {}, "0"), make("span", {}, `|x| ${three(Math.max(item.top, item.reach))}`)),
    make("p", {}, `saw ${three(item.low)} to ${three(item.high)}, codes reach ${three(item.first)} to ${three(item.last)}`,
      item.clipped ? `, ${percent(item.clipped)} clipped` : ", nothing clipped"));
  const list = make("div", { class: "cards", id: "histogram-cards" });
  const status = make("p", { class: "status", role: "status" });
  const paged = pagedList(list, status, 12, card, "tensors");
  const refresh = () => paged.show(
    items.filter((item) => matches(item.name, state.search)).sort(orders[state.order]), items.length);
  const act = (key) => (value) => { state[key] = value; refresh(); };
  place.replaceChildren(
    make("div", { class: "controls" }, searchBox("Search tensors", act("search")),
      choice("Sort by", [["graph", "plan's order"], ["clipped", "share clipped"], ["outliers", "largest over threshold"],
        ["name", "name"]], act("order"))),
    status, list, paged.more,
  );
  refresh();
};
