//! The checks that `POST /spell` and `POST /feedback` share: of JSON that brings a hand back.

use vision::landmarks::LANDMARKS;

/// Largest absolute value of a coordinate. A landmark may lie outside of its photo, but not far.
const MAX_COORDINATE: f32 = 10.0;
/// Largest ratio of width to height, and of height to width.
const MAX_ASPECT: f32 = 20.0;
/// Longest part of a reason, or of a client's text, that a problem repeats, in characters.
pub const MAX_REPEATED: usize = 200;

/// Parses JSON.
///
/// # Errors
/// The error that `shape` makes of the reason for JSON of another shape, `syntax` for any other text.
pub fn parse<'a, T: serde::Deserialize<'a>, E>(
    body: &'a [u8],
    shape: impl FnOnce(String) -> E,
    syntax: impl FnOnce(String) -> E,
) -> Result<T, E> {
    serde_json::from_slice(body).map_err(|error| {
        let reason = cut(&error.to_string());
        match error.classify() {
            serde_json::error::Category::Data => shape(reason),
            _ => syntax(reason),
        }
    })
}

/// Returns a text for a problem: cut if it is long.
pub fn cut(text: &str) -> String {
    text.chars().take(MAX_REPEATED).collect()
}

/// True for landmarks that lie in a photo, or not far outside of it.
pub fn are_near(landmarks: &[[f32; 3]; LANDMARKS]) -> bool {
    landmarks.as_flattened().iter().all(|value| value.abs() <= MAX_COORDINATE)
}

/// True for a ratio of width to height that photos have.
pub fn is_aspect(aspect: f32) -> bool {
    (1.0 / MAX_ASPECT..=MAX_ASPECT).contains(&aspect)
}
