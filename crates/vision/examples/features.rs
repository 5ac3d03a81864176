//! Writes the feature table that the letter classifier is trained and judged on: `cargo xtask
//! features`.
//!
//! It runs the pipeline over folders of photos, on all cores, and writes two files:
//!
//! - `OUTPUT.csv`, one line a row: the photo, its label, what was found, and the row's index in
//! - `OUTPUT.f32`, the features ([`vision::letter::features`]) of all rows as little-endian `f32`. All
//!   rows have the same length.
//!
//! `models/README.md` ("Retrain") has the steps before and after.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Parser;
use vision::decode::{Photo, decode};
use vision::engine::{Model, ModelError, OnnxModel, Operators};
use vision::landmarks::{self, Hand, Handedness};
use vision::letter;
use vision::palm;
use vision::region::Region;
use vision::search::{Candidate, Search, Searcher};

/// Jittered passes at each hand that was found.
const JITTERS: usize = 4;
/// Regions without the hand, in each photo of a hand.
const BACKGROUNDS: usize = 2;

/// Writes the features of a folder of photos, which the letter classifier is trained on.
#[derive(Parser)]
#[command(bin_name = "cargo xtask features")]
struct Arguments {
    /// Folder with asl-letters, asl-hg, asl-digits and no-hand.
    #[arg(long, value_name = "FOLDER")]
    data: PathBuf,
    /// Files to write, without extension: OUTPUT.csv and OUTPUT.f32.
    #[arg(long, value_name = "OUTPUT")]
    output: PathBuf,
    /// Palm detection model.
    #[arg(long, default_value = "tuned", value_parser = ["tuned", "lite", "full"])]
    palm: String,
    /// Landmark model.
    #[arg(long, default_value = "full", value_parser = ["lite", "full"])]
    landmarks: String,
    /// Only photos of the sets whose name starts with this.
    #[arg(long, value_name = "SET", default_value = "")]
    only: String,
    /// Run the models with tract's operators in f32 instead of this project's.
    #[arg(long)]
    tract: bool,
    /// Only every N-th photo, beginning with the I-th: I/N.
    #[arg(long, value_name = "I/N", default_value = "0/1", value_parser = share)]
    share: (usize, usize),
}

/// Reads I/N.
fn share(text: &str) -> Result<(usize, usize), String> {
    let parts = text.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
    parts.filter(|(i, n)| i < n).ok_or_else(|| "expected I/N with I < N, such as 0/2".into())
}

/// A function that loads a model.
type Load = fn(&str, &[u8], Operators) -> Result<OnnxModel, ModelError>;

/// A photo of the data folder.
struct Source {
    path: PathBuf,
    name: String,
    set: &'static str,
    label: String,
    /// The source photo or the signer: rows of one group stay on one side of a split.
    group: String,
}

/// A row of the table.
struct Row {
    line: String,
    features: Vec<f32>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let load = |kind: &str, choice: &str, operators: Operators, load: Load| -> Result<OnnxModel> {
        let path = PathBuf::from(format!("models/{kind}_{choice}.onnx"));
        let bytes =
            std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let operators = if arguments.tract { Operators::Tract } else { operators };
        Ok(load(kind, &bytes, operators)?)
    };
    let palm_model = load("palm_detection", &arguments.palm, palm::OPERATORS, palm::load)?;
    let landmark_model =
        load("hand_landmark", &arguments.landmarks, landmarks::OPERATORS, OnnxModel::load_with)?;
    let (first, step) = arguments.share;
    let sources: Vec<Source> = sources(&arguments.data)?
        .into_iter()
        .filter(|source| source.set.starts_with(&arguments.only))
        .skip(first)
        .step_by(step)
        .collect();
    if sources.is_empty() {
        bail!("no photos of {:?} in {}", arguments.only, arguments.data.display());
    }

