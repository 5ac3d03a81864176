//! Landmarks agree with those of the MediaPipe Python package on the test photos, and this project's
//! operators agree with tract's in f32.
//!
//! `tests/landmarks/*.json` holds the package's results (`make.py` there writes them). Here the models
//! run with the same settings: no border, confidence 0.5, one pass each.
//!
//! The group `fidelity` runs them in the sandbox, with the operators that the component has: natively, the same
//! tests take ten times as long. Every test prints what it measures
//! (`cargo test --release --target wasm32-wasip2 --package vision --test fidelity -- --nocapture`).

use std::collections::BTreeMap;
use std::path::PathBuf;

use kernels::pointwise::Precision;
use vision::decode::{Photo, decode};
use vision::engine::{Input, Model, ModelError, OnnxModel, Operators, Shapes};
use vision::landmarks::{self, Hand, MIDDLE_FINGER_BASE, WRIST};
use vision::letter;
use vision::palm::{self, View};

#[derive(serde::Deserialize)]
struct Expected {
    photo: String,
    full: ExpectedHand,
    lite: ExpectedHand,
}

#[derive(serde::Deserialize)]
struct ExpectedHand {
    handedness: ExpectedHandedness,
    landmarks: Vec<[f32; 3]>,
}

#[derive(serde::Deserialize)]
struct ExpectedHandedness {
    label: String,
    score: f32,
}

fn root() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// The sides of the service, and MediaPipe's own.
const PALM_SIDES: [usize; 4] =
    [palm::SMALL_SIDE, palm::PART_SIDE, palm::MEDIAPIPE_SIDE, palm::LARGE_SIDE];

/// Operators of a palm detection model. MediaPipe's own weights lose detections in int8.
fn palm_operators(name: &str) -> Operators {
    match name {
        "palm_detection_tuned.onnx" => palm::OPERATORS,
        _ => Operators::Fused(Precision::Int16),
    }
}

fn load(name: &str, operators: Operators) -> OnnxModel {
    let path = root().join("models").join(name);
    let onnx = std::fs::read(path).expect("the model file");
    if name.starts_with("palm") {
        palm::load_for(name, &onnx, operators, &PALM_SIDES).expect("the model")
    } else {
        OnnxModel::load_with(name, &onnx, operators).expect("the model")
    }
}

fn expected() -> BTreeMap<PathBuf, Expected> {
    let folder = root().join("tests/landmarks");
    std::fs::read_dir(folder)
        .expect("the folder")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .map(|path| {
            let text = std::fs::read_to_string(&path).expect("the file");
            (path, serde_json::from_str(&text).expect("expected landmarks"))
        })
        .collect()
}

/// MediaPipe's default `min_detection_confidence`, of palms and of presence.
const MIN_DETECTION_CONFIDENCE: f32 = 0.5;

/// Returns the distance of every landmark, in lengths of the expected palm.
fn distances(hand: &Hand, expected: &[[f32; 2]]) -> Vec<f32> {
    let distance = |a: [f32; 2], b: [f32; 2]| (a[0] - b[0]).hypot(a[1] - b[1]);
    let palm = distance(expected[WRIST], expected[MIDDLE_FINGER_BASE]);
    let found = hand.landmarks.iter().map(|[x, y, _]| [*x, *y]);
    found.zip(expected).map(|(point, expected)| distance(point, *expected) / palm).collect()
}

/// Prints and returns the mean and the 95th percentile of distances.
fn summary(mut distances: Vec<f32>) -> (f32, f32) {
    distances.sort_by(f32::total_cmp);
    let count = distances.len();
    let mean = distances.iter().sum::<f32>() / count as f32;
    let p95 = distances[count * 95 / 100];
    println!("{count} landmarks: mean {mean:.5}, 95th percentile {p95:.5} of the palm length");
    (mean, p95)
}

fn photo(name: &str) -> Photo {
    let path = root().join("tests/photos").join(name);
    decode(&std::fs::read(path).expect("the photo"), u64::MAX).expect("a photo").photo
}

/// Returns the hand of the palm with the best score.
fn hand(palm: &OnnxModel, landmark: &OnnxModel, photo: &Photo) -> Hand {
    let view = View::whole(photo, palm::MEDIAPIPE_SIDE);
    let palms = palm::detect(palm, photo, view, MIN_DETECTION_CONFIDENCE).expect("a run");
    let best = palms.first().expect("a palm");
    landmarks::find(landmark, photo, &best.region).expect("a run")
}

/// Largest differences from MediaPipe that pass: distances of landmarks in lengths of the palm, and
/// the handedness score.
struct Tolerance {
    mean: f32,
    p95: f32,
    score: f32,
}

