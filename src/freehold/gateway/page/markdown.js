// A small, safe subset of Markdown: paragraphs, headings, lists, code fences, `code`, **bold**, *italic*.
// Model text only ever becomes text nodes. Links stay text: a model's link is not worth a click.

import { h, copyButton } from "./dom.js";

const FENCE = /^ {0,3}(`{3,}|~{3,})\s*([\w+#.-]*)[^`]*$/;
const HEADING = /^ {0,3}(#{1,6})\s+(.*?)\s*#*$/;
const RULE = /^ {0,3}([-*_])(\s*\1){2,}\s*$/;
const ITEM = /^(\s*)([-*+]|\d{1,9}[.)])(\s+)(.*)$/;
const MAX_DEPTH = 5;

/** Cuts text into blocks {start, lines, kind, ...}; a block's kind is settled once the next one begins. */
function blocksOf(text) {
  const blocks = [];
  let open = null;
  let start = 0;
  for (const line of text.split("\n")) {
    open = place(line, start, open, blocks);
    start += line.length + 1;
  }
  return blocks;
}

function place(line, start, open, blocks) {
  const begin = (block) => { blocks.push({ start, lines: [], ...block }); return blocks.at(-1); };
  if (open?.kind === "code") {
    if (isFenceEnd(line, open.fence)) return null;
    open.lines.push(line);
    return open;
  }
  const fence = FENCE.exec(line);
  const item = ITEM.exec(line);
  if (open?.kind === "list" && (!line.trim() || (item && sameList(item, open)) || isInside(line, open))) {
    open.lines.push(line);
    return open;
  }
  if (fence) return begin({ kind: "code", fence: fence[1], language: fence[2] });
  if (!line.trim()) return null;
  const heading = HEADING.exec(line);
  if (heading) { begin({ kind: "heading", level: heading[1].length, lines: [heading[2]] }); return null; }
  if (RULE.test(line)) { begin({ kind: "rule" }); return null; }
  if (item && (open?.kind !== "text" || item[2] !== "*")) {
    return begin({ kind: "list", indent: item[1].length, ordered: /\d/.test(item[2]), first: Number.parseInt(item[2], 10), lines: [line] });
  }
  if (open?.kind === "text") { open.lines.push(line); return open; }
  return begin({ kind: "text", lines: [line] });
}

const isFenceEnd = (line, fence) => line.trim().startsWith(fence) && !line.trim().replaceAll(fence[0], "");
const sameList = (item, list) => item[1].length > list.indent + 1 || /\d/.test(item[2]) === list.ordered;

function isInside(line, list) {
  const wasBlank = !list.lines.at(-1)?.trim();
  return /^\s{2,}/.test(line) || (!wasBlank && !FENCE.test(line) && !HEADING.test(line));
}

function render(block, depth) {
  if (block.kind === "code") return codeBlock(block);
  if (block.kind === "heading") return h(`h${Math.min(6, block.level + 2)}`, {}, ...inline(block.lines[0]));
  if (block.kind === "rule") return h("hr");
  if (block.kind === "list") return list(block, depth);
  return h("p", {}, ...inline(block.lines.join("\n")));
}

function codeBlock(block) {
  const text = block.lines.join("\n");
  const head = h("div", { class: "code-head" }, h("span", {}, block.language || "text"), copyButton("Copy code", () => text));
  return h("div", { class: "code" }, head, h("pre", { tabindex: "0" }, h("code", {}, text)));
}

function list(block, depth) {
  const items = [];
  for (const line of block.lines) {
    const item = ITEM.exec(line);
    if (item && item[1].length <= block.indent + 1) items.push([item[4]]);
    else items.at(-1).push(line.replace(/^\s{1,4}/, ""));
  }
  const tag = block.ordered ? "ol" : "ul";
  return h(tag, { start: block.ordered && block.first !== 1 ? block.first : null }, ...items.map((lines) => h("li", {}, ...itemContent(lines, depth))));
}

function itemContent(lines, depth) {
  const text = lines.join("\n").trimEnd();
  if (depth >= MAX_DEPTH) return [text];
  const blocks = blocksOf(text);
  const [first, ...rest] = blocks.map((block) => render(block, depth + 1));
  if (!first) return [];
  // The first paragraph of an item stands on the bullet's line.
  return blocks[0].kind === "text" ? [h("span", {}, ...first.childNodes), ...rest] : [first, ...rest];
}

const MARKS = [["`", "code"], ["**", "strong"], ["__", "strong"], ["*", "em"]];

/** Text with `code`, **bold** and *italic* as nodes. Linear: a mark without its partner is looked for once. */
export function inline(text, depth = 0) {
  const nodes = [];
  const hopeless = new Set();
  let plain = 0;
  let at = 0;
  while (at < text.length) {
    const found = markAt(text, at, hopeless);
    if (!found) { at += 1; continue; }
    if (plain < at) nodes.push(text.slice(plain, at));
    const inner = text.slice(at + found.mark.length, found.end);
    nodes.push(h(found.tag, {}, ...(found.tag === "code" || depth > 1 ? [inner] : inline(inner, depth + 1))));
    at = plain = found.end + found.mark.length;
  }
  if (plain < text.length) nodes.push(text.slice(plain));
  return nodes;
}

function markAt(text, at, hopeless) {
  if (!"`*_".includes(text[at])) return null;
  const pair = MARKS.find(([mark]) => text.startsWith(mark, at));
  if (!pair || hopeless.has(pair[0])) return null;
  const [mark, tag] = pair;
  const before = text[at - 1] ?? " ";
  const after = text[at + mark.length] ?? " ";
  if (tag !== "code" && (/\s/.test(after) || /\w/.test(before))) return null;
  const end = text.indexOf(mark, at + mark.length + 1);
  if (end < 0) { hopeless.add(mark); return null; }
  return tag !== "code" && /\s/.test(text[end - 1]) ? null : { mark, tag, end };
}

/** Renders a growing text into `target`: finished blocks stay, only the last one is made again. */
export class MarkdownView {
  constructor(target) {
    this.target = target;
    this.settled = 0; // characters whose blocks no longer change
    this.tail = null;
  }

  update(text) {
    const blocks = blocksOf(text.slice(this.settled));
    this.tail?.remove();
    this.tail = null;
    for (const block of blocks) {
      this.tail = render(block, 0);
      this.target.append(this.tail);
    }
    this.settled += blocks.at(-1)?.start ?? 0;
  }
}
