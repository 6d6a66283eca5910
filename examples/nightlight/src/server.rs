//! The server: it hears of light, decides, and commands.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::pin::pin;
use std::time::{Duration, Instant};

use mqtt_client::{
    AckMode, Client, ConfigError, ConnectionError, Limit, Message, Offline, Publish, PublishError,
    QoS, Subscription, WhenFull,
};
use tokio::time::{MissedTickBehavior, interval};

use crate::aggregate::{Aggregate, Window};
use crate::connection::{BrokerOptions, GOODBYE, Link};
use crate::console::{Announcer, note, say};
use crate::lesson::{self, Payload, PythonCommand, Topics};
use crate::rule::Rule;

/// What a server is told.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Its broker.
    pub broker: BrokerOptions,
    /// Its devices.
    pub audience: Audience,
    /// When it is dark.
    pub rule: Rule,
    /// One decision about all devices, each time the window has passed.
    pub aggregate: Option<(Aggregate, Duration)>,
    /// Whether a command is sent only when it says something new, in place of after each reading.
    pub on_change: bool,
    /// Whether the broker keeps the last command for devices that come back.
    pub retain_commands: bool,
    /// Whether the broker keeps the readings that come while the server is away.
    pub keep_session: bool,
}

/// Which devices a server serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Audience {
    /// These.
    Ids(Vec<String>),
    /// Every device of the broker whose id is one topic level.
    Fleet,
}

impl Audience {
    /// The ids of the filters to subscribe to.
    fn ids(&self) -> Vec<&str> {
        match self {
            Self::Ids(ids) => ids.iter().map(String::as_str).collect(),
            Self::Fleet => vec!["+"],
        }
    }

    /// What the server's client id begins with.
    fn name(&self, keep_session: bool) -> String {
        match self {
            Self::Ids(ids) => ids.join(","),
            Self::Fleet if keep_session => "fleet".into(),
            // Two with one id would disconnect each other, and nobody has chosen this one.
            Self::Fleet => format!("fleet-{:08x}-", fastrand::u32(..)),
        }
    }

    /// Whether lines need to say which device they are about.
    fn is_one(&self) -> bool {
        matches!(self, Self::Ids(ids) if ids.len() == 1)
    }
}

/// Why a server ends.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The options do not fit each other.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The broker does not want it.
    #[error("{0}")]
    Refused(ConnectionError),
    /// The broker does not let it listen.
    #[error("the broker refused the subscription to {0}")]
    NotGranted(String),
    /// A command could not be accepted.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// Standard output is gone.
    #[error("{0}")]
    Output(#[from] io::Error),
}

/// Commands that wait for a connection: some for each device of a large fleet.
const WAITING: usize = 100_000;

/// A nightlight server with its client.
pub struct Server {
    client: Client,
    messages: Subscription,
    decisions: Decisions,
    setup: Setup,
    window: Window,
    announcer: Announcer,
}

impl Server {
    /// Begins to connect. Has to be called on a tokio runtime.
    ///
    /// # Errors
    /// If the options do not fit each other.
    pub fn begin(setup: Setup) -> Result<Self, ServerError> {
        let topics: Vec<_> = setup.audience.ids().into_iter().map(Topics::of).collect();
        let mut filters: Vec<_> =
            topics.iter().map(|topics| (topics.telemetry.as_str(), QoS::AtLeastOnce)).collect();
        if setup.on_change {
            // A device that comes back has forgotten what it was told.
            filters.extend(topics.iter().map(|topics| (topics.status.as_str(), QoS::AtLeastOnce)));
        }
        let builder =
            setup.broker.client(lesson::server_client(&setup.audience.name(setup.keep_session)));
        let builder = if setup.keep_session { builder.persistent_session() } else { builder };
        let (builder, messages) = builder
            // A command that the broker keeps is a state: what it was before it could be sent, nobody
            // needs to know. Else each reading has its answer.
            .offline(if setup.retain_commands { Offline::Latest } else { Offline::Queue })
            .queue_limit(Limit {
                messages: WAITING,
                when_full: WhenFull::DropOldest,
                ..Limit::default()
            })
            .subscription_all(filters, AckMode::Taken);
        Ok(Self {
            client: builder.start()?,
            messages,
            decisions: Decisions::new(setup.rule, setup.on_change),
            window: Window::default(),
            announcer: Announcer::default(),
            setup,
        })
    }

    /// Serves until `end` is ready.
    ///
    /// # Errors
    /// If the broker refuses the server, or what it wants to hear.
    pub async fn run(mut self, end: impl Future<Output = ()>) -> Result<(), ServerError> {
        let result = self.serve(end).await;
        self.client.shutdown(GOODBYE).await;
        result
    }

