//! J and Z, the letters that are movements: the path of a fingertip over some frames.
//!
//! [`recognize`] is a rule, not a model. J is drawn by the tip of the little finger: down, then a hook to
//! a side and up. Z is drawn by the tip of the index finger: a stroke to a side, a diagonal down and back,
//! a stroke to the first side. Either side is taken, for left hands and mirrored photos. The hand has to
//! point with that finger alone. Lengths are in units of the palm, so the distance to the camera does not
//! matter, and the speed does not either within some seconds.

use crate::landmarks::{INDEX_FINGER_BASE, LANDMARKS, MIDDLE_FINGER_BASE, RING_FINGER_BASE, WRIST};

/// Base and tip of the fingers but the thumb.
const FINGERS: [(usize, usize); 4] =
    [(INDEX_FINGER_BASE, 8), (MIDDLE_FINGER_BASE, 12), (RING_FINGER_BASE, 16), (17, 20)];
/// A finger is extended from this ratio of its tip's distance to its base's, both from the wrist.
///
/// Of the hands in `tests/landmarks`, pointing fingers have 1.5 and more, curled ones 1.2 and less.
const EXTENDED: f32 = 1.35;
/// The pointing finger is so much more extended than each other one, in the same ratio.
const APART: f32 = 0.3;
/// Smallest part of the frames in which the finger points. In the middle of a J the hand turns.
const POINTING: f32 = 0.6;
/// Number of points that stand for a path, at equal distances.
const POINTS: usize = 32;
/// Fewest frames of a movement.
const MIN_FRAMES: usize = 6;
/// A tip that stays this near to where it was stands still, in palms. Landmarks of a still hand tremble
/// by some hundredths.
const STILL: f32 = 0.12;
/// Longest time in which a letter is drawn, in milliseconds. Signers take one second.
const MAX_DURATION: f64 = 4000.0;
/// Points of a path that are this near to each other are smoothed, in palms.
const NEAR: f32 = 0.15;
/// Least depth of a J and least width of a Z, in palms.
const MIN_SIZE: f32 = 0.6;
/// Least likeness of a letter. Below it are most of the other movements that have some likeness.
const MIN_LIKENESS: f32 = 0.85;

/// A hand at a time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Frame {
    /// The time in milliseconds, from any beginning.
    pub time: f64,
    /// x, y and z of each landmark, all in one unit: pixels, for instance. y grows downwards.
    pub landmarks: [[f32; 3]; LANDMARKS],
}

/// A letter that is a movement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Letter {
    /// J, by the little finger.
    J,
    /// Z, by the index finger.
    Z,
}

impl Letter {
    /// Returns the letter.
    pub fn name(self) -> &'static str {
        match self {
            Letter::J => "J",
            Letter::Z => "Z",
        }
    }

    /// Returns the index in [`FINGERS`] of the finger that draws it.
    fn finger(self) -> usize {
        match self {
            Letter::J => 3,
            Letter::Z => 0,
        }
    }
}

/// A movement that is a letter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Movement {
    /// The letter.
    pub letter: Letter,
    /// The likeness of the path to the letter's, 0 to 1: how straight its strokes are, how well their
    /// lengths fit, and in how many frames the finger points. It is no probability.
    pub confidence: f32,
}

/// A point of a path, in palms.
type Point = [f32; 2];

/// Returns the letter that a hand has drawn by the last frame, if it has drawn one.
///
/// The movement may begin at any frame; what was before it does not count. Frames are in the order of
/// their times.
pub fn recognize(frames: &[Frame]) -> Option<Movement> {
    let palm = palm(frames)?;
    let drawn = [Letter::J, Letter::Z].into_iter().filter_map(|letter| {
        let pointing = frames.iter().map(|frame| points_with(frame, letter.finger()));
        let pointing: Vec<bool> = pointing.collect();
        let (_, tip) = FINGERS[letter.finger()];
        let path = frames.iter().map(|frame| {
            let [x, y, _] = frame.landmarks[tip];
            [x / palm, y / palm]
        });
        let path = smooth(&path.collect::<Vec<Point>>());
        let moved = until_still(&path);
        let took = |start: usize| frames[moved - 1].time - frames[start].time;
        let confidence = (0..moved.saturating_sub(MIN_FRAMES - 1))
            .filter(|start| took(*start) <= MAX_DURATION)
            .filter_map(|start| {
                let shown = share(&pointing[start..moved]);
                let stroke = resample(&path[start..moved])?;
                let likeness = match letter {
                    Letter::J => likeness_to_j(&stroke)?,
                    Letter::Z => likeness_to_z(&stroke)?,
                };
                (shown >= POINTING && likeness >= MIN_LIKENESS).then_some(shown * likeness)
            })
            .max_by(f32::total_cmp)?;
        Some(Movement { letter, confidence })
    });
    drawn.max_by(|a, b| a.confidence.total_cmp(&b.confidence))
}

