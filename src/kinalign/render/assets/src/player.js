// The page: clips on a stage, one clock for all, a camera that every view shares.

import { Color, DirectionalLight, Group, HemisphereLight, PCFShadowMap, PerspectiveCamera, Scene, Spherical, Vector3, WebGLRenderer } from "three";
import { OrbitControls } from "three/addons/controls/OrbitControls.js";
import { Clip } from "./clip.js";
import { Figure, Palette, SOLE } from "./figure.js";
import { CastShadow, ContactShade, Grid, Path } from "./ground.js";
import { Timeline } from "./timeline.js";

const $ = (id) => document.getElementById(id);
const page = JSON.parse($("scene").textContent);
const clips = page.motions.map((record) => new Clip(record));
const duration = Math.max(...clips.map((clip) => clip.duration));
const fastest = clips.reduce((a, b) => (b.fps > a.fps ? b : a));
const several = clips.length > 1;

const state = { time: 0, playing: false, speed: 1, loop: true, follow: true, ghosts: false, together: false };

/* ---- scene ---- */
let renderer;
try {
  renderer = new WebGLRenderer({ canvas: $("view"), antialias: true, alpha: true });
} catch (error) {
  $("notice").textContent = "This browser shows no WebGL, which the moving figure needs. Switch on hardware acceleration or try another browser.";
  $("notice").hidden = false;
  throw error;
}
renderer.shadowMap.enabled = true;
renderer.shadowMap.type = PCFShadowMap;
const scene = new Scene();
const camera = new PerspectiveCamera(26, 1, 0.05, 400);
const controls = new OrbitControls(camera, renderer.domElement);
Object.assign(controls, { enableDamping: true, dampingFactor: 0.12, minDistance: 0.8, maxDistance: 120, maxPolarAngle: Math.PI * 0.495 });

const sky = new HemisphereLight(0xffffff, 0xffffff, 1);
const sun = new DirectionalLight(0xffffff, 1);
const rim = new DirectionalLight(0xffffff, 1);
sun.castShadow = true;
sun.shadow.mapSize.set(2048, 2048);
sun.shadow.radius = 5;
sun.shadow.normalBias = 0.02;
const sunward = new Vector3(); // from a body to the sun: over the left shoulder of whoever looks at the first view
const palette = new Palette();
const grid = new Grid();
const shadow = new CastShadow();
const world = new Group(); // holds the clips; moved so that what the camera follows stands at the origin
scene.add(sky, sun, sun.target, rim, grid, shadow, world);

const actors = clips.map((clip) => {
  const actor = new Group();
  const figure = new Figure(clip, palette);
  const floor = -SOLE * figure.body.size;
  const contact = new ContactShade(figure.body.spheres);
  const path = new Path(clip, floor + 0.004);
  actor.add(contact, path, figure);
  world.add(actor);
  return { clip, actor, figure, floor, contact, path, bounds: clip.bounds(), reach: clip.reach(), lane: 0 };
});
const floor = Math.min(...actors.map((actor) => actor.floor));
grid.position.y = floor;

// In one scene every clip starts at x = z = 0 of its own lane; lanes are just far enough apart that bodies never touch.
function findLanes() {
  const starts = actors.map(({ clip }) => clip.focusAt(0));
  const samples = Math.max(2, Math.min(120, fastest.numFrames));
  const extent = (clip, time, side) => clip.sample(time).reduce((best, value, i) => (i % 3 === 0 ? side(best, value) : best), side() );
  for (let i = 1; i < actors.length; i++) {
    let gap = 0;
    for (let k = 0; k < samples; k++) {
      const time = (duration * k) / (samples - 1);
      for (let before = 0; before < i; before++) {
        const right = extent(clips[before], time, Math.max) - starts[before][0] + actors[before].lane;
        gap = Math.max(gap, right - (extent(clips[i], time, Math.min) - starts[i][0]));
      }
    }
    actors[i].lane = Math.max(gap + 0.3, actors[i - 1].lane + 0.8);
  }
  actors.forEach((actor, i) => { actor.start = starts[i]; });
}
findLanes();

