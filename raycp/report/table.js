"use strict";
// What the tables of images share: cells, lines that open, and a list that is sorted, filtered and shown piece by piece.
const cell = (text, kind) => {
  const made = document.createElement("td");
  made.textContent = text === null || text === "" ? "–" : text;
  if (kind) made.className = kind;
  return made;
};
const opener = (text, fill) => {
  const holder = document.createElement("td");
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = text;
  button.setAttribute("aria-expanded", "false");
  button.addEventListener("click", () => {
    const line = holder.parentElement;
    const after = line.nextElementSibling;
    const open = after !== null && after.className === "opened";
    button.setAttribute("aria-expanded", String(!open));
    if (open) {
      after.remove();
      return;
    }
    const opened = document.createElement("tr");
    opened.className = "opened";
    const wide = document.createElement("td");
    wide.colSpan = line.children.length;
    fill(wide);
    opened.append(wide);
    line.after(opened);
  });
  holder.append(button);
  return holder;
};
const paragraph = (text, kind) => {
  const made = document.createElement("p");
  made.textContent = text;
  if (kind) made.className = kind;
  return made;
};
const number = (value) => value.toLocaleString("en");
const ordered = (x, y, down) => {
  if (x === null || y === null) return (x === null) - (y === null); // what is not known comes last, either way
  const sign = typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y), "en", { numeric: true });
  return down ? -sign : sign;
};
const markOrder = (heads, order) => {
  for (const head of heads) {
    const active = Number(head.dataset.column) === order.column;
    head.parentElement.setAttribute("aria-sort", active ? (order.down ? "descending" : "ascending") : "none");
  }
};
// order: {column, down} to begin with; key(row, column): what to sort by; downFirst(column): whether a first click
// sorts downwards; keep(row, wanted): whether a row passes the filters, by their names; drawn(row): its line.
const imageTable = ({ section, rows, order, key, tie, downFirst, keep, drawn }) => {
  const PAGE = 25;
  const heads = [...section.querySelectorAll("thead button")];
  const filters = [...section.querySelectorAll("select, input")];
  const body = section.querySelector("tbody");
  const count = section.querySelector("output");
  const more = section.querySelector("#more-images");
  let shown = PAGE;
  const draw = () => {
    const wanted = Object.fromEntries(filters.map((filter) => [filter.name, filter.value.trim()]));
    const found = rows.filter((row) => keep(row, wanted));
    found.sort((a, b) => ordered(key(a, order.column), key(b, order.column), order.down) || tie(a, b));
    body.replaceChildren(...found.slice(0, shown).map(drawn));
    count.textContent = `${number(found.length)} of ${number(rows.length)} rows`;
    more.hidden = found.length <= shown;
    more.textContent = `show ${Math.min(4 * PAGE, found.length - shown)} more`;
    markOrder(heads, order);
  };
  for (const head of heads) head.addEventListener("click", () => {
    const column = Number(head.dataset.column);
    order = { column, down: column === order.column ? !order.down : downFirst(column) };
    draw();
  });
  for (const filter of filters) filter.addEventListener("input", () => {
    shown = PAGE;
    draw();
  });
  more.addEventListener("click", () => {
    shown += 4 * PAGE;
    draw();
  });
  section.hidden = false;
  draw();
};
