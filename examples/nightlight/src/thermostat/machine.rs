use std::path::Path;
use std::pin::pin;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mqtt_client::{Client, Publish, QoS};

use super::ThermostatError;
use crate::backlog::keep_every_reading;
use crate::connection::{BrokerOptions, GOODBYE, Link};
use crate::console::{Announcer, say};
use crate::lesson::Topics;
use crate::life::ticks;

/// A machine that is watched for wear, several times a second.
pub struct Machine {
    client: Client,
    topics: Topics,
    interval: Duration,
    /// When it was switched on, in seconds since 1970: readings are numbered from there.
    run: u64,
}

impl Machine {
    /// Begins to connect, with what an earlier run has left in the folder. Has to be called on a
    /// tokio runtime.
    ///
    /// # Errors
    /// If the options do not fit each other, or the store cannot be opened.
    pub fn begin(
        id: &str,
        broker: &BrokerOptions,
        interval: Duration,
        store: Option<&Path>,
    ) -> Result<Self, ThermostatError> {
        let client_id = format!("{id}machine_client");
        let builder = keep_every_reading(broker.client(client_id.clone()), store, &client_id)?;
        let run = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        Ok(Self { client: builder.start()?, topics: Topics::of(id), interval, run })
    }

    /// Lives until `end` is ready.
    ///
    /// # Errors
    /// If a reading could not be kept.
    pub async fn run(self, end: impl Future<Output = ()>) -> Result<(), ThermostatError> {
        let result = self.live(end).await;
        self.client.shutdown(GOODBYE).await;
        result
    }

    async fn live(&self, end: impl Future<Output = ()>) -> Result<(), ThermostatError> {
        let mut end = pin!(end);
        let mut status = self.client.status();
        status.mark_changed();
        let mut announcer = Announcer::default();
        let mut ticks = ticks(Duration::ZERO, self.interval);
        let mut number = 0_u64;
        loop {
            tokio::select! {
                () = &mut end => return Ok(()),
                Ok(()) = status.changed() => {
                    announcer.announce(&Link::new(&status.borrow_and_update(), Instant::now()))?;
                }
                _ = ticks.tick() => {
                    number += 1;
                    let (run, vibration) = (self.run, vibration(number));
                    let telemetry =
                        format!("{{\"run\":{run},\"number\":{number},\"vibration\":{vibration:.3}}}");
                    let message = Publish::new(self.topics.telemetry.clone(), telemetry.clone());
                    // Accepted is kept: when this is ready, it is on the disk.
                    let _receipt = self.client.publish(message.qos(QoS::AtLeastOnce)).await?;
                    say(format_args!("Sending telemetry  {telemetry}"))?;
                }
            }
        }
    }
}

/// A bearing that wears out slowly.
fn vibration(number: u64) -> f64 {
    let time = number as f64;
    0.2 + time * 1e-5 + 0.05 * (time / 7.0).sin() + 0.02 * fastrand::f64()
}
