//! The component as its users see it: real HTTP against the development host.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use vision::decode::decode;
use serde_json::{Value, json};
use support::{Answer, Service, photo, plain_png, root};

/// A photo of `tests/photos` (file,label,source,answer): what it shows, and what is answered.
struct Expected {
    file: String,
    label: String,
    answer: String,
}

fn expected_letters() -> Vec<Expected> {
    let table = std::fs::read_to_string(root().join("tests/photos/expected.csv")).expect("a table");
    table
        .lines()
        .skip(1)
        .map(|line| match line.split(',').collect::<Vec<_>>()[..] {
            [file, label, _, answer] => {
                Expected { file: file.into(), label: label.into(), answer: answer.into() }
            }
            _ => panic!("four cells: {line}"),
        })
        .collect()
}

fn detail(answer: &Answer) -> String {
    answer.json()["detail"].as_str().expect("a detail").to_owned()
}

/// Checks that an answer is a problem of this status.
fn assert_problem(answer: &Answer, status: u16) {
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    assert_eq!(answer.status, status, "{text}");
    assert_eq!(answer.header("content-type"), "application/problem+json", "{text}");
    assert_eq!(answer.json()["status"], status, "{text}");
}

#[test]
fn every_photo_gets_its_answer() {
    let service = Service::start(&[]);
    let mut right = 0;
    for Expected { file, label, answer: letter } in expected_letters() {
        let answer = service.predict("image/jpeg", &photo(&file));
        assert_eq!(answer.status, 200, "{file}");
        let body = answer.json();
        assert_eq!(body["prediction"], letter, "{file}: {}", body["top"]);
        assert_eq!(body["top"][0]["label"], letter, "{file}");
        assert_eq!(body["top"].as_array().map(Vec::len), Some(5), "{file}");
        assert_eq!(body["hand"]["landmarks"].as_array().map(Vec::len), Some(21), "{file}");
        right += usize::from(letter == label);
    }
    assert_eq!(right, 30, "what is answered is what the photos show");
    assert_eq!(service.log(), Vec::<String>::new(), "a quiet log");
}

#[test]
fn every_format_gives_the_same_letter() {
    let service = Service::start(&[]);
    let jpeg = photo("v.jpg");
    let decoded = decode(&jpeg, u64::MAX).expect("a photo").photo;
    let picture = image::RgbImage::from_raw(
        decoded.width() as u32,
        decoded.height() as u32,
        decoded.pixels().to_vec(),
    )
    .expect("a picture");
    let from_jpeg = service.predict("image/jpeg", &jpeg).json();
    for (format, media_type) in
        [(image::ImageFormat::Png, "image/png"), (image::ImageFormat::WebP, "image/webp")]
    {
        let mut bytes = Vec::new();
        picture.write_to(&mut std::io::Cursor::new(&mut bytes), format).expect("an encoder");
        // The same pixels: the same answer to the last digit, whatever type is claimed.
        assert_eq!(service.predict(media_type, &bytes).json(), from_jpeg);
        assert_eq!(service.predict("image/jpeg", &bytes).json(), from_jpeg);
    }
    // Without a type too: the content counts.
    let answer = service.send("POST", "/predict", &[], Some(&jpeg));
    assert_eq!(answer.json(), from_jpeg);
}

