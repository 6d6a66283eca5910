//! One timer for the keep alives of all connections.

use std::collections::BTreeMap;
use std::pin::pin;
use std::task::{Context, Poll, Waker, ready};

use tokio::time::{Instant, sleep_until};

use crate::moment::{Moment, Origin};
use crate::session::Session;
use crate::sync::{Arc, AtomicBool, Mutex, Ordering};

/// An alarm may ring late by this part of the time that was to wait, so that one look at the clock is
/// for many connections: with a keep alive of a minute they share less than a hundred lists, and the
/// clock is looked at once a second.
const LATENESS: u64 = 64;

/// Milliseconds after which an alarm that found the task awake rings once more.
const AGAIN: u64 = 1000;

/// Nanoseconds in a [`Tick`], by their power of two: 67 ms.
const TICK: u32 = 26;

/// The coarse time that an [`Alarm`] keeps. After nine years of ticks it stands still, and each alarm is
/// set anew each time.
type Tick = u32;

/// Wakes the tasks of connections whose clients may have been silent for too long.
///
/// An entry is 16 bytes. A timer of tokio's for each connection is 120, and took 10 % of the memory of
/// an idle one.
///
/// A task keeps the time, on the runtime of the connection that needed it first. When that runtime ends,
/// a connection that is served by another one starts it there.
#[derive(Debug)]
pub(crate) struct Alarms {
    origin: Arc<Origin>,
    book: Mutex<Book>,
    /// Whether there is such a task. It changes under the lock only. A connection that sees an old value
    /// has left its waker before, under the session's lock, and is woken by the task that ends.
    is_kept: AtomicBool,
}

/// One connection's place among them.
#[derive(Debug, Default)]
pub(super) struct Alarm {
    /// What it was set to. It has not rung before.
    due: Tick,
    /// Its entry, or 0.
    place: u32,
}

#[derive(Debug)]
struct Book {
    /// Lists by the millisecond in which they ring. An entry of its own stands for both ends of a list.
    lists: BTreeMap<u64, u32>,
    entries: Vec<Entry>,
    /// An entry that nobody uses, and by its `next` all others, or 0.
    free: u32,
    /// What the task sleeps until, and its waker.
    keeper: Option<(u64, Option<Waker>)>,
}

/// Part of a circle, if only of one entry.
#[derive(Debug)]
struct Entry {
    /// Its waker is the one that the connection's task left last.
    session: Option<Arc<Session>>,
    next: u32,
    previous: u32,
}

/// The task that keeps the time, as long as it is needed.
struct Keeper(Option<Arc<Alarms>>);

impl Alarms {
    pub(crate) fn new(origin: &Arc<Origin>) -> Self {
        Self { origin: Arc::clone(origin), book: Mutex::default(), is_kept: AtomicBool::new(false) }
    }

    /// Sees to it that the task of `session` is polled when `due` is over. To be called each time the
    /// task waits: nothing is done as long as the alarm rings early enough, and one that rings too early
    /// is set anew then.
    pub(super) fn set(
        self: &Arc<Self>,
        alarm: &mut Alarm,
        session: &Arc<Session>,
        due: Moment,
        now: Moment,
    ) {
        let is_set = alarm.due <= ticks(due) && alarm.due > ticks(now);
        if is_set && self.is_kept.load(Ordering::Relaxed) {
            return;
        }
        alarm.due = ticks(due);
        let time = round(due, now);
        let mut book = self.book.lock();
        book.insert(&mut alarm.place, session, time);
        match &mut book.keeper {
            Some((until, waker)) if time < *until => {
                *until = time;
                let waker = waker.take();
                drop(book);
                waker.into_iter().for_each(Waker::wake);
            }
            Some(_) => {}
            None => {
                book.keeper = Some((time, None));
                self.is_kept.store(true, Ordering::Relaxed);
                drop(book);
                tokio::spawn(Keeper(Some(Arc::clone(self))).run());
            }
        }
    }

