// The list of past conversations; beside the chat on a wide screen, over it on a narrow one.

import { $, h, icon } from "./dom.js";
import { allChats, forgetAll, forgetChat } from "./store.js";

const narrow = matchMedia("(max-width: 820px)");

export class Sidebar {
  /** `onOpen(id)` opens a conversation, `onGone(id)` says that one (or all: null) was forgotten. */
  constructor({ onOpen, onNew, onGone }) {
    this.onOpen = onOpen;
    this.onGone = onGone;
    $("new-chat").addEventListener("click", () => { this.close(); onNew(); });
    $("new-chat-narrow").addEventListener("click", onNew);
    $("open-sidebar").addEventListener("click", () => this.open());
    $("scrim").addEventListener("click", () => this.close());
    $("clear-all").addEventListener("click", () => this.clear());
    $("sidebar").addEventListener("keydown", (event) => { if (event.key === "Escape" && narrow.matches) { event.stopPropagation(); this.close(); $("open-sidebar").focus(); } });
    narrow.addEventListener("change", () => this.close());
    this.close();
  }

  open() {
    this.set(true);
    $("new-chat").focus();
  }

  close() {
    this.set(false);
  }

  set(open) {
    $("sidebar").classList.toggle("open", open);
    $("sidebar").inert = narrow.matches && !open;
    document.querySelector(".stage").inert = narrow.matches && open;
    $("scrim").hidden = !open;
    $("open-sidebar").setAttribute("aria-expanded", String(open));
  }

  draw(currentId) {
    const chats = allChats();
    $("clear-all").hidden = !chats.length;
    $("clear-all").textContent = "Clear all";
    $("history").replaceChildren(...chats.map((chat) => this.row(chat, chat.id === currentId)));
  }

  row(chat, current) {
    const title = chat.title || "Untitled";
    const open = h("button", { type: "button", class: "history-open", title, "aria-current": current ? "true" : null, on: { click: () => { this.close(); this.onOpen(chat.id); } } }, title);
    const drop = h("button", { type: "button", class: "icon-button small", "aria-label": `Delete “${title}”`, title: "Delete", on: { click: () => { forgetChat(chat.id); this.onGone(chat.id); } } }, icon("close"));
    return h("li", { class: current ? "current" : null }, open, drop);
  }

  /** Asks once, on the button itself. */
  clear() {
    const button = $("clear-all");
    if (button.textContent === "Clear all") {
      button.textContent = "Really clear all?";
      setTimeout(() => { button.textContent = "Clear all"; }, 4000);
      return;
    }
    forgetAll();
    this.onGone(null);
  }
}
