//! A device among the living: its sensor, its LED, its connection, and a view that shows it.

use std::io;
use std::path::PathBuf;
use std::pin::pin;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use mqtt_client::{
    Client, ConfigError, Endpoint, Offline, Publish, PublishError, QoS, Receipt, Stats,
    Subscription,
};
use tokio::time::{Interval, MissedTickBehavior, interval_at, sleep_until};

use crate::backlog::{StoreError, keep_every_reading};
use crate::connection::{BrokerOptions, GOODBYE, Link};
use crate::device::{Device, Line};
use crate::led::Led;
use crate::lesson::{self, Topics};
use crate::pace::Pace;
use crate::rule::Rule;
use crate::sensor::{Key, LightSensor, Mode};

/// What a device is made of.
pub struct Setup {
    /// Its id, the first part of its topics.
    pub id: String,
    /// Its broker.
    pub broker: BrokerOptions,
    /// What it reads.
    pub sensor: Box<dyn LightSensor>,
    /// What it switches.
    pub led: Box<dyn Led>,
    /// When it sends.
    pub pace: Pace,
    /// What happens to readings while there is no connection.
    pub policy: Policy,
    /// How it decides when it is alone.
    pub rule: Rule,
    /// After how long without a connection it is alone.
    pub offline_after: Duration,
    /// When it sends first: many devices in one process do not send all at once.
    pub first_after: Duration,
}

/// What happens to readings while there is no connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Policy {
    /// The newest is sent when there is a connection again; the others are old news. QoS 0, as in the
    /// lesson.
    Latest,
    /// All are sent, in order. QoS 1.
    Queue {
        /// The folder where they outlive the program; without, they are in memory.
        store: Option<PathBuf>,
    },
}

/// What shows a device, and takes the wishes of a person.
pub trait View {
    /// Shows lines that are new.
    ///
    /// # Errors
    /// If nothing can be shown any more; the device ends then.
    fn line(&mut self, line: &Line) -> io::Result<()>;

    /// Shows a moment.
    ///
    /// # Errors
    /// As [`line`](Self::line).
    fn moment(&mut self, _moment: &Moment<'_>) -> io::Result<()> {
        Ok(())
    }

    /// How often moments are to be shown, if something moves by itself.
    fn frame(&self) -> Option<Duration> {
        None
    }

    /// The next wish. Cancel safe.
    fn wish(&mut self) -> impl Future<Output = io::Result<Wish>> {
        std::future::pending()
    }
}

/// What a person wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// The end.
    End,
    /// A key for the sensor.
    Key(Key),
    /// To see the moment anew, such as after the terminal was resized.
    Redraw,
}

/// A device as it is now.
pub struct Moment<'a> {
    /// The device.
    pub device: &'a Device,
    /// Where its broker is.
    pub broker: &'a str,
    /// How its sensor moves, if that is known.
    pub mode: Option<Mode>,
    /// What its client counts.
    pub stats: Stats,
    /// Now.
    pub now: Instant,
}

/// Why a device cannot live, or stopped to.
#[derive(Debug, thiserror::Error)]
pub enum LifeError {
    /// The options do not fit each other.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The store of readings cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A reading could not be accepted.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// The view is gone.
    #[error("{0}")]
    View(#[from] io::Error),
}

/// A device with its client.
pub struct Life {
    client: Client,
    commands: Subscription,
    topics: Topics,
    place: String,
    device: Device,
    sensor: Box<dyn LightSensor>,
    led: Box<dyn Led>,
    led_is_on: bool,
    pace: Pace,
    policy: Policy,
    first_after: Duration,
    last_sent: Option<(u16, Instant)>,
    receipts: FuturesUnordered<Receipt>,
}

impl Life {
    /// Begins to connect. Has to be called on a tokio runtime.
    ///
    /// # Errors
    /// If the options do not fit each other, or the store cannot be opened.
    pub fn begin(setup: Setup) -> Result<Self, LifeError> {
        let Setup { id, broker, policy, .. } = setup;
        let topics = Topics::of(&id);
        let will = Publish::new(topics.status.clone(), lesson::status(false));
        let builder =
            broker.client(lesson::device_client(&id)).will(will.qos(QoS::AtLeastOnce).retain(true));
        let builder = match &policy {
            Policy::Latest => builder.offline(Offline::Latest),
            Policy::Queue { store } => keep_every_reading(builder, store.as_deref(), &id)?,
        };
        // Before connecting, so that the first command has a place to go; the client subscribes
        // again by itself after each reconnect.
        let (builder, commands) = builder.subscription(&topics.commands, QoS::AtLeastOnce);
        Ok(Self {
            client: builder.start()?,
            commands,
            topics,
            place: Endpoint::parse(&broker.broker)?.to_string(),
            device: Device::new(&id, setup.rule, setup.offline_after, Instant::now()),
            sensor: setup.sensor,
            led: setup.led,
            led_is_on: false,
            pace: setup.pace,
            policy,
            first_after: setup.first_after,
            last_sent: None,
            receipts: FuturesUnordered::new(),
        })
    }

