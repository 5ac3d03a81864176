//! The pages in a real browser, a headless Chromium: `GET /` with photos and a camera, and `GET /docs`.
//!
//! The camera is a film made of the photos in `tests/photos`. `UPDATE_EXPECTED=1` writes the picture and the
//! animation of the documents anew; what a page looks like is not compared.

use std::fs::{read, write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use image::RgbImage;
use image::imageops::{FilterType, overlay, resize};
use serde_json::{Value, json};
use test_support::animation::Animation;
use test_support::bad_collector::response;
use test_support::browser::Browser;
use test_support::expected;
use test_support::photo_server::{PhotoServer, Reply};
use test_support::service::{FEEDBACK_TOKEN, Service, patient, photo, plain_png};
use test_support::traces;
use test_support::{folder, root, tool};

fn url(service: &Service, path: &str) -> String {
    format!("http://{}{path}", service.address())
}

fn photo_path(name: &str) -> PathBuf {
    root().join("tests/photos").join(name)
}

/// Opens the page in a browser of its own.
fn open(name: &str, service: &Service, more: &[String]) -> Browser {
    let mut browser = Browser::start(name, more);
    browser.screen(1100, 900, false, false);
    browser.open(&url(service, "/"));
    browser
}

/// Waits until the page shows an answer with this sentence's beginning.
fn wait_for(browser: &mut Browser, sentence: &str) {
    browser
        .wait(&format!("document.querySelector('#sentence').innerText.startsWith({sentence:?})"));
    browser.wait("!document.body.classList.contains('busy')");
}

fn letter(browser: &mut Browser) -> String {
    browser.text("#letter")
}

/// Asserts that nothing went wrong in the page.
fn assert_no_errors(browser: &mut Browser) {
    assert_eq!(browser.errors(), Vec::<String>::new());
}

/// A picture that the page can be given as a file.
fn file(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.join(name);
    write(&path, bytes).expect("written");
    path
}

#[test]
fn chosen_pasted_and_dropped_photos_are_answered() {
    let service = Service::start(&[]);
    let mut browser = open("page-photos", &service, &[]);
    assert_eq!(browser.text("h1"), "ASL letters from photos of hands");
    browser.choose("#file", &photo_path("v.jpg"));
    wait_for(&mut browser, "V, ");
    assert_eq!(letter(&mut browser), "V");
    // Five bars, a box, bones and 21 points, over the photo.
    assert_eq!(browser.run("document.querySelectorAll('#top tr').length"), 5);
    assert_eq!(browser.text("#top tr th"), "V");
    assert_eq!(
        browser.run("document.querySelector('#overlay').getAttribute('viewBox')"),
        "0 0 402 402"
    );
    let points =
        "document.querySelector('#overlay .points').getAttribute('d').split('M').length - 1";
    assert_eq!(browser.run(points), 21);
    assert!(browser.text("#hand").contains("Right hand"), "{}", browser.text("#hand"));
    // The waterfall: the round trip, the network, and the four stages of Server-Timing.
    let stages =
        browser.run("[...document.querySelectorAll('#stages th')].map((th) => th.innerText)");
    let expected = [
        "Round trip",
        "Network and host",
        "Decode the photo",
        "Find the hand",
        "Read the letter",
        "Write the answer",
    ];
    assert_eq!(stages, json!(expected));
    // Traces are off: there is no id, and no link.
    assert_eq!(browser.run("document.querySelector('#trace').hidden"), true);
    // A screen reader is told.
    assert!(browser.text("#status").trim().starts_with("V, "));

    browser.drop_file("#frame", &photo_path("b.jpg"));
    wait_for(&mut browser, "B, ");
    let origin = url(&service, "");
    let permissions = json!(["clipboardReadWrite", "clipboardSanitizedWrite"]);
    browser.call("Browser.grantPermissions", json!({"origin": origin, "permissions": permissions}));
    // The clipboard has pictures as PNG alone: the photo that is shown, drawn anew.
    browser.choose("#file", &photo_path("l.jpg"));
    wait_for(&mut browser, "L, ");
    browser.run(
        "(async () => {
           const photo = document.querySelector('#photo');
           const canvas = document.createElement('canvas');
           [canvas.width, canvas.height] = [photo.naturalWidth, photo.naturalHeight];
           canvas.getContext('2d').drawImage(photo, 0, 0);
           const png = await new Promise((done) => canvas.toBlob(done, 'image/png'));
           await navigator.clipboard.write([new ClipboardItem({ 'image/png': png })]);
         })()",
    );
    browser.choose("#file", &photo_path("v.jpg"));
    wait_for(&mut browser, "V, ");
    browser.paste();
    wait_for(&mut browser, "L, ");
    // Text is no photo.
    browser.run("navigator.clipboard.writeText('hello')");
    browser.paste();
    browser.wait("document.querySelector('#status').innerText.includes('holds no photo')");
    assert_no_errors(&mut browser);
}

#[test]
fn no_hand_and_not_sure_are_told_apart() {
    let folder = folder("page-pictures");
    let grey = file(&folder, "grey.png", &plain_png(320, 240, [128; 3]));
    let unsure = Service::start(&[("low_confidence_threshold", "1")]);
    let mut browser = open("page-unsure", &unsure, &[]);
    browser.choose("#file", &photo_path("v.jpg"));
    wait_for(&mut browser, "Not sure: perhaps V (");
    assert_eq!(browser.run("document.querySelector('#verdict').dataset.state"), "unsure");
    browser.choose("#file", &grey);
    wait_for(&mut browser, "No hand was found.");
    assert_eq!(browser.run("document.querySelector('#verdict').dataset.state"), "none");
    assert_eq!(browser.run("document.querySelector('#overlay').childElementCount"), 0);
    assert_eq!(browser.run("document.querySelector('#details').hidden"), true);
    assert_no_errors(&mut browser);
}

