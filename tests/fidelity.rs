//! The landmarks agree with those of the MediaPipe Python package on the same photos.
//!
//! `tests/landmarks/*.json` holds what the package found (`make.py` there says how); here the
//! pipeline runs with MediaPipe's own settings: no border, confidence 0.5, one look.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hand_gesture_api::decode::decode;
use hand_gesture_api::engine::OnnxModel;
use hand_gesture_api::landmarks::{self, Hand, MIDDLE_FINGER_BASE, WRIST};
use hand_gesture_api::palm;

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
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn load(name: &str) -> OnnxModel {
    let path = root().join("models").join(name);
    OnnxModel::load(name, &std::fs::read(path).expect("the model file")).expect("the model")
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

/// MediaPipe's own settings: `min_detection_confidence=0.5`, no border, and `static_image_mode=True`,
/// which is one look at each.
const MIN_DETECTION_CONFIDENCE: f32 = 0.5;

/// The distance of every landmark, as a part of the palm's length.
fn distances(hand: &Hand, expected: &ExpectedHand, width: f32, height: f32) -> Vec<f32> {
    let pixel = |i: usize| [expected.landmarks[i][0] * width, expected.landmarks[i][1] * height];
    let distance = |a: [f32; 2], b: [f32; 2]| (a[0] - b[0]).hypot(a[1] - b[1]);
    let palm = distance(pixel(WRIST), pixel(MIDDLE_FINGER_BASE));
    let found = hand.landmarks.iter().map(|[x, y, _]| [*x, *y]);
    found.enumerate().map(|(i, point)| distance(point, pixel(i)) / palm).collect()
}

fn agrees(palm: &str, landmark: &str, of: fn(&Expected) -> &ExpectedHand) {
    let (palm, landmark) = (load(palm), load(landmark));
    let mut all = Vec::new();
    let expectations = expected();
    assert!(expectations.len() >= 20, "expected landmarks of at least 20 photos");
    for expected in expectations.values() {
        let path = root().join("tests/photos").join(Path::new(&expected.photo));
        let photo =
            decode(&std::fs::read(path).expect("the photo"), u64::MAX).expect("a photo").photo;
        let palms = palm::detect(&palm, &photo, 0.0, MIN_DETECTION_CONFIDENCE).expect("a run");
        let best = palms.first().unwrap_or_else(|| panic!("{}: no palm found", expected.photo));
        let hand = landmarks::find(&landmark, &photo, &best.region, false).expect("a run");
        assert!(hand.presence >= MIN_DETECTION_CONFIDENCE, "{}: no hand", expected.photo);

        let expected_hand = of(expected);
        let (width, height) = (photo.width() as f32, photo.height() as f32);
        let distances = distances(&hand, expected_hand, width, height);
        let mean = distances.iter().sum::<f32>() / distances.len() as f32;
        println!("{:12} mean {mean:.4}", expected.photo);
        all.extend(distances);
        // MediaPipe takes every picture for a mirrored one.
        let label = if hand.handedness.name() == "Right" { "Left" } else { "Right" };
        assert_eq!(label, expected_hand.handedness.label, "{}", expected.photo);
        let score = expected_hand.handedness.score;
        assert!((hand.handedness_score - score).abs() < 0.1, "{}: {score}", expected.photo);
    }
    all.sort_by(f32::total_cmp);
    let mean = all.iter().sum::<f32>() / all.len() as f32;
    let p95 = all[all.len() * 95 / 100];
    println!(
        "{} landmarks: mean {mean:.4}, 95th percentile {p95:.4} of the palm length",
        all.len()
    );
    assert!(mean <= 0.01, "mean distance {mean}");
    assert!(p95 <= 0.03, "95th percentile {p95}");
}

#[test]
fn full_models_agree_with_mediapipe() {
    agrees("palm_detection_full.onnx", "hand_landmark_full.onnx", |expected| &expected.full);
}

#[test]
fn lite_models_agree_with_mediapipe() {
    agrees("palm_detection_lite.onnx", "hand_landmark_lite.onnx", |expected| &expected.lite);
}
