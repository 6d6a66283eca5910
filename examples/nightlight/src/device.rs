//! What a device knows, and what it does with what it hears. No network and no clock: time comes in
//! as arguments, and [`life`](crate::life) brings both.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use mqtt_client::{Delivered, Undelivered};

use crate::connection::Link;
use crate::lesson::Payload;
use crate::rule::Rule;

/// A nightlight.
#[derive(Debug)]
pub struct Device {
    id: String,
    rule: Rule,
    offline_after: Duration,
    light: Option<u16>,
    led_on: bool,
    control: Control,
    last_command: Option<Command>,
    link: Link,
    /// Since when there is no connection; from the start, until there is the first.
    offline_since: Option<Instant>,
    tally: Tally,
    lines: VecDeque<Line>,
    /// The last complaint of each kind, so that it is not repeated all night.
    complaints: [Option<String>; 2],
}

/// Who switches the LED.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// Nobody yet.
    Nobody,
    /// The server, by its last command.
    Server,
    /// The device itself, because there was no connection for too long.
    Local,
}

/// A command that was obeyed.
#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    /// As Python prints it.
    pub text: String,
    /// When it came.
    pub at: Instant,
}

/// What became of the readings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Given to the network.
    pub sent: u64,
    /// Of these, acknowledged by the broker.
    pub acknowledged: u64,
    /// Given up: a newer one took its place, or there was no room.
    pub dropped: u64,
}

/// A line that the device has to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// What the lesson's program prints.
    Said(String),
    /// What it does not: about the connection, and what went wrong.
    Noted(String),
}

#[derive(Clone, Copy)]
enum Complaint {
    Sensor,
    Connection,
}