#[test]
fn answer_is_corrected_by_keyboard_and_taken_back() {
    let hidden = "document.querySelector('#correction').hidden";
    let off = Service::start(&[]);
    let mut browser = open("page-no-feedback", &off, &[]);
    browser.choose("#file", &photo_path("v.jpg"));
    wait_for(&mut browser, "V, ");
    assert_eq!(browser.run(hidden), true, "corrections are off");
    assert_no_errors(&mut browser);
    drop(browser);

    let settings =
        [("feedback", "true"), ("feedback_token", FEEDBACK_TOKEN), ("feedback_max_rows", "1")];
    // With traces that go nowhere: an answer has a trace's id, and another service's has none.
    let nowhere = [("jaeger_collector_host", "127.0.43.19"), ("trace_retry_budget", "1")];
    for traced in [true, false] {
        let more = if traced { &nowhere[..] } else { &[] };
        let service = Service::start(&[&settings, more].concat());
        let mut browser = open("page-feedback", &service, &[]);
        assert_eq!(browser.run(hidden), true, "there is no answer yet");
        let folder = folder("page-feedback-pictures");
        browser.choose("#file", &file(&folder, "grey.png", &plain_png(320, 240, [128; 3])));
        wait_for(&mut browser, "No hand was found.");
        assert_eq!(browser.run(hidden), true, "there is no hand");
        browser.choose("#file", &photo_path("v.jpg"));
        wait_for(&mut browser, "V, ");
        assert_eq!(browser.run(hidden), false);
        // All letters, and not that of no hand; each control has a name.
        let options =
            "[...document.querySelectorAll('#label option')].map((o) => o.value).join('')";
        assert_eq!(browser.run(options), "ABCDEFGHIJKLMNOPQRSTUVWXYZ");
        assert_eq!(
            browser.run("document.querySelector('#label').labels[0].innerText"),
            "That was a"
        );
        // The keyboard alone: a letter chooses, Enter on the button sends.
        browser.run("document.querySelector('#label').focus(); true");
        browser.press("w");
        assert_eq!(browser.run("document.querySelector('#label').value"), "W");
        browser.press("Tab");
        browser.press("Enter");
        browser
            .wait("document.querySelector('#thanks').innerText === 'Thanks. It is stored as W.'");
        assert_eq!(browser.run("document.querySelector('#thanks').getAttribute('role')"), "status");
        let [line] = service.corrections().try_into().expect("one");
        assert_eq!((&line["label"], &line["prediction"]), (&json!("W"), &json!("V")));
        assert_eq!(line["hand"]["landmarks"].as_array().map(Vec::len), Some(21));
        assert_eq!(line["aspect"], 1.0);
        let shown = browser.run("document.querySelector('#trace-id').textContent");
        assert_eq!(shown == line["trace_id"], traced, "{shown} {line}");

        // A store that is full says so, in the service's words.
        browser.choose("#file", &photo_path("b.jpg"));
        wait_for(&mut browser, "B, ");
        assert_eq!(browser.text("#thanks"), "");
        browser.run("document.querySelector('#label').value = 'E'; true");
        browser.click("#correction button[type=submit]");
        browser.wait("document.querySelector('#thanks').innerText.includes('(feedback_max_rows)')");
        assert_eq!(browser.run("document.querySelector('#undo').hidden"), true);

        let id = line["trace_id"].as_str().expect("an id");
        assert_eq!(service.send("DELETE", &format!("/feedback/{id}"), &[], None).status, 200);
        browser.click("#correction button[type=submit]");
        browser
            .wait("document.querySelector('#thanks').innerText === 'Thanks. It is stored as E.'");
        assert_eq!(service.corrections().len(), 1);
        browser.click("#undo");
        browser.wait("document.querySelector('#thanks').innerText === 'It is deleted.'");
        assert_eq!(browser.run("document.activeElement.id"), "label");
        assert_eq!(browser.run("document.querySelector('#undo').hidden"), true);
        assert_eq!(service.corrections(), Vec::<Value>::new());
        assert_no_errors(&mut browser);
    }
}

#[test]
fn trace_is_linked_where_jaeger_is_known() {
    let collector = traces::collector();
    for (ui, linked) in [("https://jaeger.example/ui/", true), ("", false)] {
        let service = traces::service(&collector, &[("jaeger_ui_url", ui)]);
        let mut browser = open("page-trace", &service, &[]);
        browser.choose("#file", &photo_path("v.jpg"));
        wait_for(&mut browser, "V, ");
        let id = browser.text("#trace-id");
        assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
        traces::wait_until(
            || collector.spans().iter().any(|span| span.trace_id == id),
            || format!("no span of {id}"),
        );
        let link = browser.run("document.querySelector('#trace-link').hidden ? '' : document.querySelector('#trace-link').href");
        let expected =
            if linked { format!("https://jaeger.example/ui/trace/{id}") } else { String::new() };
        assert_eq!(link, expected);
        assert_no_errors(&mut browser);
    }
}

