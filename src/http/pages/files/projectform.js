// The fields of a project: from what the station has to controls, and back to what it takes.

import { button, h, put, signButton } from "./dom.js";
import { area, check, field, group, input, select } from "./form.js";
import { exactBytes, parseBytes } from "./format.js";
import { labelsPart } from "./labelform.js";
import { T } from "./text.js";

/** Each part: {node, read} with read() -> some fields of the request. */
export function projectForm(project, { images, firmware, scripts, labels }) {
  const parts = [
    basics(project, images),
    eeprom(project.firmware, firmware),
    scriptsPart(project, scripts),
    labelsPart(project, labels),
    board(project),
  ];
  return {
    node: h(
      "div",
      { class: "parts" },
      parts.map((part) => part.node),
    ),
    read: () => Object.assign({}, ...parts.map((part) => part.read())),
  };
}

function imageOptions(images, chosen) {
  const options = images.map((image) => [image.id, `${image.name} (${image.id.slice(0, 8)})`]);
  if (chosen && !images.some((image) => image.id === chosen))
    options.push([chosen, `${T.projects.missing} (${chosen.slice(0, 8)})`]);
  return [["", T.project.choose], ...options];
}

function basics(project, images) {
  const name = input(project.name, { required: true, maxlength: 200 });
  const image = select(imageOptions(images, project.image), project.image ?? "");
  const storage = input(project.storage ?? "/dev/mmcblk0", { list: "storages" });
  const again = select(
    [
      ["refuse", T.project.againRefuse],
      ["allow", T.project.againAllow],
    ],
    project.again ?? "refuse",
  );
  const sizes = sizeRows(project.sizes ?? [], images);
  const node = h(
    "section",
    {},
    h("h2", {}, T.project.basics),
    h(
      "div",
      { class: "fields" },
      field(T.project.name, name, { pointer: "/name" }),
      field(T.project.image, image, { pointer: "/image", hint: T.project.imageHint }),
      field(T.project.storage, storage, { pointer: "/storage", hint: T.project.storageHint }),
      field(T.project.again, again, { pointer: "/again" }),
    ),
    h(
      "datalist",
      { id: "storages" },
      ["/dev/mmcblk0", "/dev/nvme0n1", "/dev/sda"].map((value) => h("option", { value })),
    ),
    sizes.node,
  );
  return {
    node,
    read: () => ({
      name: name.value,
      image: image.value,
      storage: storage.value,
      again: again.value,
      sizes: sizes.read(),
    }),
  };
}

function sizeRows(sizes, images) {
  const rows = [];
  const list = h("div", { class: "rows" });
  const place = () => rows.forEach((row, at) => (row.node.dataset.pointer = `/sizes/${at}`));
  const add = (size) => {
    const upTo = input(size ? exactBytes(size.up_to_bytes) : "8 GB", { "aria-label": T.project.upTo, class: "short" });
    const image = select(imageOptions(images, size?.image), size?.image ?? "");
    image.setAttribute("aria-label", T.project.image);
    const row = { upTo, image };
    const remove = () => {
      rows.splice(rows.indexOf(row), 1);
      row.node.remove();
      place();
    };
    row.node = h(
      "div",
      { class: "row" },
      h("span", { "aria-hidden": "true" }, T.project.upTo),
      upTo,
      image,
      signButton("close", T.project.removeSize, remove),
      h("span", { class: "fault" }),
    );
    rows.push(row);
    list.append(row.node);
    place();
  };
  sizes.forEach(add);
  const node = group(T.project.sizes, [list, button(T.project.addSize, () => add(), { sign: "plus" })], {
    hint: T.project.sizesHint,
    pointer: "/sizes",
  });
  const read = () =>
    rows.map(({ upTo, image }) => {
      const bytes = parseBytes(upTo.value);
      // What is no size goes out as it was written: the station says what is wrong with it.
      return { up_to_bytes: Number.isNaN(bytes) ? upTo.value : bytes, image: image.value };
    });
  return { node, read };
}

function eeprom(recipe, firmware) {
  const options = [
    ["", T.project.firmwareNone],
    ...firmware.map(({ id, name, version }) => [id, `${name} (${version})`]),
  ];
  if (recipe && !firmware.some(({ id }) => id === recipe.image))
    options.push([recipe.image, recipe.image.slice(0, 12)]);
  const settingsText = Object.entries(recipe?.settings ?? {})
    .map(([key, value]) => `${key}=${value}`)
    .join("\n");
  const settings = area(settingsText, { placeholder: "BOOT_UART=1" });
  const bootconf = area(recipe?.bootconf ?? "");
  const revisions = input((recipe?.allow_revisions ?? []).join(", "));
  const order = check(T.project.forceOrder, recipe?.force_boot_order ?? false, {
    pointer: "/firmware/force_boot_order",
  });
  const downgrade = check(T.project.downgrade, recipe?.allow_downgrade ?? false, {
    pointer: "/firmware/allow_downgrade",
  });
  const more = h(
    "div",
    { class: "fields" },
    field(T.project.settings, settings, { pointer: "/firmware/settings", hint: T.project.settingsHint }),
    field(T.project.bootconf, bootconf, { pointer: "/firmware/bootconf", hint: T.project.bootconfHint }),
    field(T.project.revisions, revisions, { pointer: "/firmware/allow_revisions", hint: T.project.revisionsHint }),
    h("div", {}, order.node, downgrade.node),
  );
  const image = select(options, recipe?.image ?? "", () => (more.hidden = !image.value));
  more.hidden = !image.value;
  const node = h(
    "section",
    { data: { pointer: "/firmware" } },
    h("h2", {}, T.project.firmwarePart),
    field(T.project.firmware, image, { pointer: "/firmware/image" }),
    more,
    h("span", { class: "fault" }),
  );
  const read = () => {
    if (!image.value) return { firmware: null };
    const wish = {
      image: image.value,
      settings: pairs(settings.value),
      force_boot_order: order.box.checked,
      allow_downgrade: downgrade.box.checked,
      allow_revisions: words(revisions.value),
    };
    if (bootconf.value.trim()) wish.bootconf = bootconf.value;
    return { firmware: wish };
  };
  return { node, read };
}

