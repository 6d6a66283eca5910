use std::collections::VecDeque;

use mqtt_codec::PacketId;
use thiserror::Error;

use super::AckedQoS;

/// How many windows the ids in use may span.
///
/// A peer that acknowledges everything but the oldest message leaves holes behind it, and the ring
/// keeps a slot for each. Four windows are far more than a peer needs that acknowledges in order
/// [MQTT-4.6.0-2], and bound what one that does not can cost.
const SPAN_IN_WINDOWS: usize = 4;

/// Every id in use at once: ids are 1 to 65,535.
const ALL_IDS: usize = u16::MAX as usize;

/// The sending half: PUBLISH packets of QoS 1 and 2 that wait for their acknowledgements.
///
/// Ids begin at 1 and go up by 1, wrap at 65,535, and are never given out while in use
/// [MQTT-2.3.1-2]. `T` is what the owner keeps of a message to be able to send it again.
///
/// The open exchanges are a ring: the id of a slot is the first slot's id plus its index, so that
/// neither taking an id nor finding the slot of an acknowledgement searches anything.
#[derive(Clone, Debug)]
pub struct Sender<T> {
    window: u16,
    /// Id of `slots[0]`, or of the next exchange when there is none.
    first: PacketId,
    slots: VecDeque<Slot<T>>,
    /// Slots that hold a message or wait for PUBCOMP: what the window bounds.
    open: usize,
}

#[derive(Clone, Debug)]
enum Slot<T> {
    /// PUBLISH is sent; PUBACK or PUBREC is due.
    Published(AckedQoS, T),
    /// PUBREL is sent; PUBCOMP is due. The message belongs to the receiver now.
    Released,
    /// Taken by [`Sender::reserve`].
    Reserved,
    /// Over, but an older exchange is not.
    Done,
}

/// An exchange to take up again on a new connection of the same session [MQTT-4.4.0-1].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfinished<'a, T> {
    /// Send the PUBLISH again: same id, DUP set.
    Publish {
        /// Its packet id, as before.
        id: PacketId,
        /// Its level of service, as before.
        qos: AckedQoS,
        /// What was kept of the message.
        item: &'a T,
    },
    /// Send the PUBREL again, and the PUBLISH never.
    Release {
        /// Its packet id, as before.
        id: PacketId,
    },
}

/// An exchange whose session is lost: what the owner may still want to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Abandoned<T> {
    /// The message was not acknowledged in any way.
    Publish(AckedQoS, T),
    /// PUBREC was seen: the receiver owns the message, so the delivery is complete.
    Released,
}

/// An acknowledgement that does not belong to the state of its packet id, such as a PUBACK for a
/// QoS 2 message [MQTT-3.3.4-1].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("acknowledgement of packet {0} does not fit the message sent with that id [MQTT-3.3.4-1]")]
pub struct WrongAck(pub PacketId);

impl<T> Sender<T> {
    /// At most `window` messages in flight; 0 counts as 1.
    pub const fn new(window: u16) -> Self {
        let window = if window == 0 { 1 } else { window };
        Self { window, first: PacketId::MIN, slots: VecDeque::new(), open: 0 }
    }

    /// Whether [`begin`](Self::begin) would take a message now.
    pub fn has_room(&self) -> bool {
        self.room() > 0
    }

    /// How many messages [`begin`](Self::begin) would take now.
    pub fn room(&self) -> usize {
        let window = usize::from(self.window);
        let span = (window * SPAN_IN_WINDOWS).min(ALL_IDS);
        window.saturating_sub(self.open).min(span.saturating_sub(self.slots.len()))
    }

    /// Messages sent and not yet through: the in-flight window's use.
    pub fn in_flight(&self) -> usize {
        self.open
    }

    /// Whether no id is in use.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The id that [`begin`](Self::begin) or [`reserve`](Self::reserve) would take now.
    pub fn next_id(&self) -> PacketId {
        // When there is one to take, at most 65,534 slots are in the ring: the cast keeps the value.
        nth_after(self.first, self.slots.len() as u16)
    }

    /// Takes an id for a new message, which stays until its acknowledgement. Gives the message
    /// back when the window is full.
    pub fn begin(&mut self, qos: AckedQoS, item: T) -> Result<PacketId, T> {
        if !self.has_room() {
            return Err(item);
        }
        self.open += 1;
        Ok(self.push(Slot::Published(qos, item)))
    }

