// The line: what the day has brought, and a tile for each device.

import { announce, button, h, icon, put, signButton, write } from "./dom.js";
import { openDevice } from "./device.js";
import { ENDED, isStalled } from "./floor.js";
import * as format from "./format.js";
import { T } from "./text.js";
import { Tile, placeOf } from "./tile.js";

const FILTERS = ["all", "working", "attention", "done"];

export class Line {
  #tiles = new Map();
  #filter = "all";
  #find = "";
  #isWall = false;
  #grid = h("ul", { class: "tiles", "aria-label": T.line.devices });
  #empty = h("div", { class: "empty" });
  #figures = Object.fromEntries(
    ["passed", "failed", "running", "yield"].map((name) => [name, h("span", { class: "figure" })]),
  );
  #remarks = Object.fromEntries(["failed", "yield"].map((name) => [name, h("span", { class: "remark" })]));
  #chips = new Map();

  constructor(station) {
    this.station = station;
  }

  show(main) {
    const wall = document.documentElement.classList.contains("wall");
    this.#isWall = wall;
    put(
      main,
      h("h1", { class: "unseen" }, T.line.title),
      this.#summary(),
      h("div", { class: "toolbar" }, this.#filters(), this.#search(), this.#tools(wall)),
      this.#grid,
      this.#empty,
    );
    const { floor } = this.station;
    const change = ({ detail }) => this.#update(detail);
    const others = () => this.#count();
    floor.addEventListener("change", change);
    this.station.addEventListener("news", others);
    this.#update([...floor.devices.keys()]);
    return () => {
      floor.removeEventListener("change", change);
      this.station.removeEventListener("news", others);
    };
  }

  #summary() {
    const figure = (name) =>
      h(
        "div",
        { class: "count", data: { count: name } },
        h("dt", {}, name === "running" ? icon("working") : name === "yield" ? null : icon(name), T.line[name]),
        h("dd", {}, this.#figures[name], this.#remarks[name]),
      );
    return h(
      "dl",
      { class: "summary", "aria-label": T.line.today },
      ["passed", "failed", "running", "yield"].map(figure),
    );
  }

  #filters() {
    const chip = (name) => {
      const count = h("span", { class: "chip-count" });
      const node = h(
        "button",
        {
          type: "button",
          class: "chip",
          "aria-pressed": name === this.#filter ? "true" : "false",
          on: { click: () => this.#choose(name) },
        },
        T.line[name],
        count,
      );
      this.#chips.set(name, { node, count });
      return node;
    };
    return h("div", { class: "chips", role: "group", "aria-label": T.line.filter }, FILTERS.map(chip));
  }

  #search() {
    const hear = ({ target }) => {
      this.#find = target.value.trim().toLowerCase().replaceAll(":", "");
      this.#place();
    };
    return h(
      "label",
      { class: "search" },
      icon("search"),
      h("span", { class: "unseen" }, T.line.find),
      h("input", { type: "search", placeholder: T.line.findHint, value: this.#find, on: { input: hear } }),
    );
  }

  #tools(wall) {
    const clear = () => this.station.floor.clearFinished();
    const turn = () => location.assign(`${wall ? location.pathname : "?wall"}#/line`);
    return h(
      "div",
      { class: "tools" },
      button(T.line.clear, clear),
      signButton(wall ? "close" : "wall", wall ? T.line.leaveWall : T.line.wall, turn),
    );
  }

  #choose(filter) {
    this.#filter = filter;
    for (const [name, { node }] of this.#chips) node.setAttribute("aria-pressed", String(name === filter));
    this.#place();
  }

  #update(macs) {
    const { floor } = this.station;
    const now = Date.now();
    let arrived = false;
    for (const mac of macs) {
      const device = floor.devices.get(mac);
      let tile = this.#tiles.get(mac);
      if (!device || !floor.isShown(device)) {
        tile?.node.remove();
        this.#tiles.delete(mac);
        continue;
      }
      if (!tile) {
        tile = new Tile(() => openDevice(mac, this.station));
        this.#tiles.set(mac, tile);
        arrived = true;
      }
      const place = placeOf(device);
      if (tile.place !== place) arrived = true;
      tile.place = place;
      const rank = this.#rank(device, now);
      if (tile.rank !== rank) arrived = true;
      tile.rank = rank;
      tile.update(device, now);
      if (!arrived) tile.node.hidden = !this.#takes(device, now);
    }
    if (arrived) this.#place();
    this.#count();
  }

  /** Nobody scrolls a wall: what somebody must go to comes first there. */
  #rank(device, now) {
    return this.#isWall ? ["attention", "done", "working"].indexOf(groupOf(device, now)) : 0;
  }

  /** By their place, then as they came: a tile does not wander while somebody looks for it. */
  #place() {
    const { devices } = this.station.floor;
    const now = Date.now();
    const known = [...this.#tiles].filter(([mac]) => devices.has(mac));
    known.sort(([, a], [, b]) => a.rank - b.rank || format.byName(a.place, b.place));
    this.#grid.dataset.crowd = known.length > 40 ? "many" : known.length > 12 ? "some" : "few";
    for (const [at, [mac, { node }]] of known.entries()) {
      node.hidden = !this.#takes(devices.get(mac), now);
      if (this.#grid.children[at] !== node) this.#grid.insertBefore(node, this.#grid.children[at] ?? null);
    }
    this.#count();
  }

  #takes(device, now) {
    const text = [device.mac, device.serial, device.serial8, device.board, device.circuit, device.project]
      .join(" ")
      .toLowerCase();
    return (
      (this.#filter === "all" || groupOf(device, now) === this.#filter) && (!this.#find || text.includes(this.#find))
    );
  }

  #count() {
    const { floor, today } = this.station;
    const now = Date.now();
    const groups = { all: 0, working: 0, attention: 0, done: 0 };
    let shown = 0;
    let running = 0;
    for (const mac of this.#tiles.keys()) {
      const device = floor.devices.get(mac);
      if (!device) continue;
      groups.all += 1;
      groups[groupOf(device, now)] += 1;
      if (device.state === "working") running += 1;
      if (!this.#tiles.get(mac).node.hidden) shown += 1;
    }
    for (const [name, { count }] of this.#chips) write(count, String(groups[name]));
    const counts = today.counts();
    write(this.#figures.passed, String(counts.passed));
    write(this.#figures.failed, String(counts.failed));
    write(this.#remarks.failed, counts.interrupted ? T.line.brokeOff(counts.interrupted) : "");
    write(this.#figures.running, String(running));
    write(this.#figures.yield, format.percent(counts.passed, counts.judged));
    write(this.#remarks.yield, today.isPartial ? T.line.partial : "");
    this.#sayEmpty(shown);
  }

  #sayEmpty(shown) {
    this.#empty.hidden = shown > 0;
    if (shown > 0) return;
    const reason = this.#tiles.size ? "match" : this.station.info?.active_projects?.length === 0 ? "project" : "device";
    if (this.#empty.dataset.reason === reason) return;
    this.#empty.dataset.reason = reason;
    if (reason === "match") put(this.#empty, h("p", {}, T.line.noMatch));
    else if (reason === "project")
      put(
        this.#empty,
        h("p", {}, T.line.noProject),
        h("a", { class: "button main", href: "#/projects" }, T.line.goProjects),
      );
    else put(this.#empty, h("p", {}, T.line.empty), h("p", { class: "hint" }, T.line.emptyHint));
  }
}

function groupOf(device, now) {
  if (device.state === "passed") return "done";
  if (isStalled(device, now) || device.state === "refused" || ENDED.includes(device.state)) return "attention";
  return "working";
}

export function sayEnd({ outcome, device }) {
  const name = format.shortSerial(device);
  announce(outcome === "passed" ? T.line.said.passed(name) : T.line.said.failed(name, device.advice));
}
