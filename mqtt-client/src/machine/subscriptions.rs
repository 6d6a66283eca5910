use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use mqtt_broker_core::qos::Sender;
use mqtt_codec::{
    PacketId, QoS, Subscribe, SubscribeReturnCode, TopicFilterBuf, TopicName, Unsubscribe,
};

use super::{Event, StreamId};
use crate::error::ProtocolError;

/// Filters of one SUBSCRIBE or UNSUBSCRIBE. Some brokers refuse longer lists.
const MAX_FILTERS: usize = 64;

/// Bytes of filters in one packet, so that it fits the smallest packet limits in use.
const MAX_BYTES: usize = 8 << 10;

/// What the application subscribed to. This table is the only truth: SUBSCRIBE and UNSUBSCRIBE
/// follow from it for each connection.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    filters: HashMap<TopicFilterBuf, Filter>,
    /// Those with a wildcard, which a topic has to be compared with one by one.
    wildcards: Vec<TopicFilterBuf>,
    /// What the broker is still to be told, in order.
    changes: VecDeque<Change>,
    /// What it was told and has not answered.
    requests: VecDeque<Request>,
    /// Counts the changes of `filters`, so that a route can be kept.
    generation: u64,
}

#[derive(Debug)]
struct Filter {
    qos: QoS,
    streams: Vec<Stream>,
    /// SUBSCRIBE was sent for it, so that the broker may have it.
    is_sent: bool,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Stream {
    pub(crate) id: StreamId,
    /// Whether its messages are acknowledged only when they are taken.
    pub(crate) takes: bool,
}

/// Where the messages of one topic go.
#[derive(Debug, Default)]
pub(crate) struct Route {
    generation: u64,
    topic: Vec<u8>,
    pub(crate) streams: Vec<Stream>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Change {
    Subscribe(TopicFilterBuf),
    Unsubscribe(TopicFilterBuf),
}

#[derive(Debug)]
struct Request {
    id: PacketId,
    sent: Instant,
    changes: Vec<Change>,
}

impl Change {
    fn filter(&self) -> &TopicFilterBuf {
        match self {
            Self::Subscribe(filter) | Self::Unsubscribe(filter) => filter,
        }
    }

    fn is_subscribe(&self) -> bool {
        matches!(self, Self::Subscribe(_))
    }
}

impl Subscriptions {
    /// Adds a stream. The same filter twice is one subscription at the broker, with the higher QoS.
    pub(crate) fn add(&mut self, filter: TopicFilterBuf, qos: QoS, stream: Stream) {
        self.generation += 1;
        let entry = self.filters.entry(filter.clone()).or_insert_with(|| {
            if filter.as_topic_filter().has_wildcard() {
                self.wildcards.push(filter.clone());
            }
            Filter { qos, streams: Vec::new(), is_sent: false }
        });
        entry.qos = entry.qos.max(qos);
        if entry.streams.iter().all(|other| other.id != stream.id) {
            entry.streams.push(stream);
        }
        // Also when the broker has it: the new stream is to get the retained messages.
        self.changes.push_back(Change::Subscribe(filter));
    }

    /// Takes a stream away; with the last one of a filter the subscription, if `tell` at the broker
    /// too, as far as it was told of it.
    pub(crate) fn remove(&mut self, filter: &TopicFilterBuf, stream: StreamId, tell: bool) {
        let Some(entry) = self.filters.get_mut(filter) else { return };
        self.generation += 1;
        entry.streams.retain(|other| other.id != stream);
        if entry.streams.is_empty() {
            let is_sent = entry.is_sent;
            self.forget(filter);
            let subscribing = Change::Subscribe(filter.clone());
            self.changes.retain(|change| *change != subscribing);
            if tell && is_sent {
                self.remove_stale(filter.clone());
            }
        }
    }

    /// Tells the broker to end a subscription that no stream here has.
    pub(crate) fn remove_stale(&mut self, filter: TopicFilterBuf) {
        let change = Change::Unsubscribe(filter);
        if !self.filters.contains_key(change.filter()) && !self.changes.contains(&change) {
            self.changes.push_back(change);
        }
    }

    fn forget(&mut self, filter: &TopicFilterBuf) -> Option<Filter> {
        self.generation += 1;
        self.wildcards.retain(|other| other != filter);
        self.filters.remove(filter)
    }

    /// The streams that a message goes to.
    pub(crate) fn route(&self, topic: TopicName<'_>, route: &mut Route) {
        // Messages of a topic often come one behind the other.
        if route.generation == self.generation && route.topic == topic.as_bytes() {
            return;
        }
        route.generation = self.generation;
        route.topic.clear();
        route.topic.extend_from_slice(topic.as_bytes());
        let streams = &mut route.streams;
        streams.clear();
        // Nothing to look up if every filter has a wildcard.
        if self.filters.len() > self.wildcards.len()
            && let Some(filter) = self.filters.get(topic.as_bytes())
        {
            streams.extend(&filter.streams);
        }
        for wildcard in &self.wildcards {
            if wildcard.as_topic_filter().matches(topic)
                && let Some(filter) = self.filters.get(wildcard)
            {
                for stream in &filter.streams {
                    // A stream of several filters gets a message once.
                    if streams.iter().all(|other| other.id != stream.id) {
                        streams.push(*stream);
                    }
                }
            }
        }
    }

    /// Whether the broker has been told everything and has answered.
    pub(crate) fn is_settled(&self) -> bool {
        self.changes.is_empty() && self.requests.is_empty()
    }

    pub(crate) fn has_changes(&self) -> bool {
        !self.changes.is_empty()
    }

