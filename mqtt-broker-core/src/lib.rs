//! An MQTT 3.1.1 (and 3.1) broker as state machines: no sockets, no clock, no threads, no files.
//!
//! A [`Broker`] is shared by all connections. A [`Connection`] takes the bytes of one transport and
//! gives back bytes to write and the next deadline. Whoever owns the transport drives it; with the
//! feature `tokio`, `serve_connection` does so over any `AsyncRead + AsyncWrite`.
//!
//! ```
//! # #[cfg(feature = "broker")] {
//! use std::task::{Context, Poll, Waker};
//! use std::time::Instant;
//!
//! use mqtt_broker_core::{Broker, Config, PeerInfo, Transmit, Worker};
//!
//! let broker = Broker::new(Config::default(), ());
//! let mut worker = Worker::new();
//! let mut connection = broker.connection(PeerInfo::default(), Instant::now())?;
//!
//! // Bytes in, in any pieces: a CONNECT of the client `a`.
//! let connect = b"\x10\x0d\0\x04MQTT\x04\x02\0\x3c\0\x01a";
//! connection.handle_input(&mut worker, connect, Instant::now())?;
//!
//! // Bytes out: the CONNACK.
//! let mut cx = Context::from_waker(Waker::noop());
//! let Poll::Ready(Transmit::Write(out)) = connection.poll_transmit(&mut worker, &mut cx) else {
//!     panic!("nothing to write");
//! };
//! assert_eq!(bytes::Buf::chunk(&*out), b"\x20\x02\0\0");
//! worker.recycle(out);
//!
//! // And when to come again if nothing happens: one and a half keep alives.
//! assert!(connection.poll_timeout() > Some(Instant::now()));
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What holds
//!
//! - A PUBACK or PUBREC leaves after every receiver's session owns the message. A SUBACK leaves after
//!   the subscription is in force.
//! - Messages of one publisher keep their order, per topic and QoS, to each subscriber, also across a
//!   reconnect. QoS 2 is delivered once, QoS 1 at least once.
//! - How the input is cut into pieces changes nothing, nor does the order of the `poll_*` calls.
//! - No bytes from a client can panic, or make memory grow past the limits of [`Config`]. Whoever
//!   breaks the protocol loses its connection and disturbs nobody else.
//! - Every queue is bounded. QoS 0 messages over a bound are dropped and counted. QoS 1 and 2 messages
//!   hold their publisher back for a bounded time; then a receiver that is there and does not read is
//!   disconnected, and for one that is away the message is dropped, counted and told to the
//!   [`Hooks`].
//! - [`Broker::restore`] makes a broker whose sessions and messages survive the end of the process:
//!   an acknowledgement leaves when a [`Store`] has made durable what it acknowledges. With
//!   [`Broker::new`] everything is in memory, and that costs nothing.
//!
//! # The life of a PUBLISH
//!
//! ```text
//! publisher's transport                                             subscriber's transport
//!         | bytes                                                             ^ bytes
//!         v                                                                   |
//! Connection::handle_input                                  Connection::poll_transmit
//!         | frame, decode: a borrowed Publish                                 ^ the session's outbox,
//!         v                                                                   | by a pointer swap
//! connection/publish.rs: QoS 2 id seen before?              session.rs: outbox, window, queue
//!         | no                                                                ^
//!         v                                                                   | one lock
//! broker/delivery.rs: may it? retained? -> router.rs: who gets it? -> State::deliver
//!         |                                                                   |
//!         v                                                                   v
//! PUBACK or PUBREC in the replies                           its task is woken after all locks
//! ```
//!
//! The message stays borrowed until the first receiver has to keep it (`publication.rs`); then topic
//! and payload are copied once, and all receivers share the copy. What the transport of a subscriber
//! does not take stays in its outbox, what the window does not take in its queue, and what the queue
//! does not take holds the publisher back.
//!
//! Messages with one topic that come at a time go the same way together, as a run
//! (`connection/run.rs`, `broker/run.rs`): receivers are looked up once, each is locked and woken once,
//! and the bytes are copied once. One by one they go when somebody wants to be told of each, or has no
//! room for all.
//!
//! # What is durable before what
//!
//! With a [`Journal`], these leave when the [`Store`] has what stands beside them. Whatever waits at
//! the time becomes durable together, so that a busy broker commits as seldom as an idle one.
//!
//! | packet | durable before it |
//! |---|---|
//! | PUBACK, PUBREC | the message for every kept session that it goes to, or as the retained one; with PUBREC its packet id |
//! | PUBLISH of QoS 2 to a kept session | the packet id that it has |
//! | PUBREL | that the PUBLISH is never sent again |
//! | PUBCOMP | that the packet id is free |
//! | SUBACK, UNSUBACK of a kept session | the subscription, or its end |
//! | CONNACK | the end of an older session; for a kept one, the session and its will |
//!
//! Acknowledgements of clients become durable with the next batch, and nobody waits for them: what was
//! sent at QoS 1 and not durably acknowledged is sent again, with DUP. QoS 0 and clean sessions never
//! wait for anything.
//!
//! # Locks
//!
//! One registry of sessions, one lock a session, one for the router, one for the retained store, one
//! a group of a shared subscription. The registry's comes before a session's; two sessions are never
//! locked together; the others are never locked together with these. While a session's subscriptions
//! change, another lock of the session comes before all of them, so that session and router agree.
//! With a [`Journal`], its lock comes before every other one, and is held for the whole of a change
//! that has to survive: the batches then hold changes in the order in which they happened, and none
//! of them by half. The driver's alarms have one that comes before a session's, and is taken when none
//! other is held. Hooks and wakers run when no lock is held, but for
//! [`authorize_delivery`](Hooks::authorize_delivery).
//!
//! # Features
//!
//! - `broker` (default): everything but [`qos`], which a client needs as well and gets alone with
//!   `default-features = false`.
//! - `tokio`: `serve_connection`.
//! - `store`: a [`Store`] in one file, and who commits to it on a thread of its own: `FileStore`,
//!   `serve_journal`.

