//! The component as its users see it: HTTP against the development host.

#[path = "../crates/vision/tests/files/mod.rs"]
mod files;
mod odd;

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::io::{Cursor, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use fastrand::Rng;
use files::worst::{self, Worst};
use serde_json::{Value, json};
use test_support::bad_collector::response;
use test_support::hostile;
use test_support::http::{get, post};
use test_support::photo_server::{PhotoServer, Reply};
use test_support::process::{Process, free_port, wait};
use test_support::raw::{Connection, Response, in_chunks};
use test_support::service::{Answer, FEEDBACK_TOKEN, Service, patient, photo, plain_png};
use test_support::traces;
use test_support::{folder, root};
use vision::decode::decode;

/// A row of `tests/photos/expected.csv` (file,label,source,answer): the letter that the photo shows, and
/// the one that is answered.
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

/// Asserts that an answer is a problem of this status.
fn assert_problem(answer: &Answer, status: u16) {
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    assert_eq!(answer.status, status, "{text}");
    assert_eq!(answer.header("content-type"), "application/problem+json", "{text}");
    assert_eq!(answer.json()["status"], status, "{text}");
}

#[test]
fn sample_photos_get_their_letters() {
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
    assert_eq!(right, 30, "every answer is the letter that the photo shows");
    assert_eq!(service.log(), Vec::<String>::new(), "nothing needs attention");
}

#[test]
fn formats_of_one_picture_get_one_answer() {
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
        picture.write_to(&mut Cursor::new(&mut bytes), format).expect("an encoder");
        // Equal pixels get an answer that is equal to the last digit, whatever type is claimed.
        assert_eq!(service.predict(media_type, &bytes).json(), from_jpeg);
        assert_eq!(service.predict("image/jpeg", &bytes).json(), from_jpeg);
    }
    // Without a type, the content decides.
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
fn form_with_one_file_is_predicted_and_others_are_rejected() {
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

/// Returns a part of a form, as some client writes it.
fn part(headers: &[&str], content: &[u8]) -> Vec<u8> {
    let mut part = b"--edge\r\n".to_vec();
    for header in headers {
        part.extend(format!("{header}\r\n").bytes());
    }
    [&part, &b"\r\n"[..], content, b"\r\n"].concat()
}

/// Forms as clients send them that are not browsers, and browsers' with an unused file input.
#[test]
fn forms_of_all_clients_get_the_letter() {
    let service = Service::start(&[]);
    let jpeg = photo("v.jpg");
    let expected = service.predict("image/jpeg", &jpeg).json();
    assert_eq!(expected["prediction"], "V");
    let end = b"--edge--\r\n".to_vec();
    let field = part(&["Content-Disposition: form-data; name=\"user\""], b"ada");
    let unused = part(
        &[
            "Content-Disposition: form-data; name=\"other\"; filename=\"\"",
            "Content-Type: application/octet-stream",
        ],
        b"",
    );
    let file = |headers: &[&str]| part(headers, &jpeg);
    let named = file(&[
        "Content-Disposition: form-data; name=\"file\"; filename=\"v.jpg\"",
        "Content-Type: image/jpeg",
    ]);
    let star = file(&[
        "Content-Disposition: form-data; name=\"file\"; filename*=UTF-8''h%C3%A4nd.jpg",
        "Content-Type: image/jpeg",
    ]);
    let without_name =
        file(&["Content-Disposition: form-data; name=\"file\"", "Content-Type: image/jpeg"]);
    let bare = file(&["Content-Disposition: form-data; name=\"anything\""]);
    let only_lf = [
        &b"--edge\nContent-Disposition: form-data; name=\"file\"; filename=\"v.jpg\"\n\n"[..],
        &jpeg,
        b"\n--edge--\n",
    ]
    .concat();
    for (name, body) in [
        ("a file's name in RFC 5987 alone", [&star[..], &end].concat()),
        ("no file name", [&without_name[..], &end].concat()),
        ("no file name and no type", [&bare[..], &end].concat()),
        ("a field first", [&field[..], &bare, &end].concat()),
        ("an unused file input", [&named[..], &unused, &end].concat()),
        ("an unused file input first", [&unused[..], &named, &end].concat()),
        ("line ends without CR", only_lf),
        ("text before and after", [&b"A form.\r\n"[..], &named, &end, b"Bye"].concat()),
    ] {
        let answer = service.predict("multipart/form-data; boundary=edge", &body);
        assert_eq!(answer.status, 200, "{name}: {}", String::from_utf8_lossy(&answer.body));
        assert_eq!(answer.json(), expected, "{name}");
    }
    // The boundary of Java's mail library, and one that needs its quotes.
    let body = |boundary: &str| {
        let text = [&named[..], &end].concat();
        let mut body = Vec::new();
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            match line.strip_prefix(b"--edge") {
                Some(rest) => body.extend([b"--", boundary.as_bytes(), rest].concat()),
                None => body.extend_from_slice(line),
            }
        }
        body
    };
    for (content_type, boundary) in [
        ("multipart/form-data; boundary=----=_Part_1_2.3", "----=_Part_1_2.3"),
        ("multipart/form-data; boundary=\"b/Qe:f\"", "b/Qe:f"),
        ("Multipart/Form-Data;BOUNDARY=edge; charset=utf-8", "edge"),
    ] {
        let answer = service.predict(content_type, &body(boundary));
        assert_eq!(answer.status, 200, "{content_type}");
        assert_eq!(answer.json(), expected, "{content_type}");
    }
}

#[test]
fn unusable_form_is_told_what_to_do() {
    let service = Service::start(&[]);
    let jpeg = photo("v.jpg");
    let file = "Content-Disposition: form-data; name=\"file\"; filename=\"v.jpg\"";
    let whole = [&part(&[file], &jpeg)[..], b"--edge--\r\n"].concat();
    let empty = [
        &part(&["Content-Disposition: form-data; name=\"file\"; filename=\"\""], b"")[..],
        b"--edge--\r\n",
    ]
    .concat();
    let edge = "multipart/form-data; boundary=edge";
    for (content_type, body, words) in [
        (edge, &empty[..], "no photo was chosen"),
        (edge, &whole[..whole.len() - b"--edge--\r\n".len()], "last boundary"),
        (edge, &jpeg, "Send it as image/jpeg"),
        ("multipart/form-data", &whole, "Leave Content-Type out"),
        ("multipart/form-data; boundary=other", &whole, "Leave Content-Type out"),
    ] {
        let answer = service.predict(content_type, body);
        assert_problem(&answer, 400);
        assert!(detail(&answer).contains(words), "{}", detail(&answer));
    }
    // The decoder's reason is that of a photo by itself.
    let gif = [&part(&[file], b"GIF89a\x01\0\x01\0")[..], b"--edge--\r\n"].concat();
    let answer = service.predict(edge, &gif);
    assert_problem(&answer, 415);
    assert!(detail(&answer).contains("a GIF picture"), "{}", detail(&answer));
}

#[test]
fn content_decides_whatever_type_is_claimed() {
    let service = Service::start(&[]);
    let jpeg = photo("v.jpg");
    let expected = service.send("POST", "/predict", &[], Some(&jpeg)).json();
    assert_eq!(expected["prediction"], "V");
    for media_type in [
        "application/x-www-form-urlencoded",
        "application/octet-stream",
        "image/*",
        "image/pjpeg",
        "image/heic",
        "image/png",
        "text/plain",
        "video/mp4",
        "",
    ] {
        let answer = service.predict(media_type, &jpeg);
        assert_eq!(answer.status, 200, "{media_type}: {}", String::from_utf8_lossy(&answer.body));
        assert_eq!(answer.json(), expected, "{media_type}");
    }
}

#[test]
fn body_that_is_no_photo_is_named() {
    let service = Service::start(&[]);
    for (media_type, body, words) in [
        ("image/jpeg", &b"/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAUDBAQEAwUE"[..], "base64"),
        ("text/plain", b"data:image/jpeg;base64,/9j/4AAQSkZJRg==", "a data: URL"),
        ("application/json", b"{\"image\": \"/9j/4AAQSkZJRg==\"}", "JSON"),
        ("application/octet-stream", b"\x1f\x8b\x08\0\0\0\0\0", "gzip"),
        ("text/html", b"<!DOCTYPE html>\n<title>Log in</title>", "an HTML page"),
        ("image/gif", b"GIF89a\x01\0\x01\0", "a GIF picture"),
        ("image/avif", b"\0\0\0\x20ftypavif\0\0\0\0", "an AVIF photo"),
        ("video/mp4", b"\0\0\0\x18ftypmp42\0\0\0\0", "video"),
        ("application/pdf", b"%PDF-1.7\n", "a PDF document"),
        ("image/heic", b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC"),
        ("application/x-thing", b"\x01\x02\x03", "application/x-thing"),
    ] {
        let answer = service.predict(media_type, body);
        assert_problem(&answer, 415);
        assert!(detail(&answer).contains(words), "{words}: {}", detail(&answer));
        assert!(answer.header("accept").contains("image/webp"), "{words}");
    }
    for (media_type, body, words) in [
        ("image/jpeg", &b""[..], "The body is empty"),
        ("text/plain", b"", "The body is empty"),
        ("image/jpeg", b"\x01\x02\x03", "JPEG, PNG or WebP"),
    ] {
        let answer = service.predict(media_type, body);
        assert_problem(&answer, 422);
        assert!(detail(&answer).contains(words), "{words}: {}", detail(&answer));
    }
    // `curl --data @photo.jpg` removes these.
    let mut stripped = photo("v.jpg");
    stripped.retain(|byte| !b"\0\r\n".contains(byte));
    let answer = service.predict("application/x-www-form-urlencoded", &stripped);
    assert_problem(&answer, 415);
    assert!(detail(&answer).contains("--data-binary"), "{}", detail(&answer));
    // Even a photo: what its bytes are after decoding is not known.
    let encoded = [("content-type", "image/jpeg"), ("content-encoding", "gzip")];
    let answer = service.send("POST", "/predict", &encoded, Some(&photo("v.jpg")));
    assert_problem(&answer, 415);
    assert_eq!((answer.header("accept-encoding"), answer.header("accept")), ("identity", ""));
    let none = [("content-encoding", "identity")];
    let answer = service.send("POST", "/predict", &none, Some(&photo("v.jpg")));
    assert_eq!(answer.json()["prediction"], "V");
}

#[test]
fn box_of_an_answer_leads_to_the_same_hand() {
    let service = Service::start(&[]);
    for file in ["v.jpg", "v-left.jpg", "b-far.jpg", "n-tilted.jpg"] {
        let first = service.predict("image/jpeg", &photo(file)).json();
        let place = &first["hand"]["box"];
        let numbers = ["x", "y", "width", "height", "rotation"].map(|name| place[name].to_string());
        // The box, one without rotation, and one where no hand is.
        let [known, square, elsewhere] =
            [numbers.join(","), numbers[..4].join(","), "0.9,0.9,0.05,0.05".into()];
        for place in [known, square, elsewhere] {
            let path = format!("/predict?box={place}");
            let answer = service.send("POST", &path, &[], Some(&photo(file))).json();
            assert_eq!(answer["prediction"], first["prediction"], "{file} {place}");
        }
    }
    let answer = service.send("POST", "/predict?box=here", &[], Some(&photo("v.jpg")));
    assert_problem(&answer, 400);
    assert!(detail(&answer).contains("hand.box"), "{}", detail(&answer));
}

/// Asks for the letter of the photo at a URL.
fn predict_url(service: &Service, url: &str) -> Answer {
    service.predict("application/json", json!({"url": url}).to_string().as_bytes())
}

/// Starts a server with a photo, and answers that are none.
fn photo_server() -> PhotoServer {
    PhotoServer::start(|origin| {
        let jpeg = photo("v.jpg");
        let of_type = |media_type, body: &[u8]| {
            Reply::Bytes(response("200 OK", &[("content-type", media_type)], body))
        };
        let to = |place: &str| Reply::Bytes(response("302 Found", &[("location", place)], b""));
        let whole = response("200 OK", &[], &jpeg);
        let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
        let endless = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffffffff\r\n".to_vec();
        let large = b"HTTP/1.1 200 OK\r\ncontent-length: 104857600\r\n\r\n".to_vec();
        vec![
            ("/v.jpg", of_type("image/jpeg", &jpeg)),
            ("/untyped", Reply::Bytes(whole.clone())),
            ("/chunks", Reply::Bytes([chunked.clone(), in_chunks(&jpeg, 1000)].concat())),
            ("/moved", to("/folder/../v.jpg?size=2")),
            ("/loop", to("/loop")),
            ("/elsewhere", to("https://elsewhere.example/v.jpg")),
            ("/other-port", to("http://127.0.0.1:1/v.jpg")),
            ("/nowhere", to(&origin.replace("http:", "file:"))),
            ("/silent", Reply::Stall(Vec::new())),
            ("/stalls", Reply::Stall(whole[..whole.len() / 2].to_vec())),
            ("/ends", Reply::Bytes(whole[..whole.len() / 2].to_vec())),
            (
                "/chunks-end",
                Reply::Bytes([chunked, in_chunks(&jpeg, 1000)[..5000].into()].concat()),
            ),
            ("/not-http", Reply::Bytes(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec())),
            ("/closes", Reply::Bytes(Vec::new())),
            ("/empty", of_type("image/jpeg", b"")),
            ("/endless", Reply::Flood(endless, 100 << 20)),
            ("/large", Reply::Flood(large, 100 << 20)),
            ("/page", of_type("text/html", b"<!DOCTYPE html><title>Log in</title>")),
            ("/thing", of_type("application/x-thing", b"?")),
            ("/broken", of_type("image/jpeg", &jpeg[..2000])),
        ]
    })
}

/// Starts the service with leave to fetch from a server.
fn fetching(server: &PhotoServer, more: &[(&str, &str)]) -> Service {
    let origin = server.origin();
    let own = [("photo_url_allowed_host", origin.as_str()), ("photo_url_allow_private", "true")];
    Service::start(&[&own, more].concat())
}

#[test]
fn photo_at_a_url_gets_the_letter_of_the_photo_itself() {
    let server = photo_server();
    let service = fetching(&server, &[]);
    let expected = service.predict("image/jpeg", &photo("v.jpg")).json();
    assert_eq!(expected["prediction"], "V");
    for path in ["/v.jpg", "/v.jpg?sig=a%2Fb", "/untyped", "/chunks", "/moved"] {
        let answer = predict_url(&service, &format!("{}{path}", server.origin()));
        assert_eq!(answer.status, 200, "{path}: {}", String::from_utf8_lossy(&answer.body));
        assert_eq!(answer.json(), expected, "{path}");
        let timing = answer.header("server-timing");
        assert!(timing.starts_with("photo_fetch;dur="), "{path}: {timing}");
    }
    // The content decides here, too.
    let body = format!("\n {{\"url\": \"{}/v.jpg\", \"note\": 1}}", server.origin());
    for media_type in ["", "text/plain", "image/jpeg", "application/octet-stream"] {
        assert_eq!(service.predict(media_type, body.as_bytes()).json(), expected, "{media_type}");
    }
    let head = &server.heads()[0];
    assert!(head.starts_with("get /v.jpg http/1.1\r\n"), "{head}");
    for line in [
        &format!("host: {}", &server.origin()["http://".len()..]),
        "accept: image/jpeg, image/png, image/webp",
        "accept-encoding: identity",
        &format!("user-agent: hand-gesture-api/{}", env!("CARGO_PKG_VERSION")),
    ] {
        assert!(head.contains(&format!("\r\n{line}\r\n")), "{line}: {head}");
    }
    // There is no body, which some servers reject, and no trace without tracing.
    assert!(!head.contains("transfer-encoding") && !head.contains("traceparent"), "{head}");
    assert_eq!(service.log(), Vec::<String>::new(), "nothing needs attention");
}

#[test]
fn photo_that_cannot_be_fetched_is_told_why() {
    let server = photo_server();
    let limits = [("max_body_bytes", "1000000"), ("photo_url_timeout", "1500")];
    let service = fetching(&server, &limits);
    for (path, status, words) in [
        ("/missing", 502, "answers 404 Not Found"),
        ("/loop", 502, "redirects more than 3 times"),
        ("/elsewhere", 403, "redirects. Photos are not fetched from https://elsewhere.example: "),
        ("/other-port", 403, "redirects. Photos are not fetched from http://127.0.0.1:1: "),
        ("/nowhere", 502, "redirects. The URL cannot be used"),
        ("/silent", 504, "within 1500 ms (photo_url_timeout)"),
        ("/stalls", 504, "within 1500 ms (photo_url_timeout)"),
        ("/ends", 502, "before the photo was complete"),
        ("/chunks-end", 502, "before the photo was complete"),
        ("/not-http", 502, "gives no answer"),
        ("/closes", 502, "gives no answer"),
        ("/empty", 502, "answers with nothing"),
        ("/endless", 413, "larger than 1000000 bytes"),
        ("/large", 413, "larger than 1000000 bytes"),
        ("/page", 415, "holds an HTML page instead"),
        ("/thing", 415, "application/x-thing"),
        ("/broken", 422, "JPEG"),
    ] {
        let start = Instant::now();
        let answer = predict_url(&service, &format!("{}{path}", server.origin()));
        assert!(start.elapsed() < Duration::from_secs(20), "{path}: {:?}", start.elapsed());
        assert_problem(&answer, status);
        assert!(detail(&answer).contains(words), "{path}: {}", detail(&answer));
    }
    // What is too large is not read to its end.
    assert!(server.flooded() < 50 << 20, "{}", server.flooded());
    assert!(!server.heads().iter().any(|head| head.contains("elsewhere.example")));
    // Nothing of it harms the instance, nor its log.
    let answer = predict_url(&service, &format!("{}/v.jpg", server.origin()));
    assert_eq!(answer.json()["prediction"], "V");
    assert_eq!(service.log(), Vec::<String>::new());
}

#[test]
fn url_that_no_setting_allows_is_not_fetched() {
    let server = photo_server();
    let url = format!("{}/v.jpg", server.origin());
    // By default, and with the default said.
    for settings in [&[][..], &[("photo_url_allowed_host", "https://off.invalid")]] {
        let service = Service::start(settings);
        let answer = predict_url(&service, &url);
        assert_problem(&answer, 415);
        assert!(detail(&answer).contains("photo_url_allowed_host"), "{}", detail(&answer));
        assert!(answer.header("accept").contains("image/webp"));
        // JSON of other kinds is answered as ever.
        let other = service.predict("application/json", b"{\"image\": \"/9j/4AAQSkZJRg==\"}");
        assert_problem(&other, 415);
        assert!(!detail(&other).contains("photo_url_allowed_host"), "{}", detail(&other));
        assert_eq!(service.log(), Vec::<String>::new());
    }
    // Loopback needs a setting of its own.
    let origin = server.origin();
    let service = Service::start(&[("photo_url_allowed_host", &origin)]);
    let answer = predict_url(&service, &url);
    assert_problem(&answer, 403);
    assert!(detail(&answer).contains("127.0.0.1, which is private"), "{}", detail(&answer));
    let service = fetching(&server, &[("photo_url_second_allowed_host", "https://*")]);
    let port = origin.rsplit(':').next().expect("a port");
    for (url, status, words) in [
        ("http://127.0.0.1:1/v.jpg".to_owned(), 403, "http://127.0.0.1:1: no setting"),
        (url.replace("http:", "https:"), 403, "no setting allows it"),
        (url.replace("127.0.0.1", "127.0.0.2"), 403, "no setting allows it"),
        (format!("http://localhost:{port}/v.jpg"), 403, "no setting allows it"),
        (format!("http://127.1:{port}/v.jpg"), 422, "its host is not one"),
        (format!("http://a@127.0.0.1:{port}/v.jpg"), 422, "a user name or a password"),
        (format!("file://127.0.0.1:{port}/v.jpg"), 422, "neither with https:// nor with http://"),
        (String::new(), 422, "neither with https:// nor with http://"),
    ] {
        let answer = predict_url(&service, &url);
        assert_problem(&answer, status);
        assert!(detail(&answer).contains(words), "{url}: {}", detail(&answer));
    }
    let answer = service.predict("application/json", b"{\"url\": 1}");
    assert_problem(&answer, 422);
    assert_eq!(server.heads(), Vec::<String>::new());
    assert_eq!(service.log(), Vec::<String>::new());
}

/// The component's own list is one wall, the host's is another.
#[test]
fn host_that_does_not_follow_the_setting_refuses_the_request() {
    let server = photo_server();
    let origin = server.origin();
    let own = [("photo_url_allowed_host", origin.as_str()), ("photo_url_allow_private", "true")];
    let service = Service::start_with(&own, |options| options.allowed_hosts = Default::default());
    let answer = predict_url(&service, &format!("{origin}/v.jpg"));
    assert_problem(&answer, 403);
    assert!(detail(&answer).contains("(allowed_outbound_hosts)"), "{}", detail(&answer));
    assert_eq!(server.heads(), Vec::<String>::new());
    let [line] = service.log().try_into().expect("one line");
    assert!(line.contains(&origin) && line.contains("allowed_outbound_hosts"), "{line}");
}

/// Each kind has a test of its own, with its neighbours. The tests of other hosts send these, too.
#[test]
fn odd_inputs_are_answered() {
    let origin = "https://page.example";
    let settings = [("cors_allowed_origins", origin), ("user_id_header", "x-user-id")];
    let service = Service::start_with(&settings, |options| {
        options.limits.memory_per_instance = Some(128 << 20);
    });
    odd::inputs_are_answered(&service);
    odd::preflight_allows_the_users_header(&service, origin);
    odd::oversized_body_gets_the_413(&service);
    assert_eq!(service.log(), Vec::<String>::new());
}

#[test]
fn photo_without_hand_gets_null() {
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

/// Returns a JPEG with an EXIF segment that holds only the orientation.
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

/// Returns the photo as a turned sensor would store it: a quarter turn to the left.
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
fn exif_orientation_is_applied() {
    let service = Service::start(&[]);
    // A U on its side is an H: only the orientation tells them apart.
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
        // Measured: 0.0005, by the second encoding.
        let difference = (point(&upright, axis) - point(&stored, axis)).abs();
        assert!(difference < 0.001, "{difference}");
    }
}

#[test]
fn unknown_routes_methods_and_types_are_rejected() {
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
fn head_returns_headers_of_get_and_options_lists_methods() {
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
fn cors_admits_configured_origins_only() {
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
    assert_eq!(answer.header("vary"), "Origin");
    // Pages may read errors too.
    let answer = service.send("GET", "/nothing", &page, None);
    assert_eq!((answer.status, origin(&answer)), (404, "https://page.example".into()));
}

#[test]
fn preflight_allows_the_header_of_the_user_id() {
    let origin = "https://page.example";
    let settings = [("cors_allowed_origins", origin), ("user_id_header", "X-User-Id")];
    let service = Service::start(&settings);
    let preflight = [
        ("origin", origin),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "content-type,x-user-id"),
    ];
    let answer = service.send("OPTIONS", "/predict", &preflight, None);
    assert_eq!(answer.status, 204);
    let allowed: Vec<&str> = answer.header("access-control-allow-headers").split(", ").collect();
    for name in ["content-type", "traceparent", "tracestate", "baggage", "x-user-id"] {
        assert!(allowed.contains(&name), "{allowed:?}");
    }
    for name in ["access-control-allow-methods", "access-control-max-age"] {
        assert_ne!(answer.header(name), "", "{name}");
    }
    assert_eq!(answer.header("access-control-allow-credentials"), "");
}

/// Returns the head of a request with a body of this length, or in chunks.
fn head(request: &str, headers: &[&str], length: Option<usize>) -> Vec<u8> {
    let mut head = format!("{request} HTTP/1.1\r\nhost: a.example\r\n");
    for header in headers {
        _ = write!(head, "{header}\r\n");
    }
    _ = match length {
        Some(length) => write!(head, "content-length: {length}\r\n\r\n"),
        None => write!(head, "transfer-encoding: chunked\r\n\r\n"),
    };
    head.into_bytes()
}

/// Asserts that a response is a problem of this status.
fn assert_raw_problem(response: &Response, status: u16) {
    let text = String::from_utf8_lossy(&response.body).into_owned();
    assert_eq!(response.status, status, "{text}");
    assert_eq!(response.header("content-type"), "application/problem+json", "{text}");
    let body: Value = serde_json::from_slice(&response.body).expect("JSON");
    assert_eq!(body["status"], status, "{text}");
}

/// Bytes of a body that is four times as large as the default limit.
const OVERSIZED: usize = 40 << 20;

/// A client that writes all of its body before it reads, as Python's http.client and requests do.
#[test]
fn client_that_sends_all_of_an_oversized_body_reads_the_413() {
    let service = Service::start_with(&[], patient);
    let body = vec![0xff; OVERSIZED];
    let plain = head("POST /predict", &["content-type: image/jpeg"], Some(body.len()));
    let chunked = head("POST /predict", &["content-type: image/jpeg"], None);
    for (head, body) in [(plain, body.clone()), (chunked, in_chunks(&body, 8 << 10))] {
        let mut connection = Connection::open(service.address()).expect("a connection");
        connection.send(&head).expect("a head");
        connection.send(&body).expect("all of the body is taken");
        let response = connection.receive().expect("an answer");
        assert_raw_problem(&response, 413);
        // The body was read to its end, so the connection is of further use.
        assert!(!response.closes());
        connection.send(b"GET /health HTTP/1.1\r\nhost: a.example\r\n\r\n").expect("a request");
        assert_eq!(connection.receive().expect("an answer").status, 200);
    }
    assert_eq!(service.instances_started(), 1, "no instance was lost");
    assert_eq!(service.log(), Vec::<String>::new());
}

/// The answer is there before the body: `Expect: 100-continue` asks for that, and curl sends it.
#[test]
fn client_that_waits_for_leave_gets_the_413_instead() {
    let service = Service::start(&[]);
    let expect = ["content-type: image/jpeg", "expect: 100-continue"];
    let body = vec![0xff; OVERSIZED];

    let mut connection = Connection::open(service.address()).expect("a connection");
    connection.send(&head("POST /predict", &expect, Some(body.len()))).expect("a head");
    let response = connection.receive().expect("an answer");
    assert_raw_problem(&response, 413);
    assert_eq!(response.interim, [0; 0]);
    // Neither side can know what the next bytes are, so there are none.
    assert!(response.closes());

    // One that does not wait, after all.
    let mut connection = Connection::open(service.address()).expect("a connection");
    connection.send(&head("POST /predict", &expect, Some(body.len()))).expect("a head");
    connection.send(&body).expect("all of the body is taken");
    assert_raw_problem(&connection.receive().expect("an answer"), 413);

    // Without a length, the answer cannot be known.
    let mut connection = Connection::open(service.address()).expect("a connection");
    connection.send(&head("POST /predict", &expect, None)).expect("a head");
    connection.send(&in_chunks(&body, 64 << 10)).expect("all of the body is taken");
    let response = connection.receive().expect("an answer");
    assert_raw_problem(&response, 413);
    assert_eq!(response.interim, [100]);

    // A body within the limit is asked for.
    let jpeg = photo("v.jpg");
    let mut connection = Connection::open(service.address()).expect("a connection");
    connection.send(&head("POST /predict", &expect, Some(jpeg.len()))).expect("a head");
    connection.send(&jpeg).expect("a body");
    let response = connection.receive().expect("an answer");
    assert_eq!((response.status, response.interim), (200, vec![100]));
}

/// Whatever is answered before the body is read, by the service or by the host.
#[test]
fn early_answer_reaches_a_client_that_is_still_sending() {
    let service = Service::start(&[]);
    let body = vec![0xff; OVERSIZED];
    for (request, header, status) in [
        ("POST /nothing", "accept: */*", 404),
        ("PUT /health", "accept: */*", 405),
        ("POST /predict", "content-encoding: gzip", 413),
        ("POST /predict", "content-type: multipart/form-data", 413),
        ("POST /.well-known/spin/nothing", "accept: */*", 404),
    ] {
        let mut connection = Connection::open(service.address()).expect("a connection");
        connection.send(&head(request, &[header], Some(body.len()))).expect("a head");
        connection.send(&body).expect("all of the body is taken");
        let response = connection.receive().unwrap_or_else(|error| panic!("{request}: {error}"));
        assert_eq!(response.status, status, "{request}");
    }
    for header in ["content-encoding: gzip", "content-type: multipart/form-data"] {
        let mut connection = Connection::open(service.address()).expect("a connection");
        connection.send(&head("POST /predict", &[header], Some(9 << 20))).expect("a head");
        connection.send(&body[..9 << 20]).expect("all of the body is taken");
        let status = connection.receive().expect("an answer").status;
        assert!([400, 415].contains(&status), "{header}: {status}");
    }
}

/// The rest of a body that is read after an answer is bounded: 64 MiB by the component, as many by the host.
#[test]
fn client_that_never_stops_sending_is_cut_off() {
    let service = Service::start(&[]);
    let mut connection = Connection::open(service.address()).expect("a connection");
    connection.send(&head("POST /predict", &[], None)).expect("a head");
    let chunk = [&b"100000\r\n"[..], &vec![0xff; 1 << 20], b"\r\n"].concat();
    let sent = (0..400).take_while(|_| connection.send(&chunk).is_ok()).count();
    assert!((64..200).contains(&sent), "{sent} MiB");
    assert_eq!(service.get("/health").status, 200);
}

/// And in time: here by the longest pause.
#[test]
fn client_that_stops_in_the_middle_is_left() {
    let service = Service::start(&[]);
    let mut connection = Connection::open(service.address()).expect("a connection");
    connection.send(&head("POST /predict", &[], Some(OVERSIZED))).expect("a head");
    connection.send(&[0xff; 1000]).expect("a part of the body");
    assert_raw_problem(&connection.receive().expect("an answer"), 413);
    let start = Instant::now();
    assert!(connection.is_closed_in_order());
    // A pause of 5 seconds ends it; the socket's own timeout, which fails this test, is a minute.
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
    assert_eq!(service.get("/health").status, 200);
}

#[test]
fn body_larger_than_the_memory_is_refused_without_a_trap() {
    let service = Service::start_with(&[("max_body_bytes", "100000000")], |options| {
        patient(options);
        // Little more than the component starts with.
        options.limits.memory_per_instance = Some(48 << 20);
    });
    let announced = head("POST /predict", &[], Some(OVERSIZED));
    let grows = head("POST /predict", &[], None);
    let body = vec![0xff; OVERSIZED];
    for (head, body) in [(announced, body.clone()), (grows, in_chunks(&body, 64 << 10))] {
        let mut connection = Connection::open(service.address()).expect("a connection");
        connection.send(&head).expect("a head");
        connection.send(&body).expect("all of the body is taken");
        assert_raw_problem(&connection.receive().expect("an answer"), 413);
    }
    assert_eq!(service.predict("image/jpeg", &photo("v.jpg")).json()["prediction"], "V");
    assert_eq!(service.instances_started(), 1, "the instance lives");
    assert!(service.peak_instance_memory() <= 48 << 20);
    let log = service.log();
    let refused = "instance 1 may not have ";
    assert!(log.len() == 1 && log[0].starts_with(refused), "{log:?}");
}

#[test]
fn request_timeout_is_kept_where_asked() {
    let service = Service::start_with(&[], |options| {
        options.limits.request_timeout = Some(Duration::from_millis(500));
    });
    assert_eq!(service.get("/health").status, 200);
    let mut connection = Connection::open(service.address()).expect("a connection");
    connection.send(&head("POST /predict", &[], Some(1000))).expect("a head");
    let start = Instant::now();
    let response = connection.receive().expect("an answer");
    assert_eq!(response.status, 504);
    assert!(start.elapsed() >= Duration::from_millis(500), "{:?}", start.elapsed());
    assert_eq!(service.get("/health").status, 200);
    let log = service.log();
    assert!(log.iter().any(|line| line.contains("request timeout")), "{log:?}");
}

#[test]
fn body_over_limit_is_rejected_while_it_is_read() {
    let service = Service::start(&[("max_body_bytes", "1000")]);
    let answer = service.predict("image/jpeg", &photo("a.jpg"));
    assert_problem(&answer, 413);
    assert!(detail(&answer).contains("1000 bytes"));

    // The body has no announced length and never ends. The answer must not wait for its end.
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

/// Returns a PNG and a JPEG that announce 60,000 × 60,000 pixels and hold none.
fn giants() -> [(&'static str, Vec<u8>); 2] {
    let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
    let side = 60_000u32.to_be_bytes();
    png.extend([side, side].concat());
    png.extend(b"\x08\x02\0\0\0");
    png.extend(crc32fast::hash(&png[12..]).to_be_bytes());
    png.extend(b"\0\0\0\0IDAT\x35\xaf\x06\x1e\0\0\0\0IEND\xae\x42\x60\x82");

    let mut jpeg = photo("a.jpg");
    let frame = jpeg.windows(2).position(|pair| pair == [0xff, 0xc0]).expect("a frame header");
    let side = 60_000u16.to_be_bytes();
    jpeg[frame + 5..frame + 7].copy_from_slice(&side);
    jpeg[frame + 7..frame + 9].copy_from_slice(&side);
    jpeg.resize(50_000, 0);
    [("image/png", png), ("image/jpeg", jpeg)]
}

#[test]
fn photo_over_pixel_limit_is_rejected_before_decoding() {
    let service = Service::start(&[]);
    service.get("/health");
    for (media_type, bytes) in giants() {
        let start = Instant::now();
        let answer = service.predict(media_type, &bytes);
        assert_problem(&answer, 422);
        assert!(detail(&answer).contains("60000 × 60000"), "{}", detail(&answer));
        // Measured: 1 ms. Decoding would take minutes, or fail for lack of 10 GB.
        assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    }
}

/// Returns a small picture in each format, with its media type.
fn small_pictures() -> Vec<(&'static str, Vec<u8>)> {
    let picture = image::RgbImage::from_fn(64, 48, |x, y| {
        image::Rgb([(x * 4) as u8, (y * 5) as u8, (x * y) as u8])
    });
    let encoded = |format| {
        let mut bytes = Vec::new();
        picture.write_to(&mut Cursor::new(&mut bytes), format).expect("an encoder");
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

fn noise(random: &mut Rng, length: usize) -> Vec<u8> {
    std::iter::repeat_with(|| random.u8(..)).take(length).collect()
}

#[test]
fn broken_bodies_are_answered_without_a_trap() {
    let service = Service::start(&[]);
    // The bodies are the same in every run.
    let mut random = Rng::with_seed(2026);
    let pictures = small_pictures();
    let mut statuses = std::collections::BTreeMap::<u16, usize>::new();
    for i in 0..1000 {
        let (media_type, whole) = &pictures[i % pictures.len()];
        let (media_type, body) = match i % 5 {
            // Cut off.
            0 => (*media_type, whole[..random.usize(..whole.len())].to_vec()),
            // Some bytes changed.
            1 | 2 => {
                let mut body = whole.clone();
                for _ in 0..random.usize(1..=8) {
                    let at = random.usize(..body.len());
                    body[at] = random.u8(..);
                }
                (*media_type, body)
            }
            // The right beginning, then noise.
            3 => {
                let mut body = whole[..random.usize(16..whole.len())].to_vec();
                let length = random.usize(..4000);
                body.extend(noise(&mut random, length));
                (*media_type, body)
            }
            // Noise, as a photo or as a form.
            _ => {
                let forms = ["image/jpeg", "multipart/form-data; boundary=edge"];
                let media_type = forms[random.usize(..2)];
                let length = random.usize(..4000);
                (media_type, noise(&mut random, length))
            }
        };
        let answer = service.predict(media_type, &body);
        // A changed byte may leave a picture that can be decoded.
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
    // Measured: 181 × 200, 102 × 400, 717 × 422. Most bodies reach a decoder and fail there.
    assert!(statuses[&422] >= 700 && statuses[&400] >= 100, "{statuses:?}");
    // No trap, no warning, and the next valid request is answered.
    assert_eq!(service.log(), Vec::<String>::new());
    assert_eq!(service.predict("image/jpeg", &photo("v.jpg")).json()["prediction"], "V");
}

/// More of the same is sent by `cargo xtask hostile`.
#[test]
fn hostile_requests_are_answered_within_128_mib() {
    const MEMORY: usize = 128 << 20;
    let service = Service::start_with(&[], |options| {
        options.limits.memory_per_instance = Some(MEMORY);
    });
    let requests = hostile::Requests::new(17);
    let report = hostile::send(service.address(), &requests, 0..400, 2, None);
    let log: Vec<String> =
        service.log().into_iter().filter(|line| line.contains("instance")).collect();
    assert!(report.is_well() && log.is_empty(), "{report}{log:?}");
    // Photos, forms and the rest: each kind of answer is there.
    for status in [200, 400, 415, 422] {
        assert!(report.statuses.contains_key(&status), "{report}");
    }
    assert!(service.peak_instance_memory() <= MEMORY);
    assert_eq!(service.predict("image/jpeg", &photo("v.jpg")).json()["prediction"], "V");
}

/// The photos that cost most, one of each kind. With `RUNS=5` and `--nocapture`, this prints the table of
/// docs/benchmarks.md.
#[test]
fn photos_that_cost_most_are_answered_within_128_mib() {
    const MEMORY: usize = 128 << 20;
    /// Ten times the time of the slowest one: other tests run beside this one.
    const TIME: Duration = Duration::from_secs(10);
    let runs = std::env::var("RUNS").map_or(1, |runs| runs.parse().expect("a number"));
    for make in worst::ALL {
        let Worst { name, file, whole } = make();
        // The memory of each kind, not of the one before.
        let service = Service::start_with(&[], |options| {
            options.limits.memory_per_instance = Some(MEMORY);
        });
        let mut times: Vec<(Duration, Answer)> = (0..runs)
            .map(|_| {
                let start = Instant::now();
                let answer = service.predict("application/octet-stream", &file);
                (start.elapsed(), answer)
            })
            .collect();
        times.sort_by_key(|(time, _)| *time);
        let (time, answer) = &times[runs / 2];
        let peak = service.peak_instance_memory();
        println!(
            "| {name} | {:.1} | {} | {:.0} | {:.0} | {} | {:.0} |",
            file.len() as f64 / 1e6,
            answer.status,
            times[0].0.as_secs_f64() * 1e3,
            time.as_secs_f64() * 1e3,
            times[0].1.header("server-timing"),
            peak as f64 / 1e6,
        );
        let text = String::from_utf8_lossy(&answer.body);
        assert!(answer.status == 200 || !whole && answer.status == 422, "{name}: {text}");
        assert!(peak <= MEMORY && *time < TIME, "{name}: {peak} bytes, {time:?}");
        let log = service.log();
        assert!(!log.iter().any(|line| line.contains("instance")), "{name}: {log:?}");
    }
}

/// The client gets no answer, since it has closed the connection: the trace shows what became of its
/// request.
#[test]
fn body_cut_off_is_a_problem_and_leaves_the_instance_alive() {
    let collector = traces::collector();
    let service = traces::service_at(&collector.endpoint(), &[], patient);
    let whole = photo("v.jpg");
    // The first request is another one: the trace is not that of a cold start.
    service.get("/");
    let before = traces::spans(&collector, 1).len();
    let mut stream = TcpStream::connect(service.address()).expect("a connection");
    let head = format!(
        "POST /predict HTTP/1.1\r\nhost: {}\r\ncontent-type: image/jpeg\r\n\
         content-length: {}\r\n\r\n",
        service.address(),
        whole.len()
    );
    stream.write_all(head.as_bytes()).expect("a head");
    stream.write_all(&whole[..1000]).expect("a part of the body");
    stream.shutdown(Shutdown::Write).expect("an end");
    let spans = traces::spans(&collector, before + 1);
    traces::assert_trace(&spans[before..], "cut-off");
    assert_eq!(service.predict("image/jpeg", &whole).json()["prediction"], "V");
    assert_eq!(service.instances_started(), 1, "the instance survives");
}

#[test]
fn concurrent_predictions_use_separate_instances() {
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
fn invalid_setting_is_reported_once_and_falls_back_to_default() {
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

/// The header with which a browser asks for a page.
const BROWSER: [(&str, &str); 1] =
    [("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8")];

#[test]
fn browser_gets_a_page_and_others_get_json() {
    let service = Service::start(&[]);
    let page = service.send("GET", "/", &BROWSER, None);
    assert_eq!(page.status, 200);
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    assert!(page.body.starts_with(b"<!doctype html>"));
    for accept in ["*/*", "application/json", "text/html, application/json", "nonsense"] {
        let answer = service.send("GET", "/", &[("accept", accept)], None);
        assert_eq!(answer.header("content-type"), "application/json", "{accept}");
        // Caches must not give one the answer of the other.
        assert_eq!(answer.header("vary"), "Accept", "{accept}");
    }
    assert_eq!(page.header("vary"), "Accept");
    let docs = service.get("/docs");
    assert_eq!(docs.header("content-type"), "text/html; charset=utf-8");
    let answer = service.send("POST", "/docs", &[], Some(b""));
    assert_problem(&answer, 405);
    assert_eq!(answer.header("allow"), "GET, HEAD, OPTIONS");
}

#[test]
fn pages_load_nothing_from_elsewhere_and_little_at_all() {
    let service = Service::start(&[]);
    let mut all = Vec::new();
    let files = hand_gesture_api::page::FILES.iter().map(|file| file.path);
    for path in ["/", "/docs"].into_iter().chain(files) {
        let answer = service.send("GET", path, &BROWSER, None);
        assert_eq!(answer.status, 200, "{path}");
        let policy = answer.header("content-security-policy");
        let directives: Vec<Vec<&str>> =
            policy.split(';').map(|directive| directive.split_whitespace().collect()).collect();
        let sources = |name: &str| {
            let found = directives.iter().find(|directive| directive[0] == name);
            found.map(|directive| directive[1..].to_vec()).unwrap_or_default()
        };
        assert_eq!(sources("default-src"), ["'none'"], "{path}");
        for name in ["script-src", "style-src", "connect-src"] {
            assert_eq!(sources(name), ["'self'"], "{path}: {name}");
        }
        assert_eq!(sources("frame-ancestors"), ["'none'"], "{path}");
        assert!(!policy.contains("unsafe") && !policy.contains("http"), "{path}: {policy}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(answer.header("cache-control"), "no-cache", "{path}");

        let head = service.send("HEAD", path, &BROWSER, None);
        assert!(head.status == 200 && head.body.is_empty(), "{path}");
        assert_eq!(head.header("etag"), answer.header("etag"), "{path}");

        let known = [BROWSER[0], ("if-none-match", answer.header("etag"))];
        let again = service.send("GET", path, &known, None);
        assert!(again.status == 304 && again.body.is_empty(), "{path}: {}", again.status);
        assert_eq!(again.header("etag"), answer.header("etag"), "{path}");
        assert_eq!(again.header("vary"), answer.header("vary"), "{path}");
        all.push((path, answer.body));
    }
    let sizes: Vec<(&str, usize)> = all.iter().map(|(path, body)| (*path, gzipped(body))).collect();
    // Measured: 18 kB.
    let whole: usize = sizes.iter().map(|(_, size)| size).sum();
    assert!(whole <= 60_000, "{whole} bytes: {sizes:?}");
}

fn gzipped(bytes: &[u8]) -> usize {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory").len()
}

#[test]
fn pages_are_off_by_a_setting() {
    let service = Service::start(&[("page", "false")]);
    let answer = service.send("GET", "/", &BROWSER, None);
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.header("vary"), "");
    assert!(!String::from_utf8_lossy(&answer.body).contains("/docs"));
    let files = hand_gesture_api::page::FILES.iter().map(|file| file.path);
    for path in files.chain(["/docs"]) {
        assert_problem(&service.send("GET", path, &BROWSER, None), 404);
    }
    assert_eq!(service.get("/openapi.json").status, 200);
}

/// Returns frames of a hand that points with one finger, whose tip draws a path: the body of `/spell`.
fn frames(finger: usize, path: &[[f64; 2]], letter: &str) -> Value {
    let fingers = [(5, 8), (9, 12), (13, 16), (17, 20)];
    let frames: Vec<Value> = path
        .iter()
        .enumerate()
        .map(|(i, [x, y])| {
            let mut landmarks = [[*x, *y, 0.0]; 21];
            for (other, (base, tip)) in fingers.into_iter().enumerate() {
                let side = x + 0.02 * other as f64;
                landmarks[base] = [side, y - 0.1, 0.0];
                landmarks[tip] = [side, y - if other == finger { 0.2 } else { 0.08 }, 0.0];
            }
            json!({"time": i * 50, "landmarks": landmarks, "letter": letter, "confidence": 0.8})
        })
        .collect();
    json!({"aspect": 1, "frames": frames})
}

/// Returns points along a path of straight lines.
fn along(corners: &[[f64; 2]]) -> Vec<[f64; 2]> {
    let line = |pair: &[[f64; 2]]| {
        let (from, to) = (pair[0], pair[1]);
        (0..10)
            .map(|i| [0, 1].map(|axis| from[axis] + (to[axis] - from[axis]) * f64::from(i) / 10.0))
            .collect::<Vec<_>>()
    };
    corners.windows(2).flat_map(line).chain(corners.last().copied()).collect()
}

#[test]
fn drawn_and_still_letters_are_spelled() {
    let service = Service::start(&[]);
    let spell = |body: &Value| {
        let json = [("content-type", "application/json")];
        let answer = service.send("POST", "/spell", &json, Some(body.to_string().as_bytes()));
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        answer.json()
    };
    let z = along(&[[0.3, 0.4], [0.5, 0.4], [0.3, 0.55], [0.5, 0.55]]);
    let spelled = spell(&frames(0, &z, "D"));
    assert_eq!((&spelled["letter"], &spelled["moved"]), (&json!("Z"), &json!(true)), "{spelled}");
    let hook = (0..=10).map(|i| {
        let angle = std::f64::consts::PI * f64::from(i) / 10.0;
        [0.34 - 0.04 * angle.cos(), 0.5 + 0.05 * angle.sin()]
    });
    let j: Vec<_> = along(&[[0.3, 0.4], [0.3, 0.49]]).into_iter().chain(hook).collect();
    let spelled = spell(&frames(3, &j, "I"));
    assert_eq!((&spelled["letter"], &spelled["moved"]), (&json!("J"), &json!(true)), "{spelled}");
    // The same path by the other finger, and no path at all.
    assert_eq!(spell(&frames(3, &z, "I"))["letter"], "I");
    let still = spell(&frames(0, &[[0.3, 0.4]; 20], "D"));
    assert_eq!((&still["letter"], &still["moved"]), (&json!("D"), &json!(false)));
    assert!((still["confidence"].as_f64().expect("a number") - 0.8).abs() < 1e-4, "{still}");
}

#[test]
fn frames_that_cannot_be_read_are_refused() {
    let service = Service::start(&[]);
    let many: Vec<[f64; 2]> = vec![[0.3, 0.4]; 301];
    let huge = format!("{{\"frames\": [{}]}}", " ".repeat(600 << 10));
    for (body, status, words) in [
        ("", 400, "The body is not JSON"),
        ("{\"frames\": ", 400, "The body is not JSON"),
        ("\u{7f}ELF", 400, "The body is not JSON"),
        ("{\"frames\": []}", 422, "There are 0 frames. Send 1 to 300."),
        ("{\"frames\": [{\"time\": 1}]}", 422, "missing field `landmarks`"),
        (&frames(0, &many, "D").to_string()[..], 422, "There are 301 frames."),
        (&huge, 413, "The body is larger than 524288 bytes. Send fewer frames."),
    ] {
        let answer = service.send("POST", "/spell", &[], Some(body.as_bytes()));
        assert_problem(&answer, status);
        assert!(detail(&answer).contains(words), "{}", detail(&answer));
    }
    assert_problem(&service.get("/spell"), 405);
    let small = Service::start(&[("max_body_bytes", "10")]);
    assert_problem(&small.send("POST", "/spell", &[], Some(&[b' '; 11])), 413);
    assert_eq!(service.log(), Vec::<String>::new());
}

/// Starts a service that stores corrections, with more settings.
fn correcting(more: &[(&str, &str)]) -> Service {
    Service::start(&[&[("feedback", "true"), ("feedback_token", FEEDBACK_TOKEN)], more].concat())
}

/// Returns a correction: an answer to `v.jpg`, a square, as it came, with a trace's id and a label.
fn correction(answer: &Value, trace: u64, label: &str) -> Value {
    let mut body = answer.clone();
    body["trace_id"] = json!(trace_of(trace));
    body["label"] = json!(label);
    body["aspect"] = json!(1);
    body
}

fn trace_of(number: u64) -> String {
    format!("{:032x}", u128::from(number) << 64 | 7)
}

fn correct(service: &Service, body: &Value) -> Answer {
    service.send("POST", "/feedback", &[], Some(body.to_string().as_bytes()))
}

/// Asserts that a line of an export holds what a correction sent.
fn assert_exported(line: &Value, sent: &Value) {
    for name in ["trace_id", "label", "prediction", "confidence", "model"] {
        assert_eq!(line[name], sent[name], "{name}");
    }
    assert_eq!(line["aspect"].as_f64(), sent["aspect"].as_f64());
    for name in ["handedness", "landmarks"] {
        assert_eq!(line["hand"][name], sent["hand"][name], "{name}");
    }
}

#[test]
fn correction_is_stored_exported_and_deleted() {
    let service = correcting(&[]);
    let answer = service.predict("image/jpeg", &photo("v.jpg")).json();
    let sent = correction(&answer, 1, "u");
    let stored = correct(&service, &sent);
    assert_eq!((stored.status, stored.json()["stored"]["label"].clone()), (200, json!("U")));
    let mut second = correction(&answer, 2, "R");
    second["hand"]["handedness"] = json!("Left");
    assert_eq!(correct(&service, &second).status, 200);
    // The first one, otherwise: it replaces what was stored.
    let replaced = correction(&answer, 1, "W");
    assert_eq!(correct(&service, &replaced).status, 200);

    let lines = service.corrections();
    assert_eq!(lines.len(), 2);
    assert_exported(&lines[0], &replaced);
    assert_exported(&lines[1], &second);
    let keys: Vec<&String> = lines[0].as_object().expect("an object").keys().collect();
    let expected =
        ["trace_id", "created", "label", "prediction", "confidence", "model", "hand", "aspect"];
    assert_eq!(keys, expected);

    let path = format!("/feedback/{}", trace_of(1));
    let delete = |path: &str| service.send("DELETE", path, &[], None);
    assert_eq!(delete(&path).status, 200);
    assert_problem(&delete(&path), 404);
    assert_problem(&delete("/feedback/x"), 422);
    let lines = service.corrections();
    assert_eq!(lines.len(), 1);
    assert_exported(&lines[0], &second);
    assert_eq!(service.log(), Vec::<String>::new());
}

#[test]
fn correction_of_a_user_is_theirs() {
    let service = correcting(&[("user_id_header", "x-user")]);
    let answer = service.predict("image/jpeg", &photo("v.jpg")).json();
    let body = correction(&answer, 1, "U").to_string();
    let path = format!("/feedback/{}", trace_of(1));
    let send = |method: &str, path: &str, user: &str, body: Option<&str>| {
        service.send(method, path, &[("x-user", user)], body.map(str::as_bytes))
    };
    assert_eq!(send("POST", "/feedback", "ada", Some(&body)).status, 200);
    assert_problem(&send("POST", "/feedback", "bob", Some(&body)), 409);
    assert_problem(&send("DELETE", &path, "bob", None), 404);
    assert_problem(&service.send("DELETE", &path, &[], None), 404);
    let lines = service.corrections();
    assert!(lines.len() == 1 && !lines[0].to_string().contains("ada"), "{lines:?}");
    assert_eq!(send("DELETE", &path, "ada", None).status, 200);
    assert_eq!(service.corrections(), Vec::<Value>::new());
}

#[test]
fn correction_that_cannot_be_stored_is_told_why() {
    let service = correcting(&[("feedback_max_rows", "1")]);
    let answer = service.predict("image/jpeg", &photo("v.jpg")).json();
    let mut with_nan = correction(&answer, 1, "U").to_string();
    with_nan = with_nan.replacen("\"aspect\":1", "\"aspect\":NaN", 1);
    let large = format!("{{\"label\": \"{}\"}}", "A".repeat(20_000));
    let grey = service.predict("image/png", &plain_png(64, 64, [128; 3])).json();
    for (body, status, words) in [
        (json!({"trace_id": trace_of(1), "label": "U"}).to_string(), 422, "lacks hand"),
        (correction(&answer, 1, "-").to_string(), 422, "Send one of A, B, "),
        (correction(&answer, 1, "\u{1f44b}").to_string(), 422, "is not one of this model's"),
        (correction(&grey, 1, "U").to_string(), 422, "had no hand"),
        (with_nan, 400, "is not JSON"),
        (String::new(), 400, "is not JSON"),
        (large, 413, "larger than 16384 bytes"),
    ] {
        let answer = service.send("POST", "/feedback", &[], Some(body.as_bytes()));
        assert_problem(&answer, status);
        assert!(detail(&answer).contains(words), "{}", detail(&answer));
    }
    assert_eq!(correct(&service, &correction(&answer, 1, "U")).status, 200);
    let full = correct(&service, &correction(&answer, 2, "U"));
    assert_problem(&full, 507);
    assert!(detail(&full).contains("1 corrections already (feedback_max_rows)"));
    for (method, path) in
        [("GET", "/feedback"), ("POST", "/feedback/export"), ("GET", "/feedback/x")]
    {
        assert_problem(&service.send(method, path, &[], None), 405);
    }
    assert_eq!(service.corrections().len(), 1);
    assert_eq!(service.log(), Vec::<String>::new());
}

#[test]
fn export_needs_the_token() {
    let service = correcting(&[]);
    let export = |service: &Service, value: &str| {
        service.send("GET", "/feedback/export", &[("authorization", value)], None)
    };
    for value in ["", "Bearer", "Bearer 0123456789-correct-hors", "Basic 0123456789-correct-horse"]
    {
        let refused = export(&service, value);
        assert_problem(&refused, 401);
        assert_eq!(refused.header("www-authenticate"), "Bearer");
    }
    let right = export(&service, &format!("Bearer {FEEDBACK_TOKEN}"));
    assert_eq!((right.status, right.body.len()), (200, 0));
    assert_eq!(right.header("content-type"), "application/jsonl");
    assert_eq!(right.header("cache-control"), "no-store");
    let without = Service::start(&[("feedback", "true")]);
    assert_problem(&export(&without, "Bearer "), 403);
    // One that could be tried out is not taken, and not told.
    let short = Service::start(&[("feedback", "true"), ("feedback_token", "hunter2")]);
    assert_problem(&export(&short, "Bearer hunter2"), 403);
    let log = short.log();
    assert!(log.iter().any(|line| line.contains("setting feedback_token: ")), "{log:?}");
    assert!(!format!("{log:?}").contains("hunter2"), "{log:?}");
}

#[test]
fn corrections_are_off_by_default_and_need_a_database() {
    let off = Service::start(&[]);
    let path = format!("/feedback/{}", trace_of(1));
    for (method, path) in [("POST", "/feedback"), ("DELETE", &path), ("GET", "/feedback/export")] {
        let answer = off.send(method, path, &[], None);
        assert_problem(&answer, 404);
        assert!(detail(&answer).contains("setting feedback"), "{}", detail(&answer));
    }
    // The manifest does not list the database: the client learns that it fails, the log why.
    let own = [("feedback", "true")];
    let denied = Service::start_with(&own, |options| options.sqlite_databases.clear());
    let answer = denied.send("DELETE", &path, &[], None);
    assert_problem(&answer, 503);
    assert!(!detail(&answer).contains("sqlite"), "{}", detail(&answer));
    let log = denied.log();
    assert!(log.iter().any(|line| line.contains("sqlite_databases = [\"default\"]")), "{log:?}");
    // The file cannot be made.
    let blocked = folder("blocked-state").join("file");
    std::fs::write(&blocked, "").expect("written");
    let state = Some(blocked.join("state"));
    let failing = Service::start_with(&own, |options| options.state_folder = state);
    assert_problem(&failing.send("DELETE", &path, &[], None), 503);
}

/// Variables of the process that [`corrections_survive_a_killed_host`] starts.
const STATE: &str = "TEST_STATE";
const PORT: &str = "TEST_PORT";

/// No test: the service in a process of its own, for the test below.
#[test]
#[ignore = "runs in a process of its own, until that is killed"]
fn serve_corrections_until_killed() {
    let (Some(state), Ok(port)) = (std::env::var_os(STATE), std::env::var(PORT)) else { return };
    let variables = [("feedback", "true"), ("feedback_token", FEEDBACK_TOKEN)];
    let _service = Service::start_with(&variables, |options| {
        options.state_folder = Some(state.into());
        options.listen.set_port(port.parse().expect("a port"));
    });
    loop {
        std::thread::park();
    }
}

/// Whatever was answered is on the disk: a host that is killed while it writes loses nothing of it.
#[test]
fn corrections_survive_a_killed_host() {
    const CALLERS: u64 = 8;
    const ANSWERED: usize = 1000;
    /// Where something else fails, callers end, too.
    const MOST: u64 = 9000;
    let folder = folder("killed-host");
    let serve = |port: u16, log: &str| {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command
            .args(["serve_corrections_until_killed", "--exact", "--ignored"])
            .env(STATE, folder.join("state"))
            .env(PORT, port.to_string());
        let process = Process::start(&mut command, &folder.join(log));
        let health = format!("http://127.0.0.1:{port}/health");
        wait(60, || process.log(), || get(&health, None).is_ok_and(|(status, _)| status == 200));
        process
    };
    let letter = Service::start(&[]).predict("image/jpeg", &photo("v.jpg")).json();
    let port = free_port();
    let process = serve(port, "first.log");
    let url = format!("http://127.0.0.1:{port}/feedback");
    let (sent, answered) = (Mutex::new(HashMap::new()), Mutex::new(HashSet::new()));
    let last = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for caller in 0..CALLERS {
            let (sent, answered, last, letter, url) = (&sent, &answered, &last, &letter, &url);
            scope.spawn(move || {
                let mut random = Rng::with_seed(caller);
                loop {
                    let number = last.fetch_add(1, Relaxed) + 1;
                    if number > MOST {
                        return;
                    }
                    let mut body = correction(letter, number, ["A", "B", "V"][random.usize(..3)]);
                    for point in body["hand"]["landmarks"].as_array_mut().expect("points") {
                        // Numbers that a float of 32 bits prints as they are.
                        *point = json!([0; 3].map(|_| f64::from(random.u32(..10_000)) / 1e4));
                    }
                    sent.lock().expect("no panic").insert(trace_of(number), body.clone());
                    match post(url, &body.to_string()) {
                        (200, _) => {
                            answered.lock().expect("no panic").insert(trace_of(number));
                        }
                        // The host has gone.
                        (0, _) => return,
                        (status, text) => panic!("{status}: {text}"),
                    }
                }
            });
        }
        let count = || answered.lock().expect("no panic").len();
        wait(300, || format!("{} corrections", count()), || count() >= ANSWERED);
        process.signal("KILL");
    });
    let answered = answered.into_inner().expect("no panic");
    assert!(answered.len() >= ANSWERED, "{}", answered.len());

    let port = free_port();
    let _process = serve(port, "second.log");
    let export = format!("http://127.0.0.1:{port}/feedback/export");
    let agent = host::client::agent(Duration::from_secs(60));
    let answer =
        agent.get(&export).header("authorization", format!("Bearer {FEEDBACK_TOKEN}")).call();
    let text = answer.expect("an export").body_mut().read_to_string().expect("text");
    let sent = sent.into_inner().expect("no panic");
    let mut found = HashSet::new();
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).expect("JSON");
        let trace = line["trace_id"].as_str().expect("an id").to_owned();
        assert_exported(&line, &sent[&trace]);
        assert!(found.insert(trace), "each once");
    }
    let lost: Vec<_> = answered.difference(&found).collect();
    assert!(lost.is_empty(), "{} of {} are lost: {lost:?}", lost.len(), answered.len());
    // What was on its way when the host ended may be there or not.
    assert!(found.len() <= answered.len() + CALLERS as usize, "{}", found.len());
    println!("{} answered, {} found, {} sent", answered.len(), found.len(), sent.len());
}

/// Returns the schema of an answer from the service's own description.
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
    // Its references are to the whole document.
    let mut whole = schema;
    whole["components"] = openapi["components"].clone();
    whole
}

#[test]
fn answers_match_the_openapi_description() {
    let service = Service::start(&[]);
    // With traces that go nowhere: answers have a trace id.
    let nowhere = [("jaeger_collector_host", "127.0.43.19"), ("trace_retry_budget", "1")];
    let small = Service::start(&[nowhere[0], nowhere[1], ("max_body_bytes", "1000")]);
    let openapi = service.get("/openapi.json").json();
    assert_eq!(openapi["openapi"], "3.1.0");
    assert_eq!(openapi["info"]["version"], env!("CARGO_PKG_VERSION"));

    let grey = plain_png(64, 64, [128; 3]);
    let jpeg = photo("v.jpg");
    let server = photo_server();
    let fetching = fetching(&server, &[("photo_url_timeout", "500")]);
    let at = |path: &str| predict_url(&fetching, &format!("{}{path}", server.origin()));
    let spell = |body: &str| service.send("POST", "/spell", &[], Some(body.as_bytes()));
    let correcting = correcting(&[("feedback_max_rows", "1")]);
    let letter = correcting.predict("image/jpeg", &jpeg).json();
    let correct = |number| correct(&correcting, &correction(&letter, number, "U"));
    let of_trace = format!("/feedback/{}", trace_of(1));
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
        ("post", "/predict", at("/v.jpg")),
        ("post", "/predict", at("/elsewhere")),
        ("post", "/predict", at("/missing")),
        ("post", "/predict", at("/silent")),
        ("post", "/spell", spell(&frames(0, &[[0.3, 0.4]], "D").to_string())),
        ("post", "/spell", spell("{")),
        ("post", "/spell", spell("{}")),
        ("post", "/spell", small.send("POST", "/spell", &[], Some(&[b' '; 1001]))),
        ("post", "/spell", service.get("/spell")),
        ("post", "/feedback", correct(1)),
        ("post", "/feedback", correct(2)),
        ("post", "/feedback", service.send("POST", "/feedback", &[], Some(b"{}"))),
        ("post", "/feedback", correcting.send("POST", "/feedback", &[], Some(b"{}"))),
        ("post", "/feedback", correcting.send("POST", "/feedback", &[], Some(b"{"))),
        ("post", "/feedback", correcting.send("POST", "/feedback", &[], Some(&[b' '; 20_000]))),
        ("delete", "/feedback/{trace_id}", correcting.send("DELETE", &of_trace, &[], None)),
        ("delete", "/feedback/{trace_id}", correcting.send("DELETE", &of_trace, &[], None)),
        ("delete", "/feedback/{trace_id}", correcting.send("DELETE", "/feedback/x", &[], None)),
        ("get", "/feedback/export", correcting.get("/feedback/export")),
        ("get", "/docs", service.send("POST", "/docs", &[], Some(b"x"))),
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
    // The routes that the service lists are those that are described.
    let listed = service.get("/").json();
    let mut listed: Vec<&str> = listed["routes"]
        .as_array()
        .expect("routes")
        .iter()
        .filter_map(|r| r["path"].as_str())
        .collect();
    let mut described: Vec<&str> =
        openapi["paths"].as_object().expect("paths").keys().map(String::as_str).collect();
    listed.sort_unstable();
    described.sort_unstable();
    assert_eq!(listed, described);
}

/// A measurement: the page's camera without the browser, one frame of 640 × 480 after the other, each with the place
/// of the hand in the one before. On one core:
/// `taskset --cpu-list 0 cargo test --workspace --test http camera_frames -- --ignored --nocapture`
#[test]
#[ignore = "a measurement for docs/benchmarks.md"]
fn camera_frames_are_measured() {
    const WARM_UP: usize = 10;
    const RUNS: usize = 200;
    let decoded = decode(&photo("v.jpg"), u64::MAX).expect("a photo").photo;
    let (width, height) = (decoded.width() as u32, decoded.height() as u32);
    let hand = image::RgbImage::from_raw(width, height, decoded.pixels().to_vec());
    let hand = hand.expect("a picture");
    let frames: Vec<Vec<u8>> = (0..20)
        .map(|number: i64| {
            let mut scene = image::RgbImage::from_pixel(640, 480, image::Rgb([128; 3]));
            // The hand moves from side to side, as hands before a camera do.
            let left = 119 + 4 * (number - 10).abs();
            image::imageops::overlay(&mut scene, &hand, left, 39);
            let mut jpeg = Vec::new();
            jpeg_encoder::Encoder::new(&mut jpeg, 85)
                .encode(&scene, 640, 480, jpeg_encoder::ColorType::Rgb)
                .expect("an encoder");
            jpeg
        })
        .collect();
    let service = Service::start(&[]);
    let agent = host::client::agent(Duration::from_secs(60));
    for tracks in [false, true] {
        let mut place = String::new();
        let mut times = Vec::new();
        for number in 0..WARM_UP + RUNS {
            let url = format!("http://{}/predict{place}", service.address());
            let start = Instant::now();
            let answer = agent.post(&url).send(&frames[number % frames.len()][..]);
            let body = answer.expect("an answer").body_mut().read_to_vec().expect("a body");
            let time = start.elapsed();
            let answer: Value = serde_json::from_slice(&body).expect("JSON");
            assert_eq!(answer["prediction"], "V", "{answer}");
            if tracks {
                let found = &answer["hand"]["box"];
                let numbers =
                    ["x", "y", "width", "height", "rotation"].map(|name| found[name].to_string());
                place = format!("?box={}", numbers.join(","));
            }
            if number >= WARM_UP {
                times.push(time.as_secs_f64() * 1000.0);
            }
        }
        let sum: f64 = times.iter().sum();
        times.sort_by(f64::total_cmp);
        println!(
            "tracking {tracks}: {:.1} answers a second, p50 {:.1} ms, p99 {:.1} ms",
            1000.0 * RUNS as f64 / sum,
            times[RUNS / 2],
            times[RUNS * 99 / 100]
        );
    }
}
