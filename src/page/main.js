// The page to try the service: a photo or a camera in, the answer drawn and told.
import {
  drawHand, failure, milliseconds, percent, Problem, scaled, send, trackingQuery, verdict, waterfall,
} from "./hand.js";
import { Motion, Speller } from "./spelling.js";

/** Pause after a request of the camera that got no answer, in milliseconds. */
const RETRY = 1000;
/** Quality of the camera's JPEGs. */
const QUALITY = 0.85;
/** Answers over which pace and round trip are averaged. */
const AVERAGED = 20;

const by = (id) => document.getElementById(id);
const [frame, photo, video, overlay] = ["frame", "photo", "video", "overlay"].map(by);
const jaeger = document.querySelector('meta[name="jaeger-ui"]').content;

// --- What is shown

let announced = "";
/** Tells a screen reader. The same text again is told again. */
function announce(text) {
  const status = by("status");
  status.textContent = text === announced ? `${text}\u00a0` : text;
  announced = status.textContent;
}

function showVerdict({ state, letter, sentence }) {
  by("verdict").dataset.state = state;
  by("letter").textContent = letter;
  by("sentence").textContent = sentence;
}

function bar(label, left, width, text, kind) {
  const row = document.createElement("tr");
  const [head, cell, value] = ["th", "td", "td"].map((name) => document.createElement(name));
  head.scope = "row";
  head.textContent = label;
  const track = document.createElement("div");
  track.className = "track";
  for (const [from, to] of Array.isArray(left) ? left : [[left, left + width]]) {
    const piece = document.createElement("i");
    piece.style.left = `${from * 100}%`;
    piece.style.width = `${Math.max(0, to - from) * 100}%`;
    track.append(piece);
  }
  cell.append(track);
  value.textContent = text;
  if (kind) row.className = kind;
  row.append(head, cell, value);
  return row;
}

function showAnswer(answer, size) {
  showVerdict(verdict(answer));
  drawHand(overlay, answer.hand, ...size);
  by("details").hidden = !answer.hand;
  by("top").replaceChildren(
    ...answer.top.map(({ label, confidence }) => bar(label, 0, confidence, percent(confidence))),
  );
  if (answer.hand) {
    const { handedness, handedness_score: score, presence } = answer.hand;
    by("hand").textContent =
      `${handedness} hand (${percent(score)}), there is a hand: ${percent(presence)}.`;
  }
  by("model").textContent = `Model ${answer.model.name} ${answer.model.version}.`;
}

function showTiming({ stages, total, answered }, trace) {
  const rows = waterfall(stages, total, answered);
  const whole = rows[0].ms || 1;
  by("stages").replaceChildren(
    ...rows.map(({ about, start, ms, gap }) =>
      gap
        ? bar(about, [[0, gap[0] / whole], [gap[1] / whole, 1]], 0, milliseconds(ms), "net")
        : bar(about, start / whole, ms / whole, milliseconds(ms)),
    ),
  );
  by("timing").hidden = false;
  showTrace(trace);
}

function showTrace(trace) {
  by("trace").hidden = !trace;
  by("trace-id").textContent = trace ?? "";
  const link = by("trace-link");
  link.hidden = !(trace && jaeger);
  if (trace && jaeger) link.href = `${jaeger}/trace/${trace}`;
}

function showFailure(error) {
  const text = failure(error);
  const offline = !(error instanceof Problem);
  showVerdict({ state: "bad", letter: "!", sentence: text });
  drawHand(overlay, null, 1, 1);
  by("details").hidden = true;
  by("timing").hidden = !error.trace;
  if (error.trace) by("stages").replaceChildren();
  showTrace(error.trace);
  showOffline(offline ? text : "");
  return text;
}

function showOffline(text) {
  by("offline").hidden = !text;
  if (by("offline").textContent !== text) by("offline").textContent = text;
}

// --- One photo

let photos = 0;

/** Shows a photo, sends it and shows the answer. */
async function tryPhoto(blob) {
  stopCamera();
  const number = ++photos;
  const isLatest = () => number === photos;
  if (photo.src) URL.revokeObjectURL(photo.src);
  photo.src = URL.createObjectURL(blob);
  photo.alt = "The photo that was sent";
  offerCorrection(null);
  photo.hidden = false;
  by("hint").hidden = true;
  frame.classList.add("full");
  drawHand(overlay, null, 1, 1);
  document.body.classList.add("busy");
  by("sentence").textContent = "Reading the photo …";
  // A photo that this browser cannot show is sent all the same: the service says what it is.
  const shown = photo.decode().then(() => true, () => false);
  try {
    // No Content-Type: the content decides.
    const sent = send("predict", { method: "POST", body: new Blob([blob]) });
    const [done, visible] = await Promise.all([sent, shown]);
    if (!isLatest()) return;
    showOffline("");
    const size = visible ? [photo.naturalWidth, photo.naturalHeight] : [1, 1];
    showAnswer(done.answer, size);
    showTiming(done, done.answer.trace_id);
    if (visible) offerCorrection(done.answer, size);
    announce(by("sentence").textContent);
  } catch (error) {
    if (isLatest()) announce(showFailure(error));
  } finally {
    if (isLatest()) {
      document.body.classList.remove("busy");
      if (!(await shown)) photo.hidden = true;
      by("hint").hidden = !photo.hidden;
    }
  }
}

