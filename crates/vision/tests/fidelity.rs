//! The landmarks agree with those of the MediaPipe Python package on the same photos.
//!
//! `tests/landmarks/*.json` holds what the package found (`make.py` there says how); here the
//! pipeline runs with MediaPipe's own settings: no border, confidence 0.5, one look.

use std::collections::BTreeMap;
use std::path::PathBuf;

use vision::decode::{Photo, decode};
use vision::engine::{Input, Model, ModelError, OnnxModel, Operators, Shapes};
use kernels::pointwise::Precision;
use vision::landmarks::{self, Hand, MIDDLE_FINGER_BASE, WRIST};
use vision::{letter, palm};

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

fn load(name: &str, operators: Operators) -> OnnxModel {
    let path = root().join("models").join(name);
    let onnx = std::fs::read(path).expect("the model file");
    if name.starts_with("palm") {
        palm::load(name, &onnx, operators).expect("the model")
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

/// MediaPipe's own settings: `min_detection_confidence=0.5`, no border, and `static_image_mode=True`,
/// which is one look at each.
const MIN_DETECTION_CONFIDENCE: f32 = 0.5;

/// The distance of every landmark, as a part of the palm's length.
fn distances(hand: &Hand, expected: &[[f32; 2]]) -> Vec<f32> {
    let distance = |a: [f32; 2], b: [f32; 2]| (a[0] - b[0]).hypot(a[1] - b[1]);
    let palm = distance(expected[WRIST], expected[MIDDLE_FINGER_BASE]);
    let found = hand.landmarks.iter().map(|[x, y, _]| [*x, *y]);
    found.zip(expected).map(|(point, expected)| distance(point, *expected) / palm).collect()
}

/// Mean and 95th percentile.
fn summary(mut distances: Vec<f32>) -> (f32, f32) {
    distances.sort_by(f32::total_cmp);
    let mean = distances.iter().sum::<f32>() / distances.len() as f32;
    let p95 = distances[distances.len() * 95 / 100];
    println!(
        "{} landmarks: mean {mean:.4}, 95th percentile {p95:.4} of the palm length",
        distances.len()
    );
    (mean, p95)
}

fn photo(name: &str) -> Photo {
    let path = root().join("tests/photos").join(name);
    decode(&std::fs::read(path).expect("the photo"), u64::MAX).expect("a photo").photo
}

/// The hand of the best palm.
fn hand(palm: &OnnxModel, landmark: &OnnxModel, photo: &Photo) -> Hand {
    let palms =
        palm::detect(palm, photo, palm::MEDIAPIPE, MIN_DETECTION_CONFIDENCE).expect("a run");
    let best = palms.first().expect("a palm");
    landmarks::find(landmark, photo, &best.region, false).expect("a run")
}

fn agrees(palm: &str, landmark: &str, of: fn(&Expected) -> &ExpectedHand) {
    let (palm, landmark) = (load(palm, palm::OPERATORS), load(landmark, landmarks::OPERATORS));
    let mut all = Vec::new();
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
        println!("{:12} mean {mean:.4}", expected.photo);
        all.extend(distances);
        // MediaPipe takes every picture for a mirrored one.
        let label = if hand.handedness.name() == "Right" { "Left" } else { "Right" };
        assert_eq!(label, expected_hand.handedness.label, "{}", expected.photo);
        let score = expected_hand.handedness.score;
        assert!((hand.handedness_score - score).abs() < 0.1, "{}: {score}", expected.photo);
    }
    let (mean, p95) = summary(all);
    assert!(mean <= 0.01, "mean distance {mean}");
    assert!(p95 <= 0.03, "95th percentile {p95}");
}

/// This project's operators, in 16 and 8 bits, against tract's, in 32-bit floats.
fn operators_agree(palm: &str, landmark: &str) {
    let own = (load(palm, palm::OPERATORS), load(landmark, landmarks::OPERATORS));
    let tract = (load(palm, Operators::Tract), load(landmark, Operators::Tract));
    let mut all = Vec::new();
    for expected in expected().values() {
        let photo = photo(&expected.photo);
        let floats = hand(&tract.0, &tract.1, &photo);
        let pixels = floats.landmarks.map(|[x, y, _]| [x, y]);
        all.extend(distances(&hand(&own.0, &own.1, &photo), &pixels));
    }
    let (mean, _) = summary(all);
    assert!(mean <= 0.02, "mean distance {mean}");
}

/// Both models, MediaPipe's own picture and the smaller one.
#[test]
fn palm_detection_takes_pictures_of_two_sizes() {
    for name in ["palm_detection_lite.onnx", "palm_detection_full.onnx"] {
        let model = load(name, palm::OPERATORS);
        for (side, anchors) in [(palm::SMALL_SIDE, 896), (palm::FULL_SIDE, 2016)] {
            let outputs = model.run(Input::Picture(vec![128; side * side * 3])).expect("a run");
            let lengths: Vec<usize> = outputs.iter().map(Vec::len).collect();
            assert_eq!(lengths, [anchors * 18, anchors], "{name} {side}");
        }
        let error =
            model.run(Input::Picture(vec![128; 160 * 160 * 3])).expect_err("not loaded for it");
        assert!(error.to_string().contains("76800 numbers fit none of the inputs"), "{error}");
    }
}

#[test]
fn a_model_whose_outputs_have_other_shapes_is_refused() {
    let onnx = std::fs::read(root().join("models/palm_detection_lite.onnx")).expect("the file");
    let load = |shapes: &[Shapes]| OnnxModel::load_for("palm", &onnx, palm::OPERATORS, shapes);
    let wrong = Shapes { input: vec![1, 128, 128, 3], outputs: vec![vec![1, 2016, 18]] };
    let error = load(&[wrong]).err().expect("an error").to_string();
    assert!(error.contains("[[1, 2016, 18]] expected"), "{error}");
    assert!(error.contains("[[1, 896, 18], [1, 896, 1]] found"), "{error}");
    assert!(matches!(load(&[]), Err(ModelError::Shape { .. })));
}

/// Every layer of the models is one of this project's, and no picture is transposed between them.
#[test]
fn no_layer_is_left_to_tract() {
    for name in [
        "palm_detection_lite.onnx",
        "palm_detection_full.onnx",
        "hand_landmark_lite.onnx",
        "hand_landmark_full.onnx",
    ] {
        let model = load(name, landmarks::OPERATORS);
        let input = vec![128; model.shapes().input.iter().product()];
        let operators = model.profile(&Input::Picture(input)).expect("a run");
        let own = ["pointwise", "matrix", "window", "depthwise", "max pool", "upsample"];
        let own = |name: &str| name.split(", ").all(|layer| own.contains(&layer));
        // What is left: the model's input, and what comes after the last picture.
        let left = operators.iter().filter(|operator| {
            let pixels = operator.output.iter().product::<usize>() > 10_000;
            pixels && !own(&operator.name)
        });
        let left: Vec<_> = left.map(|operator| (&operator.name, &operator.output)).collect();
        assert!(
            left.iter().all(|(name, _)| ["Source", "IntoShape", "Concat"].contains(&name.as_str())),
            "{name}: {left:?}"
        );
    }
}

/// The classifiers' matrices in 16 bits against tract's floats: the probabilities of every label.
#[test]
fn letters_agree() {
    for kind in ["full", "lite"] {
        let palm = load("palm_detection_lite.onnx", palm::OPERATORS);
        let landmark = load(&format!("hand_landmark_{kind}.onnx"), landmarks::OPERATORS);
        let letters = format!("letters_{kind}.onnx");
        let own = load(&letters, Operators::Own(Precision::Sixteen));
        let tract = load(&letters, Operators::Tract);
        let mut most = 0.0_f32;
        for expected in expected().values() {
            let features = letter::features(&hand(&palm, &landmark, &photo(&expected.photo)));
            let input = Input::Numbers(features);
            let run = |model: &OnnxModel| model.run(input.clone()).expect("a run").remove(0);
            let (own, tract) = (run(&own), run(&tract));
            assert_eq!(own.len(), tract.len());
            let apart = own.iter().zip(&tract).map(|(own, tract)| (own - tract).abs());
            most = apart.fold(most, f32::max);
        }
        println!("{letters}: probabilities are at most {most:.5} apart");
        assert!(most <= 0.01, "{letters}: {most}");
    }
}

#[test]
fn operators_agree_on_the_full_models() {
    operators_agree("palm_detection_full.onnx", "hand_landmark_full.onnx");
}

#[test]
fn operators_agree_on_the_lite_models() {
    operators_agree("palm_detection_lite.onnx", "hand_landmark_lite.onnx");
}

#[test]
fn operators_agree_on_the_default_models() {
    operators_agree("palm_detection_lite.onnx", "hand_landmark_full.onnx");
}

#[test]
fn full_models_agree_with_mediapipe() {
    agrees("palm_detection_full.onnx", "hand_landmark_full.onnx", |expected| &expected.full);
}

#[test]
fn lite_models_agree_with_mediapipe() {
    agrees("palm_detection_lite.onnx", "hand_landmark_lite.onnx", |expected| &expected.lite);
}
