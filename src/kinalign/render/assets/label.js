// The labelling page: asks what the server asks next, and tells it the answer. It knows no more than is shown.

const $ = (id) => document.getElementById(id);
const { degrees, user, file } = JSON.parse($("labelling").textContent);

let asked; // what the server asks now
let better = null; // the side that was chosen, while the degree is asked
let shown = null; // the question whose motions are in the frame
let waiting = false; // for the server's answer: what is pressed meanwhile is not meant for the next question
let keys = {};

function button(key, text, act, style = "") {
  const element = document.createElement("button"), hint = document.createElement("kbd");
  hint.textContent = key;
  element.className = style;
  element.append(hint, text);
  element.addEventListener("click", act);
  keys[key.toLowerCase()] = act;
  return element;
}

function ask(question, buttons, layout = "") {
  $("question").textContent = question;
  $("choices").className = layout;
  $("choices").style.setProperty("--columns", buttons.length);
  $("choices").replaceChildren(...buttons);
}

function show() {
  keys = { u: undo, backspace: undo };
  $("number").textContent = Math.min(asked.answered + 1, asked.total);
  $("total").textContent = asked.total;
  $("progress").max = asked.total;
  $("progress").value = asked.answered;
  $("undo").disabled = !asked.answered;
  $("task").hidden = !asked.task;
  $("task").textContent = asked.task ?? "";
  $("prompt").textContent = asked.prompt ?? "All are answered.";
  $("player").hidden = asked.place === null;
  $("keys").hidden = asked.place === null;
  if (asked.place === null) return ask("", [`Saved in ${file}. You may close this page.`], "done");
  if (shown !== asked.place) frame.open({ src: `player/${asked.place}` });
  shown = asked.place;
  if (asked.rubric) askScore();
  else if (better) askDegree();
  else askSide();
}

function askSide() {
  const choose = (side) => () => { better = side; show(); };
  ask("Which does better what the sentence says?", [
    button("1", "Left is better", choose("left")),
    button("S", "Skip: both are unrealistic", () => send("choose", { better: null }), "quiet"),
    button("2", "Right is better", choose("right")),
  ]);
  keys.arrowleft = keys["1"];
  keys.arrowright = keys["2"];
}

function askDegree() {
  const back = () => { better = null; show(); };
  ask(`How much better is the ${better} one?`, [
    ...degrees.map((degree, i) => button(`${i + 1}`, degree, () => send("choose", { better, degree }))),
    button("Esc", "Back", back, "quiet"),
  ]);
  keys.escape = back;
}

function askScore() {
  ask("What does the motion show of the sentence?", [
    ...asked.rubric.map((meaning, i) => button(`${i + 1}`, meaning, () => send("score", { score: i + 1 }))),
    button("0", "cannot tell", () => send("score", { score: null }), "quiet"),
  ], "list");
}

const undo = () => asked.answered && send("undo", {});

async function send(what, answer) {
  if (waiting) return;
  waiting = true;
  let problem = "";
  try {
    const body = JSON.stringify({ place: asked.place, ...answer });
    const response = await fetch(what, { method: "POST", headers: { "Content-Type": "application/json" }, body });
    const reply = await response.json();
    problem = reply.error ?? "";
    if (!problem) {
      asked = reply;
      better = null;
    }
  } catch {
    problem = "The server does not answer; this answer is not saved. Start kinalign judge label again.";
  }
  waiting = false;
  $("alert").textContent = problem;
  $("alert").hidden = !problem;
  show();
}

const frame = new PlayerFrame($("player"), (event) => {
  const act = !event.repeat && keys[event.key.toLowerCase()];
  if (act) act();
  return act || event.key.startsWith("Arrow") && !event.shiftKey;
});
$("undo").addEventListener("click", undo);
$("who").textContent = user;
$("keys").textContent = "Space plays and pauses · , and . step by a frame · drag to look around, both turn together";

fetch("state").then((response) => response.json()).then((state) => {
  asked = state;
  show();
});