// Nothing that comes from the network can panic. Sums are left out: memory bounds them, and the fuzz
// targets run with overflow checks.
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::unreachable
    )
)]

#[cfg(feature = "broker")]
mod broker;
#[cfg(feature = "broker")]
mod client;
#[cfg(feature = "broker")]
mod config;
#[cfg(feature = "broker")]
mod connection;
#[cfg(feature = "tokio")]
mod driver;
#[cfg(feature = "broker")]
mod error;
#[cfg(feature = "broker")]
mod hooks;
#[cfg(feature = "broker")]
mod journal;
#[cfg(feature = "broker")]
mod local;
#[cfg(feature = "broker")]
mod message;
#[cfg(feature = "broker")]
mod moment;
#[cfg(feature = "broker")]
mod mount_point;
#[cfg(feature = "broker")]
mod publication;
pub mod qos;
#[cfg(feature = "broker")]
mod retained;
#[cfg(feature = "broker")]
mod router;
#[cfg(feature = "broker")]
mod send_buffer;
#[cfg(feature = "broker")]
mod session;
#[cfg(feature = "broker")]
mod stats;
#[cfg(feature = "store")]
mod store;
#[cfg(feature = "broker")]
mod sync;
#[cfg(feature = "broker")]
mod worker;

#[cfg(feature = "store")]
pub use self::store::{FileStore, OpenError, StoreState, Usage, serve_journal};
#[cfg(feature = "broker")]
pub use self::{
    broker::{Broker, Published},
    client::Client,
    config::Config,
    connection::{Connection, Event, Transmit},
    error::{Closed, ConnectionError, TooManyConnections},
    hooks::{Admission, Authentication, DropReason, Hooks, Interests, Login, PeerInfo, Permission},
    journal::{
        Batch, CommitError, InFlight, Journal, MessageId, Progress, Receiver, Record, Recovered,
        RecoveredMessage, RecoveredSession, RecoveredSubscription, SessionId, Store,
    },
    local::LocalSubscription,
    message::Message,
    mount_point::MountPoint,
    router::{SharedFilter, Sharing},
    send_buffer::SendBuffer,
    session::SessionInfo,
    stats::Stats,
    worker::Worker,
};
#[cfg(feature = "tokio")]
pub use driver::{ServeError, serve_connection};
#[cfg(feature = "store")]
pub use redb::StorageBackend;
