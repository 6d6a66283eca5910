//! The device's screen in a real terminal, by tmux.

use std::process::{Command, Stdio};

use crate::broker_process::{BrokerProcess, free_port};
use crate::foreign::{in_path, required};
use crate::program::{eventually, run};
use crate::room::{Room, nightlight, restart};

/// A terminal of 90 by 26 with one program in it.
struct Terminal {
    socket: String,
}

impl Terminal {
    fn start(room: &Room, program: &Command) -> Option<Self> {
        required("tmux", in_path("tmux"))?;
        let terminal = Self { socket: room.id.clone() };
        let mut words: Vec<_> = vec![program.get_program().to_owned()];
        words.extend(program.get_args().map(ToOwned::to_owned));
        // What the program leaves behind is to be seen after its end.
        let line = words.iter().map(|word| format!("'{}' ", word.display())).collect::<String>();
        let line = format!("{line}; echo status $?; exec cat");
        // The server of tmux has no configuration and no session but ours.
        run(terminal
            .tmux(&["-f", "/dev/null", "new-session", "-d", "-x", "90", "-y", "26"])
            .arg(line)
            .env("LC_ALL", "C.UTF-8"));
        Some(terminal)
    }

    fn tmux(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("tmux");
        command.args(["-u", "-L", &self.socket]).args(arguments).stdin(Stdio::null());
        command
    }

    fn press(&self, key: &str) {
        run(&mut self.tmux(&["send-keys", key]));
    }

    fn text(&self) -> String {
        run(&mut self.tmux(&["capture-pane", "-p"]))
    }

    fn expect(&self, words: &str) {
        let found = eventually(|| self.text().contains(words).then_some(()));
        assert!(found.is_some(), "{words:?} is not on the screen:\n{}", self.text());
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.tmux(&["kill-server"]).stderr(Stdio::null()).status();
    }
}

fn device(room: &Room, port: u16) -> Command {
    let mut device = nightlight("nightlight-device");
    device.args(["--id", &room.id, "--broker", &format!("mqtt://127.0.0.1:{port}")]);
    device.args(["--on-change", "1", "--offline-after", "500ms"]);
    device
}

#[test]
fn keys_change_the_light_and_the_led_follows() {
    let (broker, room) = (BrokerProcess::start(), Room::new());
    let server = room.server(broker.port(), &[]);
    server.line_where(|line| line == "MQTT connected!");
    let Some(terminal) = Terminal::start(&room, &device(&room, broker.port())) else { return };
    terminal.expect(&format!("connected to mqtt://127.0.0.1:{}", broker.port()));
    terminal.expect("Light, by keys");
    for (key, light, led) in [("1", "113", "ON"), ("9", "1023", "off"), ("2", "227", "ON")] {
        terminal.press(key);
        terminal.expect(&format!("{{\"light\": {light}}}"));
        terminal.expect(led);
        terminal.expect("by the server");
    }
    (0..3).for_each(|_| terminal.press("Up"));
    terminal.expect("Sending telemetry  {\"light\": 302}");
    terminal.expect("last command {'led_on': False}");
    terminal.press("d");
    terminal.expect("Light, day and night");
    terminal.press("q");
    // The screen is given back as it was.
    terminal.expect("status 0");
    assert!(!terminal.text().contains("Nightlight"), "{}", terminal.text());
}

#[test]
fn the_screen_tells_of_an_outage_and_of_its_end() {
    let room = Room::new();
    let port = free_port();
    let Some(terminal) = Terminal::start(&room, &device(&room, port)) else { return };
    terminal.press("0");
    for words in ["Connection refused", "retry in", "local", "ON", "the device decides by itself"] {
        terminal.expect(words);
    }
    let _broker = restart(port);
    let server = room.server(port, &[]);
    server.line_where(|line| line == "MQTT connected!");
    terminal.expect("● connected");
    terminal.press("8");
    terminal.expect("by the server");
    terminal.press("C-c");
    terminal.expect("status 0");
}
