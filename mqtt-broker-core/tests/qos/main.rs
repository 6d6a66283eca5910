//! The two halves of QoS delivery against each other, over a link that cuts, loses and resends.

mod link;

use link::Link;
use proptest::prelude::*;

/// Just before the last id, at the first one, and anywhere.
fn used_ids() -> impl Strategy<Value = u16> {
    prop_oneof![Just(0), 65_500u16..=65_534, 0..500u16]
}

proptest! {
    // MQTT-4.3.2-1, MQTT-4.3.2-2, MQTT-4.3.3-1, MQTT-4.3.3-2, MQTT-4.4.0-1, MQTT-4.6.0-1
    #[test]
    fn qos_1_arrives_at_least_once_and_qos_2_exactly_once_in_order_over_any_link(
        window in 0u16..12,
        used in used_ids(),
        steps in prop::collection::vec(any::<(u8, u8)>(), 0..300),
    ) {
        let mut link = Link::new(link::sender(window, used), window);
        for (what, amount) in steps {
            link.step(what, amount);
        }
        link.conclude();
    }
}
