// The timeline's lanes: one per motion, its events as buttons at their times, stacked where labels would touch.

const LANE = 26, GAP = 4;

export class Timeline {
  constructor(element, clips, duration, onSeek) {
    this.element = element;
    this.duration = duration;
    this.lanes = clips.map((clip, number) => {
      const lane = document.createElement("div");
      lane.className = "lane";
      lane.dataset.number = clips.length > 1 ? number + 1 : "";
      lane.style.setProperty("--length", `${(clip.duration / duration) * 100}%`);
      const events = clip.events.map((event) => {
        const button = document.createElement("button");
        const text = document.createElement("span");
        const times = `${event.start.toFixed(2)} to ${event.end.toFixed(2)} s`;
        button.type = "button";
        button.className = "event";
        button.title = `${event.label}, ${times}`;
        button.setAttribute("aria-label", `${event.label}, ${times}${clips.length > 1 ? `, motion ${number + 1}` : ""}`);
        button.style.left = `${(event.start / duration) * 100}%`;
        button.style.width = `${((event.end - event.start) / duration) * 100}%`;
        button.style.setProperty("--event", event.colour);
        button.addEventListener("click", () => onSeek(event.start));
        text.textContent = event.label;
        button.append(text);
        lane.append(button);
        return { ...event, button, text };
      });
      return { lane, events };
    });
    if (clips.some((clip) => clip.events.length)) element.append(...this.lanes.map(({ lane }) => lane));
  }

  // Rows follow the labels' widths in pixels, so they are found anew when the page is resized.
  arrange() {
    const width = this.element.getBoundingClientRect().width;
    for (const { lane, events } of this.lanes) {
      const rows = [];
      for (const event of [...events].sort((a, b) => a.start - b.start)) {
        let left = (event.start / this.duration) * width, right = (event.end / this.duration) * width;
        const needed = event.text.offsetWidth;
        const flip = left + needed > width;
        event.button.classList.toggle("flip", flip);
        if (flip) left = Math.min(left, right - needed);
        else right = Math.max(right, left + needed);
        let row = rows.findIndex((end) => end <= left + 0.5);
        if (row < 0) row = rows.length;
        rows[row] = right;
        event.button.style.top = `${2 + row * (LANE - GAP + 2)}px`;
      }
      lane.style.height = `${LANE + Math.max(0, rows.length - 1) * (LANE - GAP + 2)}px`;
    }
  }

  // Marks the events of this moment and returns them, one list per motion.
  mark(time) {
    return this.lanes.map(({ events }) => events.filter((event) => {
      const now = event.start - 1e-6 <= time && time < Math.max(event.end, event.start + 0.15);
      event.button.classList.toggle("now", now);
      return now;
    }));
  }
}