    /// Lives until `end` is ready, the view wishes the end, or a reading cannot be kept.
    ///
    /// # Errors
    /// If a reading could not be accepted or nothing can be shown.
    pub async fn run(
        mut self,
        view: &mut impl View,
        end: impl Future<Output = ()>,
    ) -> Result<(), LifeError> {
        let result = self.live(view, end).await;
        // A client that says goodbye has no will. Without a connection the broker has published it.
        let goodbye = self.own_status(false);
        let _ = self.client.try_publish(goodbye);
        self.client.shutdown(GOODBYE).await;
        result
    }

    async fn live(
        &mut self,
        view: &mut impl View,
        end: impl Future<Output = ()>,
    ) -> Result<(), LifeError> {
        let mut end = pin!(end);
        let mut status = self.client.status();
        status.mark_changed();
        let mut telemetry = ticks(self.first_after, self.pace.period());
        // A view that shows no moments waits for an hour's frame, which shows nothing.
        let frame = view.frame().unwrap_or(Duration::from_secs(3600));
        let mut frames = ticks(Duration::ZERO, frame);
        loop {
            self.settle(view)?;
            let timeout = self.device.poll_timeout();
            // In this order, so that the connection is told before what comes through it, and no flood
            // of commands holds up the rest.
            tokio::select! {
                biased;
                () = &mut end => return Ok(()),
                Ok(()) = status.changed() => {
                    let now = Instant::now();
                    let link = Link::new(&status.borrow_and_update(), now);
                    self.handle_link(link, now);
                }
                _ = telemetry.tick() => self.send().await?,
                _ = frames.tick() => self.look(),
                () = sleep_until(timeout.unwrap_or_else(Instant::now).into()), if timeout.is_some() => {
                    self.device.handle_timeout(Instant::now());
                }
                wish = view.wish() => match wish? {
                    Wish::End => return Ok(()),
                    Wish::Key(key) => {
                        self.sensor.handle_key(key);
                        self.look();
                    }
                    Wish::Redraw => {}
                },
                Some(outcome) = self.receipts.next() => self.device.handle_outcome(outcome),
                Some(command) = self.commands.recv() => {
                    self.device.handle_command(command.payload(), Instant::now());
                }
            }
        }
    }

    /// Brings LED and view to where the device is.
    fn settle(&mut self, view: &mut impl View) -> Result<(), LifeError> {
        if self.led_is_on != self.device.led_on() {
            self.led_is_on = self.device.led_on();
            if let Err(error) = self.led.set(self.led_is_on) {
                self.device.handle_led_error(&error);
            }
        }
        while let Some(line) = self.device.poll_line() {
            view.line(&line)?;
        }
        Ok(view.moment(&Moment {
            device: &self.device,
            broker: &self.place,
            mode: self.sensor.mode(),
            stats: self.client.stats(),
            now: Instant::now(),
        })?)
    }

    fn handle_link(&mut self, link: Link, now: Instant) {
        if link.is_connected() {
            // Whoever looks at the status was told by the will that it is gone.
            let _ = self.client.try_publish(self.own_status(true));
        }
        self.device.handle_link(link, now);
    }

    fn own_status(&self, is_online: bool) -> Publish {
        let status = Publish::new(self.topics.status.clone(), lesson::status(is_online));
        // True for the connection of this moment only.
        status.qos(QoS::AtLeastOnce).retain(true).offline(Offline::Fail)
    }

    /// Reads between what is sent, for the view and for the LED of a device that is alone.
    fn look(&mut self) {
        if self.sensor.is_live() {
            self.device.handle_reading(self.sensor.read());
        }
    }

    async fn send(&mut self) -> Result<(), LifeError> {
        let reading = self.sensor.read();
        let light = reading.as_ref().ok().copied();
        self.device.handle_reading(reading);
        let now = Instant::now();
        let Some(light) = light else { return Ok(()) };
        if !self.pace.is_due(light, self.last_sent, now) {
            return Ok(());
        }
        self.last_sent = Some((light, now));
        let payload = lesson::telemetry(light);
        let qos = match self.policy {
            Policy::Latest => QoS::AtMostOnce,
            Policy::Queue { .. } => QoS::AtLeastOnce,
        };
        let message = Publish::new(self.topics.telemetry.clone(), payload.clone()).qos(qos);
        self.receipts.push(self.client.publish(message).await?);
        // Said when it cannot get lost any more, with a store.
        self.device.handle_telemetry(&payload);
        Ok(())
    }
}

/// What is read first waits so long: the connection is usually there by then, and is said first.
const SETTLED: Duration = Duration::from_millis(100);

/// Ticks that keep their beat: one that came late does not shift the others, as a sleep would.
pub(crate) fn ticks(first_after: Duration, period: Duration) -> Interval {
    let first = tokio::time::Instant::now() + SETTLED + first_after;
    let mut ticks = interval_at(first, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    ticks
}
