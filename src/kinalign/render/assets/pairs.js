// The page of pairs: which pair is shown, what was said of it, and its motions in the player.

const $ = (id) => document.getElementById(id);
const page = JSON.parse($("pairs").textContent);
const sides = ["chosen", "rejected"];
const names = page.names; // what the two are called

let listed = []; // indices of the pairs that the filters leave
let current = -1; // index of the pair that is shown
let duration = 1; // of the longer of its motions, in seconds: the width of every track

function element(tag, className = "", text = "") {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}

/* ---- motions ---- */

// Undoes view.py's packing: deflated steps of `unit` metres from frame to frame, first the low bytes, then the high.
async function unpack({ frames, unit, steps, ...motion }) {
  const deflated = Uint8Array.from(atob(steps), (c) => c.charCodeAt(0));
  const stream = new Blob([deflated]).stream().pipeThrough(new DecompressionStream("deflate"));
  const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
  const width = motion.names.length * 3, half = frames * width;
  const at = new Int32Array(half); // (frames, width), in units
  for (let channel = 0; channel < width; channel++) {
    for (let f = 0, i = channel * frames, value = 0; f < frames; f++, i++) {
      value += ((bytes[i] | (bytes[half + i] << 8)) << 16) >> 16;
      at[f * width + channel] = value;
    }
  }
  const root = Float32Array.from({ length: frames * 3 }, (_, i) => at[Math.floor(i / 3) * width + (i % 3)] * unit);
  const offsets = Int16Array.from(at, (value, i) => value - at[Math.floor(i / width) * width + (i % 3)]);
  return { ...motion, root: base64(root), offsets: base64(offsets), scale: unit, events: [] };
}

function base64(array) {
  let text = "";
  for (const byte of new Uint8Array(array.buffer)) text += String.fromCharCode(byte);
  return btoa(text);
}

async function play(pair, index) {
  const motions = await Promise.all(sides.map((side) => unpack(pair[side].motion)));
  motions.forEach((motion, i) => { motion.caption = names[i].toLowerCase(); });
  if (index !== current) return; // one leafed on meanwhile
  const scene = JSON.stringify({ title: "", motions }).replaceAll("<", "\\u003c");
  frame.open({ srcdoc: page.player[0] + scene + page.player[1] });
}

const seconds = (motion) => motion.frames / motion.fps;

/* ---- what was said ---- */

function showVerdict(pair, side) {
  const said = pair[side], card = element("section", "verdict"), head = element("div", "said"), words = element("div");
  const tone = said.score === null ? "seen" : said.score >= 4 ? "yes" : said.score === 3 ? "partly" : "no";
  const title = element("h2", "", names[sides.indexOf(side)]);
  const notes = [`seed ${said.seed}`];
  if (said.ordered !== null) notes.unshift(said.ordered ? "in order" : "out of order");
  title.append(element("small", "", notes.join(" · ")));
  const reason = element("p", "reason", said.reason || (said.score === null ? "no verdict" : "no reason given"));
  reason.title = said.reason;
  words.append(title, reason);
  head.append(element("span", `score ${tone}`, said.score ?? "–"), words);
  const events = element("div", "events");
  events.append(...said.events.map((event) => eventRow(event, seconds(said.motion))));
  if (!said.events.length) events.append(element("p", "nothing", "no events were seen"));
  card.append(head, events);
  return card;
}

function eventRow(event, length) {
  const row = element("div", `event ${event.seen ?? "seen"}`), name = element("span"), track = element("div", "track");
  const times = event.start === null ? "" : `${event.start.toFixed(2)} to ${event.end.toFixed(2)} s`;
  const why = [event.label, event.seen && { yes: "seen", partly: "seen in part", no: "not seen" }[event.seen], times, event.reason];
  row.title = why.filter(Boolean).join("\n");
  name.append(element("b", "", event.label));
  track.style.setProperty("--length", `${(length / duration) * 100}%`);
  if (times) {
    const bar = element("button");
    Object.assign(bar.dataset, { start: event.start, end: event.end });
    bar.style.left = `${(event.start / duration) * 100}%`;
    bar.style.width = `${((event.end - event.start) / duration) * 100}%`;
    bar.setAttribute("aria-label", why.filter(Boolean).join(", "));
    bar.addEventListener("click", () => frame.player?.seek(event.start));
    track.append(bar);
  } else {
    track.append(element("em", "", event.reason || "not seen"));
  }
  row.append(name, track);
  return row;
}

