//! `cargo xtask bench`: measures the component, and other servers beside it, in one run.

mod mix;
mod photos;
pub mod process;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use host::{Collector, Limits, LogSink, Manifest, Options, Server, client};
use ureq::http::Response;

use self::process::Process;
use crate::build::{Models, World};
use crate::figures::{self, Bench, Killed, Mix, Ratio, Recorded, Stage, Tracing, TracingCost};
use crate::{build, root};

/// The photo that is sent: 416 × 416 or a little less.
pub const PHOTO: &str = "tests/photos/v.jpg";
/// A request that takes longer fails its measurement.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Measurements of one thing.
const RUNS: usize = 40;
/// Requests before them that are not measured.
const WARM_UP: usize = 5;
/// Length of each load.
const LOAD: Duration = Duration::from_secs(8);
/// Number of turns that a load is divided into. Servers that are compared take turns.
const TURNS: u32 = 8;
/// The name of this component's server in the figures.
const THIS: &str = "this component";

/// Arguments of `cargo xtask bench`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Another server, whose /predict gets the same photos; repeatable
    #[arg(long = "against", value_name = "URL")]
    urls: Vec<String>,
    /// A shell command that starts another server on 127.0.0.1:{port}; repeatable. Start and memory are
    /// measured too
    #[arg(long = "against-command", value_name = "COMMAND")]
    commands: Vec<String>,
    /// The name of another server in the figures, in the order URLs, commands; repeatable [default: the
    /// server's number]
    #[arg(long = "label", value_name = "NAME")]
    labels: Vec<String>,
    /// Measure all photos of this folder too, beside the mix; repeatable
    #[arg(long = "photos", value_name = "FOLDER")]
    folders: Vec<PathBuf>,
    /// Of the photos of these folders, take every N-th
    #[arg(long, value_name = "N", default_value_t = 1)]
    every: usize,
    /// Write the figures to a file too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the figures into docs/benchmarks.json and the documents made from it
    #[arg(long)]
    write: bool,
    #[command(flatten)]
    models: Models,
}

impl Arguments {
    /// Returns the command as it is recorded: other servers by their names, since their commands depend
    /// on the machine.
    fn command(&self) -> String {
        let mut command = format!("cargo xtask bench{}", self.models.arguments());
        for number in 0..self.urls.len() {
            command += &format!(" --against '{}'", self.label(number));
        }
        for number in self.urls.len()..self.urls.len() + self.commands.len() {
            command += &format!(" --against-command '{}'", self.label(number));
        }
        for folder in &self.folders {
            command += &format!(" --photos {}", folder.file_name().unwrap_or_default().display());
        }
        if self.every > 1 {
            command += &format!(" --every {}", self.every);
        }
        command
    }

    fn label(&self, number: usize) -> String {
        self.labels.get(number).cloned().unwrap_or_else(|| format!("other {}", number + 1))
    }
}

/// Prints a figure with its name.
fn show(name: &str, figure: impl std::fmt::Display) {
    println!("{name:<44} {figure}");
}

/// Prints two values with their ratio.
fn show_ratio(name: &str, unit: &str, ratio: Ratio) -> Ratio {
    let Ratio { value, against, ratio: quotient } = ratio;
    show(name, format!("{value:8.2} {unit} against {against:8.2} {unit}: ratio {quotient:.3}"));
    ratio
}

/// Measures everything and prints a table.
pub fn run(arguments: &Arguments) -> Result<()> {
    build::run(&[World::Spin], &arguments.models, true)?;
    let component = World::Spin.component();
    let photo = std::fs::read(root().join(PHOTO)).context(PHOTO)?;
    let large_photo = phone_photo(&photo)?;
    println!();
    let component_mb = std::fs::metadata(&component)?.len() as f64 / 1e6;
    show("component size", format!("{component_mb:8.1} MB"));

    let (first_prediction_ms, first_prediction_page_faults) = instances(&photo)?;
    let stages = stages(&photo)?;
    let large_photo_ms = large(&photo, &large_photo)?;
    let tracing = tracing(&photo)?;
    let (servers, mix, killed) = load(arguments, &photo, &large_photo)?;
    let bench = Bench {
        component_mb,
        first_prediction_ms,
        first_prediction_page_faults,
        stages,
        large_photo_ms,
        tracing,
        servers,
        mix: Some(mix),
        killed,
    };

    let recorded = Recorded::new(arguments.command(), bench)?;
    if let Some(path) = &arguments.json {
        recorded.save(path)?;
    }
    if arguments.write {
        figures::write_bench(recorded)?;
    }
    Ok(())
}