#[test]
fn problems_are_shown_in_the_services_words() {
    let folder = folder("page-problems");
    let service = Service::start(&[("max_body_bytes", "5000")]);
    let mut browser = open("page-problem", &service, &[]);
    browser.choose("#file", &photo_path("v.jpg"));
    wait_for(&mut browser, "The body is larger than 5000 bytes. Send a smaller photo.");
    assert_eq!(browser.run("document.querySelector('#verdict').dataset.state"), "bad");
    assert!(browser.text("#status").contains("Send a smaller photo."));
    browser.choose("#file", &file(&folder, "notes.txt", b"hello"));
    wait_for(&mut browser, "The photo's format is not supported.");
    browser.choose("#file", &file(&folder, "photo.gif", b"GIF89a\x01\0\x01\0"));
    wait_for(&mut browser, "The request holds a GIF picture instead of a photo");
    assert_eq!(browser.run("document.querySelector('#offline').hidden"), true);
    assert_no_errors(&mut browser);
}

/// A browser sends all of a body before it reads, and gets a network error where the connection closes before.
#[test]
fn browser_reads_the_413_of_an_oversized_body() {
    const SIZE: usize = 40 << 20;
    let folder = folder("page-large-file");
    let service = Service::start_with(&[], patient);
    let mut browser = open("page-large", &service, &[]);
    let script = format!(
        "(async () => {{
           const body = new Blob([new Uint8Array({SIZE})], {{ type: 'image/jpeg' }});
           const answer = await fetch('/predict', {{ method: 'POST', body }});
           const problem = await answer.json();
           return [answer.status, answer.headers.get('content-type'), problem.status, problem.detail];
         }})()"
    );
    let sentence = "The body is larger than 10485760 bytes. Send a smaller photo.";
    // Once more, on the connection that is there.
    for _ in 0..2 {
        let expected = json!([413, "application/problem+json", 413, sentence]);
        assert_eq!(browser.run(&script), expected);
    }
    let photo = [&b"\xff\xd8\xff\xe0"[..], &vec![0; SIZE]].concat();
    browser.choose("#file", &file(&folder, "large.jpg", &photo));
    wait_for(&mut browser, sentence);
    assert_eq!(browser.run("document.querySelector('#offline').hidden"), true);
    browser.choose("#file", &photo_path("v.jpg"));
    wait_for(&mut browser, "V, ");
    assert_eq!(service.instances_started(), 1, "no instance was lost");
}

#[test]
fn stopped_service_is_named_until_it_answers_again() {
    let service = Service::start(&[]);
    let address = service.address();
    let mut browser = open("page-stopped", &service, &[]);
    drop(service);
    browser.choose("#file", &photo_path("v.jpg"));
    wait_for(&mut browser, "The service does not answer at http://127.0.0.1:");
    assert!(browser.text("#offline").contains("does not answer"), "an alert");
    let _service = Service::start_with(&[], |options| options.listen = address);
    browser.choose("#file", &photo_path("v.jpg"));
    wait_for(&mut browser, "V, ");
    assert_eq!(browser.run("document.querySelector('#offline').hidden"), true);
    assert_no_errors(&mut browser);
}

/// A film for the camera, 30 pictures a second. It is shown again and again.
#[derive(Default)]
struct Film {
    /// One JPEG after the other (MJPEG).
    bytes: Vec<u8>,
    pictures: u32,
}

impl Film {
    /// Shows a picture for a time.
    fn show(&mut self, picture: &RgbImage, time: Duration) {
        let (width, height) = (picture.width() as u16, picture.height() as u16);
        let mut bytes = Vec::new();
        jpeg_encoder::Encoder::new(&mut bytes, 90)
            .encode(picture, width, height, jpeg_encoder::ColorType::Rgb)
            .expect("an encoder");
        let count = (time.as_millis() * 30).div_ceil(1000) as usize;
        self.bytes.extend(bytes.repeat(count));
        self.pictures += count as u32;
    }

    /// Returns the time that it takes.
    fn time(&self) -> Duration {
        Duration::from_secs(1) * self.pictures / 30
    }

    /// Returns the option that gives it to the browser's camera.
    fn camera(&self, folder: &Path) -> Vec<String> {
        let film = file(folder, "film.mjpeg", &self.bytes);
        vec![format!("--use-file-for-fake-video-capture={}", film.display())]
    }
}

/// Returns a camera's picture of 640 × 480: grey, with a photo's centre at a place, if there is a photo.
fn scene(photo: Option<&RgbImage>, [x, y]: [i64; 2]) -> RgbImage {
    let mut scene = RgbImage::from_pixel(640, 480, image::Rgb([128; 3]));
    if let Some(photo) = photo {
        overlay(
            &mut scene,
            photo,
            x - i64::from(photo.width()) / 2,
            y - i64::from(photo.height()) / 2,
        );
    }
    scene
}

/// Returns a photo of the repository, scaled to some height.
fn still(name: &str, height: u32) -> RgbImage {
    fitted(&photo(name), [u32::MAX, height])
}

/// Returns a photo, scaled so that it fits into a width and a height.
fn fitted(photo: &[u8], [width, height]: [u32; 2]) -> RgbImage {
    let picture = vision::decode::decode(photo, u64::MAX).expect("a photo").photo;
    let [old_width, old_height] = [picture.width(), picture.height()].map(|side| side as u32);
    let scales =
        [f64::from(width) / f64::from(old_width), f64::from(height) / f64::from(old_height)];
    let scaled = |side| (f64::from(side) * scales[0].min(scales[1])).round() as u32;
    let picture = RgbImage::from_raw(old_width, old_height, picture.pixels().to_vec());
    let picture = picture.expect("a picture");
    resize(&picture, scaled(old_width), scaled(old_height), FilterType::Triangle)
}

