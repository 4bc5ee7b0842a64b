// Pictures of a point: one function per picture, the same for the grid's points and the server's.
// Numbers place marks; every word and numeral drawn is a string of the sheet.
const FONT = 12;
const CHAR = 6.6; // px of an average character at that size
const BELOW = 44; // px for ticks and the name of the axis
const ABOVE = 28;

const fraction = ({ scale, domain: [low, high] }, value) =>
  scale === "log" ? Math.log(value / low) / Math.log(high / low) : (value - low) / (high - low);
const clamp = ({ domain: [low, high] }, value) => Math.min(Math.max(value, low), high);
const colour = (i) => `var(--c${i % 10})`;
// A value without a place on the axis (null, or zero on a logarithm) is not drawn.
const placed = (axis, value) => value != null && (axis.scale !== "log" || value > 0);

// Every tick, or every second, third, …, so that no labels run into each other over `room` px.
function thin(axis, room) {
  const ticks = axis.ticks.filter(([value]) => value >= axis.domain[0] && value <= axis.domain[1]);
  const ends = ticks.map(([value, text]) => {
    const [middle, half] = [fraction(axis, value) * room, (text.length * CHAR) / 2 + 4];
    return [middle - half, middle + half];
  });
  for (let every = 1; every < ticks.length; every++) {
    const kept = ends.filter((_, i) => i % every === 0);
    if (kept.every(([start], i) => i === 0 || start >= kept[i - 1][1])) return ticks.filter((_, i) => i % every === 0);
  }
  return ticks.slice(0, 1);
}

function horizontal(axis, room) {
  const ticks = thin(axis, room);
  const texts = new Map(ticks);
  return [
    Plot.gridX(axis.ticks.map(([value]) => value), { stroke: "var(--grid)", strokeOpacity: 1 }),
    Plot.axisX([...texts.keys()], { text: (v) => texts.get(v), label: null, tickSize: 4, color: "var(--soft)" }),
    Plot.text([axis.label], { frameAnchor: "bottom-right", dy: 38, text: (d) => d, fill: "var(--soft)" }),
  ];
}

function vertical(axis, room) {
  const ticks = axis.ticks.filter(([value]) => value >= axis.domain[0] && value <= axis.domain[1]);
  const step = Math.ceil((ticks.length * 18) / room);
  const texts = new Map(ticks.filter((_, i) => i % step === 0));
  return [
    Plot.gridY([...texts.keys()], { stroke: "var(--grid)", strokeOpacity: 1 }),
    Plot.axisY([...texts.keys()], { text: (v) => texts.get(v), label: null, tickSize: 0, color: "var(--soft)" }),
    Plot.text([axis.label], { frameAnchor: "top-left", dy: -20, dx: 4 - leftOf(axis), text: (d) => d, fill: "var(--soft)" }),
  ];
}

// Room right of an axis for half of its last label.
const ending = ({ ticks }) => 8 + (CHAR * (ticks.at(-1)?.[1].length ?? 0)) / 2;
const leftOf = (axis) => 14 + CHAR * Math.max(...axis.ticks.map(([, text]) => text.length));

function draw(options, marks) {
  const svg = Plot.plot({
    style: { fontSize: `${FONT}px`, background: "none", overflow: "visible" },
    color: { type: "identity" }, // colours are the style sheet's, also where there is nothing to draw
    ...options,
    marks,
  });
  // The wrapper is the image and has the name; names inside are no part of an image.
  for (const element of svg.querySelectorAll("[aria-label],[aria-description]")) {
    element.removeAttribute("aria-label");
    element.removeAttribute("aria-description");
  }
  return svg;
}