    let mut csv = BufWriter::new(File::create(arguments.output.with_extension("csv"))?);
    let mut values = BufWriter::new(File::create(arguments.output.with_extension("f32"))?);
    writeln!(
        csv,
        "set,photo,label,group,width,height,kind,attempt,palm_score,presence,right,left,top,\
         width,height,row"
    )?;
    let mut count = 0;
    for source in &sources {
        let photo = decode(&std::fs::read(&source.path)?, u64::MAX)
            .with_context(|| source.path.display().to_string())?
            .photo;
        let rows = rows(&palm_model, &landmark_model, source, &photo)
            .with_context(|| source.path.display().to_string())?;
        for Row { line, features } in rows {
            let Source { set, name, label, group, .. } = source;
            let (width, height) = (photo.width(), photo.height());
            writeln!(csv, "{set},{name},{label},{group},{width},{height},{line},{count}")?;
            for value in features {
                values.write_all(&value.to_le_bytes())?;
            }
            count += 1;
        }
    }
    csv.flush()?;
    values.flush()?;
    Ok(())
}

fn row(kind: &str, attempt: usize, palm_score: f32, hand: &Hand) -> Row {
    let right = match hand.handedness {
        Handedness::Right => hand.handedness_score,
        Handedness::Left => 1.0 - hand.handedness_score,
    };
    let side = |axis: usize| hand.landmarks.iter().map(move |point| point[axis]);
    let low = |axis| side(axis).fold(f32::INFINITY, f32::min);
    let high = |axis| side(axis).fold(f32::NEG_INFINITY, f32::max);
    Row {
        line: format!(
            "{kind},{attempt},{palm_score:.5},{:.5},{right:.5},{:.1},{:.1},{:.1},{:.1}",
            hand.presence,
            low(0),
            low(1),
            high(0) - low(0),
            high(1) - low(1),
        ),
        features: letter::features(hand),
    }
}

fn rows(
    palm_model: &dyn Model,
    landmark_model: &dyn Model,
    source: &Source,
    photo: &Photo,
) -> Result<Vec<Row>> {
    let mut random = Random::new(&source.name);
    let mut rows = Vec::new();
    let search = Search::default();
    let observer = &mut ();
    let mut searcher = Searcher::new(palm_model, landmark_model, photo, &search, observer);
    let mut candidates: Vec<(usize, Candidate)> = Vec::new();
    for (number, attempt) in search.attempts.iter().enumerate() {
        _ = searcher.attempt(attempt, &mut |candidate| {
            candidates.push((number, candidate));
            Ok(ControlFlow::Continue(()))
        })?;
        // Digits only show what a hand is: a clear look is enough.
        let clear = |(_, candidate): &(usize, Candidate)| candidate.hand.presence >= 0.98;
        if source.set == "asl-digits" && candidates.iter().any(clear) {
            break;
        }
    }
    for (attempt, Candidate { palm_score, hand }) in &candidates {
        rows.push(row("candidate", *attempt, *palm_score, hand));
    }
    let best = candidates
        .iter()
        .map(|(_, candidate)| candidate)
        .reduce(|best, next| if next.hand.presence > best.hand.presence { next } else { best });
    let Some(Candidate { palm_score, hand }) = best else { return Ok(rows) };
    if source.label == letter::NO_HAND || !source.label.starts_with(|c: char| c.is_alphabetic()) {
        return Ok(rows);
    }

    let pass = |photo: &Photo, region: &Region| landmarks::find(landmark_model, photo, region);
    // The hand's mirror image, too: left hands become right ones.
    let image = mirrored(photo);
    let turned = |region: &Region| Region {
        center: [photo.width() as f32 - region.center[0], region.center[1]],
        rotation: -region.rotation,
        ..*region
    };
    let closer = landmarks::region_of(&hand.landmarks);
    rows.push(row("refined", 0, *palm_score, &pass(photo, &closer)?));
    rows.push(row("refined mirrored", 0, *palm_score, &pass(&image, &turned(&closer))?));
    for i in 0..JITTERS {
        let base = if i % 2 == 0 { hand.region } else { closer };
        let region = Region {
            center: [
                base.center[0] + random.spread(0.06) * base.size,
                base.center[1] + random.spread(0.06) * base.size,
            ],
            size: base.size * random.spread(0.15).exp(),
            rotation: base.rotation + random.spread(0.25),
        };
        let (contrast, brightness) = (random.spread(0.35).exp(), random.spread(25.0));
        rows.push(if i < JITTERS / 2 {
            let shaded = shade(photo, contrast, brightness);
            row("jitter", 0, *palm_score, &pass(&shaded, &region)?)
        } else {
            let shaded = shade(&image, contrast, brightness);
            row("jitter mirrored", 0, *palm_score, &pass(&shaded, &turned(&region))?)
        });
    }
    for _ in 0..BACKGROUNDS {
        let region = Region {
            center: [
                photo.width() as f32 * (0.5 + random.spread(0.5)),
                photo.height() as f32 * (0.5 + random.spread(0.5)),
            ],
            size: closer.size * (0.6 + 0.4 * random.spread(1.0)),
            rotation: random.spread(std::f32::consts::PI),
        };
        let away = (region.center[0] - closer.center[0]).hypot(region.center[1] - closer.center[1]);
        if away > 0.5 * (region.size + closer.size) {
            rows.push(row("background", 0, 0.0, &pass(photo, &region)?));
        }
    }
    Ok(rows)
}

