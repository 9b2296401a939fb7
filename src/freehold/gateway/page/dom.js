// Makes and finds elements. Text only ever enters the page as text nodes.

const SVG = "http://www.w3.org/2000/svg";

export const $ = (id) => document.getElementById(id);

/** An element. `props` are attributes; `on` holds listeners; false, null and undefined are left out. */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    } else if (value !== false && value !== null && value !== undefined) {
      element.setAttribute(name, value === true ? "" : String(value));
    }
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

export function setIcon(button, name, label) {
  button.querySelector("use").setAttribute("href", `#i-${name}`);
  button.setAttribute("aria-label", label);
  button.title = label;
}

/** A button with an icon that says for a moment that it has done its work. */
export function copyButton(label, text) {
  const button = h("button", { type: "button", class: "icon-button small", "aria-label": label, title: label }, icon("copy"));
  button.addEventListener("click", async () => {
    const done = await copy(text());
    setIcon(button, done ? "check" : "copy", done ? "Copied" : "Copying is not allowed here");
    announce(done ? "Copied" : "The browser did not allow copying.");
    setTimeout(() => setIcon(button, "copy", label), 1600);
  });
  return button;
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copyBySelection(text); // the clipboard API exists only on https and localhost
  }
}

function copyBySelection(text) {
  const area = h("textarea", { class: "sr", readonly: true, "aria-hidden": "true", tabindex: "-1" });
  area.value = text;
  const before = document.activeElement;
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  before?.focus?.();
  return done;
}

/** Tells a screen reader one short thing. */
export function announce(text) {
  const status = $("status");
  status.textContent = "";
  requestAnimationFrame(() => { status.textContent = text; });
}
