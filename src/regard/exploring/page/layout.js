// The page's own elements, in one place: what the modules fill.

export const LAYOUT = `
<header class="bar">
  <h1><span class="mark" aria-hidden="true"></span><span id="title"></span></h1>
  <div class="group" role="group">
    <button id="previous" data-say="previousHead">‹</button>
    <select id="layer" data-say="layer"></select>
    <select id="head" data-say="head"></select>
    <button id="next" data-say="nextHead">›</button>
    <select id="means" data-say="meansOf"></select>
  </div>
  <div class="group" role="group">
    <select id="reduce" data-say="reduce"></select>
    <select id="relative" data-say="relative"></select>
    <label class="check"><input type="checkbox" id="apart"><span data-t="apart"></span></label>
    <label class="check"><input type="checkbox" id="words"><span data-t="words"></span></label>
  </div>
  <div class="group" role="group">
    <label><span data-t="compare"></span> <select id="compare" data-say="compare"></select></label>
    <label class="check" id="difference-box" hidden><input type="checkbox" id="difference" checked><span data-t="difference"></span></label>
  </div>
  <span class="push"></span>
  <div class="group" role="group">
    <button id="zoom-out" data-say="zoomOut">−</button><button id="fit" data-t="fit"></button><button id="zoom-in" data-say="zoomIn">+</button>
  </div>
  <details class="menu" id="keep"><summary data-t="keep"></summary><div>
    <button id="keep-link" data-t="keepLink"></button>
    <button id="keep-png">PNG</button><button id="keep-svg">SVG</button><button id="keep-csv">CSV</button><button id="keep-npz">NPZ</button>
  </div></details>
  <button id="language" lang="zh">中文</button>
  <button id="theme" data-say="theme">◐</button>
</header>
<p class="trouble" id="trouble" role="alert" hidden></p>
<main>
  <nav class="heads" aria-label="heads">
    <div class="row"><h2 data-t="heads"></h2>
      <select id="sort" data-say="sort"></select>
    </div>
    <div class="row"><label class="check"><input type="checkbox" id="thumb-max"><span data-t="thumbMax"></span></label></div>
    <div class="row"><input id="filter" type="search" data-say="filter" spellcheck="false" autocomplete="off"></div>
    <div id="grid" class="grid" role="listbox"></div>
    <p id="progress" class="note"></p>
  </nav>
  <section class="stage">
    <div class="maps" id="maps"></div>
    <p id="sentence" class="sentence" aria-live="polite"></p>
    <div class="legend">
      <canvas id="legend" width="240" height="10"></canvas><span id="legend-low"></span><span id="legend-high"></span>
      <span class="masked-box"></span><span data-t="masked"></span><span id="clipped"></span>
      <select id="scale" data-say="scale"></select>
      <select id="limits" data-say="limits"></select>
      <span id="by-hand" hidden><input id="low" type="text" inputmode="decimal" size="6" data-say="low"><input id="high" type="text" inputmode="decimal" size="6" data-say="high"></span>
      <label class="check"><input type="checkbox" id="lock"><span data-t="lock"></span></label>
      <select id="colours" data-say="colours"></select>
    </div>
  </section>
  <aside class="side">
    <section id="media" hidden></section>
    <section><h2 data-t="ask"></h2>
      <form id="find-form" class="row"><input id="find" type="search" data-say="findToken" spellcheck="false" autocomplete="off"><button data-t="find"></button></form>
      <div id="found" class="list"></div>
    </section>
    <section id="profile" hidden><h2 id="profile-title"></h2>
      <div class="row"><select id="profile-axis" data-say="profileOf"></select><button id="unpick" data-t="unpick"></button></div>
      <canvas id="profile-canvas" height="70"></canvas>
      <ol id="profile-top" class="top"></ol>
      <div id="running" class="running" lang=""></div>
    </section>
    <section><h2 data-t="strongest"></h2>
      <div class="row"><button id="strongest-go" data-t="strongestGo"></button>
        <label><span data-t="band"></span> <input id="band" type="number" min="0" max="100000" value="2"></label></div>
      <ol id="strongest" class="top"></ol>
    </section>
    <section id="shares-box" hidden><h2 data-t="shares"></h2><div class="row"><select id="band-kind" data-say="bands"></select>
      <button id="shares-go" data-t="sharesGo"></button></div><div id="shares"></div></section>
    <section><h2 data-t="numbers"></h2><dl id="numbers"></dl></section>
    <p class="note" data-t="keys"></p>
  </aside>
</main>`;
