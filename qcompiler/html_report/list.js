// A list that shows some rows, and more when asked: thousands at once are slow to lay out.

const pagedList = (list, status, page, drawRow, noun) => {
  let items = [];
  let shown = 0;
  const more = make("button", { type: "button", class: "more", onclick: () => grow() });
  const grow = () => {
    const next = items.slice(shown, shown + page);
    list.append(...next.map(drawRow));
    shown += next.length;
    more.hidden = shown >= items.length;
    more.textContent = `Show ${Math.min(page, items.length - shown)} more`;
  };
  const show = (found, total) => {
    items = found;
    shown = 0;
    list.replaceChildren();
    const words = total === 1 ? noun.replace(/s$/, "") : noun;
    status.textContent = found.length === total ? `${total} ${words}` : `${found.length} of ${total} ${words}`;
    grow();
  };
  return { show, more };
};
