#[cfg(feature = "alloc")]
use bytes::BufMut;

use crate::packet::connect::{ConnectFlags, Form as ConnectForm};
use crate::packet::{suback, subscribe, unsubscribe};
use crate::{
    Ack, BufferTooSmall, ConnAck, Connect, EncodeError, MAX_PACKET, Packet, PacketType, Protocol,
    Publish, SubAck, Subscribe, Unsubscribe,
};

/// The longest remaining length (section 2.2.3).
const MAX_REMAINING: usize = MAX_PACKET - 5;

/// Where encoded bytes go. There are two: a slice of exactly the right length, and `BufMut`.
pub(crate) trait Sink {
    fn put(&mut self, bytes: &[u8]);
    fn put_array<const N: usize>(&mut self, bytes: [u8; N]);
}

/// The rest of a slice whose length was compared before.
struct SliceSink<'a>(&'a mut [u8]);

impl Sink for SliceSink<'_> {
    #[inline(always)]
    fn put(&mut self, bytes: &[u8]) {
        if let Some((head, rest)) = core::mem::take(&mut self.0).split_at_mut_checked(bytes.len()) {
            copy(head, bytes);
            self.0 = rest;
        }
    }

    #[inline(always)]
    fn put_array<const N: usize>(&mut self, bytes: [u8; N]) {
        if let Some((head, rest)) = core::mem::take(&mut self.0).split_first_chunk_mut() {
            *head = bytes;
            self.0 = rest;
        }
    }
}

/// Copies of 8 to 64 bytes, such as topics, as two overlapping copies of fixed size: a call of
/// `memcpy` takes longer than the copy.
#[inline(always)]
fn copy(to: &mut [u8], from: &[u8]) {
    match from.len() {
        8..=16 => copy_ends::<8>(to, from),
        17..=32 => copy_ends::<16>(to, from),
        33..=64 => copy_ends::<32>(to, from),
        _ => to.copy_from_slice(from),
    }
}

#[inline(always)]
fn copy_ends<const N: usize>(to: &mut [u8], from: &[u8]) {
    if let (Some(to), Some(from)) = (to.first_chunk_mut::<N>(), from.first_chunk::<N>()) {
        *to = *from;
    }
    if let (Some(to), Some(from)) = (to.last_chunk_mut::<N>(), from.last_chunk::<N>()) {
        *to = *from;
    }
}

#[cfg(feature = "alloc")]
struct BufSink<'a, B>(&'a mut B);

#[cfg(feature = "alloc")]
impl<B: BufMut> Sink for BufSink<'_, B> {
    #[inline(always)]
    fn put(&mut self, bytes: &[u8]) {
        self.0.put_slice(bytes);
    }

    #[inline(always)]
    fn put_array<const N: usize>(&mut self, bytes: [u8; N]) {
        self.0.put_slice(&bytes);
    }
}

/// A packet that knows its length and can write itself.
pub(crate) trait Encode {
    /// The remaining length in bytes.
    fn remaining_len(&self) -> usize;

    /// Writes the packet. `remaining` is what [`Encode::remaining_len`] gave.
    fn write(&self, remaining: usize, sink: &mut impl Sink);

    /// Length of the whole packet in bytes.
    #[inline(always)]
    fn packet_len(&self) -> usize {
        with_header(self.remaining_len())
    }

    #[inline(always)]
    fn write_to_slice(&self, dst: &mut [u8]) -> Result<usize, BufferTooSmall> {
        let remaining = self.remaining_len();
        let needed = with_header(remaining);
        let Some((dst, _)) = dst.split_at_mut_checked(needed) else {
            return Err(BufferTooSmall { needed });
        };
        self.write(remaining, &mut SliceSink(dst));
        Ok(needed)
    }

    #[cfg(feature = "alloc")]
    #[inline(always)]
    fn write_to_buf(&self, dst: &mut impl BufMut) {
        self.write(self.remaining_len(), &mut BufSink(dst));
    }
}

/// # Errors
/// If no remaining length can say `remaining`.
pub(crate) fn check_len(remaining: usize) -> Result<(), EncodeError> {
    if remaining <= MAX_REMAINING {
        Ok(())
    } else {
        Err(EncodeError::TooLarge { len: remaining.saturating_add(5) })
    }
}

/// Length in bytes of a packet with this remaining length.
#[inline(always)]
pub(crate) const fn with_header(remaining: usize) -> usize {
    let header = match remaining {
        0..0x80 => 2,
        0x80..0x4000 => 3,
        0x4000..0x20_0000 => 4,
        _ => 5,
    };
    header + remaining
}

