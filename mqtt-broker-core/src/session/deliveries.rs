use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::task::Waker;

use mqtt_codec::PacketId;

use super::queue::Queue;
use super::{Queued, Replay};
use crate::Config;
use crate::journal::MessageId;
use crate::qos::{AckedQoS, Receiver, Seen, Sender, TooManyOpen};

/// What is under way between a session and its client.
///
/// For most clients nothing is. Then it takes 16 bytes instead of 260, and whoever changes it makes
/// room: reading never does.
#[derive(Debug)]
pub(crate) struct Deliveries {
    underway: Option<Box<Underway>>,
    /// The most messages of QoS 1 and 2 that are sent and not through.
    window: u16,
    /// The most messages of QoS 2 that are received and not released.
    max_unreleased: u16,
    /// Where packet ids go on: what the client may say about earlier ones means none of the next.
    next_id: PacketId,
}

/// Messages on the way, what waits for them, and what they wait for.
#[derive(Debug)]
pub(crate) struct Underway {
    pub(super) sender: Sender<Queued>,
    /// Topics and payloads of what was sent and nobody has acknowledged in any way.
    pub(super) in_flight_bytes: usize,
    pub(crate) receiver: Receiver,
    pub(super) queue: Queue,
    /// Retained messages that subscriptions have yet to get.
    pub(crate) replays: VecDeque<Replay>,
    /// Publishers that are held back until the queue is shorter.
    pub(super) held_back: Vec<Waker>,
    /// Messages that wait, up to this one, may have been sent in an earlier life of the broker.
    pub(super) may_be_sent: Option<MessageId>,
}

/// What can be read when there is nothing.
static NOTHING: Underway = Underway::new(1, 0);

impl Deliveries {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            underway: None,
            window: config.max_inflight,
            // There are no more ids.
            max_unreleased: config.max_incoming_qos2.try_into().unwrap_or(u16::MAX),
            next_id: PacketId::MIN,
        }
    }

    /// How many messages of QoS 1 and 2 the window has room for.
    pub(super) fn room(&self) -> usize {
        self.underway.as_ref().map_or_else(
            || Sender::<()>::new(self.window).room(),
            |underway| underway.sender.room(),
        )
    }

    /// The packet id of the next message.
    pub(super) fn next_id(&self) -> PacketId {
        self.underway.as_ref().map_or(self.next_id, |underway| underway.sender.next_id())
    }

    /// Whether a message of QoS 2 has come before.
    pub(crate) fn look_up(&self, id: PacketId) -> Result<Seen, TooManyOpen> {
        match &self.underway {
            Some(underway) => underway.receiver.look_up(id),
            None => Receiver::new(self.max_unreleased.into()).look_up(id),
        }
    }

    /// Whether none of so many messages of QoS 2, with rising ids, has come before, and all may come.
    pub(crate) fn are_new(&self, first: PacketId, last: PacketId, count: usize) -> bool {
        match &self.underway {
            Some(underway) => underway.receiver.are_free(first, last, count),
            None => count <= self.max_unreleased.into(),
        }
    }

    /// Ends exchanges whose message nobody has acknowledged, as [`Sender::withdraw`].
    pub(super) fn withdraw(
        &mut self,
        select: impl FnMut(AckedQoS, &Queued) -> bool,
    ) -> Vec<Queued> {
        let Some(underway) = &mut self.underway else { return Vec::new() };
        let withdrawn = underway.sender.withdraw(select);
        underway.in_flight_bytes -=
            withdrawn.iter().map(|queued| queued.message.size()).sum::<usize>();
        withdrawn
    }

    /// Hands over the publishers that were held back.
    pub(super) fn let_publishers_go(&mut self, wakes: &mut Vec<Waker>) {
        if let Some(underway) = &mut self.underway {
            wakes.append(&mut underway.held_back);
        }
    }

    /// Lets go of everything.
    pub(super) fn clear(&mut self) {
        self.underway = None;
    }

    /// Lets go of the room when nothing is under way any more: for when the client seems to be idle,
    /// since a busy one would soon need it again.
    pub(crate) fn settle(&mut self) {
        if let Some(underway) = self.underway.take_if(|underway| underway.is_nothing()) {
            self.next_id = underway.sender.next_id();
        }
    }
}

impl Underway {
    const fn new(window: u16, max_unreleased: u16) -> Self {
        Self {
            sender: Sender::new(window),
            in_flight_bytes: 0,
            receiver: Receiver::new(max_unreleased as usize),
            queue: Queue::EMPTY,
            replays: VecDeque::new(),
            held_back: Vec::new(),
            may_be_sent: None,
        }
    }

    fn is_nothing(&self) -> bool {
        self.sender.is_empty()
            && self.receiver.open() == 0
            && self.queue.is_empty()
            && self.replays.is_empty()
            && self.held_back.is_empty()
    }
}

impl Deref for Deliveries {
    type Target = Underway;

    #[inline]
    fn deref(&self) -> &Underway {
        self.underway.as_deref().unwrap_or(&NOTHING)
    }
}

impl DerefMut for Deliveries {
    #[inline]
    fn deref_mut(&mut self) -> &mut Underway {
        let Self { underway, window, max_unreleased, next_id } = self;
        underway.get_or_insert_with(|| make_room(*window, *max_unreleased, *next_id))
    }
}

/// Out of line: it is rare, and large beside what is done with a message.
#[cold]
#[inline(never)]
fn make_room(window: u16, max_unreleased: u16, next_id: PacketId) -> Box<Underway> {
    let mut underway = Box::new(Underway::new(window, max_unreleased));
    underway.sender.restore_next(next_id);
    underway
}
