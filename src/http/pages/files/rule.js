// One rule: its project and the conditions that are given, as controls and back.

import { h, put, signButton } from "./dom.js";
import { field, input, select } from "./form.js";
import { exactBytes, parseBytes } from "./format.js";
import { words } from "./projectform.js";
import { T } from "./text.js";

export const CONDITIONS = ["serial", "mac", "model", "revision", "memory_mb", "storage_bytes", "jumper", "circuit"];
const BOUNDS = ["memory_mb", "storage_bytes"];

/** `hear` is called with every change; `tools` are the buttons of its place in the list. */
export class RuleEditor {
  #conditions = new Map();
  #rows = h("div", { class: "rows" });
  #adder;

  constructor(rule, projects, hear, tools) {
    this.hear = hear;
    const known = projects.map(({ id, name, active }) => [id, active ? name : `${name} (${T.rules.inactive})`]);
    if (rule.project && !projects.some(({ id }) => id === rule.project)) known.push([rule.project, rule.project]);
    this.project = select(known, rule.project, hear);
    this.name = input(rule.name ?? "", { on: { input: hear }, maxlength: 200 });
    for (const what of CONDITIONS) if (rule.when?.[what] !== undefined) this.#add(what, rule.when[what]);
    this.#adder = select([], "", () => this.#added());
    this.#adder.setAttribute("aria-label", T.rules.addCondition);
    this.title = h("h2", {});
    this.verdict = h("p", { class: "verdict", role: "status" });
    this.node = h(
      "li",
      { class: "card rule" },
      h("header", {}, this.title, tools),
      h("div", { class: "fields" }, field(T.rules.project, this.project), field(T.rules.name, this.name)),
      this.#rows,
      this.#adder,
      this.verdict,
      h("span", { class: "fault" }),
    );
    this.#drawAdder();
  }

  place(at) {
    this.title.textContent = T.rules.rule(at + 1);
    this.node.dataset.pointer = `/rules/${at}`;
    this.project.closest(".field").dataset.pointer = `/rules/${at}/project`;
    this.name.closest(".field").dataset.pointer = `/rules/${at}/name`;
    for (const [what, { node }] of this.#conditions) node.dataset.pointer = `/rules/${at}/when/${what}`;
  }

  #drawAdder() {
    const free = CONDITIONS.filter((what) => !this.#conditions.has(what));
    put(
      this.#adder,
      h("option", { value: "" }, T.rules.addCondition),
      free.map((what) => h("option", { value: what }, T.rules.field[what])),
    );
    this.#adder.value = "";
    this.#adder.hidden = free.length === 0;
    this.node?.classList.toggle("always", this.#conditions.size === 0);
  }

  #added() {
    if (!this.#adder.value) return;
    this.#add(this.#adder.value, BOUNDS.includes(this.#adder.value) ? {} : []);
    this.#drawAdder();
    this.hear();
  }

  #add(what, value) {
    const condition = BOUNDS.includes(what) ? bounds(what, value, this.hear) : list(what, value, this.hear);
    const remove = () => {
      this.#conditions.delete(what);
      condition.node.remove();
      this.#drawAdder();
      this.hear();
    };
    condition.node = h(
      "div",
      { class: "condition" },
      condition.controls,
      signButton("close", T.rules.removeCondition(T.rules.field[what]), remove),
    );
    this.#conditions.set(what, condition);
    this.#rows.append(condition.node);
  }

  read() {
    const when = Object.fromEntries([...this.#conditions].map(([what, condition]) => [what, condition.read()]));
    const name = this.name.value.trim();
    return { project: this.project.value, ...(name ? { name } : {}), when };
  }

  /** What a test has said of it. */
  show(judged) {
    if (!judged) return put(this.verdict);
    delete this.verdict.dataset.holds;
    this.verdict.dataset.holds = judged.holds;
    const value = (known) =>
      known === null ? T.rules.unknown : typeof known === "object" ? JSON.stringify(known) : String(known);
    const why = judged.conditions
      .filter(({ holds }) => holds !== "yes")
      .map(
        ({ field: what, wanted, known }) =>
          `${T.rules.field[what]} ${T.rules.known} ${value(known)}, ${T.rules.wanted} ${value(wanted)}`,
      );
    return put(
      this.verdict,
      h("strong", {}, T.rules.holds[judged.holds]),
      judged.active ? null : ` (${T.rules.inactive})`,
      why.length ? ` – ${why.join("; ")}` : null,
    );
  }
}

function list(what, value, hear) {
  const control = input(value.join(", "), { on: { input: hear } });
  return {
    controls: field(T.rules.field[what], control, { hint: T.rules.hint[what] }),
    read: () => words(control.value),
  };
}

function bounds(what, value, hear) {
  const isBytes = what === "storage_bytes";
  const shown = (number) => (number === undefined ? "" : isBytes ? exactBytes(number) : String(number));
  const [min, max] = [
    input(shown(value.min), { on: { input: hear } }),
    input(shown(value.max), { on: { input: hear } }),
  ];
  const read = (control) => {
    const text = control.value.trim();
    if (!text) return undefined;
    const number = isBytes ? parseBytes(text) : Number(text);
    return Number.isNaN(number) ? text : number;
  };
  const controls = h(
    "div",
    { class: "bounds" },
    field(`${T.rules.field[what]} ${T.rules.min}`, min, { hint: T.rules.hint[what] }),
    field(`${T.rules.field[what]} ${T.rules.max}`, max),
  );
  return { controls, read: () => JSON.parse(JSON.stringify({ min: read(min), max: read(max) })) };
}