/// The fixed header.
#[inline(always)]
fn put_header(first: u8, remaining: usize, sink: &mut impl Sink) {
    match remaining {
        0..0x80 => sink.put_array([first, remaining as u8]),
        0x80..0x4000 => sink.put_array([first, remaining as u8 | 0x80, (remaining >> 7) as u8]),
        _ => put_long_header(first, remaining, sink),
    }
}

/// Only a PUBLISH of the caller's making can be too long, and that is refused loudly: four bytes of
/// length that say something else would break the whole stream.
#[inline(always)]
fn put_long_header(first: u8, remaining: usize, sink: &mut impl Sink) {
    let digit = |at: u32| (remaining >> (7 * at)) as u8;
    match remaining {
        0..0x20_0000 => sink.put_array([first, digit(0) | 0x80, digit(1) | 0x80, digit(2)]),
        0x20_0000..=MAX_REMAINING => {
            let digits = [digit(0) | 0x80, digit(1) | 0x80, digit(2) | 0x80, digit(3)];
            sink.put_array([first]);
            sink.put_array(digits);
        }
        _ => panic!("a packet with {remaining} bytes is longer than MQTT allows"),
    }
}

/// A string or binary field of at most 65,535 bytes, which the types of the fields guarantee.
#[inline(always)]
fn put_field(bytes: &[u8], sink: &mut impl Sink) {
    sink.put_array((bytes.len() as u16).to_be_bytes());
    sink.put(bytes);
}

impl Encode for Publish<'_> {
    #[inline(always)]
    fn remaining_len(&self) -> usize {
        publish_head_len(self) + self.payload.len()
    }

    #[inline(always)]
    fn write(&self, remaining: usize, sink: &mut impl Sink) {
        put_publish_head(self, remaining, sink);
        sink.put(self.payload);
    }
}

/// Length in bytes of the variable header.
#[inline(always)]
fn publish_head_len(publish: &Publish<'_>) -> usize {
    let id = if publish.packet_id().is_some() { 2 } else { 0 };
    2 + publish.topic.as_bytes().len() + id
}

/// All of a PUBLISH but the payload.
#[inline(always)]
fn put_publish_head(publish: &Publish<'_>, remaining: usize, sink: &mut impl Sink) {
    let first = publish.delivery.first_byte(publish.retain);
    let topic = publish.topic.as_bytes();
    let [high, low] = (topic.len() as u16).to_be_bytes();
    // One array is one store.
    if remaining < 0x80 {
        sink.put_array([first, remaining as u8, high, low]);
    } else {
        put_header(first, remaining, sink);
        sink.put_array([high, low]);
    }
    sink.put(topic);
    if let Some(id) = publish.packet_id() {
        sink.put_array(id.to_be_bytes());
    }
}

impl Encode for Connect<'_> {
    fn remaining_len(&self) -> usize {
        let header = |protocol: Protocol| 2 + protocol.name().len() + 4;
        match &self.0 {
            ConnectForm::Wire(wire) => header(wire.protocol) + wire.payload.len(),
            ConnectForm::Fields(fields) => {
                let optional = |field: Option<&[u8]>| field.map_or(0, |field| 2 + field.len());
                header(fields.protocol)
                    + 2
                    + fields.client_id.as_bytes().len()
                    + optional(fields.will.map(|will| will.topic.as_bytes()))
                    + optional(fields.will.map(|will| will.message))
                    + optional(fields.user_name.map(crate::Text::as_bytes))
                    + optional(fields.password)
            }
        }
    }

    fn write(&self, remaining: usize, sink: &mut impl Sink) {
        let ConnectFlags(flags) = match &self.0 {
            ConnectForm::Wire(wire) => wire.flags,
            ConnectForm::Fields(fields) => fields.flags(),
        };
        put_header(PacketType::Connect.first_byte(), remaining, sink);
        match self.protocol() {
            Protocol::V310 => sink.put_array(*b"\0\x06MQIsdp\x03"),
            Protocol::V311 => sink.put_array(*b"\0\x04MQTT\x04"),
        }
        let [high, low] = self.keep_alive().to_be_bytes();
        sink.put_array([flags, high, low]);
        match &self.0 {
            ConnectForm::Wire(wire) => sink.put(wire.payload),
            ConnectForm::Fields(fields) => {
                put_field(fields.client_id.as_bytes(), sink);
                if let Some(will) = &fields.will {
                    put_field(will.topic.as_bytes(), sink);
                    put_field(will.message, sink);
                }
                if let Some(user_name) = fields.user_name {
                    put_field(user_name.as_bytes(), sink);
                }
                if let Some(password) = fields.password {
                    put_field(password, sink);
                }
            }
        }
    }
}