const fn ms(time: u64) -> Duration {
    Duration::from_millis(time)
}

#[test]
fn camera_spells_held_letters_and_runs_by_keyboard_alone() {
    let folder = folder("page-camera-film");
    let mut film = Film::default();
    for name in ["v.jpg", "l.jpg", "b.jpg"] {
        film.show(&scene(Some(&still(name, 400)), [320, 240]), ms(2500));
    }
    film.show(&scene(None, [0, 0]), ms(3000));
    let service = Service::start(&[]);
    let mut browser = open("page-camera", &service, &film.camera(&folder));

    // From the top: the link, both file inputs, the camera. The focus can be seen.
    let focus = "document.activeElement.id";
    for expected in ["", "file", "camera"] {
        browser.press("Tab");
        assert_eq!(browser.run(focus), expected);
        let outline = "(document.activeElement.nextElementSibling?.matches('label') \
                          ? document.activeElement.nextElementSibling : document.activeElement)";
        let style = browser.run(&format!("getComputedStyle({outline}).outlineStyle"));
        assert_ne!(style, "none", "{expected}");
        if expected == "file" {
            let intercept = |enabled| json!({ "enabled": enabled });
            browser.call("Page.setInterceptFileChooserDialog", intercept(true));
            browser.press(" ");
            browser.event("Page.fileChooserOpened");
            browser.call("Page.setInterceptFileChooserDialog", intercept(false));
        }
    }
    browser.press("Enter");
    browser.wait("!document.querySelector('#video').hidden");
    assert_eq!(browser.text("#camera"), "Stop the camera");
    // The picture is mirrored, as people expect it; what is sent is not.
    assert_eq!(
        browser.run("document.querySelector('#frame').classList.contains('mirrored')"),
        true
    );
    browser.wait("document.querySelector('#text').innerText.includes('VLB ')");
    assert!(browser.text("#pace").contains("answers a second, round trip"));
    let sizes = "document.querySelector('#overlay').getAttribute('viewBox')";
    assert_eq!(browser.run(sizes), "0 0 640 480");
    // Deleting by key: the text gets shorter while the camera goes on.
    browser.press("Tab");
    assert_eq!(browser.run(focus), "mirror");
    browser.press(" ");
    assert_eq!(
        browser.run("document.querySelector('#frame').classList.contains('mirrored')"),
        false
    );
    for expected in ["space", "delete"] {
        browser.press("Tab");
        assert_eq!(browser.run(focus), expected);
    }
    // The camera stops; what is spelled stays.
    browser.press("Escape");
    browser.wait("document.querySelector('#video').hidden");
    assert_eq!(browser.text("#camera"), "Start the camera");
    let text = browser.text("#text");
    browser.press("Enter");
    assert_eq!(browser.text("#text"), text[..text.len() - 1]);
    browser.press("Backspace");
    assert_eq!(browser.text("#text"), text[..text.len() - 2]);
    assert!(browser.text("#status").contains("Deleted"));
    assert_no_errors(&mut browser);
}

/// Returns the number of photos that the page has sent.
fn sent(browser: &mut Browser) -> usize {
    let events = browser.events("Network.requestWillBeSent");
    let predict = |event: &&Value| {
        event["request"]["url"].as_str().is_some_and(|url| url.contains("/predict"))
    };
    events.iter().filter(predict).count()
}

#[test]
fn camera_pauses_while_the_tab_is_hidden_and_waits_for_a_stopped_service() {
    let folder = folder("page-pause-film");
    let mut film = Film::default();
    film.show(&scene(Some(&still("v.jpg", 400)), [320, 240]), ms(1000));
    let service = Service::start(&[]);
    let address = service.address();
    let mut browser = open("page-pause", &service, &film.camera(&folder));
    browser.click("#camera");
    wait_for(&mut browser, "V, ");
    let hide = |hidden: bool| {
        format!(
            "Object.defineProperty(document, 'hidden', {{ value: {hidden}, configurable: true }});
             document.dispatchEvent(new Event('visibilitychange')); true"
        )
    };
    browser.run(&hide(true));
    std::thread::sleep(std::time::Duration::from_secs(1));
    let before = sent(&mut browser);
    assert!(before > 0);
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert_eq!(sent(&mut browser), before, "nothing is sent");
    browser.run(&hide(false));
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert!(sent(&mut browser) > before, "it goes on");
    drop(service);
    wait_for(&mut browser, "The service does not answer");
    let _service = Service::start_with(&[], |options| options.listen = address);
    wait_for(&mut browser, "V, ");
    assert_eq!(browser.run("document.querySelector('#offline').hidden"), true);
    assert_no_errors(&mut browser);
}

