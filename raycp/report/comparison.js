(() => {
  // Tables that stand in the page as they are: a click on a heading sorts the lines of each group.
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.querySelectorAll("thead button")];
    let order = { column: -1, down: false };
    for (const head of heads) head.addEventListener("click", () => {
      const column = Number(head.dataset.column);
      order = { column, down: column === order.column ? !order.down : column > 0 };
      const key = (line) => {
        const { value } = line.children[column].dataset;
        return value === undefined ? line.children[column].textContent.trim() : value === "" ? null : Number(value);
      };
      for (const body of table.tBodies) {
        const lines = [...body.rows].filter((line) => line.className !== "run");
        lines.sort((a, b) => ordered(key(a), key(b), order.down));
        body.append(...lines);
      }
      markOrder(heads, order);
    });
  }

  const section = document.getElementById("images");
  if (!section) return;
  const data = JSON.parse(document.getElementById("image-rows").textContent);
  const words = { r: "right", w: "wrong", a: "abstained", s: "skipped", u: "undecided" };
  const rows = data.sigmas.flatMap((at) => at.images.map((image, i) => {
    const outcomes = at.methods.map((columns) => (columns ? columns.outcome[i] : "."));
    return { at, i, image, outcomes, sigma: at.sigma, label: data.classes[at.labels[i]] };
  }));
  const [IMAGE, SIGMA, LABEL, RIGHT, FIRST] = [0, 1, 2, 3, 4]; // FIRST: column of the first method
  const radiusOf = (row, method) => row.at.methods[method].radius[row.i] / 1000;
  const classOf = (row, method) => data.classes[row.at.methods[method].certified[row.i]];
  const radius = section.querySelector("select[name=radius]");
  const level = () => (radius.value === "" ? -1 : Number(radius.value));
  const reaches = (row, method) => row.outcomes[method] === "r" && row.at.methods[method].level[row.i] > level();
  // Per method, whether the image is right with a radius of at least the chosen one; null where it is not known.
  const verdicts = (row) => row.outcomes.map((outcome, method) => (outcome === "." || outcome === "u" ? null : reaches(row, method)));
  const counted = (row) => {
    const known = verdicts(row).filter((verdict) => verdict !== null);
    return { right: known.filter(Boolean).length, of: known.length };
  };
  const agreements = {
    disagree: ({ right, of }) => right > 0 && right < of,
    all: ({ right, of }) => of > 0 && right === of,
    none: ({ right, of }) => of > 0 && right === 0,
  };
  const shownOutcome = (row, method) => {
    const outcome = row.outcomes[method];
    if (outcome === ".") return cell(null, "none");
    if (outcome === "r") return cell(radiusOf(row, method).toFixed(3), reaches(row, method) ? "right" : "none");
    if (outcome !== "w") return cell({ a: "abstains", s: "skipped", u: "undecided" }[outcome], "none");
    const made = cell(`✗ ${classOf(row, method)}`, "wrong");
    const small = document.createElement("small");
    small.textContent = radiusOf(row, method).toFixed(3);
    made.append(small);
    return made;
  };
  const detailsOf = (row, method) => {
    const line = document.createElement("tr");
    const { votes, of, samples } = row.at.methods[method];
    const outcome = row.outcomes[method];
    const known = of !== null && votes !== null && of[row.i] > 0;
    const certified = outcome === "r" || outcome === "w";
    line.append(
      cell(data.methods[method], "name"),
      cell(section.dataset[words[outcome]], "name"),
      cell(certified ? classOf(row, method) : null, "name"),
      cell(certified ? radiusOf(row, method).toFixed(3) : null),
      cell(known ? `${number(votes[row.i])}/${number(of[row.i])}` : null),
      cell(known ? `${(100 * votes[row.i] / of[row.i]).toFixed(1)}%` : null),
      cell(samples === null ? null : number(samples[row.i])),
    );
    return line;
  };
  const details = (wide, row) => {
    wide.append(paragraph(`Image ${row.image} (${row.label}) at σ = ${row.sigma}`));
    const kept = [...document.querySelectorAll("tr.samples")].find((line) =>
      Number(line.dataset.image) === row.image && Number(line.dataset.sigma) === row.sigma);
    if (kept) {
      const strip = document.createElement("div");
      strip.className = "strip";
      for (const figure of kept.querySelectorAll("figure")) strip.append(figure.cloneNode(true));
      wide.append(strip);
    } else {
      wide.append(paragraph("No sample of this image was kept; the first few images of a run have one.", "notes"));
    }
    const table = document.createElement("table");
    const head = table.createTHead().insertRow();
    for (const [i, text] of ["method", "outcome", "certified class", "radius", "votes", "share", "samples"].entries()) {
      const made = document.createElement("th");
      made.textContent = text;
      if (i < 3) made.className = "name";
      head.append(made);
    }
    const body = table.createTBody();
    row.outcomes.forEach((outcome, method) => {
      if (outcome !== ".") body.append(detailsOf(row, method));
    });
    wide.append(table);
  };
  const drawn = (row) => {
    const line = document.createElement("tr");
    const { right, of } = counted(row);
    line.append(opener(row.image, (wide) => details(wide, row)), cell(row.sigma), cell(row.label, "name"), cell(`${right}/${of}`));
    for (const method of row.outcomes.keys()) line.append(shownOutcome(row, method));
    return line;
  };
  imageTable({
    section,
    rows,
    order: { column: IMAGE, down: false },
    key: (row, column) => {
      if (column === IMAGE) return row.image;
      if (column === SIGMA) return row.sigma;
      if (column === LABEL) return row.label;
      if (column === RIGHT) {
        const { right, of } = counted(row);
        return of ? right / of : null;
      }
      const outcome = row.outcomes[column - FIRST];
      if (outcome === "." || outcome === "u") return null;
      // Right ones by their radius; below them those without a certificate; last what is surely wrong.
      return outcome === "r" ? 1 + radiusOf(row, column - FIRST) : outcome === "w" ? -radiusOf(row, column - FIRST) : 0.5;
    },
    tie: (a, b) => a.image - b.image || a.sigma - b.sigma,
    downFirst: (column) => column >= RIGHT,
    keep: (row, wanted) => {
      const asked = wanted.method === "" ? row.outcomes : [row.outcomes[Number(wanted.method)]];
      return (!wanted.sigma || String(row.sigma) === wanted.sigma) &&
        (!wanted.label || row.label === wanted.label) &&
        (!wanted.image || String(row.image) === wanted.image) &&
        (!wanted.agreement || agreements[wanted.agreement](counted(row))) &&
        (!wanted.outcome || asked.some((outcome) => words[outcome] === wanted.outcome)) &&
        (wanted.method === "" || asked[0] !== ".");
    },
    drawn,
  });
})();
