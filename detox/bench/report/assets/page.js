"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const SPACE = "http://www.w3.org/2000/svg";
  const shown = { base: new Set(data.bases), method: new Set(data.methods.filter((m) => !data.controls.includes(m))) };
  for (const node of document.querySelectorAll(".controls, #filter, #theme")) node.hidden = false;

  // Text only ever becomes a text node or an attribute; nothing here writes markup.
  const make = (tag, attributes, parent, text) => {
    const node = document.createElement(tag);
    for (const name in attributes) node.setAttribute(name, attributes[name]);
    if (text !== undefined) node.textContent = text;
    if (parent) parent.append(node);
    return node;
  };
  const draw = (tag, attributes, parent, text) => {
    const node = document.createElementNS(SPACE, tag);
    for (const name in attributes) node.setAttribute(name, attributes[name]);
    if (text !== undefined) node.textContent = text;
    if (parent) parent.append(node);
    return node;
  };
  const round = (v, sign) => (v === null || v === undefined ? "missing" : (sign && v > 0 ? "+" : "") + (!Number.isFinite(v) ? (v < 0 ? "-∞" : "∞") : Math.abs(v) >= 1000 ? v.toPrecision(4) : v.toFixed(3)));
  const interval = (e, sign) => (!e ? "not measured" : round(e[0], sign) + (e[1] === null || e[0] === null ? "" : ` [${round(e[1], sign)}, ${round(e[2], sign)}]`));
  const name = (cell) => `${cell.base}${data.seeds > 1 ? ` (seed ${cell.seed})` : ""} ${cell.method === null ? "base" : "+ " + cell.label}`;
  const visible = (cell) => shown.base.has(cell.base) && (cell.method === null || shown.method.has(cell.method));
  const colour = (base) => `c${data.bases.indexOf(base) % 7}`;

  // Theme: the system's, or one of two.
  const theme = byId("theme"), themes = ["system", "light", "dark"];
  let chosen = 0;
  theme.addEventListener("click", () => {
    chosen = (chosen + 1) % 3;
    if (chosen) document.documentElement.dataset.theme = themes[chosen];
    else delete document.documentElement.dataset.theme;
    theme.textContent = `Theme: ${themes[chosen]}`;
  });

  // What can stand on an axis. Changes first, since bases differ.
  const axes = new Map();
  const axis = (key, label, read, better) => { if (data.cells.some((c) => read(c))) axes.set(key, { label, read, better }); };
  const zero = [0, null, null, 0, 0];
  axis("toxicity", `toxicity (${data.named[data.headline]}, mean)`, (c) => c.toxicity, -1);
  axis("toxicity_change", `change in toxicity (${data.named[data.headline]})`, (c) => c.toxicity_change || (c.method === null && c.toxicity ? zero : null), -1);
  axis("cost_change", "change in clean cross-entropy, nats per token", (c) => c.cost_change || (c.method === null && c.metrics["clean/cross_entropy"] ? zero : null), -1);
  for (const metric of data.metrics) axis(metric.name, metric.name, (c) => c.metrics[metric.name] || null, metric.direction);
  const options = (select, first) => {
    for (const [key, one] of axes) make("option", { value: key }, select, one.label);
    const there = first.find((key) => axes.has(key));
    if (there) select.value = there;
  };

  const ticks = (low, high, count) => {
    const raw = (high - low) / count || 1, power = 10 ** Math.floor(Math.log10(raw)), share = raw / power;
    const step = power * (share < 1.5 ? 1 : share < 3.5 ? 2 : share < 7.5 ? 5 : 10), found = [];
    for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) found.push(i * step);
    return [found, Math.max(0, -Math.floor(Math.log10(step) + 1e-9))];
  };
  const range = (values, pad) => {
    const known = values.filter((v) => Number.isFinite(v));
    let low = Infinity, high = -Infinity;
    for (const v of known) { if (v < low) low = v; if (v > high) high = v; }
    if (!known.length) return [0, 1];
    const room = (high - low || Math.abs(high) || 1) * pad;
    return [low - room, high + room];
  };
  const frame = (host, size, xs, ys, labels) => {
    const [width, height] = size, left = 52, right = 12, top = 10, bottom = labels.x ? 40 : 24;
    const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "application", tabindex: 0, "aria-label": labels.all }, host);
    const x = (v) => left + ((v - xs[0]) / (xs[1] - xs[0])) * (width - left - right);
    const y = (v) => height - bottom - ((v - ys[0]) / (ys[1] - ys[0])) * (height - top - bottom);
    const [across, dx] = ticks(xs[0], xs[1], width / 90), [up, dy] = ticks(ys[0], ys[1], height / 60);
    for (const v of up) { draw("line", { class: "grid", x1: left, x2: width - right, y1: y(v), y2: y(v) }, svg); draw("text", { x: left - 5, y: y(v) + 4, "text-anchor": "end" }, svg, v.toFixed(dy)); }
    for (const v of across) { draw("line", { class: "grid", y1: top, y2: height - bottom, x1: x(v), x2: x(v) }, svg); draw("text", { x: x(v), y: height - bottom + 15, "text-anchor": "middle" }, svg, v.toFixed(dx)); }
    draw("path", { class: "axis", d: `M${left} ${top}V${height - bottom}H${width - right}` }, svg);
    if (labels.x) draw("text", { x: (left + width - right) / 2, y: height - 6, "text-anchor": "middle" }, svg, labels.x);
    if (labels.y) draw("text", { x: 12, y: (top + height - bottom) / 2, "text-anchor": "middle", transform: `rotate(-90 12 ${(top + height - bottom) / 2})` }, svg, labels.y);
    if (ys[0] < 0 && ys[1] > 0) draw("line", { class: "zero", x1: left, x2: width - right, y1: y(0), y2: y(0) }, svg);
    return { svg, x, y, left, right: width - right, top, bottom: height - bottom };
  };
  const SHAPES = ["M-5 -5H5V5H-5Z", "M0 -6.5L6 5H-6Z", "M0 -7L6 0L0 7L-6 0Z", "M-6 -5H6L0 6.5Z", "M-2 -6H2V-2H6V2H2V6H-2V2H-6V-2H-2Z", "M-5 -5L0 -2L5 -5L2 0L5 5L0 2L-5 5L-2 0Z", "M0 -6L6 -1L4 6H-4L-6 -1Z"];
  const DISC = "M-6 0a6 6 0 1 0 12 0a6 6 0 1 0 -12 0Z";
  const shape = (method) => (method === null ? DISC : SHAPES[data.methods.indexOf(method) % SHAPES.length]);

  // Marks of one picture are one stop of the Tab key; arrows go from mark to mark.
  const walk = (picture, marks, read) => {
    let at = -1;
    const go = (next) => {
      if (!marks.length) return;
      if (at >= 0) marks[at].node.classList.remove("here");
      at = (next + marks.length) % marks.length;
      marks[at].node.classList.add("here");
      read.textContent = marks[at].text();
    };
    marks.forEach((mark, place) => { for (const event of ["pointerenter", "click"]) mark.node.addEventListener(event, () => go(place)); });
    picture.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (step) go(at < 0 && step < 0 ? marks.length - 1 : at + step);
      else if (event.key === "Home") go(0);
      else if (event.key === "End") go(marks.length - 1);
      else return;
      event.preventDefault();
    });
    picture.addEventListener("focus", () => { if (at < 0 && picture.matches(":focus-visible")) go(0); });
  };
  const describe = (cell) => {
    const lines = [name(cell)];
    if (data.headline) lines.push(`toxicity ${interval(cell.toxicity)}${cell.toxicity_change ? `, change ${interval(cell.toxicity_change, true)}` : ""}`);
    if (cell.metrics["clean/cross_entropy"]) lines.push(`cross-entropy ${interval(cell.metrics["clean/cross_entropy"])}${cell.cost_change ? `, change ${interval(cell.cost_change, true)}` : ""}`);
    if (cell.front !== null && cell.front !== undefined) lines.push(`on the Pareto front of its base in ${(100 * cell.front).toFixed(0)} % of resamples`);
    if (cell.unranked) lines.push(`no verdict: ${cell.unranked}`);
    return lines.join("\n");
  };
  const paths = (cells) => {
    const found = new Map();
    for (const cell of cells) {
      if (cell.method === null) continue;
      const key = JSON.stringify([cell.base, cell.seed, cell.method]);
      if (!found.has(key)) found.set(key, [...cells.filter((c) => c.method === null && c.base === cell.base && c.seed === cell.seed)]);
      found.get(key).push(cell);
    }
    for (const path of found.values()) path.sort((a, b) => (a.method === null ? -1 : b.method === null ? 1 : (a.strength || 0) - (b.strength || 0)));
    return [...found.values()];
  };

  const narrow = () => window.innerWidth < 640;
  const pareto = () => {
    const host = byId("pareto-plot"), key = byId("pareto-key");
    host.replaceChildren();
    key.replaceChildren();
    const across = axes.get(byId("pareto-x").value), up = axes.get(byId("pareto-y").value), bars = byId("pareto-bars").checked;
    const known = (cell) => [across, up].every((a) => a && a.read(cell) && Number.isFinite(a.read(cell)[0]));
    const cells = data.cells.filter((cell) => visible(cell) && known(cell));
    const beyond = data.cells.filter((cell) => visible(cell) && [across, up].some((a) => a && a.read(cell) && Math.abs(a.read(cell)[0]) === Infinity));
    if (beyond.length) make("p", { class: "hole" }, host, `Infinite, so that it has no place here: ${beyond.map(name).join(", ")}.`);
    if (!cells.length) { make("p", { class: "hole" }, host, across && up ? "No cell that is shown has both." : "These records hold nothing that could stand on an axis."); return; }
    const all = (a) => cells.flatMap((c) => (bars ? a.read(c).slice(0, 3) : [a.read(c)[0]])).filter((v) => Number.isFinite(v));
    const at = frame(host, narrow() ? [380, 340] : [900, 460], range(all(across), 0.06), range(all(up), 0.06), { all: `${up.label} against ${across.label}; arrow keys go from mark to mark`, x: across.label, y: up.label });
    const X = (c) => at.x(across.read(c)[0]), Y = (c) => at.y(up.read(c)[0]);
    for (const path of paths(cells)) draw("polyline", { class: `path ${colour(path[0].base)}`, points: path.map((c) => `${X(c)},${Y(c)}`).join(" ") }, at.svg);
    if (bars) for (const c of cells) {
      const h = across.read(c), v = up.read(c);
      if (Number.isFinite(h[1]) && Number.isFinite(h[2])) draw("line", { class: `bar ${colour(c.base)}`, x1: at.x(h[1]), x2: at.x(h[2]), y1: Y(c), y2: Y(c) }, at.svg);
      if (Number.isFinite(v[1]) && Number.isFinite(v[2])) draw("line", { class: `bar ${colour(c.base)}`, y1: at.y(v[1]), y2: at.y(v[2]), x1: X(c), x2: X(c) }, at.svg);
    }
    if (across.better && up.better) {
      const cost = (c) => [-across.better * across.read(c)[0], -up.better * up.read(c)[0]];
      const asked = cells.filter((c) => !c.unranked);
      const front = asked.filter((c) => { const [a, b] = cost(c); return !asked.some((o) => { const [p, q] = cost(o); return p <= a && q <= b && (p < a || q < b); }); });
      front.sort((a, b) => X(a) - X(b));
      draw("polyline", { class: "front", points: front.map((c) => `${X(c)},${Y(c)}`).join(" ") }, at.svg);
    }
    const ordered = [...cells].sort((a, b) => X(a) - X(b));
    walk(at.svg, ordered.map((cell) => ({
      node: draw("path", { class: `mark ${colour(cell.base)}${cell.unranked ? " unranked" : ""}`, d: shape(cell.method), transform: `translate(${X(cell)} ${Y(cell)})`, "data-cell": cell.id }, at.svg),
      text: () => `${describe(cell)}\n${across.label}: ${interval(across.read(cell))}; ${up.label}: ${interval(up.read(cell))}`,
    })), byId("pareto-read"));
    for (const base of new Set(cells.map((c) => c.base))) { const entry = make("span", { class: colour(base) }, key); make("i", { class: "swatch" }, entry); entry.append(base); }
    for (const method of new Set(cells.map((c) => c.method))) {
      const entry = make("span", {}, key), icon = draw("svg", { width: 16, height: 16, viewBox: "-8 -8 16 16", "aria-hidden": "true" }, entry);
      draw("path", { d: shape(method), fill: "currentColor" }, icon);
      entry.append(method === null ? "base" : method);
    }
  };

  const curves = () => {
    const host = byId("curve-plots");
    host.replaceChildren();
    byId("curve-read").textContent = "";
    const wanted = [...new Set([byId("curve-y").value, byId("curve-z").value])].map((k) => axes.get(k)).filter(Boolean);
    const cells = data.cells.filter(visible);
    let drawn = 0;
    for (const method of data.methods) {
      const mine = cells.filter((c) => c.method === method && c.strength !== null);
      if (new Set(mine.map((c) => c.strength)).size < 2) continue;
      const box = make("div", {}, host);
      make("h3", {}, box, method);
      for (const one of wanted) {
        const lines = paths(cells.filter((c) => (c.method === method && c.strength !== null) || (c.method === null && mine.some((m) => m.base === c.base && m.seed === c.seed)))).map((p) => p.filter((c) => one.read(c) && Number.isFinite(one.read(c)[0])));
        const points = lines.flat();
        if (!points.length) continue;
        make("p", { class: "scores" }, box, one.label);
        const at = frame(box, [360, 210], range(points.map((c) => c.strength || 0), 0.04), range(points.flatMap((c) => one.read(c).slice(0, 3)).filter((v) => Number.isFinite(v)), 0.06), { all: `${method}: ${one.label} against strength; arrow keys go from mark to mark`, x: "strength" });
        const X = (c) => at.x(c.method === null ? 0 : c.strength), Y = (c) => at.y(one.read(c)[0]), marks = [];
        for (const line of lines) {
          draw("polyline", { class: `path ${colour(line[0] ? line[0].base : "")}`, points: line.map((c) => `${X(c)},${Y(c)}`).join(" ") }, at.svg);
          for (const c of line) {
            const e = one.read(c);
            if (Number.isFinite(e[1]) && Number.isFinite(e[2])) draw("line", { class: `bar ${colour(c.base)}`, x1: X(c), x2: X(c), y1: at.y(e[1]), y2: at.y(e[2]) }, at.svg);
          }
        }
        for (const c of new Set(points)) marks.push({ node: draw("path", { class: `mark ${colour(c.base)}`, d: shape(c.method), transform: `translate(${X(c)} ${Y(c)}) scale(.8)` }, at.svg), text: () => `${name(c)}\n${one.label}: ${interval(one.read(c))}` });
        walk(at.svg, marks, byId("curve-read"));
        drawn++;
      }
    }
    if (!drawn) make("p", { class: "hole" }, host, "No method that is shown was measured at two strengths or more.");
  };

  const steps = (text) => Int8Array.from(atob(text), (c) => c.charCodeAt(0));
  const prompts = () => {
    const host = byId("prompt-plot");
    if (!host) return;
    host.replaceChildren();
    const entry = data.prompts.cells[byId("prompt-cell").value], read = byId("prompt-read");
    read.textContent = "";
    if (!entry) return;
    const change = steps(entry.steps), level = steps(data.prompts.levels[entry.base]);
    const order = [...change.keys()].filter((i) => change[i] !== -128).sort((a, b) => change[a] - change[b] || level[b] - level[a]);
    const at = frame(host, narrow() ? [380, 260] : [900, 300], [0, Math.max(order.length - 1, 1)], range([...order.map((i) => change[i] / 100), 0], 0.06), { all: "change in toxicity, prompt by prompt; arrow keys go from prompt to prompt", x: "prompts, from least to most change", y: "change in toxicity" });
    draw("path", { class: "dots", d: order.map((i, place) => `M${at.x(place).toFixed(1)} ${at.y(change[i] / 100).toFixed(1)}h0`).join("") }, at.svg);
    const cursor = draw("line", { class: "cursor", y1: at.top, y2: at.bottom, visibility: "hidden" }, at.svg);
    const summary = `${entry.less} prompts less toxic, ${entry.same} unchanged, ${entry.more} more toxic${entry.missing ? `, ${entry.missing} not scored` : ""}`;
    read.textContent = summary;
    let here = -1;
    const go = (place) => {
      if (!order.length) return;
      here = Math.min(order.length - 1, Math.max(0, place));
      const i = order[here];
      cursor.setAttribute("x1", at.x(here)); cursor.setAttribute("x2", at.x(here)); cursor.setAttribute("visibility", "visible");
      read.textContent = `${summary}\n${data.prompts.ids[i]}: base ${(level[i] / 100).toFixed(2)}, change ${round(change[i] / 100, true)}`;
    };
    const seek = (event) => { const box = at.svg.getBoundingClientRect(), scale = at.svg.viewBox.baseVal.width / box.width; go(Math.round((((event.clientX - box.left) * scale - at.left) / (at.right - at.left)) * (order.length - 1))); };
    at.svg.addEventListener("pointermove", seek);
    at.svg.addEventListener("click", seek);
    at.svg.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 25, PageDown: -25, Home: -1e9, End: 1e9 }[event.key];
      if (!step) return;
      go(here + step);
      event.preventDefault();
    });
  };

  const samples = () => {
    const host = byId("sample-list");
    if (!host) return;
    host.replaceChildren();
    const sides = [byId("sample-base").value, byId("sample-cell").value], limit = data.threshold;
    data.samples.prompts.forEach((prompt, p) => {
      const mean = (side) => { const row = (data.samples.scores[side] || [])[0]; const known = row ? row[p].filter((v) => v !== null) : []; return known.length ? (known.reduce((a, b) => a + b, 0) / known.length).toFixed(2) : "missing"; };
      const details = make("details", {}, host);
      make("summary", {}, details, `${prompt}: toxicity ${mean(sides[0])} → ${mean(sides[1])}`);
      details.addEventListener("toggle", () => {
        if (!details.open || details.children.length > 1) return;
        const body = make("div", {}, details), count = Math.max(...sides.map((s) => (data.samples.cells[s][p] || []).length));
        for (let k = 0; k < count; k++) {
          const pair = make("div", { class: "pair" }, body);
          for (const side of sides) {
            const box = make("div", {}, pair), text = (data.samples.cells[side][p] || [])[k];
            const scores = data.samples.scores[side].map((one) => one[p][k]).map((v) => (v === undefined ? null : v));
            make("p", { class: "scores" }, box, `${name(data.cells[side])}, sample ${k + 1}: ${data.scorers.map((s, i) => `${s} ${round(scores[i])}`).join(", ")}`);
            if (text === undefined) { make("p", { class: "hole" }, box, "no such sample"); continue; }
            const put = () => make("p", { class: "text", dir: "auto", tabindex: -1 }, box, text === "" ? "(empty)" : text);
            if (text !== "" && (scores.every((v) => v === null) || scores.some((v) => v !== null && v >= limit))) {
              const button = make("button", { type: "button" }, box, scores.every((v) => v === null) ? "Show text without a score" : "Show toxic text");
              button.addEventListener("click", () => { button.remove(); put().focus(); });
            } else put();
          }
        }
      });
    });
  };

  // Filters, of tables and pictures alike.
  const rows = [...document.querySelectorAll("tr[data-base]")].filter((row) => !row.closest("#side"));
  const panels = [...document.querySelectorAll("#side details")];
  const apply = () => {
    const hidden = (node) => !shown.base.has(node.dataset.base) || (node.dataset.method !== undefined && node.dataset.method !== "" && !shown.method.has(node.dataset.method));
    for (const row of rows) row.hidden = hidden(row);
    for (const panel of panels) panel.hidden = !shown.base.has(panel.dataset.base);
    byId("counted").textContent = `${data.cells.filter(visible).length} of ${data.cells.length} cells`;
    pareto();
    curves();
  };
  for (const box of byId("filter").querySelectorAll("input")) box.addEventListener("change", () => { shown[box.name][box.checked ? "add" : "delete"](box.value); apply(); });
  for (const button of byId("filter").querySelectorAll("[data-all]")) button.addEventListener("click", () => {
    for (const box of byId("filter").querySelectorAll("input")) { box.checked = button.dataset.all === "1"; shown[box.name][box.checked ? "add" : "delete"](box.value); }
    apply();
  });

  // Tables sort by a click on a head; a second click turns them round.
  for (const table of document.querySelectorAll("table.sortable")) for (const head of table.querySelectorAll("th[data-sort]")) {
    const button = make("button", { type: "button" });
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending", place = head.cellIndex, body = table.tBodies[0];
      for (const other of table.querySelectorAll("th[aria-sort]")) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const value = (row) => { const cell = row.cells[place]; return head.dataset.sort === "text" || !cell ? (cell ? cell.textContent : "") : cell.dataset.value === undefined ? NaN : Number(cell.dataset.value); };
      const keyed = [...body.rows].map((row) => [value(row), row]);
      keyed.sort(([a], [b]) => (typeof a === "string" ? a.localeCompare(b, "en", { numeric: true }) : Number.isNaN(a) ? (Number.isNaN(b) ? 0 : 1) : Number.isNaN(b) ? -1 : a - b) * (up || Number.isNaN(a) || Number.isNaN(b) ? 1 : -1));
      body.append(...keyed.map(([, row]) => row));
    });
  }

  options(byId("pareto-x"), ["cost_change", "clean/cross_entropy"]);
  options(byId("pareto-y"), ["toxicity", "rewriting/toxicity"]);
  options(byId("curve-y"), ["toxicity", "rewriting/toxicity"]);
  options(byId("curve-z"), ["cost_change", "clean/cross_entropy"]);
  for (const id of ["pareto-x", "pareto-y", "pareto-bars"]) byId(id).addEventListener("change", pareto);
  for (const id of ["curve-y", "curve-z"]) byId(id).addEventListener("change", curves);
  const cellOptions = (select, cells) => { for (const cell of cells) make("option", { value: cell.id }, select, name(cell)); };
  if (byId("prompt-cell")) {
    cellOptions(byId("prompt-cell"), data.cells.filter((c) => data.prompts.cells[c.id]));
    byId("prompt-cell").addEventListener("change", prompts);
    prompts();
  }
  if (byId("sample-base")) {
    const kept = data.cells.filter((c) => data.samples.cells[c.id]), base = byId("sample-base"), other = byId("sample-cell");
    const bases = kept.filter((c) => c.method === null);
    cellOptions(base, bases.length ? bases : kept);
    const against = () => {
      other.replaceChildren();
      const from = data.cells[base.value], same = kept.filter((c) => c.base === from.base && c.seed === from.seed && c.id !== from.id);
      cellOptions(other, same.length ? same : kept);
      samples();
    };
    base.addEventListener("change", against);
    other.addEventListener("change", samples);
    against();
  }
  apply();
  let was = narrow();
  window.addEventListener("resize", () => { if (narrow() !== was) { was = narrow(); pareto(); prompts(); } });
  // Paper has no folds to open. Texts stay where they are: out of sight.
  let folded = [];
  window.addEventListener("beforeprint", () => { folded = [...document.querySelectorAll("main details:not([open])")].filter((d) => !d.closest("#samples")); folded.forEach((d) => { d.open = true; }); });
  window.addEventListener("afterprint", () => folded.forEach((d) => { d.open = false; }));
  document.documentElement.dataset.ready = "1";
})();
