// Where maps come from: the server that made this page. A notebook and a page by itself have sources of their own,
// with the same two functions.

/** Frames out of bytes as they come: what they say, and float32 arrays by their names. */
export class Frames {
  constructor() {
    this.left = new Uint8Array(0);
  }

  *take(bytes) {
    const joined = new Uint8Array(this.left.length + bytes.length);
    joined.set(this.left);
    joined.set(bytes, this.left.length);
    let at = 0;
    while (joined.length - at >= 4) {
      const length = new DataView(joined.buffer, at).getUint32(0, true);
      if (joined.length - at < 4 + length) break;
      yield frameOf(joined.slice(at + 4, at + 4 + length));
      at += 4 + length;
    }
    this.left = joined.slice(at);
  }
}

/** One frame without the length before it. */
export function frameOf(bytes) {
  const length = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
  const facts = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + length)));
  const arrays = {};
  let at = bytes.byteOffset + 4 + length;
  for (const [name, ...shape] of facts.arrays) {
    const size = shape.reduce((one, two) => one * two, 1);
    arrays[name] = { values: new Float32Array(bytes.buffer.slice(at, at + 4 * size)), shape };
    at += 4 * size;
  }
  return { facts, arrays };
}

export class ServerSource {
  async about() {
    return (await fetch("about")).json();
  }

  /** Asks, and hands on each frame as it comes; rejects with the server's sentence where it refuses. */
  async ask(what, question, onFrame, signal) {
    const answer = await fetch(`ask/${what}`, { method: "POST", body: JSON.stringify(question), signal });
    if (!answer.ok) throw new Error(await answer.text());
    const frames = new Frames();
    const reader = answer.body.getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      for (const frame of frames.take(value)) {
        if (frame.facts.error) throw new Error(frame.facts.error);
        onFrame(frame);
      }
    }
  }
}

/** The one frame of an answer that has one. */
export async function askOne(source, what, question, signal) {
  let found = null;
  await source.ask(what, question, (frame) => { found = frame; }, signal);
  return found;
}
