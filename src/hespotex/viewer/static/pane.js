"use strict";
// One pane: a slide, a layer, its head (grade, verdict), legend, hover, and what a gene rests on.

const make = (tag, look = "", text = "") => {
  const e = document.createElement(tag);
  if (look) e.className = look;
  if (text) e.textContent = text;
  return e;
};
const said = (v, digits = 3) => (v === null || v === undefined || Number.isNaN(v) ? "–" : Number(v.toPrecision(digits)).toString().replace("-", "−"));
const gradeChip = (grade, evidence) => {
  const chip = make("span", `chip grade-${grade}`, grade === "ungraded" ? "no grade" : grade);
  chip.title = evidence ? `${evidence}` : "";
  return chip;
};

// For whom a grade holds, where it is not for new patients, too.
const scopeSaid = (scope) => (scope === "within_patient" ? ", training patients alone" : "");

class Pane {
  constructor(app, number) {
    Object.assign(this, { app, number, slide: 0, gene: "", show: "composition", turn: 0 });
    this.root = make("section", "pane");
    this.root.setAttribute("aria-label", `Pane ${number + 1}`);
    this.head = make("header", "pane-head");
    this.stage = make("div", "stage");
    this.stage.tabIndex = 0;
    this.stage.setAttribute("role", "application");
    [this.under, this.canvas, this.over] = ["under", "spots", "over"].map((n) => this.stage.appendChild(make("canvas", n)));
    // An element, not part of a canvas: software rendering was seen to keep lines of a canvas that had been cleared.
    this.hatching = this.stage.appendChild(make("div", "hatching"));
    this.legend = this.stage.appendChild(make("div", "legend"));
    this.tip = this.stage.appendChild(make("div", "tip"));
    this.tip.hidden = true;
    this.warning = this.stage.appendChild(make("div", "warning"));
    this.note = this.stage.appendChild(make("div", "note"));
    this.scale = this.stage.appendChild(make("div", "scale"));
    this.told = make("footer", "told");
    this.told.setAttribute("aria-live", "polite");
    this.root.append(this.head, this.stage, this.told);
    this.spots = new Spots(this.canvas);
    this.listen();
  }
  get isGene() { return this.about && this.show in this.about.shows; }
  placeOf(gene) { return this.about.genes.indexOf(gene); }
  async set(change) {
    const turn = ++this.turn, next = { slide: this.slide, gene: this.gene, show: this.show, ...change };
    try {
      this.root.classList.add("busy");
      if (!this.about || next.slide !== this.slide) await this.open(next.slide, turn);
      if (turn !== this.turn) return;
      if (!this.about.genes.includes(next.gene) && !this.about.sets.includes(next.gene)) next.gene = this.bestGene();
      if (!(next.show in this.about.shows) && !(next.show in this.about.spot_shows)) next.show = Object.keys(this.about.genes.length ? this.about.shows : this.about.spot_shows)[0];
      if (this.about.sets.includes(next.gene) && next.show in this.about.shows) next.show = "composition";
      const started = performance.now();
      const packed = await Source.bytes(`slide/${next.slide}/values?show=${encodeURIComponent(next.show)}&gene=${encodeURIComponent(next.gene)}`);
      if (turn !== this.turn) return;
      const size = new DataView(packed).getUint32(0, true);
      this.layer = JSON.parse(new TextDecoder().decode(new Uint8Array(packed, 4, size)));
      this.values = new Float32Array(packed, 4 + size);
      this.took = performance.now() - started;
      Object.assign(this, next);
      this.paint();
      this.app.changed(this);
    } catch (error) {
      this.app.say(error.message);
    } finally {
      if (turn === this.turn) this.root.classList.remove("busy");
    }
  }
  static ask(slide) { return Promise.all([Source.json(`slide/${slide}`), Source.bytes(`slide/${slide}/spots`)]); }
  async open(slide, turn) {
    const early = this.app.early;
    this.app.early = null;
    const [about, packed] = await (early && early.slide === slide ? early.asked : Pane.ask(slide)), n = about.n_spots;
    const spots = { x: new Float32Array(packed, 0, n), y: new Float32Array(packed, 4 * n, n), flagged: new Uint8Array(packed, 8 * n, n) };
    if (about.is_image) {
      const grid = await Source.bytes(`slide/${slide}/raster`), [height, width] = new Int32Array(grid, 0, 2);
      spots.raster = { width, height, px0: new Float32Array(grid, 8, 1)[0], index: new Int32Array(grid, 12) };
    }
    if (turn !== this.turn) return;
    this.about = about; this.slide = slide; this.where = spots;
    this.app.run.slides[slide].bounds_px0 = about.bounds_px0;
    if (this.app.regions.table) this.app.regions.write(); // one of a link, that came before the bounds
    this.tiles = new Tiles(slide, about, () => this.app.draw());
    this.nearest = null;
    this.values = null;
    this.spots.place(spots);
    // Tiles are on their way while values are read.
    if (!this.app.camera.um) this.fit();
    this.draw();
  }
  bestGene() {
    const { grade, score } = this.about.claims, order = "ABCD";
    let best = 0;
    const rank = (j) => (order.indexOf(grade[j]) + 5) % 5 * 10 - (score[j] || 0);
    for (let j = 1; j < grade.length; j++) if (rank(j) < rank(best)) best = j;
    return this.about.genes[best] || "";
  }
  get ends() { return this.app.endsOf(this); }
  get hexes() {
    const { categories, diverging } = this.layer, { palettes, named } = this.app.run;
    if (categories.length) return Array.from({ length: 256 }, (_, i) => named[Math.round((i / 255) * Math.max(categories.length - 1, 1)) % named.length]);
    return palettes[this.app.look[diverging ? "diverging" : "sequential"]];
  }
  paint() {
    this.spots.colour(this.values, this.hexes);
    this.writeHead(); this.writeLegend(); this.writeTold();
    this.app.draw();
  }
  writeHead() {
    const { about } = this, row = make("div", "row");
    this.head.replaceChildren(row);
    row.append(make("h2", "", this.isGene ? this.gene : this.layer.title));
    if (this.isGene) {
      const j = this.placeOf(this.gene), k = about.sets.indexOf(this.gene);
      if (j >= 0) {
        if (this.show.startsWith("measured")) row.append(make("span", "words", "measured; its prediction:"));
        row.append(gradeChip(about.claims.grade[j], about.claims.evidence[j]));
        row.append(make("span", "words", about.claims.evidence[j] + scopeSaid(about.claims.scope[j])));
      } else if (k >= 0) row.append(gradeChip(about.set_grades[k], ""), make("span", "words", "gene set"));
    }
    const sub = make("div", "row sub");
    sub.append(make("span", "", this.isGene ? this.layer.title : ""), make("span", "", about.name));
    sub.append(make("span", `chip ${about.suspended ? "alarm" : "calm"}`, about.verdict || "likeness not tested"));
    if (about.n_flagged) sub.append(make("span", "words", `${about.n_flagged.toLocaleString("en")} of ${about.n_spots.toLocaleString("en")} spots flagged`));
    this.head.append(sub);
  }
  writeLegend() {
    const { layer } = this, [low, high] = this.ends, { named } = this.app.run;
    this.legend.replaceChildren();
    if (layer.categories.length) {
      layer.categories.slice(0, 20).forEach((name, i) => {
        const line = make("div", "category"), dot = make("i");
        dot.style.background = named[i % named.length];
        line.append(dot, make("span", "", name));
        this.legend.append(line);
      });
      return;
    }
    const bar = make("canvas", "ramp");
    bar.width = 256; bar.height = 1;
    const c = bar.getContext("2d");
    this.hexes.forEach((hex, i) => { c.fillStyle = hex; c.fillRect(i, 0, 1, 1); });
    bar.setAttribute("role", "img");
    bar.setAttribute("aria-label", `Colours from ${said(low)} to ${said(high)} ${layer.unit}`);
    const ticks = make("div", "ticks");
    for (const v of layer.diverging && low < 0 && high > 0 ? [low, 0, high] : [low, (low + high) / 2, high]) ticks.append(make("span", "", said(v)));
    this.legend.append(bar, ticks, make("div", "unit", layer.unit));
  }
  writeTold() {
    const { about, layer } = this;
    this.told.replaceChildren();
    if (this.isGene && layer.told) {
      const widths = layer.half_widths;
      const given = widths.map((w, i) => (w === null ? "" : `±${said(w, 2)} for ${[1, 4, 9, 25][i]} spot${i ? "s" : ""}`)).filter(Boolean).join(", ");
      this.told.append(make("p", "strong", layer.told));
      if (given && this.show === "composition") this.told.append(make("p", "", `${Math.round(about.interval_level * 100)} % interval of composition: ${given}.`));
    }
    this.told.append(make("p", "", `${layer.explained} ${about.sentence}`.trim()));
    const hidden = about.suspended && !this.app.look.anyway;
    this.warning.hidden = this.hatching.hidden = !hidden;
    if (hidden) {
      const button = make("button", "", "Show anyway");
      button.addEventListener("click", () => { this.app.look.anyway = true; this.app.repaint(); });
      this.warning.replaceChildren(make("strong", "", "This slide is unlike the training slides."), make("span", "", "No grade holds here."), button);
    }
    this.note.hidden = about.image === "file";
    const notes = { picture: `Only the small picture of the prediction is shown: ${about.image_note}.`, none: `No picture of the slide: ${about.image_note}.`, saved: about.image_note };
    this.note.textContent = notes[about.image] || "";
  }
  view() {
    // The part of the slide in the stage, in level-0 pixels.
    const { camera } = this.app, { mpp } = this.about, box = this.stage.getBoundingClientRect();
    const px0 = camera.um / mpp, width = box.width * px0, height = box.height * px0;
    return { left: camera.x / mpp - width / 2, top: camera.y / mpp - height / 2, width, height, px0 };
  }
  draw() {
    if (!this.about) return;
    const box = this.stage.getBoundingClientRect(), ratio = window.devicePixelRatio || 1;
    if (!box.width || !box.height) return;
    for (const canvas of [this.under, this.canvas, this.over]) {
      const [w, h] = [Math.round(box.width * ratio), Math.round(box.height * ratio)];
      if (canvas.width !== w || canvas.height !== h) { canvas.width = w; canvas.height = h; }
    }
    const view = this.view(), { look } = this.app, under = this.under.getContext("2d"), over = this.over.getContext("2d");
    for (const c of [under, over]) { c.resetTransform(); c.clearRect(0, 0, c.canvas.width, c.canvas.height); c.setTransform(ratio, 0, 0, ratio, 0, 0); }
    if (look.tissue) this.tiles.draw(under, view, ratio);
    if (!this.values) return;
    const drawn = { ends: this.layer.categories.length ? [0, Math.max(this.layer.categories.length - 1, 1)] : this.ends, opacity: look.opacity, flagged: look.flagged, radius: this.radius(view) };
    this.spots.draw(view, drawn);
    if (this.where.raster) this.spots.drawImage(over, view, drawn);
    this.app.regions.draw(over, view, this);
    this.writeScale();
  }
  radius(view) { return Math.max(this.about.diameter_um / this.about.mpp / 2, 0.8 * view.px0); }
  writeScale() {
    const { um } = this.app.camera, most = um * 140;
    let length = 10 ** Math.floor(Math.log10(most));
    for (const k of [5, 2]) if (length * k <= most) { length *= k; break; }
    this.scale.style.width = `${length / um}px`;
    this.scale.textContent = length >= 1000 ? `${length / 1000} mm` : `${said(length)} µm`;
  }
  spotAt(x, y) {
    const view = this.view(), px = view.left + x * view.px0, py = view.top + y * view.px0;
    if (this.where.raster) {
      const { raster } = this.where, c = Math.floor(px / raster.px0), r = Math.floor(py / raster.px0);
      return c < 0 || r < 0 || c >= raster.width || r >= raster.height ? -1 : raster.index[r * raster.width + c];
    }
    this.nearest ??= new Nearest(this.where, this.about.pitch_um / this.about.mpp);
    return this.nearest.at(px, py, this.radius(view));
  }
  async hover(x, y) {
    const i = this.values ? this.spotAt(x, y) : -1;
    this.tip.hidden = i < 0;
    if (i === this.hovered) return this.moveTip(x, y);
    this.hovered = i;
    if (i < 0) return;
    const { layer } = this, value = this.values[i], lines = [];
    const shown = layer.categories.length ? (Number.isNaN(value) ? "–" : layer.categories[value]) : `${said(value)} ${layer.unit}`;
    const width = this.show === "composition" && this.isGene ? layer.half_widths[0] : null;
    lines.push(make("strong", "", `${this.isGene ? `${this.gene} ` : ""}${shown}${width ? ` ± ${said(width, 2)}` : ""}`));
    if (this.where.flagged[i]) lines.push(make("div", "alarm", "Flagged: unlike the training, nothing is claimed here."));
    this.tip.replaceChildren(...lines);
    this.moveTip(x, y);
    clearTimeout(this.asking);
    this.asking = setTimeout(async () => {
      try {
        const spot = await Source.json(`slide/${this.slide}/spot/${i}`);
        if (this.hovered !== i) return;
        const table = make("dl");
        for (const [name, v] of Object.entries(spot.columns).slice(0, 9)) table.append(make("dt", "", this.about.spot_shows[name] || name), make("dd", "", String(v)));
        this.tip.append(make("div", "barcode", spot.barcode), table);
        this.moveTip(x, y);
      } catch (error) { this.app.say(error.message); }
    }, 150);
  }
  moveTip(x, y) {
    const box = this.stage.getBoundingClientRect(), tip = this.tip.getBoundingClientRect();
    this.tip.style.left = `${Math.max(4, x + 16 + tip.width > box.width ? x - tip.width - 12 : x + 16)}px`;
    this.tip.style.top = `${Math.max(4, Math.min(y + 12, box.height - tip.height - 4))}px`;
  }
  listen() {
    const { stage, app } = this, held = new Map();
    const at = (e) => { const b = stage.getBoundingClientRect(); return [e.clientX - b.left, e.clientY - b.top]; };
    this.root.addEventListener("pointerdown", () => app.activate(this));
    this.root.addEventListener("focusin", () => app.activate(this));
    stage.addEventListener("wheel", (e) => { e.preventDefault(); this.zoomAt(...at(e), Math.exp(Math.max(-1, Math.min(1, e.deltaY * (e.deltaMode ? 0.05 : 0.0018))))); }, { passive: false });
    stage.addEventListener("pointerdown", (e) => {
      if (e.target.closest("button")) return; // captured, a press would never become its click
      stage.setPointerCapture(e.pointerId);
      held.set(e.pointerId, at(e));
      if (app.regions.drawing) app.regions.down(this, ...at(e));
    });
    stage.addEventListener("pointermove", (e) => {
      const now = at(e), before = held.get(e.pointerId);
      if (app.regions.drawing && held.size < 2) { this.tip.hidden = true; return app.regions.move(this, ...now, held.size > 0); }
      if (!before) return void this.hover(...now);
      this.tip.hidden = true;
      const others = [...held].filter(([id]) => id !== e.pointerId).map(([, p]) => p);
      held.set(e.pointerId, now);
      if (others.length) {
        const gap = (p) => Math.hypot(p[0] - others[0][0], p[1] - others[0][1]);
        this.zoomAt((now[0] + others[0][0]) / 2, (now[1] + others[0][1]) / 2, gap(before) / Math.max(gap(now), 1));
      } else { app.camera.x -= (now[0] - before[0]) * app.camera.um; app.camera.y -= (now[1] - before[1]) * app.camera.um; app.moved(); }
    });
    for (const name of ["pointerup", "pointercancel"]) stage.addEventListener(name, (e) => { held.delete(e.pointerId); if (app.regions.drawing) app.regions.up(this, ...at(e)); });
    stage.addEventListener("pointerleave", () => { this.tip.hidden = true; this.hovered = -1; });
    stage.addEventListener("dblclick", (e) => { if (app.regions.drawing) app.regions.end(this); else this.zoomAt(...at(e), 0.5); });
  }
  zoomAt(x, y, factor) {
    const { camera } = this.app, box = this.stage.getBoundingClientRect();
    const um = Math.max(0.02, Math.min(camera.um * factor, 200)), gone = camera.um - um;
    camera.x += (x - box.width / 2) * gone; camera.y += (y - box.height / 2) * gone;
    camera.um = um;
    this.app.moved();
  }
  fit() {
    const { about, where } = this, box = this.stage.getBoundingClientRect();
    let [left, top, right, bottom] = [0, 0, about.width_px0, about.height_px0];
    if (about.image === "none" && where.x.length) {
      left = Infinity; top = Infinity; right = -Infinity; bottom = -Infinity;
      for (let i = 0; i < where.x.length; i++) { left = Math.min(left, where.x[i]); right = Math.max(right, where.x[i]); top = Math.min(top, where.y[i]); bottom = Math.max(bottom, where.y[i]); }
    }
    const { mpp } = about, um = Math.max(((right - left) * mpp) / Math.max(box.width - 24, 50), ((bottom - top) * mpp) / Math.max(box.height - 24, 50));
    Object.assign(this.app.camera, { x: ((left + right) / 2) * mpp, y: ((top + bottom) / 2) * mpp, um: um || 1 });
  }
}
