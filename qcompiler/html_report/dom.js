// Elements, figures, and the page's data.

const data = JSON.parse(document.getElementById("data").textContent);

const build = (element, attributes, content) => {
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value === true) element.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(key, value);
  }
  element.append(...content.flat(3).filter((item) => item !== null && item !== undefined));
  return element;
};
const make = (name, attributes = {}, ...content) => build(document.createElement(name), attributes, content);
const draw = (name, attributes = {}, ...content) =>
  build(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, content);

const three = (value) => {
  if (typeof value !== "number") return String(value);
  const size = Math.abs(value);
  return size >= 100 && size < 1e6 ? value.toFixed(0) : String(Number(value.toPrecision(3)));
};
const percent = (value) => (value > 0 && value < 1e-4 ? "< 0.01%" : `${(100 * value).toFixed(value < 0.1 ? 2 : 1)}%`);
const decibels = (value) => (value === "inf" ? "exact" : typeof value === "number" ? value.toFixed(1) : value);

const searchBox = (label, act) =>
  make("input", { type: "search", placeholder: label, "aria-label": label, oninput: (event) => act(event.target.value) });
const choice = (label, words, act) =>
  make(
    "label", { class: "choice" }, `${label} `,
    make("select", { "aria-label": label, onchange: (event) => act(event.target.value) },
      words.map(([value, word]) => make("option", { value }, word))),
  );

// Whether all words of a search are in a text.
const matches = (text, search) => {
  const lower = text.toLowerCase();
  return search.toLowerCase().split(/\s+/).every((word) => lower.includes(word));
};
