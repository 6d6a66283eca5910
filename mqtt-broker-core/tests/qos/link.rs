//! Two ends that exchange QoS 1 and 2 messages over a link that is cut, and what must hold at every
//! moment. The steps are plain bytes, so that proptest and the fuzz target `qos` drive the same link.

use std::collections::{BTreeMap, VecDeque};

use mqtt_broker_core::qos::{Abandoned, AckedQoS, Receiver, Seen, Sender, Unfinished, WrongAck};
use mqtt_codec::{Ack, PacketId};

/// Number of a message in the order of first sending.
pub(crate) type Item = usize;

/// What an id is used for, as the sending end has to see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    Published(AckedQoS, Item),
    Released,
    Reserved,
}

#[derive(Clone, Copy, Debug)]
enum Packet {
    Publish { id: PacketId, qos: AckedQoS, item: Item },
    PubRel(PacketId),
}

/// The two ends, what is on the way between them, and what is known of both.
pub(crate) struct Link {
    sender: Sender<Item>,
    receiver: Receiver,
    to_receiver: VecDeque<Packet>,
    to_sender: VecDeque<Ack>,
    window: usize,
    /// The ids in use.
    in_use: BTreeMap<PacketId, Use>,
    /// Every id that was given out since the oldest one in use, that one included.
    span: VecDeque<PacketId>,
    /// Each message of this session.
    messages: Vec<Message>,
}

struct Message {
    qos: AckedQoS,
    /// How often it was delivered.
    times: usize,
    /// The sending end has taken it back, so it need not arrive.
    is_withdrawn: bool,
}

/// A sending end whose next id comes after `used` others.
pub(crate) fn sender(window: u16, used: u16) -> Sender<Item> {
    let mut sender = Sender::new(window);
    for _ in 0..used {
        let id = sender.reserve().unwrap();
        assert!(sender.release(id));
    }
    sender
}

impl Link {
    /// A link with a sending end of this window, on which nothing is unfinished.
    pub(crate) fn new(sender: Sender<Item>, window: u16) -> Self {
        assert!(sender.is_empty());
        Self {
            sender,
            // What the window bounds at one end needs no more room at the other.
            receiver: Receiver::new(window.max(1).into()),
            to_receiver: VecDeque::new(),
            to_sender: VecDeque::new(),
            window: window.max(1).into(),
            in_use: BTreeMap::new(),
            span: VecDeque::new(),
            messages: Vec::new(),
        }
    }

    /// Does what one byte says, and `amount` how much of it or to whom.
    pub(crate) fn step(&mut self, what: u8, amount: u8) {
        match what % 16 {
            0..4 => self.publish(match amount % 2 {
                0 => AckedQoS::AtLeastOnce,
                _ => AckedQoS::ExactlyOnce,
            }),
            4..7 => self.carry_packets(amount.into()),
            7..10 => self.carry_answers(amount.into()),
            10 => self.cut(amount),
            11 => self.reserve(),
            12 if amount < 200 => self.release(amount),
            12 => self.withdraw(amount.into()),
            13..15 => self.answer_wrongly(what, amount),
            _ if amount < 16 => self.lose_session(),
            _ => self.carry_packets(usize::MAX),
        }
        self.check();
    }

    /// Brings everything that is on the way to its end.
    pub(crate) fn conclude(mut self) {
        self.cut(0);
        while !self.to_receiver.is_empty() || !self.to_sender.is_empty() {
            self.carry_packets(usize::MAX);
            self.carry_answers(usize::MAX);
            self.check();
        }
        for id in self.reserved() {
            assert!(self.sender.release(id));
        }
        for (item, message) in self.messages.iter().enumerate() {
            match message.qos {
                AckedQoS::AtLeastOnce if message.is_withdrawn => {}
                AckedQoS::AtLeastOnce => assert!(message.times >= 1, "message {item} is lost"),
                AckedQoS::ExactlyOnce => assert_eq!(message.times, 1, "message {item}"),
            }
        }
        assert!(self.sender.is_empty(), "an id is never free again");
        assert_eq!(self.sender.in_flight(), 0);
        assert_eq!(self.receiver.open(), 0, "an id is never released");
    }

    fn publish(&mut self, qos: AckedQoS) {
        let item = self.messages.len();
        let has_room = self.sender.has_room();
        // A window of holes behind the oldest message costs as much as one of messages.
        let span_has_room = self.span.len() < (self.window * 4).min(65_535);
        assert_eq!(has_room, self.in_flight() < self.window && span_has_room);
        let next = self.sender.next_id();
        match self.sender.begin(qos, item) {
            Ok(id) => {
                assert!(has_room);
                assert_eq!(id, next);
                self.take(id, Use::Published(qos, item));
                self.to_receiver.push_back(Packet::Publish { id, qos, item });
                self.messages.push(Message { qos, times: 0, is_withdrawn: false });
            }
            Err(back) => assert!(!has_room && back == item),
        }
    }

