// What is asked or shown before everything else: the browser's own dialog, which keeps the focus and closes by Escape.

import { button, h, signButton } from "./dom.js";
import { T } from "./text.js";

/** Shows it, and returns it; `close` is called however it is closed. */
export function openDialog(title, content, { actions = [], close, kind = "" } = {}) {
  const heading = h("h2", { id: `dialog-${Math.random().toString(36).slice(2)}` }, title);
  const dialog = h(
    "dialog",
    { class: `dialog ${kind}`, "aria-labelledby": heading.id },
    h(
      "header",
      {},
      heading,
      signButton("close", T.dialog.close, () => dialog.close()),
    ),
    h("div", { class: "dialog-body" }, content),
    actions.length ? h("footer", {}, actions) : null,
  );
  dialog.addEventListener("close", () => {
    dialog.remove();
    close?.();
  });
  // Beside it is away from it.
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/** Resolves to true or false. */
export function confirmDialog(text, yes = T.dialog.yes, kind = "danger") {
  return new Promise((resolve) => {
    let answer = false;
    const decide = () => {
      answer = true;
      dialog.close();
    };
    const dialog = openDialog(text, [], {
      actions: [button(T.dialog.no, () => dialog.close()), button(yes, decide, { kind })],
      close: () => resolve(answer),
      kind: "small",
    });
  });
}

/** A word at the foot of the page that goes by itself; a failure stays until it is closed. */
export function toast(text, kind = "good") {
  let place = document.getElementById("toasts");
  if (!place) {
    place = h("div", { id: "toasts", role: "status", "aria-live": "polite" });
    document.body.append(place);
  }
  // A dialog lies over everything but what is in it.
  (document.querySelector("dialog[open]") ?? document.body).append(place);
  const node = h(
    "p",
    { class: `toast ${kind}` },
    text,
    signButton("close", T.dialog.close, () => node.remove()),
  );
  place.append(node);
  if (kind === "good") setTimeout(() => node.remove(), 5000);
}

/** Does it, and says what went wrong. */
export async function attempt(deed, done) {
  try {
    const answer = await deed();
    if (done) toast(done);
    return answer;
  } catch (problem) {
    toast(problem.message, "bad");
    return undefined;
  }
}
