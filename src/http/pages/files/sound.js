// A rising pair of tones for a pass, a falling buzz for a failure; can be muted, and the browser lets it sound only
// after somebody has touched the page.

const KEY = "bootline.muted";
let context;

export function isMuted() {
  return localStorage.getItem(KEY) === "yes";
}

export function setMuted(muted) {
  localStorage.setItem(KEY, muted ? "yes" : "no");
  if (!muted) wake();
}

/** The browser lets a page sound after somebody has touched it; until then it only could. */
export function isWaiting() {
  return !isMuted() && context?.state !== "running";
}

let told = () => {};

/** Calls back when it begins to sound, or stops. */
export function onChange(tell) {
  told = tell;
}

function wake() {
  if (!context) {
    context = new AudioContext();
    context.onstatechange = () => told();
  }
  if (context.state === "suspended") context.resume();
}

if (!isMuted()) wake();
for (const touch of ["pointerdown", "keydown"]) addEventListener(touch, () => isWaiting() && wake());

function tone(kind, frequency, from, length, loudness) {
  const at = context.currentTime + from;
  const source = context.createOscillator();
  const gain = context.createGain();
  source.type = kind;
  source.frequency.value = frequency;
  gain.gain.setValueAtTime(0, at);
  gain.gain.linearRampToValueAtTime(loudness, at + 0.02);
  gain.gain.exponentialRampToValueAtTime(0.001, at + length);
  source.connect(gain).connect(context.destination);
  source.start(at);
  source.stop(at + length);
}

let last = 0;

/** At most one in half a second: twenty modules that are done together are one good sound. */
export function play(outcome) {
  if (isMuted() || context?.state !== "running" || performance.now() - last < 500) return;
  last = performance.now();
  if (outcome === "passed") {
    tone("sine", 660, 0, 0.22, 0.25);
    tone("sine", 990, 0.14, 0.4, 0.25);
  } else {
    tone("square", 220, 0, 0.25, 0.12);
    tone("square", 165, 0.3, 0.25, 0.12);
    tone("square", 110, 0.6, 0.5, 0.12);
  }
}