fn form(fields: &[(&str, Option<&str>, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, file, bytes) in fields {
        let file = file.map(|file| format!("; filename=\"{file}\"")).unwrap_or_default();
        write!(body, "--edge\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n")
            .expect("memory");
        body.extend_from_slice(bytes);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--edge--\r\n");
    body
}

#[test]
fn a_form_with_one_file_is_a_photo() {
    let service = Service::start(&[]);
    let jpeg = photo("l.jpg");
    let multipart = "multipart/form-data; boundary=edge";

    let body = form(&[("note", None, b"hello"), ("file", Some("l.jpg"), &jpeg)]);
    let answer = service.predict(multipart, &body);
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json(), service.predict("image/jpeg", &jpeg).json());

    let two = form(&[("a", Some("a.jpg"), &jpeg), ("b", Some("b.jpg"), &jpeg)]);
    let none = form(&[("note", None, b"hello")]);
    let cut = &body[..body.len() / 2];
    for broken in [&two[..], &none, cut, b"", b"no boundary at all"] {
        assert_problem(&service.predict(multipart, broken), 400);
    }
    assert_problem(&service.predict("multipart/form-data", &body), 400);
}

#[test]
fn a_photo_without_a_hand_gets_null() {
    let service = Service::start(&[]);
    for (name, color) in [("grey", [128, 128, 128]), ("black", [0, 0, 0]), ("red", [220, 30, 20])] {
        let body = service.predict("image/png", &plain_png(320, 240, color)).json();
        assert_eq!(body["prediction"], Value::Null, "{name}");
        assert_eq!(body["hand"], Value::Null, "{name}");
        assert_eq!(body["confidence"], 0.0, "{name}");
        assert_eq!(body["top"], json!([]), "{name}");
    }
    for (width, height) in [(1, 1), (3000, 1), (2, 2000)] {
        let png = plain_png(width, height, [200, 150, 120]);
        let body = service.predict("image/png", &png).json();
        assert_eq!(body["prediction"], Value::Null, "{width} × {height}");
    }
}

/// A JPEG with an EXIF segment that holds just the orientation.
fn with_orientation(jpeg: &[u8], orientation: u8) -> Vec<u8> {
    let mut exif = b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
    exif.extend([orientation, 0, 0, 0, 0, 0, 0]);
    let length = (exif.len() + 2) as u16;
    let mut bytes = jpeg[..2].to_vec();
    bytes.extend([0xff, 0xe1]);
    bytes.extend(length.to_be_bytes());
    bytes.extend(exif);
    bytes.extend_from_slice(&jpeg[2..]);
    bytes
}

/// The photo as a sensor that is turned would store it: the upright one, a quarter turn to the
/// left.
fn turned_left(jpeg: &[u8]) -> Vec<u8> {
    let photo = decode(jpeg, u64::MAX).expect("a photo").photo;
    let (width, height) = (photo.width(), photo.height());
    let mut turned = Vec::with_capacity(photo.pixels().len());
    for y in 0..width {
        for x in 0..height {
            let at = (x * width + (width - 1 - y)) * 3;
            turned.extend_from_slice(&photo.pixels()[at..at + 3]);
        }
    }
    let mut bytes = Vec::new();
    jpeg_encoder::Encoder::new(&mut bytes, 95)
        .encode(&turned, height as u16, width as u16, jpeg_encoder::ColorType::Rgb)
        .expect("an encoder");
    bytes
}

#[test]
fn the_orientation_of_phones_is_honoured() {
    let service = Service::start(&[]);
    // U lying on its side is an H: only the orientation tells them apart.
    let upright = photo("u.jpg");
    let stored = with_orientation(&turned_left(&upright), 6);
    let (upright, stored) = (
        service.predict("image/jpeg", &upright).json(),
        service.predict("image/jpeg", &stored).json(),
    );
    assert_eq!(stored["prediction"], "U");
    let point = |body: &Value, axis: usize| {
        body["hand"]["landmarks"][8][axis].as_f64().expect("the index finger's tip")
    };
    for axis in 0..2 {
        assert!((point(&upright, axis) - point(&stored, axis)).abs() < 0.03);
    }
}

#[test]
fn routes_methods_and_types_that_are_not_there() {
    let service = Service::start(&[]);
    assert_problem(&service.get("/nothing"), 404);

    let answer = service.get("/predict");
    assert_problem(&answer, 405);
    assert_eq!(answer.header("allow"), "POST, OPTIONS");
    let answer = service.send("DELETE", "/health", &[], None);
    assert_problem(&answer, 405);
    assert_eq!(answer.header("allow"), "GET, HEAD, OPTIONS");

    let answer = service.predict("text/plain", b"hello");
    assert_problem(&answer, 415);
    assert!(detail(&answer).contains("image/webp"), "{}", detail(&answer));
    let heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic";
    for media_type in ["image/heic", "image/jpeg"] {
        let answer = service.predict(media_type, heic);
        assert_problem(&answer, 415);
        assert!(detail(&answer).contains("JPEG"), "{}", detail(&answer));
    }
}

#[test]
fn head_has_the_headers_of_get_and_options_the_methods() {
    let service = Service::start(&[]);
    for path in ["/", "/health", "/openapi.json"] {
        let (get, head) = (service.get(path), service.send("HEAD", path, &[], None));
        assert_eq!((get.status, head.status), (200, 200), "{path}");
        assert_eq!(get.header("content-type"), "application/json");
        assert_eq!(head.header("content-type"), "application/json");
        assert_eq!(head.header("content-length"), get.body.len().to_string());
        assert!(head.body.is_empty());
    }
    assert_eq!(service.get("/health").json(), json!({"status": "ok", "tracing": "disabled"}));
    let answer = service.send("OPTIONS", "/predict", &[], None);
    assert_eq!((answer.status, answer.header("allow")), (204, "POST, OPTIONS"));
}

#[test]
fn pages_of_allowed_origins_only() {
    let origin = |answer: &Answer| answer.header("access-control-allow-origin").to_owned();
    let page = [("origin", "https://page.example")];

    let closed = Service::start(&[]);
    assert_eq!(origin(&closed.send("GET", "/health", &page, None)), "");

    let service =
        Service::start(&[("cors_allowed_origins", "https://page.example, https://b.example/")]);
    let answer = service.send("GET", "/health", &page, None);
    assert_eq!(origin(&answer), "https://page.example");
    assert_eq!(answer.header("vary"), "Origin");
    assert_eq!(answer.header("timing-allow-origin"), "https://page.example");
    assert_eq!(answer.header("access-control-expose-headers"), "traceparent, Server-Timing");
    let answer = service.send("GET", "/health", &[("origin", "https://b.example")], None);
    assert_eq!(origin(&answer), "https://b.example");
    let answer = service.send("GET", "/health", &[("origin", "https://evil.example")], None);
    assert_eq!(origin(&answer), "");

    let preflight = [page[0], ("access-control-request-method", "POST")];
    let answer = service.send("OPTIONS", "/predict", &preflight, None);
    assert_eq!((answer.status, origin(&answer)), (204, "https://page.example".into()));
    assert!(answer.header("access-control-allow-headers").contains("traceparent"));
    // A page may read the errors too.
    let answer = service.send("GET", "/nothing", &page, None);
    assert_eq!((answer.status, origin(&answer)), (404, "https://page.example".into()));
}

#[test]
fn a_body_over_the_limit_is_refused_while_it_is_read() {
    let service = Service::start(&[("max_body_bytes", "1000")]);
    let answer = service.predict("image/jpeg", &photo("a.jpg"));
    assert_problem(&answer, 413);
    assert!(detail(&answer).contains("1000 bytes"));

    // No length announced, and the end never comes: the answer has to.
    let mut stream = TcpStream::connect(service.address()).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
    stream
        .write_all(
            b"POST /predict HTTP/1.1\r\nhost: a\r\ncontent-type: image/jpeg\r\n\
              transfer-encoding: chunked\r\n\r\n",
        )
        .expect("a request");
    for _ in 0..5 {
        stream.write_all(b"100\r\n").expect("a chunk");
        stream.write_all(&[0xff; 0x100]).expect("a chunk");
        stream.write_all(b"\r\n").expect("a chunk");
    }
    let mut start = [0; 12];
    stream.read_exact(&mut start).expect("an answer");
    assert_eq!(&start, b"HTTP/1.1 413");
}

/// A PNG and a JPEG that announce 60,000 × 60,000 pixels and hold none.
fn giants() -> [(&'static str, Vec<u8>); 2] {
    let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
    let side = 60_000u32.to_be_bytes();
    png.extend([side, side].concat());
    png.extend(b"\x08\x02\0\0\0");
    png.extend(crc32(&png[12..]).to_be_bytes());
    png.extend(b"\0\0\0\0IDAT\x35\xaf\x06\x1e\0\0\0\0IEND\xae\x42\x60\x82");

    let mut jpeg = photo("a.jpg");
    let frame = jpeg.windows(2).position(|pair| pair == [0xff, 0xc0]).expect("a frame header");
    let side = 60_000u16.to_be_bytes();
    jpeg[frame + 5..frame + 7].copy_from_slice(&side);
    jpeg[frame + 7..frame + 9].copy_from_slice(&side);
    jpeg.resize(50_000, 0);
    [("image/png", png), ("image/jpeg", jpeg)]
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 }
        })
    })
}

