//! The web page in a real browser, which comes from the broker and talks to it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::broker_process::{BrokerProcess, broker_program, free_port};
use crate::browser::Browser;
use crate::foreign::required;
use crate::program::Program;
use crate::room::{Room, nightlight};

const WINDOW: (u32, u32) = (1000, 600);
const PHONE: (u32, u32) = (360, 740);

/// A broker that serves the page, and a browser that shows it.
struct Show {
    broker: BrokerProcess,
    browser: Browser,
    config: PathBuf,
}

impl Show {
    async fn open(room: &Room) -> Option<Self> {
        let web = Path::new(env!("CARGO_MANIFEST_DIR")).join("web");
        let packages = web.join("node_modules/uplot").is_dir();
        required("the packages of the page", packages.then_some(()))?;
        let (port, mqtt) = (free_port(), free_port());
        let config = room.path("broker.conf");
        let text = format!(
            "allow_anonymous true\nlistener {mqtt} 127.0.0.1\n\
             listener {port} 127.0.0.1\nprotocol websockets\nhttp_dir {}\n",
            web.display()
        );
        std::fs::write(&config, text).expect("the configuration can be written");
        let broker = start(mqtt, &config);
        let url = format!("http://127.0.0.1:{port}/");
        let mut browser = Browser::open(&url, &room.path("profile"), WINDOW).await?;
        browser.expect("document.getElementById('link')?.className === 'connected'").await;
        Some(Self { broker, browser, config })
    }
}

fn start(mqtt: u16, config: &Path) -> BrokerProcess {
    let arguments = ["-c".to_owned(), config.display().to_string()];
    let broker = BrokerProcess::try_start(&broker_program(), mqtt, &arguments);
    broker.expect("the broker starts")
}

/// An expression about the card of a room's device.
fn card(room: &Room, rest: &str) -> String {
    format!("document.querySelector('[data-id=\"{}\"]'){rest}", room.id)
}

fn led_is(room: &Room, is_on: bool) -> String {
    format!("{} === {is_on}", card(room, "?.querySelector('.led').classList.contains('on')"))
}

fn light_is(room: &Room, light: u16) -> String {
    format!("{} === '{light}'", card(room, "?.querySelector('.light').innerText"))
}

#[tokio::test]
async fn the_light_changes_and_the_led_follows_within_a_second() {
    let room = Room::new();
    let Some(Show { broker, mut browser, .. }) = Show::open(&room).await else { return };
    let server = room.server(broker.port(), &[]);
    server.line_where(|line| line == "MQTT connected!");
    let _device = room.device(broker.port(), &["--on-change", "1"]);
    browser.expect(&light_is(&room, 500)).await;
    let mut delays = Vec::new();
    for (light, led_on) in [(120, true), (640, false), (299, true), (300, false), (10, true)] {
        let start = Instant::now();
        room.set_light(light);
        browser.expect(&led_is(&room, led_on)).await;
        delays.push(start.elapsed());
        browser.expect(&light_is(&room, light)).await;
    }
    delays.sort_unstable();
    // The one in the middle: a busy machine may stumble once.
    assert!(delays[2] < Duration::from_secs(1), "{delays:?}");
    println!("from the light to the LED on the page: {delays:?}");
    // The plot has ink in the colour of the light.
    let ink = "(() => { const canvas = document.querySelector('canvas'); \
               const data = canvas.getContext('2d') \
               .getImageData(0, 0, canvas.width, canvas.height).data; \
               let count = 0; for (let i = 0; i < data.length; i += 4) \
               count += data[i] > 200 && data[i + 2] < 160 && data[i + 3] > 200; return count; })()";
    let ink = browser.evaluate(ink).await;
    assert!(ink.as_u64().is_some_and(|ink| ink > 20), "{ink} pixels of light in the plot");
}