/// Returns the photo with another contrast (around mid-grey) and brightness.
fn shade(photo: &Photo, contrast: f32, brightness: f32) -> Photo {
    let table: Vec<u8> =
        (0..256).map(|v| ((v as f32 - 128.0) * contrast + 128.0 + brightness) as u8).collect();
    let pixels = photo.pixels().iter().map(|value| table[usize::from(*value)]).collect();
    Photo::from_rgb(photo.width(), photo.height(), pixels).expect("the same size")
}

/// Returns the photo's mirror image.
fn mirrored(photo: &Photo) -> Photo {
    let row = |row: &[u8]| row.chunks(3).rev().flatten().copied().collect::<Vec<u8>>();
    let pixels = photo.pixels().chunks(3 * photo.width()).flat_map(row).collect();
    Photo::from_rgb(photo.width(), photo.height(), pixels).expect("the same size")
}

/// SplitMix64, seeded by the photo's name: the same rows in every run.
///
/// Not a crate's generator: another one would draw other rows than those of `models/training`.
struct Random(u64);

impl Random {
    fn new(name: &str) -> Random {
        // FNV-1a.
        Random(name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        }))
    }

    /// Returns a value from the uniform distribution between `-max` and `max`.
    fn spread(&mut self, max: f32) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let unit = ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 24) as f32;
        (2.0 * unit - 1.0) * max
    }
}

/// Lists all photos of the data folder, in a fixed order. Sets that are not there are left out.
fn sources(data: &Path) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    if let Ok(table) = std::fs::read_to_string(data.join("asl-letters/train.csv")) {
        for line in table.lines().skip(1) {
            let mut cells = line.split(',');
            if let (Some(name), Some(label), Some(group)) =
                (cells.next(), cells.next(), cells.next())
            {
                sources.push(Source {
                    path: data.join("asl-letters/train").join(name),
                    name: name.into(),
                    set: "asl-letters",
                    label: label.into(),
                    group: group.into(),
                });
            }
        }
    }
    let in_folders = ["asl-hg", "asl-digits", "asl-plain", "asl-webcam", "asl-crops"];
    for set in in_folders {
        for label in folder(&data.join(set)) {
            for path in folder(&label) {
                let (name, label) = (file_name(&path), file_name(&label));
                let parts: Vec<&str> = name.split('_').collect();
                let group = match (set, parts.as_slice()) {
                    // P5 and P6 share photos.
                    ("asl-hg", ["P5" | "P6", ..]) => "P56".into(),
                    ("asl-hg", [signer, ..]) | ("asl-crops", [_, signer, ..]) => signer.to_string(),
                    ("asl-digits", _) => name.clone(),
                    _ => set.into(),
                };
                let label = if label == "NOTHING" { letter::NO_HAND.into() } else { label };
                sources.push(Source { path, group, name, set, label });
            }
        }
    }
    for path in folder(&data.join("no-hand")) {
        let name = file_name(&path);
        let group = name.rsplit_once('-').map_or(name.clone(), |(class, _)| class.to_owned());
        sources.push(Source { path, group, name, set: "no-hand", label: letter::NO_HAND.into() });
    }
    // Hands that show no letter.
    for path in folder(&data.join("hands-in-scenes")) {
        if path.extension().is_some_and(|extension| extension == "jpg") {
            let name = file_name(&path);
            let (set, label) = ("hands-in-scenes", String::new());
            sources.push(Source { path, group: name.clone(), name, set, label });
        }
    }
    Ok(sources)
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Lists a folder in order; nothing if it is not there.
fn folder(path: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(path)
        .map(|entries| entries.filter_map(|entry| Some(entry.ok()?.path())).collect())
        .unwrap_or_default();
    paths.sort();
    paths
}