/** "A=1\nB=2" -> {A: "1", B: "2"} */
function pairs(text) {
  const lines = text
    .split("\n")
    .map((line) => line.trim())
    .filter(Boolean);
  return Object.fromEntries(
    lines.map((line) => [
      line.split("=")[0].trim(),
      line.includes("=") ? line.slice(line.indexOf("=") + 1).trim() : "",
    ]),
  );
}

export function words(text) {
  return text
    .split(",")
    .map((word) => word.trim())
    .filter(Boolean);
}

function scriptsPart(project, scripts) {
  const before = ordered(project.scripts?.preinstall ?? [], scripts);
  const after = ordered(project.scripts?.postinstall ?? [], scripts);
  const dataFile = input(project.data_file ?? "");
  const node = h(
    "section",
    {},
    h("h2", {}, T.project.scriptsPart),
    h(
      "div",
      { class: "fields" },
      group(T.project.before, before.node, { pointer: "/scripts/preinstall" }),
      group(T.project.after, after.node, { pointer: "/scripts/postinstall" }),
    ),
    h("div", { data: { pointer: "/scripts" } }, h("span", { class: "fault" })),
    field(T.project.dataFile, dataFile, { pointer: "/data_file", hint: T.project.dataFileHint }),
  );
  return {
    node,
    read: () => ({
      scripts: { preinstall: before.read(), postinstall: after.read() },
      data_file: dataFile.value.trim() || null,
    }),
  };
}

/** A list of scripts in the order in which they run. */
function ordered(chosen, scripts) {
  const ids = [...chosen];
  const name = (id) => scripts.find((script) => script.id === id)?.name ?? id;
  const list = h("ol", { class: "ordered" });
  const adder = select([["", T.project.addScript], ...scripts.map((script) => [script.id, script.name])], "", () => {
    if (adder.value) ids.push(adder.value);
    draw();
  });
  adder.setAttribute("aria-label", T.project.addScript);
  const move = (at, by) => {
    ids.splice(at + by, 0, ...ids.splice(at, 1));
    draw();
  };
  const draw = () => {
    adder.value = "";
    put(
      list,
      ids.length
        ? ids.map((id, at) =>
            h(
              "li",
              { class: "row" },
              h("span", { class: "grow" }, name(id)),
              signButton("up", `${T.project.earlier}: ${name(id)}`, () => move(at, -1), { disabled: at === 0 }),
              signButton("down", `${T.project.later}: ${name(id)}`, () => move(at, 1), {
                disabled: at === ids.length - 1,
              }),
              signButton("close", `${T.project.takeOut}: ${name(id)}`, () => (ids.splice(at, 1), draw())),
            ),
          )
        : h("li", { class: "hint" }, T.project.noScripts),
    );
  };
  draw();
  return { node: [list, adder], read: () => [...ids] };
}

function board(project) {
  const led = project.status_led;
  const gpio = input(led?.gpio ?? 21, { type: "number", min: 0, max: 57, class: "short" });
  const onSuccess = select(
    [
      ["1", T.project.high],
      ["0", T.project.low],
    ],
    led?.on_success === false ? "0" : "1",
  );
  const more = h(
    "div",
    { class: "fields" },
    field(T.project.gpio, gpio, { pointer: "/status_led/gpio" }),
    field(T.project.onSuccess, onSuccess, { pointer: "/status_led/on_success" }),
  );
  more.hidden = !led;
  const has = check(T.project.led, Boolean(led), {
    pointer: "/status_led",
    hear: () => (more.hidden = !has.box.checked),
  });
  const configTxt = area(project.boot?.config_txt ?? "");
  const node = h(
    "section",
    {},
    h("h2", {}, T.project.boardPart),
    has.node,
    more,
    field(T.project.configTxt, configTxt, { pointer: "/boot", hint: T.project.configTxtHint, wide: true }),
  );
  const read = () => ({
    status_led: has.box.checked ? { gpio: Number(gpio.value), on_success: onSuccess.value === "1" } : null,
    boot: { config_txt: configTxt.value },
  });
  return { node, read };
}
