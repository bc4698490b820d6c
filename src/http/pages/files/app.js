// The page begins here: it learns what the station knows, listens on, and shows one view at a time.

import { Problem, api, onUnauthorised } from "./api.js";
import { button, h, icon, put, write } from "./dom.js";
import { showFirmware } from "./firmware.js";
import { Floor, nameOf } from "./floor.js";
import { showHistory } from "./history.js";
import { showImages } from "./images.js";
import { showLabels } from "./labels.js";
import { Line, sayEnd } from "./line.js";
import { Live } from "./live.js";
import { askForToken } from "./login.js";
import { showProject } from "./project.js";
import { showProjects } from "./projects.js";
import { showRules } from "./rules.js";
import { showScripts } from "./scripts.js";
import { showSession } from "./session.js";
import { showSlots } from "./slots.js";
import * as sound from "./sound.js";
import { showStation } from "./station.js";
import { T } from "./text.js";
import { Today } from "./today.js";

const PAGES = [
  "line",
  "slots",
  "projects",
  "rules",
  "history",
  "images",
  "firmware",
  "scripts",
  "labels",
  "station",
];

/** All that views show from. */
class Station extends EventTarget {
  floor = new Floor();
  today = new Today();
  live = new Live();
  alarms = new Map();
  info = {};

  async begin() {
    const [{ newest }, info] = [await api.get("/events?limit=1"), await api.get("/station")];
    this.#inform(info);
    this.floor.learn(await this.today.load());
    this.#learnDevices();
    // What came in since then is said once more: it changes nothing.
    this.quietUntil = newest;
    this.live.addEventListener("event", ({ detail }) => this.#hear(detail));
    this.live.addEventListener("telemetry", ({ detail }) => this.floor.progress(detail));
    this.live.addEventListener("stale", () => location.reload());
    this.live.start(Math.max(0, newest - 200));
    setInterval(() => this.floor.tick(), 1000);
  }

  #inform(info) {
    this.info = info;
    this.alarms = new Map(Object.entries(info.alarms ?? {}));
    this.#news("station");
  }

  async refresh() {
    this.#inform(await api.get("/station"));
  }

  /** Sessions name a MAC; people read serials. */
  async #learnDevices() {
    const macs = [...this.floor.devices.values()].filter(({ serial }) => !serial).map(({ mac }) => mac);
    await Promise.all(
      Array.from({ length: 6 }, async () => {
        for (let mac = macs.pop(); mac; mac = macs.pop()) {
          const { device } = await api.get(`/devices/${mac}`, { quiet: true }).catch(() => ({}));
          if (device) this.floor.learnDevice(device);
        }
      }),
    );
  }

  #hear(event) {
    const name = nameOf(event);
    const isNews = Number(event.sequence) > this.quietUntil;
    if (name === "station.alarm.raised") this.alarms.set(event.data.code, event.data.detail);
    if (name === "station.alarm.cleared") this.alarms.delete(event.data.code);
    const recent = isNews || Date.now() - Date.parse(event.time) < 600_000;
    const end = recent ? this.floor.apply(event) : undefined;
    if (end) {
      const { session, project } = event.data;
      this.today.end(session, end.outcome, project, event.time);
      if (isNews && end.outcome !== "aborted") {
        sound.play(end.outcome);
        sayEnd(end);
      }
    }
    if (isNews && name.startsWith("project.")) this.refresh().catch(() => {});
    this.#news(name, event);
  }

  #news(name, event) {
    this.dispatchEvent(new CustomEvent("news", { detail: { name, event } }));
  }
}

const station = new Station();
const line = new Line(station);
const main = document.getElementById("main");

const VIEWS = {
  line: () => line.show(main),
  slots: () => showSlots(main, station),
  projects: () => showProjects(main, station),
  project: (id) => showProject(main, station, id),
  rules: () => showRules(main, station),
  history: (_, search) => showHistory(main, station, search),
  session: (id) => showSession(main, station, id),
  images: () => showImages(main, station),
  firmware: () => showFirmware(main, station),
  scripts: () => showScripts(main, station),
  labels: () => showLabels(main, station),
  station: () => showStation(main, station),
};

/** Ends the view that is shown; false where somebody wants to stay. */
let leave;
let shown = 0;
let at = "";

