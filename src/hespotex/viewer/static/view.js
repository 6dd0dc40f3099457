"use strict";
// The page: state (kept in the address), slides, gene search, display, keys.

const by = (id) => document.getElementById(id);
// A saved page has no server to ask for regions and pictures.
const isSaved = "saved" in document.body.dataset;

class App {
  constructor() {
    this.camera = { x: 0, y: 0, um: 0 };
    this.look = { opacity: 0.85, range: "auto", low: null, high: null, diverging: "", sequential: "", flagged: true, tissue: true, least: "D", anyway: false, dark: matchMedia("(prefers-color-scheme: dark)").matches };
    this.panes = []; this.levels = null;
    this.regions = new Regions(this);
  }
  async begin() {
    // Most often the first slide is wanted: it is asked for before it is known which slides there are.
    if (!location.hash) { this.early = { slide: 0, asked: Pane.ask(0) }; this.early.asked.catch(() => {}); }
    this.run = await Source.json("run");
    this.look.diverging = this.run.diverging[0]; this.look.sequential = this.run.sequential[0];
    document.title = `${this.run.title} – hespotex view`;
    by("title").textContent = this.run.title;
    if (isSaved) by("gene").placeholder = "Gene of this page  ( / )";
    for (const kind of ["diverging", "sequential"]) for (const name of this.run[kind]) by(kind).append(new Option(name.replace("_r", ""), name));
    const panes = this.readState(), placed = this.camera.um > 0;
    this.listen(); this.writeLook(); this.writeSlides();
    const region = this.readRegion();
    await this.setPanes(panes.length ? panes : [{ slide: Math.max(0, this.run.slides.findIndex((s) => !s.error)), gene: "", show: "composition" }]);
    await region;
    if (!placed && this.panes[0].about) this.panes[0].fit(); // words have changed the height of the stage
    this.moved();
    document.body.dataset.ready = "yes";
    new ResizeObserver(() => this.draw()).observe(by("panes"));
  }
  readState() {
    this.known = location.hash;
    const state = new URLSearchParams(location.hash.slice(1)), number = (k) => (state.has(k) && Number.isFinite(+state.get(k)) ? +state.get(k) : null);
    for (const k of ["low", "high", "opacity"]) if (number(k) !== null) this.look[k] = number(k);
    for (const k of ["diverging", "sequential"]) if (state.get(k) in this.run.palettes) this.look[k] = state.get(k);
    if (["auto", "shared", "hand"].includes(state.get("range"))) this.look.range = state.get("range");
    if ("ABCD".includes(state.get("least") || "-")) this.look.least = state.get("least");
    for (const k of ["flagged", "tissue", "anyway", "dark"]) if (state.has(k)) this.look[k] = state.get(k) === "1";
    const at = (state.get("at") || "").split(",").map(Number);
    if (at.length === 3 && at.every(Number.isFinite) && at[2] > 0) Object.assign(this.camera, { x: at[0], y: at[1], um: at[2] });
    this.linked = isSaved ? null : state.getAll("region"); // a saved page compares no regions
    return state.getAll("pane").slice(0, 2).map((text) => {
      const [name, show, gene] = text.split("~"), slide = this.run.slides.findIndex((s) => s.name === name);
      if (slide < 0) this.say(`The link shows the slide ${name}, which is not here.`);
      return { slide: Math.max(slide, 0), show, gene: gene || "" };
    });
  }
  async readRegion() { if (this.linked) await this.regions.restore(...this.linked); }
  writeState() {
    if (location.hash !== this.known) return; // a link that was given, and is about to be read
    const state = new URLSearchParams(), { look, camera } = this;
    for (const p of this.panes) if (p.about) state.append("pane", [this.run.slides[p.slide].name, p.show, p.gene].join("~"));
    for (const part of this.regions.state || []) state.append("region", part);
    state.set("at", [camera.x.toFixed(1), camera.y.toFixed(1), camera.um.toPrecision(4)].join(","));
    for (const [k, v] of Object.entries(look)) if (v !== null) state.set(k, v === true ? "1" : v === false ? "0" : v);
    history.replaceState(null, "", `#${state}`);
    this.known = location.hash;
  }
  async setPanes(wanted) {
    while (this.panes.length > wanted.length) this.panes.pop().root.remove();
    while (this.panes.length < wanted.length) { const pane = new Pane(this, this.panes.length); this.panes.push(pane); by("panes").append(pane.root); }
    by("panes").classList.toggle("pair", wanted.length > 1);
    by("two").setAttribute("aria-pressed", wanted.length > 1);
    this.active = this.panes.includes(this.active) ? this.active : this.panes[0];
    await Promise.all(wanted.map((w, i) => this.panes[i].set(w)));
    this.activate(this.active);
  }
  async pair() {
    const [first] = this.panes;
    if (!first.about) return;
    const state = { slide: first.slide, gene: first.gene, show: first.show };
    if (this.panes.length > 1) { await this.setPanes([state]); first.fit(); return this.moved(); }
    // Measured beside predicted, where there are both; else the unlike score, else the next slide.
    const shows = { ...first.about.shows, ...first.about.spot_shows };
    const other = "measured" in shows && first.isGene && first.show !== "measured" ? { ...state, show: "measured" } : "ood_score" in shows && first.show !== "ood_score" ? { ...state, show: "ood_score" } : { ...state, slide: (state.slide + 1) % this.run.slides.length };
    await this.setPanes([state, other]);
    first.fit();
    this.moved();
  }
  activate(pane) {
    if (!pane) return;
    const other = this.active !== pane;
    this.active = pane;
    this.panes.forEach((p) => p.root.classList.toggle("active", p === pane && this.panes.length > 1));
    if (other || !by("show").options.length) this.writeControls();
  }
  changed(pane) {
    if (pane === this.active) this.writeControls();
    for (const p of this.panes) if (p !== pane && p.layer) { p.spots.colour(p.values, p.hexes); p.writeLegend(); }
    this.writeSlides(); this.writeState(); this.draw();
  }
  writeControls() {
    const { about, show, gene } = this.active, menu = by("show");
    if (!about) return;
    menu.replaceChildren();
    for (const [title, shows] of [["Of the gene", about.shows], ["Of the spots", about.spot_shows]]) {
      if (!Object.keys(shows).length) continue;
      const group = document.createElement("optgroup");
      group.label = title;
      for (const [name, said] of Object.entries(shows)) group.append(new Option(said, name, false, name === show));
      menu.append(group);
    }
    if (document.activeElement !== by("gene")) by("gene").value = gene;
  }
  endsOf(pane) {
    const { look } = this, { layer } = pane;
    if (look.range === "hand" && look.low !== null && look.high !== null && look.low < look.high) return [look.low, look.high];
    if (look.range === "shared" && this.panes.length === 2) {
      const others = this.panes.filter((p) => p.layer && p.layer.unit === layer.unit && p.layer.diverging === layer.diverging);
      return [Math.min(...others.map((p) => p.layer.limits[0])), Math.max(...others.map((p) => p.layer.limits[1]))];
    }
    return layer.limits;
  }
  moved() { this.draw(); clearTimeout(this.noting); this.noting = setTimeout(() => this.writeState(), 250); }
  draw() {
    if (this.pending) return;
    this.pending = requestAnimationFrame(() => {
      this.pending = 0;
      this.panes.forEach((p) => p.draw());
    });
  }
  repaint() { this.panes.forEach((p) => p.layer && p.paint()); this.writeLook(); this.writeState(); }
  say(text) {
    const box = by("message");
    box.textContent = text; box.hidden = !text;
    clearTimeout(this.quiet);
    this.quiet = setTimeout(() => { box.hidden = true; }, 9000);
  }
  writeLook() {
    const { look } = this;
    document.documentElement.dataset.theme = look.dark ? "dark" : "light";
    by("opacity").value = look.opacity; by("opacity-said").textContent = `${Math.round(look.opacity * 100)} %`;
    for (const k of ["flagged", "tissue", "dark"]) by(k).checked = look[k];
    for (const k of ["diverging", "sequential", "least"]) by(k).value = look[k];
    for (const radio of document.getElementsByName("range")) radio.checked = radio.value === look.range;
    for (const k of ["low", "high"]) { by(k).value = look[k] ?? ""; by(k).disabled = look.range !== "hand"; }
  }
  // ------------------------------------------------------------------ slides
  async writeSlides() {
    const list = by("slide-list"), order = this.run.slides.map((_, i) => i), sort = by("sort").value, { slides } = this.run;
    if (sort === "verdict") order.sort((a, b) => (slides[b].suspended || 0) - (slides[a].suspended || 0) || slides[b].n_flagged / slides[b].n_spots - slides[a].n_flagged / slides[a].n_spots);
    const level = sort === "gene" && this.levels ? this.levels.levels : null;
    if (level) order.sort((a, b) => (level[b] ?? -Infinity) - (level[a] ?? -Infinity));
    by("level-note").hidden = !level;
    if (level) {
      const { about } = this.active, j = about.genes.indexOf(this.levels.gene);
      by("level-note").textContent = `${this.levels.gene}: composition pooled over each slide. ${about.level_sentence}`;
      if (j < 0) by("level-note").textContent = `${this.levels.gene} is not in this slide.`;
    }
    list.replaceChildren();
    for (const i of order) {
      const s = slides[i], item = make("li"), button = make("button", "slide");
      if (this.active && this.active.slide === i && this.active.about) button.setAttribute("aria-current", "true");
      const picture = make("img");
      Object.assign(picture, { src: Source.thumbnail(i), alt: "", loading: "lazy" });
      const words = make("span", "words");
      words.append(make("strong", "", s.name));
      if (s.error) words.append(make("span", "alarm", s.error));
      else {
        words.append(make("span", "small", `patient ${s.patient} · ${s.n_spots.toLocaleString("en")} spots`));
        words.append(make("span", `chip ${s.suspended ? "alarm" : "calm"}`, s.verdict || "likeness not tested"));
        if (level) words.append(make("span", "level", said(level[i])));
      }
      if (!s.error) button.append(picture);
      button.append(words); item.append(button); list.append(item);
      button.addEventListener("click", () => this.toSlide(i));
    }
  }
  async toSlide(i) {
    await this.active.set({ slide: i });
    if (!this.active.about) return;
    if (this.panes.length === 1) this.active.fit();
    this.moved();
    if (matchMedia("(max-width: 760px)").matches) this.toggle("slides", "toggle-list", false);
  }
  async sortBy() {
    if (by("sort").value === "gene" && this.active.gene) {
      try { this.levels = await Source.json(`levels?gene=${encodeURIComponent(this.active.gene)}`); } catch (error) { this.say(error.message); }
    }
    this.writeSlides();
  }
  // ------------------------------------------------------------------ search
  found(text) {
    const { about } = this.active, { grade, score, evidence, scope } = about.claims, asked = text.trim().toLowerCase(), least = "ABCD".indexOf(this.look.least);
    const rows = [], shown = (rank) => least >= 3 || (rank >= 0 && rank <= least);
    about.genes.forEach((gene, j) => {
      const at = gene.toLowerCase().indexOf(asked), rank = "ABCD".indexOf(grade[j]);
      if (at < 0 || !shown(rank)) return;
      rows.push({ gene, grade: grade[j], evidence: evidence[j] + scopeSaid(scope[j]), score: score[j], key: (at > 0 ? 1000 : 0) + (gene.length === asked.length ? -500 : 0) + (rank < 0 ? 5 : rank) * 10 - (score[j] || 0) });
    });
    about.sets.forEach((gene, k) => { if (gene.toLowerCase().includes(asked) && shown("ABCD".indexOf(about.set_grades[k]))) rows.push({ gene, grade: about.set_grades[k], evidence: "gene set", score: null, key: 900 }); });
    return rows.sort((a, b) => a.key - b.key).slice(0, 60);
  }
  writeFound() {
    const list = by("found"), rows = this.found(by("gene").value === this.active.gene ? "" : by("gene").value);
    list.replaceChildren();
    rows.forEach((row, i) => {
      const item = make("li");
      Object.assign(item, { id: `found-${i}` });
      item.setAttribute("role", "option"); item.setAttribute("aria-selected", i === 0); item.dataset.gene = row.gene;
      item.append(make("span", "name", row.gene), gradeChip(row.grade, row.evidence), make("span", "small", `${row.evidence}${row.score === null ? "" : `, PCC ${said(row.score, 2)}`}`));
      item.addEventListener("pointerdown", (e) => { e.preventDefault(); this.choose(row.gene); });
      list.append(item);
    });
    if (!rows.length) list.append(make("li", "small", "No gene of this slide is called so, or none has that grade."));
    list.hidden = false;
    by("gene").setAttribute("aria-expanded", "true");
    by("gene").setAttribute("aria-activedescendant", rows.length ? "found-0" : "");
  }
  step(by_) {
    const items = [...document.querySelectorAll("#found [role=option]")], now = items.findIndex((i) => i.getAttribute("aria-selected") === "true");
    const next = items[Math.max(0, Math.min(items.length - 1, now + by_))];
    items.forEach((i) => i.setAttribute("aria-selected", i === next));
    if (next) { next.scrollIntoView({ block: "nearest" }); by("gene").setAttribute("aria-activedescendant", next.id); }
  }
  hideFound() { by("found").hidden = true; by("gene").setAttribute("aria-expanded", "false"); }
  choose(gene) {
    this.hideFound(); by("gene").value = gene; by("gene").blur();
    this.active.set({ gene, show: this.active.isGene ? this.active.show : "composition" }).then(() => { if (by("sort").value === "gene") this.sortBy(); });
  }
  toggle(panel, button, on = by(panel).hidden) { by(panel).hidden = !on; by(button).setAttribute("aria-expanded", on); this.draw(); }
  async figure(format) {
    const { camera, look } = this, box = this.panes[0].stage.getBoundingClientRect();
    const panes = this.panes.filter((p) => p.layer).map((p) => ({ slide: p.slide, gene: p.gene, show: p.show, palette: look[p.layer.diverging ? "diverging" : "sequential"], limits: p.layer.categories.length ? null : this.endsOf(p) }));
    try {
      const answer = await Source.ask("figure", { method: "POST", body: JSON.stringify({ panes, centre_um: [camera.x, camera.y], size_um: [box.width * camera.um, box.height * camera.um], opacity: look.opacity, flagged: look.flagged, anyway: look.anyway, format }) });
      saveFile(`${this.run.slides[this.panes[0].slide].name}_${this.panes.map((p) => (p.isGene ? p.gene : p.show)).join("_")}.${format}`, await answer.blob());
    } catch (error) { this.say(error.message); }
  }
  listen() {
    const { look } = this, gene = by("gene"), on = (id, what, act) => by(id).addEventListener(what, act);
    gene.addEventListener("input", () => this.writeFound());
    gene.addEventListener("focus", () => { gene.select(); if (this.active.about) this.writeFound(); });
    gene.addEventListener("blur", () => this.hideFound());
    gene.addEventListener("keydown", (e) => {
      if (e.key === "ArrowDown" || e.key === "ArrowUp") { e.preventDefault(); this.step(e.key === "ArrowDown" ? 1 : -1); }
      else if (e.key === "Enter") { const chosen = document.querySelector("#found [aria-selected=true]"); if (chosen) this.choose(chosen.dataset.gene); }
      else if (e.key === "Escape") gene.blur();
      e.stopPropagation();
    });
    on("show", "change", () => this.active.set({ show: by("show").value }));
    on("two", "click", () => this.pair());
    on("lasso", "click", () => this.regions.start(!this.regions.drawing));
    on("toggle-list", "click", () => this.toggle("slides", "toggle-list"));
    on("toggle-more", "click", () => this.toggle("more", "toggle-more"));
    on("sort", "change", () => this.sortBy());
    on("help", "click", () => by("keys").showModal());
    on("opacity", "input", () => { look.opacity = +by("opacity").value; this.writeLook(); this.moved(); });
    for (const k of ["flagged", "tissue", "dark"]) on(k, "change", () => { look[k] = by(k).checked; this.repaint(); });
    for (const k of ["diverging", "sequential", "least"]) on(k, "change", () => { look[k] = by(k).value; this.repaint(); if (this.regions.table) this.regions.write(); });
    for (const radio of document.getElementsByName("range")) radio.addEventListener("change", () => {
      look.range = radio.value;
      if (look.range === "hand" && this.active.layer) [look.low, look.high] = this.active.layer.limits.map((v) => +v.toPrecision(4));
      this.repaint();
    });
    for (const k of ["low", "high"]) on(k, "change", () => { look[k] = by(k).value === "" ? null : +by(k).value; this.repaint(); });
    for (const button of document.querySelectorAll("[data-figure]")) button.addEventListener("click", () => { by("save").open = false; this.figure(button.dataset.figure); });
    on("copy-link", "click", async () => { this.writeState(); by("save").open = false; try { await navigator.clipboard.writeText(location.href); this.say(`The link is copied; it opens on this machine while the viewer runs.${this.regions.isLong ? " The region has too many corners for it: save it as GeoJSON." : ""}`); } catch { this.say(location.href); } });
    document.addEventListener("keydown", (e) => this.key(e));
    window.addEventListener("hashchange", async () => { const panes = this.readState(); if (panes.length) await Promise.all([this.readRegion(), this.setPanes(panes)]); this.repaint(); });
  }
  key(e) {
    if (e.ctrlKey || e.metaKey || e.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(e.target.tagName) || by("keys").open || !this.active) return;
    const pane = this.active, box = pane.stage.getBoundingClientRect(), step = 80 * this.camera.um;
    const go = (x, y) => { this.camera.x += x * step; this.camera.y += y * step; this.moved(); };
    const near = (n) => this.toSlide((pane.slide + n + this.run.slides.length) % this.run.slides.length);
    const acts = {
      "/": () => by("gene").focus(), "+": () => pane.zoomAt(box.width / 2, box.height / 2, 0.7), "=": () => pane.zoomAt(box.width / 2, box.height / 2, 0.7),
      "-": () => pane.zoomAt(box.width / 2, box.height / 2, 1 / 0.7), ArrowLeft: () => go(-1, 0), ArrowRight: () => go(1, 0), ArrowUp: () => go(0, -1), ArrowDown: () => go(0, 1),
      0: () => { pane.fit(); this.moved(); }, 2: () => this.pair(), l: () => isSaved || this.regions.start(!this.regions.drawing), d: () => { this.look.dark = !this.look.dark; this.repaint(); },
      n: () => near(1), p: () => near(-1), "?": () => by("keys").showModal(), Escape: () => this.regions.start(false),
    };
    const act = acts[e.key] || acts[e.key.toLowerCase()];
    if (act) { e.preventDefault(); act(); }
  }
}

const app = new App();
if (matchMedia("(max-width: 760px)").matches) { by("slides").hidden = true; by("toggle-list").setAttribute("aria-expanded", "false"); }
app.begin().catch((error) => app.say(error.message));
