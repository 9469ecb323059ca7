#include "PageParts.h"

const char *const moec::kPageScript = R"js(
const data = JSON.parse(document.getElementById("data").textContent);
const layers = data.layers, maps = data.load.maps;
let first = 0;
for (const layer of layers) { layer.first = first; first += layer.experts; }
for (const map of maps) map.parts = new Uint16Array(bytes(map.data).buffer);
const state = {map: 0, sorted: false, layer: 0, kind: null, grouped: false};
const load = (l, e) => maps[state.map].parts[layers[l].first + e] * data.load.scale;
const loads = l => Array.from({length: layers[l].experts}, (_, e) => load(l, e));

// Load of experts by layer.
const order = l => {
  const ids = Array.from({length: layers[l].experts}, (_, e) => e);
  return state.sorted ? ids.sort((a, b) => load(l, b) - load(l, a)) : ids;
};
function drawLoad() {
  const node = $("load"), most = Math.max(1, ...layers.map(l => l.experts));
  const names = Math.min(170, 14 + 6.3 * Math.max(0, ...layers.map(l => l.name.length)));
  const room = node.parentElement.clientWidth - names;
  const width = Math.max(2, Math.min(26, room / most));
  const height = Math.max(9, Math.min(26, 560 / Math.max(1, layers.length)));
  const gapX = width > 8 ? 1 : 0, gapY = height > 8 ? 1 : 0;
  const c = canvas(node, names + width * most, height * layers.length + 2);
  c.font = "11px system-ui,sans-serif";
  c.textBaseline = "middle";
  const orders = layers.map((_, l) => order(l));
  layers.forEach((layer, l) => {
    c.fillStyle = css(l === state.layer ? palette.accent : palette.soft);
    const near = Math.abs(l - state.layer) * height < 12; // names must not overlap
    if (l === state.layer || !near && l % Math.ceil(12 / height) === 0)
      c.fillText(brief(layer.name, 26), 0, (l + .5) * height + 1);
    orders[l].forEach((e, i) => {
      c.fillStyle = css(loadColour(load(l, e)));
      c.fillRect(names + i * width, l * height + 1, width - gapX + (gapX ? 0 : .4), height - gapY);
    });
  });
  c.strokeStyle = css(palette.accent);
  c.lineWidth = 1.5;
  if (layers.length)
    c.strokeRect(names - 1, state.layer * height + .5, layers[state.layer].experts * width + 1,
                 height);
  const at = (x, y) => {
    const l = Math.floor((y - 1) / height);
    return l >= 0 && l < layers.length ? [l, orders[l][Math.floor((x - names) / width)]] : [];
  };
  hover(node, (x, y) => {
    const [l, e] = at(x, y);
    if (e === undefined) return l === undefined ? "" : layers[l].name;
    const value = load(l, e);
    return `${layers[l].name}, expert ${e}\n` + (value ? `${show(value)} × an even load, ` +
      `${show(100 * value / layers[l].experts)} % of the choices` : "never chosen");
  });
  node.onclick = event => {
    const box = node.getBoundingClientRect();
    const [l] = at(event.clientX - box.left, event.clientY - box.top);
    if (l !== undefined) choose({layer: l});
  };
}

