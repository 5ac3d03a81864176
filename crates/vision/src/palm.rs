//! Palm detection: MediaPipe's single-shot detector, from a view of the photo to hand regions.
//!
//! It looks for palms, since a palm is nearly rigid while a hand takes many shapes. [`detect`] runs
//! the model, decodes its raw boxes against their anchors, merges overlapping ones by weighted
//! non-maximum suppression, and extends each palm to the region of its hand.
//!
//! The constants are those of MediaPipe's graphs `palm_detection_cpu.pbtxt` and
//! `palm_detection_detection_to_roi.pbtxt`.

use crate::decode::Photo;
use crate::engine::{Input, Model, ModelError, OnnxModel, Operators, Shapes};
use crate::region::{Border, Rectangle, Region, sample};

/// Sides of the square inputs that the model is loaded for, in pixels.
///
/// The model is fully convolutional and halves its input five times, so any multiple of 32 works.
pub const SIDES: [usize; 3] = [SMALL_SIDE, PART_SIDE, LARGE_SIDE];
/// Side of the first look, with a quarter of the pixels of MediaPipe's own.
///
/// It finds almost every hand that is larger than a fifth of the photo: the table "What palm detection
/// finds" in the model card (`models/README.md`).
pub const SMALL_SIDE: usize = 96;
/// Side of the look at a part of the photo, half as wide: as fine as [`LARGE_SIDE`] for a quarter of its work.
pub const PART_SIDE: usize = 128;
/// Side of the last look, which finds small hands anywhere.
pub const LARGE_SIDE: usize = 256;
/// Side of MediaPipe's own input.
pub const MEDIAPIPE_SIDE: usize = 192;
/// Operators that run the model.
///
/// int8 finds as many hands as int16 with the tuned model, and is faster: the section "What palm detection
/// finds" in the model card (`models/README.md`). MediaPipe's own models lose detections in int8.
pub const OPERATORS: Operators = Operators::FASTEST;

/// Values of one raw detection: box (centre x, y, width, height) and seven keypoints (x, y).
const VALUES: usize = 18;
const KEYPOINTS: usize = 7;
/// Index of the wrist's keypoint (`rotation_vector_start_keypoint_index`).
const WRIST: usize = 0;
/// Index of the middle finger base's keypoint (`rotation_vector_end_keypoint_index`).
const MIDDLE_FINGER_BASE: usize = 2;
/// The detector's grids: stride in pixels, and anchors of each cell.
///
/// MediaPipe's `strides` are 8, 16, 16, 16 with two anchors each; equal strides share a grid.
const LAYERS: [(usize, usize); 2] = [(8, 2), (16, 6)];
/// Raw scores are clamped to ± this before the sigmoid (`score_clipping_thresh`).
const SCORE_LIMIT: f32 = 100.0;
/// Intersection over union from which detections are the same palm (`min_suppression_threshold`).
const SAME_PALM: f32 = 0.3;
/// Size of the hand's region, in sizes of the palm's box (`scale_x`, `scale_y`).
const HAND_SCALE: f32 = 2.6;
/// Shift of the hand's region towards the fingers, in heights of the palm's box (`shift_y`).
const HAND_SHIFT: f32 = -0.5;

/// A detected palm.
#[derive(Clone, Debug, PartialEq)]
pub struct Palm {
    /// The palm's score, 0 to 1.
    pub score: f32,
    /// The region in which the whole hand should lie.
    pub region: Region,
}

/// A detection in a view. Coordinates and sizes are fractions of its side.
#[derive(Clone, Debug, PartialEq)]
struct Detection {
    score: f32,
    rectangle: Rectangle,
    keypoints: [[f32; 2]; KEYPOINTS],
}

/// The model's view of a photo: an upright square of it, black where it reaches beyond the photo.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct View {
    /// Side of the model's input in pixels, one of [`SIDES`].
    pub side: usize,
    /// The square.
    pub region: Region,
}

