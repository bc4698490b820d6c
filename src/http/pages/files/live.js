// The two streams of the station: its journal, which is read on where it was left, and the progress of devices, of
// which only the newest counts. Says when what the page shows is old.

import { api, query, socketUrl } from "./api.js";

/** A station that says nothing for so long is not there: it speaks every 5 s. */
const SILENCE_MS = 12_000;
const LONGEST_PAUSE_MS = 5_000;
/** Further behind, the page is built anew instead of reading it all. */
const FAR_BEHIND = 5_000;

export class Live extends EventTarget {
  #after = 0;
  #sockets = {};
  #pause = 500;
  #heardAt = 0;
  #timer = 0;
  #stopped = true;
  state = "connecting";

  /** Events come from behind `after` on. */
  start(after) {
    this.#after = after;
    this.#stopped = false;
    this.#open();
    this.#timer = setInterval(() => this.#watch(), 1000);
  }

  stop() {
    this.#stopped = true;
    clearInterval(this.#timer);
    this.#close();
  }

  #say(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }

  #become(state) {
    if (this.state === state) return;
    this.state = state;
    this.#say("state", state);
  }

  #open() {
    this.#heardAt = Date.now();
    this.#socket("events", `/events/stream${query({ after: this.#after })}`, "cloudevents.json", (message) => {
      const event = JSON.parse(message);
      this.#after = Number(event.sequence);
      this.#say("event", event);
    });
    this.#socket("telemetry", "/telemetry/stream", "bootline.telemetry.v1", (message) => {
      const { telemetry } = JSON.parse(message);
      if (telemetry.length) this.#say("telemetry", telemetry);
    });
  }

  #socket(name, path, protocol, take) {
    const socket = new WebSocket(socketUrl(path), protocol);
    this.#sockets[name] = socket;
    const current = () => this.#sockets[name] === socket;
    socket.onopen = () => current() && this.#opened();
    socket.onmessage = ({ data }) => {
      if (!current()) return;
      this.#heardAt = Date.now();
      take(data);
    };
    socket.onclose = () => current() && this.#lost();
  }

  #opened() {
    this.#heardAt = Date.now();
    const open = Object.values(this.#sockets).every((socket) => socket.readyState === WebSocket.OPEN);
    if (!open) return;
    this.#pause = 500;
    this.#become("live");
  }

  #watch() {
    if (this.state === "live" && Date.now() - this.#heardAt > SILENCE_MS) this.#lost();
  }

  #close() {
    for (const socket of Object.values(this.#sockets)) {
      socket.onclose = null;
      socket.onmessage = null;
      socket.close();
    }
    this.#sockets = {};
  }

  #lost() {
    this.#close();
    this.#become("old");
    if (this.#stopped) return;
    setTimeout(() => this.#again(), this.#pause);
    this.#pause = Math.min(this.#pause * 1.6, LONGEST_PAUSE_MS);
  }

  /** Another database, or very much news: what the page knows is no base to go on from. */
  async #again() {
    if (this.#stopped) return;
    try {
      const { newest } = await api.get("/events?limit=1", { quiet: true });
      if (newest < this.#after || newest > this.#after + FAR_BEHIND) {
        this.stop();
        this.#say("stale");
        return;
      }
    } catch (problem) {
      if (problem.status === 401 || problem.status === 403) {
        this.stop();
        this.#say("stale");
        return;
      }
      this.#lost();
      return;
    }
    this.#open();
  }
}