/// Returns the palm's size: the median distance between the wrist and the middle finger's base. `None`
/// without frames, or if there is no distance.
fn palm(frames: &[Frame]) -> Option<f32> {
    let size = |frame: &Frame| distance(frame, WRIST, MIDDLE_FINGER_BASE);
    let mut sizes: Vec<f32> = frames.iter().map(size).collect();
    sizes.sort_by(f32::total_cmp);
    sizes.get(sizes.len() / 2).copied().filter(|size| size.is_normal())
}

fn distance(frame: &Frame, a: usize, b: usize) -> f32 {
    let (a, b) = (frame.landmarks[a], frame.landmarks[b]);
    (a[0] - b[0]).hypot(a[1] - b[1]).hypot(a[2] - b[2])
}

/// True if a hand points with one of the [`FINGERS`] alone. The thumb does not matter.
fn points_with(frame: &Frame, finger: usize) -> bool {
    let extension = |(base, tip): (usize, usize)| {
        distance(frame, tip, WRIST) / distance(frame, base, WRIST).max(f32::MIN_POSITIVE)
    };
    let pointing = extension(FINGERS[finger]);
    let others = FINGERS.iter().enumerate().filter(|(other, _)| *other != finger);
    pointing >= EXTENDED && others.into_iter().all(|(_, f)| extension(*f) <= pointing - APART)
}

/// Returns the part of the flags that are true.
fn share(flags: &[bool]) -> f32 {
    flags.iter().filter(|flag| **flag).count() as f32 / flags.len().max(1) as f32
}

/// Returns the path with each point replaced by the mean of it and its neighbours that are near. Those that
/// are far show no trembling but speed, or few frames a second.
fn smooth(path: &[Point]) -> Vec<Point> {
    let mean = |i: usize| {
        let around = &path[i.saturating_sub(1)..(i + 2).min(path.len())];
        let near: Vec<_> = around.iter().filter(|p| length(**p, path[i]) < NEAR).collect();
        [0, 1].map(|axis| near.iter().map(|point| point[axis]).sum::<f32>() / near.len() as f32)
    };
    (0..path.len()).map(mean).collect()
}

/// Returns the number of points up to which the path moves: a hand that has drawn a letter holds still.
fn until_still(path: &[Point]) -> usize {
    let Some(end) = path.last() else { return 0 };
    let still = path.iter().rev().take_while(|point| length(**point, *end) < STILL).count();
    // One of them is the movement's last point.
    (path.len() + 1 - still).min(path.len())
}

fn length(a: Point, b: Point) -> f32 {
    (a[0] - b[0]).hypot(a[1] - b[1])
}

/// Returns the length of a path.
fn path_length(path: &[Point]) -> f32 {
    path.windows(2).map(|pair| length(pair[0], pair[1])).sum()
}

/// Returns [`POINTS`] points of a path at equal distances. `None` for a path that begins with stillness,
/// which a later start leaves out, and for one that is too short for any letter.
fn resample(path: &[Point]) -> Option<[Point; POINTS]> {
    let whole = path_length(path);
    let begins_still = path.iter().take(3).all(|point| length(*point, path[0]) < STILL / 4.0);
    if whole < MIN_SIZE || begins_still {
        return None;
    }
    let step = whole / (POINTS - 1) as f32;
    let mut points = [path[0]; POINTS];
    let (mut next, mut before) = (1, 0.0);
    for pair in path.windows(2) {
        let part = length(pair[0], pair[1]);
        while next < POINTS && step * next as f32 <= before + part && part > 0.0 {
            let along = (step * next as f32 - before) / part;
            points[next] =
                [0, 1].map(|axis| pair[0][axis] + along * (pair[1][axis] - pair[0][axis]));
            next += 1;
        }
        before += part;
    }
    // Rounding may leave the last one out.
    points[next..].fill(*path.last()?);
    Some(points)
}

/// Returns the straightness of a stroke: its length as the crow flies by that of its path, 0 to 1.
fn straightness(stroke: &[Point]) -> f32 {
    let path = path_length(stroke);
    let (Some(start), Some(end)) = (stroke.first(), stroke.last()) else { return 0.0 };
    if path > 0.0 { length(*start, *end) / path } else { 0.0 }
}

