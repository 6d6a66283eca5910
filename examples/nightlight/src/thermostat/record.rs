use std::pin::pin;
use std::time::Instant;

use mqtt_client::{AckMode, Client, QoS, Subscription};

use super::ThermostatError;
use crate::connection::{BrokerOptions, GOODBYE, Link};
use crate::console::{Announcer, note, say};
use crate::lesson::{Payload, Topics};

/// What writes down the readings of a machine, and notices if one is missing.
pub struct Record {
    client: Client,
    telemetry: Subscription,
    order: Order,
}

impl Record {
    /// Begins to connect; the broker keeps what comes while this is away. Has to be called on a tokio
    /// runtime.
    ///
    /// # Errors
    /// If the options do not fit each other.
    pub fn begin(id: &str, broker: &BrokerOptions) -> Result<Self, ThermostatError> {
        let builder = broker.client(format!("{id}machine_record")).persistent_session();
        // Acknowledged when it is written down: what is not is sent again.
        let (builder, telemetry) =
            builder.subscription_with(&Topics::of(id).telemetry, QoS::AtLeastOnce, AckMode::Manual);
        Ok(Self { client: builder.start()?, telemetry, order: Order::default() })
    }

    /// Writes until `end` is ready.
    ///
    /// # Errors
    /// If the broker refuses it, or nothing can be written any more.
    pub async fn run(mut self, end: impl Future<Output = ()>) -> Result<(), ThermostatError> {
        let result = self.write(end).await;
        self.client.shutdown(GOODBYE).await;
        result
    }

    async fn write(&mut self, end: impl Future<Output = ()>) -> Result<(), ThermostatError> {
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
                    announcer.announce(&link)?;
                }
                Some(message) = self.telemetry.recv() => {
                    match Payload::machine(message.payload()) {
                        Ok(reading) => self.order.write(&reading)?,
                        Err(error) => note(format_args!("{}: {error}", message.topic()))?,
                    }
                    message.ack();
                }
            }
        }
    }
}

/// Where in the order of readings it is.
#[derive(Debug, Default)]
struct Order {
    last: Option<(u64, u64)>,
}

/// What a reading is in the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Next,
    /// QoS 1 says a thing at least once.
    Again,
    After {
        missing: u64,
    },
}

impl Order {
    fn write(&mut self, reading: &Payload<(u64, u64)>) -> Result<(), ThermostatError> {
        match self.insert(reading.field) {
            Place::Again => return Ok(()),
            Place::Next => {}
            Place::After { missing } => note(format_args!("{missing} readings are missing here"))?,
        }
        Ok(say(format_args!("Message received: {reading}"))?)
    }

    fn insert(&mut self, (run, number): (u64, u64)) -> Place {
        let place = match self.last {
            Some((last, _)) if last > run => return Place::Again,
            Some((last_run, last)) if last_run == run => match number.checked_sub(last) {
                None | Some(0) => return Place::Again,
                Some(step) => step - 1,
            },
            // The machine was switched off and on; its readings begin anew.
            Some(_) => number.saturating_sub(1),
            // What came before was not for this record.
            None => 0,
        };
        self.last = Some((run, number));
        match place {
            0 => Place::Next,
            missing => Place::After { missing },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_or_said_again_is_noticed() {
        let mut order = Order::default();
        for (run, number, place) in [
            (1, 7, Place::Next),
            (1, 8, Place::Next),
            (1, 8, Place::Again),
            (1, 11, Place::After { missing: 2 }),
            (1, 10, Place::Again),
            (2, 1, Place::Next),
            (1, 12, Place::Again),
            (3, 2, Place::After { missing: 1 }),
        ] {
            assert_eq!(order.insert((run, number)), place, "{run} {number}");
        }
    }
}