#[test]
fn a_photo_that_claims_too_many_pixels_costs_nothing() {
    let service = Service::start(&[]);
    service.get("/health");
    for (media_type, bytes) in giants() {
        let start = Instant::now();
        let answer = service.predict(media_type, &bytes);
        assert_problem(&answer, 422);
        assert!(detail(&answer).contains("60000 × 60000"), "{}", detail(&answer));
        // Decoding them would take minutes, or fail for want of 10 GB.
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    }
}

/// SplitMix64: the same bodies in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

/// A small picture of each format, to be broken.
fn small_pictures() -> Vec<(&'static str, Vec<u8>)> {
    let picture = image::RgbImage::from_fn(64, 48, |x, y| {
        image::Rgb([(x * 4) as u8, (y * 5) as u8, (x * y) as u8])
    });
    let encoded = |format| {
        let mut bytes = Vec::new();
        picture.write_to(&mut std::io::Cursor::new(&mut bytes), format).expect("an encoder");
        bytes
    };
    let jpeg = |progressive| {
        let mut bytes = Vec::new();
        let mut encoder = jpeg_encoder::Encoder::new(&mut bytes, 80);
        encoder.set_progressive(progressive);
        encoder.encode(&picture, 64, 48, jpeg_encoder::ColorType::Rgb).expect("an encoder");
        bytes
    };
    vec![
        ("image/jpeg", jpeg(false)),
        ("image/jpeg", jpeg(true)),
        ("image/png", encoded(image::ImageFormat::Png)),
        ("image/webp", encoded(image::ImageFormat::WebP)),
    ]
}

