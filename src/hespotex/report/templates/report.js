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
    unlike: s.unlike && bytes(s.unlike),
    row: new Map(s.genes.map((gene, k) => [gene, k])),
  }));
  const state = { section: 0, unit: "composition", gene: 0 };

  const colour = (table, value) => {
    const k = Math.min(255, Math.round((value / 254) * 255)) * 3;
    return `rgb(${table[k]},${table[k + 1]},${table[k + 2]})`;
  };
  /* `own`: what the bytes 0 and 254 stand for; `limits`: of the colour scale. */
  const drawSpots = (canvas, section, values, table, own, limits) => {
    const side = canvas.width, radius = (section.diameter * side) / 2, context = canvas.getContext("2d");
    if (section.cell) {  /* a fine map: squares side by side, not discs upon each other */
      const cell = Math.max(section.cell * side, 1);
      for (let i = 0; i < section.n; i++) {
        if (values[i] === 255) continue;
        const value = own[0] + (values[i] / 254) * (own[1] - own[0]);
        context.fillStyle = colour(table, Math.min(1, Math.max(0, (value - limits[0]) / (limits[1] - limits[0]))) * 254);
        context.fillRect((section.xy[2 * i] / 65535) * side - cell / 2, (section.xy[2 * i + 1] / 65535) * side - cell / 2, cell, cell);
      }
      return;
    }
    for (let i = 0; i < section.n; i++) {
      context.beginPath();
      context.arc((section.xy[2 * i] / 65535) * side, (section.xy[2 * i + 1] / 65535) * side, Math.max(radius, 1.2), 0, 7);
      if (values[i] === 255) { context.strokeStyle = "#8a919e"; context.lineWidth = 1; context.stroke(); continue; }
      const value = own[0] + (values[i] / 254) * (own[1] - own[0]);
      context.fillStyle = colour(table, Math.min(1, Math.max(0, (value - limits[0]) / (limits[1] - limits[0]))) * 254);
      context.fill();
    }
  };
  const panel = (section, title, values, table, own, limits, unit, mark) => {
    const view = make("div", { className: values ? "view faded" : "view" });
    if (section.picture) view.append(make("img", { src: section.picture, alt: `H&E of section ${section.id}` }));
    const node = make("div", { className: "panel" }, make("b", { textContent: title }), view);
    if (!values) return node;
    const canvas = make("canvas", { width: 560, height: 560 });
    drawSpots(canvas, section, values, table, own, limits);
    view.append(canvas);
    const bar = make("i"), stops = Array.from({ length: 33 }, (_, k) => colour(table, k * 254 / 32));
    bar.style.background = `linear-gradient(90deg,${stops.join(",")})`;
    if (mark !== undefined) {
      const line = make("u", { title: `limit: ${mark}` });
      line.style.left = `calc(${100 * (mark - limits[0]) / (limits[1] - limits[0])}% - 1px)`;
      bar.append(line);
    }
    const middle = mark === undefined ? [] : [make("span", { className: "mark", textContent: `limit ${mark}` })];
    node.append(make("div", { className: "scale" }, short(limits[0]), bar, short(limits[1]), ...middle, make("span", { textContent: unit })));
    return node;
  };
  const short = (value) => String(Math.round(value * 100) / 100).replace("-", "−");
  /* One scale for a gene in all sections: a section is not stretched to its own range. */
  const shared = (gene, unit) => {
    const own = sections.filter((s) => s.row.has(gene) && s.limits[unit]).map((s) => s.limits[unit][s.row.get(gene)]);
    return [Math.min(...own.map((l) => l[0])), Math.max(...own.map((l) => l[1]))];
  };
  const mapsOf = (section, gene) => {
    const k = section.row.get(gene), limits = shared(gene, state.unit), nodes = [];
    section.kinds.forEach((kind, layer) => {
      const [what, unit] = kind.split("_");
      if (unit !== state.unit) return;
      const start = (k * section.kinds.length + layer) * section.n;
      nodes.push(panel(section, what, section.values.subarray(start, start + section.n), data.colours[unit], section.limits[unit][k], limits, unit));
    });
    return nodes;
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
  const show = () => {
    const section = sections[state.section], k = section.row.get(state.gene), panels = $("panels");
    panels.replaceChildren(panel(section, `H&E, ${Math.round(section.side_um).toLocaleString("en")} µm wide`, null));
    if (k === undefined) {
      $("said").textContent = `${nameOf(section, state.gene)} has no map in section ${section.id}: the fold that held it out has another gene panel.`;
    } else {
      $("said").replaceChildren(make("b", { textContent: nameOf(section, state.gene) }), ` in section ${section.id}, ${unitNames[state.unit]}. ${facts(section, k)}`);
      panels.append(...mapsOf(section, state.gene));
    }
    if (section.unlike) {
      const scale = data.unlike.limits;
      panels.append(panel(section, "unlike the training", section.unlike, data.colours.unlike, scale, scale, "", data.unlike.limit));
    }
    $("more").replaceChildren(...examples(section).map(([why, gene]) => {
      const at = section.row.get(gene);
      const line = make("p", { className: "fine" }, make("b", { textContent: `${nameOf(section, gene)}, ${why} of those with maps here. ` }), facts(section, at));
      return make("div", { className: "example" }, line, make("div", { className: "panels small" }, ...mapsOf(section, gene)));
    }));
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
      $(id).addEventListener("change", (event) => { state[id] = parse(event.target.value); show(); });
    }
    show();
  }

  /* ---- genes ---- */
  const { names, columns } = data.genes, mapped = new Set(data.mapped);
  let order = names.map((_, k) => k), sorted = null;
  const head = make("tr", null, make("th", { textContent: "gene" }), ...columns.map((c) => make("th", { textContent: c.label })));
  $("genes").tHead.append(head);
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
  const list = () => {
    const wanted = $("search").value.trim().toLowerCase();
    const hits = order.filter((k) => names[k].toLowerCase().includes(wanted));
    const counted = hits.length > 15 ? `${hits.length.toLocaleString("en")} genes, the first 15 shown` : `${hits.length} gene${hits.length === 1 ? "" : "s"}`;
    $("found").textContent = [counted, ...whyAbsent(wanted)].join(". ");
    $("genes").tBodies[0].replaceChildren(...hits.slice(0, 15).map((k) => {
      const row = make("tr", { tabIndex: 0 }, make("td", { textContent: names[k] }), ...columns.map((c) => cell(c, k)));
      const go = () => { if (mapped.has(k)) { open(k); $("maps").scrollIntoView({ behavior: "smooth" }); } };
      row.addEventListener("click", go);
      row.addEventListener("keydown", (event) => { if (event.key === "Enter") go(); });
      return row;
    }));
  };
  [...head.cells].forEach((th, c) => th.addEventListener("click", () => {
    const values = c === 0 ? names : columns[c - 1].values;
    const down = sorted === c ? -1 : 1, text = typeof values.find((v) => v !== null) === "string";
    sorted = sorted === c ? null : c;
    order.sort((a, b) => {
      if (values[a] === null || values[b] === null) return (values[a] === null) - (values[b] === null) || a - b;
      return down * (text ? String(values[a]).localeCompare(values[b]) : values[b] - values[a]) || a - b;
    });
    list();
  }));
  $("search").addEventListener("input", list);
  list();
})();