/// J and Z as a camera sees them: stills of the hand that are moved along the letter's path.
#[test]
fn camera_spells_j_and_z_by_their_movement() {
    let folder = folder("page-movement-film");
    let mut film = Film::default();
    let ease = |part: f32| part * part * (3.0 - 2.0 * part);
    let at = |corners: &[[f32; 2]], part: f32| {
        let place = part * (corners.len() - 1) as f32;
        let from = (place as usize).min(corners.len() - 2);
        let along = ease(place - from as f32);
        [0, 1].map(|axis| {
            let (a, b) = (corners[from][axis], corners[from + 1][axis]);
            (a + along * (b - a)) as i64
        })
    };
    let j: Vec<[f32; 2]> = [[250.0, 160.0], [250.0, 250.0]]
        .into_iter()
        .chain((1..=8).map(|i| {
            let angle = std::f32::consts::PI * i as f32 / 8.0;
            [250.0 + 40.0 * (1.0 - angle.cos()), 250.0 + 60.0 * angle.sin()]
        }))
        .collect();
    let z = vec![[230.0, 180.0], [400.0, 180.0], [230.0, 310.0], [400.0, 310.0]];
    for (name, path, duration) in [("i.jpg", j, 60), ("d.jpg", z, 75)] {
        let hand = still(name, 260);
        film.show(&scene(Some(&hand), at(&path, 0.0)), ms(500));
        for i in 0..=duration {
            let part = i as f32 / duration as f32;
            film.show(&scene(Some(&hand), at(&path, part)), ms(1000 / 30));
        }
        film.show(&scene(Some(&hand), at(&path, 1.0)), ms(700));
        film.show(&scene(None, [0, 0]), ms(2000));
    }
    let service = Service::start(&[]);
    let mut browser = open("page-movement", &service, &film.camera(&folder));
    browser.click("#camera");
    browser.wait("document.querySelector('#text').innerText.includes('J')");
    browser.wait("document.querySelector('#text').innerText.includes('Z')");
    assert_no_errors(&mut browser);
}

/// The letters of a word, one hand after the other. `UPDATE_EXPECTED=1` makes `docs/spelling.png` of it.
#[test]
fn camera_spells_a_word() {
    let path = root().join("docs/spelling.png");
    let folder = folder("page-word-film");
    let mut film = Film::default();
    film.show(&scene(None, [0, 0]), ms(1000));
    for name in ["w.jpg", "a.jpg", "s.jpg", "m.jpg"] {
        film.show(&scene(Some(&still(name, 400)), [320, 240]), ms(2000));
    }
    film.show(&scene(None, [0, 0]), ms(4000));
    let service = Service::start(&[]);
    let mut browser = open("page-word", &service, &film.camera(&folder));
    // High enough for all that appears, so that all screenshots have one size.
    browser.screen(860, 860, false, false);
    browser.click("#camera");
    let spelled = "document.querySelector('#text').innerText.includes('WASM')";
    if expected::rewrites() {
        let (start, mut animation) = (Instant::now(), Animation::default());
        let mut rest = 12;
        while rest > 0 {
            animation.add(start.elapsed(), &browser.screenshot());
            rest -= usize::from(browser.run(spelled) == true);
        }
        write(&path, animation.encode(start.elapsed())).expect("written");
    }
    browser.wait(spelled);
    assert_no_errors(&mut browser);
    assert_small(&path, 1500 << 10);
}

/// Words that the page spells from a film of photos, measured. `FILM_PHOTOS` names a folder of photos with one
/// folder for each letter, and `FILM_NO_HAND` one of pictures without a hand. Photos that the models were trained on
/// say little.
#[test]
#[ignore = "a measurement, of photos that are not in the repository"]
fn words_of_a_film_are_measured() {
    const WORDS: [&str; 24] = [
        "HAND", "WORLD", "SPIN", "TRACE", "QUICK", "BROWN", "FOX", "LAMP", "OVER", "DOG", "THUMB",
        "PALM", "YES", "WAX", "GIVE", "CUP", "MILK", "BREAD", "FISH", "TRAVEL", "QUERY", "KNIFE",
        "VOWEL", "SIX",
    ];
    let folder_of = |name: &str| PathBuf::from(std::env::var_os(name).expect(name));
    let files = |folder: &Path| {
        let entries =
            std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        let mut files: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
        files.sort();
        files
    };
    let frame = |file: &Path| {
        let picture = fitted(&read(file).expect("a photo"), [640, 480]);
        scene(Some(&picture), [320, 240])
    };
    let photos = folder_of("FILM_PHOTOS");
    let mut random = fastrand::Rng::with_seed(15);
    let mut words = Film::default();
    for word in WORDS {
        words.show(&scene(None, [0, 0]), ms(1800));
        for letter in word.chars() {
            let choice = files(&photos.join(letter.to_string()));
            words.show(&frame(random.choice(&choice).expect("a photo")), ms(2000));
        }
    }
    words.show(&scene(None, [0, 0]), ms(1800));
    let mut nothing = Film::default();
    let mut pictures = files(&folder_of("FILM_NO_HAND"));
    random.shuffle(&mut pictures);
    for file in &pictures[..60] {
        nothing.show(&frame(file), ms(2000));
    }
    let service = Service::start(&[]);
    let spelled = |name: &str, film: &Film| {
        let folder = folder(&format!("{name}-film"));
        let mut browser = open(name, &service, &film.camera(&folder));
        browser.click("#camera");
        browser.wait("!document.querySelector('#video').hidden");
        std::thread::sleep(film.time());
        browser.text("#text")
    };
    let text = spelled("page-words", &words);
    let found: Vec<&str> = text.split_whitespace().collect();
    let right = WORDS.iter().filter(|word| found.contains(word)).count();
    println!("{text}\n{right} of {} words are right", WORDS.len());
    let text = spelled("page-nothing", &nothing);
    let letters = text.chars().filter(|letter| *letter != ' ').count();
    println!("{letters} letters in {} s without a hand: {text:?}", nothing.time().as_secs());
}

