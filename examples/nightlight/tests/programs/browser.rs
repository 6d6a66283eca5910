use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use futures::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::foreign::{in_path, required};
use crate::program::{DEADLINE, Program, eventually};

/// A page in a headless Chromium, by the protocol of its developer tools.
pub(crate) struct Browser {
    socket: WebSocketStream<TcpStream>,
    calls: u64,
    profile: PathBuf,
    /// Ends with this.
    _process: Program,
}

impl Browser {
    /// Opens an address in a window of this size, if there is a Chromium.
    pub(crate) async fn open(url: &str, profile: &Path, size: (u32, u32)) -> Option<Self> {
        let program = in_path("chromium").or_else(|| in_path("chromium-browser"));
        let program = required("chromium", program)?;
        let process = Program::start(
            Command::new(program)
                .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"])
                .args(["--remote-debugging-port=0", "--hide-scrollbars", "--force-dark-mode"])
                .arg(format!("--window-size={},{}", size.0, size.1))
                .arg(format!("--user-data-dir={}", profile.display()))
                .arg(url)
                .stderr(Stdio::null()),
        );
        let port = eventually(|| {
            let text = std::fs::read_to_string(profile.join("DevToolsActivePort")).ok()?;
            text.lines().next()?.parse().ok()
        });
        let port: u16 = port.expect("chromium says where its tools are");
        let address = page_address(port, url).await;
        let stream = TcpStream::connect(("127.0.0.1", port)).await.expect("chromium listens");
        let (socket, _) = client_async(address, stream).await.expect("a WebSocket");
        let profile = profile.to_owned();
        let mut browser = Self { socket, calls: 0, profile, _process: process };
        browser.resize(size, false).await;
        Some(browser)
    }

    /// Gives the page this size, as a phone has it or as a window.
    pub(crate) async fn resize(&mut self, (width, height): (u32, u32), is_phone: bool) {
        let size = json!({
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": is_phone,
        });
        let resized = self.call("Emulation.setDeviceMetricsOverride", size).await;
        resized.expect("chromium resizes the page");
    }

    /// What an expression of JavaScript is on the page.
    pub(crate) async fn evaluate(&mut self, expression: &str) -> Value {
        let value = self.try_evaluate(expression).await;
        value.unwrap_or_else(|error| panic!("{expression}: {error}"))
    }

    /// Waits until an expression is true.
    pub(crate) async fn expect(&mut self, expression: &str) {
        let waiting = timeout(DEADLINE, async {
            // While a page is loaded, it may have nothing that an expression asks for.
            while self.try_evaluate(expression).await != Ok(Value::Bool(true)) {
                sleep(Duration::from_millis(10)).await;
            }
        });
        if waiting.await.is_err() {
            let page = self.evaluate("document.body.innerText").await;
            panic!("{expression} does not become true on this page: {page}");
        }
    }

    /// Loads the page anew.
    pub(crate) async fn reload(&mut self) {
        self.evaluate("window.isOld = true").await;
        self.call("Page.reload", json!({})).await.expect("chromium reloads");
        self.expect("!window.isOld && document.readyState === 'complete'").await;
    }

    async fn try_evaluate(&mut self, expression: &str) -> Result<Value, Value> {
        let arguments = json!({ "expression": expression, "returnByValue": true });
        let mut result = self.call("Runtime.evaluate", arguments).await?;
        match result.get("exceptionDetails") {
            Some(exception) => Err(exception.clone()),
            None => Ok(result["result"]["value"].take()),
        }
    }

    /// A picture of the page, as a PNG file has it.
    pub(crate) async fn picture(&mut self) -> Vec<u8> {
        let result = self.call("Page.captureScreenshot", json!({ "format": "png" })).await;
        let result = result.expect("chromium makes a picture");
        let data = result["data"].as_str().expect("a picture");
        BASE64_STANDARD.decode(data).expect("it is in base64")
    }

    async fn call(&mut self, method: &str, parameters: Value) -> Result<Value, Value> {
        self.calls += 1;
        let call = json!({ "id": self.calls, "method": method, "params": parameters });
        self.socket.send(Message::text(call.to_string())).await.expect("chromium listens");
        let answer = timeout(DEADLINE, async {
            loop {
                let message = self.socket.next().await.expect("chromium goes on");
                let message = message.expect("chromium goes on");
                let Message::Text(text) = message else { continue };
                let mut answer: Value = serde_json::from_str(&text).expect("chromium speaks JSON");
                if answer["id"] == self.calls {
                    return match answer.get("error") {
                        Some(error) => Err(error.clone()),
                        None => Ok(answer["result"].take()),
                    };
                }
            }
        });
        answer.await.expect("chromium answers in time")
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Chromium may still be writing.
        let _ = std::fs::remove_dir_all(&self.profile);
    }
}

/// Where the tools of the page are, once it is there.
async fn page_address(port: u16, url: &str) -> String {
    let look = async {
        loop {
            let pages = list(port).await;
            let page = pages.as_array().into_iter().flatten().find(|page| page["url"] == url);
            if let Some(address) = page.and_then(|page| page["webSocketDebuggerUrl"].as_str()) {
                return address.to_owned();
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(DEADLINE, look).await.expect("chromium opens the page in time")
}

async fn list(port: u16) -> Value {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.expect("chromium listens");
    let request = format!("GET /json/list HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("chromium reads");
    // It keeps the connection open: the answer is over when its JSON is.
    let mut answer = Vec::new();
    loop {
        if let Some(at) = answer.windows(4).position(|window| window == b"\r\n\r\n")
            && let Ok(pages) = serde_json::from_slice(&answer[at + 4..])
        {
            return pages;
        }
        let read = stream.read_buf(&mut answer).await.expect("chromium answers");
        assert!(read > 0, "{}", String::from_utf8_lossy(&answer));
    }
}
