#include "moec/Analysis/Page.h"

const char *const moec::kPageTools = R"js(
"use strict";
const $ = id => document.getElementById(id);
const bytes = text => Uint8Array.from(atob(text), c => c.charCodeAt(0));
const show = (x, digits = 2) => x.toLocaleString("en", {maximumFractionDigits: digits});
const brief = (text, n) => text.length > n ? "…" + text.slice(1 - n) : text;

// Colours: blue below the middle, orange above it, both growing from the page's own grey.
let palette = {};
function rgb(text) {
  const digits = text.trim().slice(1); // #rgb or #rrggbb
  const n = parseInt(digits.length === 3 ? [...digits].map(d => d + d).join("") : digits, 16);
  return [n >> 16, n >> 8 & 255, n & 255];
}
function readPalette() {
  const style = getComputedStyle(document.documentElement);
  palette = {};
  for (const name of ["low", "mid", "high", "none", "ink", "soft", "line", "accent", "card"])
    palette[name] = rgb(style.getPropertyValue("--" + name));
}
const css = c => `rgb(${c.map(Math.round).join()})`;
function diverging(t) { // -1 to 1
  const end = t < 0 ? palette.low : palette.high, part = Math.min(1, Math.abs(t));
  return palette.mid.map((m, i) => m + (end[i] - m) * Math.pow(part, .85));
}
const loadColour = v => v === 0 ? palette.none : diverging(Math.log2(v) / 3);
const ramp = () => "linear-gradient(90deg," +
  [-1, -.5, 0, .5, 1].map(t => css(diverging(t))).join() + ")";

function canvas(node, width, height) {
  const scale = window.devicePixelRatio || 1;
  node.width = Math.round(width * scale);
  node.height = Math.round(height * scale);
  node.style.width = width + "px";
  node.style.height = height + "px";
  const context = node.getContext("2d");
  context.scale(scale, scale);
  return context;
}
function tip(event, text) {
  const node = $("tip");
  node.style.display = text ? "block" : "none";
  node.textContent = text || "";
  const right = event.clientX + 16 + node.offsetWidth > innerWidth;
  node.style.left = (right ? event.clientX - node.offsetWidth - 10 : event.clientX + 14) + "px";
  node.style.top = Math.min(event.clientY + 14, innerHeight - node.offsetHeight - 4) + "px";
}
function hover(node, describe) {
  node.onmousemove = event => {
    const box = node.getBoundingClientRect();
    tip(event, describe(event.clientX - box.left, event.clientY - box.top));
  };
  node.onmouseleave = event => tip(event, "");
}
function buttons(node, names, chosen, choose) {
  node.replaceChildren(...names.map((name, i) => {
    const button = document.createElement("button");
    button.textContent = name;
    button.setAttribute("aria-pressed", i === chosen);
    button.onclick = () => { choose(i); };
    return button;
  }));
}
)js";
