// The learner's page: asks /status and /history once a second and shows what they say. Names come from peers, so text
// goes into the document as text (textContent) and never as markup.
import { draw, path, ticks, timeTicks } from "./drawing.js";
import { LEARNT, MINUS, NONE, THIN, bytes, clockTime, count, duration, fine } from "./numbers.js";

const POLL_MS = 1000, HIDDEN_MS = 10000, MOST_WAIT_MS = 10000, PATIENCE_MS = 8000;
const FEW_ACTORS = 50, MANY_ACTORS = 1000;
const FAR_BACK = -1; // seconds of training, before the first point

const by = (id) => document.getElementById(id);
const page = {
  status: null, // the newest answer; kept when the learner is gone
  heardAt: 0, // performance.now() of that answer, and its time of day
  heardOn: null,
  failures: 0,
  lostOn: null, // since when nobody answers
  axis: "env_steps",
  sort: "ordinal",
  actors: FEW_ACTORS,
  picked: null, // index of the point that is read out
};
let curve = null; // as /history tells it, grown by what came later
let timer = 0;

// the document

function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function figure(id, value, unit, more) {
  const element = by(id);
  if (element.childNodes.length !== 2) element.replaceChildren("", document.createElement("small"));
  const [number, scale = ""] = value.split(THIN); // of "3.1 kB" only the number is large
  if (element.firstChild.data !== number) element.firstChild.data = number;
  say(element.lastChild, value === NONE ? "" : `${THIN}${scale}${unit}`);
  say(by(id + "-more"), more);
}

function showFigures(s) {
  const best = s.return_best_mean === null ? "" : `best ${count(s.return_best_mean)}`;
  const spread = s.return_min === null ? "" : `${count(s.return_min)} to ${count(s.return_max)}`;
  const target = s.return_target === null ? "" : ` of ${count(s.return_target)}`;
  const evaluated = s.evaluated_best_mean === null ? "" : `evaluated ${count(s.evaluated_best_mean)}`;
  const more = [spread, best, evaluated].filter(Boolean).join(", ");
  figure("return", count(s.return_mean), target, more || "no episode yet");
  figure("rate", count(s.env_steps_per_s), "/s", `${count(s.env_steps)} in ${count(s.episodes)} episodes`);
  figure("updates", count(s.updates_per_s), "/s", `version ${s.version.toLocaleString("en")}`);
  const recent = s.lag_updates === null ? s.lag_mean_updates : s.lag_updates;
  figure("lag", count(recent), " updates", `mean ${count(s.lag_mean_updates)}, most ${count(s.lag_max_updates)}`);
  figure("received", bytes(s.received_bytes_per_s), "/s", s.compression === null ? bytes(s.received_bytes)
    : `${bytes(s.bytes_per_gradient)} a gradient, ${count(s.compression, 2)}× less than float32`);
  figure("sent", bytes(s.sent_bytes_per_s), "/s", `${bytes(s.sent_bytes)} in all, once for all actors`);
}

function showRun(s) {
  say(by("env"), s.env);
  const life = s.epoch > 1 ? ` · life ${s.epoch}` : "";
  say(by("run"), `${s.run} · seed ${s.seed} · ${count(s.parameters)} parameters${life}`);
  document.title = `${count(s.return_mean)} · ${s.env} · Farflung`;
}

function showLimit(s) {
  const limit = by("limit"), unknown = page.lostOn && s.stage === "running";
  limit.hidden = false;
  limit.dataset.cause = unknown ? "unreachable" : s.limit.cause;
  say(limit, unknown ? `The learner cannot be reached: nothing is known of the run since ${clockTime(page.heardOn)}.`
    : s.limit.text);
  const advice = by("advice"), given = s.advice ?? [];
  advice.hidden = !given.length;
  say(advice, given.map((each) => `${each.text} (${each.setting})`).join(" "));
}

