"use strict";
const LETTERS = "ABCDEFGHIJ";
const CLEARANCE = 15; // between the middles of two labels
const TURNS = [-0.5, 0.5, 0, 1, -0.25, -0.75, 0.75, 0.25].map((half) => half * Math.PI); // above, below, right, left, ...

/** An element; attributes that are functions are listeners, `text` is its text: never HTML. */
function make(tag, attributes = {}, ...children) {
  const drawn = ["svg", "g", "path", "line", "rect", "circle", "text"].includes(tag);
  const element = drawn ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (name === "text") element.textContent = value;
    else if (value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

const letter = (slot) => make("span", { class: "letter", text: LETTERS[slot] ?? "\u00a0" });
const plural = (count, what) => `${count} ${what}${count === 1 ? "" : "s"}`;

/** A number with so many decimals, or with two digits where these would show fewer: 0.00012, not 0.000. */
const decimals = (value, places) =>
  value === 0 || Math.abs(value) >= 10 ** (1 - places) ? value.toFixed(places) : value.toPrecision(2);
const short = (value) => decimals(Math.abs(value) < 1e-6 ? 0 : value, 3);

/** Round numbers from below `low` to above `high`, a few. */
function ticks(low, high) {
  const rough = (high - low) / 4 || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((factor) => factor * power >= rough) * power;
  const first = Math.floor(low / step + 1e-9);
  const last = Math.ceil(high / step - 1e-9);
  return Array.from({ length: last - first + 1 }, (_, i) => Number(((first + i) * step).toPrecision(6)));
}

/** Draws into a figure now and whenever its width changes. */
function figure(title, note, kind, draw) {
  const place = make("div");
  const element = make("figure", { class: kind }, make("figcaption", { text: title }), place);
  element.firstChild.append(make("small", { text: note }));
  const redraw = () => place.clientWidth && place.replaceChildren(draw(place.clientWidth));
  new ResizeObserver(redraw).observe(place);
  return { element, redraw };
}

/** Values along the behaviours: bars of one candidate, lines of several. */
function drawSteps(width, { series, label, cursor, choose }) {
  const [left, right, top, bottom, height] = [44, 8, 8, 20, 190];
  const count = series[0].values.length;
  const all = series.flatMap(({ values }) => values);
  const marks = ticks(Math.min(0, ...all), Math.max(0, ...all) || 1);
  const [low, high] = [marks[0], marks.at(-1)];
  const column = (width - left - right) / count;
  const x = (step) => left + column * (step + 0.5);
  const y = (value) => top + ((high - value) / (high - low)) * (height - top - bottom);
  const svg = make("svg", { height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
  svg.append(make("rect", { class: "column", x: x(cursor) - column / 2, width: column, y: top, height: height - top - bottom }));
  for (const mark of marks) {
    const kind = mark === 0 ? "zero" : "grid";
    svg.append(make("line", { class: kind, x1: left, x2: width - right, y1: y(mark), y2: y(mark) }));
    svg.append(make("text", { class: "end", x: left - 6, y: y(mark) + 4, text: mark }));
  }
  for (const { slot, values } of series) {
    const group = make("g", { "data-slot": slot });
    if (series.length === 1)
      for (const [step, value] of values.entries()) {
        const wide = Math.max(Math.min(column * 0.7, 28), 1);
        const [from, to] = [y(Math.max(value, 0)), y(Math.min(value, 0))];
        group.append(make("rect", { class: "value", x: x(step) - wide / 2, width: wide, y: from, height: to - from }));
      }
    else {
      group.append(make("path", { class: "line", d: `M${values.map((value, step) => `${x(step)},${y(value)}`).join("L")}` }));
      if (column > 6)
        for (const [step, value] of values.entries())
          group.append(make("circle", { class: "dot", cx: x(step), cy: y(value), r: 2.5 }));
    }
    svg.append(group);
  }
  svg.append(make("text", { class: "start", x: left, y: height - 4, text: "oldest" }));
  svg.append(make("text", { class: "end", x: width - right, y: height - 4, text: "newest" }));
  svg.addEventListener("pointermove", (event) => {
    const at = event.clientX - svg.getBoundingClientRect().left;
    const step = Math.max(0, Math.min(count - 1, Math.floor((at - left) / column)));
    if (step !== cursor) choose(step);
  });
  return svg;
}

/** A place for a label that keeps its distance from the points in `taken` and from the edges; undefined: there is none. */
function freeSpot(point, taken, distances, size) {
  for (const distance of distances)
    for (const turn of TURNS) {
      const spot = [point[0] + distance * Math.cos(turn), point[1] + distance * Math.sin(turn)];
      const inside = spot.every((place, axis) => place >= 6 && place <= size[axis] - 6);
      if (inside && taken.every((other) => Math.hypot(spot[0] - other[0], spot[1] - other[1]) >= CLEARANCE)) return spot;
    }
}

/** States in two principal components, both axes to one scale; the cursor's state has a ring. A path without a slot is
 *  that without a target. Numbers are of behaviours, where there is room, those that move a path most first. */
function drawPaths(width, { paths, label, cursor }) {
  const edge = 28;
  const [across, up] = [0, 1].map((axis) => paths.flatMap(({ points }) => points.map((point) => point[axis])));
  const middle = [across, up].map((values) => (Math.min(...values) + Math.max(...values)) / 2);
  const spans = [across, up].map((values) => Math.max(...values) - Math.min(...values));
  const scale = Math.min((width - 2 * edge) / spans[0], 380 / spans[1]);
  const zoom = Number.isFinite(scale) ? scale : 1; // where nothing has moved
  const height = Math.max(spans[1] * zoom + 2 * edge, 100);
  const place = (point) => [width / 2 + (point[0] - middle[0]) * zoom, height / 2 - (point[1] - middle[1]) * zoom];
  const svg = make("svg", { height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
  const drawn = paths.map(({ slot, points }) => ({ slot, places: points.map(place) }));
  const [begin] = drawn[0].places;
  const taken = [begin, ...drawn.map(({ places }) => places.at(-1))];
  const write = (kind, slot, spot, text) => {
    taken.push(spot);
    svg.append(make("text", { class: kind, "data-slot": slot, x: spot[0], y: spot[1], text }));
  };
  for (const { slot, places } of drawn) {
    const group = make("g", { "data-slot": slot, class: slot === undefined && "untargeted" });
    group.append(make("path", { class: "line", d: `M${places.map((at) => at.join()).join("L")}` }));
    for (const [x, y] of places) group.append(make("circle", { class: "dot", cx: x, cy: y, r: 2 }));
    const [now, end] = [places[cursor + 1], places.at(-1)];
    group.append(make("circle", { class: "dot", cx: end[0], cy: end[1], r: 5 }));
    group.append(make("circle", { class: "ring", cx: now[0], cy: now[1], r: 7 }));
    svg.append(group);
  }
  svg.append(make("rect", { class: "begin", x: begin[0] - 4, y: begin[1] - 4, width: 8, height: 8 }));
  const size = [width, height];
  for (const { slot, places } of drawn.filter(({ slot }) => slot !== undefined)) {
    const end = places.at(-1);
    write("name", slot, freeSpot(end, taken, [18, 33, 48], size) ?? [end[0], end[1] - 18], LETTERS[slot]);
  }
  const moves = drawn.flatMap(({ slot, places }) =>
    places.slice(1).map((at, step) => ({ slot, step, at, far: Math.hypot(at[0] - places[step][0], at[1] - places[step][1]) })));
  for (const { slot, step, at } of moves.filter(({ far }) => far >= 3).sort((a, b) => b.far - a.far)) {
    const spot = freeSpot(at, taken, [11], size);
    if (spot) write("step", slot, spot, step + 1);
  }
  return svg;
}

/** What a model does with a sequence of behaviours, as `describe_paths` says it: charts, a slider through the steps and
 *  all behaviours in a table. Of candidates: `slots`, their places among the letters, and what is `compared`, their
 *  names; of `count` behaviours: `name` and `marks` of each. The slider is at `start`, and `moved` is told where. */
function explanation(sequence, { slots, compared, count, name, marks = () => [], start = Infinity, moved = () => {} }) {
  const { seen, attention, movement, path, untargeted, explained_variance } = sequence;
  const history = historyTable(sequence, slots, count, name, marks);
  if (!attention && !movement) return [make("p", { text: "This model does not explain its scores." }), history.element];
  if (!seen.length) return [];

  const slider = make("input", { type: "range", class: "steps", min: 1, max: seen.length, "aria-label": "Behaviour" });
  const readout = make("div", { class: "readout" });
  let cursor = Math.min(start, seen.length - 1);
  const along = (title, note, values) => {
    const series = slots.map((slot, row) => ({ slot, values: values[row] }));
    return figure(title, note, "along", (width) => drawSteps(width, { series, label: title, cursor, choose: move }));
  };
  const shares = explained_variance?.map((share) => `${Math.round(100 * share)} %`).join(" and ");
  const paths = path && [...(untargeted ? [{ points: untargeted }] : []), ...slots.map((slot, row) => ({ slot, points: path[row] }))];
  const figures = [
    attention && along("Attention", "over the behaviours", attention),
    movement && along("Movement of the state", "how far each behaviour moves it", movement),
    path && figure("Path of the state", `two principal components, ${shares} of the variance; the square is its start, numbers are behaviours`, "path",
      (width) => drawPaths(width, { paths, label: "Path of the state", cursor })),
  ].filter(Boolean);

  function move(step) {
    moved((cursor = step));
    slider.value = step + 1;
    slider.setAttribute("aria-valuetext", name(seen[step]));
    const values = slots.map((slot, row) => {
      const parts = [attention && `attention ${short(attention[row][step])}`, movement && `moves ${short(movement[row][step])}`];
      const said = make("small", { text: parts.filter(Boolean).join(", ") });
      return make("div", { "data-slot": slot }, make("dt", {}, letter(slot)), make("dd", { text: compared[row] }, said));
    });
    readout.replaceChildren(make("strong", { text: `${step + 1} of ${seen.length}: ${name(seen[step])}` }), make("dl", {}, ...values));
    for (const each of figures) each.redraw();
    history.choose(step);
  }
  slider.addEventListener("input", () => move(Number(slider.value) - 1));
  move(cursor);
  return [make("div", { class: "charts" }, ...figures.map(({ element }) => element)), slider, readout, history.element];
}

/** All behaviours, the oldest on top, each with its attention, or with how far it moves the state. */
function historyTable({ seen, attention, movement }, slots, count, name, marks) {
  const values = attention ?? movement ?? [];
  const compared = values.length ? slots : [];
  const highest = Math.max(...values.flat().map(Math.abs)) || 1;
  const steps = new Map(seen.map((place, step) => [place, step]));
  const rows = Array.from({ length: count }, (_, place) => {
    const step = steps.get(place);
    const cells = compared.map((slot, row) => {
      if (step === undefined) return make("td", { class: "number", text: "–" });
      const cell = make("td", { class: "heat", "data-slot": slot, text: short(values[row][step]) });
      cell.style.setProperty("--share", Math.abs(values[row][step]) / highest);
      return cell;
    });
    return make("tr", { class: step === undefined ? "cut" : "" }, make("td", { text: step === undefined ? "" : step + 1 }), make("th", { scope: "row" }, name(place), " ", ...marks(place)), ...cells);
  });
  const heads = compared.map((slot) => make("th", { scope: "col", class: "number", "data-slot": slot }, letter(slot)));
  const caption = attention ? "behaviour, its attention" : movement ? "behaviour, its movement" : "behaviour";
  const head = make("tr", {}, make("th", { scope: "col", text: "#" }), make("th", { scope: "col", text: caption }), ...heads);
  const table = make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows));
  const element = make("div", { class: "scroll history", tabindex: 0, role: "region", "aria-label": "History" }, table);
  const choose = (step) => {
    for (const row of rows) row.classList.remove("chosen");
    const row = rows[seen[step]];
    row?.classList.add("chosen");
    requestAnimationFrame(() => (element.scrollTop = (row?.offsetTop ?? 0) - element.clientHeight / 2));
  };
  return { element, choose };
}
