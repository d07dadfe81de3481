// The page in a notebook's cell: questions are messages to the kernel.

import { start } from "./app.js";
import { frameOf } from "./source.js";

class NotebookSource {
  constructor(model) {
    this.model = model;
    this.asked = 0;
    this.waiting = new Map();
    model.on("msg:custom", (told, buffers) => this.hear(told, buffers));
  }

  async about() {
    return this.model.get("facts");
  }

  ask(what, question, onFrame, signal) {
    this.asked += 1;
    const number = this.asked;
    return new Promise((resolve, reject) => {
      this.waiting.set(number, { onFrame, resolve, reject });
      signal?.addEventListener("abort", () => {
        this.waiting.delete(number);
        reject(new DOMException("", "AbortError"));
      });
      this.model.send({ number, what, question });
    });
  }

  hear({ number, done, error }, buffers) {
    const asked = this.waiting.get(number);
    if (!asked) return;
    for (const buffer of buffers ?? []) {
      asked.onFrame(frameOf(new Uint8Array(buffer.buffer ?? buffer, buffer.byteOffset ?? 0, buffer.byteLength).slice()));
    }
    if (!done) return;
    this.waiting.delete(number);
    if (error) asked.reject(new Error(error));
    else asked.resolve();
  }
}

function render({ model, el }) {
  const root = document.createElement("div");
  root.id = "explorer";
  root.className = "regard-explorer";
  root.dataset.packed = "yes";
  root.style.height = `${model.get("height")}px`;
  el.append(root);
  start(root, new NotebookSource(model), { keepsAddress: false });
}
