"use strict";
(() => {
  const section = document.getElementById("images");
  const rows = JSON.parse(document.getElementById("image-rows").textContent);
  const heads = [...section.querySelectorAll("thead button")];
  const filters = [...section.querySelectorAll("select, input")];
  const body = section.querySelector("tbody");
  const count = section.querySelector("output");
  const more = section.querySelector("#more-images");
  const [RUN, SIGMA, IMAGE, LABEL, CERTIFIED, RADIUS, BOUND, VOTES, OF, SAMPLES, OUTCOME, CASE] = Array(12).keys();
  const several = new Set(rows.map((row) => row[RUN])).size > 1;
  const PAGE = 25;
  let order = { column: RADIUS, down: true };
  let shown = PAGE;

  const key = (row, column) => {
    const value = row[column];
    if (column === VOTES) return row[OF] ? row[VOTES] / row[OF] : -1;
    if (column === RADIUS || column === BOUND) return value === "" || value === null ? -1 : Number(value);
    return value;
  };
  const compare = (a, b) => {
    const [x, y] = [key(a, order.column), key(b, order.column)];
    const sign = typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y), "en", { numeric: true });
    return (order.down ? -sign : sign) || a[SIGMA] - b[SIGMA] || a[IMAGE] - b[IMAGE];
  };
  const chosen = () => {
    const wanted = Object.fromEntries(filters.map((filter) => [filter.name, filter.value.trim()]));
    return rows.filter((row) =>
      (!wanted.run || row[RUN] === wanted.run) &&
      (!wanted.sigma || String(row[SIGMA]) === wanted.sigma) &&
      (!wanted.outcome || row[OUTCOME] === wanted.outcome) &&
      (!wanted.label || row[LABEL] === wanted.label) &&
      (!wanted.image || String(row[IMAGE]) === wanted.image));
  };
  const cell = (text, kind) => {
    const made = document.createElement("td");
    made.textContent = text === null || text === "" ? "–" : text;
    if (kind) made.className = kind;
    return made;
  };
  const samplesOf = (row) => [...document.querySelectorAll("figure.triplet")].filter((figure) =>
    figure.dataset.run === row[RUN] && Number(figure.dataset.sigma) === row[SIGMA] && Number(figure.dataset.image) === row[IMAGE]);
  const openDetails = (line, row, button) => {
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
    const text = document.createElement("p");
    const share = row[OF] ? ` Of ${row[OF].toLocaleString("en")} estimation samples ${row[VOTES].toLocaleString("en")} were for the selected class (${(100 * row[VOTES] / row[OF]).toFixed(1)}%).` : "";
    text.textContent = `Image ${row[IMAGE]} at σ = ${row[SIGMA]}: ${section.dataset[row[OUTCOME]]}.${share}${row[CASE] ? ` ${section.dataset[`case_${row[CASE]}`]}` : ""}`;
    wide.append(text);
    const samples = samplesOf(row);
    for (const figure of samples) wide.append(figure.cloneNode(true));
    if (!samples.length) {
      const none = document.createElement("p");
      none.className = "notes";
      none.textContent = "No sample of this image was kept; the first few images of a run have one.";
      wide.append(none);
    }
    opened.append(wide);
    line.after(opened);
  };
  const drawn = (row) => {
    const line = document.createElement("tr");
    if (several) line.append(cell(row[RUN], "name"));
    const first = document.createElement("td");
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = row[IMAGE];
    button.setAttribute("aria-expanded", "false");
    button.addEventListener("click", () => openDetails(line, row, button));
    first.append(button);
    line.append(first, cell(row[SIGMA]), cell(row[LABEL], "name"));
    line.append(cell(row[CERTIFIED], row[OUTCOME] === "right" ? "name right" : row[OUTCOME] === "wrong" ? "name wrong" : "name"));
    line.append(cell(row[RADIUS]), cell(row[BOUND]));
    line.append(cell(row[OF] === null ? null : `${row[VOTES].toLocaleString("en")}/${row[OF].toLocaleString("en")}`));
    line.append(cell(row[SAMPLES] === null ? null : row[SAMPLES].toLocaleString("en")), cell(row[OUTCOME], "name"));
    return line;
  };
  const draw = () => {
    const found = chosen().sort(compare);
    body.replaceChildren(...found.slice(0, shown).map(drawn));
    count.textContent = `${found.length.toLocaleString("en")} of ${rows.length.toLocaleString("en")} rows`;
    more.hidden = found.length <= shown;
    more.textContent = `show ${Math.min(4 * PAGE, found.length - shown)} more`;
    for (const head of heads) {
      const active = Number(head.dataset.column) === order.column;
      head.parentElement.setAttribute("aria-sort", active ? (order.down ? "descending" : "ascending") : "none");
    }
  };
  for (const head of heads) head.addEventListener("click", () => {
    const column = Number(head.dataset.column);
    order = { column, down: column === order.column ? !order.down : column >= RADIUS && column !== OUTCOME };
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
})();
