//! What comes from the broker.

use std::time::Instant;

use bytes::{Buf, Bytes};
use mqtt_broker_core::qos::{Abandoned, AckedQoS, Seen, Unfinished, WrongAck};
use mqtt_codec::{
    Ack, ConnAck, ConnectReturnCode, DecodeError, Delivery, Frame, Packet, PacketId, PacketType,
    Publish, PublishBuf, decode, frame,
};

use super::subscriptions::Stream;
use super::{Event, Machine, Queued, Replay, Stage, Token};
use crate::error::{ConnectionError, ProtocolError, Undelivered};
use crate::receipt::Delivered;
use crate::store::{Change, Stage as Stored};

impl Machine {
    /// Takes bytes from the transport, cut anywhere. An error is the end of the connection.
    pub(crate) fn handle_input(
        &mut self,
        mut bytes: &[u8],
        now: Instant,
    ) -> Result<(), ConnectionError> {
        self.counters.bytes_received += bytes.len() as u64;
        self.keep_alive.handle_received(now);
        while !self.tail.is_empty() {
            // Complete the packet at the front of the tail, and no more than that: what follows is
            // decoded where it lies.
            let needed = match frame(&self.tail, self.config.max_incoming) {
                Ok(Frame::Complete { end, .. }) => end,
                Ok(Frame::Incomplete { needed }) => needed,
                Err(error) => return Err(self.undecodable(error, &self.tail).into()),
            };
            let missing = needed.saturating_sub(self.tail.len());
            let (part, rest) = bytes.split_at(missing.min(bytes.len()));
            self.tail.extend_from_slice(part);
            bytes = rest;
            if part.len() < missing {
                return Ok(());
            }
            let mut tail = std::mem::take(&mut self.tail);
            let used = self.carry_out(&tail, now)?;
            tail.drain(..used);
            if !tail.is_empty() || tail.capacity() <= super::KEEP_BUFFER {
                self.tail = tail;
            }
        }
        let used = self.carry_out(bytes, now)?;
        self.tail.extend_from_slice(bytes.get(used..).unwrap_or_default());
        Ok(())
    }

    /// Carries out the complete packets at the front of `bytes` and gives back their length.
    fn carry_out(&mut self, bytes: &[u8], now: Instant) -> Result<usize, ConnectionError> {
        let mut batch = Batch { bytes, block: (0, Bytes::new()) };
        let mut at = 0;
        loop {
            let rest = bytes.get(at..).unwrap_or_default();
            let decoded = decode(rest, self.config.max_incoming);
            let Some((packet, len)) = decoded.map_err(|error| self.undecodable(error, rest))?
            else {
                return Ok(at);
            };
            let received = Received { batch: &mut batch, at, len };
            self.handle_packet(packet, received, now)?;
            at += len;
        }
    }

    /// Bytes that are no packet. What does not even begin as the answer to a CONNECT is most likely from
    /// something else than a broker.
    fn undecodable(&self, error: DecodeError, bytes: &[u8]) -> ProtocolError {
        const CONNACK: u8 = PacketType::ConnAck as u8;
        match (self.stage, bytes.first()) {
            (Stage::Connecting { .. }, Some(first)) if first >> 4 != CONNACK => {
                ProtocolError::NotMqtt(error)
            }
            _ => ProtocolError::Malformed(error),
        }
    }

    fn handle_packet(
        &mut self,
        packet: Packet<'_>,
        received: Received<'_, '_>,
        now: Instant,
    ) -> Result<(), ConnectionError> {
        match self.stage {
            Stage::Connecting { .. } => {
                let Packet::ConnAck(connack) = packet else {
                    return Err(ProtocolError::NotConnack(packet.packet_type()).into());
                };
                return self.handle_connack(connack, now);
            }
            Stage::Connected { .. } | Stage::Closing => {}
            Stage::Disconnected => return Ok(()),
        }
        match packet {
            Packet::Publish(publish) => self.handle_publish(&publish, received),
            Packet::PubAck(id) => self.handle_puback(id, now)?,
            Packet::PubRec(id) => self.handle_pubrec(id, now)?,
            Packet::PubRel(id) => {
                if self.receiver.handle_pubrel(id) {
                    self.note(|| Change::Forgotten(id));
                }
                // Known or not: a broker that does not get it would ask for ever.
                self.answer(Ack::PubComp(id));
            }
            Packet::PubComp(id) => self.handle_pubcomp(id, now)?,
            Packet::SubAck(suback) => {
                let (id, codes) = (suback.packet_id(), suback.codes());
                let Self { subscriptions, sender, events, .. } = self;
                let known = subscriptions.handle_suback(id, codes, sender, events)?;
                self.counters.unknown_acks += u64::from(!known);
                self.note_restored();
            }
            Packet::UnsubAck(id) => {
                let known = self.subscriptions.handle_unsuback(id, &mut self.sender);
                self.counters.unknown_acks += u64::from(!known);
                self.events.push_back(Event::Unsubscribed);
                self.note_restored();
            }
            Packet::PingResp => {}
            other => return Err(ProtocolError::Unexpected(other.packet_type()).into()),
        }
        Ok(())
    }