/// Starts a server in this process with limits, without tracing.
fn serve(runtime: &tokio::runtime::Runtime, limits: Limits) -> Result<Server> {
    serve_with(runtime, limits, &[])
}

/// Starts a server in this process with limits and variables.
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

/// Starts a collector that accepts every span, and returns the variables that send spans there.
fn collector() -> Result<(Collector, Vec<(String, String)>)> {
    let collector = Collector::start(([127, 0, 0, 1], 0).into(), |_| {})?;
    let names = ["otel_exporter_otlp_endpoint", "collector_allowed_host"];
    let variables = names.map(|name| (name.to_owned(), collector.endpoint()));
    Ok((collector, variables.to_vec()))
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?)
}

/// Sends one request. Returns its duration in milliseconds and the `Server-Timing` header.
fn predict(agent: &ureq::Agent, url: &str, photo: &[u8]) -> Result<(f64, String)> {
    let (response, ms) = post(agent, url, "image/jpeg", photo)?;
    if !response.status().is_success() {
        bail!("POST {url}/predict: {}", response.status());
    }
    let timing = response.headers().get("server-timing");
    Ok((ms, timing.and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()))
}

/// Sends a photo. Returns the whole response, whatever its status, and the time that it took in milliseconds.
pub fn post(
    agent: &ureq::Agent,
    url: &str,
    media_type: &str,
    photo: &[u8],
) -> Result<(Response<Vec<u8>>, f64)> {
    let start = Instant::now();
    let response = agent
        .post(format!("{url}/predict"))
        .header("content-type", media_type)
        .send(photo)
        .with_context(|| format!("POST {url}/predict"))?;
    let (head, mut body) = response.into_parts();
    let response = Response::from_parts(head, body.read_to_vec()?);
    Ok((response, start.elapsed().as_secs_f64() * 1000.0))
}

/// Returns a client of servers that are measured.
pub fn agent() -> ureq::Agent {
    client::agent(TIMEOUT)
}

/// Returns the median duration of sequential requests, in milliseconds.
fn sequential(url: &str, photo: &[u8], runs: usize) -> Result<f64> {
    let agent = agent();
    for _ in 0..WARM_UP {
        predict(&agent, url, photo)?;
    }
    let mut times = Vec::new();
    for _ in 0..runs {
        times.push(predict(&agent, url, photo)?.0);
    }
    Ok(median(times))
}

/// Returns the median.
pub fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    quantile(&times, 0.5)
}

/// Returns a quantile of sorted times.
pub fn quantile(sorted: &[f64], part: f64) -> f64 {
    sorted.get(((sorted.len() as f64 - 1.0) * part).round() as usize).copied().unwrap_or(f64::NAN)
}

/// Compares a new instance's first prediction with a warm one's. Also returns its page faults.
fn instances(photo: &[u8]) -> Result<(Ratio, Option<f64>)> {
    let runtime = runtime()?;
    let once = serve(&runtime, Limits { requests_per_instance: 1, ..Limits::default() })?;
    let often = serve(&runtime, Limits::default())?;
    // In turns, so that what else the machine does meets both.
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
        bail!("an instance served more than one request");
    }
    let ratio = Ratio::new(median(first), median(warm));
    show_ratio("first prediction of an instance / warm", "ms", ratio);
    let faults = (!faults.is_empty()).then(|| median(faults));
    if let Some(faults) = faults {
        show("first prediction, page faults", format!("{faults:8.0}"));
    }
    runtime.block_on(async {
        _ = once.stop().await;
        _ = often.stop().await;
    });
    Ok((ratio, faults))
}

