// Photos, answers and times: what the page computes and draws. No state.

/** Longest side of a camera's frame that is sent, in pixels. */
export const LONGEST_SIDE = 640;

/** The pairs of landmarks that are joined: the palm, then each finger from base to tip. */
const BONES = [
  [0, 1], [1, 2], [2, 3], [3, 4],
  [0, 5], [5, 6], [6, 7], [7, 8],
  [5, 9], [9, 10], [10, 11], [11, 12],
  [9, 13], [13, 14], [14, 15], [15, 16],
  [13, 17], [0, 17], [17, 18], [18, 19], [19, 20],
];

const STAGES = {
  image_preprocessing: "Decode the photo",
  landmark_detection: "Find the hand",
  model_inference: "Read the letter",
  response_formatting: "Write the answer",
};

/** Returns the size to which a frame is scaled: its longest side at most `longest`, no side below 1. */
export function scaled(width, height, longest = LONGEST_SIDE) {
  const factor = Math.min(1, longest / Math.max(width, height));
  const side = (length) => Math.max(1, Math.round(length * factor));
  return [side(width), side(height)];
}

/** Parses Server-Timing: a list of `{name, ms, about}`. */
export function serverTiming(header) {
  return (header ?? "")
    .split(",")
    .map((metric) => {
      const [name, ...parameters] = metric.split(";").map((part) => part.trim());
      const value = (key) =>
        parameters.find((part) => part.toLowerCase().startsWith(`${key}=`))?.slice(key.length + 1);
      const about = value("desc")?.replaceAll('"', "") ?? STAGES[name] ?? name.replaceAll("_", " ");
      return { name, ms: Number(value("dur") ?? NaN), about };
    })
    .filter(({ name, ms }) => name && Number.isFinite(ms) && ms >= 0);
}

/**
 * Returns the rows of a request's waterfall: `{about, start, ms}`, in milliseconds from its start. The
 * stages follow one another and end when the answer begins; the rest is the network and the host.
 */
export function waterfall(stages, total, answered = total) {
  const inside = stages.reduce((sum, stage) => sum + stage.ms, 0);
  const whole = Math.max(total, inside);
  let start = Math.max(0, Math.min(answered, whole) - inside);
  const rows = [{ about: "Round trip", start: 0, ms: whole }];
  if (stages.length > 0) {
    rows.push({ about: "Network and host", start: 0, ms: whole - inside, gap: [start, start + inside] });
  }
  for (const { about, ms } of stages) {
    rows.push({ about, start, ms });
    start += ms;
  }
  return rows;
}

/** Returns a probability as people read it: "95.6 %". Near its ends it has a digit more. */
export function percent(part) {
  const hundredths = part * 100;
  if (part <= 0 || part >= 1) return `${hundredths.toFixed(0)} %`;
  if (hundredths > 99.9) return `${Math.min(hundredths, 99.99).toFixed(2)} %`;
  return hundredths < 0.1 ? `${Math.max(hundredths, 0.01).toFixed(2)} %` : `${hundredths.toFixed(1)} %`;
}

/** Returns milliseconds as people read them. */
export function milliseconds(ms) {
  return `${ms < 9.95 ? ms.toFixed(1) : ms.toFixed(0)} ms`;
}

/** Returns what an answer says: its state, the letter to show, and a sentence. */
export function verdict(answer) {
  const { prediction, confidence, low_confidence: unsure, top } = answer;
  if (prediction === null) {
    return { state: "none", letter: "–", sentence: "No hand was found." };
  }
  if (!unsure) {
    return { state: "sure", letter: prediction, sentence: `${prediction}, ${percent(confidence)} sure.` };
  }
  const next = top[1] ? ` or ${top[1].label}` : "";
  return {
    state: "unsure",
    letter: prediction,
    sentence: `Not sure: perhaps ${prediction} (${percent(confidence)})${next}.`,
  };
}

/** Returns the query that tells the service where the hand was in the frame before; empty without one. */
export function trackingQuery(hand) {
  if (!hand) return "";
  const { x, y, width, height, rotation } = hand.box;
  return `?box=${[x, y, width, height, rotation].map((number) => number.toFixed(5)).join(",")}`;
}

/** Returns what failed, as sentences. `error` is what `send` threw. */
export function failure(error) {
  if (error instanceof Problem) return error.message;
  return `The service does not answer at ${location.origin}. Check that it runs and that you are connected, then try again.`;
}

/** An error that the service explained: application/problem+json. */
export class Problem extends Error {
  constructor(status, { title, detail, trace_id: trace } = {}) {
    super(detail ?? `The service answered ${status}${title ? ` ${title}` : ""}.`);
    this.status = status;
    this.trace = trace;
  }
}

/**
 * Sends a request and returns `{answer, stages, total, answered}`: the JSON, the stages of Server-Timing,
 * and the times in milliseconds after which all of the answer was there and its beginning was.
 */
export async function send(url, options) {
  const start = performance.now();
  const response = await fetch(url, options);
  const answered = performance.now() - start;
  const text = await response.text();
  const total = performance.now() - start;
  let answer;
  try {
    answer = JSON.parse(text);
  } catch {
    throw new Problem(response.status, { title: response.statusText });
  }
  if (!response.ok) throw new Problem(response.status, answer);
  return { answer, stages: serverTiming(response.headers.get("server-timing")), total, answered };
}

/** Draws a hand's box and landmarks into an SVG that covers a picture of this size; nothing without one. */
export function drawHand(svg, hand, width, height) {
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  if (!hand) {
    svg.replaceChildren();
    return;
  }
  const [box, bones, points] = parts(svg);
  const { box: region, landmarks } = hand;
  const [w, h] = [region.width * width, region.height * height];
  const [x, y] = [region.x * width, region.y * height];
  const degrees = (region.rotation * 180) / Math.PI;
  const corners = `M${x} ${y}h${w}v${h}h${-w}z`;
  box.setAttribute("d", corners);
  box.setAttribute("transform", `rotate(${degrees} ${x + w / 2} ${y + h / 2})`);
  const at = ([px, py]) => `${(px * width).toFixed(1)} ${(py * height).toFixed(1)}`;
  bones.setAttribute("d", BONES.map(([a, b]) => `M${at(landmarks[a])}L${at(landmarks[b])}`).join(""));
  points.setAttribute("d", landmarks.map((point) => `M${at(point)}h0`).join(""));
}

/** Returns the three paths of a drawing, made when first needed. */
function parts(svg) {
  if (svg.childElementCount !== 3) {
    svg.replaceChildren(
      ...["box", "bones", "points"].map((name) => {
        const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
        path.setAttribute("class", name);
        path.setAttribute("vector-effect", "non-scaling-stroke");
        return path;
      }),
    );
  }
  return svg.children;
}
