// A player in a frame of a page: one keyboard for both, and the player's clock for whoever wants to follow it.
// In such a page the arrows are the page's; frames are stepped with "," and ".".

class PlayerFrame {
  // onKey(event) says whether the page took the key; all other keys go to the player.
  constructor(frame, onKey, onReady = () => {}) {
    this.frame = frame;
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
      onReady(this.player);
    });
  }

  get player() {
    return this.frame.contentWindow?.kinalign;
  }
}
