// Projects, rules, images, firmware, scripts and the history, as the one who sets up the line uses them.

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { writeFileSync } from "node:fs";
import path from "node:path";
import { after, before, test } from "node:test";

import { Agent } from "./agent.js";
import { Board } from "./board.js";
import { launch, open } from "./browser.js";

let agent;
let browser;

before(async () => {
  [agent, browser] = await Promise.all([Agent.start(), launch()]);
});

after(async () => {
  await browser?.close();
  await agent?.stop();
});

/** As a file that somebody chooses. */
function file(name, bytes) {
  const place = path.join(agent.folder, name);
  writeFileSync(place, bytes);
  return place;
}

async function closed(page) {
  // An answer of 4xx is told in the console too; anything else there is a fault of the page.
  const own = page.complaints.filter((text) => !/status of (4\d\d|0)|ERR_FAILED|ERR_CONNECTION/.test(text));
  assert.deepEqual(own, []);
  await page.context().close();
}

test("an image is uploaded in parts, goes on after a break, and can be deleted", async () => {
  const page = await open(browser, agent, "#/images");
  await page.getByText("There is no image yet.").waitFor();
  const place = file("field-unit.img", randomBytes(20 << 20));
  // The second part is cut off on its way.
  let parts = 0;
  await page.route("**/api/v1/uploads/*", (route) => {
    if (route.request().method() !== "PATCH") return route.continue();
    parts += 1;
    return parts === 2 ? route.abort() : route.continue();
  });
  const offsets = [];
  page.on(
    "request",
    (request) => request.method() === "PATCH" && offsets.push(Number(request.headers()["upload-offset"])),
  );
  await page.locator("input[type=file]").setInputFiles(place);
  const card = page.locator(".card.image", { hasText: "field-unit.img" });
  await card.getByText("ready").waitFor();
  assert.deepEqual(offsets, [0, 8 << 20, 8 << 20, 16 << 20], "nothing is sent twice but what was cut");

  await page.locator("input[type=file]").setInputFiles(file("odd.img", randomBytes(1000)));
  const odd = page.locator(".upload[data-state=failed]", { hasText: "odd.img" });
  await odd.waitFor();
  assert.match(await odd.textContent(), /512/);
  await odd.getByRole("button", { name: "OK" }).click();

  await page.locator("input[type=file]").setInputFiles(file("wrong.img", randomBytes(4096)));
  const other = page.locator(".card.image", { hasText: "wrong.img" });
  await other.getByRole("button", { name: "Delete" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Delete" }).click();
  await other.waitFor({ state: "detached" });
  await closed(page);
});

test("files are dropped onto the page", async () => {
  const page = await open(browser, agent, "#/images");
  await page.locator(".drop").waitFor();
  const drop = await page.evaluateHandle(() => {
    const transfer = new DataTransfer();
    transfer.items.add(new File([new Uint8Array(8192).fill(9)], "dropped.img"));
    return transfer;
  });
  await page.dispatchEvent(".drop", "drop", { dataTransfer: drop });
  await page.locator(".card.image", { hasText: "dropped.img" }).getByText("ready").waitFor();
  await closed(page);
});

test("a script is written, changed and kept", async () => {
  const page = await open(browser, agent, "#/scripts");
  await page.getByRole("button", { name: "New script" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("Name").fill("Burn in");
  await dialog.getByLabel("Text").fill("#!/bin/sh\nstress-ng --cpu 4 --timeout 20\n");
  await dialog.getByLabel("If it fails").selectOption("warn");
  await dialog.getByRole("button", { name: "Save" }).click();
  await page.getByRole("button", { name: "Edit Burn in" }).click();
  await dialog.getByLabel("Text").fill("#!/bin/sh\nexit 0\n");
  await dialog.getByRole("button", { name: "Save" }).click();
  await page.getByText("revision 2").waitFor();
  const { text } = await agent.api("GET", "/scripts/burn-in");
  assert.equal(text, "#!/bin/sh\nexit 0\n");
  await closed(page);
});

test("a project is made with all of its fields, and what is wrong is said at its field", async () => {
  const page = await open(browser, agent, "#/project/new");
  await page.getByLabel("Name").fill("Field unit");
  await page.locator("[data-pointer='/image'] select").selectOption({ label: await optionOf(page, "field-unit.img") });
  await page.getByLabel("Storage", { exact: true }).fill("/etc/passwd");
  await page.getByRole("button", { name: "Create" }).click();
  const storage = page.locator("[data-pointer='/storage']");
  await storage.getByText("not a storage device").waitFor();
  assert.equal(await page.evaluate(() => document.activeElement.closest(".field")?.dataset.pointer), "/storage");

  await page.getByLabel("Storage", { exact: true }).fill("/dev/mmcblk0");
  await page.getByRole("button", { name: "Add a size" }).click();
  await page.getByLabel("Up to").fill("8 GB");
  await page.locator("[data-pointer='/sizes/0'] select").selectOption({ label: await optionOf(page, "dropped.img") });
  await page.locator("[data-pointer='/scripts/postinstall'] select").selectOption({ label: "Burn in" });
  await page.getByLabel("File for a device's own data").fill("device.json");
  await page.getByLabel("A status LED is on the carrier board").check();
  await page.getByLabel("GPIO").fill("99");
  await page.getByRole("button", { name: "Create" }).click();
  await page
    .locator("[data-pointer='/status_led/gpio'], [data-pointer='/status_led']")
    .getByText("not a GPIO of 0 to 57")
    .waitFor();
  await page.getByLabel("GPIO").fill("21");
  await page.getByLabel("On success it is").selectOption("0");
  await page.getByLabel("Lines for config.txt").fill("dtoverlay=dwc2");
  await page.getByLabel("Activate it at once").check();
  await page.getByRole("button", { name: "Create" }).click();
  await page.getByText("field-unit · revision 1").waitFor();
  const { project } = await agent.api("GET", "/projects/field-unit");
  const { sizes, scripts, data_file, status_led, boot, active, again } = project;
  assert.deepEqual(
    { scripts, data_file, status_led, boot, active, again },
    {
      scripts: { postinstall: ["burn-in"] },
      data_file: "device.json",
      status_led: { gpio: 21, on_success: false },
      boot: { config_txt: "dtoverlay=dwc2" },
      active: true,
      again: "refuse",
    },
  );
  assert.equal(sizes[0].up_to_bytes, 8e9);
  await closed(page);
});

async function optionOf(page, name) {
  const label = await page.locator("[data-pointer='/image'] option", { hasText: name }).textContent();
  return label.trim();
}

test("two who edit the same project at once learn of each other", async () => {
  const page = await open(browser, agent, "#/project/field-unit");
  await page.getByLabel("Name").fill("Field unit of mine");
  await agent.api("PATCH", "/projects/field-unit", { again: "allow" });
  await page.getByRole("button", { name: "Save" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByText("Somebody else has changed this project.").waitFor();
  await dialog.getByRole("row", { name: /again/ }).getByText("allow").waitFor();
  await dialog.getByRole("button", { name: "Take theirs" }).click();
  await page.getByText("field-unit · revision 2").waitFor();
  assert.equal(await page.getByLabel("A device that is finished already").inputValue(), "allow");
  await page.getByLabel("A status LED is on the carrier board").uncheck();
  await page.getByRole("button", { name: "Save" }).click();
  await page.getByText("field-unit · revision 3").waitFor();
  assert.equal((await agent.api("GET", "/projects/field-unit")).project.status_led, undefined);
  await closed(page);
});

test("rules are tried before they hold", async () => {
  await agent.api("POST", "/projects", { name: "Big", image: "field-unit.img", active: false });
  const page = await open(browser, agent, "#/rules");
  await page.getByRole("button", { name: "Add a rule" }).click();
  const rule = page.locator(".card.rule");
  await rule.getByLabel("Project").selectOption("big");
  await rule.getByLabel("Add a condition").selectOption("storage_bytes");
  await rule.getByLabel("Storage at least").fill("16 GB");
  await rule.getByLabel("Add a condition").selectOption("serial");
  await rule.getByLabel("Serial", { exact: true }).fill("not a serial");
  await page.getByRole("button", { name: "Save the rules" }).click();
  await page.locator(".rules .fault, .faults").getByText("serial of 8 or 16 hex digits").first().waitFor();
  await rule.getByLabel("Serial", { exact: true }).fill("10000000a1b20000-10000000a1b2ffff");

  const trial = page.locator(".trial");
  await trial.getByLabel("MAC").fill("dc:a6:32:01:02:03");
  await trial.getByLabel("Serial").fill("10000000a1b20007");
  await trial.getByLabel("Storage size").fill("8 GB");
  await trial.getByRole("button", { name: "Which project would it get?" }).click();
  await rule.getByText("does not").waitFor();
  await trial.getByText("No rule takes it; it gets project field-unit").waitFor();
  await agent.api("POST", "/projects/big/activate");
  await agent.api("POST", "/projects/field-unit/activate");
  assert.deepEqual((await agent.api("GET", "/rules")).rules, [], "a trial changes nothing");

  await page.getByRole("button", { name: "Save the rules" }).click();
  await page.getByText("The rules hold now.").waitFor();
  await agent.api("POST", "/projects/big/activate");
  await trial.getByLabel("MAC").fill("dc:a6:32:01:02:03");
  await trial.getByLabel("Serial").fill("10000000a1b20007");
  await trial.getByLabel("Storage size").fill("32 GB");
  await trial.getByRole("button", { name: "Which project would it get?" }).click();
  await trial.getByText("Rule 1 gives it project big.").waitFor();
  await closed(page);
});

test("the history is searched, filtered, and shows all of an attempt", async () => {
  const passed = new Board(agent, 20, { sectors: 15_000_000 });
  await passed.begin();
  await passed.write();
  await passed.verify();
  await passed.read();
  await passed.report({ step: "postinstall", state: "started" });
  await passed.output("burn-in", "cpu ok\n<b>87 degrees</b>\n");
  await passed.report({ step: "postinstall", state: "completed", script: "burn-in 0 21 no" });
  await passed.finish();
  const failed = new Board(agent, 21, { sectors: 15_000_000 });
  await failed.begin();
  await failed.write();
  await failed.fail("write.download", "curl: (56) connection reset");
  const page = await open(browser, agent, "#/history");
  await page.locator("tbody tr").nth(1).waitFor();
  await page.getByLabel("Outcome").selectOption("failed");
  await page.locator("tbody tr").nth(1).waitFor({ state: "detached" });
  await page.locator("tbody tr").getByText("write.download").waitFor();
  await page.getByLabel("Outcome").selectOption("");
  await page.getByLabel("Serial or MAC").fill(passed.serial);
  await page.getByRole("button", { name: "Search" }).click();
  await page.locator("tbody tr", { hasText: "Passed" }).getByRole("link").click();
  await page.getByRole("heading", { name: `Attempt 1 on ${passed.serial}` }).waitFor();
  await page.getByText("<b>87 degrees</b>").waitFor();
  await page.getByText("read back from the medium").waitFor();
  await page.getByText("burn-in: exit 0, 21 s").waitFor();
  await page.locator("svg.timeline .span.passed").waitFor();
  await page.goto(`${agent.url}#/history?find=ffffffffffffffff`);
  await page.getByText(/There is no device ffffffffffffffff\.|No attempt matches\./).waitFor();
  await closed(page);
});

test("more attempts than fit on a page are paged through", async () => {
  await agent.api("PATCH", "/projects/field-unit", {
    again: "allow",
    scripts: { preinstall: [], postinstall: [] },
    data_file: null,
  });
  for (let n = 0; n < 55; n += 1) await new Board(agent, 100 + n, { sectors: 15_000_000 }).pass();
  const page = await open(browser, agent, "#/history");
  await page.waitForFunction(() => document.querySelectorAll("tbody tr").length === 50);
  await page.getByRole("button", { name: "Older" }).click();
  await page.waitForFunction(() => document.querySelectorAll("tbody tr").length === 7);
  await page.getByRole("button", { name: "Newest" }).click();
  await page.waitForFunction(() => document.querySelectorAll("tbody tr").length === 50);
  await closed(page);
});

test("a broken identity raises an alarm that every view shows", async () => {
  const page = await open(browser, agent, "#/station");
  await page.getByText("No alarm.").waitFor();
  const impostor = new Board(agent, 30, { sectors: 15_000_000 });
  await impostor.begin();
  await impostor.write();
  impostor.query = impostor.query.replace(impostor.serial, "10000000deadbeef");
  await impostor.begin();
  await page.locator(".alarm-count", { hasText: "1 alarm" }).waitFor();
  await page.locator(".alarms").getByText("identity.serial").waitFor();
  await page.locator(".news").getByText("station.alarm.raised").waitFor();
  await closed(page);
});