    /// The connection is over.
    pub(super) fn clear(&self, alarm: &mut Alarm) {
        if alarm.place != 0 {
            let session = self.book.lock().remove(std::mem::take(&mut alarm.place));
            // When the lock is open again: it may be the last handle.
            drop(session);
        }
    }

    /// Wakes who is due, and tells when the next are. `None` ends the task.
    fn ring(&self, now: Instant, cx: &Context<'_>) -> Option<Instant> {
        let passed = millis(self.origin.moment(now.into_std()));
        let mut rung: Vec<Waker> = Vec::new();
        let mut book = self.book.lock();
        let next = loop {
            match book.lists.first_entry() {
                Some(list) if *list.key() <= passed => {
                    let ends = list.remove();
                    book.ring(ends, passed, &mut rung);
                }
                first => break first.map(|list| *list.key()),
            }
        };
        book.keeper = next.map(|time| (time, Some(cx.waker().clone())));
        self.is_kept.store(next.is_some(), Ordering::Relaxed);
        drop(book);
        rung.into_iter().for_each(Waker::wake);
        self.origin.time(Moment::from_millis(next?)).map(Instant::from_std)
    }
}

impl Keeper {
    async fn run(mut self) {
        let mut sleep = pin!(sleep_until(Instant::now()));
        std::future::poll_fn(|cx| {
            while let Some(next) = self.0.as_ref().and_then(|a| a.ring(Instant::now(), cx)) {
                sleep.as_mut().reset(next);
                ready!(sleep.as_mut().poll(cx));
            }
            // There may be another task by now.
            self.0 = None;
            Poll::Ready(())
        })
        .await;
    }
}

impl Drop for Keeper {
    /// The runtime ends. Connections that other runtimes serve are woken to go on with another task.
    fn drop(&mut self) {
        let Some(alarms) = &self.0 else { return };
        let mut book = alarms.book.lock();
        book.keeper = None;
        alarms.is_kept.store(false, Ordering::Relaxed);
        let served = book.entries.iter().filter_map(|entry| entry.session.as_ref());
        let wakes: Vec<_> = served.filter_map(|session| session.lock().ring()).collect();
        drop(book);
        wakes.into_iter().for_each(Waker::wake);
    }
}

#[expect(clippy::indexing_slicing, reason = "entries are never taken away, and lead to each other")]
impl Book {
    /// Puts the entry at `place`, or a new one, into the list for a time.
    fn insert(&mut self, place: &mut u32, session: &Arc<Session>, time: u64) {
        if *place == 0 {
            *place = self.add();
        }
        let ends = match self.lists.get(&time) {
            Some(ends) => *ends,
            None => {
                let ends = self.add();
                self.lists.insert(time, ends);
                ends
            }
        };
        self.unlink(*place);
        let next = self.entries[ends as usize].next;
        self.entries[*place as usize] =
            Entry { session: Some(Arc::clone(session)), next, previous: ends };
        self.entries[ends as usize].next = *place;
        self.entries[next as usize].previous = *place;
    }

    /// Takes everybody out of a list that is over. The entries stay with their alarms.
    fn ring(&mut self, ends: u32, now: u64, wakes: &mut Vec<Waker>) {
        loop {
            let mut place = self.entries[ends as usize].next;
            let Some(session) = self.entries[place as usize].session.take() else { break };
            let waker = session.lock().ring();
            match waker {
                Some(waker) => {
                    wakes.push(waker);
                    self.unlink(place);
                }
                // The task is awake. It may have looked at the clock a moment too early.
                None => self.insert(&mut place, &session, now + AGAIN),
            }
        }
        self.remove(ends);
    }

    /// An entry alone.
    fn add(&mut self) -> u32 {
        if self.free == 0 {
            let place = self.entries.len() as u32;
            self.entries.push(Entry { session: None, next: place, previous: place });
            return place;
        }
        let place = self.free;
        self.free = std::mem::replace(&mut self.entries[place as usize].next, place);
        place
    }

