// The places on the line: what is there, how it goes there, power for them, and their release.

import { api } from "./api.js";
import { attempt, confirmDialog } from "./dialog.js";
import { announce, button, facts, h, put } from "./dom.js";
import { openDevice } from "./device.js";
import * as format from "./format.js";
import { mayOperate } from "./login.js";
import { follow, heading } from "./projects.js";
import { T } from "./text.js";

/** What changes a slot, or who is there. */
const NEWS = [
  "slot.",
  "device.located",
  "device.started",
  "device.provisioned",
  "device.failed",
  "device.interrupted",
  "device.aborted",
];

export async function showSlots(main, station) {
  const list = h("ul", { class: "cards slots" });
  /** Slot -> what was said of its power last. */
  const said = new Map();
  const may = await mayOperate();
  const draw = async () => {
    const { slots } = await api.get("/slots");
    const order = slots.sort((a, b) => format.byName(a.slot, b.slot));
    const cards = order.map((slot) => card(slot, { station, may, said, say, draw }));
    keepFocus(list, () => put(list, cards.length ? cards : empty()));
  };
  const say = (slot, text, isBad = false) => {
    said.set(slot, { text, isBad });
    announce(text);
    attempt(draw);
  };
  await draw();
  put(main, heading(T.slots.title), h("p", { class: "lead" }, T.slots.lead), list);
  // What a switch says of an order comes as an event, whoever has given it.
  const hear = ({ detail: { name, event } }) => {
    if (!event || Number(event.sequence) <= station.quietUntil) return;
    const { slot, action, detail } = event.data;
    if (name === "slot.powered") say(slot, T.slots.done[action]);
    if (name === "slot.power.failed") say(slot, T.slots.notDone(detail), true);
  };
  station.addEventListener("news", hear);
  const stop = follow(station, NEWS, () => attempt(draw));
  return () => {
    station.removeEventListener("news", hear);
    stop();
  };
}

/** News come while somebody is at the keyboard: the same button has the focus afterwards. */
function keepFocus(node, redraw) {
  const key = node.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
  redraw();
  if (key) [...node.querySelectorAll("[data-key]")].find((one) => one.dataset.key === key)?.focus();
}

function empty() {
  return h("li", { class: "empty" }, h("p", {}, T.slots.empty), h("p", { class: "hint" }, T.slots.emptyHint));
}

function card(slot, { station, may, said, say, draw }) {
  const word = said.get(slot.slot);
  const state = slot.quarantined ? "closed" : slot.power === "off" ? "off" : "open";
  return h(
    "li",
    { class: "card slot", data: { slot: slot.slot, state } },
    h(
      "header",
      {},
      h("h2", {}, slot.slot),
      slot.power === "off" ? h("span", { class: "badge" }, T.slots.off) : null,
      slot.quarantined ? h("span", { class: "badge bad" }, T.slots.closed) : null,
    ),
    slot.quarantined ? h("p", { class: "advice" }, T.slots.why(slot.failures_in_a_row)) : null,
    h(
      "p",
      { class: "counts" },
      count(slot.passed, T.slots.passed),
      " · ",
      count(slot.failed, T.slots.failed),
      slot.yield_percent === null ? null : [" · ", T.slots.yield, " ", h("strong", {}, `${slot.yield_percent} %`)],
    ),
    facts([
      [T.slots.here, here(slot, station)],
      [T.slots.power, slot.port || slot.power === "off" ? T.slots.is[slot.power] : ""],
      [T.slots.inRow, slot.failures_in_a_row ? String(slot.failures_in_a_row) : ""],
      [T.slots.port, slot.port && T.slots.at(slot.port)],
      [T.slots.printer, slot.printer],
    ]),
    word ? h("p", { class: word.isBad ? "advice" : "hint", data: { said: "power" } }, word.text) : null,
    may ? actions(slot, { said, say, draw }) : null,
  );
}

function count(number, what) {
  return [h("strong", {}, String(number)), ` ${what.toLowerCase()}`];
}

/** Sessions name a MAC; people read serials. */
function here(slot, station) {
  if (!slot.devices.length) return h("span", { class: "hint" }, T.slots.nobody);
  return slot.devices.map((mac) => {
    const name = format.shortSerial(station.floor.devices.get(mac) ?? { mac });
    return button(name, () => openDevice(mac, station), {
      kind: "small",
      "aria-label": T.device.title(name),
      "data-key": `${slot.slot} ${mac}`,
    });
  });
}

function actions({ slot, quarantined }, { said, say, draw }) {
  const path = (deed) => `/slots/${encodeURIComponent(slot)}/${deed}`;
  const power = async (action, sure, yes) => {
    if (sure && !(await confirmDialog(sure, yes))) return;
    const before = said.get(slot);
    try {
      await api.post(path("power"), { action });
      // The switch may have been faster than this answer.
      if (said.get(slot) === before) say(slot, T.slots.asked);
    } catch (problem) {
      say(slot, problem.message, true);
    }
  };
  const release = async () => {
    await attempt(() => api.post(path("release")), T.slots.released);
    await attempt(draw);
  };
  const one = (label, click, props = {}) =>
    button(label, click, { "aria-label": T.slots.named(label, slot), "data-key": `${slot} ${label}`, ...props });
  return h(
    "footer",
    { class: "row", role: "group", "aria-label": T.slots.named(T.slots.power, slot) },
    quarantined ? one(T.slots.release, release, { kind: "main" }) : null,
    one(T.slots.turnOn, () => power("on")),
    one(T.slots.turnOff, () => power("off", T.slots.offSure(slot), T.slots.turnOff), { kind: "danger" }),
    one(T.slots.cycle, () => power("cycle", T.slots.cycleSure(slot), T.slots.cycle), { kind: "danger" }),
  );
}
