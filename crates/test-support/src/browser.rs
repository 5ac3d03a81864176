//! A headless Chromium, driven over its DevTools protocol.
//!
//! The protocol is spoken over two pipes (`--remote-debugging-pipe`): messages are JSON with a zero byte
//! behind each. No port is opened, and no library is needed. The browser is Debian's `chromium`.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::{Value, json};

use crate::folder;

/// The program.
pub const PROGRAM: &str = "chromium";
/// An answer that takes longer will not come. A browser that starts on a busy machine takes some seconds.
const PATIENCE: Duration = Duration::from_secs(60);
/// The interval at which a condition is checked.
const POLL: Duration = Duration::from_millis(50);

/// A browser with one tab, ended when this is dropped.
pub struct Browser {
    process: Child,
    requests: ChildStdin,
    messages: Receiver<Value>,
    /// Events of the tab that nobody has waited for yet.
    events: Vec<Value>,
    last_id: u64,
    session: Option<String>,
    log: PathBuf,
}

impl Browser {
    /// Starts a browser with more options. Its profile is new, in the folder `target/tmp/NAME`.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start(name: &str, more: &[String]) -> Browser {
        let folder = folder(name);
        let log = folder.join("log");
        let mut process = Command::new("sh")
            // The protocol uses the descriptors 3 and 4.
            .args(["-c", "log=$1; shift; exec \"$@\" 3<&0 4>&1 </dev/null >\"$log\" 2>&1", "sh"])
            .arg(&log)
            .arg(PROGRAM)
            .args(["--headless=new", "--remote-debugging-pipe", "--no-first-run", "--disable-gpu"])
            // Tests run as root in containers, with little shared memory.
            .args(["--no-sandbox", "--disable-dev-shm-usage"])
            // It asks nobody for updates, models or translations.
            .args([
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
            ])
            .args(["--disable-default-apps", "--disable-extensions", "--no-default-browser-check"])
            .args(["--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"])
            .arg(format!("--user-data-dir={}", folder.join("profile").display()))
            .args(more)
            .arg("about:blank")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell");
        let requests = process.stdin.take().expect("a pipe");
        let mut answers = BufReader::new(process.stdout.take().expect("a pipe"));
        let (sender, messages) = channel();
        std::thread::spawn(move || {
            let mut message = Vec::new();
            while answers.read_until(0, &mut message).is_ok_and(|length| length > 0) {
                let text = message.strip_suffix(b"\0").unwrap_or(&message);
                let Ok(value) = serde_json::from_slice(text) else { return };
                if sender.send(value).is_err() {
                    return;
                }
                message.clear();
            }
        });
        let events = Vec::new();
        let mut browser =
            Browser { process, requests, messages, events, last_id: 0, session: None, log };
        let targets = browser.call("Target.getTargets", json!({}));
        let pages = targets["targetInfos"].as_array().expect("targets");
        let page = pages.iter().find(|target| target["type"] == "page").expect("a tab");
        let attach = json!({"targetId": page["targetId"], "flatten": true});
        let attached = browser.call("Target.attachToTarget", attach);
        browser.session = attached["sessionId"].as_str().map(str::to_owned);
        // A page without the focus may not use the clipboard.
        browser.call("Emulation.setFocusEmulationEnabled", json!({"enabled": true}));
        for domain in ["Page", "Runtime", "Log", "Network", "DOM", "Accessibility"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        browser
    }