// Rows that go on where the last one ended. parts: [row, size, text, share]; names: [key, label, …].
function cascade(names, parts, axis, width, { extra = [], right = ending(axis), top = 8 } = {}) {
  const rows = names.map(([key, label], i) => ({ label, fill: key === "free" ? "var(--line)" : colour(i) }));
  let sum = 0;
  for (const [i, size, text, share] of parts) {
    Object.assign(rows[i], { x1: sum, x2: sum + size, text, share });
    sum += size;
  }
  const shown = rows.filter((row) => row.x2 > row.x1);
  const left = Math.min(0.4 * width, 18 + CHAR * Math.max(...names.map(([, label]) => label.length)));
  const room = width - left - right;
  const text = {
    y: "label", text: "said", fill: "var(--ink)", fontVariant: "tabular-nums", stroke: "var(--panel)", strokeWidth: 4,
  };
  const said = shown.map((row) => ({ ...row, ...beside(row, axis, room) })).filter((row) => row.said);
  return draw(
    {
      width,
      height: top + BELOW + 26 * names.length,
      marginLeft: left, marginRight: right, marginTop: top, marginBottom: BELOW,
      x: { type: axis.scale, domain: axis.domain },
      y: { type: "band", domain: names.map(([, label]) => label), padding: 0.25 },
    },
    [
      ...horizontal(axis, room),
      Plot.axisY({ label: null, tickSize: 0, lineWidth: (left - 10) / FONT, fillOpacity: 0.45 }),
      Plot.axisY(shown.map((r) => r.label), { label: null, tickSize: 0, lineWidth: (left - 10) / FONT }),
      Plot.barX(shown, { x1: (r) => clamp(axis, r.x1), x2: (r) => clamp(axis, r.x2), y: "label", fill: "fill" }),
      ...extra,
      Plot.text(said.filter((r) => r.right), { ...text, x: (r) => clamp(axis, r.x2), dx: 5, textAnchor: "start" }),
      Plot.text(said.filter((r) => !r.right), { ...text, x: (r) => clamp(axis, r.x1), dx: -5, textAnchor: "end" }),
    ],
  );
}

// Where a bar's text has room: right of it, else left; the whole of it, else its size, else nothing.
function beside({ x1, x2, text, share }, axis, room) {
  for (const said of [`${text}  ${share}`, text]) {
    const wide = said.length * CHAR + 8;
    if (fraction(axis, x2) * room + wide <= room) return { said, right: true };
    if (fraction(axis, x1) * room >= wide) return { said, right: false };
  }
  return { said: "" };
}

// One word or number over a picture that has nothing else to show.
const said = (text) => Plot.text([text], {
  frameAnchor: "middle", text: (d) => d, fontSize: 15, fontWeight: 600, fill: "var(--bad)",
  stroke: "var(--panel)", strokeWidth: 8,
});

// The rows that any point of the sweep has: they stay while the slider moves.
function used(bar) {
  const names = sheet.parts[bar];
  const seen = new Set(sheet.points.flatMap((p) => (p[bar]?.parts ?? []).map(([i]) => i)));
  const kept = names.flatMap((_, i) => (seen.has(i) ? [i] : []));
  const row = new Map(kept.map((i, at) => [i, at]));
  return {
    names: kept.length ? kept.map((i) => names[i]) : names,
    rows: (parts) => parts.filter(([i]) => row.has(i)).map(([i, ...rest]) => [row.get(i), ...rest]),
  };
}

function memoryPlot(point, axes, width) {
  const memory = point.memory ?? { parts: [], usable_text: "", capacity_text: "" };
  const axis = axes.memory;
  const { names, rows } = used("memory");
  const limits = [
    { x: clamp(axis, memory.usable), text: memory.usable_text, anchor: "end", dx: -4, dash: "3 3" },
    { x: clamp(axis, memory.capacity), text: memory.capacity_text, anchor: "start", dx: 4, dash: null },
  ];
  const extra = limits.filter(({ text }) => text).flatMap(({ x, text, anchor, dx, dash }) => [
    Plot.ruleX([x], { stroke: "var(--ink)", strokeDasharray: dash }),
    Plot.text([text], { x, frameAnchor: "top", dy: -14, dx, textAnchor: anchor, text: (d) => d, fill: "var(--ink)" }),
  ]);
  if (!memory.parts.length && memory.used > 0)
    extra.unshift(
      Plot.rect([0], { x1: axis.domain[0], x2: clamp(axis, memory.used), y1: null, y2: null, fill: "url(#hatch)", stroke: "var(--bad)" }),
      said(memory.used_text),
    );
  const right = 14 + CHAR * memory.capacity_text.length;
  return cascade(names, rows(memory.parts), axis, width, { extra, right, top: 24 });
}

function stepPlot(point, axes, width) {
  const { names, rows } = used("step");
  const parts = point.step?.parts ?? [];
  const whole = { x: axes.share.domain[1], frameAnchor: "top", dy: -14, textAnchor: "end", fill: "var(--ink)" };
  const extra = parts.length
    ? [Plot.text([point.step.text], { ...whole, text: (d) => d })]
    : [said(BADGES[point.state][1])];
  return cascade(names, rows(parts), axes.share, width, { extra, top: 24 });
}

