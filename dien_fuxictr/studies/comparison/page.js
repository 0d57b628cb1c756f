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