// Lines over layers.
const measures = {
  entropy: v => {
    const sum = v.reduce((a, b) => a + b, 0);
    if (v.length < 2 || !sum) return 1;
    return -v.reduce((a, x) => x ? a + x / sum * Math.log(x / sum) : a, 0) / Math.log(v.length);
  },
  gini: v => {
    const s = [...v].sort((a, b) => a - b), sum = s.reduce((a, b) => a + b, 0), n = s.length;
    return sum ? 2 * s.reduce((a, x, i) => a + (i + 1) * x, 0) / (n * sum) - (n + 1) / n : 0;
  },
  peak: v => Math.max(0, ...v),
};
function svg(name, attributes, text) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const key in attributes) node.setAttribute(key, attributes[key]);
  if (text !== undefined) node.textContent = text;
  return node;
}
function chart(node, lines, bold, low, high, band) {
  const w = 340, h = 130, left = 34, n = layers.length;
  const x = i => left + (n > 1 ? i / (n - 1) : .5) * (w - left - 6);
  const y = v => 8 + (1 - (v - low) / (high - low || 1)) * (h - 30);
  const root = svg("svg", {viewBox: `0 0 ${w} ${h}`, role: "img"});
  for (const v of [low, (low + high) / 2, high]) {
    root.append(svg("line", {class: "grid", x1: left, x2: w, y1: y(v), y2: y(v)}),
                svg("text", {x: left - 5, y: y(v) + 4, "text-anchor": "end"}, show(v)));
  }
  root.append(svg("text", {x: left, y: h - 4}, brief(layers[0].name, 22)));
  if (n > 1)
    root.append(svg("text", {x: w, y: h - 4, "text-anchor": "end"}, 
                    brief(layers[n - 1].name, 22)));
  const path = values => values.map((v, i) => v === null ? "" :
    (i && values[i - 1] !== null ? "L" : "M") + x(i).toFixed(1) + " " + y(v).toFixed(1)).join("");
  if (band)
    root.append(svg("path", {class: "band", d: "M" + band.map((b, i) => b && x(i) + " " + y(b[0]))
      .filter(p => p).join("L") + "L" + band.map((b, i) => b && x(i) + " " + y(b[2]))
      .filter(p => p).reverse().join("L") + "Z"}));
  lines.forEach((line, i) => i === bold ||
    root.append(svg("path", {class: "thin", d: path(line)})));
  root.append(svg("path", {class: "bold", d: path(lines[bold])}));
  lines[bold].forEach((v, i) => {
    if (v === null) return;
    const dot = svg("circle", {class: "dot", cx: x(i), cy: y(v), r: n > 40 ? 1.6 : 2.6});
    dot.append(svg("title", {}, `${layers[i].name}: ${show(v, 3)}`));
    root.append(dot);
  });
  node.replaceChildren(root);
}
function drawCharts() {
  if (!layers.length) return;
  const kept = state.map;
  for (const name in measures) {
    const lines = maps.map((_, m) => {
      state.map = m;
      return layers.map((_, l) => measures[name](loads(l)));
    });
    state.map = kept;
    const all = lines.flat();
    const low = name === "entropy" ? Math.floor(10 * Math.min(...all)) / 10 : 0;
    const most = Math.max(...all);
    const high = name === "entropy" ? 1 : name === "gini" ? Math.ceil(10 * most + .01) / 10
      : Math.ceil(most);
    chart($(name), lines, kept, low, high);
  }
  for (const name of ["entropy", "ratio"]) {
    const band = layers.map(layer => layer[name] && layer[name][1] !== null ? layer[name] : null);
    $("token-" + name).parentElement.hidden = !band.some(b => b);
    if (band.some(b => b))
      chart($("token-" + name), [band.map(b => b && b[1])], 0, 0, 1, band);
  }
  $("confidence").hidden = !layers.some(layer => layer.entropy || layer.ratio);
}
)js"
                                      // The literal is cut: compilers need not take long ones.
                                      R"js(
