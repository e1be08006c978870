// The levels of each lookup table, over a histogram of what calibration saw.

const drawLevels = (place) => {
  const [width, height] = [512, 84];
  const list = make("div", { class: "cards broad", id: "level-cards" });
  const status = make("p", { class: "status", role: "status" });
  const card = ({ name, words, levels, counts, top }) => {
    const span = Math.max(top, ...levels) || 1;
    const across = (level) => ((level / span) * (width - 2) + 1).toFixed(1);
    const tallest = Math.log1p(Math.max(1, ...counts));
    const step = (top / span) * (width / (counts.length || 1));
    const path = counts.map((count, index) => {
      const tall = count ? Math.max(1, (Math.log1p(count) / tallest) * (height - 16)) : 0;
      return tall ? `M${(index * step).toFixed(1)} ${height - 12}v${(-tall).toFixed(1)}h${step.toFixed(2)}v${tall.toFixed(1)}z` : "";
    }).join("");
    return make("figure", { class: "card" },
      make("figcaption", { class: "name" }, name, make("small", {}, ` ${levels.length} levels`)),
      draw("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", role: "img", "aria-label": `levels of ${name}` },
        draw("path", { d: path, class: "fill" }),
        levels.map((level) => draw("line", { x1: across(level), x2: across(level), y1: height - 10, y2: height, class: "level" }))),
      make("div", { class: "scale" }, make("span", {}, "0"), make("span", {}, three(span))),
      make("p", {}, words));
  };
  const paged = pagedList(list, status, 8, card, "tables");
  paged.show(data.tables, data.tables.length);
  place.replaceChildren(status, list, paged.more);
};
