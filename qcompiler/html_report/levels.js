// The numbers that the codes of a lookup table stand for, as marks on a line.

const drawLevels = (place) => {
  const width = 512;
  const rows = data.levels.map(({ name, levels }) => {
    const [low, high] = [Math.min(...levels), Math.max(...levels)];
    const across = (level) => (((level - low) / (high - low || 1)) * (width - 2) + 1).toFixed(1);
    return make("figure", { class: "card" },
      make("figcaption", { class: "name" }, name, make("small", {}, ` ${levels.length} levels`)),
      draw("svg", { viewBox: `0 0 ${width} 24`, preserveAspectRatio: "none", role: "img", "aria-label": `levels of ${name}` },
        levels.map((level) => draw("line", { x1: across(level), x2: across(level), y1: 2, y2: 22, class: "level" }))),
      make("div", { class: "scale" }, make("span", {}, three(low)), make("span", {}, three(high))));
  });
  place.replaceChildren(make("div", { class: "cards broad", id: "level-cards" }, rows));
};
