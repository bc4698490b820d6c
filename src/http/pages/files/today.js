// What the day has brought: sessions that ended since midnight, each counted once whatever is heard of it twice.

import { api, query } from "./api.js";

const PAGE = 1000;
/** More than a station makes in a day; beyond it the figures are said to be partial. */
const MOST_PAGES = 20;
const OUTCOMES = ["passed", "failed", "interrupted", "aborted"];

export class Today {
  #midnight = midnight();
  /** Session -> {outcome, project} */
  #ended = new Map();
  isPartial = false;

  /** Reads back to midnight; returns the sessions it met, the newest first. */
  async load() {
    this.#midnight = midnight();
    this.#ended.clear();
    this.isPartial = false;
    const met = [];
    let before;
    for (let page = 0; page < MOST_PAGES; page += 1) {
      const answer = await api.get(`/sessions${query({ limit: PAGE, before })}`);
      met.push(...answer.sessions);
      before = answer.next_before;
      const oldest = answer.sessions.at(-1);
      if (answer.sessions.length < PAGE || Date.parse(oldest.started_at) < this.#midnight) {
        this.#take(met);
        return met;
      }
    }
    this.isPartial = true;
    this.#take(met);
    return met;
  }

  #take(sessions) {
    for (const { session, outcome, project, ended_at } of sessions) {
      if (outcome && Date.parse(ended_at) >= this.#midnight) this.#ended.set(session, { outcome, project });
    }
  }

  end(session, outcome, project, at) {
    if (Date.parse(at) < this.#midnight) return;
    if (midnight() !== this.#midnight) {
      this.#midnight = midnight();
      this.#ended.clear();
    }
    this.#ended.set(session, { outcome, project });
  }

  /** Of one project, or of all. */
  counts(project) {
    const counts = Object.fromEntries(OUTCOMES.map((outcome) => [outcome, 0]));
    for (const ended of this.#ended.values()) {
      if (!project || ended.project === project) counts[ended.outcome] += 1;
    }
    // An attempt that somebody ended says nothing of the modules.
    counts.judged = counts.passed + counts.failed + counts.interrupted;
    return counts;
  }
}

function midnight() {
  return new Date().setHours(0, 0, 0, 0);
}
