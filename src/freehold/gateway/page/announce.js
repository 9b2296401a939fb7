// Reads a growing answer to a screen reader: whole sentences, every few seconds, never token by token.

import { $, announce } from "./dom.js";

const EVERY_MS = 2500;

export class Reader {
  constructor() {
    this.said = 0;
    this.last = performance.now();
  }

  grow(text) {
    const now = performance.now();
    if (now - this.last < EVERY_MS) return;
    const end = sentenceEnd(text, this.said);
    if (end <= this.said) return;
    this.say(text.slice(this.said, end));
    this.said = end;
    this.last = now;
  }

  end(text, closing) {
    this.say(text.slice(this.said));
    announce(closing);
  }

  say(text) {
    $("spoken").textContent = text.replace(/[*_`#]+/g, "");
  }
}

function sentenceEnd(text, from) {
  const ends = [...text.slice(from).matchAll(/[.!?:;]\s|\n/g)];
  return ends.length ? from + ends.at(-1).index + 1 : from;
}
