// A player in a frame of a page: one keyboard for both, and the player's clock for whoever wants to follow it.
// In such a page the arrows are the page's; frames are stepped with "," and ".".

const SWITCHES = ["loop", "follow", "ghosts", "together"];

class PlayerFrame {
  // onKey(event) says whether the page took the key; all other keys go to the player.
  constructor(frame, onKey) {
    this.frame = frame;
    this.settings = null; // speed and switches of the player before, for the next one
    const own = (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.target.tagName === "SELECT") return true;
      const step = { ",": -1, ".": 1 }[event.key];
      if (step) this.player?.step(step);
      else if (!onKey(event)) return false;
      event.preventDefault();
      event.stopImmediatePropagation();
      return true;
    };
    addEventListener("keydown", (event) => {
      if (own(event) || !this.player) return;
      if ([" ", "Enter"].includes(event.key) && event.target.tagName === "BUTTON") return; // presses that button
      if (event.key === " ") event.preventDefault();
      this.frame.contentWindow.dispatchEvent(new KeyboardEvent("keydown", { key: event.key, shiftKey: event.shiftKey }));
    });
    frame.addEventListener("load", () => {
      if (!this.player) return;
      frame.contentWindow.addEventListener("keydown", own, true);
      const page = frame.contentDocument;
      page.getElementById("back").title = "One frame back (,)";
      page.getElementById("forward").title = "One frame forward (.)";
      if (this.settings) this.restore(page);
    });
  }

  // Shows a page: open({ src }) or open({ srcdoc }).
  open(page) {
    const before = this.player && this.frame.contentDocument;
    if (before) {
      const pressed = (name) => before.getElementById(name).getAttribute("aria-pressed");
      this.settings = { speed: before.getElementById("speed").value, pressed: SWITCHES.map(pressed) };
    }
    Object.assign(this.frame, page);
  }

  restore(page) {
    const speed = page.getElementById("speed");
    speed.value = this.settings.speed;
    speed.dispatchEvent(new Event("change"));
    SWITCHES.forEach((name, i) => {
      const button = page.getElementById(name);
      if (button.getAttribute("aria-pressed") !== this.settings.pressed[i]) button.click();
    });
  }

  get player() {
    return this.frame.contentWindow?.kinalign;
  }
}
