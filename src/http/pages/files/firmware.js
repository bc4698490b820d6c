// EEPROM images: small files, taken in at once.

import { api, call, query } from "./api.js";
import { attempt, confirmDialog, toast } from "./dialog.js";
import { button, h, put } from "./dom.js";
import * as format from "./format.js";
import { dropPlace } from "./images.js";
import { follow, heading } from "./projects.js";
import { T } from "./text.js";

export async function showFirmware(main, station) {
  const list = h("ul", { class: "cards" });
  const draw = async () => {
    const { firmware } = await api.get("/firmware");
    const order = firmware.sort((a, b) => b.added_at.localeCompare(a.added_at));
    put(list, order.length ? order.map((one) => card(one, draw)) : h("li", { class: "empty" }, T.firmware.empty));
  };
  const take = async (files) => {
    for (const file of files) {
      const deed = () =>
        call("POST", `/firmware${query({ name: file.name })}`, {
          raw: file,
          headers: { "content-type": "application/octet-stream" },
        });
      if (await attempt(deed)) toast(T.firmware.added(file.name));
    }
    await attempt(draw);
  };
  await draw();
  put(main, heading(T.firmware.title), dropPlace(T.firmware.drop, T.firmware.hint, take), list);
  return follow(station, ["firmware."], () => attempt(draw));
}

function card(firmware, draw) {
  const remove = async () => {
    if (!(await confirmDialog(T.firmware.removeSure(firmware.name), T.firmware.remove))) return;
    if (await attempt(() => api.delete(`/firmware/${firmware.id}`))) await attempt(draw);
  };
  return h(
    "li",
    { class: "card" },
    h("header", {}, h("h2", {}, firmware.name), h("span", { class: "badge" }, firmware.chip)),
    h("p", {}, `${T.firmware.version} ${firmware.version}`),
    h(
      "p",
      { class: "hint" },
      `${format.bytes(firmware.size_bytes)} · ${T.firmware.room} ${format.bytes(firmware.room_bytes)} · ${T.images.added} ${format.moment(firmware.added_at)}`,
    ),
    h("details", {}, h("summary", {}, T.firmware.bootconf), h("pre", { tabindex: "0" }, firmware.bootconf)),
    h(
      "footer",
      { class: "row" },
      h("code", { class: "grow", title: firmware.id }, format.digest(firmware.id)),
      h(
        "a",
        { class: "button", href: `/api/v1/firmware/${firmware.id}/content`, download: firmware.name },
        T.firmware.download,
      ),
      button(T.firmware.remove, remove),
    ),
  );
}