// Every track follows the player's clock.
function follow() {
  const time = frame.player?.time ?? 0;
  for (const events of document.querySelectorAll(".events")) events.style.setProperty("--at", Math.min(1, time / duration));
  for (const bar of document.querySelectorAll(".track button")) {
    bar.classList.toggle("now", Number(bar.dataset.start) <= time && time < Number(bar.dataset.end));
  }
  requestAnimationFrame(follow);
}

/* ---- leafing ---- */

function show(index) {
  const pair = page.pairs[index];
  const place = listed.indexOf(index);
  current = index;
  duration = Math.max(...sides.map((side) => seconds(pair[side].motion)));
  $("prompt").textContent = pair.prompt;
  $("task").textContent = pair.task ?? "";
  $("task").hidden = !pair.task;
  $("steps").replaceChildren(...pair.steps.flatMap((step, i) => [...(i ? [element("b", "", "→")] : []), step.join(" + ")]));
  $("place").replaceChildren(element("b", "", place + 1), ` of ${listed.length}`);
  $("source").textContent = [`#${index + 1}`, pair.id, pair.judge, pair.degree].filter(Boolean).join(" · ");
  $("verdicts").replaceChildren(...sides.map((side) => showVerdict(pair, side)));
  $("before").disabled = place === 0;
  $("after").disabled = place === listed.length - 1;
  document.title = `${index + 1} · ${pair.prompt}`;
  if (location.hash !== `#${index + 1}`) history.replaceState(null, "", `#${index + 1}`);
  play(pair, index);
}

function leaf(by) {
  const next = listed[listed.indexOf(current) + by];
  if (next !== undefined) show(next);
}

const scoresOf = (pair) => (pair.chosen.score === null ? "unscored" : `${pair.chosen.score} over ${pair.rejected.score ?? "–"}`);

function filter() {
  const kept = (pair) => ["", pair.task].includes($("tasks").value) && ["", scoresOf(pair)].includes($("scores").value);
  const found = page.pairs.flatMap((pair, index) => (kept(pair) ? [index] : []));
  if (!found.length) $("scores").value = ""; // another sub-task has other scores
  listed = found.length ? found : page.pairs.flatMap((pair, index) => (kept(pair) ? [index] : []));
  show(listed.includes(current) ? current : listed[0]);
}

// The choices of a filter with how many pairs each leaves; one that leaves nothing is not offered.
function offer(select, all, values) {
  const counts = new Map();
  for (const value of values) if (value) counts.set(value, (counts.get(value) ?? 0) + 1);
  const options = [["", `${all} (${values.length})`], ...[...counts].sort().map(([value, count]) => [value, `${value} (${count})`])];
  select.replaceChildren(...options.map(([value, text]) => Object.assign(element("option", "", text), { value })));
  select.addEventListener("change", filter);
}

function goToLink() {
  const index = Number(location.hash.slice(1)) - 1;
  if (!page.pairs[index]) return false;
  if (!listed.includes(index)) {
    $("tasks").value = $("scores").value = "";
    listed = [...page.pairs.keys()];
  }
  if (index !== current) show(index);
  return true;
}

const frame = new PlayerFrame($("player"), (event) => {
  const by = !event.shiftKey && { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (by) leaf(by);
  return Boolean(by);
});
offer($("tasks"), "All sub-tasks", page.pairs.map((pair) => pair.task));
offer($("scores"), "All scores", page.pairs.map(scoresOf));
$("before").addEventListener("click", () => leaf(-1));
$("after").addEventListener("click", () => leaf(1));
addEventListener("hashchange", goToLink);
listed = [...page.pairs.keys()];
if (!goToLink()) show(0);
follow();
