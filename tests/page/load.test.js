// 300 devices that say five times a second how far they are: the page follows, and still answers who works with it.

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { after, before, test } from "node:test";

import { Agent } from "./agent.js";
import { Board } from "./board.js";
import { launch, open, shoot } from "./browser.js";

const DEVICES = 300;
const PER_SECOND = 5;
const SECONDS = 6;

let agent;
let browser;

before(async () => {
  [agent, browser] = await Promise.all([Agent.start(), launch()]);
});

after(async () => {
  await browser?.close();
  await agent?.stop();
});

/** Counts what the page does: how long each batch of tiles takes, and how far frames lie apart. */
function watch() {
  globalThis.frames_ = [];
  let last = performance.now();
  const frame = (now) => {
    globalThis.frames_.push(now - last);
    last = now;
    requestAnimationFrame(frame);
  };
  requestAnimationFrame(frame);
  globalThis.changes = 0;
  new MutationObserver((list) => (globalThis.changes += list.length)).observe(document.querySelector(".tiles"), {
    subtree: true,
    characterData: true,
  });
  globalThis.long = 0;
  new PerformanceObserver((list) =>
    list.getEntries().forEach(({ duration }) => (globalThis.long = Math.max(globalThis.long, duration))),
  ).observe({ type: "longtask" });
}

/** How long it takes from the press of a tile to all that is known of its device, as somebody at the page sees it. */
async function opened(serial) {
  const tiles = [...document.querySelectorAll(".tile-face")];
  const began = performance.now();
  tiles.find((one) => one.textContent.includes(serial.slice(-8))).click();
  while (!document.querySelector("dialog")?.textContent.includes(serial)) await new Promise(requestAnimationFrame);
  return performance.now() - began;
}

const at = (sorted, part) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))];

test(`${DEVICES} devices report ${PER_SECOND} times a second`, async () => {
  const image = await agent.image("gateway.img", randomBytes(8 << 20));
  await agent.api("POST", "/projects", { name: "Gateway", image, active: true });
  const boards = Array.from({ length: DEVICES }, (_, n) => new Board(agent, n + 1));
  for (let n = 0; n < DEVICES; n += 20)
    await Promise.all(boards.slice(n, n + 20).map(async (board) => (await board.begin(), board.write())));
  const page = await open(browser, agent, "#/line", { viewport: { width: 1920, height: 1080 } });
  await page
    .locator(".tile")
    .nth(DEVICES - 1)
    .waitFor();
  await page.waitForFunction(
    (text) => document.querySelector(".tiles").textContent.includes(text),
    boards[150].serial.slice(-8),
  );
  await page.evaluate(watch);

  const began = performance.now();
  let sent = 0;
  const run = boards.map(async (board, n) => {
    for (let beat = 1; beat <= SECONDS * PER_SECOND; beat += 1) {
      const due = began + ((beat + n / DEVICES) * 1000) / PER_SECOND;
      await new Promise((wake) => setTimeout(wake, Math.max(0, due - performance.now())));
      await board.progress("write", beat / (SECONDS * PER_SECOND));
      sent += 1;
    }
  });
  // Meanwhile somebody works with it.
  const answered = await page.evaluate(opened, boards[150].serial);
  await page.keyboard.press("Escape");
  await Promise.all(run);
  const took = (performance.now() - began) / 1000;
  await page.waitForFunction(
    (count) =>
      [...document.querySelectorAll(".tile-figure")].filter((figure) => figure.textContent === "100 %").length ===
      count,
    DEVICES,
  );

  const { frames, changes, long } = await page.evaluate(() => ({
    frames: globalThis.frames_,
    changes: globalThis.changes,
    long: globalThis.long,
  }));
  frames.sort((a, b) => a - b);
  console.log(
    `${Math.round(sent / took)} reports/s for ${took.toFixed(1)} s, ${changes} texts changed, frames p50 ${at(frames, 0.5).toFixed(0)} ms p95 ${at(frames, 0.95).toFixed(0)} ms, longest task ${Math.round(long)} ms, a device opens in ${Math.round(answered)} ms`,
  );
  assert.equal(sent, DEVICES * SECONDS * PER_SECOND);
  assert.ok(changes > DEVICES * SECONDS, "each tile moved more than once a second");
  assert.ok(at(frames, 0.5) < 100, `every other frame took ${at(frames, 0.5)} ms`);
  assert.ok(answered < 5_000, `a device opened after ${answered} ms`);
  await shoot(page, "line-300");
  await page.context().close();
});
