// The live page: refreshes the tables as rollouts start, turn and end, and follows one of them turn by turn.

import { throttled } from "./socket.js";
import { followTurns, takeEvents } from "./turns.js";

const rows = document.getElementById("live-rows");
const followed = rows.dataset.followed;
const ROWS = new Set(["rollout_started", "turn", "rollout_finished", "group_scored", "phase", "finished"]);

const refresh = throttled(() => {
  if (!document.hidden) htmx.trigger(rows, "live:changed");
}, 1000);

// run.js holds the socket and hands its events on.
document.addEventListener("run:events", ({ detail: events }) => {
  if (events.some((event) => ROWS.has(event.type))) refresh();
  if (followed) takeEvents(followed, events);
});
document.addEventListener("visibilitychange", refresh);
if (followed) followTurns({});
