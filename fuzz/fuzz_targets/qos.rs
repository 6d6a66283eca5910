#![no_main]
//! QoS 1 and 2 over a link that is cut where the bytes say: nothing is lost, nothing comes twice.

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use mqtt_broker_core::qos::Sender;

#[path = "../../mqtt-broker-core/tests/qos/link.rs"]
mod link;

/// Sending ends of each window whose ids are about to wrap. It takes a while to get there.
static NEAR_THE_END: LazyLock<Vec<Sender<link::Item>>> =
    LazyLock::new(|| (0..16).map(|window| link::sender(window, 65_525)).collect());

fuzz_target!(|input: (u8, bool, &[u8])| {
    let (window, near_the_end, steps) = input;
    let window = window % 16;
    let sender = match near_the_end {
        true => NEAR_THE_END[usize::from(window)].clone(),
        false => Sender::new(window.into()),
    };
    let mut link = link::Link::new(sender, window.into());
    for [what, amount] in steps.as_chunks().0 {
        link.step(*what, *amount);
    }
    link.conclude();
});
