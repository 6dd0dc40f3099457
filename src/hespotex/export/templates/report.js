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
  const titles = {
    measured: "measured", predicted: "predicted", measured_share: "measured",
    predicted_share: "predicted", width: "uncertainty",
  };
  const units = { log1p: ["measured", "predicted", "width"], share: ["measured_share", "predicted_share", "width"] };
  const unitNames = { log1p: "log1p(CPM over the panel)", share: "share of the spot's total" };
  const sections = (data.sections || []).map((s) => ({
    ...s, xy: new Uint16Array(bytes(s.xy).buffer), values: bytes(s.values),
    trust: s.trust && { limits: s.trust.limits, values: bytes(s.trust.values) },
    row: new Map(s.genes.map((gene, k) => [gene, k])),
  }));
  const state = { section: 0, unit: "share", gene: 0 };

  const colour = (table, value) => {
    const k = Math.min(255, Math.round((value / 254) * 255)) * 3;
    return `rgb(${table[k]},${table[k + 1]},${table[k + 2]})`;
  };
  const drawSpots = (canvas, section, values, table) => {
    const side = canvas.width, radius = (section.diameter * side) / 2, context = canvas.getContext("2d");
    for (let i = 0; i < section.n; i++) {
      context.beginPath();
      context.arc((section.xy[2 * i] / 65535) * side, (section.xy[2 * i + 1] / 65535) * side, Math.max(radius, 1.2), 0, 7);
      if (values[i] === 255) { context.strokeStyle = "#8a919e"; context.lineWidth = 1; context.stroke(); continue; }
      context.fillStyle = colour(table, values[i]);
      context.fill();
    }
  };
  const panel = (section, title, values, table, limits, unit) => {
    const view = make("div", { className: values ? "view faded" : "view" });
    if (section.picture) view.append(make("img", { src: section.picture, alt: `H&E of section ${section.id}` }));
    const node = make("div", { className: "panel" }, make("b", { textContent: title }), view);
    if (!values) return node;
    const canvas = make("canvas", { width: 560, height: 560 });
    drawSpots(canvas, section, values, table);
    view.append(canvas);
    const bar = make("i");
    const stops = [0, 64, 128, 191, 254].map((v) => colour(table, v));
    bar.style.background = `linear-gradient(90deg,${stops.join(",")})`;
    const digits = unit === "z" ? 1 : 2;
    node.append(make("div", { className: "scale" }, number(limits[0], digits), bar, number(limits[1], digits), make("span", { textContent: unit })));
    return node;
  };
  const mapsOf = (section, k) => {
    const nodes = [];
    for (const kind of units[state.unit]) {
      const layer = section.kinds.indexOf(kind);
      if (layer < 0) continue;
      const start = (k * section.kinds.length + layer) * section.n;
      const diverging = kind.endsWith("_share");
      const limits = diverging ? [-data.z_limit, data.z_limit] : kind === "width" ? section.widths[k] : section.limits[k];
      const table = diverging ? data.colours.diverging : kind === "width" ? data.colours.depth : data.colours.expression;
      nodes.push(panel(section, titles[kind], section.values.subarray(start, start + section.n), table, limits, diverging ? "z" : "log1p"));
    }
    return nodes;
  };
  const facts = (section, k) => {
    const of = (name, digits = 2) => {
      const value = section.scores[name] && section.scores[name][k];
      return value === null || value === undefined ? null : number(value, digits);
    };
    const span = (name) => (of(`${name}_lower`) === null ? "" : ` [${of(`${name}_lower`)}, ${of(`${name}_upper`)}]`);
    const said = [
      of("pcc_composition") === null ? "share: no score here" : `PCC share ${of("pcc_composition")}${span("pcc_composition")}`,
      of("pcc_partial") && `given depth ${of("pcc_partial")} (z ${of("null_z", 1)})`,
      of("ceiling_composition") && `ceiling ${of("ceiling_composition")}`,
      of("pcc_log1p") && `PCC log1p ${of("pcc_log1p")}${span("pcc_log1p")}, depth alone ${of("depth_only_pcc_log1p")}`,
      of("rmse_log1p") && `RMSE ${of("rmse_log1p")}`,
      of("coverage") && `90 % interval holds ${number(100 * section.scores.coverage[k], 0)} % of the spots here`,
      of("deviance_explained") && `deviance explained ${of("deviance_explained", 3)}`,
      of("moran_measured") && `Moran’s I ${of("moran_measured")} measured, ${of("moran_predicted")} predicted`,
      of("ssim") && `SSIM ${of("ssim")}`,
    ];
    return Object.keys(section.scores).length ? said.filter(Boolean).join(" · ") : "";
  };
  const grades = data.genes.columns.find((c) => c.label === "grade");
  const nameOf = (gene) => data.genes.names[gene] + (grades && grades.values[gene] ? ` (${grades.values[gene]})` : "");
  /* Best, second best, middle and worst gene by the mean share score: the table is sorted by it. None without scores. */
  const examples = (section) => {
    const column = data.genes.columns.find((c) => c.label === "PCC share");
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
      $("said").textContent = `${nameOf(state.gene)} has no map in section ${section.id}: the fold that held it out has another gene panel.`;
    } else {
      $("said").replaceChildren(make("b", { textContent: nameOf(state.gene) }), ` in section ${section.id}, ${unitNames[state.unit]}. ${facts(section, k)}`);
      panels.append(...mapsOf(section, k));
    }
    if (section.trust) {
      panels.append(panel(section, "unlike the training slides", section.trust.values, data.colours.depth, section.trust.limits, "score"));
    }
    $("more").replaceChildren(...examples(section).map(([why, gene]) => {
      const at = section.row.get(gene);
      const line = make("p", { className: "fine" }, make("b", { textContent: `${nameOf(gene)}, ${why} of those with maps here. ` }), facts(section, at));
      return make("div", { className: "example" }, line, make("div", { className: "panels small" }, ...mapsOf(section, at)));
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
    $("unit").append(...Object.keys(units).map((u) => option(unitNames[u], u)));
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
  const list = () => {
    const wanted = $("search").value.trim().toLowerCase();
    const hits = order.filter((k) => names[k].toLowerCase().includes(wanted));
    $("found").textContent = hits.length > 15 ? `${hits.length.toLocaleString("en")} genes, the first 15 shown` : `${hits.length} gene${hits.length === 1 ? "" : "s"}`;
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
