// Channel ranges of a tensor before and after rewrites, one band over the other.

const drawChannels = (place) => {
  const [width, height] = [512, 72];
  const band = (side) => {
    const count = side.low.length;
    const scale = (height / 2 - 1) / (side.largest || 1);
    const step = width / count;
    const path = side.low.map((low, index) => {
      const [bottom, top] = [height / 2 - low * scale, height / 2 - side.high[index] * scale];
      return `M${(index * step).toFixed(1)} ${top.toFixed(1)}h${step.toFixed(2)}V${Math.max(bottom, top + 0.6).toFixed(1)}h${(-step).toFixed(2)}z`;
    }).join("");
    return draw("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", role: "img",
      "aria-label": `channel ranges of ${side.tensor}` },
    draw("line", { x1: 0, x2: width, y1: height / 2, y2: height / 2, class: "grid" }),
    draw("path", { d: path, class: "fill" }));
  };
  const half = (word, side) => make("div", { class: "half" },
    side.low.length ? band(side) : null,
    make("p", {}, make("b", {}, word), ` largest ${three(side.largest)}, ${three(side.spread)} times the median channel's`));
  const card = (item) => make("figure", { class: "card" },
    make("figcaption", { class: "name", title: `read by ${item.readers.join(", ")}` }, item.before.tensor,
      make("small", {}, ` ${item.channels} channels, read by ${item.readers[0]}${item.readers.length > 1 ? ` and ${item.readers.length - 1} more` : ""}`)),
    make("div", { class: "halves" }, half("before", item.before), half("after", item.after)));
  const list = make("div", { class: "cards broad", id: "channel-cards" });
  const status = make("p", { class: "status", role: "status" });
  const paged = pagedList(list, status, 6, card, "tensors");
  const refresh = (search) => paged.show(
    data.channels.filter((item) => matches(`${item.before.tensor} ${item.readers.join(" ")}`, search)), data.channels.length);
  place.replaceChildren(
    make("div", { class: "controls" }, searchBox("Search tensors and layers", refresh)), status, list, paged.more);
  refresh("");
};