// One layer.
function drawBars() {
  const layer = layers[state.layer];
  $("about").textContent = [`${layer.experts} experts`, layer.k && `${layer.k} a token`,
    layer.tokens && `${show(layer.tokens, 0)} tokens`, layer.router].filter(x => x).join(" · ");
  const node = $("bars"), ids = order(state.layer), n = ids.length;
  const width = node.parentElement.clientWidth, height = 120;
  const c = canvas(node, width, height), most = Math.max(1.2, ...loads(state.layer));
  const step = width / n, gap = step > 4 ? 1 : 0;
  ids.forEach((e, i) => {
    const value = load(state.layer, e), tall = Math.max(2, value / most * (height - 4));
    c.fillStyle = css(value ? diverging(Math.sign(Math.log2(value)) *
      Math.max(.35, Math.abs(Math.log2(value) / 3))) : palette.none);
    c.fillRect(i * step, height - tall, Math.max(.7, step - gap), tall);
  });
  c.strokeStyle = css(palette.soft);
  c.setLineDash([4, 4]);
  c.beginPath();
  c.moveTo(0, height - (height - 4) / most);
  c.lineTo(width, height - (height - 4) / most);
  c.stroke();
  hover(node, x => {
    const e = ids[Math.floor(x / step)];
    return e === undefined ? "" : `expert ${e}: ${show(load(state.layer, e))} × an even load`;
  });
}
function decoded(matrix, n) {
  const size = Math.ceil(n / matrix.block), packed = bytes(matrix.data);
  const value = (i, j) => {
    const byte = packed[Math.max(i, j) * (Math.max(i, j) + 1) / 2 + Math.min(i, j)];
    return byte ? (byte - 128) / 127 : NaN;
  };
  return {size, value};
}
// Puts alike experts beside each other: always the one most alike the last one.
function chain({size, value}) {
  const rest = new Set(Array.from({length: size}, (_, i) => i)), result = [];
  let last = 0;
  while (rest.size) {
    rest.delete(last);
    result.push(last);
    let best = -Infinity;
    const from = last;
    for (const i of rest) {
      const v = value(from, i), known = Number.isNaN(v) ? -2 : v;
      if (known > best) { best = known; last = i; }
    }
  }
  return result;
}
function drawMatrix() {
  const layer = layers[state.layer], kinds = data.kinds.filter(k => layer.matrices?.[k.id]);
  $("matrices").hidden = !kinds.length;
  if (!kinds.length) return;
  const kind = kinds.find(k => k.id === state.kind) || kinds[0], matrix = layer.matrices[kind.id];
  buttons($("kinds"), kinds.map(k => k.name), kinds.indexOf(kind),
          i => choose({kind: kinds[i].id}));
  const m = decoded(matrix, layer.experts), node = $("matrix");
  buttons($("grouping"), ["by number", "alike together"], +state.grouped,
          i => choose({grouped: !!i}));
  const ids = state.grouped ? chain(m) : Array.from({length: m.size}, (_, i) => i);
  const room = Math.min(560, node.parentElement.clientWidth);
  const cell = Math.min(28, room / m.size), side = cell * m.size, c = canvas(node, side, side);
  ids.forEach((a, i) => ids.forEach((b, j) => {
    const v = m.value(a, b);
    const blank = Number.isNaN(v) || a === b && matrix.block === 1;
    c.fillStyle = css(blank ? palette.line : diverging(v));
    c.fillRect(j * cell, i * cell, cell + (cell < 6 ? .4 : -1), cell + (cell < 6 ? .4 : -1));
  }));
  const name = i => matrix.block === 1 ? `${i}` :
    `${i * matrix.block}–${Math.min(layer.experts, (i + 1) * matrix.block) - 1}`;
  hover(node, (x, y) => {
    const a = ids[Math.floor(y / cell)], b = ids[Math.floor(x / cell)];
    if (a === undefined || b === undefined) return "";
    const v = m.value(a, b);
    return `experts ${name(a)} and ${name(b)}: ` + (Number.isNaN(v) ? "no data" :
      kind.lift ? `lift ${v <= -1 ? "below 0.06" : show(Math.pow(2, 4 * v))}` : show(v));
  });
  $("scale").replaceChildren(kind.lift ? "1/16" : "−1", document.createElement("i"),
                             kind.lift ? "16 times as often as by chance; grey: no data" :
                             "1; grey: no data");
  $("scale").children[0].style.background = ramp();
  $("blocks").hidden = matrix.block === 1;
  $("blocks").textContent = `Each cell stands for ${matrix.block} × ${matrix.block} experts.`;
  $("pairs").replaceChildren(...[["pair", "value"], ...matrix.pairs.map(p =>
    [`${p[0]} and ${p[1]}`, show(p[2], 3)])].map((cells, i) => {
    const row = document.createElement("tr");
    row.append(...cells.map(text => {
      const cell = document.createElement(i ? "td" : "th");
      cell.textContent = text;
      return cell;
    }));
    return row;
  }));
}