    fn carry_packets(&mut self, count: usize) {
        for _ in 0..count {
            let Some(packet) = self.to_receiver.pop_front() else { return };
            let answer = match packet {
                Packet::Publish { id, qos: AckedQoS::AtLeastOnce, item } => {
                    self.deliver(item);
                    Ack::PubAck(id)
                }
                Packet::Publish { id, qos: AckedQoS::ExactlyOnce, item } => {
                    match self.receiver.handle_publish(id).expect("the window bounds this") {
                        Seen::First => self.deliver(item),
                        Seen::Again => assert_eq!(self.messages[item].times, 1),
                    }
                    Ack::PubRec(id)
                }
                Packet::PubRel(id) => {
                    self.receiver.handle_pubrel(id);
                    Ack::PubComp(id)
                }
            };
            self.to_sender.push_back(answer);
        }
    }

    fn deliver(&mut self, item: Item) {
        let is_over = |message: &&Message| message.times > 0 || message.is_withdrawn;
        let so_far = self.messages.iter().take_while(is_over).count();
        assert!(item <= so_far, "message {item} overtakes message {so_far}");
        self.messages[item].times += 1;
    }

    fn carry_answers(&mut self, count: usize) {
        for _ in 0..count {
            let Some(answer) = self.to_sender.pop_front() else { return };
            match answer {
                Ack::PubAck(id) => {
                    let item = self.sender.handle_puback(id).unwrap();
                    assert_eq!(item.is_some(), self.in_use.contains_key(&id));
                    if let Some(item) = item {
                        self.expect(id, Use::Published(AckedQoS::AtLeastOnce, item));
                        self.free(id);
                    }
                }
                Ack::PubRec(id) => {
                    let item = self.sender.handle_pubrec(id).unwrap();
                    match item {
                        Some(item) => self.expect(id, Use::Published(AckedQoS::ExactlyOnce, item)),
                        None => assert!(matches!(self.in_use.get(&id), None | Some(Use::Released))),
                    }
                    if item.is_some() {
                        self.in_use.insert(id, Use::Released);
                    }
                    self.to_receiver.push_back(Packet::PubRel(id));
                }
                Ack::PubComp(id) => {
                    let over = self.sender.handle_pubcomp(id).unwrap();
                    assert_eq!(over, self.in_use.contains_key(&id));
                    if over {
                        self.expect(id, Use::Released);
                        self.free(id);
                    }
                }
                other => panic!("a receiver does not answer with {other:?}"),
            }
        }
    }

    /// The link breaks in the middle of what is on the way, and a new one takes up the session.
    fn cut(&mut self, amount: u8) {
        self.carry_packets((amount & 15).into());
        self.carry_answers((amount >> 4).into());
        self.to_receiver.clear();
        self.to_sender.clear();
        let mut expected = self.span.iter().filter_map(|id| match self.in_use.get(id)? {
            Use::Published(qos, item) => Some(Unfinished::Publish { id: *id, qos: *qos, item }),
            Use::Released => Some(Unfinished::Release { id: *id }),
            Use::Reserved => None,
        });
        for unfinished in self.sender.unfinished() {
            assert_eq!(expected.next(), Some(unfinished));
            let (Unfinished::Publish { id, .. } | Unfinished::Release { id }) = unfinished;
            assert_eq!(self.sender.unfinished_at(id), Some(unfinished));
            self.to_receiver.push_back(match unfinished {
                Unfinished::Publish { id, qos, item } => Packet::Publish { id, qos, item: *item },
                Unfinished::Release { id } => Packet::PubRel(id),
            });
        }
        assert_eq!(expected.next(), None);
    }

    /// An id for a SUBSCRIBE, which the window does not count.
    fn reserve(&mut self) {
        if self.reserved().len() < 8 {
            let id = self.sender.reserve().expect("there are more ids than that");
            self.take(id, Use::Reserved);
        }
    }

    fn release(&mut self, amount: u8) {
        let reserved = self.reserved();
        let id = match reserved.get(usize::from(amount)) {
            Some(id) => *id,
            None => self.some_id(amount),
        };
        let is_reserved = reserved.contains(&id);
        assert_eq!(self.sender.release(id), is_reserved);
        if is_reserved {
            self.free(id);
        }
    }

