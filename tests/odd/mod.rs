//! Odd inputs that every host must answer well, as phones, libraries and attackers send them: a letter, or a
//! sentence that says what to do. The tests of each host run all of them.

#![allow(dead_code, reason = "each test needs a part of it")]

use std::io::Cursor;
use std::process::Command;
use std::time::{Duration, Instant};

use test_support::raw::{Connection, in_chunks};
use test_support::service::{Answer, Service, photo};
use vision::decode::decode;

use crate::files::{
    ALPHA, ANIMATION, animation, chunk, exif, exif_segment, png, png_header, riff_chunk, vp8_grey,
    vp8x, webp, with_segments, zlib_of_zeros,
};

/// The longest time that an answer takes. Another machine may be slow, and other tests run beside this one.
const TIME: Duration = Duration::from_secs(10);

/// The right answer.
enum Right {
    Letter(&'static str),
    /// A problem of this status whose text has these words.
    Problem(u16, &'static str),
}
use Right::{Letter, Problem};

/// A request to `/predict`.
struct Odd {
    name: &'static str,
    content_type: Option<&'static str>,
    body: Vec<u8>,
    right: Right,
}

fn odd(name: &'static str, content_type: &'static str, body: Vec<u8>, right: Right) -> Odd {
    Odd { name, content_type: Some(content_type), body, right }
}

/// Sends all odd inputs that `/predict` takes, and checks the answers.
pub fn inputs_are_answered(service: &Service) {
    for Odd { name, content_type, body, right } in
        photos().into_iter().chain(forms()).chain(types())
    {
        let headers: Vec<_> = content_type.map(|kind| ("content-type", kind)).into_iter().collect();
        let start = Instant::now();
        let answer = service.send("POST", "/predict", &headers, Some(&body));
        assert!(start.elapsed() < TIME, "{name}: {:?}", start.elapsed());
        assert_right(&answer, &right, name);
    }
    // A trap would have taken the instance with it.
    let answer = service.predict("image/jpeg", &photo("v.jpg"));
    assert_right(&answer, &Letter("V"), "an ordinary photo after all");
}

fn assert_right(answer: &Answer, right: &Right, name: &str) {
    let text = String::from_utf8_lossy(&answer.body);
    match right {
        Letter(letter) => {
            assert_eq!(answer.status, 200, "{name}: {text}");
            assert_eq!(answer.json()["prediction"], *letter, "{name}: {text}");
        }
        Problem(status, words) => {
            assert_eq!(answer.status, *status, "{name}: {text}");
            assert_eq!(answer.header("content-type"), "application/problem+json", "{name}");
            assert!(text.contains(words), "{name}: {text}");
        }
    }
}

/// Returns the photo of a U as a turned sensor stores it. On its side it is an H.
fn turned_u() -> Vec<u8> {
    let photo = decode(&photo("u.jpg"), u64::MAX).expect("a photo").photo;
    let (width, height) = (photo.width() as u32, photo.height() as u32);
    let picture = image::RgbImage::from_raw(width, height, photo.pixels().to_vec());
    let turned = image::imageops::rotate270(&picture.expect("its pixels"));
    let mut bytes = Vec::new();
    jpeg_encoder::Encoder::new(&mut bytes, 95)
        .encode(&turned, height as u16, width as u16, jpeg_encoder::ColorType::Rgb)
        .expect("an encoder");
    bytes
}

fn photos() -> Vec<Odd> {
    let v = photo("v.jpg");
    let alpha = riff_chunk(b"ALPH", &[&[0], &[255; 256][..]].concat());
    let frame = animation(0, 0, 16, 16, &[alpha, riff_chunk(b"VP8 ", &vp8_grey(64, 64))]);
    let another_size = webp(&[vp8x(ALPHA | ANIMATION, 64, 64), frame]);

    let decoded = decode(&v, u64::MAX).expect("a photo").photo;
    let (width, height) = (decoded.width() as u32, decoded.height() as u32);
    let mut as_png = Vec::new();
    image::RgbImage::from_raw(width, height, decoded.pixels().to_vec())
        .expect("its pixels")
        .write_to(&mut Cursor::new(&mut as_png), image::ImageFormat::Png)
        .expect("an encoder");
    let bomb = chunk(b"iCCP", &[b"icc\0\0", &zlib_of_zeros(1, 1 << 30, 0)[..]].concat());
    // Behind the signature and the header.
    as_png.splice(33..33, bomb);

    let mut random = fastrand::Rng::with_seed(17);
    let video: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(2_000_000).collect();
    let video = [b"\0\0\0\x18ftypmp42\0\0\0\0isommp42", &video[..], &[0xff, 0xda].repeat(1000)];

    let turned = turned_u();
    let two = [6, 1].map(|orientation| exif_segment(&exif(orientation, false, true)));
    let long = [exif_segment(&exif(6, true, true))];
    let strip = png(&[png_header(1, 50_000_000, 8, 2, false), chunk(b"IDAT", &[0])]);
    let jpeg = "image/jpeg";
    vec![
        odd("a WebP whose frame has another size", "image/webp", another_size, Problem(422, "")),
        odd("a PNG with a profile of 1 GiB", "image/png", as_png, Letter("V")),
        odd("a Motion Photo", jpeg, [&v[..], &video.concat()].concat(), Letter("V")),
        odd("a JPEG without its end marker", jpeg, v[..v.len() - 2].to_vec(), Letter("V")),
        odd("a JPEG cut near its end", jpeg, v[..v.len() / 16 * 15].to_vec(), Letter("V")),
        odd("two EXIF segments", jpeg, with_segments(&turned, &two), Letter("U")),
        odd("an orientation as LONG", jpeg, with_segments(&turned, &long), Letter("U")),
        odd("a PNG of 1 × 50,000,000 pixels", "image/png", strip, Problem(422, "")),
    ]
}

fn forms() -> Vec<Odd> {
    let v = photo("v.jpg");
    let edge = "multipart/form-data; boundary=edge";
    let part = |boundary: &str, disposition: &str, content: &[u8]| {
        let head = format!("--{boundary}\r\nContent-Disposition: form-data; {disposition}\r\n\r\n");
        [head.as_bytes(), content, b"\r\n"].concat()
    };
    let whole = |boundary: &str, parts: &[Vec<u8>]| {
        [parts.concat(), format!("--{boundary}--\r\n").into_bytes()].concat()
    };
    let file = |disposition: &str| whole("edge", &[part("edge", disposition, &v)]);
    let named = "name=\"file\"; filename=\"v.jpg\"";
    let unused = part("edge", "name=\"other\"; filename=\"\"", b"");
    let line_feeds = [
        &b"--edge\nContent-Disposition: form-data; name=\"file\"; filename=\"v.jpg\"\n\n"[..],
        &v,
        b"\n--edge--\n",
    ];
    let java = "----=_Part_1_2.3";
    let java_type = "multipart/form-data; boundary=----=_Part_1_2.3";
    vec![
        odd("filename* alone", edge, file("name=\"file\"; filename*=UTF-8''v.jpg"), Letter("V")),
        odd("no filename", edge, file("name=\"file\""), Letter("V")),
        odd(
            "a second, empty file input",
            edge,
            whole("edge", &[part("edge", named, &v), unused.clone()]),
            Letter("V"),
        ),
        odd(
            "an empty file input alone",
            edge,
            whole("edge", &[unused]),
            Problem(400, "no photo was chosen"),
        ),
        odd("line ends without CR", edge, line_feeds.concat(), Letter("V")),
        odd("= in the boundary", java_type, whole(java, &[part(java, named, &v)]), Letter("V")),
        odd(
            "no boundary",
            "multipart/form-data",
            file(named),
            Problem(400, "Leave Content-Type out"),
        ),
    ]
}

fn types() -> Vec<Odd> {
    let v = photo("v.jpg");
    let text = |text: &str| text.as_bytes().to_vec();
    let mut all =
        vec![Odd { name: "no type", content_type: None, body: v.clone(), right: Letter("V") }];
    for content_type in [
        "application/x-www-form-urlencoded",
        "application/octet-stream",
        "image/heic",
        "image/pjpeg",
    ] {
        all.push(odd("another type", content_type, v.clone(), Letter("V")));
    }
    let base64 = text("/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAUDBAQEAwUE");
    let url = text("data:image/jpeg;base64,/9j/4AAQSkZJRg==");
    let json = text("{\"image\": \"/9j/4AAQSkZJRg==\"}");
    let gzip = b"\x1f\x8b\x08\0\0\0\0\0".to_vec();
    all.extend([
        odd("base64", "image/jpeg", base64, Problem(415, "base64")),
        odd("a data: URL", "text/plain", url, Problem(415, "a data: URL")),
        odd("JSON", "application/json", json, Problem(415, "JSON")),
        odd("gzip", "application/octet-stream", gzip, Problem(415, "gzip")),
    ]);
    all
}

/// A preflight for the header that names a user, where a setting has one: `x-user-id`.
pub fn preflight_allows_the_users_header(service: &Service, origin: &str) {
    let preflight = [
        ("origin", origin),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "content-type,x-user-id"),
    ];
    let answer = service.send("OPTIONS", "/predict", &preflight, None);
    assert_eq!(answer.status, 204);
    let allowed = answer.header("access-control-allow-headers");
    assert!(allowed.split(", ").any(|name| name == "x-user-id"), "{allowed}");
}

/// Bytes of a body that is four times as large as the default limit.
const OVERSIZED: usize = 40 << 20;

/// A client that sends all of a body before it reads gets the 413, and so does one that waits for leave: it gets the
/// answer instead of that leave, unless it announces no length.
pub fn oversized_body_gets_the_413(service: &Service) {
    let body = vec![0xff; OVERSIZED];
    let length = format!("content-length: {OVERSIZED}");
    for (fields, body) in [
        (vec![length.as_str()], body.clone()),
        (vec![&length, "expect: 100-continue"], Vec::new()),
        (vec!["transfer-encoding: chunked"], in_chunks(&body, 64 << 10)),
        (vec!["transfer-encoding: chunked", "expect: 100-continue"], in_chunks(&body, 64 << 10)),
    ] {
        let mut connection = Connection::open(service.address()).expect("a connection");
        let head = format!(
            "POST /predict HTTP/1.1\r\nhost: localhost\r\ncontent-type: image/jpeg\r\n{}\r\n\r\n",
            fields.join("\r\n")
        );
        connection.send(head.as_bytes()).expect("a head");
        connection.send(&body).unwrap_or_else(|error| panic!("{fields:?}: {error}"));
        let response = connection.receive().unwrap_or_else(|error| panic!("{fields:?}: {error}"));
        assert_eq!(response.status, 413, "{fields:?}");
    }
}

/// curl, which waits for leave and reads while it sends, and Python's `http.client`, which does neither.
pub fn curl_and_python_read_the_413(service: &Service) {
    let file = test_support::folder("oversized").join("body");
    std::fs::write(&file, vec![0xff; OVERSIZED]).expect("written");
    let address = service.address();
    let url = format!("http://{address}/predict");
    let data = format!("@{}", file.display());
    for more in [&[][..], &["-H", "Expect:"], &["-H", "Transfer-Encoding: chunked"]] {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "-o", "/dev/null", "-w", "%{http_code}", "--data-binary", &data]);
        let output = curl.args(more).arg(&url).output().expect("curl");
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(String::from_utf8_lossy(&output.stdout), "413", "{more:?}: {error}");
    }
    let script = "
import http.client, json, sys
host, file = sys.argv[1:]
body = open(file, 'rb').read()
def pieces():
    for at in range(0, len(body), 65536):
        yield body[at:at + 65536]
for chunked, sent in [(False, body), (True, pieces())]:
    connection = http.client.HTTPConnection(host, timeout=60)
    connection.request('POST', '/predict', sent, {'content-type': 'image/jpeg'}, encode_chunked=chunked)
    answer = connection.getresponse()
    print(answer.status, json.load(answer)['status'])
";
    let mut python = Command::new("python3");
    let output = python.args(["-c", script, &address.to_string()]).arg(&file).output();
    let output = output.expect("python3");
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "413 413\n413 413\n", "{error}");
}