impl Device {
    /// A device that is switched on now, before it is connected.
    pub fn new(id: &str, rule: Rule, offline_after: Duration, now: Instant) -> Self {
        Self {
            id: id.to_owned(),
            rule,
            offline_after,
            light: None,
            led_on: false,
            control: Control::Nobody,
            last_command: None,
            link: Link::Connecting,
            offline_since: Some(now),
            tally: Tally::default(),
            lines: VecDeque::new(),
            complaints: [None, None],
        }
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The rule for when it is alone.
    pub fn rule(&self) -> Rule {
        self.rule
    }

    /// The last reading.
    pub fn light(&self) -> Option<u16> {
        self.light
    }

    /// Whether the LED is to be on.
    pub fn led_on(&self) -> bool {
        self.led_on
    }

    /// Who switches the LED.
    pub fn control(&self) -> Control {
        self.control
    }

    /// The last command.
    pub fn last_command(&self) -> Option<&Command> {
        self.last_command.as_ref()
    }

    /// The connection.
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// What became of the readings.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// The next line to show.
    pub fn poll_line(&mut self) -> Option<Line> {
        self.lines.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let since = self.offline_since.filter(|_| self.control != Control::Local)?;
        Some(since + self.offline_after)
    }

    /// Takes over from the server if there was no connection for long enough.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.poll_timeout().is_some_and(|at| at <= now) {
            self.control = Control::Local;
            let after = humantime::format_duration(self.offline_after);
            self.note(format!("Offline for {after}: the device decides by itself"));
            self.decide();
        }
    }

    /// A reading, or why there is none.
    pub fn handle_reading(&mut self, reading: io::Result<u16>) {
        match reading {
            Ok(light) => {
                self.complaints[Complaint::Sensor as usize] = None;
                self.light = Some(light);
                self.decide();
            }
            Err(error) => self.complain(Complaint::Sensor, format!("Light sensor: {error}")),
        }
    }

    /// Telemetry, as it is handed over to be sent.
    pub fn handle_telemetry(&mut self, payload: &str) {
        if let (Control::Local, Some(light)) = (self.control, self.light) {
            self.say(format!("Light level: {light}"));
        }
        self.say(format!("Sending telemetry  {payload}"));
    }

    /// The end of a reading's way.
    pub fn handle_outcome(&mut self, outcome: Result<Delivered, Undelivered>) {
        match outcome {
            Ok(Delivered::Superseded) | Err(_) => self.tally.dropped += 1,
            Ok(Delivered::Acknowledged | Delivered::Completed) => {
                self.tally.sent += 1;
                self.tally.acknowledged += 1;
            }
            Ok(_) => self.tally.sent += 1,
        }
    }

    /// The payload of a command.
    pub fn handle_command(&mut self, payload: &[u8], now: Instant) {
        let command = match Payload::command(payload) {
            Ok(command) => command,
            Err(error) => {
                self.note(format!("{}/commands: {error}", self.id));
                return;
            }
        };
        self.say(format!("Message received: {command}"));
        if self.control == Control::Local {
            self.note("The server decides again".into());
        }
        self.control = Control::Server;
        self.led_on = command.field;
        self.last_command = Some(Command { text: command.to_string(), at: now });
        // Without a connection, the time alone begins anew with the last word of the server.
        self.offline_since = self.offline_since.map(|_| now);
    }

    /// The state of the connection.
    pub fn handle_link(&mut self, link: Link, now: Instant) {
        match (&link, self.offline_since) {
            (Link::Connected, _) => {
                self.say("MQTT connected!".into());
                self.offline_since = None;
                self.complaints[Complaint::Connection as usize] = None;
            }
            (_, None) => self.offline_since = Some(now),
            (_, Some(_)) => {}
        }
        if let Some(cause) = link.cause() {
            self.complain(Complaint::Connection, format!("Not connected: {cause}"));
        }
        self.link = link;
    }

    /// An LED that cannot be switched.
    pub fn handle_led_error(&mut self, error: &io::Error) {
        self.note(format!("LED: {error}"));
    }

    fn decide(&mut self) {
        if let (Control::Local, Some(light)) = (self.control, self.light) {
            self.led_on = self.rule.decide(f64::from(light), self.led_on);
        }
    }

    fn say(&mut self, line: String) {
        self.lines.push_back(Line::Said(line));
    }

    fn note(&mut self, line: String) {
        self.lines.push_back(Line::Noted(line));
    }

    fn complain(&mut self, about: Complaint, line: String) {
        let last = &mut self.complaints[about as usize];
        if last.as_ref() != Some(&line) {
            *last = Some(line.clone());
            self.note(line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mqtt_client::ConnectionError;

    const OFFLINE_AFTER: Duration = Duration::from_secs(15);

    struct Night {
        device: Device,
        start: Instant,
    }

    impl Night {
        fn new() -> Self {
            let start = Instant::now();
            let rule = Rule { threshold: 300.0, hysteresis: 20.0 };
            Self { device: Device::new("bed", rule, OFFLINE_AFTER, start), start }
        }

        fn at(&self, seconds: u64) -> Instant {
            self.start + Duration::from_secs(seconds)
        }

        fn connect(&mut self, seconds: u64) {
            self.device.handle_link(Link::Connected, self.at(seconds));
        }

        fn disconnect(&mut self, seconds: u64) {
            let until = self.at(seconds + 5);
            let link = Link::Waiting { until, cause: ConnectionError::ClosedByBroker };
            self.device.handle_link(link, self.at(seconds));
        }

        fn command(&mut self, payload: &str, seconds: u64) {
            self.device.handle_command(payload.as_bytes(), self.at(seconds));
        }

        fn lines(&mut self) -> Vec<Line> {
            std::iter::from_fn(|| self.device.poll_line()).collect()
        }
    }

    #[test]
    fn commands_switch_the_led_and_the_light_does_not() {
        let mut night = Night::new();
        night.connect(0);
        night.device.handle_reading(Ok(5));
        assert!(!night.device.led_on(), "the server has said nothing yet");
        night.command(r#"{"led_on": true}"#, 1);
        night.device.handle_reading(Ok(900));
        assert!(night.device.led_on());
        assert_eq!(night.device.poll_timeout(), None);
        assert_eq!(
            night.lines(),
            [
                Line::Said("MQTT connected!".into()),
                Line::Said("Message received: {'led_on': True}".into())
            ]
        );
    }

    #[test]
    fn a_device_without_a_broker_decides_by_itself_after_a_while() {
        let mut night = Night::new();
        night.device.handle_reading(Ok(5));
        night.device.handle_timeout(night.at(14));
        assert!(!night.device.led_on());
        night.device.handle_timeout(night.at(15));
        assert_eq!((night.device.led_on(), night.device.control()), (true, Control::Local));
        night.device.handle_reading(Ok(310));
        assert!(night.device.led_on(), "hysteresis");
        night.device.handle_reading(Ok(320));
        assert!(!night.device.led_on());
    }

    #[test]
    fn the_first_command_after_coming_back_takes_over_and_not_the_connection() {
        let mut night = Night::new();
        night.connect(0);
        night.command(r#"{"led_on": false}"#, 1);
        night.device.handle_reading(Ok(5));
        night.disconnect(100);
        assert_eq!(night.device.poll_timeout(), Some(night.at(115)));
        // Failing attempts do not prolong it.
        night.disconnect(110);
        night.device.handle_timeout(night.at(115));
        assert!(night.device.led_on());
        night.connect(130);
        assert_eq!((night.device.led_on(), night.device.control()), (true, Control::Local));
        night.command(r#"{"led_on": false}"#, 131);
        assert_eq!((night.device.led_on(), night.device.control()), (false, Control::Server));
    }

    #[test]
    fn a_bad_command_changes_nothing_and_is_told() {
        let mut night = Night::new();
        night.command(r#"{"led_on": true}"#, 1);
        night.lines();
        for payload in ["", "on", r#"{"led_on": 0}"#, r#"{"led": false}"#] {
            night.command(payload, 2);
            assert!(night.device.led_on());
            let lines = night.lines();
            let [Line::Noted(line)] = lines.as_slice() else { panic!("{lines:?}") };
            assert!(line.starts_with("bed/commands: no "), "{line}");
        }
    }

    #[test]
    fn the_same_complaint_is_made_once() {
        let mut night = Night::new();
        for seconds in 0..5 {
            night.disconnect(seconds);
            night.device.handle_reading(Err(io::Error::other("torn off")));
        }
        assert_eq!(night.lines().len(), 2);
        night.device.handle_reading(Ok(1));
        night.device.handle_reading(Err(io::Error::other("torn off")));
        assert_eq!(night.lines().len(), 1);
    }

    #[test]
    fn every_reading_ends_in_the_tally() {
        let mut night = Night::new();
        for outcome in [
            Ok(Delivered::Written),
            Ok(Delivered::Acknowledged),
            Ok(Delivered::Superseded),
            Err(Undelivered::Dropped),
        ] {
            night.device.handle_outcome(outcome);
        }
        assert_eq!(night.device.tally(), Tally { sent: 2, acknowledged: 1, dropped: 2 });
    }
}
