// What was done: every attempt, searched and paged.

import { api, query } from "./api.js";
import { button, h, icon, put } from "./dom.js";
import { field, input, select } from "./form.js";
import * as format from "./format.js";
import { heading } from "./projects.js";
import { T } from "./text.js";

const PAGE = 50;
const FILTERS = ["find", "project", "outcome", "from", "to", "before"];
const OUTCOMES = ["passed", "failed", "interrupted", "aborted"];

/** A sign, a word and a colour: each of them says it alone. */
export function outcomeSign(outcome) {
  const state = outcome ?? "open";
  return h("span", { class: "outcome", data: { state } }, icon(outcome ?? "working"), T.state[state]);
}

export async function showHistory(main, station, search) {
  const asked = Object.fromEntries(FILTERS.map((name) => [name, search.get(name) ?? ""]));
  const [{ projects }, page] = await Promise.all([api.get("/projects"), load(asked)]);
  const results = h("div", { class: "results" });
  const csv = h(
    "a",
    { class: "button", href: `/api/v1/sessions.csv${query(wanted(asked))}`, download: "sessions.csv" },
    T.history.csv,
  );
  put(main, heading(T.history.title, page.isSimple ? null : csv), filters(asked, projects, page.isSimple), results);
  put(results, page.fault ? h("p", { class: "empty" }, page.fault) : table(page.sessions), paging(asked, page));
  let isLeft = false;
  nameDevices(results, () => isLeft);
  return () => (isLeft = true);
}

/** Whole days as people name them: from the first to the last, both included. */
function wanted({ find, project, outcome, from, to }) {
  const day = (text, more) => {
    if (!text) return undefined;
    const at = new Date(`${text}T00:00`);
    at.setDate(at.getDate() + more);
    return at.toISOString();
  };
  // People type what they read: a serial, or a MAC in any form.
  const plain = /^[0-9a-f]{2}([:-][0-9a-f]{2}){5}$/i.test(find) ? find.replace(/[:-]/g, "").toLowerCase() : find;
  return { q: plain, project, outcome, from: day(from, 0), to: day(to, 1) };
}

async function load(asked) {
  try {
    return await api.get(`/sessions${query({ ...wanted(asked), before: asked.before, limit: PAGE })}`);
  } catch (problem) {
    // A station that does not know these filters yet.
    const isSimple = problem.code === "invalid_params" && problem.message.includes("unknown field");
    if (!isSimple) throw problem;
    return { ...(await loadSimply(asked)), isSimple };
  }
}

async function loadSimply({ find, project, outcome, before }) {
  let mac;
  if (find) {
    const id = find
      .trim()
      .replace(/[:\-\s]/g, "")
      .toLowerCase();
    const found = await api.get(`/devices/${encodeURIComponent(id)}`).catch((problem) => {
      if (problem.status === 404 || problem.status === 400) return undefined;
      throw problem;
    });
    if (!found) return { sessions: [], fault: T.history.noDevice(find) };
    mac = found.device.mac;
  }
  return api.get(`/sessions${query({ mac, project, outcome, before, limit: PAGE })}`);
}

/** Sessions know a MAC; on a module a serial is printed. */
async function nameDevices(results, isLeft) {
  const links = [...results.querySelectorAll("a[data-mac]")];
  const macs = [...new Set(links.map((link) => link.dataset.mac))];
  await Promise.all(
    Array.from({ length: 4 }, async () => {
      for (let mac = macs.shift(); mac && !isLeft(); mac = macs.shift()) {
        const { device } = await api.get(`/devices/${mac}`, { quiet: true }).catch(() => ({}));
        if (!device?.serial) continue;
        for (const link of links.filter((one) => one.dataset.mac === mac)) {
          link.textContent = device.serial;
          link.title = format.mac(mac);
        }
      }
    }),
  );
}

function go(values) {
  location.hash = `#/history${query(values)}`;
}

function filters(asked, projects, isSimple) {
  const [from, to] = [input(asked.from, { type: "date" }), input(asked.to, { type: "date" })];
  const find = input(asked.find, { type: "search" });
  const known = projects.map(({ id, name }) => [id, name]);
  if (asked.project && !projects.some(({ id }) => id === asked.project)) known.push([asked.project, asked.project]);
  const project = select([["", T.history.any], ...known], asked.project);
  const outcome = select([["", T.history.any], ...OUTCOMES.map((name) => [name, T.state[name]])], asked.outcome);
  const submit = (event) => {
    event?.preventDefault();
    go({ find: find.value.trim(), project: project.value, outcome: outcome.value, from: from.value, to: to.value });
  };
  for (const control of [project, outcome, from, to]) control.addEventListener("change", () => submit());
  return h(
    "form",
    { class: "filters", role: "search", on: { submit } },
    field(T.history.search, find),
    field(T.history.project, project),
    field(T.history.outcome, outcome),
    isSimple ? null : [field(T.history.from, from), field(T.history.to, to)],
    h("button", { type: "submit", class: "button main" }, T.history.find),
  );
}

function table(sessions) {
  if (!sessions.length) return h("p", { class: "empty" }, T.history.empty);
  const heads = [T.history.when, T.history.device, T.history.project, T.history.what, T.history.took, T.history.why];
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
    h("tbody", {}, sessions.map(row)),
  );
}

function row(session) {
  const took = format.between(session.started_at, session.ended_at);
  const name = session.serial ?? format.mac(session.mac);
  const cells = [
    [T.history.when, format.moment(session.started_at)],
    [
      T.history.device,
      [
        h("a", { href: `#/session/${session.session}`, data: session.serial ? {} : { mac: session.mac } }, name),
        h(
          "span",
          { class: "hint" },
          [
            session.attempt > 1 && `${T.history.attempt} ${session.attempt}`,
            session.circuit,
            session.facts.jumper && `J ${session.facts.jumper}`,
          ]
            .filter(Boolean)
            .join(" · "),
        ),
      ],
    ],
    [T.history.project, session.project],
    [T.history.what, outcomeSign(session.outcome)],
    [T.history.took, took === undefined ? "" : format.spent(took)],
    [
      T.history.why,
      session.code
        ? [h("code", {}, session.code), " ", h("span", { class: "hint" }, session.advice ?? session.detail ?? "")]
        : "",
    ],
  ];
  return h(
    "tr",
    { data: { state: session.outcome ?? "open" } },
    cells.map(([label, cell]) => h("td", { data: { label } }, cell)),
  );
}

function paging(asked, page) {
  const older = page.sessions.length === PAGE && page.next_before;
  return h(
    "div",
    { class: "row paging" },
    asked.before ? button(T.history.newest, () => go({ ...asked, before: "" })) : null,
    older ? button(T.history.older, () => go({ ...asked, before: page.next_before }), { kind: "main" }) : null,
  );
}
