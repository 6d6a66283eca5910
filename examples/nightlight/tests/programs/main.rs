//! The nightlight's programs as processes, at the broker example: with each other, with programs as
//! the lesson teaches them (paho-mqtt 1.6.1), over outages, and many at once.
//!
//! `examples/tests/install-clients` installs what is foreign; without it those tests say that they
//! are skipped, and with `MQTT_INTEROP=required` they fail. `NIGHTLIGHT_CUT=60s` cuts the network for
//! so long where it is cut.

#[allow(dead_code, reason = "the broker's own tests need more of it")]
#[path = "../../../tests/interop/broker_process.rs"]
mod broker_process;
mod browser;
mod fleet;
#[allow(dead_code, reason = "the broker's own tests need more of it")]
#[path = "../../../tests/interop/foreign.rs"]
mod foreign;
mod lesson;
mod network;
mod outages;
mod page;
#[allow(dead_code, reason = "the broker's own tests need more of it")]
#[path = "../../../tests/interop/program.rs"]
mod program;
mod room;
mod server;
mod terminal;
mod thermostat;
