// Chromium without a screen, and what every test of the page wants of it.

import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";

import { chromium } from "playwright-core";

import { ARTEFACTS } from "./agent.js";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const PATHS = [process.env.CHROMIUM, "/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
/** No step takes longer, however busy the machine is. */
const PATIENCE_MS = Number(process.env.PATIENCE_MS ?? 30_000);

export async function launch() {
  const executablePath = PATHS.find((file) => file && existsSync(file));
  if (!executablePath) throw new Error("chromium is not installed: tests/run installs what the tests need");
  mkdirSync(ARTEFACTS, { recursive: true });
  return chromium.launch({
    executablePath,
    args: ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--autoplay-policy=no-user-gesture-required"],
  });
}

/** A fresh page, `prepare`d before it is loaded; `complaints` collects what the browser finds wrong with it. */
export async function open(browser, agent, hash = "#/line", options = {}) {
  const context = await browser.newContext({
    viewport: { width: 1280, height: 860 },
    reducedMotion: "reduce",
    ...options,
  });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE_MS);
  page.complaints = [];
  page.on("console", (message) => message.type() === "error" && page.complaints.push(message.text()));
  page.on("pageerror", (error) => page.complaints.push(String(error)));
  if (process.env.PAGE_FILES) await fromFolder(page, process.env.PAGE_FILES);
  await options.prepare?.(page);
  await page.goto(`${agent.url}${options.search ?? ""}${hash}`);
  await page
    .locator(".connection[data-state=live]")
    .waitFor({ state: "attached" })
    .catch(async (error) => {
      throw new Error(`the page is not live: ${page.complaints.join("; ")} ${await page.locator("body").innerText()}`, {
        cause: error,
      });
    });
  return page;
}

/** While the page is worked on: its files from a folder, so that a try needs no new program. */
async function fromFolder(page, folder) {
  const kinds = { css: "text/css", js: "text/javascript", svg: "image/svg+xml" };
  await page.route("**/page/*", (route) => {
    const file = path.join(folder, new URL(route.request().url()).pathname.split("/").at(-1));
    return existsSync(file)
      ? route.fulfill({ path: file, contentType: kinds[file.split(".").at(-1)] })
      : route.continue();
  });
}

export function shoot(page, name, options = {}) {
  return page.screenshot({ path: path.join(ARTEFACTS, `${name}.png`), ...options });
}

/** What axe finds of "serious" and "critical", as lines. */
export async function seriousFaults(page) {
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
  return violations
    .filter(({ impact }) => impact === "serious" || impact === "critical")
    .flatMap(({ id, nodes }) =>
      nodes.map(({ target, failureSummary }) => `${id} ${target.join(" ")} ${failureSummary}`),
    );
}

export function tile(page, board) {
  return page.locator(".tile", { hasText: board.serial.slice(-8) });
}