#[test]
fn a_thousand_broken_bodies_get_a_thousand_answers() {
    let service = Service::start(&[]);
    let mut random = Random(2026);
    let pictures = small_pictures();
    let mut statuses = std::collections::BTreeMap::<u16, usize>::new();
    for i in 0..1000 {
        let (media_type, whole) = &pictures[i % pictures.len()];
        let (media_type, body) = match i % 5 {
            // Cut off.
            0 => (*media_type, whole[..random.below(whole.len())].to_vec()),
            // Some bytes changed.
            1 | 2 => {
                let mut body = whole.clone();
                for _ in 0..1 + random.below(8) {
                    let at = random.below(body.len());
                    body[at] = random.next() as u8;
                }
                (*media_type, body)
            }
            // The right beginning, then noise.
            3 => {
                let mut body = whole[..16 + random.below(whole.len() - 16)].to_vec();
                body.extend((0..random.below(4000)).map(|_| random.next() as u8));
                (*media_type, body)
            }
            // Noise, as a photo or as a form.
            _ => {
                let media_type =
                    ["image/jpeg", "multipart/form-data; boundary=edge"][random.below(2)];
                (media_type, (0..random.below(4000)).map(|_| random.next() as u8).collect())
            }
        };
        let answer = service.predict(media_type, &body);
        // A changed byte may well leave a picture that can be decoded.
        assert!(
            [200, 400, 415, 422].contains(&answer.status),
            "body {i}: {} {}",
            answer.status,
            String::from_utf8_lossy(&answer.body)
        );
        if media_type.starts_with("multipart") {
            assert_eq!(answer.status, 400, "body {i}");
        }
        *statuses.entry(answer.status).or_default() += 1;
    }
    println!("statuses: {statuses:?}");
    assert!(statuses[&422] >= 500, "{statuses:?}");
    // No trap, no warning, and the next good request works.
    assert_eq!(service.log(), Vec::<String>::new());
    assert_eq!(service.predict("image/jpeg", &photo("v.jpg")).json()["prediction"], "V");
}

#[test]
fn a_body_that_ends_early_loses_nothing() {
    let service = Service::start(&[]);
    let mut stream = TcpStream::connect(service.address()).expect("a connection");
    stream
        .write_all(
            b"POST /predict HTTP/1.1\r\nhost: a\r\ncontent-type: image/jpeg\r\n\
              content-length: 100000\r\n\r\n\xff\xd8\xff",
        )
        .expect("a request");
    drop(stream);
    assert_eq!(service.predict("image/jpeg", &photo("v.jpg")).json()["prediction"], "V");
}

#[test]
fn concurrent_predictions_use_instances_of_their_own() {
    let service = Service::start(&[]);
    let jpeg = photo("v.jpg");
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..5 {
                    assert_eq!(service.predict("image/jpeg", &jpeg).status, 200);
                }
            });
        }
    });
    assert!(service.instances_started() >= 2, "{}", service.instances_started());
}

