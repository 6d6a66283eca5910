//! The broker example.
fn main() {}
