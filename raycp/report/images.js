(() => {
  const section = document.getElementById("images");
  const rows = JSON.parse(document.getElementById("image-rows").textContent);
  const [RUN, SIGMA, IMAGE, LABEL, CERTIFIED, RADIUS, BOUND, VOTES, OF, SAMPLES, OUTCOME, CASE] = Array(12).keys();
  const several = new Set(rows.map((row) => row[RUN])).size > 1;
  const samplesOf = (row) => [...document.querySelectorAll("figure.triplet")].filter((figure) =>
    figure.dataset.run === row[RUN] && Number(figure.dataset.sigma) === row[SIGMA] && Number(figure.dataset.image) === row[IMAGE]);
  const details = (wide, row) => {
    const share = row[OF] ? ` Of ${number(row[OF])} estimation samples ${number(row[VOTES])} were for the selected class (${(100 * row[VOTES] / row[OF]).toFixed(1)}%).` : "";
    wide.append(paragraph(`Image ${row[IMAGE]} at σ = ${row[SIGMA]}: ${section.dataset[row[OUTCOME]]}.${share}${row[CASE] ? ` ${section.dataset[`case_${row[CASE]}`]}` : ""}`));
    const samples = samplesOf(row);
    for (const figure of samples) wide.append(figure.cloneNode(true));
    if (!samples.length) wide.append(paragraph("No sample of this image was kept; the first few images of a run have one.", "notes"));
  };
  const drawn = (row) => {
    const line = document.createElement("tr");
    if (several) line.append(cell(row[RUN], "name"));
    line.append(opener(row[IMAGE], (wide) => details(wide, row)), cell(row[SIGMA]), cell(row[LABEL], "name"));
    line.append(cell(row[CERTIFIED], row[OUTCOME] === "right" ? "name right" : row[OUTCOME] === "wrong" ? "name wrong" : "name"));
    line.append(cell(row[RADIUS]), cell(row[BOUND]));
    line.append(cell(row[OF] === null ? null : `${number(row[VOTES])}/${number(row[OF])}`));
    line.append(cell(row[SAMPLES] === null ? null : number(row[SAMPLES])), cell(row[OUTCOME], "name"));
    return line;
  };
  imageTable({
    section,
    rows,
    order: { column: RADIUS, down: true },
    key: (row, column) => {
      const value = row[column];
      if (column === VOTES) return row[OF] ? row[VOTES] / row[OF] : null;
      if (column === RADIUS || column === BOUND) return value === "" || value === null ? null : Number(value);
      return value;
    },
    tie: (a, b) => a[SIGMA] - b[SIGMA] || a[IMAGE] - b[IMAGE],
    downFirst: (column) => column >= RADIUS && column !== OUTCOME,
    keep: (row, wanted) =>
      (!wanted.run || row[RUN] === wanted.run) &&
      (!wanted.sigma || String(row[SIGMA]) === wanted.sigma) &&
      (!wanted.outcome || row[OUTCOME] === wanted.outcome) &&
      (!wanted.label || row[LABEL] === wanted.label) &&
      (!wanted.image || String(row[IMAGE]) === wanted.image),
    drawn,
  });
})();