    /// Sends a command and returns its result.
    ///
    /// # Panics
    /// If it fails, or if there is no answer.
    pub fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.last_id += 1;
        let mut request = json!({"id": self.last_id, "method": method, "params": parameters});
        if let Some(session) = &self.session {
            request["sessionId"] = json!(session);
        }
        let bytes = [request.to_string().as_bytes(), b"\0"].concat();
        self.requests.write_all(&bytes).expect("the browser takes commands");
        let until = Instant::now() + PATIENCE;
        loop {
            let Some(message) = self.message(until) else {
                panic!("{method} has no answer: {}", self.log());
            };
            if message["id"] == self.last_id {
                assert!(message.get("error").is_none(), "{method}: {}", message["error"]);
                return message["result"].clone();
            }
            self.keep(message);
        }
    }

    /// Returns the next message before a time, if there is one.
    fn message(&self, until: Instant) -> Option<Value> {
        match self.messages.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(message) => Some(message),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => panic!("the browser ended: {}", self.log()),
        }
    }

    fn keep(&mut self, message: Value) {
        if message["method"].is_string() {
            self.events.push(message);
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Takes the parameters of the first event with this name, and waits for it if it has not come yet.
    ///
    /// # Panics
    /// If it does not come.
    pub fn event(&mut self, name: &str) -> Value {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.events.iter().position(|event| event["method"] == name) {
                return self.events.remove(at)["params"].take();
            }
            let message = self.message(until).unwrap_or_else(|| panic!("no event {name}"));
            self.keep(message);
        }
    }

    /// Returns the parameters of all events with this name so far, and leaves them.
    pub fn events(&mut self, name: &str) -> Vec<Value> {
        // What is in the pipe by now is read.
        self.call("Runtime.evaluate", json!({"expression": "1"}));
        let named = self.events.iter().filter(|event| event["method"] == name);
        named.map(|event| event["params"].clone()).collect()
    }

    /// Opens a URL, and waits until it and its scripts are loaded.
    ///
    /// # Panics
    /// If it cannot be opened.
    pub fn open(&mut self, url: &str) {
        self.events.clear();
        let opened = self.call("Page.navigate", json!({"url": url}));
        assert!(opened.get("errorText").is_none(), "{url}: {opened}");
        self.event("Page.loadEventFired");
    }

    /// Runs a script and returns its value as JSON, that of a promise once it is fulfilled.
    ///
    /// # Panics
    /// If it throws.
    pub fn run(&mut self, script: &str) -> Value {
        let parameters = json!({
            "expression": script, "awaitPromise": true, "returnByValue": true, "userGesture": true,
        });
        let result = self.call("Runtime.evaluate", parameters);
        assert!(result.get("exceptionDetails").is_none(), "{script}: {result}");
        result["result"]["value"].clone()
    }

    /// Runs a script until its value is true.
    ///
    /// # Panics
    /// If it does not become true in a minute; the page's text gives the message.
    pub fn wait(&mut self, script: &str) {
        let start = Instant::now();
        while self.run(script) != true {
            if start.elapsed() > PATIENCE {
                panic!("not true: {script}\n{}", self.run("document.body.innerText"));
            }
            std::thread::sleep(POLL);
        }
    }

    /// Returns the text that a selector's first element shows.
    ///
    /// # Panics
    /// If there is none.
    pub fn text(&mut self, selector: &str) -> String {
        let text = self.run(&format!("document.querySelector({selector:?}).innerText"));
        text.as_str().unwrap_or_else(|| panic!("{selector}: {text}")).to_owned()
    }

    /// Returns the centre of a selector's first element.
    ///
    /// # Panics
    /// If there is none.
    pub fn centre(&mut self, selector: &str) -> [f64; 2] {
        let centre = self.run(&format!(
            "{{ const element = document.querySelector({selector:?});
               element.scrollIntoView({{ block: 'center', behavior: 'instant' }});
               const box = element.getBoundingClientRect();
               [box.x + box.width / 2, box.y + box.height / 2] }}"
        ));
        [0, 1].map(|axis| centre[axis].as_f64().unwrap_or_else(|| panic!("{selector}: {centre}")))
    }

    /// Clicks on a selector's first element.
    pub fn click(&mut self, selector: &str) {
        let [x, y] = self.centre(selector);
        for kind in ["mousePressed", "mouseReleased"] {
            let event = json!({"type": kind, "x": x, "y": y, "button": "left", "clickCount": 1});
            self.call("Input.dispatchMouseEvent", event);
        }
    }

    /// Presses a key by its name (UI Events), such as `Tab`, `Enter` or `w`.
    pub fn press(&mut self, key: &str) {
        let letter = key.bytes().next().filter(|byte| key.len() == 1 && byte.is_ascii_lowercase());
        let (code, text) = match key {
            _ if letter.is_some() => (i32::from(key.as_bytes()[0].to_ascii_uppercase()), key),
            "Backspace" => (8, ""),
            "Tab" => (9, ""),
            "Enter" => (13, "\r"),
            "Escape" => (27, ""),
            " " => (32, " "),
            other => panic!("{other} is no key of the tests"),
        };
        let name = match key {
            " " => "Space".to_owned(),
            _ if letter.is_some() => format!("Key{}", key.to_ascii_uppercase()),
            key => key.to_owned(),
        };
        for kind in [if text.is_empty() { "rawKeyDown" } else { "keyDown" }, "keyUp"] {
            let mut event =
                json!({"type": kind, "key": key, "code": name, "windowsVirtualKeyCode": code});
            if kind == "keyDown" {
                event["text"] = json!(text);
            }
            self.call("Input.dispatchKeyEvent", event);
        }
    }

    /// Pastes what the clipboard holds, as Ctrl+V does.
    pub fn paste(&mut self) {
        let event = json!({
            "type": "rawKeyDown", "key": "v", "code": "KeyV", "windowsVirtualKeyCode": 86,
            "modifiers": 2, "commands": ["paste"],
        });
        self.call("Input.dispatchKeyEvent", event);
    }

    /// Puts a file into a file input.
    ///
    /// # Panics
    /// If there is no such input.
    pub fn choose(&mut self, selector: &str, file: &Path) {
        let script = format!("document.querySelector({selector:?})");
        let input = self.call("Runtime.evaluate", json!({"expression": script}));
        let object = &input["result"]["objectId"];
        assert!(object.is_string(), "{selector}: {input}");
        self.call("DOM.setFileInputFiles", json!({"files": [file], "objectId": object}));
    }

    /// Drags a file over a selector's first element, and drops it there.
    pub fn drop_file(&mut self, selector: &str, file: &Path) {
        let [x, y] = self.centre(selector);
        let data = json!({"items": [], "files": [file], "dragOperationsMask": 1});
        for kind in ["dragEnter", "dragOver", "drop"] {
            let event = json!({"type": kind, "x": x, "y": y, "data": data});
            self.call("Input.dispatchDragEvent", event);
        }
    }

    /// Shows pages as on a screen of this size, light or dark, on a phone or not.
    pub fn screen(&mut self, width: u32, height: u32, phone: bool, dark: bool) {
        let metrics =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone});
        self.call("Emulation.setDeviceMetricsOverride", metrics);
        // They would cover a part of the picture.
        self.call("Emulation.setScrollbarsHidden", json!({"hidden": true}));
        self.call("Emulation.setTouchEmulationEnabled", json!({"enabled": phone}));
        let scheme = if dark { "dark" } else { "light" };
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.call("Emulation.setEmulatedMedia", json!({"features": features}));
    }

    /// Returns a PNG of all of the page.
    ///
    /// # Panics
    /// If the browser sends none.
    pub fn screenshot(&mut self) -> Vec<u8> {
        let parameters = json!({"format": "png", "captureBeyondViewport": true});
        let picture = self.call("Page.captureScreenshot", parameters);
        BASE64_STANDARD.decode(picture["data"].as_str().expect("a picture")).expect("base64")
    }

    /// Returns what went wrong in the page so far: exceptions, what its Content-Security-Policy refused,
    /// and other errors of the console. A failed request is none: pages show that themselves.
    pub fn errors(&mut self) -> Vec<String> {
        let mut errors: Vec<String> = Vec::new();
        for event in self.events("Runtime.exceptionThrown") {
            errors.push(event["exceptionDetails"].to_string());
        }
        for event in self.events("Log.entryAdded") {
            let entry = &event["entry"];
            if entry["level"] == "error" && entry["source"] != "network" {
                errors.push(entry.to_string());
            }
        }
        errors
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // A browser whose pipe is closed ends, with all of its processes.
        _ = self.requests.write_all(b"{\"id\":0,\"method\":\"Browser.close\"}\0");
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(10) {
            if matches!(self.process.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(POLL);
        }
        _ = self.process.kill();
        _ = self.process.wait();
    }
}
