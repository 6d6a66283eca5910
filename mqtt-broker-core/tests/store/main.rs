//! The store in a file: what is committed is there after a restart, whatever happens in between.

mod damage;
mod files;
mod model;
mod power;
mod sim_disk;