    /// Takes ids for messages that are sent together, from [`next_id`](Self::next_id) on. Takes no more
    /// than there is [`room`](Self::room) for.
    pub fn begin_all(&mut self, qos: AckedQoS, items: impl Iterator<Item = T>) {
        let before = self.slots.len();
        self.slots.extend(items.take(self.room()).map(|item| Slot::Published(qos, item)));
        self.open += self.slots.len() - before;
    }

    /// Takes an id for a SUBSCRIBE or UNSUBSCRIBE, which share the ids of PUBLISH. The window does
    /// not count it. `None` when all ids are in use. Give it back with [`release`](Self::release).
    pub fn reserve(&mut self) -> Option<PacketId> {
        self.has_id().then(|| self.push(Slot::Reserved))
    }

    /// Whether [`reserve`](Self::reserve) would give an id now.
    pub fn has_id(&self) -> bool {
        self.slots.len() < ALL_IDS
    }

    /// Frees an id of [`reserve`](Self::reserve). False when `id` was not reserved.
    pub fn release(&mut self, id: PacketId) -> bool {
        match self.slot(id) {
            Some(slot @ Slot::Reserved) => {
                *slot = Slot::Done;
                self.shed();
                true
            }
            _ => false,
        }
    }

    /// PUBACK: the message of `id` is delivered and given back. `None` for an id that is not in
    /// use, as after a repeated acknowledgement: ignore it.
    pub fn handle_puback(&mut self, id: PacketId) -> Result<Option<T>, WrongAck> {
        if id == self.first
            && let Some(Slot::Published(AckedQoS::AtLeastOnce, _)) = self.slots.front()
        {
            // The common one: it is the oldest.
            self.open -= 1;
            self.first = id.next();
            let slot = self.slots.pop_front();
            self.shed();
            return Ok(slot.and_then(Slot::into_item));
        }
        match self.slot(id) {
            None | Some(Slot::Done) => Ok(None),
            Some(slot @ Slot::Published(AckedQoS::AtLeastOnce, _)) => {
                let item = slot.take();
                self.open -= 1;
                self.shed();
                Ok(item)
            }
            Some(_) => Err(WrongAck(id)),
        }
    }

    /// PUBREC: the receiver owns the message, which is given back the first time. Answer with
    /// PUBREL whatever this returns: a receiver that sends PUBREC for an unknown id would wait for
    /// it forever.
    pub fn handle_pubrec(&mut self, id: PacketId) -> Result<Option<T>, WrongAck> {
        match self.slot(id) {
            None | Some(Slot::Done | Slot::Released) => Ok(None),
            Some(slot @ Slot::Published(AckedQoS::ExactlyOnce, _)) => {
                let item = slot.take();
                *slot = Slot::Released;
                Ok(item)
            }
            Some(_) => Err(WrongAck(id)),
        }
    }

    /// PUBCOMP: the exchange is over and its id free. False for an id that is not in use.
    pub fn handle_pubcomp(&mut self, id: PacketId) -> Result<bool, WrongAck> {
        match self.slot(id) {
            None | Some(Slot::Done) => Ok(false),
            Some(slot @ Slot::Released) => {
                *slot = Slot::Done;
                self.open -= 1;
                self.shed();
                Ok(true)
            }
            Some(_) => Err(WrongAck(id)),
        }
    }

