"use strict";
const LETTERS = "ABCDEFGH";

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
const short = (value) => (Math.abs(value) < 0.0005 ? "0.000" : value.toFixed(3)); // no -0.000

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

/** States in two principal components, both axes to one scale; the cursor's state has a ring. */
function drawPaths(width, { paths, label, cursor }) {
  const edge = 24;
  const [across, up] = [0, 1].map((axis) => paths.flatMap(({ points }) => points.map((point) => point[axis])));
  const middle = [across, up].map((values) => (Math.min(...values) + Math.max(...values)) / 2);
  const spans = [across, up].map((values) => Math.max(...values) - Math.min(...values));
  const scale = Math.min((width - 2 * edge) / spans[0], 380 / spans[1]);
  const zoom = Number.isFinite(scale) ? scale : 1; // where nothing has moved
  const height = Math.max(spans[1] * zoom + 2 * edge, 100);
  const x = (point) => width / 2 + (point[0] - middle[0]) * zoom;
  const y = (point) => height / 2 - (point[1] - middle[1]) * zoom;
  const svg = make("svg", { height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
  const names = [];
  for (const { slot, points } of paths) {
    const group = make("g", { "data-slot": slot });
    group.append(make("path", { class: "line", d: `M${points.map((point) => `${x(point)},${y(point)}`).join("L")}` }));
    for (const point of points) group.append(make("circle", { class: "dot", cx: x(point), cy: y(point), r: 2 }));
    const [now, end] = [points[cursor + 1], points.at(-1)];
    group.append(make("circle", { class: "dot", cx: x(end), cy: y(end), r: 5 }));
    group.append(make("circle", { class: "ring", cx: x(now), cy: y(now), r: 7 }));
    const above = names.some((name) => Math.hypot(name[0] - x(end), name[1] - y(end)) < 16) ? 16 : -9;
    names.push([x(end), y(end)]);
    group.append(make("text", { class: "name", x: x(end), y: y(end) + above, text: LETTERS[slot] }));
    svg.append(group);
  }
  const [begin] = paths[0].points;
  svg.append(make("rect", { class: "begin", x: x(begin) - 4, y: y(begin) - 4, width: 8, height: 8 }));
  return svg;
}
