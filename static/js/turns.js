// Appends the turns of a rollout in flight as the server renders them. Never scrolls the reader: it says what is new.

import { follow } from "./socket.js";

const list = document.getElementById("turns");
const outline = document.getElementById("outline");
const notice = document.getElementById("new-turns");
let unseen = 0;

function atEnd() {
  const last = list.lastElementChild;
  return !last || last.getBoundingClientRect().top < innerHeight;
}

function say() {
  notice.hidden = unseen === 0;
  notice.firstElementChild.textContent = unseen === 1 ? "1 new turn" : `${unseen} new turns`;
}

function addToOutline(turn) {
  if (!outline) return;
  outline.querySelector("[data-none]")?.remove();
  const link = document.createElement("a");
  link.href = `#${turn.id}`;
  for (const [name, text] of [["n num", turn.dataset.turn], ["clip", turn.querySelector(".tool").textContent]]) {
    const part = document.createElement("span");
    part.className = name;
    part.textContent = text;
    link.append(part);
  }
  outline.append(link);
}

// A server that is away for a moment is asked again; null when it stays away.
async function fetched(url) {
  for (const wait of [0, 1000, 4000]) {
    await new Promise((resolve) => { setTimeout(resolve, wait); });
    const answer = await fetch(url).catch(() => null);
    if (answer) return answer;
  }
  return null;
}

async function append(rollout, number) {
  if (document.getElementById(`turn-${number}`)) return;
  const answer = await fetched(`/rollouts/${rollout}/turns/${number}/`);
  if (!answer?.ok || answer.redirected) return;
  const here = atEnd();
  list.insertAdjacentHTML("beforeend", await answer.text());
  const turn = list.lastElementChild;
  addToOutline(turn);
  unseen = here ? 0 : unseen + 1;
  say();
}

// One after the other, so that turns stand in their order.
let queue = Promise.resolve();

export function takeEvents(rollout, events) {
  for (const event of events) {
    if (event.rollout !== rollout) continue;
    if (event.type === "turn") queue = queue.then(() => append(rollout, event.turn.index + 1));
    if (event.type === "rollout_finished") queue = queue.then(() => finished());
  }
}

function finished() {
  const button = notice.firstElementChild;
  notice.hidden = false;
  button.textContent = "This rollout ended: show its result";
  button.onclick = () => location.reload();
}

export function followTurns({ rollout, run, seq }) {
  notice.firstElementChild.onclick = () => {
    list.lastElementChild.scrollIntoView({ block: "end" });
    unseen = 0;
    say();
  };
  addEventListener("scroll", () => {
    if (unseen && atEnd()) {
      unseen = 0;
      say();
    }
  }, { passive: true });
  if (run) follow(run, Number(seq), (events) => takeEvents(rollout, events));
}