    /// What a resumed session sends again, in the order in which it was sent first
    /// [MQTT-4.4.0-1], [MQTT-4.6.0-1].
    pub fn unfinished(&self) -> impl Iterator<Item = Unfinished<'_, T>> {
        let ids = std::iter::successors(Some(self.first), |id| Some(id.next()));
        ids.zip(&self.slots).filter_map(|(id, slot)| match slot {
            Slot::Published(qos, item) => Some(Unfinished::Publish { id, qos: *qos, item }),
            Slot::Released => Some(Unfinished::Release { id }),
            Slot::Reserved | Slot::Done => None,
        })
    }

    /// What a resumed session sends again for one id: for an owner that sends them a few at a time.
    pub fn unfinished_at(&self, id: PacketId) -> Option<Unfinished<'_, T>> {
        match self.slots.get(distance(self.first, id))? {
            Slot::Published(qos, item) => Some(Unfinished::Publish { id, qos: *qos, item }),
            Slot::Released => Some(Unfinished::Release { id }),
            Slot::Reserved | Slot::Done => None,
        }
    }

    /// Ends exchanges whose message nobody has acknowledged, and gives the messages back, in order.
    /// What the receiver still says to them is ignored.
    pub fn withdraw(&mut self, mut select: impl FnMut(AckedQoS, &T) -> bool) -> Vec<T> {
        let mut withdrawn = Vec::new();
        for slot in &mut self.slots {
            if matches!(slot, Slot::Published(qos, item) if select(*qos, item)) {
                withdrawn.extend(slot.take());
                self.open -= 1;
            }
        }
        self.shed();
        withdrawn
    }

    /// Takes up an exchange of an earlier life of the program: `None` for one whose PUBREC was seen.
    /// Exchanges are restored in the order in which they were sent, before any other is begun.
    /// False, and nothing is done, for an id that is restored already.
    pub fn restore(&mut self, id: PacketId, published: Option<(AckedQoS, T)>) -> bool {
        if self.slots.is_empty() {
            self.first = id;
        }
        let place = distance(self.first, id);
        if place < self.slots.len() {
            return false;
        }
        self.slots.resize_with(place, || Slot::Done);
        self.open += 1;
        self.slots.push_back(match published {
            Some((qos, item)) => Slot::Published(qos, item),
            None => Slot::Released,
        });
        true
    }

    /// Says which id comes next, as far as no exchange that was restored has it: for when all are
    /// restored.
    pub fn restore_next(&mut self, id: PacketId) {
        if self.slots.is_empty() {
            self.first = id;
            return;
        }
        let place = distance(self.first, id);
        if place > self.slots.len() {
            self.slots.resize_with(place, || Slot::Done);
        }
    }

    /// Ends every exchange, because the other side has forgotten the session. Ids begin at 1 again.
    pub fn abandon(&mut self) -> impl Iterator<Item = Abandoned<T>> + use<T> {
        let window = self.window;
        let slots = std::mem::replace(self, Self::new(window)).slots;
        slots.into_iter().filter_map(|slot| match slot {
            Slot::Published(qos, item) => Some(Abandoned::Publish(qos, item)),
            Slot::Released => Some(Abandoned::Released),
            Slot::Reserved | Slot::Done => None,
        })
    }

    fn push(&mut self, slot: Slot<T>) -> PacketId {
        let id = self.next_id();
        self.slots.push_back(slot);
        id
    }

    fn slot(&mut self, id: PacketId) -> Option<&mut Slot<T>> {
        self.slots.get_mut(distance(self.first, id))
    }

    /// Lets go of finished exchanges at the front, which frees their ids.
    fn shed(&mut self) {
        while let Some(Slot::Done) = self.slots.front() {
            self.slots.pop_front();
            self.first = self.first.next();
        }
        if self.slots.is_empty() && self.slots.capacity() > usize::from(self.window) {
            // A burst is over: an idle session holds no ring.
            self.slots = VecDeque::new();
        }
    }
}

impl<T> Default for Sender<T> {
    /// The window of the standard's own bound: every id may be in use.
    fn default() -> Self {
        Self::new(u16::MAX)
    }
}

impl<T> Slot<T> {
    fn into_item(self) -> Option<T> {
        match self {
            Self::Published(_, item) => Some(item),
            _ => None,
        }
    }

    /// Takes the message out; the slot is done unless the caller says otherwise.
    fn take(&mut self) -> Option<T> {
        std::mem::replace(self, Self::Done).into_item()
    }
}

/// The id `n` places after `id`, skipping 0.
fn nth_after(id: PacketId, n: u16) -> PacketId {
    let zero_based = (u32::from(id.get()) - 1 + u32::from(n)) % u32::from(u16::MAX);
    PacketId::new(zero_based as u16 + 1).unwrap_or(PacketId::MIN)
}

/// How many places `id` comes after `first`.
fn distance(first: PacketId, id: PacketId) -> usize {
    let (first, id) = (usize::from(first.get()), usize::from(id.get()));
    if id >= first { id - first } else { id + ALL_IDS - first }
}

#[cfg(test)]
mod tests {
    use super::*;
    use AckedQoS::{AtLeastOnce, ExactlyOnce};

    fn id(n: u16) -> PacketId {
        PacketId::new(n).unwrap()
    }

    #[test]
    fn ids_begin_at_1_and_go_up_by_1() {
        let mut sender = Sender::new(10);
        assert_eq!(sender.begin(AtLeastOnce, 'a'), Ok(id(1)));
        assert_eq!(sender.begin(ExactlyOnce, 'b'), Ok(id(2)));
        assert_eq!(sender.reserve(), Some(id(3)));
        assert_eq!(sender.begin(AtLeastOnce, 'c'), Ok(id(4)));
    }

