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
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, bail};
use clap::{Parser, ValueEnum};
use vision::decode::{Photo, decode};
use vision::engine::{Model, ModelError, OnnxModel, Operators};
use vision::landmarks::{self, Hand, Handedness};
use vision::letter;
use vision::palm;
use vision::region::Region;
use vision::search::{self, Candidate, Passes, Search};

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
    #[arg(long, value_enum, default_value_t = Size::Lite)]
    palm: Size,
    /// Landmark model.
    #[arg(long, value_enum, default_value_t = Size::Full)]
    landmarks: Size,
    /// Only photos of the sets whose name starts with this.
    #[arg(long, value_name = "SET", default_value = "")]
    only: String,
    /// Run the models with tract's operators in f32 instead of this project's.
    #[arg(long)]
    tract: bool,
    /// Write only the hand that the service itself finds, without jittered passes.
    #[arg(long)]
    found: bool,
}

/// MediaPipe's two sizes of each model.
#[derive(Clone, Copy, ValueEnum)]
enum Size {
    Lite,
    Full,
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
    let load = |kind: &str, size: Size, operators: Operators, load: Load| -> Result<OnnxModel> {
        let size = match size {
            Size::Lite => "lite",
            Size::Full => "full",
        };
        let path = PathBuf::from(format!("models/{kind}_{size}.onnx"));
        let bytes =
            std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let operators = if arguments.tract { Operators::Tract } else { operators };
        Ok(load(kind, &bytes, operators)?)
    };
    let palm_model = load("palm_detection", arguments.palm, palm::OPERATORS, palm::load)?;
    let landmark_model =
        load("hand_landmark", arguments.landmarks, landmarks::OPERATORS, OnnxModel::load_with)?;
    let sources: Vec<Source> = sources(&arguments.data)?
        .into_iter()
        .filter(|source| source.set.starts_with(&arguments.only))
        .collect();
    if sources.is_empty() {
        bail!("no photos of {:?} in {}", arguments.only, arguments.data.display());
    }