// Where a clip stands in the shared scene.
const shift = (actor) => (state.together ? [actor.lane - actor.start[0], -actor.start[1]] : [0, 0]);

// The point in the ground plane that the camera looks at for these clips now.
function anchorOf(group) {
  const points = group.map((actor) => {
    const [dx, dz] = shift(actor);
    if (state.follow) {
      const [x, z] = actor.clip.focusAt(state.time);
      return [x + dx, z + dz];
    }
    const { low, high } = actor.bounds;
    return [(low[0] + high[0]) / 2 + dx, (low[2] + high[2]) / 2 + dz];
  });
  return [0, 1].map((axis) => (Math.min(...points.map((p) => p[axis])) + Math.max(...points.map((p) => p[axis]))) / 2);
}

// Half width and height in metres that a view must hold.
function frameOf(group) {
  const top = Math.max(1.2, ...group.map(({ bounds }) => bounds.high[1] + 0.16));
  let half = 0.75;
  if (state.follow) {
    half = Math.max(half, ...group.map((actor) => actor.reach));
    if (state.together) {
      for (let k = 0; k <= 20; k++) {
        const at = group.map((actor) => actor.clip.focusAt((duration * k) / 20).map((v, axis) => v + shift(actor)[axis]));
        for (const axis of [0, 1]) {
          const values = at.map((p) => p[axis]);
          half = Math.max(half, (Math.max(...values) - Math.min(...values)) / 2 + 0.7);
        }
      }
    }
  } else {
    const corners = group.flatMap((actor) => [actor.bounds.low, actor.bounds.high].map((p) => [p[0] + shift(actor)[0], p[2] + shift(actor)[1]]));
    const [ax, az] = anchorOf(group);
    half = Math.max(half, ...corners.map(([x, z]) => Math.hypot(x - ax, z - az)));
  }
  return { half, top };
}

/* ---- views ---- */
let views = [];
let sharpness = 1; // pixels drawn per pixel shown, along one side

function layOut() {
  const width = $("stage").clientWidth, height = $("stage").clientHeight;
  renderer.setPixelRatio(Math.min(devicePixelRatio, 2) * sharpness);
  renderer.setSize(width, height, false);
  views = state.together || !several ? [{ group: actors, x: 0, y: 0, width, height }] : cells(width, height);
  views.forEach((view, i) => {
    const cell = $("cells").children[i];
    if (state.together) return;
    Object.assign(cell.style, { left: `${view.x}px`, top: `${view.y}px`, width: `${view.width}px`, height: `${view.height}px`, transform: "" });
  });
  $("cells").classList.toggle("together", state.together);
  timeline.arrange();
}

// As many columns as show the bodies largest; a body asks for a box of about 3 by 4.
function cells(width, height) {
  const head = document.querySelector("header").offsetHeight;
  let best = { size: 0 };
  for (let columns = 1; columns <= actors.length; columns++) {
    const rows = Math.ceil(actors.length / columns);
    const size = Math.min(width / columns / 3, (height - head) / rows / 4);
    if (size > best.size) best = { size, columns, rows };
  }
  const w = width / best.columns, h = (height - head) / best.rows;
  return actors.map((actor, i) => ({ group: [actor], x: (i % best.columns) * w, y: head + Math.floor(i / best.columns) * h, width: w, height: h }));
}

let framed = true; // the camera still stands where resetCamera put it