    #[test]
    fn messages_that_begin_together_take_ids_in_a_row_and_no_more_than_there_are() {
        let mut sender = Sender::new(4);
        sender.begin(ExactlyOnce, 'a').unwrap();
        assert_eq!((sender.room(), sender.next_id()), (3, id(2)));
        sender.begin_all(AtLeastOnce, "bcde".chars());
        assert_eq!((sender.room(), sender.in_flight()), (0, 4));
        assert_eq!(sender.handle_puback(id(3)), Ok(Some('c')));
        assert_eq!(sender.handle_puback(id(5)), Ok(None), "'e' has not begun");
        assert_eq!((sender.room(), sender.next_id()), (1, id(5)));
    }

    // MQTT-2.3.1-2, MQTT-2.3.1-4
    #[test]
    fn no_id_is_given_out_while_it_is_in_use() {
        let mut sender = Sender::new(u16::MAX);
        for n in 1..=u16::MAX {
            assert_eq!(sender.begin(AtLeastOnce, n), Ok(id(n)));
        }
        assert_eq!(sender.begin(AtLeastOnce, 0), Err(0));
        assert_eq!(sender.reserve(), None);
        assert_eq!(sender.handle_puback(id(1)), Ok(Some(1)));
        assert_eq!(sender.begin(AtLeastOnce, 0), Ok(id(1)), "wraps past 0 to the free id");
        assert_eq!(sender.handle_puback(id(2)), Ok(Some(2)));
        assert_eq!(sender.reserve(), Some(id(2)));
    }

    // MQTT-2.3.1-2. The window has room for more messages than there are ids.
    #[test]
    fn ids_of_requests_are_not_given_to_messages() {
        let mut sender = Sender::new(u16::MAX);
        for n in 1..=5 {
            assert_eq!(sender.reserve(), Some(id(n)));
        }
        for n in 6..=u16::MAX {
            assert_eq!(sender.begin(AtLeastOnce, n), Ok(id(n)));
        }
        assert_eq!(sender.begin(AtLeastOnce, 0), Err(0));
        assert_eq!(sender.handle_puback(id(6)), Ok(Some(6)));
        assert_eq!(sender.begin(AtLeastOnce, 0), Err(0), "the next id is still reserved");
        assert!(sender.release(id(1)));
        assert_eq!(sender.begin(AtLeastOnce, 0), Ok(id(1)));
    }

    // MQTT-2.3.1-3, MQTT-4.3.3-1
    #[test]
    fn a_qos_2_id_is_free_only_after_pubcomp() {
        let mut sender = Sender::new(1);
        assert_eq!(sender.begin(ExactlyOnce, 'a'), Ok(id(1)));
        assert_eq!(sender.handle_pubrec(id(1)), Ok(Some('a')));
        assert_eq!(sender.begin(ExactlyOnce, 'b'), Err('b'));
        assert_eq!(sender.unfinished().collect::<Vec<_>>(), [Unfinished::Release { id: id(1) }]);
        assert_eq!(sender.handle_pubrec(id(1)), Ok(None), "repeated");
        assert_eq!(sender.handle_pubcomp(id(1)), Ok(true));
        assert_eq!(sender.handle_pubcomp(id(1)), Ok(false), "repeated");
        assert_eq!(sender.begin(ExactlyOnce, 'b'), Ok(id(2)));
    }

    // MQTT-4.6.0-1
    #[test]
    fn what_is_unfinished_comes_in_the_order_of_the_first_sending() {
        let mut sender = Sender::new(10);
        for (qos, item) in [(AtLeastOnce, 'a'), (ExactlyOnce, 'b'), (AtLeastOnce, 'c')] {
            sender.begin(qos, item).unwrap();
        }
        sender.reserve().unwrap();
        sender.handle_pubrec(id(2)).unwrap();
        let unfinished: Vec<_> = sender.unfinished().collect();
        assert_eq!(
            unfinished,
            [
                Unfinished::Publish { id: id(1), qos: AtLeastOnce, item: &'a' },
                Unfinished::Release { id: id(2) },
                Unfinished::Publish { id: id(3), qos: AtLeastOnce, item: &'c' },
            ]
        );
        let one_by_one = (0..=5).filter_map(PacketId::new);
        assert!(one_by_one.filter_map(|id| sender.unfinished_at(id)).eq(unfinished));
    }