/// Sizes of a phone and of a small one, and twice the text's size on a screen.
#[test]
fn pages_fit_a_phone_and_have_names_for_all_controls() {
    let service = Service::start(&[]);
    let mut browser = Browser::start("page-phone", &[]);
    let shots = folder("page-shots");
    for path in ["/", "/docs"] {
        for (width, dark) in [(320, false), (390, true), (1100, false), (1100, true)] {
            browser.screen(width, 844, width < 500, dark);
            browser.open(&url(&service, path));
            if path == "/" {
                browser.choose("#file", &photo_path("v.jpg"));
                wait_for(&mut browser, "V, ");
            } else {
                browser.wait("document.querySelectorAll('article').length > 3");
            }
            // A phone zooms out from a page that is too wide: its own width is no measure.
            let wide = browser.run("document.documentElement.scrollWidth").as_f64();
            assert!(wide.expect("pixels") <= f64::from(width), "{path} {width}: {wide:?}");
            let low = browser.run(
                "[...document.querySelectorAll('button, label.button')]
                   .filter((button) => button.checkVisibility() && button.getBoundingClientRect().height < 44)
                   .map((button) => button.innerText)",
            );
            assert_eq!(low, json!([]), "{path} {width}: too low for a thumb");
            let name =
                format!("{}-{width}-{}.png", &path[1..], if dark { "dark" } else { "light" });
            write(shots.join(name), browser.screenshot()).expect("written");
            // On a phone there is a button for the phone's own camera.
            let shot = browser.run("document.querySelector('.shoot')?.checkVisibility() ?? null");
            assert_eq!(shot, if path == "/" { json!(width < 500) } else { Value::Null });
        }
        let tree = browser.call("Accessibility.getFullAXTree", json!({}));
        let nodes = tree["nodes"].as_array().expect("nodes");
        let mut controls = 0;
        for node in nodes.iter().filter(|node| node["ignored"] == false) {
            let role = node["role"]["value"].as_str().unwrap_or_default();
            if ["button", "link", "textbox", "form", "image", "table", "region"].contains(&role) {
                controls += 1;
                assert_ne!(node["name"]["value"], "", "{path}: {node}");
            }
        }
        assert!(controls > 5, "{controls}");
        assert_eq!(browser.run("document.documentElement.lang"), "en");
        assert_eq!(browser.run("document.querySelectorAll('h1').length"), 1);
        let labelled = "[...document.querySelectorAll('input, textarea')].every((input) => input.labels.length > 0)";
        assert_eq!(browser.run(labelled), true, "{path}");
        assert_no_errors(&mut browser);
    }
}

/// The pages with an answer, a form of corrections and a problem, in light and dark.
#[test]
fn axe_core_finds_nothing() {
    let axe = tool("axe").join("node_modules/axe-core/axe.min.js");
    let axe = std::fs::read_to_string(axe).expect("axe-core");
    let service = Service::start(&[("feedback", "true")]);
    let mut browser = Browser::start("page-axe", &[]);
    let text = file(&folder("page-axe-files"), "notes.txt", b"hello");
    for (path, dark) in [("/", false), ("/", true), ("/docs", false), ("/docs", true)] {
        browser.screen(1100, 900, false, dark);
        browser.open(&url(&service, path));
        if path == "/docs" {
            browser.wait("document.querySelectorAll('article').length > 3");
            assert_eq!(violations(&mut browser, &axe), json!([]), "{path} dark {dark}");
            continue;
        }
        browser.choose("#file", &photo_path("v.jpg"));
        wait_for(&mut browser, "V, ");
        assert_eq!(violations(&mut browser, &axe), json!([]), "{path} dark {dark}");
        browser.choose("#file", &text);
        wait_for(&mut browser, "The photo's format is not supported.");
        assert_eq!(violations(&mut browser, &axe), json!([]), "{path} dark {dark}: a problem");
    }
    // The rules find a button without a name.
    browser.run("void document.body.append(document.createElement('button'))");
    let found = violations(&mut browser, &axe).to_string();
    assert!(found.contains("button-name"), "{found}");
}

/// Returns what axe-core finds in the page: the rule and the elements that break it.
fn violations(browser: &mut Browser, axe: &str) -> Value {
    browser.run(&format!("{axe};void 0"));
    let passes = browser.run("axe.run().then((found) => found.passes.length)");
    assert!(passes.as_u64().is_some_and(|passes| passes > 20), "{passes}");
    browser.run(
        "axe.run().then((found) => found.violations.map(
           (violation) => [violation.id, violation.nodes.map((node) => node.html)]))",
    )
}

/// Text and lines can be told from their ground, in light and dark (WCAG 2.2: 4.5 for text).
#[test]
fn colours_have_contrast() {
    let service = Service::start(&[]);
    let mut browser = Browser::start("page-colours", &[]);
    for dark in [false, true] {
        browser.screen(1100, 900, false, dark);
        browser.open(&url(&service, "/"));
        let worst = browser.run(
            "(() => {
               const style = getComputedStyle(document.documentElement);
               const probe = document.body.appendChild(document.createElement('i'));
               const light = (name) => {
                 probe.style.color = style.getPropertyValue(name);
                 const parts = getComputedStyle(probe).color.match(/[\\d.]+/g).slice(0, 3);
                 const [r, g, b] = parts.map((part) => {
                   const value = part / 255;
                   return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
                 });
                 return 0.2126 * r + 0.7152 * g + 0.0722 * b;
               };
               const ratio = (a, b) => {
                 const [x, y] = [light(a), light(b)].sort((p, q) => q - p);
                 return (x + 0.05) / (y + 0.05);
               };
               const texts = ['--ink', '--soft', '--accent', '--sure', '--unsure', '--bad'];
               const all = texts.flatMap((text) => ['--ground', '--card'].map((ground) => ratio(text, ground)));
               return Math.min(...all, ratio('--on-accent', '--accent'));
             })()",
        );
        assert!(worst.as_f64().expect("a ratio") >= 4.5, "{dark}: {worst}");
    }
}