function resetCamera() {
  const frames = views.map((view) => frameOf(view.group));
  const half = Math.max(...frames.map((frame) => frame.half)), top = Math.max(...frames.map((frame) => frame.top));
  const tangent = Math.tan((camera.fov * Math.PI) / 360);
  const { width, height } = views[0];
  // captions and running events lie over the lower part of a view: the feet stand above them
  const overlaid = Math.min(0.4, (several ? 100 : 56) / height);
  const distance = Math.max(top / 2 / tangent / (0.94 - overlaid), half / tangent / (width / height)) * 1.02 + Math.min(half, 1.2) * 0.3;
  const azimuth = state.together ? 0.25 : clips[0].facing() + 0.6, elevation = 0.24;
  sunward.setFromSphericalCoords(9.5, 0.56, azimuth - 0.7);
  rim.position.setFromSphericalCoords(8, 1.0, azimuth + 2.6);
  controls.target.set(0, top / 2 - overlaid * distance * tangent, 0);
  camera.position.setFromSpherical(new Spherical(distance, Math.PI / 2 - elevation, azimuth)).add(controls.target);
  grid.radius = Math.max(4.2, half * (several && !state.together ? 2.6 : 3.2));
  controls.update();
  framed = true;
  invalidate();
}
controls.addEventListener("change", () => invalidate());
controls.addEventListener("start", () => { framed = false; });

function draw() {
  for (const { clip, actor, figure, floor: y, contact, path } of actors) {
    figure.pose(state.time);
    contact.under(figure.joints, y + 0.002);
    path.material.uniforms.now.value = state.time;
  }
  renderer.setScissorTest(false);
  renderer.clear();
  renderer.setScissorTest(true);
  const canvasHeight = $("stage").clientHeight;
  for (const view of views) {
    const [ax, az] = anchorOf(view.group);
    actors.forEach((actor) => {
      const [dx, dz] = shift(actor);
      actor.actor.visible = view.group.includes(actor);
      actor.actor.position.set(dx - ax, 0, dz - az);
    });
    grid.material.uniforms.anchor.value.set(ax, az);
    light(view.group, ax, az);
    const y = canvasHeight - view.y - view.height;
    renderer.setViewport(view.x, y, view.width, view.height);
    renderer.setScissor(view.x, y, view.width, view.height);
    const ratio = renderer.getPixelRatio();
    grid.material.uniforms.cell.value.set(view.x, y, view.width, view.height).multiplyScalar(ratio);
    camera.aspect = view.width / view.height;
    camera.updateProjectionMatrix();
    renderer.render(scene, camera);
  }
  if (state.together) placeLabels();
}

// The sun looks only at the bodies of a view, so their shadows are fine at any length of path.
function light(group, ax, az) {
  const at = group.map((actor) => [0, 2].map((axis, i) => actor.figure.joints[axis] + shift(actor)[i] - [ax, az][i]));
  const middle = [0, 1].map((axis) => (Math.min(...at.map((p) => p[axis])) + Math.max(...at.map((p) => p[axis]))) / 2);
  const reach = Math.max(...at.map((p) => Math.hypot(p[0] - middle[0], p[1] - middle[1]))) + 2.2;
  sun.target.position.set(middle[0], 0.6, middle[1]);
  sun.position.copy(sun.target.position).add(sunward);
  shadow.position.set(middle[0], floor, middle[1]);
  shadow.scale.set(reach, 1, reach);
  const box = sun.shadow.camera;
  Object.assign(box, { left: -reach, right: reach, top: reach, bottom: -reach, near: 0.5, far: 22 });
  box.updateProjectionMatrix();
}

const point = new Vector3();
function placeLabels() {
  const { width, height } = views[0];
  actors.forEach((actor, i) => {
    const { joints } = actor.figure;
    point.set(joints[0], actor.floor, joints[2]).add(actor.actor.position).project(camera);
    const cell = $("cells").children[i];
    const x = ((point.x + 1) / 2) * width, y = ((1 - point.y) / 2) * height;
    Object.assign(cell.style, { left: "0", top: "0", width: "0", height: "auto", transform: `translate(${x}px, ${y + 18}px)` });
  });
}

/* ---- clock ---- */
let waiting = false, before = 0, slowFrames = 0;

