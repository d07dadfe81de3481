// Tiles of one map: asked for in batches, the nearest first; what has left the view is not waited for; bounded in bytes.

const MOST = 96 << 20;

export class Tiles {
  /** `changed` is called when a tile has come, `failed` with a sentence. */
  constructor(source, { map, reduce, shape, side, changed, failed }) {
    Object.assign(this, { source, map, reduce, shape, side, changed, failed });
    this.kept = new Map();
    this.bytes = 0;
    this.running = null;
  }

  key(levels, row, column) {
    return `${levels[0]},${levels[1]},${row},${column}`;
  }

  get(levels, row, column) {
    const key = this.key(levels, row, column);
    const found = this.kept.get(key);
    if (found) {
      this.kept.delete(key);
      this.kept.set(key, found);
    }
    return found;
  }

  get waiting() {
    return this.running !== null;
  }

  /** Wants these tiles `[k, l, row, column]`, the first most. */
  want(tiles) {
    const missing = tiles.filter(([down, across, row, column]) => !this.kept.has(this.key([down, across], row, column)));
    const wanted = missing.map(String).join(";");
    if (this.running && this.running.left.size && [...this.running.left].every((key) => wanted.includes(key))
        && missing.every((tile) => this.running.left.has(String(tile)))) return;
    this.running?.controller.abort();
    this.running = null;
    if (missing.length) this.fetch(missing.slice(0, 256));
  }

  async fetch(tiles) {
    const running = { controller: new AbortController(), left: new Set(tiles.map(String)) };
    this.running = running;
    try {
      await this.source.ask("tiles", { map: this.map, reduce: this.reduce, tiles }, (frame) => {
        const tile = tiles[frame.facts.number];
        running.left.delete(String(tile));
        this.keep(this.key(tile.slice(0, 2), tile[2], tile[3]), frame.arrays.values);
        this.changed();
      }, running.controller.signal);
    } catch (error) {
      if (error.name !== "AbortError") this.failed(error.message);
    }
    if (this.running === running) {
      this.running = null;
      this.changed();
    }
  }

  keep(key, { values, shape }) {
    this.kept.set(key, { values, rows: shape[0], columns: shape[1], painted: null, signature: "" });
    this.bytes += values.length * 8;
    while (this.bytes > MOST && this.kept.size > 1) {
      const [oldest, tile] = this.kept.entries().next().value;
      this.kept.delete(oldest);
      this.bytes -= tile.values.length * 8;
    }
  }

  /** A tile as pixels of a scale. */
  painted(tile, scale, masked) {
    const signature = `${scale.signature}/${masked}`;
    if (tile.signature !== signature) {
      const canvas = tile.painted ?? document.createElement("canvas");
      canvas.width = tile.columns;
      canvas.height = tile.rows;
      const context = canvas.getContext("2d");
      const image = context.createImageData(tile.columns, tile.rows);
      scale.paint(tile.values, image.data, masked);
      context.putImageData(image, 0, 0);
      Object.assign(tile, { painted: canvas, signature });
    }
    return tile.painted;
  }

  stop() {
    this.running?.controller.abort();
    this.running = null;
  }
}