impl Encode for Subscribe<'_> {
    fn remaining_len(&self) -> usize {
        self.remaining_len()
    }

    fn write(&self, remaining: usize, sink: &mut impl Sink) {
        put_header(PacketType::Subscribe.first_byte(), remaining, sink);
        sink.put_array(self.packet_id().to_be_bytes());
        match self.filters().0 {
            subscribe::Form::Wire { list, .. } => sink.put(list),
            subscribe::Form::Fields(filters) => {
                for (filter, qos) in filters {
                    put_field(filter.as_bytes(), sink);
                    sink.put_array([u8::from(*qos)]);
                }
            }
        }
    }
}

impl Encode for Unsubscribe<'_> {
    fn remaining_len(&self) -> usize {
        self.remaining_len()
    }

    fn write(&self, remaining: usize, sink: &mut impl Sink) {
        put_header(PacketType::Unsubscribe.first_byte(), remaining, sink);
        sink.put_array(self.packet_id().to_be_bytes());
        match self.filters().0 {
            unsubscribe::Form::Wire { list, .. } => sink.put(list),
            unsubscribe::Form::Fields(filters) => {
                for filter in filters {
                    put_field(filter.as_bytes(), sink);
                }
            }
        }
    }
}

impl Encode for SubAck<'_> {
    fn remaining_len(&self) -> usize {
        self.remaining_len()
    }

    fn write(&self, remaining: usize, sink: &mut impl Sink) {
        put_header(PacketType::SubAck.first_byte(), remaining, sink);
        sink.put_array(self.packet_id().to_be_bytes());
        match self.codes().0 {
            suback::Form::Wire(codes) => sink.put(codes),
            suback::Form::Fields(codes) => {
                for code in codes {
                    sink.put_array([u8::from(*code)]);
                }
            }
        }
    }
}

/// The packets that are four bytes on the wire.
impl Encode for [u8; 4] {
    #[inline(always)]
    fn remaining_len(&self) -> usize {
        2
    }

    #[inline(always)]
    fn write(&self, _: usize, sink: &mut impl Sink) {
        sink.put_array(*self);
    }
}

/// The packets that are two bytes on the wire.
impl Encode for [u8; 2] {
    #[inline(always)]
    fn remaining_len(&self) -> usize {
        0
    }

    #[inline(always)]
    fn write(&self, _: usize, sink: &mut impl Sink) {
        sink.put_array(*self);
    }
}

/// The packets of which a connection has few, out of the way of the others.
#[inline(never)]
fn rare_to_slice(packet: &impl Encode, dst: &mut [u8]) -> Result<usize, BufferTooSmall> {
    packet.write_to_slice(dst)
}

/// Calls a method of [`Encode`] on whatever the packet is.
macro_rules! encode {
    ($packet:expr, $encoded:ident => $call:expr) => {
        match $packet {
            Packet::Publish($encoded) => $call,
            Packet::PubAck(id) => encode!(@bytes Ack::PubAck(*id), $encoded => $call),
            Packet::PubRec(id) => encode!(@bytes Ack::PubRec(*id), $encoded => $call),
            Packet::PubRel(id) => encode!(@bytes Ack::PubRel(*id), $encoded => $call),
            Packet::PubComp(id) => encode!(@bytes Ack::PubComp(*id), $encoded => $call),
            Packet::UnsubAck(id) => encode!(@bytes Ack::UnsubAck(*id), $encoded => $call),
            Packet::ConnAck(connack) => encode!(@bytes connack, $encoded => $call),
            Packet::PingReq => encode!(@empty PingReq, $encoded => $call),
            Packet::PingResp => encode!(@empty PingResp, $encoded => $call),
            Packet::Disconnect => encode!(@empty Disconnect, $encoded => $call),
            Packet::Connect($encoded) => $call,
            Packet::Subscribe($encoded) => $call,
            Packet::SubAck($encoded) => $call,
            Packet::Unsubscribe($encoded) => $call,
        }
    };
    (@bytes $packet:expr, $encoded:ident => $call:expr) => {{
        let $encoded = &$packet.to_bytes();
        $call
    }};
    (@empty $packet:ident, $encoded:ident => $call:expr) => {{
        let $encoded = &[PacketType::$packet.first_byte(), 0];
        $call
    }};
}