// Without a GPU a smooth movement is worth more than sharp edges.
function easeWhenSlow(seconds) {
  slowFrames = seconds > 0.07 ? slowFrames + 1 : 0;
  if (slowFrames < 6 || sharpness < 0.6) return;
  slowFrames = 0;
  sharpness *= 0.75;
  sun.shadow.mapSize.set(512, 512);
  sun.shadow.map?.dispose();
  sun.shadow.map = null;
  layOut();
}

function invalidate() {
  if (!waiting) requestAnimationFrame(tick);
  waiting = true;
}

function tick(now) {
  waiting = false;
  // a tab that slept does not jump
  const passed = Math.min(0.5, Math.max(0, (now - before) / 1000));
  before = now;
  if (state.playing) {
    let time = state.time + passed * state.speed;
    if (time >= duration) {
      if (state.loop) time %= duration;
      else {
        time = duration;
        setPlaying(false);
      }
    }
    state.time = time;
    easeWhenSlow(passed);
    invalidate();
  }
  if (controls.update()) invalidate();
  showTime();
  draw();
}

const numSteps = Math.max(1, Math.round(fastest.fps * duration)); // what a frame of the finest clip divides the timeline into

function seek(time) {
  state.time = Math.min(duration, Math.max(0, time));
  showTime();
  invalidate();
}

function step(frames) {
  setPlaying(false);
  const frame = Math.floor(state.time * fastest.fps + 1e-6) + frames;
  seek(Math.min(numSteps - 1, Math.max(0, frame)) / fastest.fps);
}

function setPlaying(playing) {
  if (playing && state.time >= duration) state.time = 0;
  state.playing = playing;
  before = performance.now();
  $("play").dataset.playing = playing;
  $("play").setAttribute("aria-label", playing ? "Pause" : "Play");
  invalidate();
}

function showTime() {
  const { time } = state;
  $("timeline").style.setProperty("--at", time / duration);
  $("scrub").value = time;
  $("scrub").setAttribute("aria-valuetext", `${time.toFixed(2)} of ${duration.toFixed(2)} seconds`);
  $("now").textContent = time.toFixed(2);
  $("frame").textContent = `frame ${Math.min(numSteps, Math.floor(time * fastest.fps + 1e-6) + 1)}/${numSteps}`;
  timeline.mark(time).forEach((events, i) => {
    const cell = $("cells").children[i];
    cell.classList.toggle("ended", time > clips[i].duration + 1e-6);
    const key = events.map((event) => event.label).join("\n");
    const chips = cell.querySelector(".happening");
    if (chips.dataset.key === key) return;
    chips.dataset.key = key;
    chips.replaceChildren(...events.map((event) => {
      const chip = document.createElement("span");
      chip.textContent = event.label;
      chip.style.setProperty("--event", event.colour);
      return chip;
    }));
  });
}

/* ---- page ---- */
const timeline = new Timeline($("lanes"), clips, duration, seek);

function paint() {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => new Color().setStyle(style.getPropertyValue(`--${name}`).trim());
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  palette.paint(colour);
  grid.material.uniforms.colour.value.copy(colour("grid"));
  shadow.material.color.copy(colour("shade"));
  shadow.material.opacity = dark ? 0.42 : 0.2;
  for (const { contact, path } of actors) {
    contact.material.uniforms.colour.value.copy(colour("shade"));
    contact.material.uniforms.strength.value = dark ? 0.9 : 0.75;
    path.material.uniforms.colour.value.copy(colour("accent"));
  }
  sky.color.set(dark ? 0xdfe6f2 : 0xffffff);
  sky.groundColor.set(dark ? 0x4a4641 : 0xc9bfb2);
  sky.intensity = dark ? 1.5 : 1.75;
  sun.color.set(0xfff4e6);
  sun.intensity = dark ? 2.1 : 2.0;
  rim.intensity = dark ? 1.2 : 0.5;
  invalidate();
}

function toggle(name, value = !state[name]) {
  state[name] = value;
  $(name).setAttribute("aria-pressed", value);
  if (name === "ghosts") actors.forEach(({ figure }) => figure.showGhosts(value));
  if (name === "together") layOut();
  if (name === "follow" || name === "together") resetCamera();
  invalidate();
}

