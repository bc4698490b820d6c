// The line as an operator sees it.

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { after, before, test } from "node:test";

import { Agent } from "./agent.js";
import { Board } from "./board.js";
import { launch, open, seriousFaults, shoot, tile } from "./browser.js";

let agent;
let browser;

before(async () => {
  [agent, browser] = await Promise.all([Agent.start(), launch()]);
});

after(async () => {
  await browser?.close();
  await agent?.stop();
});

async function state(page, board, wanted) {
  await page.locator(`.tile[data-state=${wanted}]`, { hasText: board.serial.slice(-8) }).waitFor();
}

test("an empty line says what to do first", async () => {
  const page = await open(browser, agent);
  await page.getByText("No project is active").waitFor();
  await page.getByRole("link", { name: "Choose a project" }).click();
  await page.getByRole("heading", { name: "Projects" }).waitFor();
  await page.context().close();
});

test("a device is followed from its script to the moment it may be taken out", async () => {
  const image = await agent.image("gateway-2.4.img", randomBytes(1 << 20));
  await agent.api("POST", "/projects", { name: "Gateway", image, active: true });
  const page = await open(browser, agent);
  const board = new Board(agent, 1, { jumper: "010" });
  assert.ok(await board.begin());
  await state(page, board, "working");
  await board.write();
  await board.progress("write", 0.25);
  await tile(page, board).getByText("25 %").waitFor();
  await board.progress("write", 0.5);
  await tile(page, board)
    .getByText(/\/s · .* left/)
    .waitFor();
  await tile(page, board).getByText("bench-7 · J 010").waitFor();
  await board.verify();
  await tile(page, board).getByText("Checks").waitFor();
  await board.read();
  // Everything is proven, but nothing is recorded yet: it must not be taken out.
  assert.equal(await page.getByText("Take me out").count(), 0);
  await board.finish();
  await tile(page, board).getByText("Take me out").waitFor();
  await page.locator(".count[data-count=passed] .figure", { hasText: /^1$/ }).waitFor();
  assert.match(await page.locator("#said").textContent(), /a1b20001 passed/);

  const failing = new Board(agent, 2);
  await failing.begin();
  await failing.write();
  await failing.fail("write.medium", "dd: error writing <b>'/dev/mmcblk0'</b>");
  await state(page, failing, "failed");
  await tile(page, failing).getByText("set the module aside").waitFor();
  await page.locator(".count[data-count=yield] .figure", { hasText: "50.0 %" }).waitFor();
  assert.deepEqual(page.complaints, []);
  await page.context().close();
});

test("a write that moves no byte is said to stand still, and goes on when it does", async () => {
  const page = await open(browser, agent);
  const board = new Board(agent, 8);
  await board.begin();
  await board.write();
  await board.progress("write", 0.3);
  await tile(page, board).getByText("30 %").waitFor();
  await page.clock.install();
  await page.clock.fastForward(20_000);
  await state(page, board, "stalled");
  await tile(page, board).getByText("no byte for").waitFor();
  await page.locator(".chip", { hasText: "Look here" }).click();
  await tile(page, board).waitFor();
  await page.locator(".chip", { hasText: "All" }).click();
  await page.locator(".connection[data-state=live]").waitFor();
  await board.progress("write", 0.4);
  await state(page, board, "working");
  await page.context().close();
});

test("what a device says is text and nothing else", async () => {
  const page = await open(browser, agent);
  const board = new Board(agent, 3, { jumper: encodeURIComponent("<img src=x onerror=document.title='owned'>") });
  await board.begin();
  await board.write();
  await board.fail("no.advice", "<script>document.title='owned'</script><img src=x onerror=document.title='owned'>");
  await state(page, board, "failed");
  await tile(page, board).getByText("<script>").waitFor();
  assert.equal(await page.locator("main img").count(), 0);
  assert.notEqual(await page.title(), "owned");
  await page.context().close();
});

test("a device that is asked to blink hears of it, and one that cannot says so", async () => {
  const page = await open(browser, agent);
  const board = new Board(agent, 4);
  await board.begin();
  await board.write();
  assert.equal((await board.progress("write", 0.1)).identify, undefined);
  await tile(page, board).locator("button").click();
  await page.getByRole("button", { name: "Let it blink" }).click();
  await page.getByText("It blinks for 15 s.").waitFor();
  assert.equal((await board.progress("write", 0.2)).identify, true);

  await page.getByRole("button", { name: "Abort this attempt" }).click();
  await page.getByRole("dialog").last().getByRole("button", { name: "Abort this attempt" }).click();
  await page.getByRole("button", { name: "Allow one more attempt" }).waitFor();
  await page.getByRole("button", { name: "Let it blink" }).click();
  await page.getByText("cannot blink now: it runs no script").waitFor();
  await page.getByRole("button", { name: "Allow one more attempt" }).click();
  await page.getByText("One more attempt is allowed").waitFor();
  const allowed = await agent.api("GET", `/devices/${board.mac}`);
  assert.equal(allowed.device.authorized, true);
  assert.deepEqual(await seriousFaults(page), []);
  await page.keyboard.press("Escape");
  await page.locator("dialog").waitFor({ state: "detached" });
  await page.context().close();
});

test("a page without its station says that it is old, and goes on where it was", async () => {
  const page = await open(browser, agent);
  const board = new Board(agent, 5);
  await board.begin();
  await state(page, board, "working");
  await agent.kill();
  await page.getByText("No connection to the station: what you see is old.").waitFor();
  await shoot(page, "line-without-station");
  await agent.restart();
  await page.locator(".connection[data-state=live]").waitFor();
  await page.locator("#old").waitFor({ state: "hidden" });
  await board.write();
  await board.progress("write", 0.77);
  await tile(page, board).getByText("77 %").waitFor();
  await page.context().close();
});

test("the sound can be turned off, and stays off", async () => {
  const page = await open(browser, agent);
  await page.getByRole("button", { name: "Sound is on; mute it" }).click();
  await page.reload();
  await page.getByRole("button", { name: "Sound is off; turn it on" }).waitFor();
  await page.context().close();
});

test("the line is found through by keyboard, by filter and by what is printed on a module", async () => {
  const page = await open(browser, agent);
  await page.locator(".chip", { hasText: "Passed" }).click();
  await page.locator(".tile:visible").first().waitFor();
  const states = await page.locator(".tile:visible").evaluateAll((tiles) => tiles.map((one) => one.dataset.state));
  assert.deepEqual([...new Set(states)], ["passed"]);
  await page.locator(".chip", { hasText: "All" }).click();
  await page.getByPlaceholder("serial, MAC").fill("a1b20002");
  await page.waitForFunction(() => [...document.querySelectorAll(".tile")].filter((one) => !one.hidden).length === 1);
  await page.keyboard.press("Tab");
  await page.keyboard.press("Tab");
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.className), "tile-face");
  await page.keyboard.press("Enter");
  await page.getByRole("dialog").getByText("10000000a1b20002").waitFor();
  await page.context().close();
});