#[tokio::test]
async fn the_switch_sends_a_command() {
    let room = Room::new();
    let Some(Show { broker, mut browser, .. }) = Show::open(&room).await else { return };
    let device = room.device(broker.port(), &["--on-change", "1"]);
    device.line_where(|line| line == "MQTT connected!");
    browser.expect(&light_is(&room, 500)).await;
    for is_on in [true, false] {
        browser.evaluate(&card(&room, ".querySelector('.switch').click()")).await;
        browser.expect(&led_is(&room, is_on)).await;
        room.expect_led(is_on);
    }
}

#[tokio::test]
async fn devices_come_and_go_and_can_be_forgotten() {
    let room = Room::new();
    let Some(Show { broker, mut browser, .. }) = Show::open(&room).await else { return };
    let presence = card(&room, "?.querySelector('.presence').innerText");
    let device = room.device(broker.port(), &[]);
    browser.expect(&format!("{presence} === 'online'")).await;
    // Its will tells, and is still there for a page that comes later.
    device.kill_9();
    browser.expect(&format!("{presence} === 'offline'")).await;
    browser.reload().await;
    browser.expect(&format!("{presence} === 'offline'")).await;
    let device = room.device(broker.port(), &[]);
    browser.expect(&format!("{presence} === 'online'")).await;
    // So does a device that says goodbye.
    assert!(device.terminate().success());
    browser.expect(&format!("{presence} === 'offline'")).await;
    browser.evaluate(&card(&room, ".querySelector('.forget').click()")).await;
    browser.expect(&format!("{} === null", card(&room, ""))).await;
    browser.reload().await;
    browser.expect("document.getElementById('link')?.className === 'connected'").await;
    browser.expect("!document.getElementById('nobody').hidden").await;
}

#[tokio::test]
async fn the_page_fits_a_phone_and_survives_its_broker() {
    let room = Room::new();
    let Some(Show { broker, mut browser, config }) = Show::open(&room).await else { return };
    let port = broker.port();
    let _device = room.device(port, &["--on-change", "1"]);
    browser.expect(&light_is(&room, 500)).await;
    browser.resize(PHONE, true).await;
    let width = format!("document.documentElement.scrollWidth <= {}", PHONE.0);
    browser.expect(&width).await;
    browser.expect(&format!("{} > 200", card(&room, ".querySelector('canvas').clientWidth"))).await;
    broker.end_with("KILL");
    browser.expect("document.getElementById('link').className === ''").await;
    let _broker = start(port, &config);
    // What is sent before the page listens again is not for it.
    browser.expect("document.getElementById('link').className === 'connected'").await;
    room.set_light(77);
    browser.expect(&light_is(&room, 77)).await;
}

/// The picture of the page in the README: `UPDATE_PICTURE=1` makes it anew, in 45 seconds.
#[tokio::test]
async fn the_picture_in_the_readme_is_a_picture() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("page.png");
    if std::env::var_os("UPDATE_PICTURE").is_some() {
        std::fs::write(&path, evening().await).expect("the picture can be written");
    }
    let picture = std::fs::read(&path).expect("there is a picture");
    assert!(picture.starts_with(b"\x89PNG"));
    assert!(picture.len() < 150_000, "{} bytes", picture.len());
}

async fn evening() -> Vec<u8> {
    let room = Room::new();
    let show = Show::open(&room).await;
    let Show { broker, mut browser, .. } = show.expect("the picture needs a browser");
    let server = room.server(broker.port(), &["--fleet"]);
    server.line_where(|line| line == "MQTT connected!");
    let url = format!("mqtt://127.0.0.1:{}", broker.port());
    let device = |id: &str, sensor: &str| {
        let mut device = nightlight("nightlight-device");
        device.args(["--headless", "--interval", "500ms", "--broker", &url]);
        Program::start(device.args(["--id", id, "--sensor", sensor]))
    };
    let _attic = device("attic", "day");
    let cellar = device("cellar", "random:80:140");
    let _hall = device("hall", "walk");
    let _nursery = device("nursery", "walk");
    tokio::time::sleep(Duration::from_secs(20)).await;
    cellar.kill_9();
    tokio::time::sleep(Duration::from_secs(25)).await;
    browser.picture().await
}
