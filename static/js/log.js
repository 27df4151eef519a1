// The log page: new lines as they come, while the reader is at the top where they appear.

import { throttled } from "./socket.js";

const refresh = throttled(() => {
  if (!document.hidden && scrollY < 200) htmx.trigger("#log", "log:changed");
}, 1000);

document.addEventListener("run:events", refresh);
