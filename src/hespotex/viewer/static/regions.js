"use strict";
// Regions drawn by hand: lasso or polygon, their table, CSV, GeoJSON both ways, and their part of the page's address.

// An address holds no more corners than this.
const CORNERS_OF_LINK = 2000;

class Regions {
  constructor(app) {
    Object.assign(this, { app, drawing: false, rings: [], path: [], slide: -1, table: null });
    this.panel = document.getElementById("region");
    this.order = "difference"; this.turn = 0; this.fromBounds = true;
  }
  start(on) {
    this.drawing = on; this.path = []; this.dragged = false;
    document.getElementById("lasso").setAttribute("aria-pressed", on);
    document.body.classList.toggle("drawing", on);
    if (on) this.write();
    this.app.draw();
  }
  // [slide's name, x,y of the corners in level-0 pixels ring by ring]; null where there is none, or one too long for an address.
  get state() {
    if (!this.rings.length || this.isLong) return null;
    return [this.app.run.slides[this.slide].name, this.rings.map((ring) => ring.flat().map((v) => +v.toFixed(1)).join(",")).join("~")];
  }
  get isLong() { return this.rings.reduce((n, ring) => n + ring.length, 0) > CORNERS_OF_LINK; }
  async restore(name, text) {
    const slide = this.app.run.slides.findIndex((s) => s.name === name && !s.error), rings = [];
    for (const ring of (text || "").split("~")) {
      const v = ring.split(",").map(Number);
      if (v.length >= 6 && v.length % 2 === 0 && v.every(Number.isFinite)) rings.push(Array.from({ length: v.length / 2 }, (_, i) => [v[2 * i], v[2 * i + 1]]));
    }
    if (slide < 0 || !rings.length) return this.clear();
    Object.assign(this, { slide, rings });
    await this.ask();
  }
  // Where QuPath's coordinates start on the slide of the region, MRXS and others with bounds; else of the slide that is looked at.
  get bounds() {
    const { run, active } = this.app, slide = this.rings.length ? this.slide : active ? active.slide : 0;
    return run.slides[slide].bounds_px0 || [0, 0];
  }
  moved(rings, sign) {
    const [x, y] = this.fromBounds ? this.bounds : [0, 0];
    return rings.map((ring) => ring.map((p) => [p[0] + sign * x, p[1] + sign * y]));
  }
  clear() {
    this.turn++; // what was asked for a region that is gone is not shown
    this.rings = []; this.table = null; this.panel.hidden = true;
    this.start(false);
  }
  point(pane, x, y) { const v = pane.view(); return [v.left + x * v.px0, v.top + y * v.px0]; }
  down(pane, x, y) {
    if (this.slide !== pane.slide) {
      const { table } = this;
      Object.assign(this, { slide: pane.slide, rings: [], table: null, turn: this.turn + 1 });
      if (table) this.write();
    }
    this.path.push(this.point(pane, x, y));
    this.from = [x, y]; this.dragged = false;
    this.app.draw();
  }
  move(pane, x, y, held) {
    if (!this.path.length || this.slide !== pane.slide) return;
    const last = this.last || this.from;
    if (held && Math.hypot(x - last[0], y - last[1]) > 3) { this.path.push(this.point(pane, x, y)); this.last = [x, y]; this.dragged = true; }
    this.ahead = this.point(pane, x, y);
    this.app.draw();
  }
  up(pane) { this.last = null; if (this.dragged) this.end(pane); }
  end(pane) {
    const ring = this.path.filter((p, i, all) => !i || p[0] !== all[i - 1][0] || p[1] !== all[i - 1][1]);
    this.start(false);
    if (ring.length < 3) return;
    this.rings = [ring]; this.slide = pane.slide;
    this.ask();
  }
  async ask() {
    const turn = ++this.turn;
    let table = null; // no table of another region beside this outline
    try {
      table = await Source.json(`slide/${this.slide}/region`, { polygons: this.rings });
    } catch (error) { this.app.say(error.message); }
    if (turn !== this.turn) return;
    this.table = table;
    this.write();
    this.app.moved();
  }
  draw(c, view, pane) {
    if (pane.slide !== this.slide) return;
    const to = ([x, y]) => [(x - view.left) / view.px0, (y - view.top) / view.px0];
    c.save(); c.lineJoin = "round";
    for (const [ring, closed] of [...this.rings.map((r) => [r, true]), [this.path.concat(this.drawing && this.ahead && this.path.length ? [this.ahead] : []), false]]) {
      if (!ring.length) continue;
      c.beginPath();
      ring.forEach((p, i) => (i ? c.lineTo(...to(p)) : c.moveTo(...to(p))));
      if (closed) c.closePath();
      c.strokeStyle = "white"; c.lineWidth = 4; c.stroke();
      c.strokeStyle = "#111"; c.lineWidth = 1.8; c.setLineDash(closed ? [] : [6, 4]); c.stroke();
    }
    c.restore();
  }
  write() {
    const { panel, table } = this;
    panel.hidden = false;
    const head = make("div", "row"), close = make("button", "quiet", "Close"), tools = make("div", "row");
    close.addEventListener("click", () => { this.clear(); this.app.moved(); });
    head.append(make("h2", "", "Region"), close);
    const input = make("input");
    Object.assign(input, { type: "file", accept: ".geojson,.json", id: "geojson" });
    input.addEventListener("change", () => this.read(input.files[0]));
    const label = make("label", "button", "GeoJSON in");
    label.append(input);
    const button = (text, act, off) => { const b = make("button", "", text); b.disabled = off; b.addEventListener("click", act); return b; };
    tools.append(button("CSV", () => this.csv(), !table), button("GeoJSON out", () => this.geojson(), !this.rings.length), label);
    panel.replaceChildren(head, tools);
    const [x0, y0] = this.bounds;
    if (x0 || y0) {
      const check = make("input"), words = make("label", "small");
      Object.assign(check, { type: "checkbox", id: "from-bounds", checked: this.fromBounds });
      check.addEventListener("change", () => { this.fromBounds = check.checked; });
      words.append(check, ` GeoJSON as QuPath shows this slide: from its bounds, which start at ${x0}, ${y0} px`);
      panel.append(words);
    }
    if (!table) {
      panel.append(make("p", "", "Drag a lasso on the map, or click corners and double-click the last."));
      return;
    }
    const name = this.app.run.slides[this.slide].name;
    panel.append(make("p", "strong", `${name}: ${table.n_inside.toLocaleString("en")} spots inside, ${table.n_rest.toLocaleString("en")} outside${table.n_flagged ? `; ${table.n_flagged} flagged spots inside do not count` : ""}.`));
    panel.append(make("p", "small", "It describes: the region was drawn after looking at the maps, so there is no p or q value. Inside is the composition of the region, pooled over its spots, difference that inside less that outside, natural log; ± is the interval of the predicted composition of the region."));
    if (table.suspended) panel.append(make("p", "alarm", "This slide is unlike the training slides: no grade holds here."));
    panel.append(this.rows());
  }
  ranked() {
    const { gene, difference, grade } = this.table.columns, order = gene.map((_, i) => i);
    const least = "ABCD".indexOf(this.app.look.least);
    const kept = least >= 3 ? order : order.filter((i) => grade[i] !== "ungraded" && "ABCD".indexOf(grade[i]) <= least);
    if (this.order === "gene") return kept.sort((a, b) => gene[a].localeCompare(gene[b]));
    if (this.order === "grade") return kept.sort((a, b) => grade[a].localeCompare(grade[b]) || Math.abs(difference[b]) - Math.abs(difference[a]));
    return kept;
  }
  rows() {
    const t = this.table.columns, table = make("table"), head = make("tr"), box = make("div", "scroll");
    for (const [name, title] of [["gene", "gene"], ["", "inside"], ["difference", "difference"], ["", "±"], ["grade", "grade"], ["", "evidence"]]) {
      const th = make("th");
      if (name) { const b = make("button", "quiet", title); b.addEventListener("click", () => { this.order = name; this.write(); }); th.append(b); th.setAttribute("aria-sort", this.order === name ? "other" : "none"); }
      else th.textContent = title;
      head.append(th);
    }
    table.append(make("thead"), make("tbody"));
    table.tHead.append(head);
    const ranked = this.ranked();
    for (const i of ranked.slice(0, 300)) {
      const row = make("tr"), link = make("button", "link", t.gene[i]), cell = make("td");
      link.addEventListener("click", () => this.app.active.set({ gene: t.gene[i] }));
      cell.append(link);
      const chip = make("td");
      chip.append(gradeChip(t.grade[i], t.evidence[i]));
      row.append(cell, make("td", "number", said(t.inside[i])), make("td", "number", said(t.difference[i])), make("td", "number", t.half_width[i] === null ? "–" : said(t.half_width[i], 2)), chip, make("td", "", t.evidence[i] + scopeSaid(t.scope[i])));
      table.tBodies[0].append(row);
    }
    box.append(table);
    if (ranked.length > 300) box.append(make("p", "small", `300 of ${ranked.length.toLocaleString("en")} genes; the CSV has all.`));
    return box;
  }
  csv() {
    const t = this.table, names = Object.keys(t.columns), cell = (v) => (v === null ? "" : /[",\n]/.test(v) ? `"${String(v).replaceAll('"', '""')}"` : v);
    const lines = [["section", "n_inside", "n_rest", ...names, "slide_verdict"].join(",")], { name, verdict } = this.app.run.slides[this.slide];
    for (let i = 0; i < t.columns.gene.length; i++) lines.push([name, t.n_inside, t.n_rest, ...names.map((n) => t.columns[n][i]), verdict || "likeness not tested"].map(cell).join(","));
    saveFile(`${name}_region.csv`, new Blob([lines.join("\n") + "\n"], { type: "text/csv" }));
  }
  geojson() {
    const name = this.app.run.slides[this.slide].name;
    const features = this.moved(this.rings, -1).map((ring, i) => ({ type: "Feature", geometry: { type: "Polygon", coordinates: [[...ring, ring[0]]] }, properties: { objectType: "annotation", name: `region ${i + 1}` } }));
    saveFile(`${name}_region.geojson`, new Blob([JSON.stringify({ type: "FeatureCollection", features })], { type: "application/geo+json" }));
  }
  async read(file) {
    try {
      const { regions } = await Source.json("geojson", await file.text());
      this.rings = []; this.slide = this.app.active.slide;
      this.rings = this.moved(regions.flatMap((r) => r.rings), 1);
      await this.ask();
    } catch (error) { this.app.say(error.message); }
  }
}

function saveFile(name, blob) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob); link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}