async function route() {
  const hash = location.hash || "#/line";
  if (hash === at) return;
  if (leave?.isDirty?.() && !confirm(T.common.unsaved)) {
    history.replaceState(null, "", at);
    return;
  }
  at = hash;
  const [path, search] = hash.slice(2).split("?");
  const [name, id] = path.split("/").map(decodeURIComponent);
  leave?.();
  leave = undefined;
  const turn = (shown += 1);
  markPlace(name === "project" ? "projects" : name === "session" ? "history" : name);
  const view = VIEWS[name];
  try {
    if (!view) throw new Problem(404, { detail: T.common.missing });
    const end = await view(id, new URLSearchParams(search));
    if (turn === shown) leave = end;
    else end?.();
  } catch (problem) {
    if (turn === shown)
      put(
        main,
        h(
          "div",
          { class: "empty", role: "alert" },
          h("p", {}, problem.message),
          button(T.common.retry, () => ((at = ""), route())),
        ),
      );
    if (!(problem instanceof Problem)) throw problem;
  }
  // Whoever works by keyboard or by ear goes on with what is new.
  if (main.dataset.view && main.dataset.view !== name) main.focus();
  main.dataset.view = name;
}

function markPlace(name) {
  for (const link of document.querySelectorAll("#menu a")) {
    if (link.dataset.page === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${T.nav[name] ?? "bootline"} · bootline`;
}

function drawTop() {
  const links = PAGES.map((page) => h("li", {}, h("a", { href: `#/${page}`, data: { page } }, T.nav[page])));
  const menu = h("ul", { id: "menu" }, links);
  const opener = h(
    "button",
    { type: "button", class: "sign menu", "aria-label": T.nav.menu, "aria-expanded": "false", "aria-controls": "menu" },
    icon("menu"),
  );
  const open = (isOpen) => opener.setAttribute("aria-expanded", String(isOpen));
  opener.addEventListener("click", () => open(opener.getAttribute("aria-expanded") !== "true"));
  menu.addEventListener("click", () => open(false));
  put(
    document.getElementById("top"),
    h("a", { class: "mark", href: "#/line" }, h("img", { src: "/page/icon.svg", alt: "" }), h("span", {}, "bootline")),
    h("span", { class: "station-name" }),
    h("nav", { "aria-label": T.nav.label }, opener, menu),
    h("div", { class: "signs" }, drawAlarms(), drawSound(), drawConnection()),
  );
}

function drawAlarms() {
  const count = h("span");
  const link = h("a", { class: "alarm-count", href: "#/station", hidden: true }, icon("bell"), count);
  station.addEventListener("news", () => {
    link.hidden = station.alarms.size === 0;
    write(count, T.alarms(station.alarms.size));
    write(document.querySelector(".station-name"), station.info.station ?? "");
  });
  return link;
}

function drawSound() {
  const node = h("button", { type: "button", class: "sign sound" });
  const draw = () => {
    const muted = sound.isMuted();
    node.setAttribute("aria-label", muted ? T.sound.off : T.sound.on);
    node.title = sound.isWaiting() ? T.sound.waits : muted ? T.sound.off : T.sound.on;
    node.dataset.waits = String(sound.isWaiting());
    put(node, icon(muted ? "muted" : "sound"));
  };
  node.addEventListener("click", () => {
    sound.setMuted(!sound.isMuted());
    draw();
  });
  sound.onChange(draw);
  draw();
  return node;
}

function drawConnection() {
  const word = h("span", {}, T.connection.connecting);
  const node = h(
    "span",
    { class: "connection", data: { state: "connecting" } },
    h("i", { "aria-hidden": "true" }),
    word,
  );
  const old = document.getElementById("old");
  station.live.addEventListener("state", ({ detail: state }) => {
    node.dataset.state = state;
    write(word, T.connection[state]);
    old.hidden = state !== "old";
    write(old, state === "old" ? T.connection.banner : "");
    document.documentElement.classList.toggle("is-old", state === "old");
  });
  return node;
}

async function begin() {
  document.documentElement.classList.toggle("wall", new URLSearchParams(location.search).has("wall"));
  onUnauthorised(askForToken);
  drawTop();
  addEventListener("hashchange", route);
  addEventListener("beforeunload", (event) => leave?.isDirty?.() && event.preventDefault());
  put(main, h("p", { class: "empty" }, T.common.loading));
  try {
    await station.begin();
  } catch (problem) {
    put(
      main,
      h(
        "div",
        { class: "empty", role: "alert" },
        h("p", {}, problem.message),
        button(T.common.retry, () => location.reload()),
      ),
    );
    throw problem;
  }
  await route();
}

begin();