/// Returns the number of this process's minor page faults so far, where the system counts them.
fn page_faults() -> Option<u64> {
    // proc(5): the tenth field. The second one ends with the last bracket.
    let fields = std::fs::read_to_string("/proc/self/stat").ok()?;
    fields.rsplit_once(')')?.1.split_whitespace().nth(7)?.parse().ok()
}

/// Measures each stage of a prediction, by the response's `Server-Timing`.
fn stages(photo: &[u8]) -> Result<Vec<Stage>> {
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
    runtime.block_on(async { _ = server.stop().await });
    let stages: Vec<Stage> =
        stages.into_iter().map(|(name, times)| Stage { name, ms: median(times) }).collect();
    for Stage { name, ms } in &stages {
        show(name, format!("{ms:8.2} ms"));
    }
    let sum: f64 = stages.iter().map(|stage| stage.ms).sum();
    show("all stages", format!("{sum:8.2} ms"));
    Ok(stages)
}

/// Returns a 12-megapixel photo as phones store it, 4032 × 3024 with EXIF orientation 6, made from a
/// sample.
fn phone_photo(sample: &[u8]) -> Result<Vec<u8>> {
    let mut small = jpeg_decoder::Decoder::new(sample);
    let small_pixels = small.decode()?;
    let small = small.info().context("a JPEG")?;
    let (small_width, small_height) = (usize::from(small.width), usize::from(small.height));
    let (width, height) = (4032usize, 3024usize);
    let mut pixels = Vec::with_capacity(width * height * 3);
    for y in 0..height {
        for x in 0..width {
            // The upright photo's right side is at the sensor's top.
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

/// Compares the 12-megapixel photo with the small one.
fn large(photo: &[u8], large: &[u8]) -> Result<Ratio> {
    let runtime = runtime()?;
    let server = serve(&runtime, Limits::default())?;
    let small = sequential(&server.url(), photo, 10)?;
    let ratio = Ratio::new(sequential(&server.url(), large, 10)?, small);
    show_ratio("12-megapixel photo / small one, p50", "ms", ratio);
    show("12-megapixel photo by stage", predict(&agent(), &server.url(), large)?.1);
    runtime.block_on(async { _ = server.stop().await });
    Ok(ratio)
}

/// Measures the cost of tracing to the caller: on and with one request of ten sampled, compared with off.
fn tracing(photo: &[u8]) -> Result<Tracing> {
    let runtime = runtime()?;
    let (collector, on) = collector()?;
    let mut tenth = on.clone();
    tenth.push(("otel_traces_sampler".into(), "parentbased_traceidratio".into()));
    tenth.push(("otel_traces_sampler_arg".into(), "0.1".into()));
    let mut servers = Vec::new();
    for variables in [&[][..], &tenth, &on] {
        servers.push(serve_with(&runtime, Limits::default(), variables)?);
    }
    // In turns, so that what else the machine does meets all of them.
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
    let p50 = times.map(median);
    let mut loads: [Load; 3] = Default::default();
    for _ in 0..TURNS {
        for (server, load) in servers.iter().zip(&mut loads) {
            load.add(at_connections(&server.url(), photo, 2, LOAD / TURNS)?);
        }
    }
    let rates = loads.map(|load| load.rate());
    let cost = |row: usize, name: &str| {
        let (p50_ms, rate) = (Ratio::new(p50[row], p50[0]), Ratio::new(rates[row], rates[0]));
        show_ratio(&format!("tracing {name} / off, p50"), "ms", p50_ms);
        show_ratio(&format!("tracing {name} / off, 2 connections"), "/s", rate);
        TracingCost { p50_ms, rate }
    };
    let (on, tenth) = (cost(2, "on"), cost(1, "sampled at 10 %"));
    let (spans, exports) = (collector.spans().len(), collector.requests());
    show("spans in exports", format!("{spans} in {exports}"));
    runtime.block_on(async {
        for server in servers {
            _ = server.stop().await;
        }
    });
    Ok(Tracing { on, tenth, spans, exports })
}

/// Measures the component in a process of its own, with other servers beside it: start, load, memory, a
/// large photo.
fn load(
    arguments: &Arguments,
    photo: &[u8],
    large: &[u8],
) -> Result<(Vec<figures::Server>, Mix, Killed)> {
    // With tracing on, as in production.
    let (collector, variables) = collector()?;
    let component = || Process::component(&variables, &[]);
    let mut servers = vec![Served::start(THIS.into(), photo, component)?];
    for (number, url) in arguments.urls.iter().enumerate() {
        let name = arguments.label(number);
        show(&name, url);
        servers.push(Served { name, url: url.clone(), process: None, start_ms: None });
    }
    for (number, command) in arguments.commands.iter().enumerate() {
        let name = arguments.label(arguments.urls.len() + number);
        show(&name, command);
        let process = || Process::command(command, &collector.endpoint());
        servers.push(Served::start(name, photo, process)?);
    }
    // In turns, so that what else the machine does meets all of them.
    let mut loads: Vec<Vec<figures::Load>> = servers.iter().map(|_| Vec::new()).collect();
    for connections in [1, 2, 4, 8] {
        let mut sums: Vec<Load> = servers.iter().map(|_| Load::default()).collect();
        for _ in 0..TURNS {
            for (server, sum) in servers.iter().zip(&mut sums) {
                sum.add(server.load(photo, connections)?);
            }
        }
        for ((server, sum), loads) in servers.iter().zip(sums).zip(&mut loads) {
            loads.push(sum.figures(connections, &server.name));
        }
    }
    let mut figures = Vec::new();
    for (server, loads) in servers.iter().zip(loads) {
        figures.push(figures::Server {
            name: server.name.clone(),
            start_ms: server.start_ms,
            loads,
            large_photo_p50_ms: sequential(&server.url, large, 10)?,
        });
    }
    show_servers(&figures);
    let mut kinds = photos::mix()?;
    for folder in &arguments.folders {
        kinds.push(photos::folder(folder, arguments.every)?);
    }
    let mix = mix::measure(&servers, &collector, &kinds)?;
    let process = servers.swap_remove(0).process.context("this component's process")?;
    Ok((figures, mix, killed(process, &collector, photo)?))
}

/// Prints this component's figures, each with its ratio to those of the other servers.
fn show_servers(servers: &[figures::Server]) {
    let [this, others @ ..] = servers else { return };
    let row = |name: String, unit: &str, of: &dyn Fn(&figures::Server) -> Option<f64>| {
        let Some(value) = of(this) else { return };
        show(&name, format!("{value:8.1} {unit}"));
        for other in others {
            if let Some(against) = of(other) {
                show_ratio(&format!("{name}, {}", other.name), unit, Ratio::new(value, against));
            }
        }
    };
    row("process start to first letter".into(), "ms", &|server| server.start_ms);
    for (at, figures::Load { connections, .. }) in this.loads.iter().enumerate() {
        row(format!("{connections} connections, p50"), "ms", &|s| Some(s.loads[at].p50_ms));
        row(format!("{connections} connections, p99"), "ms", &|s| Some(s.loads[at].p99_ms));
        row(format!("{connections} connections, rate"), "/s", &|s| Some(s.loads[at].rate));
        let name = format!("{connections} connections, peak memory (PSS)");
        row(name, "MB", &|s| s.loads[at].memory_mb);
    }
    row("12-megapixel photo, p50".into(), "ms", &|server| Some(server.large_photo_p50_ms));
}

/// A server that answers.
struct Served {
    name: String,
    url: String,
    /// None for a server that ran before.
    process: Option<Process>,
    start_ms: Option<f64>,
}

impl Served {
    fn start(
        name: String,
        photo: &[u8],
        process: impl FnOnce() -> Result<Process>,
    ) -> Result<Served> {
        let start = Instant::now();
        let mut process = process()?;
        let (agent, url) = (agent(), process.url());
        process.first_answer(|| predict(&agent, &url, photo).is_ok()).context(name.clone())?;
        let start_ms = Some(start.elapsed().as_secs_f64() * 1000.0);
        Ok(Served { name, url: process.url(), process: Some(process), start_ms })
    }

    /// Measures a turn of load.
    fn load(&self, photo: &[u8], connections: usize) -> Result<Load> {
        let load = || at_connections(&self.url, photo, connections, LOAD / TURNS);
        let Some(process) = &self.process else { return load() };
        let (load, memory) = process.peak_memory(load)?;
        Ok(Load { memory, ..load })
    }
}

/// The measurements of a load.
#[derive(Default)]
pub struct Load {
    /// Duration of each request, in milliseconds.
    times: Vec<f64>,
    seconds: f64,
    /// Highest memory in MB, where the system measures it.
    memory: Option<f64>,
}

impl Load {
    /// Adds another turn.
    fn add(&mut self, turn: Load) {
        self.times.extend(turn.times);
        self.seconds += turn.seconds;
        self.memory = self.memory.into_iter().chain(turn.memory).reduce(f64::max);
    }

    /// Returns the number of requests a second.
    fn rate(&self) -> f64 {
        self.times.len() as f64 / self.seconds
    }

    /// Returns and prints the figures.
    fn figures(mut self, connections: usize, server: &str) -> figures::Load {
        self.times.sort_by(f64::total_cmp);
        let [p50_ms, p95_ms, p99_ms] = [0.5, 0.95, 0.99].map(|part| quantile(&self.times, part));
        let rate = self.rate();
        show(
            &format!("{connections} connections, {server}"),
            format!("p50 {p50_ms:7.1} ms  p95 {p95_ms:7.1} ms  p99 {p99_ms:7.1} ms  {rate:6.1} /s"),
        );
        figures::Load { connections, p50_ms, p95_ms, p99_ms, rate, memory_mb: self.memory }
    }
}

/// Asks on two connections, and ends the host after some time. Returns the answers: on each connection those before
/// the first one that is missing.
pub fn until_the_end<T: Send>(
    time: Duration,
    ask: impl Fn(&ureq::Agent) -> Option<T> + Sync,
    end: impl FnOnce() -> Result<()>,
) -> Result<Vec<T>> {
    std::thread::scope(|scope| {
        let answers = || {
            let agent = agent();
            std::iter::from_fn(|| ask(&agent)).collect::<Vec<T>>()
        };
        let clients = [scope.spawn(answers), scope.spawn(answers)];
        std::thread::sleep(time);
        end()?;
        Ok(clients.into_iter().flat_map(|client| client.join().expect("no panic")).collect())
    })
}

/// Kills the host under load (SIGKILL), and counts the traces of answered requests that are lost.
fn killed(process: Process, collector: &Collector, photo: &[u8]) -> Result<Killed> {
    let before = collector.spans().len();
    let url = process.url();
    let kill = || {
        drop(process);
        Ok(())
    };
    let ask = |agent: &ureq::Agent| predict(agent, &url, photo).ok();
    let answered = until_the_end(Duration::from_secs(3), ask, kill)?.len();
    let traces = collector.spans()[before..].iter().filter(|span| span.kind == "SERVER").count();
    let lost = answered.saturating_sub(traces);
    show("host killed: answered requests without trace", format!("{lost:8} of {answered}"));
    Ok(Killed { answered, traces })
}

/// Sends requests on several connections for some time.
pub fn at_connections(
    url: &str,
    photo: &[u8],
    connections: usize,
    length: Duration,
) -> Result<Load> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_sorted_times() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        let times: Vec<f64> = (0..=100).map(f64::from).collect();
        assert_eq!([0.5, 0.95, 0.99].map(|part| quantile(&times, part)), [50.0, 95.0, 99.0]);
        assert!(quantile(&[], 0.5).is_nan());
    }

    #[test]
    fn turns_of_a_load_add_up() {
        let turn = |memory| Load { times: vec![1.0; 10], seconds: 2.0, memory };
        let mut load = turn(None);
        load.add(turn(Some(5.0)));
        load.add(turn(Some(3.0)));
        assert_eq!((load.rate(), load.memory), (5.0, Some(5.0)));
    }
}
