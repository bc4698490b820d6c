// One device on the line, as it is read from three metres: a sign, a word, a figure and what to do.

import { h, icon, redraw, write } from "./dom.js";
import { isStalled, secondsLeft } from "./floor.js";
import * as format from "./format.js";
import { T } from "./text.js";

export class Tile {
  #sign = icon("boot");
  #word = h("span", { class: "tile-word" });
  #place = h("span", { class: "tile-place" });
  #figure = h("span", { class: "tile-figure" });
  #bar = h("span", { class: "tile-bar", "aria-hidden": "true" }, h("span"));
  #note = h("span", { class: "tile-note" });
  #name = h("span", { class: "tile-name" });
  #project = h("span", { class: "tile-project" });
  #steps = h("span", { class: "tile-steps", "aria-hidden": "true" });
  #shownSteps = "";
  #fill = -1;

  constructor(open) {
    this.node = h(
      "li",
      { class: "tile" },
      h(
        "button",
        { type: "button", class: "tile-face", on: { click: open } },
        h("span", { class: "tile-top" }, this.#sign, this.#word, this.#place),
        this.#figure,
        this.#bar,
        this.#note,
        h("span", { class: "tile-foot" }, this.#name, this.#project, this.#steps),
      ),
    );
  }

  update(device, now = Date.now()) {
    const state = isStalled(device, now) ? "stalled" : device.state;
    if (this.node.dataset.state !== state) {
      this.node.dataset.state = state;
      redraw(this.#sign, state);
    }
    write(this.#word, word(device, state));
    write(this.#figure, figure(device, state, now));
    write(this.#note, note(device, state, now));
    write(this.#place, placeOf(device));
    write(this.#name, format.shortSerial(device));
    write(this.#project, under(device));
    this.#progress(state === "working" || state === "stalled" ? (device.percent ?? 0) : state === "passed" ? 100 : 0);
    this.#drawSteps(device);
  }

  #progress(percent) {
    if (this.#fill === percent) return;
    this.#fill = percent;
    this.#bar.firstChild.style.setProperty("--part", percent / 100);
  }

  #drawSteps(device) {
    const shown = device.steps
      .map((step) =>
        device.done.includes(step) || device.state === "passed" ? "done" : step === device.step ? "now" : "next",
      )
      .join(" ");
    if (shown === this.#shownSteps) return;
    this.#shownSteps = shown;
    this.#steps.replaceChildren(...(shown ? shown.split(" ").map((kind) => h("i", { class: kind })) : []));
  }
}

export function placeOf(device) {
  return [device.slot ?? device.circuit, device.board && `J ${device.board}`].filter(Boolean).join(" · ");
}

function under(device) {
  const again = device.attempt > 1 ? T.tile.attempt(device.attempt) : "";
  return [device.project, again, device.simulated && T.tile.simulated].filter(Boolean).join(" · ");
}

/** Above the figure: what it does, or where it failed. */
function word(device, state) {
  if (state === "refused") return T.state.look;
  if (state !== "working") return T.step[device.failedStep] ?? T.state[state];
  return T.doing[device.step ?? "begin"];
}

function figure(device, state, now) {
  if (state === "passed") return T.tile.out;
  if (state === "boot") return "…";
  if (state === "refused") return T.state.refused;
  if (state === "working" || state === "stalled") {
    const counts = device.step === "write" || device.step === "verify";
    return counts && device.percent !== undefined
      ? `${device.percent} %`
      : format.clock((now - (device.stepSince ?? now)) / 1000);
  }
  return T.state[state];
}

function note(device, state, now) {
  if (state === "boot") return T.tile.starting;
  if (state === "stalled") return T.tile.still(format.about((now - device.movedAt) / 1000));
  if (state === "working") {
    const left = secondsLeft(device);
    return [device.rate && format.rate(device.rate), left !== undefined && T.tile.left(format.about(left))]
      .filter(Boolean)
      .join(" · ");
  }
  if (state === "passed")
    return device.startedAt && device.endedAt
      ? T.tile.took(format.clock((device.endedAt - device.startedAt) / 1000))
      : "";
  if (state === "refused") return device.detail ?? "";
  if (state === "aborted") return T.tile.abortedNext;
  return device.advice ?? device.detail ?? "";
}