/** What the page may claim about now: it is looked at every second, whether or not an answer came. */
function showHealth() {
  const s = page.status, since_s = (performance.now() - page.heardAt) / 1000;
  let health = "good", text = "connecting";
  if (page.lostOn) {
    health = "gone";
    const over = s && s.stage !== "running" ? "run over, learner gone" : "learner unreachable";
    text = `${over} since ${clockTime(page.lostOn)}`;
  } else if (s) {
    const idle_s = s.idle_s + since_s;
    if (s.stage !== "running") text = s.solved ? "target reached" : s.stage;
    else if (!s.actors) [health, text] = ["stalled", "waiting for actors"];
    else if (s.stalled) {
      [health, text] = ["stalled", `no update for ${Math.floor(idle_s)}${THIN}s`];
    } else text = `running, ${duration(s.wall_s)}`;
  }
  document.body.dataset.health = s || page.lostOn ? health : "";
  if (s) showLimit(s);
  say(by("health-text"), text);
  say(by("age"), !s ? "" : page.lostOn ? `The numbers are those of ${clockTime(page.heardOn)}.`
    : since_s < 3 ? "Rates are means over five seconds, and up to a minute where rollouts take long." : `Last answer ${duration(since_s)} ago.`);
}

function showRefused(s) {
  const total = Object.values(s.rulings).reduce((sum, n) => sum + n, 0);
  const refused = Object.entries(s.rulings).filter(([outcome, n]) => outcome !== "applied" && n);
  const rows = [...refused.map(([why, n]) => [`gradient: ${why.replaceAll("_", " ")}`, n]),
    ...Object.entries(s.actor_faults).filter(([, n]) => n).map(([why, n]) => [`actor: ${why.replaceAll("_", " ")}`, n]),
    ...Object.entries(s.faults).filter(([, n]) => n).map(([why, n]) => [`message: ${why.replaceAll("_", " ")}`, n])];
  by("refused").hidden = !rows.length;
  say(by("refused-share"), s.refused ? `${count((100 * s.refused) / total, 2)}${THIN}% of gradients` : "no gradient");
  fill(by("reasons"), rows.sort((a, b) => b[1] - a[1]), () => row("th", "td"), (element, [why, n]) => {
    say(element.children[0], why);
    say(element.children[1], n.toLocaleString("en"));
  });
}

function showLearnt(s) { // losses, and below them what the environments measure
  const rows = [...LEARNT.map(([field, name, unit]) => [name, s[field], unit]), ...Object.entries(s.metrics)]
    .filter(([, mean]) => mean !== null);
  by("learnt").hidden = !rows.length;
  fill(by("means"), rows, () => row("th", "td"), (element, [name, mean, unit = ""]) => {
    say(element.children[0], name);
    say(element.children[1], fine(mean) + (unit && THIN + unit));
  });
}

// the fleet

const COLUMNS = [ // field, head, how to say it, class
  ["name", "actor", (v) => v || NONE, "word"],
  ["state", "state", (v) => v, "word"],
  ["env_steps_per_s", "steps/s", (v) => count(v), "share"],
  ["env_steps", "steps", (v) => count(v), ""],
  ["lag_updates", "lag", (v) => count(v), ""],
  ["silent_s", "silent", (v) => duration(Math.max(0, v)), ""],
  ["credit", "credit", (v) => count(v), ""],
  ["received_bytes", "sent", (v) => bytes(v), ""],
];
const HEAD_HELP = {
  lag_updates: "updates since the weights that it holds", silent_s: "since it was last heard of",
  credit: "gradients that it may have unanswered", received_bytes: "bytes that it sent",
};

function row(...kinds) {
  const element = document.createElement("tr");
  element.append(...kinds.map((kind) => document.createElement(kind)));
  return element;
}

/** As many children as there are items, each made once and then kept, so that a selection survives. */
function fill(parent, items, make, show) {
  while (parent.children.length > items.length) parent.lastChild.remove();
  while (parent.children.length < items.length) parent.append(make());
  items.forEach((item, index) => show(parent.children[index], item));
}

function makeHeads() {
  for (const [field, head, , kind] of COLUMNS) {
    const th = document.createElement("th"), button = document.createElement("button");
    th.className = kind;
    th.scope = "col";
    th.dataset.field = field;
    button.type = "button";
    button.append(head, document.createElement("span"));
    if (HEAD_HELP[field]) button.title = HEAD_HELP[field];
    button.addEventListener("click", () => sortBy(field));
    th.append(button);
    by("heads").append(th);
  }
}

function sortBy(field) {
  const words = field === "name" || field === "state";
  const first = words ? field : "-" + field, second = words ? "-" + field : field;
  page.sort = page.sort === first ? second : page.sort === second ? "ordinal" : first;
  for (const th of by("heads").children) {
    const mine = page.sort.replace("-", "") === th.dataset.field, down = page.sort.startsWith("-");
    if (mine) th.setAttribute("aria-sort", down ? "descending" : "ascending");
    else th.removeAttribute("aria-sort");
    say(th.querySelector("span"), mine ? (down ? "↓" : "↑") : "");
  }
  poll();
}

