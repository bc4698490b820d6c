// How a label would look: what its printer would get for one attempt, or why it would get nothing.

import { api, query } from "./api.js";
import { openDialog } from "./dialog.js";
import { h, put } from "./dom.js";
import { field, select } from "./form.js";
import * as format from "./format.js";
import { T } from "./text.js";

/** The newest attempts, those of a project first where one is named. */
async function samples(project) {
  const of = async (filter) => (await api.get(`/sessions${query({ ...filter, limit: 10 })}`)).sessions;
  const own = project ? await of({ project }) : [];
  return own.length ? own : of({});
}

/** Shows it for one attempt, or lets choose among the newest. */
export async function openPreview(label, { name = label, session, project } = {}) {
  const shown = h("div", { class: "preview", role: "region", "aria-label": T.labels.preview, "aria-live": "polite" });
  if (session) {
    await draw(shown, label, session);
    return openDialog(T.labels.previewOf(name), shown);
  }
  const sessions = await samples(project);
  if (!sessions.length) return openDialog(T.labels.previewOf(name), h("p", { class: "hint" }, T.labels.noSample));
  const text = (one) => T.labels.attempt({ ...one, mac: format.mac(one.mac) });
  const choice = select(
    sessions.map((one) => [one.session, text(one)]),
    sessions[0].session,
    () => draw(shown, label, choice.value),
  );
  await draw(shown, label, choice.value);
  return openDialog(T.labels.previewOf(name), [field(T.labels.whose, choice), shown]);
}

async function draw(node, label, session) {
  try {
    const text = await api.post(`/labels/${label}/preview`, { session }, { as: "text" });
    const size = new TextEncoder().encode(text).length;
    put(node, h("pre", { tabindex: "0" }, text), h("p", { class: "hint" }, T.labels.size(size)));
  } catch (problem) {
    const why = h("p", { class: "advice" }, h("strong", {}, T.labels.wrong), ` ${problem.message}`);
    put(node, why, await line(label, problem));
  }
}

/** The line of the template of which the station says that it is wrong. */
async function line(label, problem) {
  const number = Number(/\bline (\d+)\b/.exec(problem.message)?.[1]);
  if (!number) return null;
  const { label: found } = await api.get(`/labels/${label}`).catch(() => ({}));
  const text = found?.text.split("\n")[number - 1];
  return text === undefined ? null : h("pre", { tabindex: "0" }, T.labels.line(number, text));
}
