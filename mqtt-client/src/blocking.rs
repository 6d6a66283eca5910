//! The client for programs without async: every method blocks its thread.
//!
//! Feature `blocking`. A thread of its own runs the client. Not to be used on a thread of an async
//! runtime, which it would block.
//!
//! ```no_run
//! use mqtt_client::{Publish, QoS, blocking};
//!
//! let client = blocking::Client::connect(mqtt_client::Client::builder("mqtt://localhost"))?;
//! let mut lights = client.subscribe("lights/+", QoS::AtLeastOnce)?;
//! client.publish(Publish::new("lights/hall", "on").qos(QoS::AtLeastOnce))?;
//! for message in &mut lights {
//!     println!("{}", message.topic());
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::io;
use std::sync::Arc;
use std::time::Duration;

use mqtt_codec::QoS;
use tokio::runtime::{Builder as RuntimeBuilder, Runtime};

use crate::error::{ConnectionError, PublishError, Step, SubscribeError, Undelivered};
use crate::message::{Message, Publish};
use crate::options::Builder;
use crate::receipt::{Delivered, Receipt};
use crate::shared::Shared;
use crate::status::{Leftover, Status};

/// A [`Client`](crate::Client) whose methods block.
///
/// So does dropping the last clone, when no [`Subscription`] is left: until what was accepted is
/// delivered, for at most 5 seconds.
#[derive(Clone, Debug)]
pub struct Client {
    client: crate::Client,
    thread: Arc<Thread>,
}

/// A [`Subscription`](crate::Subscription) as an iterator.
#[derive(Debug)]
pub struct Subscription {
    subscription: crate::Subscription,
    thread: Arc<Thread>,
}

/// The thread that runs a client.
#[derive(Debug)]
struct Thread {
    runtime: Runtime,
    shared: Arc<Shared>,
}

impl Thread {
    fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }
}

impl Drop for Thread {
    /// The runtime would end the client's task, and with it what it has accepted.
    fn drop(&mut self) {
        self.shared.linger();
        let mut status = self.shared.status.subscribe();
        let ended = status.wait_for(|status| matches!(status, Status::Stopped(_)));
        // An error would mean that the sender is gone, which `self` holds.
        let _ = self.runtime.block_on(ended);
    }
}

impl Client {
    /// Connects, as [`Builder::connect`].
    ///
    /// # Errors
    /// As [`Builder::connect`], or if no thread can be started.
    pub fn connect(builder: Builder) -> Result<Self, ConnectionError> {
        let failed = |error: io::Error| ConnectionError::io(Step::Connect, error);
        let runtime = RuntimeBuilder::new_multi_thread()
            .worker_threads(1)
            .thread_name("mqtt-client")
            .enable_all()
            .build()
            .map_err(failed)?;
        let client = runtime.block_on(builder.connect())?;
        let shared = client.shared().clone();
        Ok(Self { client, thread: Arc::new(Thread { runtime, shared }) })
    }

    /// Hands a message over, waiting for room.
    ///
    /// # Errors
    /// As [`crate::Client::publish`].
    pub fn publish(&self, message: impl Into<Publish>) -> Result<Receipt, PublishError> {
        self.thread.block_on(self.client.publish(message))
    }

    /// Hands a message over and waits until its delivery is over.
    ///
    /// # Errors
    /// As [`crate::Client::publish`]; within it, how the delivery ended.
    pub fn deliver(
        &self,
        message: impl Into<Publish>,
    ) -> Result<Result<Delivered, Undelivered>, PublishError> {
        Ok(self.thread.block_on(self.publish(message)?))
    }

    /// Subscribes, and waits for the broker to grant it.
    ///
    /// # Errors
    /// As [`crate::Client::subscribe`].
    pub fn subscribe(&self, filter: &str, qos: QoS) -> Result<Subscription, SubscribeError> {
        let subscription = self.thread.block_on(self.client.subscribe(filter, qos))?;
        Ok(Subscription { subscription, thread: self.thread.clone() })
    }

    /// Delivers what was accepted for at most `limit`, and closes.
    pub fn shutdown(&self, limit: Duration) -> Leftover {
        self.thread.block_on(self.client.shutdown(limit))
    }

    /// The client, for what needs no waiting.
    pub fn inner(&self) -> &crate::Client {
        &self.client
    }
}

impl Subscription {
    /// The next message, waiting at most so long.
    pub fn recv_timeout(&mut self, limit: Duration) -> Option<Message> {
        let Self { subscription, thread } = self;
        thread.block_on(async { tokio::time::timeout(limit, subscription.recv()).await.ok()? })
    }
}

impl Iterator for Subscription {
    type Item = Message;

    fn next(&mut self) -> Option<Message> {
        self.thread.block_on(self.subscription.recv())
    }
}