function makeActor() {
  const element = row("th", ...COLUMNS.slice(1).map(() => "td"));
  element.firstChild.scope = "row";
  COLUMNS.forEach(([, head, , kind], index) => {
    element.children[index].className = kind;
    element.children[index].dataset.head = head; // a phone says it beside the value
  });
  return element;
}

const STATES = ["training", "evaluating", "standing still", "silent", "quarantined"];

function showFleet(s) {
  const all = s.actors + s.evaluators, fastest = Math.max(1e-9, ...s.actor_list.map((a) => a.env_steps_per_s || 0));
  const states = STATES.filter((state) => s.actor_states[state])
    .map((state) => `${s.actor_states[state].toLocaleString("en")} ${state}`);
  const part = s.actor_list.length < all ? `; ${s.actor_list.length} listed` : "";
  say(by("fleet-count"), (states.join(", ") || "nobody is here") + part);
  const more = by("fleet-more");
  more.hidden = all <= FEW_ACTORS;
  say(more, `list ${(page.actors === FEW_ACTORS ? Math.min(all, MANY_ACTORS) : FEW_ACTORS).toLocaleString("en")}`);
  fill(by("fleet"), s.actor_list, makeActor, (element, actor) => {
    element.dataset.state = actor.state;
    COLUMNS.forEach(([field, , text], index) => say(element.children[index], text(actor[field])));
    element.firstChild.title = actor.name;
    const share = Math.max(0, Math.min(1, (actor.env_steps_per_s || 0) / fastest));
    element.querySelector(".share").style.setProperty("--share", share.toFixed(3));
  });
}

// the curves

const GUTTER = 46, RIGHT = 10, AXIS = 20;
const PLOTS = [ // the mean return, then strips that share its horizontal axis
  { field: "return_mean", name: "", height: 250, say: count },
  { field: "env_steps_per_s", name: "steps/s", height: 62, say: count },
  { field: "lag_updates", name: "lag, updates", height: 62, say: count },
  { field: "received_bytes_per_s", name: "received, bytes/s", height: 62, say: bytes },
];

/** What the vertical axis spans: the means whole, and of the extremes and of a target what leaves those readable. */
function span(plot) {
  const known = curve[plot.field].filter((value) => value !== null);
  if (plot.name) return [0, Math.max(1e-9, ...known) * 1.08];
  const target = page.status.return_target, extent = Math.max(...known) - Math.min(...known);
  const near = target !== null && target <= Math.max(...known) + extent && target >= Math.min(...known) - extent;
  let low = Math.min(...known, ...(near ? [target] : [])), high = Math.max(...known, ...(near ? [target] : []));
  const room = (high - low) * 0.3 || Math.max(1, Math.abs(high) * 0.1);
  const extreme = (field, pick) => pick(...curve[field].filter((value) => value !== null));
  low = Math.max(low - room, Math.min(low, extreme("return_min", Math.min)));
  high = Math.min(high + room, Math.max(high, extreme("return_max", Math.max)));
  return [low - (high - low) * 0.04, high + (high - low) * 0.06];
}

/** What the horizontal axis spans. */
function reach(xs) {
  const start = page.axis === "time_s" ? 0 : Math.min(...xs);
  return [start, Math.max(start + 1e-9, ...xs)];
}

