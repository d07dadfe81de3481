// The last lines of a page that brings its maps with it.

import { start } from "./app.js";
import { OfflineSource } from "./offline.js";

const packed = JSON.parse(document.getElementById("packed").textContent);
start(document.getElementById("explorer"), new OfflineSource(packed)).then((explorer) => { globalThis.explorer = explorer; });