// Largest outputs: where super experts stand out.
function drawOutputs() {
  const node = $("outputs");
  const all = layers.map(l => l.outputs ? new Float32Array(bytes(l.outputs).buffer) : []);
  $("super").hidden = !all.some(a => a.length);
  if ($("super").hidden) return;
  let most = 0, least = Infinity;
  for (const v of all.flatMap(a => [...a]))
    if (v > 0 && Number.isFinite(v)) { most = Math.max(most, v); least = Math.min(least, v); }
  const width = node.parentElement.clientWidth, height = 230, left = 46, low = Math.log10(least);
  const c = canvas(node, width, height), span = Math.log10(most) - low || 1;
  const y = v => 10 + (1 - (Math.log10(v) - low) / span) * (height - 34);
  const step = (width - left) / layers.length, flagged = new Set(data.super.map(s => s.join()));
  const x = (l, e) => left + (l + .5 + .6 * ((e * .618) % 1 - .5)) * step;
  c.font = "11px system-ui,sans-serif";
  for (let p = Math.ceil(low); p <= low + span; p++) {
    c.fillStyle = css(palette.line);
    c.fillRect(left, y(10 ** p), width - left, 1);
    c.fillStyle = css(palette.soft);
    c.textAlign = "right";
    c.fillText(show(10 ** p, 4), left - 6, y(10 ** p) + 4);
  }
  const points = [];
  all.forEach((values, l) => values.forEach((v, e) => {
    if (!(v > 0)) return;
    const hot = flagged.has(l + "," + e);
    c.fillStyle = css(hot ? palette.high : palette.accent);
    c.globalAlpha = hot ? 1 : .55;
    c.beginPath();
    c.arc(x(l, e), y(v), hot ? 5 : 2.2, 0, 7);
    c.fill();
    points.push([x(l, e), y(v), l, e, v]);
  }));
  c.globalAlpha = 1;
  c.textAlign = "center";
  c.fillStyle = css(palette.soft);
  const every = Math.ceil(layers.length * 60 / (width - left));
  layers.forEach((layer, l) => l % every ||
    c.fillText(brief(layer.name, Math.max(6, Math.floor(every * step / 6.5))),
               left + (l + .5) * step, height - 4));
  hover(node, (mx, my) => {
    const far = p => Math.hypot(p[0] - mx, p[1] - my);
    const near = points.map(p => [far(p), p]).sort((a, b) => a[0] - b[0])[0];
    return near && near[0] < 12 ?
      `${layers[near[1][2]].name}, expert ${near[1][3]}: ${show(near[1][4])}` : "";
  });
}

// Distances of labels: colours behind the table's numbers.
function drawDistances() {
  for (const cell of document.querySelectorAll("td.heat[data-value]"))
    cell.style.background = css(diverging(Number(cell.dataset.value)));
}

function draw() {
  readPalette();
  buttons($("labels"), maps.map(m => m.label), state.map, i => choose({map: i}));
  buttons($("sorting"), ["by number", "by load"], +state.sorted, i => choose({sorted: !!i}));
  $("layer").value = state.layer;
  document.querySelectorAll(".ramp").forEach(node => { node.style.background = ramp(); });
  drawLoad();
  drawCharts();
  if (layers.length) { drawBars(); drawMatrix(); }
  drawOutputs();
  drawDistances();
}
function choose(change) { Object.assign(state, change); draw(); }
$("layer").replaceChildren(...layers.map((layer, l) => new Option(layer.name, l)));
$("layer").onchange = event => choose({layer: Number(event.target.value)});
$("one").hidden = !layers.length;
$("labels").hidden = maps.length < 2;
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
addEventListener("resize", draw);
draw();
)js";