function plotted(plot, width, last) {
  const [low, high] = span(plot), top = plot.name ? 18 : 6, bottom = plot.height - 4;
  const height = plot.height + (last ? AXIS : 0);
  const xs = curve[page.axis], [start, end] = reach(xs);
  const x = (value) => GUTTER + ((value - start) / (end - start)) * (width - GUTTER - RIGHT);
  const y = (value) => bottom - ((value - low) / (high - low)) * (bottom - top);
  const svg = draw("svg", { height, viewBox: `0 0 ${width} ${height}`, role: "img",
    "aria-label": spoken(plot), class: plot.name ? "strip" : "main" });
  const clip = draw("clipPath", { id: `inside-${plot.field}` });
  const inside = { x: GUTTER, y: top - 2, width: width - GUTTER - RIGHT + 2, height: bottom - top + 4 };
  clip.append(draw("rect", inside));
  svg.append(clip);
  for (const value of plot.name ? [0] : ticks(low, high, 5)) {
    svg.append(draw("line", { class: "grid", x1: GUTTER, x2: width - RIGHT, y1: y(value), y2: y(value) }));
    svg.append(draw("text", { x: GUTTER - 8, y: y(value) + 4, "text-anchor": "end" }, count(value, 3, false)));
  }
  if (plot.name) named(svg, plot, width);
  const shapes = draw("g", { "clip-path": `url(#inside-${plot.field})` });
  shapes.append(draw("path", { class: "spread", d: spread(plot, xs.map(x), y, bottom) }));
  if (!plot.name && page.status.return_target !== null) aim(svg, shapes, y, width, top, bottom);
  const line = known(plot.field).map((i) => [x(xs[i]), y(curve[plot.field][i])]);
  shapes.append(draw("path", { class: "line", d: path(line) }));
  svg.append(shapes);
  if (page.picked !== null) {
    const at = x(xs[page.picked]);
    svg.append(draw("line", { class: "rule", x1: at, x2: at, y1: top, y2: bottom }));
  }
  if (last) axis(svg, x, start, end, height, width);
  return svg;
}

/** The points of which a field is known. A life that goes on has no mean until an episode ends: no hole for that. */
const known = (field) => curve[field].flatMap((value, i) => (value === null ? [] : [i]));

/** Between the lowest and the highest return; of a strip, what lies under its line. */
function spread(plot, xs, y, bottom) {
  const lows = plot.name ? null : curve.return_min, highs = plot.name ? curve[plot.field] : curve.return_max;
  const at = known(plot.name ? plot.field : "return_max");
  const upper = at.map((i) => [xs[i], y(highs[i])]), lower = at.map((i) => [xs[i], lows ? y(lows[i]) : bottom]);
  return at.length ? path([...upper, ...lower.reverse()]) + "Z" : "";
}

/** The target: a line where it is in sight, else a word at the edge beyond which it is. */
function aim(svg, shapes, y, width, top, bottom) {
  const at = y(page.status.return_target), beyond = at < top - 1 ? "\u2191" : at > bottom + 1 ? "\u2193" : "";
  shapes.append(draw("line", { class: "target", x1: GUTTER, x2: width - RIGHT, y1: at, y2: at }));
  const place = { "": at - 6, "\u2191": top + 10, "\u2193": bottom - 6 }[beyond];
  const text = `target ${count(page.status.return_target)} ${beyond}`.trim();
  svg.append(draw("text", { class: "target", x: GUTTER + 6, y: place }, text));
}

function named(svg, plot, width) {
  const known = curve[plot.field].filter((value) => value !== null);
  const told = `now ${plot.say(known.at(-1))}, most ${plot.say(Math.max(...known))}`;
  svg.append(draw("text", { class: "name", x: GUTTER, y: 12 }, plot.name));
  svg.append(draw("text", { x: width - RIGHT, y: 12, "text-anchor": "end" }, told));
}

function axis(svg, x, start, end, height, width) {
  const time = page.axis === "time_s", wanted = Math.max(2, Math.floor(width / 100));
  for (const value of time ? timeTicks(end, wanted) : ticks(start, end, wanted)) {
    const at = Math.min(x(value), width - RIGHT);
    const anchor = at > width - 40 ? "end" : "middle";
    const text = time ? (value ? duration(value).replace(".0", "") : "0") : count(value, 3, false);
    svg.append(draw("text", { x: at, y: height - 5, "text-anchor": anchor }, text));
  }
}

function spoken(plot) {
  const known = curve[plot.field].filter((value) => value !== null);
  const name = plot.name || "mean return of the last 100 episodes";
  if (!known.length) return `${name}: nothing yet`;
  const say = (value) => plot.say(value).replace(MINUS, "minus ").replace(THIN, " ");
  return `${name}: now ${say(known.at(-1))}, lowest ${say(Math.min(...known))}, highest ${say(Math.max(...known))}`;
}

function showCurve() {
  const place = by("curve");
  if (!page.status || !curve || curve.time_s.length < 2) {
    place.replaceChildren();
    say(by("readout"), page.status ? "The curve begins with the first steps." : "");
    return;
  }
  if (page.picked !== null) page.picked = Math.min(page.picked, curve.time_s.length - 1);
  const shown = PLOTS.filter((plot) => curve[plot.field].some((value) => value !== null));
  const width = Math.max(200, place.clientWidth), last = shown.length - 1;
  place.replaceChildren(...shown.map((plot, index) => plotted(plot, width, index === last)));
  readOut();
}

