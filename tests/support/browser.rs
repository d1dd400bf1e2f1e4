//! A real browser without a window or a network, asked through its debugging protocol: what is on a page, how it looks,
//! what it tells a screen reader, and what it wanted to load.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{PATIENCE, lab, show_logs};

/// A browser with one page. Dropped, it is gone with all its processes.
pub struct Browser {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    profile: TempDir,
    session: Option<String>,
    calls: u64,
    events: Vec<Value>,
}

impl Browser {
    /// Starts it with an empty page that records what it loads and what it complains of.
    pub fn start() -> Self {
        let profile = TempDir::new().expect("a temporary directory");
        let log = File::create(profile.path().join("log")).expect("a file can be made");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lab/browser.sh");
        let mut child = Command::new(script)
            .args([&lab::package("browsers", "chromium"), profile.path()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("tests/lab/browser.sh can be run");
        let mut browser = Self {
            input: child.stdin.take().expect("a pipe"),
            output: BufReader::new(child.stdout.take().expect("a pipe")),
            child,
            profile,
            session: None,
            calls: 0,
            events: Vec::new(),
        };
        let page = browser.call("Target.createTarget", &json!({ "url": "about:blank" }));
        let target = json!({ "targetId": page["targetId"], "flatten": true });
        let attached = browser.call("Target.attachToTarget", &target);
        browser.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Network", "Log", "Runtime"] {
            browser.call(&format!("{domain}.enable"), &json!({}));
        }
        browser
    }

    /// Calls a method of the protocol; what else the browser tells meanwhile is kept.
    pub fn call(&mut self, method: &str, parameters: &Value) -> Value {
        self.calls += 1;
        let mut message = json!({ "id": self.calls, "method": method, "params": parameters });
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        let text = format!("{message}\0");
        self.input
            .write_all(text.as_bytes())
            .expect("the browser listens");
        loop {
            let mut answer = self.next();
            if answer["id"] == self.calls {
                assert_eq!(answer["error"], Value::Null, "{method}");
                return answer["result"].take();
            }
            self.events.push(answer);
        }
    }

    fn next(&mut self) -> Value {
        let mut text = Vec::new();
        self.output
            .read_until(0, &mut text)
            .expect("the browser can be read");
        assert_eq!(text.pop(), Some(0), "the browser has ended");
        serde_json::from_slice(&text).expect("the protocol is JSON")
    }

    /// Opens a file and waits until it is all there.
    pub fn open(&mut self, file: &Path) {
        self.events.clear();
        let url = format!("file://{}", file.display());
        self.call("Page.navigate", &json!({ "url": url }));
        let loaded = |event: &Value| event["method"] == "Page.loadEventFired";
        while !self.events.iter().any(loaded) {
            let event = self.next();
            self.events.push(event);
        }
    }

    /// What it has told of one kind since the page was opened.
    pub fn events(&self, method: &str) -> Vec<Value> {
        let events = self.events.iter().filter(|event| event["method"] == method);
        events.map(|event| event["params"].clone()).collect()
    }

    /// The value of an expression in the page, which the page's own policy does not bind.
    pub fn value(&mut self, expression: &str) -> Value {
        let parameters = json!({ "expression": expression, "returnByValue": true });
        let mut answer = self.call("Runtime.evaluate", &parameters);
        assert_eq!(answer["exceptionDetails"], Value::Null, "{expression}");
        answer["result"]["value"].take()
    }

    /// The text that is shown.
    pub fn text(&mut self) -> String {
        let text = self.value("document.body.innerText");
        text.as_str().expect("a page has a body").to_owned()
    }

    /// Makes the window so wide, and high enough for the whole page.
    pub fn resize(&mut self, width: u64) {
        for height in [json!(800), Value::Null] {
            let height = height.as_u64().unwrap_or_else(|| {
                let height = self.value("document.documentElement.scrollHeight");
                height.as_u64().expect("a page has a height")
            });
            let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
            self.call("Emulation.setDeviceMetricsOverride", &size);
        }
    }

    /// Takes the reader for one who wants a `light` or `dark` page, on `screen` or in `print`.
    pub fn prefer(&mut self, scheme: &str, media: &str) {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        let wanted = json!({ "media": media, "features": features });
        self.call("Emulation.setEmulatedMedia", &wanted);
    }

    /// Presses a key.
    pub fn press(&mut self, key: &str) {
        let text = if key == "Enter" { "\r" } else { "" };
        let code = if key == "Enter" { 13 } else { 9 };
        for kind in ["keyDown", "keyUp"] {
            let text = if kind == "keyDown" { text } else { "" };
            let event = json!({ "type": kind, "key": key, "code": key, "text": text, "windowsVirtualKeyCode": code });
            self.call("Input.dispatchKeyEvent", &event);
        }
    }

    /// The page as it looks.
    pub fn screenshot(&mut self) -> Shot {
        let shot = self.call("Page.captureScreenshot", &json!({ "format": "png" }));
        let octets = STANDARD.decode(shot["data"].as_str().expect("a picture"));
        Shot::new(&octets.expect("base64"))
    }

    /// What it tells a screen reader: role, name and description of everything on the page.
    pub fn spoken(&mut self) -> Vec<[String; 3]> {
        let tree = self.call("Accessibility.getFullAXTree", &json!({}));
        let nodes = tree["nodes"].as_array().expect("a tree").iter();
        let nodes = nodes.filter(|node| node["ignored"] == false);
        let word = |value: &Value| value["value"].as_str().unwrap_or_default().to_owned();
        nodes
            .map(|node| [&node["role"], &node["name"], &node["description"]].map(word))
            .collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Asked to close it leaves nothing behind; killed, its namespace goes with it.
        let close = "{\"id\":0,\"method\":\"Browser.close\"}\0";
        let asked = self.input.write_all(close.as_bytes()).is_ok();
        let asked_at = Instant::now();
        while asked && asked_at.elapsed() < PATIENCE && matches!(self.child.try_wait(), Ok(None)) {
            thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            show_logs("the browser", [self.profile.path().join("log").as_path()]);
        }
    }
}

/// A picture of a page.
pub struct Shot {
    octets: Vec<u8>,
    width: usize,
    /// Octets of a pixel.
    depth: usize,
    png: Vec<u8>,
}

impl Shot {
    fn new(png: &[u8]) -> Self {
        let decoder = png::Decoder::new(std::io::Cursor::new(png));
        let mut reader = decoder.read_info().expect("a PNG");
        let mut octets = vec![0; reader.output_buffer_size().expect("a size that fits")];
        let info = reader.next_frame(&mut octets).expect("a whole PNG");
        Self {
            octets,
            width: usize::try_from(info.width).expect("a size that fits"),
            depth: info.color_type.samples(),
            png: png.to_vec(),
        }
    }

    /// Red, green and blue at a place.
    pub fn pixel(&self, x: usize, y: usize) -> [u8; 3] {
        let at = (y * self.width + x) * self.depth;
        let pixel = self.octets.get(at..at + 3).expect("a place on the picture");
        [pixel[0], pixel[1], pixel[2]]
    }

    /// How many different colours there are.
    pub fn colors(&self) -> usize {
        let pixels = self.octets.chunks(self.depth);
        pixels.collect::<std::collections::HashSet<_>>().len()
    }

    /// Keeps it where people can look at it: `name.png` beside the lab's packages.
    pub fn keep(&self, name: &str) {
        let folder = lab::directory().join("pages");
        std::fs::create_dir_all(&folder).expect("the lab can be written");
        std::fs::write(folder.join(format!("{name}.png")), &self.png)
            .expect("a file can be written");
    }
}
