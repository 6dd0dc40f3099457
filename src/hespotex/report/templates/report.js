"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const make = (tag, props, ...children) => {
    const node = Object.assign(document.createElement(tag), props || {});
    node.append(...children);
    return node;
  };
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const number = (v, digits) => (v === null || v === undefined ? "–" : v.toFixed(digits).replace("-", "−"));

  /* ---- maps ---- */
  const unitNames = { composition: "composition", log1p: "log1p(CPM over the panel)" };
  const sections = (data.sections || []).map((s) => ({
    ...s, xy: new Uint16Array(bytes(s.xy).buffer), values: bytes(s.values),
    unlike: s.unlike && bytes(s.unlike), flagged: s.flagged && bytes(s.flagged),
    row: new Map(s.genes.map((gene, k) => [gene, k])),
  }));
  const state = { section: 0, unit: "composition", gene: 0, kept: [] };

  const colour = (table, value) => {
    const k = Math.min(255, Math.round((value / 254) * 255)) * 3;
    return `rgb(${table[k]},${table[k + 1]},${table[k + 2]})`;
  };
  /* What every panel shows: a square of the section, its left, top and side as parts of the whole. */
  const view = { x: 0, y: 0, side: 1 };
  const drawn = [];  /* panels on the page, that move together */
  const valueOf = (layer, i) => (layer.values[i] === 255 ? null : layer.own[0] + (layer.values[i] / 254) * (layer.own[1] - layer.own[0]));
  const isFlagged = (section, i) => section.flagged && (section.flagged[i >> 3] >> (7 - (i & 7))) & 1;
  const cross = (context, x, y, r) => {
    context.fillStyle = "#ffffffb0"; context.strokeStyle = "#b31d1f"; context.lineWidth = 1.5;
    context.beginPath(); context.arc(x, y, r, 0, 7); context.fill(); context.stroke();
    const d = r * 0.7;
    context.beginPath(); context.moveTo(x - d, y - d); context.lineTo(x + d, y + d); context.moveTo(x - d, y + d); context.lineTo(x + d, y - d); context.stroke();
  };
  /* `own`: what the bytes 0 and 254 stand for; `limits`: of the colour scale. */
  const drawSpots = (canvas, section, layer) => {
    const { table, limits } = layer, side = canvas.width / view.side, context = canvas.getContext("2d");
    const radius = Math.max((section.diameter * side) / 2, 1.2), cell = Math.max(section.cell * side, 1);
    context.clearRect(0, 0, canvas.width, canvas.height);
    for (let i = 0; i < section.n; i++) {
      const x = (section.xy[2 * i] / 65535 - view.x) * side, y = (section.xy[2 * i + 1] / 65535 - view.y) * side;
      if (x < -radius || y < -radius || x > canvas.width + radius || y > canvas.height + radius) continue;
      const value = valueOf(layer, i), t = value === null ? 0 : Math.min(1, Math.max(0, (value - limits[0]) / (limits[1] - limits[0]))) * 254;
      if (section.cell) {  /* a fine map: squares side by side, not discs upon each other */
        if (value === null) continue;
        context.fillStyle = !layer.plain && isFlagged(section, i) ? "#b31d1f66" : colour(table, t);
        context.fillRect(x - cell / 2, y - cell / 2, cell, cell);
        continue;
      }
      if (!layer.plain && isFlagged(section, i)) { cross(context, x, y, radius); continue; }
      context.beginPath(); context.arc(x, y, radius, 0, 7);
      if (value === null) { context.strokeStyle = "#8a919e"; context.lineWidth = 1; context.stroke(); continue; }
      context.fillStyle = colour(table, t); context.fill();
    }
  };
  const redraw = () => {
    for (const { picture, canvas, section, layer } of drawn) {
      if (picture) picture.style.transform = `scale(${1 / view.side}) translate(${-100 * view.x}%,${-100 * view.y}%)`;
      if (layer) drawSpots(canvas, section, layer);
    }
  };
  const zoom = (factor, x = 0.5, y = 0.5) => {
    const side = Math.min(1, Math.max(1 / 40, view.side * factor)), inside = (v) => Math.max(0, Math.min(1 - side, v));
    Object.assign(view, { x: inside(view.x + x * (view.side - side)), y: inside(view.y + y * (view.side - side)), side });
    redraw();
  };
  const move = (dx, dy) => {
    const inside = (v) => Math.max(0, Math.min(1 - view.side, v));
    view.x = inside(view.x + dx * view.side); view.y = inside(view.y + dy * view.side);
    redraw();
  };
  const nearest = (section, x, y) => {
    let best = -1, least = (Math.max(section.diameter, section.cell || 0, 0.012 * view.side) * 0.6) ** 2;
    for (let i = 0; i < section.n; i++) {
      const d = (section.xy[2 * i] / 65535 - x) ** 2 + (section.xy[2 * i + 1] / 65535 - y) ** 2;
      if (d < least) { least = d; best = i; }
    }
    return best;
  };
  const tip = make("div", { className: "tip", hidden: true });
  document.body.append(tip);
  const tell = (event, section, i, layers) => {
    tip.hidden = i < 0;
    if (i < 0) return;
    const lines = layers.map((layer) => {
      const value = valueOf(layer, i), end = value !== null && (layer.values[i] === 0 ? " or less" : layer.values[i] === 254 ? " or more" : "");
      return make("div", { textContent: `${layer.title}: ${number(value, 2)}${end || ""}` });
    });
    if (isFlagged(section, i)) lines.push(make("div", { className: "warn", textContent: "flagged: unlike the training, nothing is claimed here" }));
    tip.replaceChildren(...lines);
    const box = tip.getBoundingClientRect();
    tip.style.left = `${Math.max(4, Math.min(event.clientX + 14, innerWidth - box.width - 8))}px`;
    tip.style.top = `${Math.max(4, Math.min(event.clientY + 14, innerHeight - box.height - 8))}px`;
  };
  /* Keys, wheel with Ctrl (a pinch on a touchpad), dragging; the page itself scrolls as ever. */
  const listen = (box, section, layers) => {
    const at = (e) => { const b = box.getBoundingClientRect(); return [(e.clientX - b.left) / b.width, (e.clientY - b.top) / b.height]; };
    let held = null;
    box.tabIndex = 0;
    box.addEventListener("wheel", (e) => { if (e.ctrlKey) { e.preventDefault(); zoom(Math.exp(e.deltaY * 0.004), ...at(e)); } }, { passive: false });
    box.addEventListener("dblclick", (e) => zoom(0.5, ...at(e)));
    box.addEventListener("pointerdown", (e) => { if (view.side < 1) { held = at(e); box.setPointerCapture(e.pointerId); } });
    box.addEventListener("pointermove", (e) => {
      const [x, y] = at(e);
      if (held) { move(held[0] - x, held[1] - y); held = [x, y]; tip.hidden = true; return; }
      tell(e, section, nearest(section, view.x + x * view.side, view.y + y * view.side), layers());
    });
    for (const name of ["pointerup", "pointercancel"]) box.addEventListener(name, () => { held = null; });
    box.addEventListener("pointerleave", () => { tip.hidden = true; });
    box.addEventListener("keydown", (e) => {
      const acts = { "+": () => zoom(0.7), "=": () => zoom(0.7), "-": () => zoom(1 / 0.7), 0: () => zoom(40), ArrowLeft: () => move(-0.2, 0), ArrowRight: () => move(0.2, 0), ArrowUp: () => move(0, -0.2), ArrowDown: () => move(0, 0.2) };
      if (acts[e.key] && !e.ctrlKey && !e.metaKey && (view.side < 1 || !e.key.startsWith("Arrow"))) { e.preventDefault(); acts[e.key](); }
    });
  };
  const scaleOf = ({ table, limits, unit, mark, width }) => {
    const bar = make("i"), stops = Array.from({ length: 33 }, (_, k) => colour(table, k * 254 / 32));
    bar.style.background = `linear-gradient(90deg,${stops.join(",")})`;
    const part = (v) => 100 * (v - limits[0]) / (limits[1] - limits[0]);
    if (mark !== undefined) {
      const line = make("u", { title: `limit: ${mark}` });
      line.style.left = `calc(${part(mark)}% - 1px)`;
      bar.append(line);
    }
    if (width) {  /* how far a value may be off, drawn in the map's own unit around 0 */
      const span = make("s", { title: `90 % interval of one spot: ± ${number(width, 2)}` });
      span.style.left = `${Math.max(0, part(-width))}%`; span.style.right = `${Math.max(0, 100 - part(width))}%`;
      bar.append(span);
    }
    const middle = mark === undefined ? [] : [make("span", { className: "mark", textContent: `limit ${mark}` })];
    const said = width ? `${unit}, one spot ± ${number(width, 2)}` : unit;
    return make("div", { className: "scale" }, short(limits[0]), bar, short(limits[1]), ...middle, make("span", { textContent: said }));
  };
  const panel = (section, title, layer, layers) => {
    const box = make("div", { className: `view${layer ? " faded" : ""}${layer && !layer.plain && section.suspended ? " hatched" : ""}` });
    box.setAttribute("role", "group");
    box.setAttribute("aria-label", `${title}, section ${section.id}; keys + − 0 and arrows`);
    const node = make("div", { className: "panel" }, make("b", { textContent: title }), box), one = { section, layer };
    if (section.picture) { one.picture = make("img", { src: section.picture, alt: `H&E of section ${section.id}`, draggable: false }); box.append(one.picture); }
    if (layer) { one.canvas = make("canvas", { width: 720, height: 720 }); box.append(one.canvas); node.append(scaleOf(layer)); }
    listen(box, section, layers);
    drawn.push(one);
    return node;
  };
  const short = (value) => String(Math.round(value * 100) / 100).replace("-", "−");
  /* One scale for a gene in all sections: a section is not stretched to its own range. */
  const shared = (gene, unit) => {
    const own = sections.filter((s) => s.row.has(gene) && s.limits[unit]).map((s) => s.limits[unit][s.row.get(gene)]);
    return [Math.min(...own.map((l) => l[0])), Math.max(...own.map((l) => l[1]))];
  };
  const layersOf = (section, gene) => {
    const k = section.row.get(gene), limits = shared(gene, state.unit), layers = [];
    if (k === undefined) return layers;
    section.kinds.forEach((kind, layer) => {
      const [title, unit] = kind.split("_");
      if (unit !== state.unit) return;
      const start = (k * section.kinds.length + layer) * section.n;
      const width = unit === "composition" && title === "predicted" ? section.widths[k] : null;
      layers.push({ title, unit, limits, width, own: section.limits[unit][k], table: data.colours[unit], values: section.values.subarray(start, start + section.n) });
    });
    return layers;
  };
  const unlikeOf = ({ unlike }) => {
    const limits = data.unlike.limits;
    return unlike ? [{ title: "unlike the training", unit: "", plain: true, own: limits, limits, mark: data.unlike.limit, table: data.colours.unlike, values: unlike }] : [];
  };
  const mapsOf = (section, gene) => {
    const layers = layersOf(section, gene), all = [...layers, ...unlikeOf(section)];
    return layers.map((layer) => panel(section, layer.title, layer, () => all));
  };
  const facts = (section, k) => {
    const of = (name, digits = 2) => {
      const value = section.scores[name] && section.scores[name][k];
      return value === null || value === undefined ? null : number(value, digits);
    };
    const span = (name) => (of(`${name}_lower`) === null ? "" : ` [${of(`${name}_lower`)}, ${of(`${name}_upper`)}]`);
    const said = [
      of("pcc_composition") === null ? "composition: no score here" : `composition PCC ${of("pcc_composition")}${span("pcc_composition")}`,
      of("pcc_partial") && `given depth ${of("pcc_partial")} (z ${of("null_z", 1)})`,
      of("ceiling_composition") && `ceiling ${of("ceiling_composition")}`,
      of("pcc_log1p") && `log1p PCC ${of("pcc_log1p")}${span("pcc_log1p")}, ${data.depth_label} ${of("depth_only_pcc_log1p")}`,
      of("rmse_log1p") && `RMSE ${of("rmse_log1p")}`,
      of("coverage") && `90 % interval of log1p holds ${number(100 * section.scores.coverage[k], 0)} % of the spots here`,
      of("deviance_explained") && `deviance explained ${of("deviance_explained", 3)}`,
      of("moran_measured") && `Moran’s I ${of("moran_measured")} measured, ${of("moran_predicted")} predicted`,
      of("ssim") && `SSIM ${of("ssim")}`,
    ];
    return [...(Object.keys(section.scores).length ? said : []), section.half_widths[k], section.scales[k]].filter(Boolean).join(" · ");
  };
  /* What is claimed of a gene on this very slide. */
  const nameOf = (section, gene) => data.genes.names[gene] + (section.row.has(gene) ? ` (${section.claims[section.row.get(gene)]})` : "");
  /* Best, second best, middle and worst gene by the mean composition score: the table is sorted by it. None without scores. */
  const examples = (section) => {
    const column = data.genes.columns.find((c) => c.label === "composition PCC");
    if (!column) return [];
    const scored = section.genes.filter((gene) => column.values[gene] !== null);
    const last = scored.length - 1;
    const picks = [["best", 0], ["second best", 1], ["middle", last >> 1], ["worst", last]];
    const seen = new Set();
    return picks.filter(([, at]) => at >= 0 && at <= last && !seen.has(at) && seen.add(at)).map(([why, at]) => [why, scored[at]]);
  };
  /* A line of words and the maps of a gene, below those of the gene that is chosen. */
  const beside = (section, gene, why, tool) => {
    const k = section.row.get(gene), words = k === undefined ? "no map in this section" : facts(section, k);
    const line = make("p", { className: "fine" }, make("b", { textContent: `${nameOf(section, gene)}${why}. ` }), words, ...tool);
    return make("div", { className: "example" }, line, make("div", { className: "panels small" }, ...mapsOf(section, gene)));
  };
  const show = () => {
    const section = sections[state.section], k = section.row.get(state.gene), panels = $("panels");
    drawn.length = 0; tip.hidden = true;
    const all = [...layersOf(section, state.gene), ...unlikeOf(section)];
    panels.replaceChildren(panel(section, `H&E, ${Math.round(section.side_um).toLocaleString("en")} µm wide`, null, () => all));
    if (k === undefined) {
      $("said").textContent = `${nameOf(section, state.gene)} has no map in section ${section.id}: the fold that held it out has another gene panel.`;
    } else {
      $("said").replaceChildren(make("b", { textContent: nameOf(section, state.gene) }), ` in section ${section.id}, ${unitNames[state.unit]}. ${facts(section, k)}`);
      panels.append(...mapsOf(section, state.gene));
    }
    panels.append(...unlikeOf(section).map((layer) => panel(section, layer.title, layer, () => all)));
    $("beside").replaceChildren(...state.kept.map((gene) => {
      const drop = make("button", { textContent: "take away", type: "button" });
      drop.addEventListener("click", () => { state.kept = state.kept.filter((g) => g !== gene); show(); });
      return beside(section, gene, "", [" ", drop]);
    }));
    $("more").replaceChildren(...examples(section).map(([why, gene]) => beside(section, gene, `, ${why} of those with maps here`, [])));
    redraw();
  };
  const option = (text, value) => make("option", { textContent: text, value });
  const open = (gene) => {
    state.gene = gene;
    $("gene").value = gene;
    show();
  };
  if (sections.length) {
    $("section").append(...sections.map((s, k) => option(`${s.id} (patient ${s.patient})`, k)));
    $("unit").append(...Object.keys(unitNames).map((u) => option(unitNames[u], u)));
    $("unit").value = state.unit;
    $("gene").append(...data.mapped.map((g) => option(data.genes.names[g], g)));
    /* A gene that every section has, if there is one: panels differ between folds. */
    const everywhere = data.mapped.find((g) => sections.every((s) => s.row.has(g)));
    state.gene = everywhere === undefined ? sections[0].genes[0] : everywhere;
    $("gene").value = state.gene;
    for (const [id, parse] of [["section", Number], ["unit", String], ["gene", Number]]) {
      $(id).addEventListener("change", (event) => { if (id === "section") Object.assign(view, { x: 0, y: 0, side: 1 }); state[id] = parse(event.target.value); show(); });
    }
    $("keep").addEventListener("click", () => { if (!state.kept.includes(state.gene)) { state.kept.push(state.gene); show(); } });
    for (const [id, factor] of [["closer", 0.6], ["farther", 1 / 0.6], ["whole", 40]]) $(id).addEventListener("click", () => zoom(factor));
    show();
  }

  /* ---- genes ---- */
  const { names, columns } = data.genes, mapped = new Set(data.mapped);
  let order = names.map((_, k) => k), sorted = null;
  const size = 25, grades = columns.find((c) => c.label === "grade");
  let page = 0, hits = [];
  const heads = ["gene", ...columns.map((c) => c.label)].map((label) => make("th", { scope: "col" }, make("button", { textContent: label, type: "button" })));
  $("genes").tHead.append(make("tr", null, ...heads));
  const cell = (column, k) => {
    const value = column.values[k];
    const tiny = column.label === "q-value" && value !== null && value < 0.001;
    return make("td", { textContent: typeof value === "string" ? value : tiny ? "<0.001" : number(value, column.digits) });
  };
  /* A gene that is named in full, or as far as only few absent genes go, is not passed over in silence. */
  const { absent } = data, lower = absent.names.map((name) => name.toLowerCase());
  const whyAbsent = (wanted) => {
    if (wanted.length < 2) return [];
    const full = lower.indexOf(wanted);
    const found = full >= 0 ? [full] : lower.flatMap((name, k) => (name.startsWith(wanted) ? [k] : []));
    return found.length > 3 ? [] : found.map((k) => `${absent.names[k]} has no prediction: it ${absent.sentences[absent.why[k]]}`);
  };
  const list = (to = 0) => {
    const wanted = $("search").value.trim().toLowerCase(), least = grades ? $("least").value : "";
    const good = (k) => !least || (grades.values[k] >= "A" && grades.values[k] <= least);
    hits = order.filter((k) => names[k].toLowerCase().includes(wanted) && good(k));
    const last = Math.max(0, Math.ceil(hits.length / size) - 1);
    page = Math.max(0, Math.min(last, to));
    const shown = hits.slice(page * size, (page + 1) * size);
    const counted = `${hits.length.toLocaleString("en")} gene${hits.length === 1 ? "" : "s"}${hits.length > size ? `, ${page * size + 1} to ${page * size + shown.length} shown` : ""}`;
    $("found").textContent = [counted, ...whyAbsent(wanted)].join(". ");
    $("before").disabled = page === 0; $("after").disabled = page === last;
    heads.forEach((th, c) => th.setAttribute("aria-sort", sorted && sorted[0] === c ? (sorted[1] > 0 ? "descending" : "ascending") : "none"));
    $("genes").tBodies[0].replaceChildren(...shown.map((k, at) => {
      const row = make("tr", { tabIndex: at ? -1 : 0 }, make("td", { textContent: names[k] }), ...columns.map((c) => cell(c, k)));
      row.addEventListener("click", () => { if (mapped.has(k)) { open(k); $("maps").scrollIntoView({ behavior: "smooth" }); } });
      return row;
    }));
  };
  const rows = () => [...$("genes").tBodies[0].rows];
  $("genes").tBodies[0].addEventListener("keydown", (event) => {
    const at = rows().indexOf(event.target), go = (to, k) => { if (to !== null) list(to); const row = rows()[Math.max(0, Math.min(rows().length - 1, k))]; if (row) row.focus(); };
    const acts = {
      Enter: () => event.target.click(), ArrowDown: () => (at < rows().length - 1 ? go(null, at + 1) : $("after").disabled || go(page + 1, 0)),
      ArrowUp: () => (at > 0 ? go(null, at - 1) : page > 0 && go(page - 1, size)), PageDown: () => go(page + 1, 0), PageUp: () => go(page - 1, 0), Home: () => go(0, 0), End: () => go(Infinity, size),
    };
    if (at >= 0 && acts[event.key]) { event.preventDefault(); acts[event.key](); }
  });
  heads.forEach((th, c) => th.firstChild.addEventListener("click", () => {
    const values = c === 0 ? names : columns[c - 1].values, text = typeof values.find((v) => v !== null) === "string";
    const up = sorted && sorted[0] === c ? -sorted[1] : text ? -1 : 1;  /* best first: texts from A, numbers from the largest */
    sorted = [c, up];
    order.sort((a, b) => {
      if (values[a] === null || values[b] === null) return (values[a] === null) - (values[b] === null) || a - b;
      return up * (text ? String(values[b]).localeCompare(values[a]) : values[b] - values[a]) || a - b;
    });
    list();
  }));
  const quoted = (v) => (v === null || v === undefined ? "" : /[",\n]/.test(v) ? `"${String(v).replaceAll('"', '""')}"` : String(v));
  $("csv").addEventListener("click", () => {
    const lines = [["gene", ...columns.map((c) => c.label)], ...hits.map((k) => [names[k], ...columns.map((c) => c.values[k])])];
    const link = make("a", { href: URL.createObjectURL(new Blob([lines.map((l) => l.map(quoted).join(",")).join("\n") + "\n"], { type: "text/csv" })), download: "genes_shown.csv" });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  });
  $("least").hidden = !grades;
  const least = [["", "every grade"], ["A", "grade A"], ["B", "A and B"], ["C", "A to C"]];
  if (grades) $("least").append(...least.map(([value, text]) => new Option(text, value)));
  $("least").addEventListener("change", () => list());
  $("before").addEventListener("click", () => list(page - 1));
  $("after").addEventListener("click", () => list(page + 1));
  $("search").addEventListener("input", () => list());
  list();
})();