impl View {
    /// Returns the view of a whole photo, letterboxed.
    pub fn whole(photo: &Photo, side: usize) -> View {
        View { side, region: Region::letterbox(photo, 0.0) }
    }
}

/// Loads a palm detection model for inputs of each of [`SIDES`]. `name` is for messages.
///
/// # Errors
/// Those of [`load_for`].
pub fn load(name: &str, onnx: &[u8], operators: Operators) -> Result<OnnxModel, ModelError> {
    load_for(name, onnx, operators, &SIDES)
}

/// Loads a palm detection model for inputs of each of these sides.
///
/// The model takes `[1, side, side, 3]` and returns boxes `[1, anchors, 18]` and scores
/// `[1, anchors, 1]`.
///
/// # Errors
/// [`ModelError::Load`] if the file is no model that the engine reads, [`ModelError::Shape`] if its
/// inputs or outputs have other shapes.
pub fn load_for(
    name: &str,
    onnx: &[u8],
    operators: Operators,
    sides: &[usize],
) -> Result<OnnxModel, ModelError> {
    let shapes = sides.iter().map(|&side| Shapes {
        input: vec![1, side, side, 3],
        outputs: vec![vec![1, anchor_count(side), VALUES], vec![1, anchor_count(side), 1]],
    });
    OnnxModel::load_for(name, onnx, operators, &shapes.collect::<Vec<_>>())
}

/// Returns the number of anchors for an input's side: 2016 for MediaPipe's own.
pub(crate) fn anchor_count(side: usize) -> usize {
    LAYERS.iter().map(|(stride, each)| (side / stride).pow(2) * each).sum()
}

/// Detects the palms in a view of a photo, best score first. Detections below `min_score` (0 to 1)
/// and those that are not finite are dropped.
///
/// # Errors
/// [`ModelError::Run`] if the model fails, or its outputs have other lengths.
pub fn detect(
    model: &dyn Model,
    photo: &Photo,
    view: View,
    min_score: f32,
) -> Result<Vec<Palm>, ModelError> {
    let input = sample(photo, &view.region, view.side, Border::Black);
    let outputs = model.run(Input::Pixels(input))?;
    let [boxes, scores] = outputs.as_slice() else {
        return Err(wrong_outputs());
    };
    let anchors = anchor_count(view.side);
    if boxes.len() != anchors * VALUES || scores.len() != anchors {
        return Err(wrong_outputs());
    }
    let detections = decode(boxes, scores, view.side, min_score);
    Ok(merge(detections)
        .into_iter()
        .map(|detection| Palm {
            score: detection.score,
            region: hand_region(&detection, &view.region),
        })
        .collect())
}

fn wrong_outputs() -> ModelError {
    ModelError::Run { name: "palm detection".into(), reason: "outputs of other lengths".into() }
}

/// Decodes the model's outputs, which are in pixels relative to each anchor.
fn decode(boxes: &[f32], scores: &[f32], side: usize, min_score: f32) -> Vec<Detection> {
    anchors(side)
        .zip(boxes.chunks_exact(VALUES))
        .zip(scores)
        .filter_map(|((anchor, raw), raw_score)| {
            let score = sigmoid(raw_score.clamp(-SCORE_LIMIT, SCORE_LIMIT));
            let finite = score.is_finite() && raw.iter().all(|value| value.is_finite());
            if !finite || score < min_score || raw[2] < 0.0 || raw[3] < 0.0 {
                return None;
            }
            let scale = 1.0 / side as f32;
            let point = |i: usize| [raw[i] * scale + anchor[0], raw[i + 1] * scale + anchor[1]];
            Some(Detection {
                score,
                rectangle: Rectangle {
                    center: point(0),
                    width: raw[2] * scale,
                    height: raw[3] * scale,
                },
                keypoints: std::array::from_fn(|k| point(4 + 2 * k)),
            })
        })
        .collect()
}

