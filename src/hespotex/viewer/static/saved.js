// A saved page: every answer lies in it, packed under the path that would have been asked.
const saved = JSON.parse(document.getElementById("saved").textContent);
Object.assign(Source, {
  told: {},
  async ask(path) {
    const spot = /^slide\/(\d+)\/spot\/(\d+)$/.exec(path);
    if (spot) return Response.json(await this.spot(spot[1], +spot[2]));
    // What is of the spots does not hang on the gene that is chosen meanwhile.
    const packed = saved[path] ?? saved[path.replace(/&gene=.*$/, "&gene=")];
    if (packed === undefined) throw new Error("This saved page does not hold that. hespotex view shows all of the run.");
    const bytes = Uint8Array.from(atob(packed), (c) => c.charCodeAt(0));
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip")));
  },
  async spot(slide, i) {
    const { names, columns } = (this.told[slide] ??= await this.json(`slide/${slide}/told`));
    return { barcode: names[i], columns: Object.fromEntries(Object.entries(columns).map(([k, v]) => [k, v[i]])) };
  },
  picture(path) { return path in saved ? `data:image/jpeg;base64,${saved[path]}` : ""; },
  tile(slide, zoom, column, row) { return this.picture(`slide/${slide}/tile/${zoom}/${column}/${row}`); },
  thumbnail(slide) { return this.picture(`slide/${slide}/thumbnail`); },
});
