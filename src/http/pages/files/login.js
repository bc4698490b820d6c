// A station that wants to know who is there gets a token, once; it answers with a cookie that scripts cannot read.

import { call } from "./api.js";
import { openDialog } from "./dialog.js";
import { button, h, write } from "./dom.js";
import { field, input } from "./form.js";
import { T } from "./text.js";

/** {role, name}, or nothing where the station does not ask. */
export async function whoAmI() {
  return call("GET", "/session", { quiet: true }).catch(() => undefined);
}

/** Whether a caller may command devices and places; a station that does not ask lets everyone. */
export async function mayOperate() {
  const role = (await whoAmI())?.role;
  return role === undefined || role !== "viewer";
}

let asking;

/** True once a token was taken. Many calls may fail at once: they all wait for one answer. */
export async function askForToken(problem) {
  const known = problem.status === 403 ? await whoAmI() : undefined;
  if (known?.role) return false;
  asking ??= ask().finally(() => (asking = undefined));
  return asking;
}

function ask() {
  return new Promise((resolve) => {
    let taken = false;
    const token = input("", { type: "password", autocomplete: "current-password", required: true });
    const fault = h("p", { class: "fault", role: "alert" });
    const send = async (event) => {
      event.preventDefault();
      try {
        await call("POST", "/session", { body: { token: token.value.trim() }, quiet: true });
        taken = true;
        dialog.close();
      } catch (problem) {
        const wrong = problem.status === 401 || problem.code === "bad_token";
        write(
          fault,
          problem.status === 404 || problem.code === "forbidden"
            ? T.login.none
            : wrong
              ? T.login.wrong
              : problem.message,
        );
      }
    };
    const form = h(
      "form",
      { on: { submit: send } },
      h("p", {}, T.login.lead),
      field(T.login.token, token, { wide: true }),
      fault,
      h(
        "div",
        { class: "row" },
        h("button", { type: "submit", class: "button main" }, T.login.go),
        button(T.login.cancel, () => dialog.close()),
      ),
    );
    const dialog = openDialog(T.login.title, form, { close: () => resolve(taken), kind: "small" });
    token.focus();
  });
}

export async function logOut() {
  await call("DELETE", "/session", { quiet: true }).catch(() => {});
  location.reload();
}