/// Yields the centres of the anchors as fractions of the side, in the order of the model's outputs.
fn anchors(side: usize) -> impl Iterator<Item = [f32; 2]> {
    LAYERS.into_iter().flat_map(move |(stride, each)| {
        let cells = side / stride;
        (0..cells * cells * each).map(move |i| {
            let cell = i / each;
            let center = |index: usize| (index as f32 + 0.5) / cells as f32;
            [center(cell % cells), center(cell / cells)]
        })
    })
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// Merges detections by weighted non-maximum suppression, best score first.
///
/// Detections of the same palm become one: the mean of their coordinates, weighted by score, with the
/// highest of their scores.
fn merge(mut detections: Vec<Detection>) -> Vec<Detection> {
    detections.sort_by(|a, b| b.score.total_cmp(&a.score));
    let mut merged = Vec::new();
    while let Some(best) = detections.first().cloned() {
        let (same, others): (Vec<_>, Vec<_>) = detections.into_iter().partition(|other| {
            intersection_over_union(&best.rectangle, &other.rectangle) > SAME_PALM
        });
        // A box without area overlaps nothing, not even itself: it stands alone.
        let rest = others.into_iter().filter(|other| *other != best).collect();
        merged.push(if same.is_empty() { best } else { weighted_mean(&same, best.score) });
        detections = rest;
    }
    merged
}

fn weighted_mean(same: &[Detection], score: f32) -> Detection {
    let total: f32 = same.iter().map(|detection| detection.score).sum();
    let mean = |value: &dyn Fn(&Detection) -> f32| {
        same.iter().map(|detection| detection.score * value(detection)).sum::<f32>() / total
    };
    Detection {
        score,
        rectangle: Rectangle {
            center: [mean(&|d| d.rectangle.center[0]), mean(&|d| d.rectangle.center[1])],
            width: mean(&|d| d.rectangle.width),
            height: mean(&|d| d.rectangle.height),
        },
        keypoints: std::array::from_fn(|k| {
            [mean(&|d| d.keypoints[k][0]), mean(&|d| d.keypoints[k][1])]
        }),
    }
}

fn intersection_over_union(a: &Rectangle, b: &Rectangle) -> f32 {
    let overlap = |axis: usize, a_side: f32, b_side: f32| {
        let end = (a.center[axis] + a_side / 2.0).min(b.center[axis] + b_side / 2.0);
        let start = (a.center[axis] - a_side / 2.0).max(b.center[axis] - b_side / 2.0);
        (end - start).max(0.0)
    };
    let shared = overlap(0, a.width, b.width) * overlap(1, a.height, b.height);
    let all = a.width * a.height + b.width * b.height - shared;
    if all > 0.0 { shared / all } else { 0.0 }
}

/// Returns the region of the hand that a palm belongs to, in the photo.
fn hand_region(detection: &Detection, view: &Region) -> Region {
    let rectangle = Rectangle {
        center: view.to_photo(detection.rectangle.center),
        width: detection.rectangle.width * view.size,
        height: detection.rectangle.height * view.size,
    };
    let wrist = view.to_photo(detection.keypoints[WRIST]);
    let base = view.to_photo(detection.keypoints[MIDDLE_FINGER_BASE]);
    Region::around(&rectangle, wrist, base, HAND_SHIFT, HAND_SCALE)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A detector that reports palms at the given anchors: (anchor, raw score).
    struct Fake(Vec<(usize, f32)>);

    impl Model for Fake {
        fn run(&self, input: Input) -> Result<Vec<Vec<f32>>, ModelError> {
            let side = (input.len() / 3).isqrt();
            let mut boxes = vec![0.0; anchor_count(side) * VALUES];
            let mut scores = vec![-100.0; anchor_count(side)];
            for (anchor, score) in &self.0 {
                let values = &mut boxes[anchor * VALUES..][..VALUES];
                // A palm of 48 × 48 pixels at the anchor, its wrist below its finger base.
                values[2..4].copy_from_slice(&[48.0, 48.0]);
                values[4 + 2 * WRIST + 1] = 20.0;
                values[4 + 2 * MIDDLE_FINGER_BASE + 1] = -20.0;
                scores[*anchor] = *score;
            }
            Ok(vec![boxes, scores])
        }
    }

    /// Returns MediaPipe's own view.
    fn view() -> View {
        View::whole(&photo(), MEDIAPIPE_SIDE)
    }

    fn photo() -> Photo {
        Photo::from_rgb(192, 192, vec![0; 192 * 192 * 3]).expect("a photo")
    }

    #[test]
    fn anchors_have_the_model_s_number_and_order() {
        let anchors: Vec<_> = anchors(MEDIAPIPE_SIDE).collect();
        assert_eq!((anchors.len(), anchor_count(MEDIAPIPE_SIDE)), (2016, 2016));
        assert_eq!(anchors[0], [0.5 / 24.0, 0.5 / 24.0]);
        assert_eq!(anchors[2], [1.5 / 24.0, 0.5 / 24.0]);
        assert_eq!(anchors[24 * 24 * 2], [0.5 / 12.0, 0.5 / 12.0]);
        assert_eq!(anchors[2015], [11.5 / 12.0, 11.5 / 12.0]);
    }

    #[test]
    fn palm_gives_the_region_of_its_hand() {
        // The cell (12, 12) of the first layer: its centre is at 100 pixels.
        let fake = Fake(vec![((12 * 24 + 12) * 2, 2.0)]);
        let palms = detect(&fake, &photo(), view(), 0.5).expect("a run");
        assert_eq!(palms.len(), 1);
        let region = palms[0].region;
        assert!((palms[0].score - 0.8808).abs() < 1e-3);
        assert!((region.size - 48.0 * HAND_SCALE).abs() < 1e-3);
        assert!((region.center[0] - 100.0).abs() < 1e-3);
        assert!((region.center[1] - (100.0 - 24.0)).abs() < 1e-3, "shifted to the fingers");
        assert!(region.rotation.abs() < 1e-5);
    }

    #[test]
    fn small_input_has_its_own_anchors() {
        // The cell (6, 6) of 12 × 12: its centre is at 52 of 96 pixels, of 192 in the photo 104.
        let fake = Fake(vec![((6 * 12 + 6) * 2, 2.0)]);
        let view = View::whole(&photo(), SMALL_SIDE);
        let palms = detect(&fake, &photo(), view, 0.5).expect("a run");
        let region = palms[0].region;
        assert!((region.size - 48.0 * 2.0 * HAND_SCALE).abs() < 1e-3);
        assert!((region.center[0] - 104.0).abs() < 1e-3);
        assert!((region.center[1] - (104.0 - 48.0)).abs() < 1e-3);
    }

    #[test]
    fn overlapping_detections_merge_and_weak_ones_are_dropped() {
        let cell = |x: usize, y: usize| (y * 24 + x) * 2;
        let fake =
            Fake(vec![(cell(12, 12), 2.0), (cell(13, 12), 1.0), (cell(3, 3), 3.0), (0, -2.0)]);
        let palms = detect(&fake, &photo(), view(), 0.5).expect("a run");
        assert_eq!(palms.len(), 2, "{palms:?}");
        assert!(palms[0].score > palms[1].score);
        // Between the two cells' centres, closer to the one with the better score.
        let x = palms[1].region.center[0];
        assert!((100.0..104.0).contains(&x), "{x}");
    }

    #[test]
    fn nan_score_is_no_palm() {
        let fake = Fake(vec![(5, f32::NAN), (8, 5.0)]);
        assert_eq!(detect(&fake, &photo(), view(), 0.5).expect("a run").len(), 1);
    }

    #[test]
    fn outputs_of_other_lengths_are_an_error() {
        struct Other;
        impl Model for Other {
            fn run(&self, _: Input) -> Result<Vec<Vec<f32>>, ModelError> {
                Ok(vec![vec![0.0; 3]])
            }
        }
        let error = detect(&Other, &photo(), view(), 0.5).expect_err("an error");
        assert!(error.to_string().contains("outputs of other lengths"), "{error}");
    }
}
