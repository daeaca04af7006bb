//! Headless Chromium, driven by WebDriver: one JSON object in, one out, over HTTP.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;

use gimlet::net::clock;
use serde_json::{Value, json};

use super::http::Client;
use super::world::{PATIENCE, Program};

/// A browser with one window, and a profile of its own that goes with it.
pub(crate) struct Browser {
    driver: SocketAddr,
    session: String,
    _profile: tempfile::TempDir,
    // The last to go: it ends the browser.
    _program: Program,
}

impl Browser {
    pub(crate) fn start() -> Self {
        const NEEDED: &str = "this test needs Debian's packages chromium and chromium-driver";
        for tool in ["chromium", "chromedriver"] {
            let found = Command::new(tool).arg("--version").output();
            assert!(found.is_ok_and(|output| output.status.success()), "{NEEDED}: no {tool}");
        }
        let program = Program::start(Command::new("chromedriver").arg("--port=0"));
        let line = program.line("started successfully on port ");
        let digits = |c: char| !c.is_ascii_digit();
        let port = line.trim_end_matches(digits).rsplit(digits).next().unwrap().parse().unwrap();
        let driver = SocketAddr::from(([127, 0, 0, 1], port));
        let profile = tempfile::tempdir().unwrap();
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--hide-scrollbars",
            &format!("--user-data-dir={}", profile.path().display()),
        ];
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "goog:loggingPrefs": {"browser": "ALL"},
            "goog:chromeOptions": {"args": arguments},
        }}});
        let session = call(driver, "/session", &wanted)["sessionId"].as_str().unwrap().to_owned();
        Self { driver, session, _profile: profile, _program: program }
    }

    fn post(&mut self, path: &str, body: &Value) -> Value {
        call(self.driver, &format!("/session/{}{path}", self.session), body)
    }

    fn devtools(&mut self, command: &str, params: &Value) -> Value {
        self.post("/goog/cdp/execute", &json!({"cmd": command, "params": params}))
    }

    /// From now on, a screen of this size that prefers these colours.
    pub(crate) fn appear(&mut self, width: u32, height: u32, scheme: &str) {
        let mobile = width < 600;
        let scale = if mobile { 2 } else { 1 };
        let screen =
            json!({"width": width, "height": height, "deviceScaleFactor": scale, "mobile": mobile});
        self.devtools("Emulation.setDeviceMetricsOverride", &screen);
        let feature = json!({"name": "prefers-color-scheme", "value": scheme});
        self.devtools("Emulation.setEmulatedMedia", &json!({"features": [feature]}));
    }

    pub(crate) fn open(&mut self, url: &str) {
        self.post("/url", &json!({"url": url}));
    }

    pub(crate) fn run(&mut self, script: &str) -> Value {
        self.post("/execute/sync", &json!({"script": script, "args": []}))
    }

    /// Waits until an expression is true.
    pub(crate) fn until(&mut self, expression: &str) {
        let deadline = clock::now() + PATIENCE;
        while self.run(&format!("return {expression}")) != true {
            assert!(clock::now() < deadline, "in vain: {expression}");
        }
    }

    /// What the browser complains of.
    pub(crate) fn console(&mut self) -> Vec<Value> {
        let entries = self.post("/se/log", &json!({"type": "browser"}));
        entries.as_array().unwrap().clone()
    }

    /// Keeps a picture of the whole page, if the environment's GIMLET_PICTURES names a directory for them.
    pub(crate) fn picture(&mut self, name: &str) {
        let Some(directory) = std::env::var_os("GIMLET_PICTURES") else { return };
        let whole = json!({"captureBeyondViewport": true});
        let picture = self.devtools("Page.captureScreenshot", &whole);
        let path = PathBuf::from(directory).join(format!("{name}.png"));
        std::fs::write(path, decoded(picture["data"].as_str().unwrap())).unwrap();
    }
}

impl Drop for Browser {
    /// It ends when it is told to, and not with the driver.
    fn drop(&mut self) {
        let Ok(mut stream) = TcpStream::connect(self.driver) else { return };
        let request =
            format!("DELETE /session/{} HTTP/1.1\r\nHost: {}\r\n\r\n", self.session, self.driver);
        // When a test has failed, its report is what matters.
        let _ = stream.set_read_timeout(Some(PATIENCE));
        let _ = stream.write_all(request.as_bytes());
        let _ = stream.read(&mut [0]);
    }
}

fn call(driver: SocketAddr, path: &str, body: &Value) -> Value {
    let mut client = Client::new(driver);
    let body = body.to_string();
    let length = body.len();
    client.send(&format!(
        "POST {path} HTTP/1.1\r\nHost: {driver}\r\nContent-Length: {length}\r\n\r\n{body}"
    ));
    let answer = client.answer();
    assert_eq!(answer.status, 200, "{path} {body}: {}", answer.text());
    let mut answer: Value = serde_json::from_slice(&answer.body).unwrap();
    answer["value"].take()
}

/// Base64 (RFC 4648 §4).
fn decoded(text: &str) -> Vec<u8> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits: Vec<_> =
        text.bytes().filter_map(|byte| ALPHABET.iter().position(|digit| *digit == byte)).collect();
    let whole = digits.chunks(4).flat_map(|four| {
        let bits = four.iter().fold(0, |bits, digit| bits << 6 | *digit) << (6 * (4 - four.len()));
        [bits >> 16, bits >> 8, bits].map(|byte| byte as u8).into_iter().take(four.len() - 1)
    });
    whole.collect()
}