    let mut csv = BufWriter::new(File::create(arguments.output.with_extension("csv"))?);
    let features = BufWriter::new(File::create(arguments.output.with_extension("f32"))?);
    writeln!(
        csv,
        "set,photo,label,group,kind,palm_score,presence,right,mirrored,palm_passes,landmark_passes,row"
    )?;
    let out = Mutex::new((csv, features, 0usize));
    let next = AtomicUsize::new(0);
    let failure = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(source) = sources.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let done = rows(&palm_model, &landmark_model, source, arguments.found)
                        .with_context(|| source.path.display().to_string())
                        .and_then(|rows| {
                            write_rows(&mut out.lock().expect("no panic"), source, rows)
                        });
                    if let Err(error) = done {
                        failure.lock().expect("no panic").get_or_insert(error);
                        return;
                    }
                }
            });
        }
    });
    match failure.into_inner().expect("no panic") {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

type Output = (BufWriter<File>, BufWriter<File>, usize);

fn write_rows((csv, values, count): &mut Output, source: &Source, rows: Vec<Row>) -> Result<()> {
    for Row { line, features } in rows {
        let index = if features.is_empty() { String::new() } else { count.to_string() };
        let Source { set, name, label, group, .. } = source;
        writeln!(csv, "{set},{name},{label},{group},{line},{index}")?;
        if !features.is_empty() {
            for value in features {
                values.write_all(&value.to_le_bytes())?;
            }
            *count += 1;
        }
    }
    Ok(())
}

fn row(kind: &str, palm_score: f32, passes: Passes, hand: &Hand) -> Row {
    let right = if hand.handedness == Handedness::Right {
        hand.handedness_score
    } else {
        1.0 - hand.handedness_score
    };
    Row {
        line: format!(
            "{kind},{palm_score:.5},{:.5},{right:.5},{},{},{}",
            hand.presence,
            u8::from(hand.mirrored),
            passes.palm,
            passes.landmarks
        ),
        features: letter::features(hand),
    }
}

fn rows(
    palm_model: &dyn Model,
    landmark_model: &dyn Model,
    source: &Source,
    only_found: bool,
) -> Result<Vec<Row>> {
    let photo = decode(&std::fs::read(&source.path)?, u64::MAX)?.photo;
    let mut random = Random::new(&source.name);
    let mut rows = Vec::new();
    let search = Search { min_presence: 0.0, ..Search::default() };
    if source.set == "no-hand" {
        // Every candidate that the service could take for a hand.
        let mut candidates = Vec::new();
        let visit = |candidate| {
            candidates.push(candidate);
            ControlFlow::Continue(())
        };
        let passes = search::for_each_candidate(
            palm_model,
            landmark_model,
            &photo,
            &search,
            &mut (),
            visit,
        )?;
        for Candidate { palm_score, hand } in candidates {
            let hand = match hand.handedness {
                Handedness::Left => search::refine(landmark_model, &photo, hand, &mut ())?,
                Handedness::Right => hand,
            };
            rows.push(row("candidate", palm_score, passes, &hand));
        }
        return Ok(rows);
    }

    let found = search::find(palm_model, landmark_model, &photo, &search, &mut ())?;
    let Some(hand) = found.hand else {
        rows.push(Row {
            line: format!(
                "missed,{:.5},0,0,0,{},{}",
                found.palm_score, found.passes.palm, found.passes.landmarks
            ),
            features: Vec::new(),
        });
        return Ok(rows);
    };
    let passes = found.passes;
    rows.push(row("found", found.palm_score, passes, &hand));
    if only_found || source.set == "asl-digits" {
        // Digits only show what a hand is: one pass each is enough.
        return Ok(rows);
    }

    let pass = |photo: &Photo, region: &Region| {
        landmarks::find(landmark_model, photo, region, hand.mirrored)
    };
    let closer = landmarks::region_of(&hand.landmarks);
    rows.push(row("refined", found.palm_score, passes, &pass(&photo, &closer)?));
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
        let shaded = shade(&photo, random.spread(0.35).exp(), random.spread(25.0));
        rows.push(row("jitter", found.palm_score, passes, &pass(&shaded, &region)?));
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
            let nothing = landmarks::find(landmark_model, &photo, &region, false)?;
            rows.push(row("background", 0.0, Passes { palm: 0, landmarks: 1 }, &nothing));
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

/// Lists all photos of the data folder, in a fixed order.
fn sources(data: &Path) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    let table = data.join("asl-letters/train.csv");
    let table = std::fs::read_to_string(&table)
        .with_context(|| format!("cannot read {}", table.display()))?;
    for line in table.lines().skip(1) {
        let mut cells = line.split(',');
        if let (Some(name), Some(label), Some(group)) = (cells.next(), cells.next(), cells.next()) {
            sources.push(Source {
                path: data.join("asl-letters/train").join(name),
                name: name.into(),
                set: "asl-letters",
                label: label.into(),
                group: group.into(),
            });
        }
    }
    for label in folder(&data.join("asl-hg"))? {
        for path in folder(&label)? {
            let name = file_name(&path);
            // P5 and P6 share photos.
            let group = match name.split('_').next().unwrap_or_default() {
                "P5" | "P6" => "P56".into(),
                signer => signer.to_owned(),
            };
            let label = file_name(&label);
            sources.push(Source { path, name, set: "asl-hg", label, group });
        }
    }
    for label in folder(&data.join("asl-digits"))? {
        for path in folder(&label)? {
            let (name, label) = (file_name(&path), file_name(&label));
            sources.push(Source { path, group: name.clone(), name, set: "asl-digits", label });
        }
    }
    for path in folder(&data.join("no-hand"))? {
        let name = file_name(&path);
        let group = name.rsplit_once('-').map_or(name.clone(), |(class, _)| class.to_owned());
        sources.push(Source { path, group, name, set: "no-hand", label: letter::NO_HAND.into() });
    }
    Ok(sources)
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn folder(path: &Path) -> Result<Vec<PathBuf>> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(path)
        .with_context(|| format!("cannot read {}", path.display()))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    paths.sort();
    Ok(paths)
}
