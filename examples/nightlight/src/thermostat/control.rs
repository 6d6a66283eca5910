use std::pin::pin;
use std::time::Instant;

use mqtt_client::{Client, Offline, Publish, QoS, Subscription};

use super::ThermostatError;
use crate::connection::{BrokerOptions, GOODBYE, Link};
use crate::console::{Announcer, note, say};
use crate::lesson::{Payload, Topics, heating};
use crate::rule::Rule;

/// What decides whether a house is heated.
pub struct Control {
    client: Client,
    telemetry: Subscription,
    topics: Topics,
    rule: Rule,
    heating_on: bool,
    /// Whether the broker was told, on this connection: one that was restarted may have forgotten.
    was_said: bool,
}

impl Control {
    /// Begins to connect. Has to be called on a tokio runtime.
    ///
    /// # Errors
    /// If the options do not fit each other.
    pub fn begin(id: &str, broker: &BrokerOptions, rule: Rule) -> Result<Self, ThermostatError> {
        let topics = Topics::of(id);
        // Of commands that could not be sent yet, the last one counts.
        let builder = broker.client(format!("{id}thermostat_server")).offline(Offline::Latest);
        let (builder, telemetry) = builder.subscription(&topics.telemetry, QoS::AtLeastOnce);
        let client = builder.start()?;
        Ok(Self { client, telemetry, topics, rule, heating_on: false, was_said: false })
    }

    /// Decides until `end` is ready.
    ///
    /// # Errors
    /// If the broker refuses it, or a message could not be accepted or said.
    pub async fn run(mut self, end: impl Future<Output = ()>) -> Result<(), ThermostatError> {
        let result = self.serve(end).await;
        self.client.shutdown(GOODBYE).await;
        result
    }

    async fn serve(&mut self, end: impl Future<Output = ()>) -> Result<(), ThermostatError> {
        let mut end = pin!(end);
        let mut status = self.client.status();
        status.mark_changed();
        let mut announcer = Announcer::default();
        loop {
            tokio::select! {
                () = &mut end => return Ok(()),
                Ok(()) = status.changed() => {
                    let link = Link::new(&status.borrow_and_update(), Instant::now());
                    if let Some(cause) = link.cause().filter(|cause| cause.is_lasting()) {
                        return Err(ThermostatError::Refused(cause.clone()));
                    }
                    self.was_said &= !link.is_connected();
                    announcer.announce(&link)?;
                }
                Some(message) = self.telemetry.recv() => match Payload::thermostat(message.payload()) {
                    Ok(telemetry) => {
                        say(format_args!("Message received: {telemetry}"))?;
                        self.decide(telemetry.field).await?;
                    }
                    Err(error) => note(format_args!("{}: {error}", message.topic()))?,
                },
            }
        }
    }

    async fn decide(&mut self, degrees: f64) -> Result<(), ThermostatError> {
        let heating_on = self.rule.decide(degrees, self.heating_on);
        if self.was_said && self.heating_on == heating_on {
            return Ok(());
        }
        (self.heating_on, self.was_said) = (heating_on, true);
        let command = heating(heating_on);
        // Kept by the broker: a house that comes back learns what holds now, and not the past.
        let message = Publish::new(self.topics.commands.clone(), command.clone());
        let message = message.qos(QoS::AtLeastOnce).retain(true);
        let _receipt = self.client.publish(message).await?;
        say(format_args!("Sending message: {command}"))?;
        Ok(())
    }
}