#[test]
fn settings_that_cannot_be_are_reported_once_and_their_defaults_used() {
    let service = Service::start(&[("low_confidence_threshold", "high")]);
    for _ in 0..2 {
        let body = service.predict("image/jpeg", &photo("v.jpg")).json();
        assert_eq!(body["low_confidence"], false);
    }
    let log = service.log();
    assert_eq!(log.len(), 1, "{log:?}");
    assert!(log[0].contains("low_confidence_threshold") && log[0].contains("0.7"), "{log:?}");

    let strict = Service::start(&[("low_confidence_threshold", "1")]);
    let body = strict.predict("image/jpeg", &photo("v.jpg")).json();
    assert_eq!(body["low_confidence"], true);
}

/// The schema of an answer, as the service's own description has it.
fn schema_of(openapi: &Value, method: &str, path: &str, answer: &Answer) -> Value {
    let pointer = |text: &str| text.replace('~', "~0").replace('/', "~1");
    let media_type = answer.header("content-type");
    let responses = format!("/paths/{}/{method}/responses/{}", pointer(path), answer.status);
    let mut response = openapi
        .pointer(&responses)
        .or_else(|| (answer.status == 404).then(|| &openapi["components"]["responses"]["NotFound"]))
        .unwrap_or_else(|| panic!("{responses} is not described"));
    if let Some(reference) = response["$ref"].as_str() {
        response = openapi.pointer(&reference[1..]).expect("the reference");
    }
    let schema = response["content"][media_type]["schema"].clone();
    assert!(schema.is_object(), "{responses} does not describe {media_type}");
    // References in it are to the whole document.
    let mut whole = schema;
    whole["components"] = openapi["components"].clone();
    whole
}

#[test]
fn every_answer_is_as_described() {
    let service = Service::start(&[]);
    // With traces, which go nowhere: answers have their id.
    let nowhere = [("jaeger_collector_host", "127.0.43.19"), ("trace_retry_budget", "1")];
    let small = Service::start(&[nowhere[0], nowhere[1], ("max_body_bytes", "1000")]);
    let openapi = service.get("/openapi.json").json();
    assert_eq!(openapi["openapi"], "3.1.0");
    assert_eq!(openapi["info"]["version"], env!("CARGO_PKG_VERSION"));

    let grey = plain_png(64, 64, [128; 3]);
    let jpeg = photo("v.jpg");
    let answers = [
        ("get", "/", service.get("/")),
        ("get", "/health", service.get("/health")),
        ("get", "/openapi.json", service.get("/openapi.json")),
        ("post", "/predict", service.predict("image/jpeg", &jpeg)),
        ("post", "/predict", service.predict("image/png", &grey)),
        ("post", "/predict", service.predict("multipart/form-data; boundary=edge", b"x")),
        ("post", "/predict", small.predict("image/jpeg", &jpeg)),
        ("post", "/predict", small.predict("image/png", &grey)),
        ("post", "/predict", service.predict("text/plain", b"x")),
        ("post", "/predict", service.predict("image/jpeg", b"x")),
        ("post", "/predict", service.get("/predict")),
        ("get", "/health", service.send("POST", "/health", &[], Some(b"x"))),
        ("get", "/nothing", service.get("/nothing")),
    ];
    for (method, path, answer) in &answers {
        let schema = schema_of(&openapi, method, path, answer);
        let (mut schemas, mut compiler) = (boon::Schemas::new(), boon::Compiler::new());
        compiler.add_resource("answer.json", schema).expect("a resource");
        let schema = compiler.compile("answer.json", &mut schemas).expect("a schema");
        let body = answer.json();
        if let Err(error) = schemas.validate(&body, schema) {
            panic!("{path} {}: {error:#}\n{body}", answer.status);
        }
    }
    // All routes that the service tells of are described, and the other way round.
    let told = service.get("/").json();
    let mut told: Vec<&str> = told["routes"]
        .as_array()
        .expect("routes")
        .iter()
        .filter_map(|r| r["path"].as_str())
        .collect();
    let mut described: Vec<&str> =
        openapi["paths"].as_object().expect("paths").keys().map(String::as_str).collect();
    told.sort_unstable();
    described.sort_unstable();
    assert_eq!(told, described);
}