fn assert_agrees_with_mediapipe(
    palm: &str,
    landmark: &str,
    of: fn(&Expected) -> &ExpectedHand,
    tolerance: &Tolerance,
) {
    let (palm, landmark) = (load(palm, palm_operators(palm)), load(landmark, landmarks::OPERATORS));
    let (mut all, mut max_score_error) = (Vec::new(), 0.0_f32);
    let expectations = expected();
    assert!(expectations.len() >= 20, "expected landmarks of at least 20 photos");
    for expected in expectations.values() {
        let photo = photo(&expected.photo);
        let hand = hand(&palm, &landmark, &photo);
        assert!(hand.presence >= MIN_DETECTION_CONFIDENCE, "{}: no hand", expected.photo);

        let expected_hand = of(expected);
        let (width, height) = (photo.width() as f32, photo.height() as f32);
        let pixels: Vec<[f32; 2]> =
            expected_hand.landmarks.iter().map(|[x, y, _]| [x * width, y * height]).collect();
        let distances = distances(&hand, &pixels);
        let mean = distances.iter().sum::<f32>() / distances.len() as f32;
        println!("{:12} mean {mean:.5}", expected.photo);
        all.extend(distances);
        // MediaPipe expects mirrored selfies.
        let label = if hand.handedness.name() == "Right" { "Left" } else { "Right" };
        assert_eq!(label, expected_hand.handedness.label, "{}", expected.photo);
        let score_error = (hand.handedness_score - expected_hand.handedness.score).abs();
        max_score_error = max_score_error.max(score_error);
    }
    println!("largest difference of a handedness score: {max_score_error:.5}");
    let (mean, p95) = summary(all);
    assert!(mean <= tolerance.mean, "mean distance {mean}");
    assert!(p95 <= tolerance.p95, "95th percentile {p95}");
    assert!(max_score_error <= tolerance.score, "handedness score: {max_score_error}");
}

/// Compares this project's operators, in int16 and int8, with tract's in f32.
///
/// The tolerance of the mean is below twice the measurement in `docs/benchmarks.md`, "int16 between
/// layers".
fn assert_operators_agree(palm: &str, landmark: &str, tolerance: f32) {
    let own = (load(palm, palm_operators(palm)), load(landmark, landmarks::OPERATORS));
    let tract = (load(palm, Operators::Tract), load(landmark, Operators::Tract));
    let mut all = Vec::new();
    for expected in expected().values() {
        let photo = photo(&expected.photo);
        let floats = hand(&tract.0, &tract.1, &photo);
        let pixels = floats.landmarks.map(|[x, y, _]| [x, y]);
        all.extend(distances(&hand(&own.0, &own.1, &photo), &pixels));
    }
    let (mean, _) = summary(all);
    assert!(mean <= tolerance, "mean distance {mean}");
}

#[test]
fn palm_detection_runs_on_inputs_of_all_sides() {
    for name in
        ["palm_detection_tuned.onnx", "palm_detection_lite.onnx", "palm_detection_full.onnx"]
    {
        let model = load(name, palm::OPERATORS);
        for (side, anchors) in PALM_SIDES.into_iter().zip([504, 896, 2016, 3584]) {
            let outputs = model.run(Input::Pixels(vec![128; side * side * 3])).expect("a run");
            let lengths: Vec<usize> = outputs.iter().map(Vec::len).collect();
            assert_eq!(lengths, [anchors * 18, anchors], "{name} {side}");
        }
        let error =
            model.run(Input::Pixels(vec![128; 160 * 160 * 3])).expect_err("not loaded for it");
        assert!(error.to_string().contains("76800 values fit none of the inputs"), "{error}");
    }
}

#[test]
fn model_with_other_output_shapes_is_refused() {
    let onnx = std::fs::read(root().join("models/palm_detection_lite.onnx")).expect("the file");
    let load = |shapes: &[Shapes]| OnnxModel::load_for("palm", &onnx, palm::OPERATORS, shapes);
    let wrong = Shapes { input: vec![1, 128, 128, 3], outputs: vec![vec![1, 2016, 18]] };
    let error = load(&[wrong]).err().expect("an error").to_string();
    assert!(error.contains("[[1, 2016, 18]] expected"), "{error}");
    assert!(error.contains("[[1, 896, 18], [1, 896, 1]] found"), "{error}");
    assert!(matches!(load(&[]), Err(ModelError::Shape { .. })));
}

