//! A web page in a real browser, that comes from the broker and talks to it.

use std::process::{Command, Stdio};

use crate::broker_process::{BrokerProcess, free_port};
use crate::foreign::{in_path, required};
use crate::program::{Program, scratch, scripts};
use crate::wire::{Connect, Wire, publish, subscribe};

#[test]
fn a_page_in_chromium_publishes_and_subscribes() {
    let browser = in_path("chromium").or_else(|| in_path("chromium-browser"));
    let library = scripts().join("mqttjs/node_modules/mqtt/dist/mqtt.min.js");
    let library = library.is_file().then_some(library);
    let both = required("chromium with MQTT.js", browser.zip(library));
    let Some((browser, library)) = both else { return };

    let folder = scratch().join(format!("page-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder can be made");
    std::fs::copy(library, folder.join("mqtt.min.js")).expect("a file can be copied");
    let page = scripts().join("page/index.html");
    std::fs::copy(page, folder.join("index.html")).expect("a file can be copied");

    let web = free_port();
    let broker = BrokerProcess::start_with_config(&format!(
        "allow_anonymous true\nlistener {web}\nprotocol websockets\nhttp_dir {}",
        folder.display()
    ));
    let mut wire = Wire::connect(&broker, &Connect::new("watcher"));
    wire.send(&subscribe(1, &[("page/out", 0)]));
    assert_eq!(wire.expect_suback(), [0]);
    let page = Program::start(
        Command::new(browser)
            .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"])
            .arg(format!("--user-data-dir={}", folder.join("profile").display()))
            .arg(format!("http://127.0.0.1:{web}/"))
            .stderr(Stdio::null()),
    );
    assert_eq!(wire.expect_publish().payload, b"ready");
    wire.send(&publish(0x30, b"page/in", None, b"hello"));
    assert_eq!(wire.expect_publish().payload, b"HELLO");
    drop(page);
    let _ = std::fs::remove_dir_all(folder);
}
