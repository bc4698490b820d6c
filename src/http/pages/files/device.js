// One device: what is known of it, and what can be done about it.

import { api } from "./api.js";
import { attempt, confirmDialog, openDialog, toast } from "./dialog.js";
import { button, facts, h, put, write } from "./dom.js";
import { field, select } from "./form.js";
import * as format from "./format.js";
import { outcomeSign } from "./history.js";
import { T } from "./text.js";
import { drawTimeline } from "./timeline.js";

const SECONDS = 15;

export async function openDevice(mac, station) {
  const body = h("div", { class: "device" }, h("p", {}, T.common.loading));
  const known = station.floor.devices.get(mac);
  const name = known ? format.shortSerial(known) : format.mac(mac);
  const dialog = openDialog(T.device.title(name), body, { close: () => station.removeEventListener("news", hear) });
  const draw = async () => {
    const found = await attempt(() => Promise.all([api.get(`/devices/${mac}`), api.get("/projects")]));
    if (!found) return dialog.close();
    const [shown, { projects }] = found;
    put(body, content(shown, projects, { draw, dialog }));
  };
  const hear = ({ detail }) => detail.event?.data?.mac === mac && draw();
  station.addEventListener("news", hear);
  await draw();
}

function content({ device, sessions, timeline }, projects, { draw, dialog }) {
  const open = sessions.find((session) => !session.outcome);
  const newest = sessions[0];
  return [
    actions(device, open, newest?.switch_port, draw),
    newest?.advice ? h("p", { class: "advice" }, h("strong", {}, `${T.session.advice}: `), newest.advice) : null,
    facts([
      [T.device.serial, device.serial ?? device.serial8],
      [T.device.mac, format.mac(device.mac)],
      [T.device.model, device.model],
      [T.device.revision, device.revision],
      [T.device.slot, newest?.slot],
      [T.device.circuit, device.circuit],
      [T.device.board, newest?.facts.jumper],
      [T.device.last, device.last_outcome && outcomeSign(device.last_outcome)],
      [T.device.attempts, String(device.attempts)],
      [T.device.failures, device.failures ? String(device.failures) : ""],
      [T.device.first, format.moment(device.first_seen_at)],
      [T.device.seen, format.moment(device.seen_at)],
      [
        T.device.variables,
        Object.entries(device.variables)
          .map(([key, value]) => `${key}=${value}`)
          .join(", "),
      ],
      [T.device.secrets, device.secrets.join(", ")],
    ]),
    assignment(device, projects, draw),
    h("h3", {}, T.device.sessions),
    sessions.length
      ? h(
          "ul",
          { class: "plain" },
          sessions.map((session) => attemptRow(session, dialog)),
        )
      : h("p", { class: "hint" }, T.device.none),
    timeline.length ? [h("h3", {}, T.device.timeline), drawTimeline(timeline)] : null,
  ];
}

function attemptRow(session, dialog) {
  const link = h(
    "a",
    { href: `#/session/${session.session}`, on: { click: () => dialog.close() } },
    `${T.history.attempt} ${session.attempt}`,
  );
  return h(
    "li",
    { class: "row" },
    outcomeSign(session.outcome),
    link,
    h("span", { class: "hint" }, `${session.project} · ${format.moment(session.started_at)}`),
  );
}

function actions(device, open, port, draw) {
  const path = (deed) => `/devices/${device.mac}/${deed}`;
  const told = h("span", { class: "hint", role: "status" });
  const blink = async () => {
    if (!open && port && !(await confirmDialog(T.device.blinkSure, T.device.blink))) return;
    try {
      const { by, seconds, port } = await api.post(path("identify"), { seconds: SECONDS });
      write(told, by === "port" ? T.device.portBlinks(port) : T.device.blinking(seconds));
    } catch (problem) {
      write(told, problem.message);
    }
  };
  const abort = async () => {
    if (!(await confirmDialog(T.device.abortSure, T.device.abort))) return;
    await attempt(() => api.post(path("abort")), T.device.aborted);
    draw();
  };
  const cycle = async () => {
    if (!(await confirmDialog(T.device.cycleSure, T.device.cycle))) return;
    await attempt(() => api.post(path("power_cycle")), T.device.cycled);
    draw();
  };
  const authorize = async () => {
    await attempt(() => api.post(path("authorize")), T.device.authorized);
    draw();
  };
  return h(
    "div",
    { class: "row actions" },
    button(T.device.blink, blink, { sign: "blink", kind: "main" }),
    open ? button(T.device.abort, abort, { kind: "danger" }) : null,
    open ? null : button(T.device.authorize, authorize, { disabled: device.authorized }),
    port ? button(T.device.cycle, cycle, { kind: "danger" }) : null,
    told,
  );
}

function assignment(device, projects, draw) {
  const choice = select([["", "–"], ...projects.map(({ id, name }) => [id, name])], device.assigned ?? "");
  const send = async () => {
    const deed = choice.value
      ? () => api.post(`/devices/${device.mac}/assign`, { project: choice.value })
      : () => api.post(`/devices/${device.mac}/unassign`);
    if (await attempt(deed)) {
      toast(choice.value ? T.device.assigned : T.device.unassigned);
      draw();
    }
  };
  return h("div", { class: "row assign" }, field(T.device.assignTo, choice), button(T.device.assign, send));
}
