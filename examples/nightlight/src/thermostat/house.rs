use std::pin::pin;
use std::time::{Duration, Instant};

use mqtt_client::{Client, Offline, Publish, QoS, Subscription};

use super::{Rooms, ThermostatError};
use crate::connection::{BrokerOptions, GOODBYE, Link};
use crate::console::{Announcer, note, say};
use crate::lesson::{Payload, Topics};
use crate::life::ticks;
use crate::rule::Rule;

/// A house: it reports its temperatures, and heats as it is told.
pub struct House {
    client: Client,
    commands: Subscription,
    topics: Topics,
    rooms: Rooms,
    interval: Duration,
    /// What it does when nobody has told it for too long.
    own_rule: Rule,
    offline_after: Duration,
}

impl House {
    /// Begins to connect. Has to be called on a tokio runtime.
    ///
    /// # Errors
    /// If the options do not fit each other.
    pub fn begin(
        id: &str,
        broker: &BrokerOptions,
        interval: Duration,
        own_rule: Rule,
        offline_after: Duration,
    ) -> Result<Self, ThermostatError> {
        let topics = Topics::of(id);
        let builder = broker.client(format!("{id}thermostat_client")).offline(Offline::Latest);
        let (builder, commands) = builder.subscription(&topics.commands, QoS::AtLeastOnce);
        let (client, rooms) = (builder.start()?, Rooms::new());
        Ok(Self { client, commands, topics, rooms, interval, own_rule, offline_after })
    }

    /// Lives until `end` is ready.
    ///
    /// # Errors
    /// If a message could not be accepted or said.
    pub async fn run(mut self, end: impl Future<Output = ()>) -> Result<(), ThermostatError> {
        let result = self.live(end).await;
        self.client.shutdown(GOODBYE).await;
        result
    }

    async fn live(&mut self, end: impl Future<Output = ()>) -> Result<(), ThermostatError> {
        let mut end = pin!(end);
        let mut status = self.client.status();
        status.mark_changed();
        let mut announcer = Announcer::default();
        let mut ticks = ticks(Duration::ZERO, self.interval);
        let mut last = Instant::now();
        let mut offline_since = Some(last);
        loop {
            tokio::select! {
                () = &mut end => return Ok(()),
                Ok(()) = status.changed() => {
                    let now = Instant::now();
                    let link = Link::new(&status.borrow_and_update(), now);
                    offline_since =
                        if link.is_connected() { None } else { offline_since.or(Some(now)) };
                    announcer.announce(&link)?;
                }
                Some(command) = self.commands.recv() => self.obey(command.payload())?,
                _ = ticks.tick() => {
                    let now = Instant::now();
                    self.rooms.advance(now - std::mem::replace(&mut last, now));
                    if offline_since.is_some_and(|since| now >= since + self.offline_after) {
                        self.decide()?;
                    }
                    let telemetry = self.rooms.telemetry();
                    let message = Publish::new(self.topics.telemetry.clone(), telemetry.clone());
                    // Whether it is sent or a newer one takes its place: nobody waits for this one.
                    let _receipt = self.client.publish(message).await?;
                    say(format_args!("Sending telemetry  {telemetry}"))?;
                }
            }
        }
    }

    fn obey(&mut self, payload: &[u8]) -> Result<(), ThermostatError> {
        match Payload::heating(payload) {
            Ok(command) => {
                self.rooms.heating_on = command.field;
                say(format_args!("Message received: {command}"))?;
            }
            Err(error) => note(format_args!("{}: {error}", self.topics.commands))?,
        }
        Ok(())
    }

    /// Nobody should freeze because a cable is cut.
    fn decide(&mut self) -> Result<(), ThermostatError> {
        let heating_on = self.own_rule.decide(self.rooms.at_thermostat(), self.rooms.heating_on);
        if heating_on != self.rooms.heating_on {
            self.rooms.heating_on = heating_on;
            let state = if heating_on { "on" } else { "off" };
            note(format_args!("Offline: the thermostat turns the heating {state} by itself"))?;
        }
        Ok(())
    }
}
