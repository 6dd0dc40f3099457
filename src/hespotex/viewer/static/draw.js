"use strict";
// Drawing: tiles of a slide (canvas 2D), spots (WebGL, else canvas 2D), and where data come from.

const Source = {
  async json(path, post) {
    const asked = post === undefined ? {} : { method: "POST", body: typeof post === "string" ? post : JSON.stringify(post) };
    const answer = await this.ask(path, asked);
    return answer.json();
  },
  async bytes(path) { return (await this.ask(path, {})).arrayBuffer(); },
  async ask(path, options) {
    let answer;
    try { answer = await fetch(path, options); } catch { throw new Error("The viewer does not answer. Was it ended?"); }
    if (answer.ok) return answer;
    let said = `The viewer answered ${answer.status}.`;
    try { said = (await answer.json()).error || said; } catch { /* no JSON */ }
    throw new Error(said);
  },
  tile(slide, zoom, column, row) { return `slide/${slide}/tile/${zoom}/${column}/${row}`; },
  thumbnail(slide) { return `slide/${slide}/thumbnail`; },
};

class Tiles {
  // Tiles of one slide; coarser ones stand in while finer ones are on their way. The coarsest is asked for where the slide
  // is not seen whole: to make it, the whole of the smallest level is read.
  constructor(slide, about, redraw) {
    Object.assign(this, { slide, about, redraw });
    this.kept = new Map();
  }
  get(zoom, column, row, load) {
    const key = `${zoom}/${column}/${row}`;
    let tile = this.kept.get(key);
    if (tile) { this.kept.delete(key); this.kept.set(key, tile); }
    else if (load) {
      tile = new Image();
      tile.onload = () => { tile.there = true; this.redraw(); };
      tile.src = Source.tile(this.slide, zoom, column, row);
      this.kept.set(key, tile);
      if (this.kept.size > 600) this.kept.delete(this.kept.keys().next().value);
    }
    return tile && tile.there ? tile : null;
  }
  draw(context, view, ratio) {
    const { width_px0: W, height_px0: H, max_zoom: deepest, finest = deepest, image } = this.about;
    if (image === "none") return;
    const zoom = Math.max(0, Math.min(finest, Math.ceil(deepest - Math.log2(view.px0 / ratio) - 0.3)));
    const side = 256 * 2 ** (deepest - zoom);
    const [left, top] = [Math.max(0, view.left), Math.max(0, view.top)];
    const [right, bottom] = [Math.min(W, view.left + view.width), Math.min(H, view.top + view.height)];
    context.save();
    context.beginPath();
    context.rect(-view.left / view.px0, -view.top / view.px0, W / view.px0, H / view.px0);
    context.clip();
    for (let row = Math.floor(top / side); row * side < bottom; row++)
      for (let column = Math.floor(left / side); column * side < right; column++) this.drawOne(context, view, zoom, column, row, side);
    context.restore();
  }
  drawOne(context, view, zoom, column, row, side) {
    const x = (column * side - view.left) / view.px0, y = (row * side - view.top) / view.px0, s = side / view.px0;
    let tile = this.get(zoom, column, row, true);
    if (tile) return context.drawImage(tile, x, y, s + 0.5, s + 0.5);
    for (let up = 1; up <= zoom; up++) {
      tile = this.get(zoom - up, column >> up, row >> up, up === zoom && zoom > 3);
      if (!tile) continue;
      const part = 256 / 2 ** up, mask = 2 ** up - 1;
      return context.drawImage(tile, (column & mask) * part, (row & mask) * part, part, part, x, y, s + 0.5, s + 0.5);
    }
  }
}

const VERTEX = `#version 300 es
in vec2 corner; in vec2 at; in float value; in float flag;
uniform vec2 origin; uniform vec2 scale; uniform float radius; uniform vec2 ends;
out vec2 place; flat out float t; flat out float flagged; flat out float known;
void main() {
  place = corner; flagged = flag; known = value > -1e29 ? 1.0 : 0.0;
  t = clamp((value - ends.x) / (ends.y - ends.x), 0.0, 1.0);
  gl_Position = vec4((at - origin) * scale * vec2(1, -1) + vec2(-1, 1) + corner * radius * scale, 0, 1);
}`;
const FRAGMENT = `#version 300 es
precision highp float;
in vec2 place; flat in float t; flat in float flagged; flat in float known;
uniform sampler2D palette; uniform float opacity; uniform float pixel; uniform float showFlagged;
out vec4 colour;
void main() {
  float d = length(place);
  if (d > 1.0) discard;
  float rim = 1.0 - smoothstep(1.0 - 1.6 * pixel, 1.0 - 0.6 * pixel, d);
  if (flagged > 0.5) {
    if (showFlagged < 0.5) discard;
    vec2 p = gl_FragCoord.xy;
    float lines = min(mod(p.x + p.y, 6.0), mod(p.x - p.y, 6.0)) < 1.3 ? 1.0 : 0.0;
    float on = max(lines, 1.0 - rim);
    vec3 c = mix(vec3(1.0), vec3(0.70, 0.11, 0.12), on);
    float a = mix(0.55, 0.95, on);
    colour = vec4(c * a, a); return;
  }
  if (known < 0.5) { float a = (1.0 - rim) * 0.7; colour = vec4(vec3(0.45) * a, a); return; }
  vec3 c = texture(palette, vec2((t * 255.0 + 0.5) / 256.0, 0.5)).rgb;
  c = mix(c * 0.72, c, rim);
  float a = opacity * (1.0 - smoothstep(1.0 - pixel, 1.0, d) * 0.6);
  colour = vec4(c * a, a);
}`;