    /// The table of what a new connection does with what the last one left.
    fn handle_connack(&mut self, connack: ConnAck, now: Instant) -> Result<(), ConnectionError> {
        if connack.code != ConnectReturnCode::Accepted {
            return Err(ConnectionError::Refused(connack.code));
        }
        self.counters.connections += 1;
        // A broker that says so to a clean session is wrong; it cannot have what we had.
        let session_present = connack.session_present && !self.config.clean_session;
        self.stage = Stage::Connected { session_present };
        self.last_ack = None;
        if session_present {
            self.resend.extend(self.sender.unfinished().map(|unfinished| match unfinished {
                Unfinished::Publish { id, .. } | Unfinished::Release { id } => id,
            }));
            if !self.resend.is_empty() {
                self.last_ack = Some(now);
            }
        } else {
            if self.receiver.open() > 0 {
                self.note(|| Change::ForgotAll);
            }
            self.receiver.clear();
            self.ledger.end_session();
            self.abandon_session();
        }
        let rate = self.config.replay_rate.filter(|_| !self.queue.is_empty());
        self.replay = rate.map(|rate| Replay::new(rate, now));
        self.subscriptions.begin_connection(session_present, self.knows_session);
        self.knows_session = !self.config.clean_session;
        self.events.push_back(Event::Unsubscribed);
        self.note_restored();
        Ok(())
    }

    /// The broker knows nothing of what was in flight.
    fn abandon_session(&mut self) {
        for (_, token) in std::mem::take(&mut self.released) {
            // It has the message since its PUBREC.
            self.end(token, Ok(Delivered::Completed));
        }
        let abandoned: Vec<_> = self.sender.abandon().collect();
        for abandoned in abandoned.into_iter().rev() {
            let Abandoned::Publish(qos, message) = abandoned else { continue };
            if qos == AckedQoS::ExactlyOnce && !self.config.resend_lost {
                self.end(message.token, Err(Undelivered::SessionLost));
                continue;
            }
            self.note_stage(message.token, Stored::Queued);
            self.queue.push_front(Queued {
                message,
                qos: qos.into(),
                expires: None,
                replaceable: false,
                fails_offline: false,
            });
        }
    }

    pub(super) fn note_restored(&mut self) {
        if let Stage::Connected { session_present } = self.stage
            && !self.is_restored
            && self.subscriptions.is_settled()
        {
            self.is_restored = true;
            self.events.push_back(Event::Restored { session_present });
        }
    }

    fn handle_publish(&mut self, publish: &Publish<'_>, received: Received<'_, '_>) {
        self.counters.received += 1;
        let (qos, id) = match publish.delivery {
            Delivery::AtMostOnce => return self.deliver(publish, received, None),
            Delivery::AtLeastOnce { id, .. } => (AckedQoS::AtLeastOnce, id),
            Delivery::ExactlyOnce { id, .. } => (AckedQoS::ExactlyOnce, id),
        };
        if qos == AckedQoS::ExactlyOnce {
            match self.receiver.handle_publish(id) {
                // Every id may be open.
                Ok(Seen::First) | Err(_) => {}
                Ok(Seen::Again) => {
                    self.counters.duplicates += 1;
                    return self.ledger.receive_again(id);
                }
            }
        }
        self.deliver(publish, received, Some((qos, id)));
    }

