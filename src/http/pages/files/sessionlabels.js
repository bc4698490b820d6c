// The labels of one attempt: what came of each, how it looks, and another print.

import { api, query } from "./api.js";
import { attempt } from "./dialog.js";
import { button, h, icon } from "./dom.js";
import { nameOf } from "./floor.js";
import { select } from "./form.js";
import * as format from "./format.js";
import { openPreview } from "./preview.js";
import { T } from "./text.js";

const PAGE = 1000;
const SIGNS = { waiting: "working", printed: "passed", failed: "failed" };
const COLOURS = { waiting: "open", printed: "passed", failed: "failed" };

/** [{label, printer, state, time, ..}] in the order in which they were queued. */
export async function labelsOf(session) {
  const filter = { type: "label.*", session: session.session, from: session.started_at, limit: PAGE };
  const { events } = await api.get(`/events${query(filter)}`);
  const rows = [];
  for (const event of events) {
    const { data, time } = event;
    const name = nameOf(event);
    let row = rows.find(({ job }) => job !== undefined && job === data.job);
    if (!row) rows.push((row = { job: data.job, label: data.label }));
    Object.assign(row, { time, printer: data.printer ?? row.printer, reprint: data.reprint ?? row.reprint });
    if (name === "label.queued") row.state = "waiting";
    if (name === "label.printed") row.state = "printed";
    if (name === "label.failed") Object.assign(row, { state: "failed", why: data });
  }
  return rows;
}

/** Nothing where the station has no labels at all. */
export function sessionLabels(session, rows, labels, may) {
  if (!rows.length && !labels.length) return null;
  const print = (label, reprint, printer) => () =>
    attempt(() => api.post(`/labels/${label}/print`, { session: session.session, reprint, printer }), T.labels.queued);
  return h(
    "section",
    { class: "session-labels" },
    h("h2", {}, T.labels.ofSession),
    rows.length
      ? h(
          "ol",
          { class: "plain" },
          rows.map((row) => line(row, session, may, print)),
        )
      : h("p", { class: "hint" }, T.labels.none),
    may && labels.length ? byHand(labels, print) : null,
  );
}

function line({ label, printer, state, time, reprint, why }, session, may, print) {
  const word = state === "printed" ? T.labels.reprint : T.labels.print;
  const named = (text) => ({ "aria-label": `${text} ${label}` });
  const preview = () => attempt(() => openPreview(label, { session: session.session }));
  return h(
    "li",
    { class: "card", data: { label, state } },
    h(
      "p",
      { class: "row" },
      h("span", { class: "outcome", data: { state: COLOURS[state] } }, icon(SIGNS[state]), T.labels.state[state]),
      h("strong", {}, label),
      h(
        "span",
        { class: "hint grow" },
        [printer, format.moment(time), reprint && T.labels.again].filter(Boolean).join(" · "),
      ),
      button(T.labels.preview, preview, named(T.labels.preview)),
      may && state !== "waiting" ? button(word, print(label, state === "printed", printer), named(word)) : null,
    ),
    why ? h("p", {}, h("code", {}, why.code), " ", why.detail) : null,
    why?.advice ? h("p", { class: "hint" }, why.advice) : null,
  );
}

/** A label that the project does not print by itself. */
function byHand(labels, print) {
  const order = [...labels].sort((a, b) => format.byName(a.name, b.name));
  const choice = select(
    order.map(({ id, name }) => [id, name]),
    order[0].id,
  );
  choice.setAttribute("aria-label", T.labels.title);
  return h(
    "p",
    { class: "row by-hand" },
    choice,
    button(T.labels.print, () => print(choice.value, false)()),
  );
}
