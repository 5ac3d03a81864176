//! `cargo xtask bench`: all figures in one run, side by side, with their ratios.

mod process;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use host::{Collector, Limits, LogSink, Manifest, Options, Server};
use serde_json::{Map, Value, json};

use self::process::Process;
use crate::build::Models;
use crate::{build, root};

/// The photo that is sent: 416 × 416 or a little less.
const PHOTO: &str = "tests/photos/v.jpg";
/// How often one thing is timed, after some requests that are not.
const RUNS: usize = 40;
const WARM_UP: usize = 5;
/// How long each load lasts, and in how many turns: servers that are compared take turns.
const LOAD: Duration = Duration::from_secs(8);
const TURNS: u32 = 8;

/// What to measure.
pub struct Arguments {
    pub models: Models,
    /// Other servers, whose `/predict` takes the same photo.
    pub against: Vec<Against>,
    /// Where to write all figures as JSON.
    pub json: Option<PathBuf>,
}

/// Another server.
pub enum Against {
    /// One that runs, with its address.
    Url(String),
    /// One that is started by a shell's command, in which `{port}` is where it shall listen on
    /// 127.0.0.1.
    Command(String),
}

/// The figures by name.
struct Report(Map<String, Value>);

impl Report {
    fn add(&mut self, name: &str, value: Value, line: String) {
        println!("{name:<44} {line}");
        self.0.insert(name.to_owned(), value);
    }

    fn ratio(&mut self, name: &str, part: f64, whole: f64, unit: &str) {
        let ratio = part / whole;
        self.add(
            name,
            json!({"value": part, "against": whole, "unit": unit, "ratio": ratio}),
            format!("{part:8.2} {unit} against {whole:8.2} {unit}: ratio {ratio:.3}"),
        );
    }
}

/// Measures everything and prints a table.
pub fn run(arguments: &Arguments) -> Result<()> {
    let component = build::run(&arguments.models)?;
    let photo = std::fs::read(root().join(PHOTO)).context(PHOTO)?;
    let mut report = Report(Map::new());
    println!();
    let size = std::fs::metadata(&component)?.len() as f64 / 1e6;
    report.add("component size", json!(size), format!("{size:8.1} MB"));

    instances(&mut report, &photo)?;
    stages(&mut report, &photo)?;
    let large_photo = phone_photo(&photo)?;
    large(&mut report, &photo, &large_photo)?;
    tracing(&mut report, &photo)?;
    load(&mut report, arguments, &photo, &large_photo)?;

    if let Some(path) = &arguments.json {
        std::fs::write(path, serde_json::to_vec_pretty(&report.0)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// A server in this process, with the limits given, without tracing.
fn serve(runtime: &tokio::runtime::Runtime, limits: Limits) -> Result<Server> {
    serve_with(runtime, limits, &[])
}

/// A server in this process, with the limits and variables given.
fn serve_with(
    runtime: &tokio::runtime::Runtime,
    limits: Limits,
    variables: &[(String, String)],
) -> Result<Server> {
    let manifest = Manifest::read(&root().join("spin.toml"))?;
    let none = |_: &str| Err(std::env::VarError::NotPresent);
    let mut options = Options::from_manifest(&manifest, variables, none)?;
    options.limits = limits;
    options.log = LogSink::new(|line| {
        if !line.text.starts_with("info: ") {
            eprintln!("{line}");
        }
    });
    runtime.block_on(Server::start(options))
}

/// A collector that takes every span, and the variables that send spans there.
fn collector() -> Result<(Collector, Vec<(String, String)>)> {
    let collector = Collector::start(([127, 0, 0, 1], 0).into(), |_| {})?;
    let names = ["otel_exporter_otlp_endpoint", "collector_allowed_host"];
    let variables = names.map(|name| (name.to_owned(), collector.endpoint()));
    Ok((collector, variables.to_vec()))
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?)
}

/// One request; its duration in milliseconds and the `Server-Timing` header.
fn predict(agent: &ureq::Agent, url: &str, photo: &[u8]) -> Result<(f64, String)> {
    let start = Instant::now();
    let mut response = agent
        .post(format!("{url}/predict"))
        .header("content-type", "image/jpeg")
        .send(photo)
        .with_context(|| format!("POST {url}/predict"))?;
    response.body_mut().read_to_vec()?;
    let time = start.elapsed().as_secs_f64() * 1000.0;
    let timing = response.headers().get("server-timing");
    Ok((time, timing.and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()))
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(60))).build().into()
}

/// Durations of sequential requests, sorted, in milliseconds.
fn sequential(url: &str, photo: &[u8], runs: usize) -> Result<Vec<f64>> {
    let agent = agent();
    for _ in 0..WARM_UP {
        predict(&agent, url, photo)?;
    }
    let mut times = Vec::new();
    for _ in 0..runs {
        times.push(predict(&agent, url, photo)?.0);
    }
    times.sort_by(f64::total_cmp);
    Ok(times)
}