/// The fused operators of every model file, with their numbers.
const FUSED: [(&str, &[(&str, usize)]); 7] = [
    (
        "palm_detection_tuned.onnx",
        &[
            ("conv2d", 1),
            ("depthwise, pointwise", 23),
            ("max pool", 4),
            ("pointwise", 6),
            ("upsample", 2),
        ],
    ),
    (
        "palm_detection_lite.onnx",
        &[
            ("conv2d", 1),
            ("depthwise, pointwise", 23),
            ("max pool", 4),
            ("pointwise", 6),
            ("upsample", 2),
        ],
    ),
    (
        "palm_detection_full.onnx",
        &[
            ("conv2d", 1),
            ("depthwise, pointwise", 28),
            ("max pool", 4),
            ("pointwise", 6),
            ("upsample", 2),
        ],
    ),
    (
        "hand_landmark_lite.onnx",
        &[
            ("conv2d, depthwise, pointwise", 1),
            ("matmul", 4),
            ("max pool", 1),
            ("pointwise, depthwise", 1),
            ("pointwise, depthwise, pointwise", 14),
        ],
    ),
    (
        "hand_landmark_full.onnx",
        &[
            ("conv2d, depthwise, pointwise", 1),
            ("matmul", 4),
            ("pointwise, depthwise", 1),
            ("pointwise, depthwise, pointwise", 14),
        ],
    ),
    ("letters_lite.onnx", &[("matmul", 10)]),
    ("letters_full.onnx", &[("matmul", 10)]),
];

#[test]
fn no_model_runs_in_tract() {
    for (name, expected) in FUSED {
        let model = load(name, landmarks::OPERATORS);
        assert_eq!(model.fallbacks(), [], "{name}");
        assert!(!model.runs_in_tract(), "{name}");
        assert!(load(name, Operators::Tract).runs_in_tract(), "{name}");

        let length = model.shapes().input.iter().product();
        let input = match model.shapes().input.len() {
            4 => Input::Pixels(vec![128; length]),
            _ => Input::Values(vec![0.5; length]),
        };
        let mut fused: BTreeMap<&str, usize> = BTreeMap::new();
        let operators = model.profile(&input).expect("a run");
        for operator in &operators {
            if expected.iter().any(|(fused, _)| operator.name == *fused) {
                *fused.entry(&operator.name).or_default() += 1;
            }
        }
        assert_eq!(fused.into_iter().collect::<Vec<_>>(), expected, "{name}");
    }
}

#[test]
fn classifiers_agree_with_tract() {
    for (kind, tolerance) in [("full", 0.01), ("lite", 0.01)] {
        let palm = load("palm_detection_tuned.onnx", palm::OPERATORS);
        let landmark = load(&format!("hand_landmark_{kind}.onnx"), landmarks::OPERATORS);
        let letters = format!("letters_{kind}.onnx");
        let own = load(&letters, Operators::Fused(Precision::Int16));
        let tract = load(&letters, Operators::Tract);
        let mut max = 0.0_f32;
        for expected in expected().values() {
            let features = letter::features(&hand(&palm, &landmark, &photo(&expected.photo)));
            let input = Input::Values(features);
            let run = |model: &OnnxModel| model.run(input.clone()).expect("a run").remove(0);
            let (own, tract) = (run(&own), run(&tract));
            assert_eq!(own.len(), tract.len());
            let differences = own.iter().zip(&tract).map(|(own, tract)| (own - tract).abs());
            max = differences.fold(max, f32::max);
        }
        println!("{letters}: probabilities differ by at most {max:.6}");
        assert!(max <= tolerance, "{letters}: {max}");
    }
}

#[test]
fn operators_agree_with_tract_on_full_models() {
    assert_operators_agree("palm_detection_full.onnx", "hand_landmark_full.onnx", 0.01);
}

#[test]
fn operators_agree_with_tract_on_lite_models() {
    assert_operators_agree("palm_detection_lite.onnx", "hand_landmark_lite.onnx", 0.014);
}

#[test]
fn operators_agree_with_tract_on_default_models() {
    assert_operators_agree("palm_detection_tuned.onnx", "hand_landmark_full.onnx", 0.01);
}

#[test]
fn full_models_agree_with_mediapipe() {
    assert_agrees_with_mediapipe(
        "palm_detection_full.onnx",
        "hand_landmark_full.onnx",
        |expected| &expected.full,
        &Tolerance { mean: 0.01, p95: 0.03, score: 0.1 },
    );
}

#[test]
fn lite_models_agree_with_mediapipe() {
    assert_agrees_with_mediapipe(
        "palm_detection_lite.onnx",
        "hand_landmark_lite.onnx",
        |expected| &expected.lite,
        &Tolerance { mean: 0.01, p95: 0.04, score: 0.1 },
    );
}