#[test]
fn docs_list_all_routes_and_try_them() {
    let photos = PhotoServer::start(|_| {
        vec![("/v.jpg", Reply::Bytes(response("200 OK", &[], &photo("v.jpg"))))]
    });
    let origin = photos.origin();
    let service =
        Service::start(&[("photo_url_allowed_host", &origin), ("photo_url_allow_private", "true")]);
    let mut browser = Browser::start("page-docs", &[]);
    browser.screen(1100, 900, false, false);
    browser.open(&url(&service, "/docs"));
    browser.wait("document.querySelectorAll('article').length > 3");
    let shown =
        browser.run("[...document.querySelectorAll('article h2')].map((h) => h.innerText).sort()");
    let mut listed: Vec<String> = service.get("/").json()["routes"]
        .as_array()
        .expect("routes")
        .iter()
        .map(|route| format!("{} {}", route["method"], route["path"]).replace('"', ""))
        .collect();
    listed.sort();
    assert_eq!(shown, json!(listed));

    browser.click("#health button[type=submit]");
    browser.wait("document.querySelector('#health [role=status]').innerText.includes('\"tracing\": \"disabled\"')");
    browser.choose("#predict input[type=file]", &photo_path("v.jpg"));
    browser.click("#predict button[type=submit]");
    browser.wait("document.querySelector('#predict [role=status]').innerText.includes('\"prediction\": \"V\"')");
    for (path, words) in
        [("/missing", "answers 404 Not Found"), ("/v.jpg", "\"prediction\": \"V\"")]
    {
        browser.run(&format!("document.querySelector('#predict-url').value = '{origin}{path}'"));
        browser.click("#predict button[type=submit]");
        browser.wait(&format!(
            "document.querySelector('#predict [role=status]').innerText.includes('{words}')"
        ));
    }
    // The example of frames is one that the service takes.
    browser.click("#spell button[type=submit]");
    browser.wait(
        "document.querySelector('#spell [role=status]').innerText.includes('\"moved\": false')",
    );
    // Corrections are off here, and the export has a field for its token.
    browser.click("#feedback button[type=submit]");
    browser.wait(
        "document.querySelector('#feedback [role=status]').innerText.includes('are not stored here')",
    );
    browser.run("document.querySelector('#deleteFeedback-trace_id').value = 'a/b'; true");
    browser.click("#deleteFeedback button[type=submit]");
    browser.wait(
        "document.querySelector('#deleteFeedback [role=status]').innerText.includes('are not stored here')",
    );
    assert_eq!(browser.run("document.querySelector('#exportFeedback-token').type"), "password");
    browser.run("document.querySelector('#spell textarea').value = '{'; true");
    browser.click("#spell button[type=submit]");
    browser.wait(
        "document.querySelector('#spell [role=status]').innerText.includes('The body is not JSON')",
    );
    assert_no_errors(&mut browser);

    // The lines run as they stand, each in a folder with a photo.
    let folder = folder("page-docs-lines");
    file(&folder, "photo.jpg", &photo("v.jpg"));
    for (index, program, arguments) in [(0, "sh", "-c"), (1, "python3", "-c")] {
        let code = browser.run(&format!(
            "document.querySelectorAll('#predict details:has(pre) code')[{index}].textContent"
        ));
        let code = code.as_str().expect("lines");
        if Command::new(if index == 0 { "curl" } else { program })
            .arg("--version")
            .output()
            .is_err()
        {
            continue;
        }
        let mut command = Command::new(program);
        let output = command.args([arguments, code]).current_dir(&folder).output().expect("run");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains("\"prediction\":\"V\""), "{code}\n{text}{:?}", output.stderr);
    }
    let script =
        browser.run("document.querySelectorAll('#predict details:has(pre) code')[2].textContent");
    let script = script
        .as_str()
        .expect("lines")
        .replace("console.log(", "return [")
        .replace("await response.text());", "await response.text()];");
    let answer = browser.run(&format!("(async () => {{ {script} }})()"));
    assert_eq!(answer[0], 200, "{answer}");
    assert!(answer[1].as_str().expect("text").contains("\"prediction\":\"V\""), "{answer}");
}