    // MQTT-2.3.1-2
    #[test]
    fn restored_exchanges_keep_their_ids_and_order() {
        let mut sender = Sender::new(10);
        assert!(sender.restore(id(65_534), Some((AtLeastOnce, 'a'))));
        assert!(sender.restore(id(1), None));
        assert!(!sender.restore(id(1), None));
        assert!(sender.restore(id(2), Some((ExactlyOnce, 'b'))));
        assert_eq!(sender.in_flight(), 3);
        assert_eq!(sender.begin(AtLeastOnce, 'c'), Ok(id(3)));
        assert_eq!(
            sender.unfinished().collect::<Vec<_>>(),
            [
                Unfinished::Publish { id: id(65_534), qos: AtLeastOnce, item: &'a' },
                Unfinished::Release { id: id(1) },
                Unfinished::Publish { id: id(2), qos: ExactlyOnce, item: &'b' },
                Unfinished::Publish { id: id(3), qos: AtLeastOnce, item: &'c' },
            ]
        );
        assert_eq!(sender.handle_pubcomp(id(1)), Ok(true));
        assert_eq!(sender.handle_puback(id(65_534)), Ok(Some('a')));
    }

    #[test]
    fn acknowledgements_of_the_wrong_kind_are_told_from_unknown_ones() {
        let mut sender = Sender::new(10);
        sender.begin(AtLeastOnce, 'a').unwrap();
        sender.begin(ExactlyOnce, 'b').unwrap();
        assert_eq!(sender.handle_pubrec(id(1)), Err(WrongAck(id(1))));
        assert_eq!(sender.handle_pubcomp(id(1)), Err(WrongAck(id(1))));
        assert_eq!(sender.handle_puback(id(2)), Err(WrongAck(id(2))));
        assert_eq!(sender.handle_pubcomp(id(2)), Err(WrongAck(id(2))));
        assert_eq!(sender.handle_puback(id(3)), Ok(None));
        assert_eq!(sender.handle_puback(id(65_535)), Ok(None));
        assert_eq!(sender.in_flight(), 2);
    }

    #[test]
    fn a_message_that_is_never_acknowledged_bounds_the_ring() {
        let mut sender = Sender::new(2);
        sender.begin(AtLeastOnce, 0).unwrap();
        for n in 1..8 {
            let newer = sender.begin(AtLeastOnce, n).unwrap();
            sender.handle_puback(newer).unwrap();
        }
        assert_eq!(sender.begin(AtLeastOnce, 9), Err(9), "eight ids span four windows of two");
        assert_eq!(sender.handle_puback(id(1)), Ok(Some(0)));
        assert_eq!(sender.begin(AtLeastOnce, 9), Ok(id(9)));
    }

    #[test]
    fn withdrawn_messages_free_their_ids() {
        let mut sender = Sender::new(10);
        for (qos, item) in [(AtLeastOnce, 'a'), (ExactlyOnce, 'b'), (AtLeastOnce, 'c')] {
            sender.begin(qos, item).unwrap();
        }
        sender.begin(ExactlyOnce, 'd').unwrap();
        sender.handle_pubrec(id(4)).unwrap();
        assert_eq!(sender.withdraw(|_, item| *item != 'b'), ['a', 'c'], "'d' is the receiver's");
        assert_eq!(sender.in_flight(), 2);
        assert_eq!(sender.handle_puback(id(1)), Ok(None));
        assert_eq!(sender.begin(AtLeastOnce, 'e'), Ok(id(5)));
    }

    #[test]
    fn abandoning_tells_what_was_open_and_begins_anew() {
        let mut sender = Sender::new(2);
        sender.begin(AtLeastOnce, 'a').unwrap();
        sender.begin(ExactlyOnce, 'b').unwrap();
        sender.handle_pubrec(id(2)).unwrap();
        let open: Vec<_> = sender.abandon().collect();
        assert_eq!(open, [Abandoned::Publish(AtLeastOnce, 'a'), Abandoned::Released]);
        assert!(sender.is_empty());
        assert_eq!(sender.begin(AtLeastOnce, 'c'), Ok(id(1)));
        assert!(sender.has_room(), "the window is as before");
        sender.begin(AtLeastOnce, 'd').unwrap();
        assert!(!sender.has_room(), "the window is as before");
    }
}