    fn unlink(&mut self, place: u32) {
        let Entry { next, previous, .. } = self.entries[place as usize];
        self.entries[previous as usize].next = next;
        self.entries[next as usize].previous = previous;
        let entry = &mut self.entries[place as usize];
        (entry.next, entry.previous) = (place, place);
    }

    fn remove(&mut self, place: u32) -> Option<Arc<Session>> {
        self.unlink(place);
        let entry = &mut self.entries[place as usize];
        entry.next = std::mem::replace(&mut self.free, place);
        entry.session.take()
    }
}

impl Default for Book {
    fn default() -> Self {
        // The first entry is nobody's.
        let nobody = Entry { session: None, next: 0, previous: 0 };
        Self { lists: BTreeMap::new(), entries: vec![nobody], free: 0, keeper: None }
    }
}

/// The millisecond in which an alarm rings that is due then.
fn round(due: Moment, now: Moment) -> u64 {
    let step = 1 << (millis(due).saturating_sub(millis(now)) / LATENESS).max(1).ilog2();
    // The next millisecond is the first one that it is over in.
    (millis(due) + 1).next_multiple_of(step)
}

fn millis(moment: Moment) -> u64 {
    moment.nanos() / 1_000_000
}

fn ticks(moment: Moment) -> Tick {
    Tick::try_from(moment.nanos() >> TICK).unwrap_or(Tick::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;
    use crate::router::ReceiverId;
    use crate::session::{Link, State};
    use crate::{Broker, Client, Config, PeerInfo, serve_connection};

    #[test]
    fn an_alarm_is_late_by_a_part_of_its_time_and_never_early() {
        let origin = Origin::default();
        let start = std::time::Instant::now();
        let at = |seconds: f64| origin.moment(start + Duration::from_secs_f64(seconds));
        let now = at(0.0);
        for due in [0.0001, 0.02, 1.5, 3.0, 89.9, 90.0, 90.1, 98_302.5] {
            let rings = round(at(due), now) as f64 / 1000.0;
            assert!(rings > due && rings <= due * (1.0 + 1.0 / LATENESS as f64) + 0.002, "{due}");
        }
        let minute: std::collections::BTreeSet<_> = (0..6000)
            .map(|n| round(at(90.0 + f64::from(n) / 100.0), at(f64::from(n) / 100.0)))
            .collect();
        assert!(minute.len() < 100, "{} lists", minute.len());
    }

    // It may have looked at the clock just before it was due.
    #[test]
    fn an_alarm_that_finds_a_task_awake_rings_again() {
        let client = Arc::new(Client::nobody());
        let state = State::new(Link::Connected, &Config::default());
        let session = Arc::new(Session::new(ReceiverId::session(1), client, true, state));
        let (mut book, mut place, mut rung) = (Book::default(), 0, Vec::new());
        book.insert(&mut place, &session, 5);
        let ends = book.lists.remove(&5).unwrap();
        book.ring(ends, 7, &mut rung);
        assert!(rung.is_empty());
        session.lock().register(Waker::noop(), false);
        let ends = book.lists.remove(&(7 + AGAIN)).expect("it is set anew");
        book.ring(ends, 7 + AGAIN, &mut rung);
        assert_eq!((rung.len(), book.lists.len()), (1, 0));
    }

    // Clients that come and go would otherwise leave something behind for a day each.
    #[tokio::test(start_paused = true)]
    async fn a_connection_that_is_over_leaves_nothing_behind() {
        let broker = Broker::new(Config::default(), ());
        for _ in 0..200 {
            let (mut near, far) = duplex(100);
            let task = tokio::spawn(serve_connection(&broker, far, PeerInfo::default()));
            near.write_all(b"\x10\x0d\0\x04MQTT\x04\x02\xff\xff\0\x01a").await.unwrap();
            near.read_exact(&mut [0; 4]).await.unwrap();
            drop(near);
            task.await.unwrap().unwrap();
        }
        let book = broker.shared().alarms.book.lock();
        assert!(book.entries.len() < 5, "{} entries", book.entries.len());
        assert!(book.entries.iter().all(|entry| entry.session.is_none()));
    }
}