class Spots {
  // Spots of one pane on a WebGL canvas; pixels of an image where there are very many.
  constructor(canvas) {
    this.canvas = canvas;
    this.gl = canvas.getContext("webgl2", { premultipliedAlpha: true, antialias: false });
    if (!this.gl) { this.flat = canvas.getContext("2d"); return; }
    const gl = this.gl, program = gl.createProgram();
    for (const [kind, text] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, text); gl.compileShader(shader); gl.attachShader(program, shader);
    }
    gl.linkProgram(program); gl.useProgram(program);
    this.at = Object.fromEntries(["origin", "scale", "radius", "ends", "opacity", "pixel", "showFlagged"].map((n) => [n, gl.getUniformLocation(program, n)]));
    this.buffers = {};
    for (const [name, size, each] of [["corner", 2, 0], ["at", 2, 1], ["value", 1, 1], ["flag", 1, 1]]) {
      const buffer = (this.buffers[name] = gl.createBuffer()), where = gl.getAttribLocation(program, name);
      gl.bindBuffer(gl.ARRAY_BUFFER, buffer); gl.enableVertexAttribArray(where);
      gl.vertexAttribPointer(where, size, gl.FLOAT, false, 0, 0); gl.vertexAttribDivisor(where, each);
    }
    this.fill("corner", new Float32Array([-1, -1, 1, -1, -1, 1, 1, 1]));
    gl.bindTexture(gl.TEXTURE_2D, gl.createTexture());
    for (const [name, value] of [[gl.TEXTURE_MIN_FILTER, gl.NEAREST], [gl.TEXTURE_MAG_FILTER, gl.NEAREST], [gl.TEXTURE_WRAP_S, gl.CLAMP_TO_EDGE], [gl.TEXTURE_WRAP_T, gl.CLAMP_TO_EDGE]]) gl.texParameteri(gl.TEXTURE_2D, name, value);
    gl.enable(gl.BLEND); gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
  }
  fill(name, values) {
    this.gl.bindBuffer(this.gl.ARRAY_BUFFER, this.buffers[name]);
    this.gl.bufferData(this.gl.ARRAY_BUFFER, values, this.gl.STATIC_DRAW);
  }
  place(spots) {
    this.spots = spots; this.n = spots.x.length;
    if (!this.gl || spots.raster) return;
    const at = new Float32Array(2 * this.n);
    for (let i = 0; i < this.n; i++) { at[2 * i] = spots.x[i]; at[2 * i + 1] = spots.y[i]; }
    this.fill("at", at); this.fill("flag", Float32Array.from(spots.flagged));
  }
  colour(values, hexes) {
    this.values = values; this.hexes = hexes;
    this.rgba = new Uint8Array(1024);
    hexes.forEach((hex, i) => this.rgba.set([1, 3, 5].map((k) => parseInt(hex.slice(k, k + 2), 16)).concat(255), 4 * i));
    this.image = null;
    if (!this.gl || !this.spots) return;
    if (!this.spots.raster) this.fill("value", values.map((v) => (Number.isNaN(v) ? -1e30 : v)));
    this.gl.texImage2D(this.gl.TEXTURE_2D, 0, this.gl.RGBA, 256, 1, 0, this.gl.RGBA, this.gl.UNSIGNED_BYTE, this.rgba);
  }
  draw(view, look) {
    if (this.gl) { this.gl.viewport(0, 0, this.canvas.width, this.canvas.height); this.gl.clearColor(0, 0, 0, 0); this.gl.clear(this.gl.COLOR_BUFFER_BIT); }
    else this.flat.clearRect(0, 0, this.canvas.width, this.canvas.height);
    if (!this.values || !this.spots || this.values.length !== this.n || this.spots.raster) return;
    if (!this.gl) return this.drawFlat(view, look);
    const gl = this.gl, at = this.at;
    gl.uniform2f(at.origin, view.left, view.top); gl.uniform2f(at.scale, 2 / view.width, 2 / view.height);
    gl.uniform1f(at.radius, look.radius); gl.uniform2f(at.ends, ...look.ends); gl.uniform1f(at.opacity, look.opacity);
    gl.uniform1f(at.pixel, Math.min(0.5, (view.px0 / look.radius) / (window.devicePixelRatio || 1)));
    gl.uniform1f(at.showFlagged, look.flagged ? 1 : 0);
    gl.drawArraysInstanced(gl.TRIANGLE_STRIP, 0, 4, this.n);
  }
  drawFlat(view, look) {
    const c = this.flat, ratio = this.canvas.width / (view.width / view.px0), r = (look.radius / view.px0) * ratio;
    c.globalAlpha = look.opacity;
    for (let i = 0; i < this.n; i++) {
      const x = ((this.spots.x[i] - view.left) / view.px0) * ratio, y = ((this.spots.y[i] - view.top) / view.px0) * ratio;
      if (x < -r || y < -r || x > this.canvas.width + r || y > this.canvas.height + r || (this.spots.flagged[i] && !look.flagged)) continue;
      c.fillStyle = this.spots.flagged[i] ? "#b31d1f" : this.hexAt(this.values[i], look.ends);
      c.beginPath(); c.arc(x, y, Math.max(r, 0.7), 0, 7); c.fill();
    }
    c.globalAlpha = 1;
  }
  hexAt(value, [low, high]) {
    if (Number.isNaN(value)) return "#8886";
    return this.hexes[Math.max(0, Math.min(255, Math.round(((value - low) / (high - low)) * 255)))];
  }
  drawImage(context, view, look) {
    // A fine map: one pixel a spot, levels of half the size each for far views.
    const { raster } = this.spots;
    const key = `${look.ends}${look.flagged}`;
    if (!this.image || this.imageKey !== key) { this.image = this.pyramid(raster, look); this.imageKey = key; }
    let level = 0;
    while (level + 1 < this.image.length && raster.px0 * 2 ** (level + 1) <= view.px0) level++;
    const picture = this.image[level], unit = (raster.px0 * 2 ** level) / view.px0;
    context.save();
    context.globalAlpha = look.opacity; context.imageSmoothingEnabled = unit < 1;
    context.drawImage(picture, -view.left / view.px0, -view.top / view.px0, picture.width * unit, picture.height * unit);
    context.restore();
  }
  pyramid(raster, look) {
    const { index, width, height } = raster, [low, high] = look.ends, colours = new Uint32Array(this.rgba.buffer.slice(0));
    const data = new ImageData(width, height), out = new Uint32Array(data.data.buffer), flagged = this.spots.flagged;
    const red = new Uint32Array(new Uint8Array([179, 29, 31, 235]).buffer)[0], pale = new Uint32Array(new Uint8Array([255, 255, 255, 150]).buffer)[0];
    for (let p = 0; p < index.length; p++) {
      const spot = index[p];
      if (spot < 0) continue;
      if (flagged[spot]) { if (look.flagged) out[p] = ((p % width) + ((p / width) | 0)) % 4 === 0 ? red : pale; continue; }
      const value = this.values[spot];
      if (!Number.isNaN(value)) out[p] = colours[Math.max(0, Math.min(255, Math.round(((value - low) / (high - low)) * 255)))];
    }
    let canvas = document.createElement("canvas");
    canvas.width = width; canvas.height = height;
    canvas.getContext("2d").putImageData(data, 0, 0);
    const levels = [canvas];
    while (Math.max(canvas.width, canvas.height) > 512) {
      const half = document.createElement("canvas");
      half.width = Math.ceil(canvas.width / 2); half.height = Math.ceil(canvas.height / 2);
      half.getContext("2d").drawImage(canvas, 0, 0, canvas.width / 2, canvas.height / 2);
      levels.push((canvas = half));
    }
    return levels;
  }
}

class Nearest {
  // The spot under a point, by a grid of cells one pitch wide.
  constructor(spots, pitch) {
    Object.assign(this, { spots, pitch });
    this.cells = new Map();
    for (let i = 0; i < spots.x.length; i++) {
      const key = this.key(spots.x[i], spots.y[i]);
      if (!this.cells.has(key)) this.cells.set(key, []);
      this.cells.get(key).push(i);
    }
  }
  key(x, y) { return Math.floor(x / this.pitch) * 2000003 + Math.floor(y / this.pitch); }
  at(x, y, within) {
    let best = -1, least = within * within;
    for (let dx = -1; dx <= 1; dx++) for (let dy = -1; dy <= 1; dy++)
      for (const i of this.cells.get(this.key(x + dx * this.pitch, y + dy * this.pitch)) || []) {
        const d = (this.spots.x[i] - x) ** 2 + (this.spots.y[i] - y) ** 2;
        if (d <= least) { least = d; best = i; }
      }
    return best;
  }
}