    async fn serve(&mut self, end: impl Future<Output = ()>) -> Result<(), ServerError> {
        let mut end = pin!(end);
        let mut status = self.client.status();
        status.mark_changed();
        // Without an aggregate the window's ticks find nothing to do.
        let window = self.setup.aggregate.map_or(Duration::from_secs(3600), |(_, window)| window);
        let mut windows = interval(window);
        windows.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            // In this order, so that the connection is told before what comes through it, and no flood
            // of telemetry holds up a window.
            tokio::select! {
                biased;
                () = &mut end => return Ok(()),
                Ok(()) = status.changed() => {
                    let link = Link::new(&status.borrow_and_update(), Instant::now());
                    self.handle_link(&link)?;
                }
                _ = windows.tick() => self.end_window().await?,
                message = self.messages.recv() => match message {
                    Some(message) => self.handle_message(&message).await?,
                    None => return self.stream_ended(),
                },
            }
        }
    }

    fn stream_ended(&self) -> Result<(), ServerError> {
        let refused =
            self.messages.grants().into_iter().find(|(_, answer)| matches!(answer, Some(Err(_))));
        match refused {
            Some((filter, _)) => Err(ServerError::NotGranted(filter.as_str().to_owned())),
            None => Ok(()),
        }
    }

    fn handle_link(&mut self, link: &Link) -> Result<(), ServerError> {
        if link.is_connected() {
            // What was decided before may not have arrived.
            self.decisions.forget_what_was_said();
        }
        match link.cause() {
            Some(cause) if cause.is_lasting() => Err(ServerError::Refused(cause.clone())),
            _ => Ok(self.announcer.announce(link)?),
        }
    }

    async fn handle_message(&mut self, message: &Message) -> Result<(), ServerError> {
        let topic = message.topic();
        let Some((id, kind)) = topic.as_str().rsplit_once('/') else { return Ok(()) };
        if kind == "status" {
            match Payload::status(message.payload()) {
                Ok(_) => self.decisions.forget(id),
                // Somebody has told the broker to forget the device.
                Err(_) if message.payload().is_empty() => self.decisions.forget(id),
                Err(error) => note(format_args!("{topic}: {error}"))?,
            }
            return Ok(());
        }
        let telemetry = match Payload::telemetry(message.payload()) {
            Ok(telemetry) => telemetry,
            Err(error) => {
                note(format_args!("{topic}: {error}"))?;
                return Ok(());
            }
        };
        self.say(id, format_args!("Message received: {telemetry}"))?;
        if self.setup.aggregate.is_some() {
            self.window.insert(id, telemetry.field);
            return Ok(());
        }
        match self.decisions.decide(id, telemetry.field) {
            Some(led_on) => self.command(id, led_on).await,
            None => Ok(()),
        }
    }

    async fn end_window(&mut self) -> Result<(), ServerError> {
        let Some((aggregate, _)) = self.setup.aggregate else { return Ok(()) };
        let Some((ids, light)) = self.window.take(aggregate) else { return Ok(()) };
        for id in ids {
            if let Some(led_on) = self.decisions.decide(&id, light) {
                self.command(&id, led_on).await?;
            }
        }
        Ok(())
    }

    async fn command(&mut self, id: &str, led_on: bool) -> Result<(), ServerError> {
        self.say(id, format_args!("Sending message: {}", PythonCommand(led_on)))?;
        let command = Publish::new(Topics::of(id).commands, lesson::command(led_on))
            .qos(QoS::AtLeastOnce)
            .retain(self.setup.retain_commands);
        // It does not wait for room: the queue drops its oldest.
        let _delivered = self.client.publish(command).await?;
        Ok(())
    }

    fn say(&self, id: &str, line: fmt::Arguments<'_>) -> io::Result<()> {
        match self.setup.audience.is_one() {
            true => say(line),
            false => say(format_args!("[{id}] {line}")),
        }
    }
}

/// What was decided for each device.
#[derive(Debug)]
struct Decisions {
    rule: Rule,
    on_change: bool,
    led_on: HashMap<String, Decision>,
}

#[derive(Clone, Copy, Debug)]
struct Decision {
    led_on: bool,
    was_said: bool,
}

impl Decisions {
    fn new(rule: Rule, on_change: bool) -> Self {
        Self { rule, on_change, led_on: HashMap::new() }
    }

    /// The command for this light, if it is to be sent.
    fn decide(&mut self, id: &str, light: f64) -> Option<bool> {
        if !self.on_change && self.rule.hysteresis == 0.0 {
            // The lesson's server remembers nothing.
            return Some(self.rule.decide(light, false));
        }
        let before = self.led_on.get(id).copied();
        let led_on = self.rule.decide(light, before.is_some_and(|before| before.led_on));
        self.led_on.insert(id.to_owned(), Decision { led_on, was_said: true });
        let is_news = before.is_none_or(|before| before.led_on != led_on || !before.was_said);
        (is_news || !self.on_change).then_some(led_on)
    }

    fn forget(&mut self, id: &str) {
        self.led_on.remove(id);
    }

    fn forget_what_was_said(&mut self) {
        self.led_on.values_mut().for_each(|decision| decision.was_said = false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: Rule = Rule { threshold: 300.0, hysteresis: 0.0 };

    #[test]
    fn each_reading_is_answered_as_in_the_lesson() {
        let mut decisions = Decisions::new(RULE, false);
        for (light, led_on) in [(299.0, true), (299.0, true), (300.0, false), (300.0, false)] {
            assert_eq!(decisions.decide("a", light), Some(led_on));
        }
        assert!(decisions.led_on.is_empty(), "nothing is remembered about it");
    }

    #[test]
    fn on_change_says_each_thing_once_to_each_device() {
        let mut decisions = Decisions::new(RULE, true);
        assert_eq!(decisions.decide("a", 400.0), Some(false));
        assert_eq!(decisions.decide("a", 500.0), None);
        assert_eq!(decisions.decide("b", 500.0), Some(false));
        assert_eq!(decisions.decide("a", 10.0), Some(true));
        assert_eq!(decisions.decide("a", 11.0), None);
        decisions.forget_what_was_said();
        assert_eq!(decisions.decide("a", 12.0), Some(true));
        decisions.forget("a");
        assert_eq!(decisions.decide("a", 13.0), Some(true));
        assert_eq!(decisions.decide("b", 500.0), Some(false));
    }

    #[test]
    fn hysteresis_is_kept_for_each_device() {
        let mut decisions = Decisions::new(Rule { hysteresis: 50.0, ..RULE }, false);
        for (id, light, led_on) in
            [("a", 299.0, true), ("a", 349.0, true), ("b", 349.0, false), ("a", 350.0, false)]
        {
            assert_eq!(decisions.decide(id, light), Some(led_on), "{id} {light}");
        }
    }
}