/// The parts of the scripts that know no page: run in the browser, as there is no other engine here.
#[test]
fn parts_of_the_scripts_compute_what_they_say() {
    let service = Service::start(&[]);
    let mut browser = open("page-parts", &service, &[]);
    let mut hand =
        |script: &str| browser.run(&format!("import('./page/hand.js').then((m) => {script})"));
    assert_eq!(hand("m.scaled(4000, 3000)"), json!([640, 480]));
    assert_eq!(hand("m.scaled(300, 600)"), json!([300, 600]));
    assert_eq!(hand("m.scaled(5000, 1)"), json!([640, 1]));
    assert_eq!(
        hand(
            "m.serverTiming('a;dur=1.5, model_inference;dur=2;desc=\"x y\", b, ;dur=1, c;dur=-1')"
        ),
        json!([
            {"name": "a", "ms": 1.5, "about": "a"},
            {"name": "model_inference", "ms": 2, "about": "x y"},
        ])
    );
    assert_eq!(hand("m.serverTiming(null)"), json!([]));
    // 10 ms of stages that end when the answer begins, at 15 of 20.
    let stages = "[{ about: 'a', ms: 4 }, { about: 'b', ms: 6 }]";
    assert_eq!(
        hand(&format!("m.waterfall({stages}, 20, 15)")),
        json!([
            {"about": "Round trip", "start": 0, "ms": 20},
            {"about": "Network and host", "start": 0, "ms": 10, "gap": [5, 15]},
            {"about": "a", "start": 5, "ms": 4},
            {"about": "b", "start": 9, "ms": 6},
        ])
    );
    // A clock that is coarser than the service's makes no time negative.
    assert_eq!(hand(&format!("m.waterfall({stages}, 9, 9)[1].ms")), 0);
    assert_eq!(
        hand("[1, 0.9996, 0.956, 0.0002, 0].map(m.percent)"),
        json!(["100 %", "99.96 %", "95.6 %", "0.02 %", "0 %"])
    );
    let place = "{ box: { x: 0.1, y: -0.25, width: 0.5, height: 0.75, rotation: 1 } }";
    assert_eq!(
        hand(&format!("m.trackingQuery({place})")),
        "?box=0.10000,-0.25000,0.50000,0.75000,1.00000"
    );
    assert_eq!(hand("m.trackingQuery(null)"), "");

    let mut spell = |script: &str| {
        browser.run(&format!(
            "import('./page/spelling.js').then(({{ Speller, Motion }}) => {{
               const speller = new Speller();
               let now = 0;
               const show = (letter, ms, moving = false) => {{
                 for (const end = now + ms; now < end; now += 50) {{
                   speller.see(now, {{ hand: letter !== '', letter: letter || null, moving }});
                 }}
               }};
               {script}
             }})"
        ))
    };
    let text = |steps: &str| format!("{steps}; return speller.text;");
    for (steps, expected) in [
        ("show('A', 1000)", "A"),
        ("show('A', 700)", ""),
        ("show('A', 5000)", "A"),
        ("show('A', 1000); show('B', 1000)", "AB"),
        ("show('A', 1000); show('', 400); show('A', 1000)", "AA"),
        ("show('A', 1000); show('', 100); show('A', 1000)", "A"),
        ("show('A', 1000); show('', 3000); show('B', 1000)", "A B"),
        ("show('', 3000); show('A', 1000); show('', 9000)", "A "),
        ("show('A', 600); show('B', 600); show('A', 600)", ""),
        ("show('A', 400); show(null, 200); show('A', 400)", "A"),
        ("show('A', 400); show(null, 600); show('A', 600)", ""),
        ("show('A', 3000, true)", ""),
        ("show('A', 1000); speller.delete(); show('A', 2000)", ""),
        ("show('I', 1000); show('I', 500, true); speller.drawn('J', now); show('I', 3000)", "J"),
        ("show('D', 1000); speller.drawn('Z', now)", "Z"),
        ("show('A', 1000); speller.drawn('J', now)", "AJ"),
        ("show('I', 1000); show('', 400); speller.drawn('J', now)", "IJ"),
        (
            "speller.delete(); speller.space(); show('A', 1000); speller.space(); speller.space()",
            "A ",
        ),
    ] {
        assert_eq!(spell(&text(steps)), expected, "{steps}");
    }
    // A movement is asked about once, when it has ended.
    let moved = spell(
        "const motion = new Motion();
         const asked = [];
         const at = (time, x) => {
           const landmarks = Array.from({ length: 21 }, (_, i) => [x, i === 0 ? 0.5 : 0.4, 0]);
           motion.see(time, { landmarks, letter: 'D', confidence: 1 }, 1);
           const body = motion.ended();
           if (body) asked.push([time, body.frames.length > 5, body.aspect]);
         };
         for (let i = 0; i < 20; i += 1) at(i * 50, 0.2);
         const before = asked.length;
         for (let i = 20; i < 40; i += 1) at(i * 50, 0.2 + (i - 19) * 0.02);
         const during = asked.length;
         for (let i = 40; i < 100; i += 1) at(i * 50, 0.6);
         return [before, during, asked.length, asked[0]?.slice(1)];",
    );
    assert_eq!(moved, json!([0, 0, 1, [true, 1]]));
    assert_no_errors(&mut browser);
}

/// Writes `docs/page.png` anew where that is asked for, and checks that it is there and small.
#[test]
fn picture_of_the_readme_is_there() {
    let path = root().join("docs/page.png");
    if expected::rewrites() {
        let service =
            traces::service(&traces::collector(), &[("jaeger_ui_url", "http://127.0.0.1:16686")]);
        let mut browser = Browser::start("page-readme", &[]);
        browser.screen(960, 700, false, false);
        browser.open(&url(&service, "/"));
        browser.choose("#file", &photo_path("v.jpg"));
        wait_for(&mut browser, "V, ");
        // The first one starts an instance.
        browser.choose("#file", &photo_path("v.jpg"));
        browser.wait("!document.body.classList.contains('busy')");
        wait_for(&mut browser, "V, ");
        write(&path, browser.screenshot()).expect("written");
    }
    assert_small(&path, 300 << 10);
}

/// Asserts that a picture of the documents is there, and has at most so many bytes.
fn assert_small(path: &Path, most: usize) {
    let picture = read(path).unwrap_or_else(|error| {
        panic!("{}: {error}: UPDATE_EXPECTED=1 cargo xtask test page", path.display())
    });
    assert!(picture.len() <= most, "{}: {} bytes", path.display(), picture.len());
}
