//! The client from outside: one file a topic.

mod cancel;
mod counted;
mod defects;
mod every_byte;
mod faults;
mod policies;
#[cfg(unix)]
mod processes;
mod proxy;
mod rare;
mod scripted;
mod statements;
#[cfg(feature = "file-store")]
mod store;
mod storms;
mod support;
mod ten_lines;
#[cfg(all(feature = "tls", feature = "websocket", unix))]
mod transports;
mod with_broker;
mod writes;
