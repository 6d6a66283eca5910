//! What MQTT 3.1.1 asks of a server, statement by statement, over exact bytes and a clock that the
//! tests turn. The comment above each test names the statements that it shows.

mod connect;
#[path = "../simulation/disk.rs"]
mod disk;
mod hooks;
mod limits;
mod mount_points;
mod publish;
mod qos;
mod restarts;
mod retained;
mod runs;
mod sessions;
mod shared;
mod subscribe;
mod topics;
mod violations;
mod wills;
mod wire;
mod world;
