// The pages of evaluations: draws the curves, and asks for them again whenever the header of a live one, or the table of a sweep, was refreshed.

import { draw } from "./charts.js";

const charts = document.getElementById("charts");
let figures = JSON.parse(document.getElementById("figures").textContent);

async function refetch() {
  const answer = await fetch(charts.dataset.url).catch(() => null);
  if (!answer?.ok) return;
  figures = (await answer.json()).figures;
  draw(figures, "", "shows once rollouts have a score");
}

addEventListener("DOMContentLoaded", () => draw(figures, "", "shows once rollouts have a score"));
document.addEventListener("theme:changed", () => draw(figures, "", "shows once rollouts have a score"));
document.addEventListener("htmx:afterSwap", (event) => {
  if (["evaluation-header", "sweep-points"].includes(event.target.id)) refetch();
});
