// A run's events, each once and in order: by websocket, or by asking every few seconds while there is none.

const WAITS = [500, 1000, 2000, 5000, 10000];
const POLL_MS = 4000;

export function follow(run, after, onEvents) {
  let last = after;
  let failures = 0;
  let socket = null;

  // A reconnect may bring what we have already: only what is newer counts.
  const take = (events) => {
    const fresh = events.filter((event) => event.seq > last);
    if (!fresh.length) return;
    last = fresh[fresh.length - 1].seq;
    onEvents(fresh);
  };

  const connect = () => {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    socket = new WebSocket(`${scheme}://${location.host}/ws/runs/${run}/?after=${last}`);
    socket.onopen = () => { failures = 0; };
    socket.onmessage = (message) => take(JSON.parse(message.data).events);
    socket.onclose = () => {
      const wait = WAITS[Math.min(failures, WAITS.length - 1)];
      failures += 1;
      setTimeout(connect, wait);
    };
  };

  const poll = async () => {
    if (document.hidden || socket?.readyState === WebSocket.OPEN) return;
    const answer = await fetch(`/api/runs/${run}/events?after=${last}`).catch(() => null);
    if (answer?.ok) take((await answer.json()).events);
  };

  connect();
  setInterval(poll, POLL_MS);
}

// Calls `work` at most once in `ms`, and once more after the last request.
export function throttled(work, ms) {
  let timer = null;
  let next = 0;
  return () => {
    if (timer) return;
    timer = setTimeout(() => {
      timer = null;
      next = Date.now() + ms;
      work();
    }, Math.max(0, next - Date.now()));
  };
}
