// From answers over time to text. Plain values in and out: nothing here knows the page or the network.

/** Times in milliseconds. */
export const TIMES = {
  /** A letter is held so long before it is appended. */
  hold: 800,
  /** An answer that is not sure is overlooked, unless there is no other for so long. */
  unsure: 400,
  /** Without a hand for so long, a space is appended. */
  pause: 1200,
  /** Without a hand for so long, the same letter may follow again. */
  release: 250,
  /** Frames are kept for so long: a movement takes less. */
  kept: 4000,
  /** A hand has stopped when it was still for so long. */
  stop: 280,
};
/** Fewest answers in which a letter is held. */
const HELD_ANSWERS = 3;
/** A tip that moves so many palms in a second moves the hand; letters are not held meanwhile. */
const SPEED = 1.2;
/** A movement that is worth asking about is so many palms long, and its last stroke. */
const LENGTH = 1.2;
const STROKE = 0.3;
/** Fewest frames of a movement, as the service has it. */
const MIN_FRAMES = 6;
/** Letters that the hand shows before it draws one. */
const BEFORE = { J: ["I", "J", "Y"], Z: ["D", "G", "L", "X", "Z"] };

const WRIST = 0;
const MIDDLE_BASE = 9;
const TIPS = [8, 20];

/** A text that grows by what a hand shows. */
export class Speller {
  text = "";
  #letter = null;
  #since = 0;
  #answers = 0;
  #taken = false;
  #seen = null;
  /** The time of the last answer that was sure. */
  #sure = -Infinity;
  /** The letter that was appended last by holding it, while the hand is still there. */
  #held = null;

  /**
   * Takes an answer: the letter, if the service is sure of one, and whether the hand moves. Returns what
   * was appended, if anything was.
   */
  see(time, { hand, letter, moving }) {
    if (!hand) return this.#unseen(time);
    this.#seen = time;
    if (letter) this.#sure = time;
    else if (time - this.#sure < TIMES.unsure) return null;
    if (letter !== this.#letter || moving) {
      if (letter !== this.#letter) this.#taken = false;
      this.#letter = letter;
      this.#since = time;
      this.#answers = 0;
    }
    this.#answers += 1;
    const held = letter && !this.#taken && this.#answers >= HELD_ANSWERS;
    if (!held || time - this.#since < TIMES.hold) return null;
    this.#taken = true;
    this.#held = letter;
    return this.append(letter);
  }

  /** Returns how much of the time the letter has been held, 0 to 1. */
  progress(time) {
    if (!this.#letter || this.#taken) return this.#taken ? 1 : 0;
    return Math.min(1, Math.max(0, (time - this.#since) / TIMES.hold));
  }

  #unseen(time) {
    const away = this.#seen === null ? 0 : time - this.#seen;
    if (away >= TIMES.release) {
      this.#letter = null;
      this.#taken = false;
      this.#held = null;
    }
    if (away < TIMES.pause) return null;
    this.#seen = null;
    return this.space();
  }

  /** Takes a letter that was drawn. It replaces the one that the hand held before it drew. */
  drawn(letter, time) {
    if (this.#held && this.text.endsWith(this.#held) && BEFORE[letter]?.includes(this.#held)) {
      this.delete();
    }
    this.#held = null;
    this.#taken = true;
    this.#since = time;
    return this.append(letter);
  }

  append(letter) {
    this.text += letter;
    return letter;
  }

  /** Appends a space, unless there is one, or nothing. */
  space() {
    if (!this.text || this.text.endsWith(" ")) return null;
    return this.append(" ");
  }

  /** Deletes the last character. Returns it, if there was one. */
  delete() {
    const last = this.text.slice(-1);
    this.text = this.text.slice(0, -1);
    return last || null;
  }

  clear() {
    this.text = "";
  }
}

/** The hands of the last seconds, and whether they moved. */
export class Motion {
  #frames = [];
  #asked = 0;

  /** Takes the hand of an answer. `aspect` is the frame's width by its height. */
  see(time, { landmarks, letter, confidence }, aspect) {
    this.#frames.push({ time, landmarks, letter, confidence, aspect });
    this.#frames = this.#frames.filter((frame) => time - frame.time <= TIMES.kept);
  }

  /** Forgets all frames: the hand is gone, or has drawn a letter. */
  reset() {
    this.#frames = [];
    this.#asked = 0;
  }

  /** True if a fingertip moves. */
  moving() {
    let recent = this.#last(TIMES.stop);
    // With few answers a second, the last two tell.
    if (recent.length < 2) recent = this.#last(TIMES.hold).slice(-2);
    if (recent.length < 2) return false;
    const seconds = (recent.at(-1).time - recent[0].time) / 1000;
    return seconds > 0 && Math.max(...TIPS.map((tip) => travelled(recent, tip))) / seconds > SPEED;
  }

  /**
   * Returns the body of a request to `/spell` once a hand stops after a movement that may end a letter, and
   * `null` at all other times. Hands also stop at the corners of a Z, so all frames are sent each time.
   */
  ended() {
    const since = this.#frames.filter((frame) => frame.time >= this.#asked);
    if (this.#frames.length < MIN_FRAMES || since.length < 2 || this.moving()) return null;
    if (!TIPS.some((tip) => travelled(since, tip) > STROKE && travelled(this.#frames, tip) > LENGTH)) return null;
    this.#asked = since.at(-1).time;
    const { aspect } = since[0];
    return { aspect, frames: this.#frames.map(({ aspect: _, ...frame }) => frame) };
  }

  #last(duration) {
    const now = this.#frames.at(-1)?.time ?? 0;
    return this.#frames.filter((frame) => now - frame.time <= duration);
  }
}

/** Returns the length of a tip's path, in palms. Trembling by less than a few hundredths does not count. */
export function travelled(frames, tip) {
  let sum = 0;
  let from = frames[0];
  for (const frame of frames) {
    const step = distance(from, tip, frame, tip) / palm(frame);
    if (step > 0.06) {
      sum += step;
      from = frame;
    }
  }
  return sum;
}

function palm(frame) {
  return Math.max(distance(frame, WRIST, frame, MIDDLE_BASE), 1e-3);
}

function distance(a, i, b, j) {
  const [ax, ay] = a.landmarks[i];
  const [bx, by] = b.landmarks[j];
  return Math.hypot((ax - bx) * a.aspect, ay - by);
}
