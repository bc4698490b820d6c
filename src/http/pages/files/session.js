// One attempt on one device, with all that it has shown.

import { api } from "./api.js";
import { attempt } from "./dialog.js";
import { button, facts, h, put } from "./dom.js";
import { openDevice } from "./device.js";
import * as format from "./format.js";
import { outcomeSign } from "./history.js";
import { mayOperate } from "./login.js";
import { heading } from "./projects.js";
import { labelsOf, sessionLabels } from "./sessionlabels.js";
import { T } from "./text.js";
import { drawTimeline } from "./timeline.js";

export async function showSession(main, station, id) {
  const body = h("div", {});
  const may = await mayOperate();
  const draw = async () => {
    const [{ session, timeline }, { output }, { labels }] = await Promise.all([
      api.get(`/sessions/${id}`),
      api.get(`/sessions/${id}/output`),
      api.get("/labels"),
    ]);
    const [{ device }, rows] = await Promise.all([
      api.get(`/devices/${session.mac}`).catch(() => ({ device: { mac: session.mac } })),
      labelsOf(session),
    ]);
    const printed = sessionLabels(session, rows, labels, may);
    put(body, content(session, { device, timeline, output, printed }, station));
  };
  await draw();
  put(main, body);
  const hear = ({ detail }) => detail.event?.data?.session === id && attempt(draw);
  station.addEventListener("news", hear);
  return () => station.removeEventListener("news", hear);
}

function content(session, { device, timeline, output, printed }, station) {
  const took = format.between(session.started_at, session.ended_at);
  return [
    heading(
      T.session.of(session.attempt, device.serial ?? format.mac(session.mac)),
      outcomeSign(session.outcome),
      button(T.device.title(format.shortSerial(device)), () => openDevice(session.mac, station)),
    ),
    session.code
      ? h(
          "div",
          { class: "advice" },
          session.advice ? h("p", {}, h("strong", {}, `${T.session.advice}: `), session.advice) : null,
          h("p", { class: "hint" }, h("code", {}, session.code), " ", session.detail ?? ""),
        )
      : null,
    session.warnings.length
      ? h(
          "section",
          {},
          h("h2", {}, T.session.warnings),
          h(
            "ul",
            {},
            session.warnings.map((text) => h("li", {}, text)),
          ),
        )
      : null,
    h("section", {}, h("h2", {}, T.session.timeline), drawTimeline(timeline, session)),
    h("section", {}, h("h2", {}, T.session.steps), steps(session)),
    printed,
    h("section", {}, h("h2", {}, T.session.facts), sessionFacts(session, device, took)),
    h(
      "section",
      {},
      h("h2", {}, T.session.output),
      output.length ? output.map(outputOf) : h("p", { class: "hint" }, T.session.noOutput),
    ),
  ];
}

function sessionFacts(session, device, took) {
  const { facts: known } = session;
  return facts([
    [T.session.project, h("a", { href: `#/project/${session.project}` }, session.project)],
    [T.session.image, h("code", { title: session.image }, format.digest(session.image))],
    [T.session.storage, session.storage],
    [T.session.began, format.moment(session.started_at)],
    [T.session.ended, format.moment(session.ended_at)],
    [T.session.took, took === undefined ? "" : format.spent(took)],
    [T.device.serial, device.serial],
    [T.device.mac, format.mac(session.mac)],
    [T.session.model, known.model],
    [T.session.memory, known.memory_kb && format.bytes(known.memory_kb * 1024)],
    [T.session.size, known.storage_sectors && format.bytes(known.storage_sectors * 512)],
    [T.session.temperature, known.temperature],
    [T.session.jumper, known.jumper],
    [T.device.slot, session.slot],
    [T.session.circuit, session.circuit],
    [T.session.bootMode, known.boot_mode],
    [T.session.cid, known.cid],
    [T.session.csd, known.csd],
    [T.session.firmware, session.firmware?.version],
    [
      T.session.variables,
      Object.entries(session.variables ?? {})
        .map(([key, value]) => `${key}=${value}`)
        .join(", "),
    ],
    [T.session.session, h("code", {}, session.session)],
    [T.tile.simulated, known.simulated ? T.dialog.yes : ""],
  ]);
}

function steps(session) {
  if (!session.steps.length) return h("p", { class: "hint" }, T.session.noSteps);
  const heads = [T.session.step, T.session.bytes, T.session.proof, T.session.remarks];
  return h(
    "table",
    { class: "list" },
    h(
      "thead",
      {},
      h(
        "tr",
        {},
        heads.map((name) => h("th", { scope: "col" }, name)),
      ),
    ),
    h("tbody", {}, session.steps.map(stepRow)),
  );
}

function stepRow(step) {
  const proof = [
    step.sha256 && h("code", { title: step.sha256 }, format.digest(step.sha256)),
    step.cache && ` ${T.session.cache[step.cache]}`,
  ];
  const remarks = [
    step.firmware && T.session.eeprom(step.firmware),
    ...(step.scripts ?? []).map(T.session.exit),
    ...(step.warnings ?? []),
  ].filter(Boolean);
  const cells = [
    [T.session.step, T.step[step.step]],
    [T.session.bytes, step.bytes ? format.bytes(step.bytes) : ""],
    [T.session.proof, proof],
    [T.session.remarks, remarks.join("; ")],
  ];
  return h(
    "tr",
    {},
    cells.map(([label, cell]) => h("td", { data: { label } }, cell)),
  );
}

function outputOf({ script, text, truncated }) {
  return h(
    "details",
    { open: true },
    h("summary", {}, script),
    h("pre", { tabindex: "0" }, text),
    truncated ? h("p", { class: "hint" }, T.session.truncated) : null,
  );
}