    /// Takes back every other message of QoS 1. One of QoS 2 may be half-way to the receiver.
    fn withdraw(&mut self, amount: usize) {
        let is_meant =
            |qos, item: Item| qos == AckedQoS::AtLeastOnce && (item + amount).is_multiple_of(2);
        let expected: Vec<_> = self
            .span
            .iter()
            .filter_map(|id| match self.in_use.get(id)? {
                Use::Published(qos, item) if is_meant(*qos, *item) => Some((*id, *item)),
                _ => None,
            })
            .collect();
        let withdrawn = self.sender.withdraw(|qos, item| is_meant(qos, *item));
        assert!(withdrawn.iter().eq(expected.iter().map(|(_, item)| item)));
        for (id, item) in expected {
            self.messages[item].is_withdrawn = true;
            self.free(id);
        }
    }

    /// An acknowledgement of a peer that is wrong about what it has received. Those that happen to
    /// fit are left out: nobody can tell that they are wrong.
    fn answer_wrongly(&mut self, what: u8, amount: u8) {
        let id = self.some_id(amount);
        let known = self.in_use.get(&id).copied();
        let before = self.sender.in_flight();
        let wrong = match known {
            None => Ok(()),
            Some(_) => Err(WrongAck(id)),
        };
        match (what / 16 % 3, known) {
            (0, Some(Use::Published(AckedQoS::AtLeastOnce, _))) => {}
            (0, _) => assert_eq!(self.sender.handle_puback(id).map(|i| assert_eq!(i, None)), wrong),
            (1, Some(Use::Published(AckedQoS::ExactlyOnce, _))) => {}
            (1, Some(Use::Released)) => assert_eq!(self.sender.handle_pubrec(id), Ok(None)),
            (1, _) => assert_eq!(self.sender.handle_pubrec(id).map(|i| assert_eq!(i, None)), wrong),
            (2, Some(Use::Released)) => {}
            (_, _) => assert_eq!(self.sender.handle_pubcomp(id).map(|over| assert!(!over)), wrong),
        }
        assert_eq!(self.sender.in_flight(), before);
    }

    /// Both ends begin a new session.
    fn lose_session(&mut self) {
        let expected: Vec<_> = self
            .span
            .iter()
            .filter_map(|id| match self.in_use.get(id)? {
                Use::Published(qos, item) => Some(Abandoned::Publish(*qos, *item)),
                Use::Released => Some(Abandoned::Released),
                Use::Reserved => None,
            })
            .collect();
        assert!(self.sender.abandon().eq(expected));
        self.receiver.clear();
        self.to_receiver.clear();
        self.to_sender.clear();
        self.in_use.clear();
        self.span.clear();
        self.messages.clear();
        assert_eq!(self.sender.next_id(), PacketId::MIN);
    }

    fn check(&self) {
        assert_eq!(self.sender.in_flight(), self.in_flight());
        assert!(self.in_flight() <= self.window);
        assert_eq!(self.sender.is_empty(), self.in_use.is_empty());
        // What the receiving end still knows, the sending end has not finished.
        assert!(self.receiver.ids().all(|id| self.in_use.contains_key(&id)));
        assert_eq!(self.receiver.ids().count(), self.receiver.open());
    }

    /// Messages between PUBLISH and the last acknowledgement.
    fn in_flight(&self) -> usize {
        self.in_use.values().filter(|used| **used != Use::Reserved).count()
    }

    fn reserved(&self) -> Vec<PacketId> {
        let reserved = self.in_use.iter().filter(|(_, used)| **used == Use::Reserved);
        reserved.map(|(id, _)| *id).collect()
    }

    /// An id near the ones in use, so that most are.
    fn some_id(&self, amount: u8) -> PacketId {
        let first = self.span.front().copied().unwrap_or(PacketId::MIN);
        let ids = std::iter::successors(Some(first), |id| Some(id.next()));
        ids.take(self.span.len() + 3).cycle().nth(amount.into()).unwrap_or(first)
    }

    // MQTT-2.3.1-2
    #[track_caller]
    fn take(&mut self, id: PacketId, used: Use) {
        assert_eq!(self.in_use.insert(id, used), None, "id {id} is given out twice");
        if let Some(last) = self.span.back() {
            assert_eq!(id, last.next(), "ids go up by one");
        }
        self.span.push_back(id);
    }

    fn free(&mut self, id: PacketId) {
        self.in_use.remove(&id);
        while self.span.front().is_some_and(|first| !self.in_use.contains_key(first)) {
            self.span.pop_front();
        }
    }

    #[track_caller]
    fn expect(&self, id: PacketId, used: Use) {
        assert_eq!(self.in_use.get(&id), Some(&used), "id {id}");
    }
}
