// A column sorts best first, then the other way round; rows without a value stay last.
const opposite = { ascending: "descending", descending: "ascending" };
const heads = document.querySelectorAll("thead th");
for (const [column, head] of heads.entries())
  head.firstElementChild.addEventListener("click", () => {
    const { best } = head.dataset;
    const order = head.getAttribute("aria-sort") === best ? opposite[best] : best;
    for (const other of heads) other.removeAttribute("aria-sort");
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

// The filter keeps rows whose name has all words, in the table and among those to choose.
const filter = document.querySelector(".filter");
const rows = [...document.querySelectorAll("tbody tr")];
filter.hidden = false;
filter.querySelector("input").addEventListener("input", ({ target }) => {
  const words = target.value.toLowerCase().split(/\s+/);
  const keep = (element, name) => !(element.hidden = !words.every((word) => name.toLowerCase().includes(word)));
  const kept = rows.filter((row) => keep(row, row.cells[0].dataset.value));
  for (const label of document.querySelectorAll("fieldset label")) keep(label, label.dataset.name);
  filter.querySelector("output").textContent = `${kept.length} of ${rows.length} rows`;
});

// A ticked row is in the pictures; the one that is pointed at or has the focus stands out.
for (const label of document.querySelectorAll("fieldset label")) {
  const box = label.firstElementChild;
  const lines = [...document.querySelectorAll(`svg [data-row="${box.value}"]`)];
  const mark = (name, on) => lines.forEach((line) => line.classList.toggle(name, on));
  const show = () => mark("off", !box.checked);
  show(); // a browser may have kept what was ticked
  box.addEventListener("change", show);
  for (const event of ["focusin", "mouseenter"]) label.addEventListener(event, () => mark("strong", true));
  for (const event of ["focusout", "mouseleave"]) label.addEventListener(event, () => mark("strong", false));
}