fn quantile(sorted: &[f64], part: f64) -> f64 {
    sorted.get(((sorted.len() as f64 - 1.0) * part).round() as usize).copied().unwrap_or(f64::NAN)
}

/// A new instance's first prediction against a warm one's.
fn instances(report: &mut Report, photo: &[u8]) -> Result<()> {
    let runtime = runtime()?;
    let once = serve(&runtime, Limits { requests_per_instance: 1, ..Limits::default() })?;
    let often = serve(&runtime, Limits::default())?;
    // Turn by turn, so that what the machine does otherwise meets both.
    let agent = agent();
    let (mut first, mut warm, mut faults) = (Vec::new(), Vec::new(), Vec::new());
    for i in 0..WARM_UP + RUNS {
        let before = page_faults();
        let time = predict(&agent, &once.url(), photo)?.0;
        let after = page_faults();
        let warm_time = predict(&agent, &often.url(), photo)?.0;
        if i >= WARM_UP {
            first.push(time);
            warm.push(warm_time);
            faults.extend(before.zip(after).map(|(before, after)| (after - before) as f64));
        }
    }
    if (once.instances_started() as usize) < WARM_UP + RUNS {
        bail!("instances were used more than once");
    }
    first.sort_by(f64::total_cmp);
    warm.sort_by(f64::total_cmp);
    let (first, warm) = (quantile(&first, 0.5), quantile(&warm, 0.5));
    report.ratio("first prediction of an instance / warm", first, warm, "ms");
    if !faults.is_empty() {
        faults.sort_by(f64::total_cmp);
        let faults = quantile(&faults, 0.5);
        report.add("first prediction, page faults", json!(faults), format!("{faults:8.0}"));
    }
    runtime.block_on(async {
        _ = once.stop().await;
        _ = often.stop().await;
    });
    Ok(())
}

/// How many pages of memory this process has had to ask for, where the system tells.
fn page_faults() -> Option<u64> {
    // proc(5): the tenth field; the second one ends with the last bracket.
    let fields = std::fs::read_to_string("/proc/self/stat").ok()?;
    fields.rsplit_once(')')?.1.split_whitespace().nth(7)?.parse().ok()
}

/// Each stage of a prediction, by the response's `Server-Timing`.
fn stages(report: &mut Report, photo: &[u8]) -> Result<()> {
    let runtime = runtime()?;
    let server = serve(&runtime, Limits::default())?;
    let agent = agent();
    let mut stages: Vec<(String, Vec<f64>)> = Vec::new();
    for i in 0..WARM_UP + RUNS {
        let (_, timing) = predict(&agent, &server.url(), photo)?;
        if i < WARM_UP {
            continue;
        }
        for (stage, entry) in timing.split(", ").enumerate() {
            let (name, time) = entry.split_once(";dur=").context("no Server-Timing")?;
            if stages.len() <= stage {
                stages.push((name.to_owned(), Vec::new()));
            }
            stages[stage].1.push(time.parse()?);
        }
    }
    let mut sum = 0.0;
    for (name, mut times) in stages {
        times.sort_by(f64::total_cmp);
        let time = quantile(&times, 0.5);
        report.add(&name, json!(time), format!("{time:8.2} ms"));
        sum += time;
    }
    report.add("all stages", json!(sum), format!("{sum:8.2} ms"));
    runtime.block_on(async { _ = server.stop().await });
    Ok(())
}

/// A 12-megapixel photo as phones make it, 4032 × 3024 with EXIF orientation 6, from a sample.
pub fn phone_photo(sample: &[u8]) -> Result<Vec<u8>> {
    let mut small = jpeg_decoder::Decoder::new(sample);
    let small_pixels = small.decode()?;
    let small = small.info().context("a JPEG")?;
    let (small_width, small_height) = (usize::from(small.width), usize::from(small.height));
    let (width, height) = (4032usize, 3024usize);
    let mut pixels = Vec::with_capacity(width * height * 3);
    for y in 0..height {
        for x in 0..width {
            // The upright photo's right is what the sensor has at its top.
            let (u, v) = (1.0 - y as f32 / height as f32, x as f32 / width as f32);
            let at = |part: f32, side: usize| ((part * side as f32) as usize).min(side - 1);
            let i = (at(v, small_height) * small_width + at(u, small_width)) * 3;
            pixels.extend_from_slice(&small_pixels[i..i + 3]);
        }
    }
    let mut jpeg = Vec::new();
    let mut encoder = jpeg_encoder::Encoder::new(&mut jpeg, 90);
    encoder.set_sampling_factor(jpeg_encoder::SamplingFactor::F_2_2);
    encoder.add_app_segment(
        1,
        b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0".to_vec(),
    )?;
    encoder.encode(&pixels, width as u16, height as u16, jpeg_encoder::ColorType::Rgb)?;
    Ok(jpeg)
}

