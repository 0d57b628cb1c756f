const all = (selector) => [...document.querySelectorAll(selector)];
for (const hint of all("[hidden]")) hint.hidden = false;

// Which rows the pictures show, row -> slot (its colour), the one to make room first first.
const most = Number(document.querySelector("[data-most]").dataset.most);
const chosen = new Map(
  all("tr[data-slot]").map((row) => [row.dataset.row, Number(row.dataset.slot)]).sort((a, b) => b[1] - a[1]),
);

function show(row, slot) {
  for (const part of all(`[data-row="${row}"]`)) {
    if (slot === undefined) delete part.dataset.slot;
    else part.dataset.slot = slot;
  }
  document.querySelector(`tr[data-row="${row}"] button`).setAttribute("aria-pressed", slot !== undefined);
}

function leave(row) {
  chosen.delete(row);
  show(row);
}

document.addEventListener("click", ({ target }) => {
  const row = target.closest("[data-row]")?.dataset.row;
  if (row === undefined || getSelection().toString()) return; // who marks text to copy it chooses nothing
  if (chosen.has(row)) return leave(row);
  if (chosen.size === most) leave(chosen.keys().next().value);
  const taken = [...chosen.values()];
  chosen.set(row, [...Array(most).keys()].find((slot) => !taken.includes(slot)));
  show(row, chosen.get(row));
});

// A column sorts best first, then the other way round; rows without a value stay last.
const opposite = { ascending: "descending", descending: "ascending" };
for (const [column, head] of all("thead th").entries())
  head.firstElementChild.addEventListener("click", () => {
    const { best } = head.dataset;
    const order = head.getAttribute("aria-sort") === best ? opposite[best] : best;
    for (const other of all("thead th")) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", order);
    const sign = order === "ascending" ? 1 : -1;
    const value = (row) => row.cells[column].dataset.value;
    const compare = (x, y) => (isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y);
    const body = document.querySelector("tbody");
    const rows = [...body.rows].sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      return x && y ? sign * compare(x, y) : !x - !y;
    });
    body.append(...rows);
  });