// A frame over two axes, with room for labels at the right end of lines.
function frame(x, y, width, height, marks, right = ending(x)) {
  const left = leftOf(y);
  const [room, tall] = [width - left - right, height - ABOVE - BELOW];
  return draw(
    {
      width, height,
      marginLeft: left, marginRight: right, marginTop: ABOVE, marginBottom: BELOW,
      x: { type: x.scale, domain: x.domain },
      y: { type: y.scale, domain: y.domain },
    },
    [...vertical(y, tall), ...horizontal(x, room), ...marks(room, tall)],
  );
}

const DASHES = [null, "6 3", "2 3", "8 3 2 3"];

// Room for labels at the ends of lines, wrapped where they take more than a third of the picture.
const rightOf = (labels, width) => Math.min(0.36 * width, 18 + CHAR * Math.max(0, ...labels.map((label) => label.length)));

// Labels at the ends of lines, pushed apart where they would meet. ends: { x, y, text }.
function named(ends, axis, tall, right) {
  const lines = ({ text }) => Math.ceil((text.length * CHAR) / (right - 16)) + (text.length * CHAR > right - 16 ? 0.2 : 0);
  const rows = ends.map((end) => ({ ...end, at: (1 - fraction(axis, end.y)) * tall, tall: 15 * lines(end) }))
    .sort((a, b) => a.at - b.at);
  let free = -Infinity;
  for (const row of rows) {
    row.to = Math.max(row.at, free + row.tall / 2);
    free = row.to + row.tall / 2;
  }
  let last = tall + 12;
  for (const row of rows.toReversed()) {
    row.to = Math.min(row.to, last - row.tall / 2);
    last = row.to - row.tall / 2;
  }
  return rows.map((row) => Plot.text([row], {
    x: "x", y: "y", text: "text", dx: 8, dy: row.to - row.at, textAnchor: "start", lineAnchor: "middle",
    lineWidth: (right - 10) / FONT, fill: "var(--ink)",
  }));
}

// Counts that no published run stands behind: hatched, and said in a word.
function beyond(x, frameAnchor) {
  const { beyond, beyond_word } = sheet.lines;
  const at = (value) => clamp(x, value);
  return [
    Plot.rect(beyond, { x1: (d) => at(d[0]), x2: (d) => at(d[1]), y1: null, y2: null, fill: "url(#beyond)" }),
    Plot.text(beyond.slice(-1), {
      x: (d) => at(d[0]), frameAnchor, dx: 5, dy: frameAnchor === "top" ? 6 : -6, textAnchor: "start", text: () => beyond_word,
      fill: "var(--soft)", stroke: "var(--panel)", strokeWidth: 4,
    }),
  ];
}
const isBeyond = (p) => p.facts.some(({ key, evidence }) => key === "days" && evidence === sheet.lines.beyond_word);

function goodputPlot(point, axes, width) {
  const { gpus: x, goodput: y } = axes;
  const lines = sheet.lines.goodput.map(([key, label], i) => ({
    key, label, i, points: sheet.points.filter((p) => placed(y, p.goodput?.[key])),
  })).filter((line) => line.points.length);
  const right = rightOf(lines.map(({ label }) => label), width);
  const marks = (_, room) => {
    const ends = lines.map((line) => {
      const last = line.points.at(-1);
      return { x: last.gpus, y: clamp(y, last.goodput[line.key]), text: line.label, i: line.i };
    });
    return [
      ...beyond(x, "bottom"),
      Plot.areaY(sheet.points, {
        x: "gpus", y1: (p) => p.goodput_band?.[0] ?? NaN, y2: (p) => p.goodput_band?.[1] ?? NaN,
        fill: "var(--c0)", fillOpacity: 0.16,
      }),
      Plot.ruleX([clamp(x, point.gpus)], { stroke: "var(--accent)", strokeWidth: 1 }),
      ...lines.flatMap(({ key, i, points }) => [
        Plot.line(points, { x: "gpus", y: (p) => clamp(y, p.goodput[key]), stroke: colour(i), strokeWidth: 2, strokeDasharray: DASHES[i % 4] }),
        Plot.dot([point].filter((p) => placed(y, p.goodput?.[key])), {
          x: (p) => clamp(x, p.gpus), y: (p) => clamp(y, p.goodput[key]), r: 5, fill: colour(i), stroke: "var(--panel)", strokeWidth: 1.5,
        }),
      ]),
      ...named(ends, y, room, right),
    ];
  };
  return frame(x, y, width, 280, marks, right);
}

// Points whose labels do not cover those of the ones before them.
function labelled(rows, x, y, width, height) {
  const kept = [];
  for (const row of rows) {
    const [at, up] = [fraction(x, row.x) * width, fraction(y, row.y) * height];
    const wide = row.text.length * CHAR + 12;
    const edge = at < wide / 2; // a label that would cover the axis begins at its dot
    if (kept.every((other) => Math.abs(other.up - up) > 16 || other.at > at + wide || other.at + other.wide < at))
      kept.push({ ...row, at, up, wide, edge });
  }
  return kept;
}

