//! `cargo xtask features --data FOLDER --output NAME [--palm lite|full] [--landmarks lite|full]
//! [--only SET] [--tract] [--found]`: what the pipeline sees of a folder of photos, as the numbers that the
//! letter classifier is trained and judged on.
//!
//! Writes two files: `NAME.csv`, a line for each row, and `NAME.f32`, the rows' numbers
//! (little-endian `f32`, all rows of the same length): the classifier's input
//! ([`vision::letter::features`]).

use std::fs::File;
use std::io::{BufWriter, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, bail};
use vision::decode::{Photo, decode};
use vision::engine::{Model, ModelError, OnnxModel, Operators};
use vision::search::{self, Candidate, Passes, Search};
use vision::landmarks::{self, Hand, Handedness};
use vision::letter;
use vision::palm;
use vision::region::Region;

/// How many jittered looks at each hand that was found.
const JITTERS: usize = 4;
/// How many places without the hand are looked at in each photo of a hand.
const BACKGROUNDS: usize = 2;

/// How a model is read.
type Read = fn(&str, &[u8], Operators) -> Result<OnnxModel, ModelError>;

/// One photo of the data folder.
struct Source {
    path: PathBuf,
    name: String,
    set: &'static str,
    label: String,
    /// What must stay on one side of a split: the source photo or the signer.
    group: String,
}

/// One row of the table.
struct Row {
    line: String,
    numbers: Vec<f32>,
}

/// The arguments of `cargo xtask features`.
pub struct Arguments {
    /// The folder with `asl-letters`, `asl-hg`, `asl-digits` and `no-hand`.
    pub data: PathBuf,
    /// Where to write, without an extension.
    pub output: PathBuf,
    /// `full` or `lite`.
    pub landmark: String,
    /// `full` or `lite`.
    pub palm: String,
    /// Only photos whose set starts with this.
    pub only: String,
    /// Whether tract's operators run the models, in the place of this project's.
    pub tract: bool,
    /// Whether to write what the service itself looks at only, without jittered looks.
    pub found: bool,
}

fn main() -> Result<()> {
    use lexopt::prelude::*;
    let mut parser = lexopt::Parser::from_env();
    let (mut data, mut output) = (None, None);
    let (mut palm, mut landmark, mut only) = ("lite".to_owned(), "full".to_owned(), String::new());
    let (mut tract, mut found) = (false, false);
    while let Some(option) = parser.next()? {
        match option {
            Long("data") => data = Some(parser.value()?.into()),
            Long("output") => output = Some(parser.value()?.into()),
            Long("palm") => palm = parser.value()?.string()?,
            Long("landmarks") => landmark = parser.value()?.string()?,
            Long("only") => only = parser.value()?.string()?,
            Long("tract") => tract = true,
            Long("found") => found = true,
            other => return Err(other.unexpected().into()),
        }
    }
    run(&Arguments {
        data: data.context("--data is missing: the folder with the photos")?,
        output: output.context("--output is missing: where to write, without an extension")?,
        palm,
        landmark,
        only,
        tract,
        found,
    })
}

