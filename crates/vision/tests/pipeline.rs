//! The shipped models fit together in every choice of sizes, and others are refused with a reason.

use std::io;
use std::path::PathBuf;

use vision::decode::decode;
use vision::pipeline::{Pipeline, PipelineError, files};

fn root() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// Names of the files in `models/` that play the parts of a build.
struct Choice {
    palm: &'static str,
    landmarks: &'static str,
    letters: &'static str,
}

const DEFAULT: Choice = Choice {
    palm: "palm_detection_tuned.onnx",
    landmarks: "hand_landmark_full.onnx",
    letters: "letters_full.onnx",
};

fn load(choice: &Choice, labels: Option<&str>) -> Result<Pipeline, PipelineError> {
    let model = |name: &str| std::fs::read(root().join("models").join(name));
    Pipeline::load(|name| match name {
        files::PALM => model(choice.palm),
        files::LANDMARKS => model(choice.landmarks),
        files::LETTERS => model(choice.letters),
        files::LABELS => labels.map_or_else(|| model("letters.txt"), |labels| Ok(labels.into())),
        files::VERSION => Ok(br#"{"name": "asl-letters", "version": "1"}"#.to_vec()),
        other => Err(io::Error::new(io::ErrorKind::NotFound, other)),
    })
}

fn message(pipeline: Result<Pipeline, PipelineError>) -> String {
    pipeline.err().expect("an error").to_string()
}

/// Runs every model of the pipeline: the letter of a photo.
fn letter(pipeline: &Pipeline) -> String {
    let bytes = std::fs::read(root().join("tests/photos/v.jpg")).expect("the photo");
    let photo = decode(&bytes, u64::MAX).expect("a photo").photo;
    let found = pipeline.find_hand(&photo, None, &mut ()).expect("a search");
    let letters = pipeline.read_letter(&found.hand.expect("a hand")).expect("a run");
    letters.expect("a letter").guesses[0].label.clone()
}

#[test]
fn all_choices_of_models_fit_together() {
    for palm in
        ["palm_detection_tuned.onnx", "palm_detection_lite.onnx", "palm_detection_full.onnx"]
    {
        for (landmarks, letters) in [
            ("hand_landmark_lite.onnx", "letters_lite.onnx"),
            ("hand_landmark_full.onnx", "letters_full.onnx"),
        ] {
            let pipeline = load(&Choice { palm, landmarks, letters }, None);
            let pipeline = pipeline.unwrap_or_else(|error| panic!("{palm}, {landmarks}: {error}"));
            assert_eq!(pipeline.version().name, "asl-letters");
            assert_eq!(letter(&pipeline), "V", "{palm}, {landmarks}");
        }
    }
}

#[test]
fn classifier_of_other_features_is_refused() {
    let error = message(load(&Choice { letters: "letters_lite.onnx", ..DEFAULT }, None));
    assert!(error.contains("[1, 1227]") && error.contains("[1, 747]"), "{error}");
}

#[test]
fn labels_that_do_not_fit_are_refused() {
    let error = message(load(&DEFAULT, Some("A\nB\n")));
    assert!(error.contains("2 labels") && error.contains("27 outputs"), "{error}");
    let twice = "A\n".repeat(27);
    let error = message(load(&DEFAULT, Some(&twice)));
    assert!(error.contains("\"A\" occurs twice"), "{error}");
}

#[test]
fn swapped_models_are_refused() {
    let palm_twice = Choice { landmarks: DEFAULT.palm, ..DEFAULT };
    let error = message(load(&palm_twice, None));
    assert!(error.contains(files::LANDMARKS) && error.contains("2016"), "{error}");
}

#[test]
fn missing_file_is_named() {
    let error = message(load(&Choice { letters: "none.onnx", ..DEFAULT }, None));
    assert!(error.starts_with("cannot read the model file letters.onnx: "), "{error}");
}

#[test]
fn broken_version_file_is_named() {
    let models = |name| std::fs::read(root().join("models").join(name));
    let pipeline = Pipeline::load(|name| match name {
        files::PALM => models(DEFAULT.palm),
        files::LANDMARKS => models(DEFAULT.landmarks),
        files::LETTERS => models(DEFAULT.letters),
        files::LABELS => models("letters.txt"),
        _ => Ok(b"{}".to_vec()),
    });
    let error = message(pipeline);
    assert!(error.starts_with("cannot read the model file model.json: "), "{error}");
}
