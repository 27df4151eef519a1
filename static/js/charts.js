// Draws the server's figures with Plotly, in the page's own colours and fonts.

function styles() {
  return getComputedStyle(document.documentElement);
}

// "var(--ink)" anywhere in a figure becomes the colour that it has in the theme.
function resolved(value, css) {
  if (typeof value === "string") {
    const name = /^var\((--[\w-]+)\)$/.exec(value);
    return name ? css.getPropertyValue(name[1]).trim() : value;
  }
  if (Array.isArray(value)) return value.map((item) => resolved(item, css));
  if (value && typeof value === "object") {
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, resolved(item, css)]));
  }
  return value;
}

function base(css) {
  const colour = (name) => css.getPropertyValue(name).trim();
  return {
    autosize: true,
    margin: { l: 44, r: 8, t: 8, b: 34 },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: "Inter, system-ui, sans-serif", size: 11, color: colour("--ink-2") },
    hovermode: "x unified",
    hoverlabel: { bgcolor: colour("--ground"), bordercolor: colour("--line-strong"), font: { family: "JetBrains Mono, monospace", size: 11, color: colour("--ink") } },
    legend: { orientation: "h", x: 0, xanchor: "left", y: 1, yanchor: "bottom", font: { size: 11 }, itemwidth: 20 },
    dragmode: "zoom",
  };
}

function layoutOf(figure, css) {
  const own = resolved(figure.layout, css);
  const layout = { ...base(css), ...own };
  if (own.showlegend) layout.margin = { ...layout.margin, t: 26 };
  for (const axis of ["xaxis", "yaxis"]) {
    layout[axis] = { linecolor: css.getPropertyValue("--line-strong").trim(), tickfont: { family: "JetBrains Mono, monospace", size: 10.5 }, ...own[axis] };
    if (layout[axis].title) layout[axis].title = { ...layout[axis].title, standoff: 6, font: { size: 11 } };
  }
  return layout;
}

function markEmpty(plot, empty, text) {
  let note = plot.querySelector(".plot-empty");
  if (!empty) return note?.remove();
  if (!note) {
    note = document.createElement("div");
    note.className = "plot-empty";
    plot.append(note);
  }
  note.textContent = text;
}

function openStep(event, stepUrl) {
  const step = event.points[0]?.customdata;
  if (step === undefined) return;
  const held = event.points[0].data.name === "held-out";
  location.assign(step > 0 && !held ? `${stepUrl}${step}/` : `${stepUrl}${step}/?purpose=evaluation`);
}

export function draw(figures, stepUrl, whenEmpty = "shows after the first step") {
  const css = styles();
  for (const plot of document.querySelectorAll("[data-figure]")) {
    const figure = figures[plot.dataset.figure];
    const empty = !figure.data.length || figure.data.every((trace) => !trace.x.length);
    markEmpty(plot, empty, whenEmpty);
    if (empty) continue;
    const data = resolved(figure.data, css);
    const first = !plot.classList.contains("js-plotly-plot");
    Plotly.react(plot, data, layoutOf(figure, css), { displayModeBar: false, responsive: true });
    if (first && stepUrl) plot.on("plotly_click", (event) => openStep(event, stepUrl));
  }
}