impl Packet<'_> {
    /// Length of the encoded packet in bytes, exactly.
    #[inline]
    pub fn encoded_len(&self) -> usize {
        encode!(self, packet => packet.packet_len())
    }

    /// Writes the packet to the front of `dst` and gives its length in bytes. The fastest way to
    /// encode.
    ///
    /// # Errors
    /// If `dst` is shorter than [`Packet::encoded_len`]; then nothing is written.
    ///
    /// # Panics
    /// If a PUBLISH is longer than [`MAX_PACKET`], as [`Publish::encode_to_slice`].
    #[inline]
    pub fn encode_to_slice(&self, dst: &mut [u8]) -> Result<usize, BufferTooSmall> {
        match self {
            Self::Connect(packet) => rare_to_slice(packet, dst),
            Self::Subscribe(packet) => rare_to_slice(packet, dst),
            Self::SubAck(packet) => rare_to_slice(packet, dst),
            Self::Unsubscribe(packet) => rare_to_slice(packet, dst),
            _ => encode!(self, packet => packet.write_to_slice(dst)),
        }
    }

    /// Appends the packet to `dst`: `Vec<u8>`, `BytesMut` or another buffer that has room or grows.
    ///
    /// A buffer that grows does so in several steps; who cares reserves [`Packet::encoded_len`].
    ///
    /// # Panics
    /// If a PUBLISH is longer than [`MAX_PACKET`], or if the buffer cannot grow and is too short.
    #[cfg(feature = "alloc")]
    #[inline]
    pub fn encode(&self, dst: &mut impl BufMut) {
        encode!(self, packet => packet.write_to_buf(dst));
    }
}

impl Publish<'_> {
    /// Length in bytes of all but the payload, as [`Publish::encode_head`] writes it.
    #[inline]
    pub fn head_len(&self) -> usize {
        self.packet_len() - self.payload.len()
    }

    /// Appends all of the packet but the payload, for a vectored write of head and payload.
    ///
    /// # Panics
    /// As [`Publish::encode`].
    #[cfg(feature = "alloc")]
    #[inline]
    pub fn encode_head(&self, dst: &mut impl BufMut) {
        put_publish_head(self, self.remaining_len(), &mut BufSink(dst));
    }

    /// Writes all of the packet but the payload to the front of `dst`, and gives its length in
    /// bytes.
    ///
    /// # Errors
    /// If `dst` is shorter than [`Publish::head_len`]; then nothing is written.
    ///
    /// # Panics
    /// As [`Publish::encode_to_slice`].
    #[inline]
    pub fn encode_head_to_slice(&self, dst: &mut [u8]) -> Result<usize, BufferTooSmall> {
        let needed = self.head_len();
        let Some((dst, _)) = dst.split_at_mut_checked(needed) else {
            return Err(BufferTooSmall { needed });
        };
        put_publish_head(self, self.remaining_len(), &mut SliceSink(dst));
        Ok(needed)
    }
}

macro_rules! encode_alone {
    ($($packet:ty $(, $panics:literal)?;)*) => {$(
        impl $packet {
            /// Length of the encoded packet in bytes, exactly.
            #[inline]
            pub fn encoded_len(&self) -> usize {
                self.packet_len()
            }

            /// Writes the packet to the front of `dst` and gives its length in bytes.
            ///
            /// # Errors
            /// If `dst` is shorter than the packet; then nothing is written.
            $(
                ///
                #[doc = $panics]
            )?
            #[inline]
            pub fn encode_to_slice(&self, dst: &mut [u8]) -> Result<usize, BufferTooSmall> {
                self.write_to_slice(dst)
            }

            /// Appends the packet to `dst`.
            $(
                ///
                #[doc = $panics]
            )?
            #[cfg(feature = "alloc")]
            #[inline]
            pub fn encode(&self, dst: &mut impl BufMut) {
                self.write_to_buf(dst);
            }
        }
    )*};
}

encode_alone!(
    Publish<'_>, "# Panics\nIf the packet is longer than [`MAX_PACKET`]. A decoded PUBLISH never is.";
    Connect<'_>;
    ConnAck;
    Subscribe<'_>;
    SubAck<'_>;
    Unsubscribe<'_>;
);

impl Encode for ConnAck {
    #[inline(always)]
    fn remaining_len(&self) -> usize {
        2
    }

    #[inline(always)]
    fn write(&self, _: usize, sink: &mut impl Sink) {
        sink.put_array(self.to_bytes());
    }
}