/// Returns 1 for a value within limits, falling to 0 at `slack` outside of them.
fn within(value: f32, min: f32, max: f32, slack: f32) -> f32 {
    let outside = (min - value).max(value - max).max(0.0);
    (1.0 - outside / slack).max(0.0)
}

/// Returns the mean of a path's likenesses. `None` if one of them is none: each property is needed.
fn likeness(parts: &[f32]) -> Option<f32> {
    let least = parts.iter().copied().fold(1.0, f32::min);
    (least > 0.0).then(|| parts.iter().sum::<f32>() / parts.len() as f32)
}

/// Returns the likeness of a path to a J: down, then a hook to one side that rises less than the J is deep.
fn likeness_to_j(path: &[Point; POINTS]) -> Option<f32> {
    let [start, .., end] = *path;
    let lowest = (0..POINTS).max_by(|a, b| path[*a][1].total_cmp(&path[*b][1]))?;
    let depth = path[lowest][1] - start[1];
    if depth < MIN_SIZE {
        return None;
    }
    // Where the way down is half done: before the hook.
    let half = path.iter().position(|point| point[1] - start[1] >= depth / 2.0)?;
    let side = (end[0] - start[0]) / depth;
    let drift = (path[half][0] - start[0]) / depth * side.signum();
    let rise = (path[lowest][1] - end[1]) / depth;
    // The way down, and half an ellipse.
    let ideal = depth * (1.0 + rise.max(0.0)) + (end[0] - start[0]).abs() * 0.6;
    likeness(&[
        within(side.abs(), 0.3, 0.9, 0.2),
        within(rise, 0.2, 0.6, 0.15),
        within(drift, -0.15, 0.2, 0.15),
        within(straightness(&path[..=half]), 0.95, 1.0, 0.15),
        within(path_length(path) / ideal, 0.85, 1.15, 0.25),
    ])
}

/// Returns the likeness of a path to a Z: to one side, down and back, to the first side again.
fn likeness_to_z(path: &[Point; POINTS]) -> Option<f32> {
    [1.0, -1.0].into_iter().filter_map(|side| z_to(path, side)).max_by(f32::total_cmp)
}