// --- Corrections

/** The labels that a correction may have; none where the service stores none. */
const labels = document.querySelector('meta[name="correctable"]').content.split(" ").filter(Boolean);
by("label").append(new Option("…", ""), ...labels.map((label) => new Option(label)));
/** The answer that can be corrected, with what the service needs beside it. */
let correctable = null;

/** Returns an id for an answer without a trace: 32 hexadecimal digits. */
function randomId() {
  const bytes = [...crypto.getRandomValues(new Uint8Array(16))];
  return bytes.map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Shows the form for an answer to a photo of some size, or hides it. */
function offerCorrection(answer, [width, height] = []) {
  const offered = labels.length > 0 && answer?.hand;
  correctable = offered ? { trace_id: randomId(), ...answer, aspect: width / height } : null;
  by("correction").hidden = !correctable;
  by("undo").hidden = true;
  by("label").value = "";
  by("thanks").textContent = "";
}

/** Sends a request about the answer that is shown, and tells the outcome. */
async function correct(path, options, thanks, stored) {
  const own = correctable;
  let text = thanks;
  try {
    await send(path, options);
  } catch (error) {
    text = failure(error);
  }
  if (own !== correctable) return;
  if (text === thanks) by("undo").hidden = !stored;
  by("thanks").textContent = text;
}

by("correction").addEventListener("submit", (event) => {
  event.preventDefault();
  const label = by("label").value;
  const body = JSON.stringify({ ...correctable, label });
  correct("feedback", { method: "POST", body }, `Thanks. It is stored as ${label}.`, true);
});
by("undo").addEventListener("click", () => {
  by("label").focus();
  correct(`feedback/${correctable.trace_id}`, { method: "DELETE" }, "It is deleted.", false);
});

for (const id of ["file", "shot"]) {
  by(id).addEventListener("change", ({ target }) => {
    if (target.files[0]) tryPhoto(target.files[0]);
    // The same file again is a change, too.
    target.value = "";
  });
}
/** Returns the first file of a paste or a drop, if there is one. */
const dropped = (data) => [...(data?.files ?? [])][0];
addEventListener("paste", (event) => {
  const file = dropped(event.clipboardData);
  if (!file) {
    announce("The clipboard holds no photo.");
    return;
  }
  event.preventDefault();
  tryPhoto(file);
});
addEventListener("dragover", (event) => {
  event.preventDefault();
  frame.classList.add("over");
});
addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) frame.classList.remove("over");
});
addEventListener("drop", (event) => {
  event.preventDefault();
  frame.classList.remove("over");
  const file = dropped(event.dataTransfer);
  if (file) tryPhoto(file);
  else announce("No file was dropped.");
});

// --- The camera

let stream = null;
let tracks = null;
const speller = new Speller();
const motion = new Motion();
const canvas = document.createElement("canvas");

async function startCamera() {
  by("camera").disabled = true;
  try {
    if (!navigator.mediaDevices) {
      throw new Error("A browser lends its camera to pages from https or from localhost only.");
    }
    const size = { width: { ideal: 640 }, height: { ideal: 480 } };
    stream = await navigator.mediaDevices.getUserMedia({ video: { ...size, facingMode: "user" } });
    photos += 1;
    document.body.classList.remove("busy");
    video.srcObject = stream;
    stream.getVideoTracks()[0].addEventListener("ended", () => {
      stopCamera();
      announce("The camera has gone.");
    });
    await video.play();
  } catch (error) {
    stopCamera();
    const reasons = {
      NotAllowedError: "The camera may not be used: allow it in the browser's settings for this page.",
      NotFoundError: "There is no camera. Choose a photo instead.",
      NotReadableError: "The camera is in use by another program.",
    };
    const sentence = reasons[error.name] ?? `The camera does not start: ${error.message}`;
    showVerdict({ state: "bad", letter: "!", sentence });
    announce(sentence);
    return;
  } finally {
    by("camera").disabled = false;
  }
  photo.hidden = true;
  by("hint").hidden = true;
  // An answer that changes all the time cannot be corrected.
  offerCorrection(null);
  showCamera(true);
  announce("The camera runs. Letters that you hold are appended to the text.");
  run(stream);
}

function stopCamera() {
  for (const track of stream?.getTracks() ?? []) track.stop();
  if (stream) {
    drawHand(overlay, null, 1, 1);
    by("hint").hidden = false;
    showCamera(false);
  }
  stream = null;
  video.srcObject = null;
}

function showCamera(runs) {
  video.hidden = !runs;
  by("mirror").hidden = !runs;
  by("pace").hidden = !runs;
  if (runs) by("spelling").hidden = false;
  frame.classList.toggle("full", runs);
  frame.classList.toggle("mirrored", runs && by("mirror").getAttribute("aria-pressed") === "true");
  by("camera").textContent = runs ? "Stop the camera" : "Start the camera";
  by("camera").classList.toggle("on", runs);
  ring(0);
}

