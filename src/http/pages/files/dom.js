// Nodes are made by calls and text is always text: nothing that a device says can become markup.

const SVG = "http://www.w3.org/2000/svg";

/** h("p", {class: "note", on: {click}}, "text", node, [more]) */
export function h(tag, props = {}, ...children) {
  return fill(document.createElement(tag), props, children);
}

/** The same for drawings. */
export function s(tag, props = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), props, children);
}

function fill(node, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "on") {
      for (const [event, hear] of Object.entries(value)) node.addEventListener(event, hear);
    } else if (name === "data") {
      Object.assign(node.dataset, value);
    } else if (name === "value" || name === "checked" || name === "selected" || name === "disabled") {
      node[name] = value;
    } else {
      node.setAttribute(name, value === true ? "" : value);
    }
  }
  add(node, children);
  return node;
}

function add(node, children) {
  for (const child of children.flat(Infinity)) {
    if (child === undefined || child === null || child === false) continue;
    node.append(child);
  }
}

/** Puts these in the place of all that is in the node. */
export function put(node, ...children) {
  node.replaceChildren();
  add(node, children);
  return node;
}

/** Writes text only where it is another one: unchanged nodes cost nothing. */
export function write(node, text) {
  if (node.firstChild?.nodeType === Node.TEXT_NODE && node.childNodes.length === 1) {
    if (node.firstChild.data !== text) node.firstChild.data = text;
  } else if (node.textContent !== text) {
    node.textContent = text;
  }
}

export function icon(name, label) {
  const use = s("use", { href: `/page/icons.svg#${name}` });
  return label
    ? s("svg", { class: "icon", role: "img", "aria-label": label }, use)
    : s("svg", { class: "icon", "aria-hidden": "true" }, use);
}

/** Another picture in the same place. */
export function redraw(svg, name) {
  const use = svg.firstChild;
  const href = `/page/icons.svg#${name}`;
  if (use.getAttribute("href") !== href) use.setAttribute("href", href);
}

export function button(label, click, { kind = "", sign, ...props } = {}) {
  return h("button", { type: "button", class: `button ${kind}`, on: { click }, ...props }, sign && icon(sign), label);
}

/** A button that is a sign alone; its name is for those who do not see it. */
export function signButton(sign, label, click, props = {}) {
  return h(
    "button",
    { type: "button", class: "sign", "aria-label": label, title: label, on: { click }, ...props },
    icon(sign),
  );
}

/** A list of names and what they are; pairs without a value are left out. */
export function facts(pairs) {
  const known = pairs.filter(([, value]) => value !== undefined && value !== null && value !== "");
  return h(
    "dl",
    { class: "facts" },
    known.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))),
  );
}

export function announce(text) {
  document.getElementById("said").textContent = text;
}