/// Runs the pipeline over all photos, on all cores.
///
/// # Errors
/// Files that can't be read or written, and models that can't be loaded.
fn run(arguments: &Arguments) -> Result<()> {
    let load = |kind: &str, size: &str, operators: Operators, read: Read| -> Result<OnnxModel> {
        let path = PathBuf::from(format!("models/{kind}_{size}.onnx"));
        let bytes = std::fs::read(&path).with_context(|| format!("{}", path.display()))?;
        let operators = if arguments.tract { Operators::Tract } else { operators };
        Ok(read(kind, &bytes, operators)?)
    };
    let palm_model = load("palm_detection", &arguments.palm, palm::OPERATORS, palm::load)?;
    let landmark_model =
        load("hand_landmark", &arguments.landmark, landmarks::OPERATORS, OnnxModel::load_with)?;
    let sources: Vec<Source> = sources(&arguments.data)?
        .into_iter()
        .filter(|source| source.set.starts_with(&arguments.only))
        .collect();
    if sources.is_empty() {
        bail!("no photos below {}", arguments.data.display());
    }

    let mut csv = BufWriter::new(File::create(arguments.output.with_extension("csv"))?);
    let numbers = BufWriter::new(File::create(arguments.output.with_extension("f32"))?);
    writeln!(
        csv,
        "set,photo,label,group,kind,palm_score,presence,right,mirrored,palm_passes,landmark_passes,row"
    )?;
    let out = Mutex::new((csv, numbers, 0usize));
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

fn write_rows((csv, numbers, count): &mut Output, source: &Source, rows: Vec<Row>) -> Result<()> {
    for Row { line, numbers: row } in rows {
        let at = if row.is_empty() { String::new() } else { count.to_string() };
        let Source { set, name, label, group, .. } = source;
        writeln!(csv, "{set},{name},{label},{group},{line},{at}")?;
        if !row.is_empty() {
            for number in row {
                numbers.write_all(&number.to_le_bytes())?;
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
        numbers: letter::features(hand),
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
    let settings = Search { min_presence: 0.0, ..Search::default() };
    if source.set == "no-hand" {
        // Everything that the service could take for a hand.
        let mut candidates = Vec::new();
        let visit = |candidate| {
            candidates.push(candidate);
            ControlFlow::Continue(())
        };
        let passes = search::for_each_candidate(
            palm_model,
            landmark_model,
            &photo,
            &settings,
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

    let found = search::find(palm_model, landmark_model, &photo, &settings, &mut ())?;
    let Some(hand) = found.hand else {
        rows.push(Row {
            line: format!(
                "missed,{:.5},0,0,0,{},{}",
                found.palm_score, found.passes.palm, found.passes.landmarks
            ),
            numbers: Vec::new(),
        });
        return Ok(rows);
    };
    let passes = found.passes;
    rows.push(row("found", found.palm_score, passes, &hand));
    if only_found || source.set == "asl-digits" {
        // The digits only say what is a hand: one look each is enough.
        return Ok(rows);
    }

    let look = |photo: &Photo, region: &Region| {
        landmarks::find(landmark_model, photo, region, hand.mirrored)
    };
    let better = landmarks::region_of(&hand.landmarks);
    rows.push(row("refined", found.palm_score, passes, &look(&photo, &better)?));
    for i in 0..JITTERS {
        let base = if i % 2 == 0 { hand.region } else { better };
        let region = Region {
            center: [
                base.center[0] + random.spread(0.06) * base.size,
                base.center[1] + random.spread(0.06) * base.size,
            ],
            size: base.size * random.spread(0.15).exp(),
            rotation: base.rotation + random.spread(0.25),
        };
        let shaded = shade(&photo, random.spread(0.35).exp(), random.spread(25.0));
        rows.push(row("jitter", found.palm_score, passes, &look(&shaded, &region)?));
    }
    for _ in 0..BACKGROUNDS {
        let region = Region {
            center: [
                photo.width() as f32 * (0.5 + random.spread(0.5)),
                photo.height() as f32 * (0.5 + random.spread(0.5)),
            ],
            size: better.size * (0.6 + 0.4 * random.spread(1.0)),
            rotation: random.spread(std::f32::consts::PI),
        };
        let away = (region.center[0] - better.center[0]).hypot(region.center[1] - better.center[1]);
        if away > 0.5 * (region.size + better.size) {
            let nothing = landmarks::find(landmark_model, &photo, &region, false)?;
            rows.push(row("background", 0.0, Passes { palm: 0, landmarks: 1 }, &nothing));
        }
    }
    Ok(rows)
}

/// The photo with another contrast (around mid-grey) and brightness.
fn shade(photo: &Photo, gain: f32, offset: f32) -> Photo {
    let table: Vec<u8> =
        (0..256).map(|v| ((v as f32 - 128.0) * gain + 128.0 + offset) as u8).collect();
    let pixels = photo.pixels().iter().map(|value| table[usize::from(*value)]).collect();
    Photo::from_rgb(photo.width(), photo.height(), pixels).expect("the same size")
}

/// SplitMix64, seeded by the photo's name: the same rows in every run.
struct Random(u64);

impl Random {
    fn new(name: &str) -> Random {
        // FNV-1a.
        Random(name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        }))
    }

    /// Evenly spread between `-most` and `most`.
    fn spread(&mut self, most: f32) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let unit = ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 24) as f32;
        (2.0 * unit - 1.0) * most
    }
}

/// All photos of the data folder, in a fixed order.
fn sources(data: &Path) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    let table = data.join("asl-letters/train.csv");
    let table = std::fs::read_to_string(&table).with_context(|| table.display().to_string())?;
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
        .with_context(|| path.display().to_string())?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    paths.sort();
    Ok(paths)
}
