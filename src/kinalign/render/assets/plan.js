// The page of a plan: its tasks and steps beside the motion that they became, each step a way to its moment.

const $ = (id) => document.getElementById(id);
const plan = JSON.parse($("plan").textContent);
const steps = []; // { start, end, button }, in seconds

function element(tag, text = "", className = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  made.className = className;
  return made;
}

const clock = (seconds) => `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;

function tone(score) {
  if (score === null) return "unsaid";
  return score >= 4 ? "yes" : score === 3 ? "partly" : "no";
}

const frame = new PlayerFrame($("player"), () => false);
$("scene").textContent = plan.title;
$("facts").textContent = plan.facts;
for (const task of plan.tasks) {
  const item = element("li"), list = element("ol");
  for (const { text, start, end, score, reason } of task.steps) {
    const button = element("button"), row = element("li");
    button.type = "button";
    button.title = score === null ? "not judged" : `${score} of 5: ${reason}`;
    button.append(element("time", clock(start)), element("span", text), element("i", "", tone(score)));
    button.addEventListener("click", () => frame.player?.seek(start));
    row.append(button);
    list.append(row);
    steps.push({ start, end, button });
  }
  if (task.text) item.append(element("h2", task.text));
  item.append(list);
  $("tasks").append(item);
}

let shown = null;
function follow() {
  const time = frame.player?.time ?? -1;
  const now = steps.findLast(({ start }) => start - 1e-6 <= time) ?? null;
  if (now !== shown) {
    shown?.button.classList.remove("now");
    now?.button.classList.add("now");
    now?.button.scrollIntoView({ block: "nearest" });
    shown = now;
  }
  requestAnimationFrame(follow);
}
frame.open({ srcdoc: plan.player });
follow();