function paretoPlot(point, axes, width) {
  const { days: x, usd: y } = axes;
  const whole = (p) => placed(x, p.days?.[1]) && placed(y, p.usd?.[1]);
  const row = (p) => ({ x: clamp(x, p.days[1]), y: clamp(y, p.usd[1]), text: p.gpus_text, state: p.state, p });
  const rows = sheet.points.filter(whole).map(row);
  const decades = new Set(sheet.positions.filter((_, i) => i % 10 === 0));
  const marks = (room, tall) => {
    const here = [point].filter(whole).map(row);
    const fits = rows.filter((r) => r.state === "fits");
    const least = fits.length ? [fits.reduce((a, b) => (b.p.usd[1] < a.p.usd[1] ? b : a))] : [];
    const cheapest = least.map((r) => ({ ...r, text: `${r.text}, cheapest` }));
    const names = labelled([...here, ...rows.filter((r) => decades.has(sheet.points.indexOf(r.p)))], x, y, room, tall);
    const band = { stroke: "var(--accent)", strokeWidth: 1.5 };
    return [
      Plot.line(rows, { x: "x", y: "y", stroke: "var(--soft)", strokeWidth: 1, strokeOpacity: 0.5 }),
      ...[false, true].map((far) => Plot.dot(rows.filter((r) => isBeyond(r.p) === far), {
        x: "x", y: "y", r: 3, fill: (r) => (r.state === "fits" ? "var(--c0)" : "var(--panel)"), stroke: "var(--c0)",
        symbol: far ? "diamond" : "circle",
      })),
      Plot.link(here, { x1: (r) => clamp(x, r.p.days[0]), x2: (r) => clamp(x, r.p.days[2]), y1: "y", y2: "y", ...band }),
      Plot.link(here, { x1: "x", x2: "x", y1: (r) => clamp(y, r.p.usd[0]), y2: (r) => clamp(y, r.p.usd[2]), ...band }),
      Plot.dot(here, { x: "x", y: "y", r: 6, fill: "var(--accent)", stroke: "var(--panel)", strokeWidth: 1.5 }),
      Plot.text(cheapest, { x: "x", y: "y", text: "text", dy: 17, fill: "var(--ink)", stroke: "var(--panel)", strokeWidth: 4 }),
      ...[true, false].map((edge) => Plot.text(names.filter((r) => r.edge === edge), {
        x: "x", y: "y", text: "text", dy: -15, dx: edge ? 4 : 0, textAnchor: edge ? "start" : "middle", fill: "var(--ink)",
        stroke: "var(--panel)", strokeWidth: 4, fontWeight: (r) => (r.p === point ? 700 : 400),
      })),
    ];
  };
  return frame(x, y, width, 280, marks, 14 + CHAR * 9);
}

function supplyPlot(point, axes, width) {
  const { year: x, delivered: y } = axes;
  const curve = sheet.supply.curve.filter(([, , mid]) => placed(y, mid));
  const marks = () => {
    const here = { x: x.domain[0], y: clamp(y, point.gpus), text: point.gpus_text };
    const ready = (point.ready ?? []).filter((year) => year != null);
    const span = ready.length ? [{ x1: clamp(x, Math.min(...ready)), x2: clamp(x, Math.max(...ready)), y: here.y }] : [];
    const middle = placed(x, point.ready?.[1]) ? [{ x: clamp(x, point.ready[1]), y: here.y }] : [];
    return [
      Plot.areaY(curve, { x: "0", y1: (d) => clamp(y, d[1] ?? d[2]), y2: (d) => clamp(y, d[3] ?? d[2]), fill: "var(--c1)", fillOpacity: 0.2 }),
      Plot.line(curve, { x: "0", y: (d) => clamp(y, d[2]), stroke: "var(--c1)", strokeWidth: 2 }),
      Plot.ruleY([here.y], { stroke: "var(--accent)", strokeWidth: 1, strokeDasharray: "4 3" }),
      Plot.text([here], { x: "x", y: "y", text: "text", dx: 6, dy: -9, textAnchor: "start", fill: "var(--ink)", fontWeight: 700, stroke: "var(--panel)", strokeWidth: 4 }),
      Plot.link(span, { x1: "x1", x2: "x2", y1: "y", y2: "y", stroke: "var(--accent)", strokeWidth: 5, strokeOpacity: 0.45 }),
      Plot.dot(middle, { x: "x", y: "y", r: 6, fill: "var(--accent)", stroke: "var(--panel)", strokeWidth: 1.5 }),
    ];
  };
  return frame(x, y, width, 280, marks);
}

