// Labels: written, looked at before they are printed, and printed once more.

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import path from "node:path";
import { after, before, test } from "node:test";

import { Agent } from "./agent.js";
import { Board } from "./board.js";
import { launch, open, seriousFaults, shoot } from "./browser.js";

let agent;
let browser;
let board;

before(async () => {
  [agent, browser] = await Promise.all([Agent.start(), launch()]);
  const image = await agent.image("gateway-2.4.img", randomBytes(1 << 20));
  await agent.api("POST", "/projects", { name: "Gateway", image, active: true });
  board = new Board(agent, 1);
  await board.pass();
});

after(async () => {
  await browser?.close();
  await agent?.stop();
});

/** What the printer got last. */
const printed = () => readFileSync(path.join(agent.folder, "label"), "utf8");

test("a label is written, and what is wrong with it is said with its line", async () => {
  const page = await open(browser, agent, "#/labels");
  await page.getByText("There is no label yet.").waitFor();
  await page.getByRole("button", { name: "New label" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("Name").fill("Type plate");
  await dialog.getByLabel("Text").fill("^XA\n{{ device.serial | nope }}\n^XZ\n");
  await dialog.getByRole("button", { name: "Save" }).click();
  await dialog.locator("[data-pointer='/text'] .fault").getByText("line 2").waitFor();
  await dialog.getByLabel("Text").fill("^XA\n{{ device.serial }}{% if reprint %} COPY{% endif %}\n^XZ\n");
  await dialog.getByRole("button", { name: "Save" }).click();
  const card = page.locator(".card[data-label=type-plate]");
  await card.getByText("revision 1").waitFor();
  await page.getByRole("button", { name: "Edit Type plate" }).click();
  assert.match(await dialog.getByLabel("Text").inputValue(), /COPY/);
  await dialog.getByRole("button", { name: "Cancel" }).click();

  await page.getByRole("button", { name: "Preview Type plate" }).click();
  const wanted = `^XA\n${board.serial}\n^XZ\n`;
  await dialog.locator("pre").waitFor();
  assert.equal(await dialog.locator("pre").textContent(), wanted);
  await dialog.getByText(`${wanted.length} bytes`).waitFor();
  assert.deepEqual(await seriousFaults(page), []);
  await shoot(page, "label-preview");
  await page.context().close();
});

test("a label that fails for a device shows its line, and one that nobody uses is deleted", async () => {
  await agent.api("POST", "/labels", { name: "Order", text: "one\n{{ variables.ORDER | upper }}\n" });
  const page = await open(browser, agent, "#/labels");
  await page.getByRole("button", { name: "Preview Order" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByText("It cannot be printed for this device:").waitFor();
  assert.equal(await dialog.locator("pre").textContent(), "2: {{ variables.ORDER | upper }}");
  await page.keyboard.press("Escape");
  await page.getByRole("button", { name: "Delete Order" }).click();
  await dialog.getByRole("button", { name: "Delete" }).click();
  await page.locator(".card[data-label=order]").waitFor({ state: "detached" });
  await page.context().close();
});

test("a project says which labels it prints, and shows how they look", async () => {
  const page = await open(browser, agent, "#/project/gateway");
  await page.getByLabel("Add a label").selectOption({ label: "Type plate" });
  const row = page.getByRole("group", { name: "Type plate" });
  await row.getByLabel("Printer").fill("nowhere");
  await page.getByRole("button", { name: "Save" }).click();
  await row.locator(".fault").getByText("there is no printer nowhere").waitFor();
  await row.getByLabel("Printer").fill("zebra");
  await row.getByRole("button", { name: "Preview: Type plate" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.locator("pre").getByText(board.serial).waitFor();
  await page.keyboard.press("Escape");
  await page.getByLabel("Add a label").selectOption({ label: "Type plate" });
  const second = page.getByRole("group", { name: "Type plate" }).nth(1);
  await second.getByLabel("When").selectOption("preinstall");
  await second.getByLabel("Printer").fill("away");
  await page.getByRole("button", { name: "Save" }).click();
  await page.getByText("gateway · revision 2").waitFor();
  const { project } = await agent.api("GET", "/projects/gateway");
  assert.deepEqual(project.labels, [
    { label: "type-plate", on: "passed", printer: "zebra", on_failure: "warn" },
    { label: "type-plate", on: "preinstall", printer: "away", on_failure: "warn" },
  ]);
  for (const width of [320, 1280]) {
    await page.setViewportSize({ width, height: 860 });
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), width);
    await shoot(page, `project-labels-${width}`, { fullPage: true });
  }
  assert.deepEqual(await seriousFaults(page), []);
  await page.context().close();
});

test("what was printed for an attempt is shown there, and printed again", async () => {
  const second = new Board(agent, 2);
  await second.pass();
  const page = await open(browser, agent, `#/session/${second.orders.SESSION}`);
  const row = (state) => page.locator(`.session-labels li[data-state=${state}]`);
  await row("printed").getByText("zebra").waitFor();
  await row("waiting").getByText("away").waitFor();
  assert.equal(printed(), `^XA\n${second.serial}\n^XZ\n`);
  await row("printed").getByRole("button", { name: "Preview type-plate" }).click();
  await page.getByRole("dialog").getByText(second.serial).first().waitFor();
  await page.keyboard.press("Escape");
  await row("printed").getByRole("button", { name: "Reprint type-plate" }).click();
  await row("printed").nth(1).getByText("reprint", { exact: false }).first().waitFor();
  assert.equal(printed(), `^XA\n${second.serial} COPY\n^XZ\n`);
  assert.deepEqual(await seriousFaults(page), []);
  await shoot(page, "session-labels", { fullPage: true });
  await page.context().close();
});

test("what waits for a printer is shown with what is wrong with that", async () => {
  const page = await open(browser, agent, "#/labels");
  const queue = page.locator(".queue[data-printer=away]");
  await queue.getByText("type-plate").waitFor();
  await queue.locator(".advice").waitFor();
  assert.match(await queue.locator(".advice").textContent(), /false/);
  assert.deepEqual(await seriousFaults(page), []);
  await page.setViewportSize({ width: 320, height: 640 });
  assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 320);
  await shoot(page, "labels-queue-320", { fullPage: true });
  await page.context().close();
});
