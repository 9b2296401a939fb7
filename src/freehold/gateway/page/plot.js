// A plot of lines over time, as SVG. The legend is the readout: the newest values, or those under the pointer or the arrow keys.

import { h } from "./dom.js";

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 190;
const FAR = 2.5; // a limit higher than so many times the data would flatten it
const PAD = { left: 52, right: 12, top: 12, bottom: 22 };

function s(tag, props, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(props)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

export class Plot {
  /** `format(value)` writes a value with its unit; `name` is what a screen reader hears first. */
  constructor(home, { name, format }) {
    this.format = format;
    this.at = null;
    this.svg = s("svg", { role: "img", "aria-label": name, height: HEIGHT });
    this.box = h("div", { class: "plot", tabindex: "0", role: "group", "aria-label": `${name}. The arrow keys walk along it.` }, this.svg);
    this.legend = h("div", { class: "legend" });
    home.replaceChildren(this.box, this.legend);
    this.box.addEventListener("pointermove", (event) => this.point(event));
    this.box.addEventListener("pointerleave", () => this.look(null));
    this.box.addEventListener("blur", () => this.look(null));
    this.box.addEventListener("keydown", (event) => this.walk(event));
    new ResizeObserver(() => this.draw()).observe(this.box);
  }

  /** `lines` are {name, tone, values} beside `times` (unix seconds); `limit` is {name, value} or null. */
  show({ times, lines, limit = null, empty = "Nothing in this window yet." }) {
    Object.assign(this, { times, lines, limit, empty });
    this.draw();
  }

  draw() {
    if (!this.times) return;
    const width = Math.max(this.box.clientWidth, 160);
    const known = this.lines.flatMap((line) => line.values).filter((value) => value !== null && value !== undefined);
    this.svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    if (!known.length) {
      this.svg.replaceChildren(s("text", { x: width / 2, y: HEIGHT / 2, "text-anchor": "middle" }, this.empty));
      this.legend.replaceChildren();
      return;
    }
    const highest = Math.max(...known);
    const most = this.limit && this.limit.value < FAR * highest ? Math.max(highest, this.limit.value) : highest;
    const step = tidy((most || 1) / 3);
    const top = Math.ceil((most || 1) / step - 1e-9) * step;
    const last = this.times.length - 1;
    this.x = (i) => PAD.left + (last ? (i / last) * (width - PAD.left - PAD.right) : 0);
    this.y = (value) => HEIGHT - PAD.bottom - (value / top) * (HEIGHT - PAD.top - PAD.bottom);
    this.cursor = s("g", {});
    this.svg.replaceChildren(...this.frame(width, step, top), ...this.lines.map((line) => this.path(line)), this.cursor);
    this.look(this.at !== null && this.at <= last ? this.at : null);
  }

  frame(width, step, top) {
    const parts = [];
    for (let value = 0; value <= top + step / 2; value += step) {
      const y = this.y(value);
      parts.push(s("line", { class: "grid", x1: PAD.left, x2: width - PAD.right, y1: y, y2: y }), s("text", { x: PAD.left - 8, y: y + 4, "text-anchor": "end" }, value ? this.format(value) : "0"));
    }
    const last = this.times.length - 1;
    const marks = Math.max(2, Math.min(6, Math.floor(width / 130)));
    for (let k = 0; k < marks; k += 1) {
      const i = Math.round((k * last) / (marks - 1));
      parts.push(s("text", { x: this.x(i), y: HEIGHT - 4, "text-anchor": k === 0 ? "start" : k === marks - 1 ? "end" : "middle" }, clock(this.times[i], last ? this.times[last] - this.times[0] : 0)));
    }
    if (this.limit && this.limit.value <= top) {
      const y = this.y(this.limit.value);
      parts.push(s("line", { class: "limit", x1: PAD.left, x2: width - PAD.right, y1: y, y2: y }), s("text", { class: "limit-name", x: width - PAD.right, y: y - 5, "text-anchor": "end" }, this.limit.name));
    }
    return parts;
  }

  path(line) {
    let d = "";
    let pen = false;
    const dots = [];
    line.values.forEach((value, i) => {
      if (value === null || value === undefined) { pen = false; return; }
      const alone = !pen && (line.values[i + 1] === null || line.values[i + 1] === undefined);
      if (alone) dots.push(s("circle", { class: line.tone, cx: this.x(i), cy: this.y(value), r: 2.2 }));
      d += `${pen ? "L" : "M"}${this.x(i).toFixed(1)} ${this.y(value).toFixed(1)}`;
      pen = true;
    });
    return s("g", {}, s("path", { class: line.tone, d }), ...dots);
  }

  point(event) {
    if (!this.x) return;
    const box = this.svg.getBoundingClientRect();
    const last = this.times.length - 1;
    const share = (event.clientX - box.left - PAD.left) / (box.width - PAD.left - PAD.right);
    this.look(Math.max(0, Math.min(last, Math.round(share * last))));
  }

  walk(event) {
    if (!this.times?.length) return;
    const last = this.times.length - 1;
    const from = this.at ?? last + 1;
    const to = { ArrowLeft: from - 1, ArrowRight: from + 1, Home: 0, End: last, Escape: null }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    this.look(to === null ? null : Math.max(0, Math.min(last, to)));
    this.legend.setAttribute("aria-live", "polite");
  }

  look(at) {
    this.at = at;
    if (!this.cursor) return;
    this.cursor.replaceChildren();
    if (at !== null) {
      this.cursor.append(s("line", { class: "cursor", x1: this.x(at), x2: this.x(at), y1: PAD.top, y2: HEIGHT - PAD.bottom }));
      for (const line of this.lines) if (line.values[at] != null) this.cursor.append(s("circle", { class: line.tone, cx: this.x(at), cy: this.y(line.values[at]), r: 3.5 }));
    }
    const when = at === null ? "" : h("span", {}, clock(this.times[at], 0));
    this.legend.replaceChildren(...this.lines.map((line) => {
      const value = at === null ? line.values.findLast((each) => each != null) : line.values[at];
      return h("span", { class: "key" }, h("span", { class: `swatch ${line.tone}` }), `${line.name} ${value == null ? "–" : this.format(value)}`);
    }), when);
  }
}

/** The next larger of 1, 2, 2.5, 5 times a power of ten. */
function tidy(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return power * [1, 2, 2.5, 5, 10].find((each) => each * power >= value * 0.999);
}

function clock(unixS, spanS) {
  const options = spanS > 43_200 ? { weekday: "short", hour: "2-digit", minute: "2-digit" } : { hour: "2-digit", minute: "2-digit", second: spanS > 1800 ? undefined : "2-digit" };
  return new Date(unixS * 1000).toLocaleTimeString([], { hourCycle: "h23", ...options });
}