/// The 12-megapixel photo against the small one.
fn large(report: &mut Report, photo: &[u8], large: &[u8]) -> Result<()> {
    let runtime = runtime()?;
    let server = serve(&runtime, Limits::default())?;
    let small = quantile(&sequential(&server.url(), photo, 10)?, 0.5);
    let times = sequential(&server.url(), large, 10)?;
    report.ratio("12-megapixel photo / small one, p50", quantile(&times, 0.5), small, "ms");
    let (_, timing) = predict(&agent(), &server.url(), large)?;
    report.add("12-megapixel photo by stage", json!(timing), timing.clone());
    runtime.block_on(async { _ = server.stop().await });
    Ok(())
}

/// What tracing costs the caller: on, with one request of ten sampled, and off.
fn tracing(report: &mut Report, photo: &[u8]) -> Result<()> {
    let runtime = runtime()?;
    let (collector, on) = collector()?;
    let mut tenth = on.clone();
    tenth.push(("otel_traces_sampler".into(), "parentbased_traceidratio".into()));
    tenth.push(("otel_traces_sampler_arg".into(), "0.1".into()));
    let mut servers = Vec::new();
    for variables in [&[][..], &tenth, &on] {
        servers.push(serve_with(&runtime, Limits::default(), variables)?);
    }
    // Turn by turn, so that what the machine does otherwise meets all of them.
    let agent = agent();
    let mut times: [Vec<f64>; 3] = Default::default();
    for i in 0..WARM_UP + 3 * RUNS {
        for (server, times) in servers.iter().zip(&mut times) {
            let (time, _) = predict(&agent, &server.url(), photo)?;
            if i >= WARM_UP {
                times.push(time);
            }
        }
    }
    let p50 = times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        quantile(&times, 0.5)
    });
    let mut rates = Vec::new();
    for server in &servers {
        rates.push(at_connections(&server.url(), photo, 2, LOAD)?.rate());
    }
    for (row, name) in [(2, "on"), (1, "sampled at 10 %")] {
        report.ratio(&format!("tracing {name} / off, p50"), p50[row], p50[0], "ms");
        let name = format!("tracing {name} / off, 2 connections");
        report.ratio(&name, rates[row], rates[0], "/s");
    }
    let (spans, posts) = (collector.spans().len(), collector.requests());
    report.add(
        "spans in posts to the collector",
        json!({"spans": spans, "posts": posts}),
        format!("{spans} in {posts}"),
    );
    runtime.block_on(async {
        for server in servers {
            _ = server.stop().await;
        }
    });
    Ok(())
}

/// The component in a process of its own, and others beside it: start, load, memory, a large photo.
fn load(report: &mut Report, arguments: &Arguments, photo: &[u8], large: &[u8]) -> Result<()> {
    // With tracing on, as it runs in production.
    let (collector, variables) = collector()?;
    let component = || Process::component(&variables);
    let mut servers = vec![Served::start("ours".into(), photo, component)?];
    for (against, number) in arguments.against.iter().zip(1..) {
        let name = format!("theirs {number}");
        servers.push(match against {
            Against::Url(url) => {
                println!("{name:<44} {url}");
                Served { name, url: url.clone(), process: None, figures: Vec::new() }
            }
            Against::Command(command) => {
                println!("{name:<44} {command}");
                let process = || Process::command(command, &collector.endpoint());
                Served::start(name, photo, process)?
            }
        });
    }
    // Turn by turn, so that what the machine does otherwise meets all of them.
    for connections in [1, 2, 4, 8] {
        let mut loads: Vec<Load> = servers.iter().map(|_| Load::default()).collect();
        for _ in 0..TURNS {
            for (server, load) in servers.iter().zip(&mut loads) {
                load.add(server.load(photo, connections)?);
            }
        }
        for (server, load) in servers.iter_mut().zip(loads) {
            server.report(report, connections, load);
        }
    }
    for server in &mut servers {
        let p50 = quantile(&sequential(&server.url, large, 10)?, 0.5);
        server.figures.push(("12-megapixel photo, p50".into(), "ms", p50));
    }
    let ours = servers.swap_remove(0);
    for (name, unit, value) in &ours.figures {
        report.add(name, json!(value), format!("{value:8.1} {unit}"));
        for theirs in &servers {
            if let Some((.., other)) = theirs.figures.iter().find(|figure| figure.0 == *name) {
                report.ratio(&format!("{name}, {}", theirs.name), *value, *other, unit);
            }
        }
    }
    let process = ours.process.context("our own process")?;
    killed(report, process, &collector, photo)
}

