// The station itself: what is wrong with it, how far the buses are, who is looking, and the news as they come.

import { api } from "./api.js";
import { attempt } from "./dialog.js";
import { button, facts, h, icon, put } from "./dom.js";
import { nameOf } from "./floor.js";
import * as format from "./format.js";
import { askForToken, logOut, whoAmI } from "./login.js";
import { heading } from "./projects.js";
import { T } from "./text.js";

const NEWS = 40;

export async function showStation(main, station) {
  const [alarms, bus, known, news] = [h("section"), h("section"), h("section"), h("ol", { class: "news" })];
  const recent = [];
  const draw = async () => {
    await station.refresh();
    const { info } = station;
    put(alarms, h("h2", {}, T.station.alarms), alarmList(station.alarms));
    put(bus, h("h2", {}, T.station.bus), busList(info.sinks));
    put(known, stationFacts(info));
  };
  const { newest } = await api.get("/events?limit=1");
  const { events } = await api.get(`/events?limit=${NEWS}&after=${Math.max(0, newest - NEWS)}`);
  recent.push(...events.reverse());
  const drawNews = () => put(news, recent.length ? recent.map(line) : h("li", { class: "hint" }, T.station.noNews));
  await draw();
  drawNews();
  put(
    main,
    heading(T.station.title),
    alarms,
    bus,
    known,
    h("section", {}, h("h2", {}, T.station.who), await account()),
    h("section", {}, h("h2", {}, T.station.news), news),
  );
  const timer = setInterval(() => attempt(draw), 5000);
  const hear = ({ detail: { event } }) => {
    if (!event || Number(event.sequence) <= Number(recent[0]?.sequence ?? 0)) return;
    recent.unshift(event);
    recent.length = Math.min(recent.length, NEWS);
    drawNews();
    if (nameOf(event).startsWith("station.")) attempt(draw);
  };
  station.addEventListener("news", hear);
  return () => {
    clearInterval(timer);
    station.removeEventListener("news", hear);
  };
}

function alarmList(alarms) {
  if (alarms.size === 0) return h("p", { class: "fine" }, icon("passed"), T.station.noAlarms);
  return h(
    "ul",
    { class: "plain alarms" },
    [...alarms].map(([code, detail]) =>
      h(
        "li",
        {},
        icon("bell"),
        h("code", {}, code),
        h("span", {}, typeof detail === "string" ? detail : JSON.stringify(detail)),
      ),
    ),
  );
}

function busList(sinks) {
  if (!sinks?.length) return h("p", { class: "hint" }, T.station.noBus);
  return h("ul", { class: "cards" }, sinks.map(sinkCard));
}

/** Up, down, or there and not letting us. */
function sinkCard({ name, enabled = true, state, since, backlog, dead_letters: dead, reason }) {
  const word = enabled ? (T.station.sink[state] ?? state) : T.station.sink.off;
  return h(
    "li",
    { class: "card sink", data: { state: enabled ? state : "off" } },
    h(
      "header",
      {},
      h("h2", {}, name),
      h("span", { class: `badge ${!enabled ? "" : state === "up" ? "good" : "bad"}` }, word),
    ),
    h("p", { class: "figure" }, T.station.backlog(backlog ?? 0)),
    reason ? h("p", { class: "advice" }, reason) : null,
    dead ? h("p", { class: "advice" }, T.station.dead(dead)) : null,
    since ? h("p", { class: "hint" }, T.station.since(format.moment(since))) : null,
  );
}

function stationFacts(info) {
  return facts([
    [T.station.title, info.station],
    [T.station.version, info.version],
    [T.station.open, String(info.open_sessions ?? "")],
    [T.station.active, (info.active_projects ?? []).join(", ") || T.common.none],
    [T.station.projects, String(info.projects ?? "")],
    [T.station.images, String(info.images ?? "")],
    [T.station.firmware, String(info.firmware ?? "")],
    [T.station.rules, String(info.rules ?? "")],
  ]);
}

async function account() {
  const who = await whoAmI();
  if (!who?.role)
    return h(
      "p",
      { class: "row" },
      h("span", {}, T.station.anyone),
      who ? button(T.station.login, () => askForToken({ status: 401 })) : null,
    );
  return h(
    "p",
    { class: "row" },
    h("strong", {}, who.name ?? ""),
    h("span", { class: "badge" }, who.role),
    who.name ? button(T.station.logout, logOut) : null,
  );
}

function line(event) {
  const name = nameOf(event);
  const { data } = event;
  const about = data.mac ? format.mac(data.mac) : (data.name ?? data.project?.id ?? data.code ?? event.subject);
  const more = [typeof data.project === "string" && data.project, data.step, data.code, data.status]
    .filter((text) => text && text !== about)
    .join(" · ");
  return h(
    "li",
    {},
    h("time", { datetime: event.time }, format.time(event.time)),
    h("code", {}, name),
    h("span", {}, String(about)),
    h("span", { class: "hint" }, more),
  );
}
