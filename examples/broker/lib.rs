//! The broker example, as modules that its tests reach.

pub mod config;