/// Returns the likeness to a Z whose first stroke goes right, if `side` is 1, or left, if it is −1.
fn z_to(path: &[Point; POINTS], side: f32) -> Option<f32> {
    let x = |i: usize| side * path[i][0];
    let end = POINTS - 1;
    // The corners are where the strokes are longest in all.
    let corners = (1..end - 1).flat_map(|a| (a + 1..end).map(move |b| (a, b)));
    let (a, b) = corners.max_by(|&(a, b), &(c, d)| (x(a) - x(b)).total_cmp(&(x(c) - x(d))))?;
    let (first, back, last) = (x(a) - x(0), x(a) - x(b), x(end) - x(b));
    if first.max(back).max(last) < MIN_SIZE || back <= 0.0 {
        return None;
    }
    let y = |i: usize, j: usize| (path[j][1] - path[i][1]) / back;
    likeness(&[
        within(first / back, 0.6, 1.4, 0.25),
        within(last / back, 0.6, 1.4, 0.25),
        within(y(a, b), 0.4, 1.6, 0.2),
        within(y(0, a), -0.2, 0.25, 0.2),
        within(y(b, end), -0.25, 0.2, 0.2),
        within(straightness(&path[..=a]), 0.92, 1.0, 0.2),
        within(straightness(&path[a..=b]), 0.92, 1.0, 0.2),
        within(straightness(&path[b..]), 0.92, 1.0, 0.2),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Size of the made hands' palm, in pixels.
    const PALM: f32 = 90.0;

    /// Returns a hand that points with some of the fingers: index to little. Its wrist is at 0, 0.
    fn hand(extended: [bool; 4]) -> [[f32; 3]; LANDMARKS] {
        let mut points = [[0.0; 3]; LANDMARKS];
        for (finger, is_extended) in extended.into_iter().enumerate() {
            let (base, tip) = FINGERS[finger];
            let x = (finger as f32 - 1.0) * 22.0;
            points[base] = [x, -PALM, 0.0];
            points[tip] = [x, if is_extended { -1.75 * PALM } else { -0.8 * PALM }, -10.0];
        }
        points
    }

    const LITTLE: [bool; 4] = [false, false, false, true];
    const INDEX: [bool; 4] = [true, false, false, false];

    /// Returns frames of a hand whose wrist follows a path, in palms: `still` frames at its start, then 30
    /// along it, then `still` at its end. Landmarks tremble by `noise` palms.
    fn drawn(shape: [bool; 4], path: &[Point], still: usize, noise: f32, seed: u64) -> Vec<Frame> {
        let whole = path_length(path);
        let at = |along: f32| {
            let mut rest = along * whole;
            for pair in path.windows(2) {
                let part = length(pair[0], pair[1]);
                if rest <= part && part > 0.0 {
                    return [0, 1]
                        .map(|axis| pair[0][axis] + rest / part * (pair[1][axis] - pair[0][axis]));
                }
                rest -= part;
            }
            path[path.len() - 1]
        };
        let mut random = seed;
        let mut tremble = || {
            // Numerical Recipes' generator; its upper bits are good enough.
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223) % (1 << 32);
            (random as f32 / (1u64 << 31) as f32 - 1.0) * noise * PALM
        };
        let moving = (0..=30).map(|i| i as f32 / 30.0);
        let times =
            std::iter::repeat_n(0.0, still).chain(moving).chain(std::iter::repeat_n(1.0, still));
        times
            .enumerate()
            .map(|(i, along)| {
                let [x, y] = at(along);
                let landmarks = hand(shape).map(|[px, py, pz]| {
                    [px + x * PALM + 300.0 + tremble(), py + y * PALM + 200.0 + tremble(), pz]
                });
                Frame { time: i as f64 * 40.0, landmarks }
            })
            .collect()
    }

    /// A J: `depth` down, and a hook of half an ellipse with that width, to the right.
    fn j(depth: f32, width: f32) -> Vec<Point> {
        let down = (0..=10).map(|i| [0.0, 0.65 * depth * i as f32 / 10.0]);
        let hook = (0..=16).map(|i| {
            let angle = std::f32::consts::PI * i as f32 / 16.0;
            [width / 2.0 * (1.0 - angle.cos()), depth * (0.65 + 0.35 * angle.sin())]
        });
        down.chain(hook).collect()
    }

    /// A Z of some width and height.
    fn z(width: f32, height: f32) -> Vec<Point> {
        vec![[0.0, 0.0], [width, 0.0], [0.0, height], [width, height]]
    }

    fn mirrored(path: &[Point]) -> Vec<Point> {
        path.iter().map(|[x, y]| [-x, *y]).collect()
    }

    fn turned(path: &[Point], degrees: f32) -> Vec<Point> {
        let (sin, cos) = degrees.to_radians().sin_cos();
        path.iter().map(|[x, y]| [cos * x - sin * y, sin * x + cos * y]).collect()
    }

    fn letter(frames: &[Frame]) -> Option<Letter> {
        recognize(frames).map(|movement| movement.letter)
    }

    #[test]
    fn drawn_letters_are_recognized_whatever_their_size_side_and_tilt() {
        for still in [0, 12] {
            for noise in [0.0, 0.02, 0.04] {
                for degrees in [-12.0, 0.0, 12.0] {
                    for (depth, width) in [(0.8, 0.5), (1.5, 0.8), (2.5, 1.2)] {
                        for path in [j(depth, width), mirrored(&j(depth, width))] {
                            let frames = drawn(LITTLE, &turned(&path, degrees), still, noise, 5);
                            let case = (still, noise, degrees, depth);
                            assert_eq!(letter(&frames), Some(Letter::J), "{case:?}");
                        }
                    }
                    for (width, height) in [(0.9, 0.8), (1.5, 1.5), (2.5, 1.6)] {
                        for path in [z(width, height), mirrored(&z(width, height))] {
                            let frames = drawn(INDEX, &turned(&path, degrees), still, noise, 7);
                            let case = (still, noise, degrees, width);
                            assert_eq!(letter(&frames), Some(Letter::Z), "{case:?}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn well_drawn_letter_has_more_confidence_than_a_careless_one() {
        let confidence = |frames: &[Frame]| recognize(frames).expect("a letter").confidence;
        let good = confidence(&drawn(LITTLE, &j(1.5, 0.8), 5, 0.0, 1));
        let careless = confidence(&drawn(LITTLE, &turned(&j(0.8, 0.5), 15.0), 0, 0.03, 1));
        assert!(good > 0.95 && good <= 1.0, "{good}");
        assert!(careless < 0.97 && careless > MIN_LIKENESS, "{careless}");
        let good = confidence(&drawn(INDEX, &z(1.5, 1.2), 5, 0.0, 1));
        assert!(good > 0.95 && good <= 1.0, "{good}");
    }

    #[test]
    fn what_was_before_the_movement_does_not_count() {
        // The hand comes from below, holds still, and draws.
        for (shape, path, expected) in
            [(LITTLE, j(1.5, 0.8), Letter::J), (INDEX, z(1.5, 1.3), Letter::Z)]
        {
            let mut frames = drawn(shape, &[[1.0, 3.0], [0.0, 0.0]], 5, 0.01, 3);
            frames.extend(drawn(shape, &path, 5, 0.01, 4));
            assert_eq!(letter(&frames), Some(expected));
        }
    }

    #[test]
    fn other_movements_are_no_letter() {
        let circle: Vec<Point> = (0..=24)
            .map(|i| {
                let angle = std::f32::consts::TAU * i as f32 / 24.0;
                [angle.cos(), angle.sin()]
            })
            .collect();
        let wave = [[0.0, 0.0], [1.0, 0.0], [0.0, 0.0], [1.0, 0.0], [0.0, 0.0]];
        for (name, path) in [
            ("still", vec![[0.0, 0.0], [0.01, 0.0]]),
            ("down", vec![[0.0, 0.0], [0.0, 2.0]]),
            ("right", vec![[0.0, 0.0], [2.0, 0.0]]),
            ("up", vec![[0.0, 2.0], [0.0, 0.0]]),
            ("diagonal", vec![[0.0, 0.0], [1.5, 1.5]]),
            ("down and up again", vec![[0.0, 0.0], [0.0, 1.5], [0.0, 0.0]]),
            ("corner", vec![[0.0, 0.0], [0.0, 1.5], [1.5, 1.5]]),
            ("waving", wave.to_vec()),
            ("circle", circle.clone()),
            ("circle, turned", turned(&circle, 90.0)),
            ("J upside down", turned(&j(1.5, 0.8), 180.0)),
            ("N", turned(&mirrored(&z(1.5, 1.5)), 90.0)),
            ("tiny J", j(0.3, 0.15)),
            ("tiny Z", z(0.3, 0.3)),
        ] {
            for shape in [LITTLE, INDEX] {
                for noise in [0.0, 0.02] {
                    let frames = drawn(shape, &path, 8, noise, 11);
                    assert_eq!(recognize(&frames), None, "{name}");
                }
            }
        }
    }

    #[test]
    fn letter_needs_its_finger() {
        let open = [true; 4];
        let fist = [false; 4];
        for shape in [open, fist, INDEX, [true, false, false, true]] {
            assert_eq!(letter(&drawn(shape, &j(1.5, 0.8), 5, 0.01, 1)), None, "{shape:?}");
        }
        for shape in [open, fist, LITTLE, [true, true, false, false]] {
            assert_eq!(letter(&drawn(shape, &z(1.5, 1.2), 5, 0.01, 1)), None, "{shape:?}");
        }
    }

    #[test]
    fn letter_is_drawn_within_some_seconds() {
        let mut frames = drawn(LITTLE, &j(1.5, 0.8), 5, 0.01, 1);
        assert_eq!(letter(&frames), Some(Letter::J));
        frames.iter_mut().for_each(|frame| frame.time *= 10.0);
        assert_eq!(letter(&frames), None);
    }

    /// Steps in random directions, slow and fast ones.
    #[test]
    fn random_walks_are_rarely_letters() {
        let mut found = 0;
        for seed in 1..=1000u64 {
            let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mut next = || {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                (random >> 40) as f32 / (1u64 << 24) as f32 - 0.5
            };
            let mut at = [0.0f32; 2];
            let path: Vec<Point> = (0..8)
                .map(|_| {
                    at = [at[0] + 2.0 * next(), at[1] + 2.0 * next()];
                    at
                })
                .collect();
            let shape = if seed % 2 == 0 { LITTLE } else { INDEX };
            found += usize::from(recognize(&drawn(shape, &path, 5, 0.01, seed)).is_some());
        }
        // Measured: 24.
        assert!(found <= 30, "{found} of 1000");
    }

    #[test]
    fn nonsense_is_no_letter() {
        assert_eq!(recognize(&[]), None);
        let frame = Frame { time: 0.0, landmarks: [[0.0; 3]; LANDMARKS] };
        assert_eq!(recognize(&[frame; 50]), None);
        let huge = Frame { time: 0.0, landmarks: [[f32::MAX; 3]; LANDMARKS] };
        assert_eq!(recognize(&[frame, huge, frame, huge, frame, huge, huge]), None);
    }
}