const PICKED = ["time_s", "env_steps", "return_mean", "return_min", "return_max", "env_steps_per_s", "lag_updates"];

function readOut() {
  if (page.picked === null) return say(by("readout"), "mean of the last 100 episodes, and their extremes");
  const at = Object.fromEntries(PICKED.map((field) => [field, curve[field][page.picked]]));
  const extremes = at.return_min === null ? "" : ` (${count(at.return_min)} to ${count(at.return_max)})`;
  return say(by("readout"), `${count(at.return_mean)}${extremes} at ${count(at.env_steps)} steps, `
    + `${duration(at.time_s)}; ${count(at.env_steps_per_s)} steps/s, ${count(at.lag_updates)} updates late`);
}

function pick(event) {
  if (!curve || !by("curve").firstChild) return;
  const box = by("curve").getBoundingClientRect(), xs = curve[page.axis], [start, end] = reach(xs);
  const value = start + ((event.clientX - box.left - GUTTER) / (box.width - GUTTER - RIGHT)) * (end - start);
  page.picked = xs.reduce((best, at, i) => (Math.abs(at - value) < Math.abs(xs[best] - value) ? i : best), 0);
  showCurve();
}

function walk(event) {
  const way = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!curve || !curve.time_s.length || (!way && event.key !== "Escape")) return;
  const newest = curve.time_s.length - 1;
  page.picked = way ? Math.max(0, Math.min(newest, (page.picked ?? newest + 1) + way)) : null;
  event.preventDefault();
  showCurve();
}

// asking

async function ask(path) {
  const answer = await fetch(path, { signal: AbortSignal.timeout(PATIENCE_MS), cache: "no-store" });
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer.json();
}

/** Only what is new; all of it where the learner is another one, or has made its points coarser. */
async function grow() {
  const after = curve && curve.time_s.length ? curve.time_s.at(-1) : FAR_BACK;
  let fresh = await ask(`history?after=${after}`);
  const same = curve && fresh.epoch === curve.epoch && fresh.interval_s === curve.interval_s;
  if (!same && after !== FAR_BACK) fresh = await ask(`history?after=${FAR_BACK}`);
  if (!same) return fresh;
  const columns = Object.entries(fresh).filter(([, values]) => Array.isArray(values));
  return { ...fresh, ...Object.fromEntries(columns.map(([field, values]) => [field, [...curve[field], ...values]])) };
}

let asking = false, again = false;

async function poll() {
  clearTimeout(timer);
  if (asking) { again = true; return; }
  asking = true;
  const answers = await Promise.all([ask(`status?actors=${page.actors}&by=${page.sort}`), grow()]).catch(() => null);
  asking = false;
  if (answers) show(...answers);
  else {
    page.failures += 1;
    page.lostOn ??= new Date();
  }
  showHealth();
  const usual_ms = document.hidden ? HIDDEN_MS : POLL_MS;
  const wait_ms = page.failures ? Math.min(MOST_WAIT_MS, POLL_MS * 2 ** (page.failures - 1)) : usual_ms;
  timer = setTimeout(poll, again ? 0 : wait_ms);
  again = false;
}

function show(status, grown) {
  Object.assign(page, { status, heardAt: performance.now(), heardOn: new Date(), failures: 0, lostOn: null });
  curve = grown;
  for (const part of [showRun, showFigures, showLearnt, showRefused, showFleet]) part(status);
  showCurve();
}

makeHeads();
const axes = [...document.querySelectorAll("[data-axis]")];
for (const button of axes) {
  button.addEventListener("click", () => {
    page.axis = button.dataset.axis;
    for (const other of axes) other.setAttribute("aria-pressed", String(other === button));
    showCurve();
  });
}
by("fleet-more").addEventListener("click", () => {
  page.actors = page.actors === FEW_ACTORS ? MANY_ACTORS : FEW_ACTORS;
  poll();
});
by("curve").addEventListener("pointermove", pick);
by("curve").addEventListener("pointerleave", () => { page.picked = null; showCurve(); });
by("curve").addEventListener("keydown", walk);
document.addEventListener("visibilitychange", () => { if (!document.hidden) poll(); });
new ResizeObserver(showCurve).observe(by("curve"));
setInterval(showHealth, 1000);
poll();