function orbit(azimuth, elevation, zoom) {
  const offset = new Spherical().setFromVector3(camera.position.clone().sub(controls.target));
  offset.theta += azimuth;
  offset.phi = Math.min(controls.maxPolarAngle, Math.max(0.05, offset.phi + elevation));
  offset.radius = Math.min(controls.maxDistance, Math.max(controls.minDistance, offset.radius * zoom));
  camera.position.setFromSpherical(offset).add(controls.target);
  framed = false;
  controls.update();
  invalidate();
}

function changeSpeed(direction) {
  const select = $("speed");
  select.selectedIndex = Math.min(select.options.length - 1, Math.max(0, select.selectedIndex + direction));
  state.speed = Number(select.value);
}

const keys = {
  " ": () => setPlaying(!state.playing),
  ArrowLeft: () => step(-1), ArrowRight: () => step(1), Home: () => seek(0), End: () => seek((numSteps - 1) / fastest.fps),
  l: () => toggle("loop"), f: () => toggle("follow"), g: () => toggle("ghosts"), t: () => several && toggle("together"), r: resetCamera,
  "[": () => changeSpeed(-1), "]": () => changeSpeed(1), "+": () => orbit(0, 0, 1 / 1.1), "=": () => orbit(0, 0, 1 / 1.1), "-": () => orbit(0, 0, 1.1),
};
const turns = { ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, -0.06], ArrowDown: [0, 0.06] };

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.tagName === "SELECT") return;
  if (event.key === " " && event.target.tagName === "BUTTON") return; // space presses the button that has the focus
  const turn = event.shiftKey && turns[event.key];
  const action = turn ? () => orbit(...turn, 1) : keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!action) return;
  event.preventDefault();
  action();
});
$("play").addEventListener("click", () => setPlaying(!state.playing));
$("back").addEventListener("click", () => step(-1));
$("forward").addEventListener("click", () => step(1));
$("reset").addEventListener("click", resetCamera);
$("scrub").addEventListener("input", (event) => seek(Number(event.target.value)));
$("speed").addEventListener("change", (event) => { state.speed = Number(event.target.value); });
for (const name of ["loop", "follow", "ghosts", "together"]) $(name).addEventListener("click", () => toggle(name));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint);

$("title").textContent = page.title;
$("view").setAttribute("aria-label", `A moving figure${several ? ` for each of ${clips.length} motions` : ""}: ${page.title}`);
$("scrub").max = duration;
$("total").textContent = `/ ${duration.toFixed(2)} s`;
$("together").hidden = !several;
$("timeline").classList.toggle("several", several);
$("cells").append(...clips.map((clip, i) => {
  const cell = document.createElement("div"), chips = document.createElement("div"), caption = document.createElement("p");
  cell.className = "cell";
  chips.className = "happening";
  caption.className = "caption";
  if (several) {
    const number = document.createElement("b");
    number.textContent = i + 1;
    caption.append(number);
  }
  if (clip.caption !== page.title) caption.append(clip.caption);
  cell.append(chips, caption);
  return cell;
}));

new ResizeObserver(() => {
  layOut();
  if (framed) resetCamera();
  invalidate();
}).observe($("stage"));
paint();
layOut();
resetCamera();
showTime();
setPlaying(duration > 1 / fastest.fps && !matchMedia("(prefers-reduced-motion: reduce)").matches);

// For tests and for whoever drives the page from outside.
window.kinalign = {
  get time() { return state.time; },
  get playing() { return state.playing; },
  duration,
  numMotions: clips.length,
  play: () => setPlaying(true),
  pause: () => setPlaying(false),
  seek,
  step,
  // the joints, in metres, that a motion shows now: [[x, y, z], ...]
  joints: (motion = 0) => {
    const flat = clips[motion].sample(state.time);
    return Array.from({ length: flat.length / 3 }, (_, joint) => Array.from(flat.subarray(3 * joint, 3 * joint + 3)));
  },
};
