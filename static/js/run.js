// Every page of a run: follows its events, refreshes what they change, and redraws the charts where there are any.

import { follow, throttled } from "./socket.js";

const run = document.getElementById("run");
const charts = document.getElementById("charts");
const resting = document.getElementById("resting");
const CURVES = new Set(["step", "phase", "evaluation", "resumed", "finished"]);

let figures = charts && JSON.parse(document.getElementById("figures").textContent);
let drawing = null;

async function redraw() {
  drawing ??= import("./charts.js");
  const { draw } = await drawing;
  draw(figures, charts.dataset.stepUrl);
}

async function refetch() {
  if (document.hidden) return;
  const answer = await fetch(charts.dataset.url).catch(() => null);
  if (!answer?.ok) return;
  figures = (await answer.json()).figures;
  await redraw();
}

const refreshCharts = throttled(refetch, 500);
const refreshHeader = throttled(() => {
  if (!document.hidden) htmx.trigger("#run-header", "run:changed");
}, 1000);

function onEvents(events) {
  refreshHeader();
  if (charts && events.some((event) => CURVES.has(event.type))) refreshCharts();
  if (resting && events.some((event) => event.type === "resting")) htmx.trigger(resting, "resting:changed");
  document.dispatchEvent(new CustomEvent("run:events", { detail: events }));
}

addEventListener("DOMContentLoaded", () => {
  if (charts) redraw();
  if (run.dataset.live === "1") {
    follow(run.dataset.run, Number(run.dataset.seq), onEvents);
    // Queued and stopping are rows, not events.
    setInterval(refreshHeader, 5000);
  }
});
document.addEventListener("theme:changed", () => { if (charts) redraw(); });
document.addEventListener("visibilitychange", () => {
  if (document.hidden || run.dataset.live !== "1") return;
  refreshHeader();
  if (charts) refreshCharts();
});
