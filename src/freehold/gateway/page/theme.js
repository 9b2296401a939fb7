// Before the first paint: the theme chosen on this page, else the system's. Loaded as a plain script so that nothing flashes.
(() => {
  const KEY = "freehold.theme";
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");

  function chosen() {
    try { return localStorage.getItem(KEY) || "auto"; } catch { return "auto"; }
  }

  function apply(theme) {
    if (theme === "light" || theme === "dark") root.dataset.theme = theme;
    else delete root.dataset.theme;
    root.dataset.shown = shown();
    dispatchEvent(new Event("freehold:theme"));
  }

  function shown() {
    return root.dataset.theme || (dark.matches ? "dark" : "light");
  }

  window.freeholdTheme = {
    chosen,
    shown,
    choose(theme) {
      try { localStorage.setItem(KEY, theme); } catch { /* storage is full or forbidden: the choice lasts for this visit */ }
      apply(theme);
    },
  };
  dark.addEventListener("change", () => apply(chosen()));
  apply(chosen());
})();
