/* Under the pointer: the values of all series at the nearest point. The page says everything without this, too. */
for (const figure of document.querySelectorAll("figure")) {
  const svg = figure.querySelector("svg"), tip = figure.querySelector("output"), line = svg.querySelector(".cursor");
  const told = JSON.parse(svg.dataset.series);
  const away = () => { tip.hidden = true; line.style.visibility = "hidden"; };
  const show = event => {
    const box = svg.getBoundingClientRect(), x = (event.clientX - box.left) * 640 / box.width;
    const near = told.series.filter(one => one.at.length).map(one => ({
      name: one.name, point: one.at.reduce((a, b) => Math.abs(b[0] - x) < Math.abs(a[0] - x) ? b : a),
    }));
    if (!near.length) return;
    const at = near[0].point[0];
    tip.textContent = [`${near[0].point[2]} ${told.x}`, ...near.map(one => `${one.name}: ${one.point[3]}`)].join("\n");
    tip.hidden = false;
    tip.style.left = at < 320 ? `${(at + 12) / 6.4}%` : "auto";
    tip.style.right = at < 320 ? "auto" : `${(652 - at) / 6.4}%`;
    line.setAttribute("x1", at); line.setAttribute("x2", at); line.setAttribute("y1", 14); line.setAttribute("y2", 262);
    line.style.visibility = "visible";
  };
  svg.addEventListener("pointermove", show);
  svg.addEventListener("pointerdown", show);
  svg.addEventListener("pointerleave", away);
}
