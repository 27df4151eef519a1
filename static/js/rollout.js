// One rollout: keys for turns, the outline's place, and new turns while it is in flight.

import { followTurns } from "./turns.js";

const head = document.getElementById("rollout");
const outline = document.getElementById("outline");

function turns() {
  return [...document.querySelectorAll(".turn")];
}

function current() {
  const all = turns();
  const passed = all.filter((turn) => turn.getBoundingClientRect().top <= 80);
  return { all, place: Math.max(0, passed.length - 1), before: passed.length === 0 };
}

function move(by) {
  const { all, place, before } = current();
  const next = all[before && by > 0 ? 0 : Math.min(all.length - 1, Math.max(0, place + by))];
  if (next) {
    next.scrollIntoView();
    history.replaceState(null, "", `#${next.id}`);
    mark();
  }
}

function mark() {
  const { all, place } = current();
  for (const link of outline.querySelectorAll("a")) {
    link.classList.toggle("now", link.hash === `#${all[place]?.id}`);
  }
}

if (outline) {
  document.addEventListener("keydown", (event) => {
    if (event.target.closest("input, textarea, select") || event.ctrlKey || event.metaKey) return;
    if (event.key === "j") move(1);
    if (event.key === "k") move(-1);
  });
  addEventListener("scroll", mark, { passive: true });
  mark();
  if (head.dataset.live === "1") followTurns(head.dataset);
}
