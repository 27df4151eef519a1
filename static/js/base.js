// Every page: theme button, ticking times, confirmations, keys. Says nothing about runs.

const UNITS = [
  [86400 * 2, 86400, "d"],
  [3600, 3600, "h"],
  [60, 60, "min"],
  [0, 1, "s"],
];

function ago(seconds) {
  const [, size, unit] = UNITS.find(([from]) => seconds >= from);
  return `${Math.floor(seconds / size)} ${unit} ago`;
}

export function duration(seconds) {
  const s = Math.max(0, Math.floor(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${String(s % 60).padStart(2, "0")} s`;
  return `${Math.floor(s / 3600)} h ${String(Math.floor((s % 3600) / 60)).padStart(2, "0")} min`;
}

function tick() {
  if (document.hidden) return;
  for (const time of document.querySelectorAll("time[data-ago]")) {
    const seconds = Math.max(0, (Date.now() - Date.parse(time.dateTime)) / 1000);
    time.textContent = ago(seconds);
  }
  for (const time of document.querySelectorAll("time[data-since]")) {
    time.textContent = duration((Date.now() - Date.parse(time.dateTime)) / 1000);
  }
}

// A form with data-confirm asks first, in a dialog that names the action.
function confirmFirst(event) {
  const form = event.target;
  if (!form.dataset.confirm || form.dataset.confirmed) return;
  event.preventDefault();
  const dialog = document.getElementById("confirm");
  dialog.querySelector("p").textContent = form.dataset.confirm;
  const yes = dialog.querySelector("[data-yes]");
  yes.textContent = form.dataset.confirmYes || "Yes";
  yes.onclick = () => {
    dialog.close();
    // The page may have refreshed the form behind the dialog.
    const current = document.querySelector(`form[action="${CSS.escape(form.getAttribute("action"))}"]`) || form;
    current.dataset.confirmed = "1";
    current.requestSubmit();
  };
  dialog.showModal();
}

// Keys that a page offers are its own links and buttons marked data-key.
function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input, textarea, select, dialog[open]")) return;
  if (event.key === "?") return document.getElementById("keys").showModal();
  const target = document.querySelector(`[data-key="${CSS.escape(event.key)}"]`);
  if (!target) return;
  event.preventDefault();
  if (target.matches("input")) target.focus();
  else target.click();
}

function copy(event) {
  const button = event.target.closest("[data-copy]");
  if (button) navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
}

document.addEventListener("submit", confirmFirst, true);
document.addEventListener("keydown", onKey);
document.addEventListener("click", (event) => {
  copy(event);
  if (event.target.closest("[data-theme-toggle]")) document.dispatchEvent(new Event("theme:toggle"));
  const closer = event.target.closest("dialog [data-close]");
  if (closer) closer.closest("dialog").close();
});
document.addEventListener("change", (event) => {
  if (event.target.matches("[data-submit-on-change]")) event.target.form.requestSubmit();
});
// Parts marked data-refresh="5" ask again every five seconds while somebody looks.
function refresh() {
  for (const part of document.querySelectorAll("[data-refresh]")) {
    if (!document.hidden) htmx.trigger(part, "refresh");
  }
}

// A part that refreshes by itself waits while the keyboard is in it: new content would take the focus away.
const held = new Map();

function hold(event) {
  const part = event.detail.elt;
  if (!part.matches("[data-live], [data-refresh]") || !part.querySelector(":focus-visible")) return;
  event.preventDefault();
  held.set(part, event.detail.requestConfig.triggeringEvent.type);
}

function release() {
  for (const [part, trigger] of held) {
    if (part.querySelector(":focus-visible")) continue;
    held.delete(part);
    if (part.isConnected) htmx.trigger(part, trigger);
  }
}

document.addEventListener("htmx:beforeRequest", hold);
document.addEventListener("focusout", () => setTimeout(release));
setInterval(tick, 1000);
setInterval(refresh, 5000);
