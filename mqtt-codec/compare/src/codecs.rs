mod mqtt_proto;
mod mqttrs;
mod ntex;
mod ours;
mod rumqtt;

use crate::meter::Meter;

/// A codec, driven as its users drive it: from a buffer of received bytes to its own packets, and
/// from these to bytes.
pub trait Codec {
    /// Decodes a stream that is all there.
    fn decode(&self, stream: &[u8], meter: &mut Meter);

    /// Decodes a stream that arrives in pieces: of this many bytes, or of 1 to 1460 for 0.
    fn decode_chunks(&self, stream: &[u8], chunk: usize, meter: &mut Meter);

    /// Encodes the packets that it decodes from the stream.
    fn encode(&self, stream: &[u8], meter: &mut Meter);

    /// Decodes the packet at the front of `bytes`.
    fn decode_one(&self, bytes: &[u8]) -> Verdict;
}

/// What a codec says to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Accepts,
    Refuses,
    /// Asks for more bytes, although the packet is all there.
    Waits,
    Panics,
}

impl Verdict {
    fn of<T, E>(decoded: Result<Option<T>, E>) -> Self {
        match decoded {
            Ok(Some(_)) => Self::Accepts,
            Ok(None) => Self::Waits,
            Err(_) => Self::Refuses,
        }
    }
}

/// The published codecs.
pub const PEERS: [&str; 5] = ["mqttrs", "mqttbytes", "rumqttc", "mqtt-proto", "ntex-mqtt"];

/// Those whose packets own their bytes.
pub const OWNING_PEERS: [&str; 4] = ["mqttbytes", "rumqttc", "mqtt-proto", "ntex-mqtt"];

/// The codec with this name.
pub fn codec(name: &str) -> Box<dyn Codec> {
    match name {
        "ours" => Box::new(ours::Borrowed),
        "ours owned" => Box::new(ours::Owned),
        "ours vectored" => Box::new(ours::Vectored),
        "mqttrs" => Box::new(mqttrs::Mqttrs),
        "mqttbytes" => Box::new(rumqtt::Mqttbytes),
        "rumqttc" => Box::new(rumqtt::Rumqttc),
        "mqtt-proto" => Box::new(mqtt_proto::MqttProto),
        "ntex-mqtt" => Box::new(ntex::NtexMqtt),
        other => panic!("no codec is called {other}"),
    }
}

/// Cuts a stream into pieces of `size` bytes; for 0 of 1 to 1460, the payload of a TCP segment.
fn chunks(stream: &[u8], size: usize) -> impl Iterator<Item = &[u8]> {
    let mut rest = stream;
    let mut state = 7_usize;
    std::iter::from_fn(move || {
        state = state.wrapping_mul(1_103_515_245).wrapping_add(12_345) & 0x7FFF_FFFF;
        let length = if size == 0 { 1 + (state >> 8) % 1460 } else { size };
        let (chunk, left) = rest.split_at(length.min(rest.len()));
        rest = left;
        (!chunk.is_empty()).then_some(chunk)
    })
}

/// Room for a stream and a bit, so that no codec is measured while its buffer grows.
fn buffer() -> bytes::BytesMut {
    bytes::BytesMut::with_capacity(4 * 1024 * 1024)
}

/// Length of the packet at the front, for codecs that do not say it.
fn packet_length(bytes: &[u8]) -> usize {
    match ::mqtt_codec::frame(bytes, ::mqtt_codec::MAX_PACKET) {
        Ok(::mqtt_codec::Frame::Complete { end, .. }) => end,
        other => panic!("{other:?}"),
    }
}