function powerPlot(point, axes, width) {
  const { gpus: x, power: y } = axes;
  const known = sheet.points.filter((p) => placed(y, p.power_w?.[1]));
  const { peaks, power } = sheet.lines;
  const right = peaks.length ? rightOf(power, width) : ending(x);
  const marks = (_, tall) => {
    const ends = peaks.length && known.length ? [
      { x: clamp(x, known.at(-1).gpus), y: clamp(y, known.at(-1).power_w[1]), text: power[0] },
      { x: clamp(x, peaks.at(-1)[0]), y: clamp(y, peaks.at(-1)[1]), text: power[1] },
    ] : [];
    const here = [point].filter((p) => placed(y, p.power_w?.[1]));
    const value = (i) => (p) => clamp(y, p.power_w[i]);
    return [
      ...beyond(x, "top"),
      Plot.line(peaks, { x: "0", y: (d) => clamp(y, d[1]), stroke: "var(--c2)", strokeWidth: 1.5, strokeDasharray: "5 3" }),
      ...named(ends, y, tall, right),
      Plot.areaY(known, { x: "gpus", y1: value(0), y2: value(2), fill: "var(--c2)", fillOpacity: 0.2 }),
      Plot.line(known, { x: "gpus", y: value(1), stroke: "var(--c2)", strokeWidth: 2 }),
      Plot.dot(here, { x: (p) => clamp(x, p.gpus), y: value(1), r: 6, fill: "var(--accent)", stroke: "var(--panel)", strokeWidth: 1.5 }),
    ];
  };
  return frame(x, y, width, 230, marks, right);
}

// Bars of one step: [track, start, end, kind]; a kind has a colour and a pattern of its own.
function timelinePlot(width) {
  const { tracks, bars, kinds, axis } = sheet.timeline;
  const order = new Map(kinds.map(([kind], i) => [kind, i]));
  const left = 18 + CHAR * Math.max(...tracks.map((track) => track.length));
  const room = width - left - ending(axis);
  const paint = ([, , , kind]) => kind.includes("not drawn") ? "var(--line)" : (order.get(kind) % 2 ? `url(#stripe${order.get(kind) % 10})` : colour(order.get(kind)));
  return draw(
    {
      width, height: 8 + BELOW + 30 * tracks.length,
      marginLeft: left, marginRight: ending(axis), marginTop: 8, marginBottom: BELOW,
      x: { type: axis.scale, domain: axis.domain },
      y: { type: "band", domain: tracks, padding: 0.2 },
    },
    [
      ...horizontal(axis, room),
      Plot.axisY({ label: null, tickSize: 0 }),
      Plot.barX(bars, { x1: "1", x2: "2", y: (bar) => tracks[bar[0]], fill: paint }),
    ],
  );
}

function seriesPlot({ x, y, series, marks = [] }, width) {
  const ends = series.filter(({ points }) => points.length).map(({ label, points }) => {
    const last = points.findLast(([, value]) => placed(y, value)) ?? points.at(-1);
    return { x: clamp(x, last[0]), y: clamp(y, last[1]), text: label };
  });
  const right = series.length > 1 ? rightOf(series.map(({ label }) => label), width) : ending(x);
  return frame(x, y, width, 270, (wide, room) => [
    ...marks.map(([at]) => Plot.ruleX([at], { stroke: "var(--bad)", strokeDasharray: "3 3" })),
    ...series.flatMap(({ points }, i) => [
      Plot.line(points, { x: "0", y: (d) => (placed(y, d[1]) ? clamp(y, d[1]) : NaN), stroke: colour(i), strokeWidth: 2, strokeDasharray: DASHES[i % 4] }),
      ...(points.length < 3 ? [Plot.dot(points, { x: "0", y: "1", r: 4, fill: colour(i) })] : []),
    ]),
    ...(series.length > 1 ? named(ends, y, room, right) : []),
    ...labelled(marks.map(([at, text]) => ({ x: at, y: y.domain[0], text })), x, y, wide, room).map((mark) =>
      Plot.text([mark], {
        x: "x", frameAnchor: "bottom", dy: -8, dx: 4, textAnchor: "start", text: "text", fill: "var(--bad)",
        stroke: "var(--panel)", strokeWidth: 4,
      })),
  ], right);
}
