//! Media types of a photo in a request. They follow from the formats that can be decoded.

use vision::decode::Format;

/// The media type of a form.
pub const FORM: &str = "multipart/form-data";

/// Returns the media types of `POST /predict`'s body: one for each format, then that of a form.
pub fn accepted() -> [&'static str; Format::ALL.len() + 1] {
    let mut types = [FORM; Format::ALL.len() + 1];
    types
        .iter_mut()
        .zip(Format::ALL)
        .for_each(|(media_type, format)| *media_type = format.media_type());
    types
}

/// Returns words as people list them: `a, b or c`.
pub fn list<const N: usize>(words: [&str; N]) -> String {
    match words.split_last() {
        Some((last, [])) => (*last).to_owned(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => String::new(),
    }
}
