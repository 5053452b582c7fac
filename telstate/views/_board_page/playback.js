// The controls of a log that is played.

import { byId, make, setHidden, setText } from "./dom.js";
import { plain } from "./format.js";
import { ask } from "./stream.js";

export class PlaybackControls {
  /** @param {import("./store.js").Store} store */
  constructor(store) {
    this.store = store;
    this.pause = byId("pause");
    this.speed = /** @type {HTMLSelectElement} */ (byId("speed"));
    this.pause.addEventListener("click", () => this.set({ paused: !this.store.service.replay?.paused }));
    this.speed.addEventListener("change", () => this.set({ speed: Number(this.speed.value) }));
  }

  async set(wanted) {
    await ask("board/playback", wanted).catch((error) => { byId("search-hint").textContent = error.message; });
  }

  show() {
    const replay = this.store.service.replay;
    setHidden(byId("playback"), replay === null);
    setHidden(byId("source"), replay === null);
    if (replay === null) return;
    setText(byId("title"), "Replay");
    setText(byId("source"), plain(replay.name, 80));
    setText(this.pause, replay.ended ? "Ended" : replay.paused ? "Go on" : "Pause");
    /** @type {HTMLButtonElement} */ (this.pause).disabled = replay.ended;
    const speeds = replay.speeds.join();
    if (speeds !== this.speeds) {
      this.speeds = speeds;
      this.speed.replaceChildren(...replay.speeds.map((one) => make("option", { value: one, text: `${one}×` })));
    }
    if (document.activeElement !== this.speed) this.speed.value = String(replay.speed);
  }
}
