// What a model saw or heard, beside the map: a picture whose patches answer, with a detector's boxes.

import { say } from "./words.js";

export class Media {
  constructor(explorer) {
    this.explorer = explorer;
    this.box = explorer.of("media");
    const { media } = explorer.facts.views[0];
    this.media = media ?? {};
    if (!this.media.picture && !this.media.answer) return;
    this.box.hidden = false;
    const title = Object.assign(document.createElement("h2"), { textContent: say(this.media.picture ? "picture" : "answer") });
    const told = Object.assign(document.createElement("p"), { className: "note", textContent: this.media.answer ?? "" });
    this.box.append(title, told);
    if (this.media.picture) this.picture();
  }

  picture() {
    const frame = Object.assign(document.createElement("div"), { className: "picture" });
    const image = Object.assign(document.createElement("img"), { src: this.media.picture, alt: say("picture") });
    this.canvas = document.createElement("canvas");
    frame.append(image, this.canvas);
    this.box.append(frame);
    image.addEventListener("load", () => this.draw());
    this.canvas.addEventListener("click", (event) => {
      const { width, height } = this.canvas.getBoundingClientRect();
      const [rows, columns] = this.media.grid;
      const row = Math.min(Math.floor((event.offsetY / height) * rows), rows - 1);
      const column = Math.min(Math.floor((event.offsetX / width) * columns), columns - 1);
      const at = this.media.prefix + row * columns + column;
      const { shape } = this.explorer.maps[0].shown;
      const axis = this.explorer.asking.axis;
      if (axis === "query" && at < shape[0]) this.explorer.pick({ row: at, column: at });
      if (axis === "key" && at < shape[1]) this.explorer.pick({ row: Math.min(at, shape[0] - 1), column: at });
    });
  }

  /** Shows the weights of a row or a column over the patches, and which patch is meant. */
  show(values, at) {
    [this.values, this.at] = [values, at];
    if (this.canvas) this.draw();
  }

  draw() {
    const { context, width, height } = this.explorer.maps[0].context(this.canvas);
    const { grid: [rows, columns], prefix, boxes } = this.media;
    const [down, across] = [height / rows, width / columns];
    const { mark } = this.explorer.maps[0].colours;
    if (this.values && this.values.length >= prefix + rows * columns) {
      const patches = this.values.subarray(prefix, prefix + rows * columns);
      const most = Math.max(...patches, 1e-12);
      patches.forEach((value, place) => {
        // What is not attended to is dimmed, so that the picture's own colours stay.
        context.fillStyle = `rgba(10, 14, 20, ${0.75 * (1 - Math.sqrt(Math.max(value, 0) / most))})`;
        context.fillRect((place % columns) * across, Math.floor(place / columns) * down, across + 0.5, down + 0.5);
      });
    }
    if (this.at >= prefix && this.at < prefix + rows * columns) {
      const place = this.at - prefix;
      context.strokeStyle = mark;
      context.lineWidth = 2;
      context.strokeRect((place % columns) * across, Math.floor(place / columns) * down, across, down);
    }
    for (const [label, score, left, top, wide, high] of boxes ?? []) {
      context.strokeStyle = "#ffd166";
      context.lineWidth = 1.5;
      context.strokeRect(left * width, top * height, wide * width, high * height);
      context.fillStyle = "#ffd166";
      context.font = "11px system-ui, sans-serif";
      context.fillText(`${label} ${score.toFixed(2)}`, left * width + 3, Math.max(top * height - 3, 10));
    }
  }
}
