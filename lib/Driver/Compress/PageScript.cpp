#include "PageParts.h"

const char *const moec::page::script = R"js(
const data = JSON.parse($("data").textContent), layers = data.layers;
for (const layer of layers)
  for (const side of ["before", "after"])
    layer[side] = new Uint16Array(bytes(layer[side] || "").buffer);
// Where the experts that a layer has afterwards stood before.
for (const layer of layers)
  if (layer.origin) layer.now = new Map(layer.origin.map((e, i) => [e, i]));
// The colours' ends, in powers of two: nearly all loads lie between them.
const turns = layers.flatMap(layer => [...layer.before, ...layer.after]).filter(part => part)
  .map(part => Math.abs(Math.log2(part * data.scale))).sort((a, b) => a - b);
const wide = turns[Math.floor(.99 * turns.length)] || 0;
const span = Math.min(3, Math.max(1, Math.ceil(2 * wide) / 2));
const colour = v => v === 0 ? palette.none : diverging(Math.log2(v) / span);
let sorted = false;
const byNumber = n => Array.from({length: n}, (_, e) => e);
const byLoad = parts => byNumber(parts.length).sort((a, b) => parts[b] - parts[a]);

// The cells of a row: {before: old number, after: new number}, either of them undefined.
function cells(layer, side) {
  if (side === "before" || layer.now)
    return (sorted ? byLoad(layer.before) : byNumber(layer.before.length))
      .map(e => ({before: e, after: layer.now ? layer.now.get(e) : undefined}));
  return (sorted ? byLoad(layer.after) : byNumber(layer.after.length)).map(e => ({after: e}));
}
function describe(layer, cell, side) {
  const name = cell.before === undefined ? `expert ${cell.after} of those left` :
    `expert ${cell.before}`;
  const line = (when, e) => {
    const n = layer[when].length, value = layer[when][e] * data.scale;
    return `${when}: ` + (value ?
      `${show(value)} × an even load, ${show(100 * value / n)} % of the choices` : "never chosen");
  };
  const lines = [`${layer.name}, ${name}`];
  if (cell.before !== undefined) lines.push(line("before", cell.before));
  if (cell.after !== undefined) lines.push(line("after", cell.after));
  else if (layer.now) lines.push("gone");
  return lines.join("\n");
}
function drawMap(side) {
  const node = $(side);
  if (!node || !layers.length) return;
  const most = Math.max(1, ...layers.map(l => Math.max(l.before.length, l.after.length)));
  const names = Math.min(170, 14 + 6.3 * Math.max(0, ...layers.map(l => l.name.length)));
  const room = node.parentElement.clientWidth - names;
  const width = Math.max(2, Math.min(26, room / most));
  const height = Math.max(9, Math.min(26, 560 / layers.length));
  const gapX = width > 8 ? 1 : 0, gapY = height > 8 ? 1 : 0;
  const c = canvas(node, names + width * most, height * layers.length + 2);
  c.font = "11px system-ui,sans-serif";
  c.textBaseline = "middle";
  const rows = layers.map(layer => cells(layer, side));
  layers.forEach((layer, l) => {
    c.fillStyle = css(palette.soft);
    if (l % Math.ceil(12 / height) === 0)
      c.fillText(brief(layer.name, 26), 0, (l + .5) * height + 1);
    rows[l].forEach((cell, i) => {
      const e = cell[side], x = names + i * width, y = l * height + 1;
      c.fillStyle = css(e === undefined ? palette.card :
                        colour(layer[side][e] * data.scale));
      c.fillRect(x, y, width - gapX + (gapX ? 0 : .4), height - gapY);
      if (width < 6) return; // no room for strokes
      if (e === undefined || side === "before" && layer.now && cell.after === undefined) {
        c.strokeStyle = css(e === undefined ? palette.line : palette.ink);
        c.lineWidth = 1;
        c.beginPath(); // a stroke through what goes
        c.moveTo(x + .5, y + height - gapY - .5);
        c.lineTo(x + width - gapX - .5, y + .5);
        c.stroke();
      }
    });
  });
  hover(node, (x, y) => {
    const l = Math.floor((y - 1) / height), cell = rows[l]?.[Math.floor((x - names) / width)];
    return cell ? describe(layers[l], cell, side) : layers[l]?.name || "";
  });
}
function draw() {
  readPalette();
  document.querySelectorAll(".ramp").forEach(node => { node.style.background = ramp(); });
  if ($("most")) {
    $("least").textContent = `1/${show(2 ** span, 1)}`;
    $("most").textContent = `${show(2 ** span, 1)} times an even load`;
  }
  if ($("sorting"))
    buttons($("sorting"), ["by number", "by load"], +sorted, i => { sorted = !!i; draw(); });
  drawMap("before");
  drawMap("after");
}

// Tables: a click on a column's name sorts by it, a second one the other way round.
function sortBy(table, column, head) {
  const down = head.getAttribute("aria-sort") === "ascending";
  for (const other of head.parentElement.children) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  const text = row => row.cells[column].textContent;
  const value = row => parseFloat(text(row).replace("−", "-"));
  const body = table.tBodies[0], rows = [...body.rows];
  const numbers = rows.some(row => !Number.isNaN(value(row)));
  rows.sort((a, b) => {
    const x = value(a), y = value(b);
    if (!numbers) return (down ? -1 : 1) * text(a).localeCompare(text(b), "en", {numeric: true});
    if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
    return down ? y - x : x - y;
  });
  body.append(...rows);
}
for (const table of document.querySelectorAll("table.sortable"))
  [...table.tHead.rows[0].cells].forEach((head, i) => {
    head.tabIndex = 0;
    head.onclick = () => sortBy(table, i, head);
    head.onkeydown = event => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      sortBy(table, i, head);
    };
  });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
addEventListener("resize", draw);
draw();
)js";