    fn deliver(
        &mut self,
        publish: &Publish<'_>,
        received: Received<'_, '_>,
        acked: Option<(AckedQoS, PacketId)>,
    ) {
        let mut route = std::mem::take(&mut self.route);
        self.subscriptions.route(publish.topic, &mut route);
        let routes = &route.streams;
        let waiting = routes.iter().filter(|stream| stream.takes).count();
        // Acknowledged also when nobody wants it [MQTT-4.5.0-2].
        let number = acked.map(|(qos, id)| self.ledger.receive(id, qos, waiting as u32));
        if let Some((AckedQoS::ExactlyOnce, id)) = acked.filter(|_| waiting == 0) {
            self.note_received(id);
        }
        if let Some((last, others)) = routes.split_last()
            && let Some(message) = received.keep(publish)
        {
            let mut deliver = |stream: &Stream, message| {
                let number = number.filter(|_| stream.takes);
                self.events.push_back(Event::Deliver { stream: stream.id, message, number });
            };
            others.iter().for_each(|stream| deliver(stream, message.clone()));
            deliver(last, message);
        } else {
            self.counters.unrouted += 1;
        }
        self.route = route;
    }

    fn handle_puback(&mut self, id: PacketId, now: Instant) -> Result<(), ProtocolError> {
        match self.sender.handle_puback(id) {
            Ok(Some(message)) => {
                self.last_ack = Some(now);
                self.end(message.token, Ok(Delivered::Acknowledged));
            }
            Ok(None) => self.counters.unknown_acks += 1,
            Err(WrongAck(id)) => return Err(ProtocolError::WrongAck(id)),
        }
        Ok(())
    }

    fn handle_pubrec(&mut self, id: PacketId, now: Instant) -> Result<(), ProtocolError> {
        match self.sender.handle_pubrec(id) {
            Ok(Some(message)) => {
                self.last_ack = Some(now);
                self.note_stage(message.token, Stored::Released(id, message.order));
                self.released.push_back((id, message.token));
            }
            Ok(None) => self.counters.unknown_acks += 1,
            Err(WrongAck(id)) => return Err(ProtocolError::WrongAck(id)),
        }
        self.answer(Ack::PubRel(id));
        Ok(())
    }

    fn handle_pubcomp(&mut self, id: PacketId, now: Instant) -> Result<(), ProtocolError> {
        match self.sender.handle_pubcomp(id) {
            Ok(true) => {
                self.last_ack = Some(now);
                if let Some(token) = self.take_released(id) {
                    self.end(token, Ok(Delivered::Completed));
                }
            }
            Ok(false) => self.counters.unknown_acks += 1,
            Err(WrongAck(id)) => return Err(ProtocolError::WrongAck(id)),
        }
        Ok(())
    }

    fn take_released(&mut self, id: PacketId) -> Option<Token> {
        // Nearly always the first.
        let at = self.released.iter().position(|(released, _)| *released == id)?;
        self.released.remove(at).map(|(_, token)| token)
    }

    fn answer(&mut self, ack: Ack) {
        if self.stage != Stage::Closing {
            self.control.extend_from_slice(&ack.to_bytes());
        }
    }
}

/// Messages that came together are kept together: one allocation for up to so many bytes. A message
/// that the application keeps holds this much with it; of more, the gain is small.
const BLOCK: usize = 4 << 10;

/// Bytes that were received together.
struct Batch<'a> {
    bytes: &'a [u8],
    /// A copy of some of them, from this place on, that messages are slices of.
    block: (usize, Bytes),
}

/// Where a packet is in a batch.
struct Received<'a, 'b> {
    batch: &'b mut Batch<'a>,
    at: usize,
    len: usize,
}

impl Received<'_, '_> {
    /// The message for the application. `None` if it is too long to be one, which no limit for
    /// incoming packets allows.
    fn keep(self, publish: &Publish<'_>) -> Option<PublishBuf> {
        let frame = self.batch.share(self.at, self.len);
        PublishBuf::from_frame(frame, publish).or_else(|| PublishBuf::new(publish).ok())
    }
}

impl Batch<'_> {
    /// `len` bytes at `at`, behind all that was asked for before.
    fn share(&mut self, at: usize, len: usize) -> Bytes {
        let (start, block) = &mut self.block;
        if at + len > *start + block.len() {
            let rest = self.bytes.get(at..).unwrap_or_default();
            let size = len.max(BLOCK).min(rest.len());
            *block = Bytes::copy_from_slice(rest.get(..size).unwrap_or_default());
        } else {
            block.advance(at - *start);
        }
        *start = at + len;
        // The last one takes the block itself: a message that comes alone is one allocation.
        block.split_to(len)
    }
}