    /// When the oldest request was sent, and whether it was a SUBSCRIBE.
    pub(crate) fn oldest_request(&self) -> Option<(Instant, bool)> {
        let request = self.requests.front()?;
        Some((request.sent, request.changes.first().is_some_and(Change::is_subscribe)))
    }

    /// A connection is accepted. If the broker has forgotten the session, or we cannot know what it
    /// holds, it is told everything.
    pub(crate) fn begin_connection(&mut self, session_present: bool, is_known: bool) {
        if session_present && is_known {
            return;
        }
        // What is not there needs no end.
        self.changes.retain(|change| session_present && !change.is_subscribe());
        let mut filters: Vec<_> = self.filters.keys().cloned().collect();
        // So that the same program sends the same bytes.
        filters.sort();
        self.changes.extend(filters.into_iter().map(Change::Subscribe));
    }

    /// The connection ended: what was not answered is told again.
    pub(crate) fn end_connection<T>(&mut self, ids: &mut Sender<T>) {
        while let Some(request) = self.requests.pop_back() {
            ids.release(request.id);
            for change in request.changes.into_iter().rev() {
                match self.filters.get_mut(change.filter()) {
                    // Subscribed to again, and if that comes to nothing the broker may have it.
                    Some(filter) if !change.is_subscribe() => filter.is_sent = true,
                    None if change.is_subscribe() => {}
                    _ => self.changes.push_front(change),
                }
            }
        }
    }

    /// Writes what the broker is to be told.
    pub(crate) fn request<T>(&mut self, ids: &mut Sender<T>, out: &mut Vec<u8>, now: Instant) {
        while let Some(first) = self.changes.front() {
            let subscribing = first.is_subscribe();
            let mut bytes = 0;
            let batch = self.changes.iter().take(MAX_FILTERS).take_while(|change| {
                bytes += change.filter().as_bytes().len() + 3;
                change.is_subscribe() == subscribing && bytes <= MAX_BYTES
            });
            // A filter alone may be longer.
            let count = batch.count().max(1);
            let Some(id) = ids.reserve() else { return };
            let changes: Vec<_> = self.changes.drain(..count).collect();
            let written = match subscribing {
                true => self.write_subscribe(id, &changes, out),
                false => write_unsubscribe(id, &changes, out),
            };
            match written {
                true => self.requests.push_back(Request { id, sent: now, changes }),
                false => drop(ids.release(id)),
            }
        }
    }

    fn write_subscribe(&mut self, id: PacketId, changes: &[Change], out: &mut Vec<u8>) -> bool {
        let filters: Vec<_> = changes
            .iter()
            .filter_map(|change| {
                let filter = self.filters.get_mut(change.filter())?;
                filter.is_sent = true;
                Some((change.filter().as_topic_filter(), filter.qos))
            })
            .collect();
        debug_assert_eq!(filters.len(), changes.len(), "a removed filter is not asked for");
        Subscribe::new(id, &filters).map(|packet| packet.encode(out)).is_ok()
    }

    /// SUBACK. One that answers nothing is ignored.
    pub(crate) fn handle_suback<T>(
        &mut self,
        id: PacketId,
        codes: impl ExactSizeIterator<Item = SubscribeReturnCode>,
        ids: &mut Sender<T>,
        events: &mut VecDeque<Event>,
    ) -> Result<bool, ProtocolError> {
        let is_it = |r: &Request| r.id == id && r.changes.iter().all(Change::is_subscribe);
        let Some(at) = self.requests.iter().position(is_it) else { return Ok(false) };
        // Before it is over: it is asked for again on the next connection.
        if self.requests.get(at).is_some_and(|request| request.changes.len() != codes.len()) {
            return Err(ProtocolError::SubAckLength(id));
        }
        let Some(request) = self.requests.remove(at) else { return Ok(false) };
        ids.release(id);
        for (change, code) in request.changes.iter().zip(codes) {
            let filter = change.filter();
            match code {
                SubscribeReturnCode::Granted(qos) => {
                    let streams = self.filters.get(filter).map(|filter| &filter.streams);
                    let granted = streams.into_iter().flatten();
                    events.extend(granted.map(|s| Event::Granted {
                        stream: s.id,
                        filter: filter.clone(),
                        qos,
                    }));
                }
                SubscribeReturnCode::Failure => {
                    let subscribing = Change::Subscribe(filter.clone());
                    self.changes.retain(|change| *change != subscribing);
                    let streams = self.forget(filter).map(|filter| filter.streams);
                    let refused = streams.into_iter().flatten();
                    events.extend(refused.map(|s| Event::SubscriptionRefused {
                        stream: s.id,
                        filter: filter.clone(),
                    }));
                }
            }
        }
        Ok(true)
    }

    /// UNSUBACK. One that answers nothing is ignored.
    pub(crate) fn handle_unsuback<T>(&mut self, id: PacketId, ids: &mut Sender<T>) -> bool {
        let is_it = |r: &Request| r.id == id && !r.changes.iter().any(Change::is_subscribe);
        let Some(at) = self.requests.iter().position(is_it) else { return false };
        self.requests.remove(at);
        ids.release(id)
    }

    /// Whether the broker has confirmed that nothing more comes for `filter`.
    pub(crate) fn is_unsubscribed(&self, filter: &TopicFilterBuf) -> bool {
        let asks = |change: &Change| !change.is_subscribe() && change.filter() == filter;
        !self.changes.iter().any(asks)
            && !self.requests.iter().flat_map(|request| &request.changes).any(asks)
    }
}

fn write_unsubscribe(id: PacketId, changes: &[Change], out: &mut Vec<u8>) -> bool {
    let filters: Vec<_> = changes.iter().map(|c| c.filter().as_topic_filter()).collect();
    Unsubscribe::new(id, &filters).map(|packet| packet.encode(out)).is_ok()
}