/** True if the service takes the hand's place in the frame before: its description lists the parameter. */
async function takesTracking() {
  try {
    const openapi = await (await fetch("openapi.json")).json();
    return Boolean(openapi.paths["/predict"].post.parameters?.some(({ name }) => name === "box"));
  } catch {
    // It is asked again when the camera starts the next time.
    return null;
  }
}

/** Resolves when the tab is visible and the camera has a new frame. */
async function nextFrame() {
  while (document.hidden) {
    await new Promise((done) => document.addEventListener("visibilitychange", done, { once: true }));
  }
  await new Promise((done) => {
    // A camera that has ended has no more frames.
    setTimeout(done, 500);
    if (video.requestVideoFrameCallback) video.requestVideoFrameCallback(done);
    else requestAnimationFrame(done);
  });
}

function picture() {
  [canvas.width, canvas.height] = scaled(video.videoWidth || 1, video.videoHeight || 1);
  canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
  return new Promise((done) => canvas.toBlob(done, "image/jpeg", QUALITY));
}

/** Sends frames one after the other and shows the answers, until the camera stops. */
async function run(own) {
  tracks ??= await takesTracking();
  let hand = null;
  const times = [];
  while (stream === own) {
    await nextFrame();
    if (stream !== own) return;
    const time = performance.now();
    const jpeg = await picture();
    const size = [canvas.width, canvas.height];
    try {
      const query = tracks ? trackingQuery(hand) : "";
      const done = await send(`predict${query}`, { method: "POST", body: jpeg });
      if (stream !== own) return;
      hand = done.answer.hand;
      showOffline("");
      showAnswer(done.answer, size);
      showTiming(done, done.answer.trace_id);
      times.push([performance.now(), done.total]);
      if (times.length > AVERAGED) times.shift();
      showPace(times);
      await read(time, done.answer, size);
    } catch (error) {
      if (stream !== own) return;
      hand = null;
      times.length = 0;
      const text = showFailure(error);
      if (error instanceof Problem) {
        announce(text);
        stopCamera();
        return;
      }
      await new Promise((done) => setTimeout(done, RETRY));
    }
  }
}

function showPace(times) {
  const seconds = (times.at(-1)[0] - times[0][0]) / 1000;
  const pace = seconds > 0 ? ((times.length - 1) / seconds).toFixed(1) : "–";
  const mean = times.reduce((sum, [, trip]) => sum + trip, 0) / times.length;
  by("pace").textContent = `${pace} answers a second, round trip ${milliseconds(mean)}`;
}

// --- Spelling

function ring(part) {
  by("ring").firstElementChild.style.strokeDasharray = `${part} 1`;
}

/** Takes an answer of the camera as a part of the text. */
async function read(time, answer, [width, height]) {
  const { hand, prediction, confidence, low_confidence: unsure } = answer;
  if (hand) {
    const { landmarks } = hand;
    motion.see(time, { landmarks, letter: prediction, confidence }, width / height);
  } else {
    motion.reset();
  }
  const body = motion.ended();
  const drawn = body && (await askedFor(body));
  if (drawn?.moved) {
    motion.reset();
    spelt(speller.drawn(drawn.letter, time));
  }
  const letter = unsure ? null : prediction;
  spelt(speller.see(time, { hand: Boolean(hand), letter, moving: motion.moving() }));
  ring(speller.progress(time));
}

/** Returns what the service reads in some frames. A movement that it refuses is none. */
async function askedFor(body) {
  try {
    return (await send("spell", { method: "POST", body: JSON.stringify(body) })).answer;
  } catch (error) {
    if (error instanceof Problem) return null;
    throw error;
  }
}

/** Shows the text, and tells what was appended or deleted. */
function spelt(change, told = change) {
  if (!change) return;
  by("text").textContent = speller.text;
  announce(told === " " ? "Space" : told);
}

const deleted = () => {
  const last = speller.delete();
  spelt(last, last === " " ? "Deleted the space" : `Deleted ${last}`);
};
by("space").addEventListener("click", () => spelt(speller.space()));
by("delete").addEventListener("click", deleted);
by("clear").addEventListener("click", () => {
  speller.clear();
  spelt(" ", "Cleared");
});
by("copy").addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText(speller.text);
    announce("Copied");
  } catch {
    getSelection().selectAllChildren(by("text"));
    announce("Selected. Copy it with Ctrl+C.");
  }
});
by("camera").addEventListener("click", () => (stream ? stopCamera() : startCamera()));
by("mirror").addEventListener("click", ({ target }) => {
  const mirrored = target.getAttribute("aria-pressed") !== "true";
  target.setAttribute("aria-pressed", mirrored);
  frame.classList.toggle("mirrored", mirrored);
});
addEventListener("keydown", (event) => {
  if (event.target.matches("input, textarea") || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Backspace" && !by("spelling").hidden) {
    event.preventDefault();
    deleted();
  }
  if (event.key === "Escape" && stream) stopCamera();
});
