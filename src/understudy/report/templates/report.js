"use strict";
(() => {
  addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((d) => { d.open = true; }));
  const slider = document.getElementById("temperature");
  if (!slider) return; // an answer that is not softened has no temperature
  const data = JSON.parse(document.getElementById("logits").textContent);
  const shown = document.getElementById("shown");

  // Probabilities of the classes shown, then of all others together; the same as knowledge.softened in Python.
  function softened(logits, temperature, rest, others) {
    const logs = logits.map((z) => (z === null ? -Infinity : z / temperature));
    logs.push(rest === null || rest === undefined ? -Infinity : Math.log(others) + (rest - Math.log(others)) / temperature);
    const top = Math.max(...logs);
    const masses = logs.map((z) => (top === -Infinity ? 0 : Math.exp(z - top)));
    const total = masses.reduce((a, b) => a + b, 0) || 1;
    return masses.map((mass) => mass / total);
  }

  const written = (p) => (p >= 0.9995 ? p.toFixed(2) : p.toFixed(3).slice(1));

  // Every bar is looked up once; moving the slider only writes widths and numbers.
  const parts = [];
  function gather(card, side, answer) {
    const bars = [...card.querySelectorAll("li[data-at]")].map((row) => ({
      at: Number(row.dataset.at),
      bar: row.querySelector(`i.${side}`),
      text: row.querySelector(`.num.${side} b`),
    }));
    parts.push({ bars, answer });
  }
  gather(document.getElementById("textbook"), "teacher", (t) => softened(data.textbook, t, null, 1));
  for (const card of document.querySelectorAll("[data-example]")) {
    const given = data.examples[Number(card.dataset.example)];
    for (const side of ["teacher", "student"])
      gather(card, side, (t) => softened(given[side], t, given[`${side}_rest`], given.others));
  }

  function draw(temperature) {
    for (const { bars, answer } of parts) {
      const p = answer(temperature);
      for (const { at, bar, text } of bars) {
        bar.style.width = `${(100 * p[at]).toFixed(2)}%`;
        text.textContent = written(p[at]);
      }
    }
    const p = softened(data.textbook, temperature, null, 1);
    document.getElementById("entropy").textContent = p.reduce((h, q) => h - (q > 0 ? q * Math.log2(q) : 0), 0).toFixed(2);
    shown.textContent = String(temperature);
    slider.setAttribute("aria-valuetext", `temperature ${temperature}`);
  }

  slider.addEventListener("input", () => {
    const temperature = data.stops[Number(slider.value)];
    draw(temperature);
    try { history.replaceState(null, "", `#temperature=${temperature}`); } catch { /* a page that may not: no link to share */ }
  });

  function preset() {
    const wanted = /(?:^#|&)temperature=([\d.]+)/.exec(location.hash);
    const asked = wanted ? Number(wanted[1]) : NaN;
    const temperature = asked > 0 ? Math.min(Math.max(asked, 0.5), 10) : data.stops[Number(slider.value)];
    const apart = data.stops.map((stop) => Math.abs(Math.log(stop / temperature)));
    slider.value = String(apart.indexOf(Math.min(...apart)));
    draw(temperature);
  }
  addEventListener("hashchange", preset);
  preset();
})();