/// A server that answers.
struct Served {
    name: String,
    url: String,
    /// None for one that ran before.
    process: Option<Process>,
    /// What, unit, how much.
    figures: Vec<(String, &'static str, f64)>,
}

impl Served {
    fn start(
        name: String,
        photo: &[u8],
        process: impl FnOnce() -> Result<Process>,
    ) -> Result<Served> {
        let start = Instant::now();
        let mut process = process()?;
        while predict(&agent(), &process.url, photo).is_err() {
            if let Some(status) = process.ended()? {
                bail!("{name}: it ended ({status})");
            }
            if start.elapsed() > Duration::from_secs(120) {
                bail!("{name}: no answer within two minutes");
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let start = start.elapsed().as_secs_f64() * 1000.0;
        let figures = vec![("process start to first letter".to_owned(), "ms", start)];
        let url = process.url.clone();
        Ok(Served { name, url, process: Some(process), figures })
    }

    /// A turn of load.
    fn load(&self, photo: &[u8], connections: usize) -> Result<Load> {
        let load = || at_connections(&self.url, photo, connections, LOAD / TURNS);
        let Some(process) = &self.process else { return load() };
        let (load, memory) = process.peak_memory(load)?;
        Ok(Load { memory, ..load })
    }

    fn report(&mut self, report: &mut Report, connections: usize, mut load: Load) {
        load.times.sort_by(f64::total_cmp);
        let [p50, p95, p99] = [0.5, 0.95, 0.99].map(|part| quantile(&load.times, part));
        let rate = load.rate();
        report.add(
            &format!("{connections} connections, {}", self.name),
            json!({"p50_ms": p50, "p95_ms": p95, "p99_ms": p99, "requests_per_second": rate}),
            format!("p50 {p50:7.1} ms  p95 {p95:7.1} ms  p99 {p99:7.1} ms  {rate:6.1} /s"),
        );
        for (what, unit, figure) in [("p50", "ms", p50), ("p99", "ms", p99), ("rate", "/s", rate)] {
            self.figures.push((format!("{connections} connections, {what}"), unit, figure));
        }
        if let Some(memory) = load.memory {
            let name = format!("{connections} connections, peak memory (PSS)");
            self.figures.push((name, "MB", memory));
        }
    }
}

/// What a load came to.
#[derive(Default)]
struct Load {
    /// Of each request, in milliseconds.
    times: Vec<f64>,
    seconds: f64,
    /// The most memory in MB, where the system tells.
    memory: Option<f64>,
}

impl Load {
    /// Another turn of it.
    fn add(&mut self, turn: Load) {
        self.times.extend(turn.times);
        self.seconds += turn.seconds;
        self.memory = self.memory.into_iter().chain(turn.memory).reduce(f64::max);
    }

    /// Requests per second.
    fn rate(&self) -> f64 {
        self.times.len() as f64 / self.seconds
    }
}

/// What is lost when a host is killed in the middle of its work (SIGKILL): traces of requests that
/// were answered.
fn killed(
    report: &mut Report,
    process: Process,
    collector: &Collector,
    photo: &[u8],
) -> Result<()> {
    let before = collector.spans().len();
    let url = process.url.clone();
    let answered = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let agent = agent();
                    (0..).take_while(|_| predict(&agent, &url, photo).is_ok()).count()
                })
            })
            .collect();
        std::thread::sleep(Duration::from_secs(3));
        drop(process);
        clients.into_iter().map(|client| client.join().expect("no panic")).sum::<usize>()
    });
    let roots = collector.spans()[before..].iter().filter(|span| span.kind == "SERVER").count();
    report.add(
        "host killed: answered requests without trace",
        json!({"answered": answered, "traces": roots}),
        format!("{:8} of {answered}", answered.saturating_sub(roots)),
    );
    Ok(())
}

fn at_connections(url: &str, photo: &[u8], connections: usize, length: Duration) -> Result<Load> {
    let agent = agent();
    for _ in 0..WARM_UP {
        predict(&agent, url, photo)?;
    }
    let start = Instant::now();
    let results: Vec<Result<Vec<f64>>> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..connections)
            .map(|_| {
                scope.spawn(|| {
                    let agent = self::agent();
                    let mut times = Vec::new();
                    while start.elapsed() < length {
                        times.push(predict(&agent, url, photo)?.0);
                    }
                    Ok(times)
                })
            })
            .collect();
        clients.into_iter().map(|client| client.join().expect("no panic")).collect()
    });
    let seconds = start.elapsed().as_secs_f64();
    let mut times = Vec::new();
    for result in results {
        times.extend(result?);
    }
    Ok(Load { times, seconds, memory: None })
}
