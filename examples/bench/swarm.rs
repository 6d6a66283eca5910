use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use mqtt_codec::{
    ConnectFields, DecodeError, MAX_PACKET, Packet, PacketId, QoS, Subscribe, Text, TopicFilter,
    decode,
};
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use thiserror::Error;

/// Bytes read at a time: a whole window of most workloads.
const READ_SIZE: usize = 256 << 10;

/// How long a broker may take for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Keep alive of all connections in seconds: longer than any workload, so that nobody has to ping,
/// and not none, so that the broker has the deadline to watch.
const KEEP_ALIVE: u16 = 900;

/// What makes a measurement worthless.
#[derive(Debug, Error)]
pub enum Fault {
    /// A message came after its successor, or its predecessor is lost.
    #[error("stream {stream}: message {number} came where {due} was due")]
    Missing {
        /// Its stream.
        stream: u32,
        /// Its number.
        number: u32,
        /// The number that was due.
        due: u32,
    },
    /// A message came again.
    #[error("stream {stream}: message {number} came again; {due} was due")]
    Doubled {
        /// Its stream.
        stream: u32,
        /// Its number.
        number: u32,
        /// The number that was due.
        due: u32,
    },
    /// A message is none of ours.
    #[error("a message came that was not sent")]
    Foreign,
    /// The broker refused a client or a subscription.
    #[error("the broker refused {0}")]
    Refused(String),
    /// The broker closed a connection.
    #[error("the broker closed a connection")]
    Closed,
    /// Nothing came for a long time.
    #[error("nothing came for a long time, and {0} messages are missing")]
    Stalled(u64),
    /// The broker sent what is not MQTT.
    #[error(transparent)]
    Protocol(#[from] DecodeError),
    /// A socket failed, or the broker's process is gone.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The connections of the generator, on one thread.
#[derive(Debug)]
pub(crate) struct Swarm {
    address: SocketAddr,
    poll: Poll,
    events: Events,
    links: Vec<Link>,
    /// Links with something to write.
    dirty: Vec<usize>,
    scratch: Vec<u8>,
    ticker: Option<TimerFd>,
}

/// Of the ticker among the sockets.
const TICK: Token = Token(usize::MAX);

#[derive(Debug)]
struct Link {
    stream: TcpStream,
    /// The beginning of a packet whose end has not come.
    tail: Vec<u8>,
    out: Vec<u8>,
    written: usize,
    is_dirty: bool,
}

impl Swarm {
    pub(crate) fn new(address: SocketAddr) -> io::Result<Self> {
        Ok(Self {
            address,
            poll: Poll::new()?,
            events: Events::with_capacity(1024),
            links: Vec::new(),
            dirty: Vec::new(),
            scratch: vec![0; READ_SIZE],
            ticker: None,
        })
    }

    /// Ends a wait of [`turn`](Self::turn) at each tick. A timer of the kernel, because a timeout of
    /// `epoll` counts in milliseconds, and a generator that spins is taken off its core just when
    /// others want it.
    pub(crate) fn tick_every(&mut self, interval: Duration) -> io::Result<()> {
        let ticker = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK)?;
        ticker.set(Expiration::Interval(interval.into()), TimerSetTimeFlags::empty())?;
        let fd = ticker.as_fd().as_raw_fd();
        self.poll.registry().register(&mut SourceFd(&fd), TICK, Interest::READABLE)?;
        self.ticker = Some(ticker);
        Ok(())
    }

    /// Connects a client with a clean session, and waits for the answer. Gives its number, which
    /// counts from 0.
    pub(crate) fn connect(&mut self, client_id: &str) -> Result<usize, Fault> {
        self.connect_with(client_id, true)
    }

    /// The same, with a session that is kept or not.
    pub(crate) fn connect_with(
        &mut self,
        client_id: &str,
        clean_session: bool,
    ) -> Result<usize, Fault> {
        let mut stream = std::net::TcpStream::connect(self.address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let fields = ConnectFields {
            clean_session,
            keep_alive: KEEP_ALIVE,
            ..ConnectFields::new(Text::new(client_id).expect("ids are short and plain"))
        };
        let connect = mqtt_codec::Connect::new(&fields).expect("the fields fit into a packet");
        stream.write_all(&bytes(&Packet::Connect(connect)))?;
        let mut connack = [0; 4];
        stream.read_exact(&mut connack)?;
        if connack[3] != 0 {
            return Err(Fault::Refused(format!("{client_id} with code {}", connack[3])));
        }
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        let link = self.links.len();
        let interests = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut stream, Token(link), interests)?;
        let (tail, out) = (Vec::new(), Vec::new());
        self.links.push(Link { stream, tail, out, written: 0, is_dirty: false });
        Ok(link)
    }

    /// Subscribes a client, and waits for the answer. Nothing else may be on its way to anybody.
    pub(crate) fn subscribe(
        &mut self,
        link: usize,
        filters: &[String],
        qos: QoS,
    ) -> Result<(), Fault> {
        /// Filters in one packet: brokers have limits for packets.
        const AT_A_TIME: usize = 100;
        for filters in filters.chunks(AT_A_TIME) {
            let mut granted = 0;
            self.out(link).extend(subscribe(filters, qos));
            self.run_until(|_, packet, _| {
                let Packet::SubAck(suback) = packet else { return Ok(false) };
                for code in suback.codes() {
                    if u8::from(code) != u8::from(qos) {
                        return Err(Fault::Refused("a subscription".to_owned()));
                    }
                    granted += 1;
                }
                Ok(granted == filters.len())
            })?;
        }
        Ok(())
    }

    /// Says goodbye and closes.
    pub(crate) fn disconnect(&mut self, link: usize) -> Result<(), Fault> {
        self.out(link).extend(bytes(&Packet::Disconnect));
        self.flush()?;
        self.links[link].stream.shutdown(std::net::Shutdown::Write)?;
        Ok(())
    }

    /// What is written to a client by the next [`flush`](Self::flush).
    pub(crate) fn out(&mut self, link: usize) -> &mut Vec<u8> {
        let place = &mut self.links[link];
        if !place.is_dirty {
            place.is_dirty = true;
            self.dirty.push(link);
        }
        &mut place.out
    }

    /// Waits for the sockets, and hands over every packet that came with the link that it came on
    /// and a place for answers, which the next [`flush`](Self::flush) writes.
    pub(crate) fn turn(
        &mut self,
        timeout: Duration,
        mut handle: impl FnMut(usize, Packet<'_>, &mut Vec<u8>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            result => result?,
        }
        for event in &self.events {
            if event.token() == TICK {
                // It may have been read for an earlier event.
                let _ = self.ticker.as_ref().map(TimerFd::wait);
                continue;
            }
            let number = event.token().0;
            let link = &mut self.links[number];
            if event.is_readable() {
                link.read(&mut self.scratch, |packet, out| handle(number, packet, out))?;
            }
            let has_more = event.is_writable() && link.written < link.out.len();
            if !link.is_dirty && (has_more || !link.out.is_empty()) {
                link.is_dirty = true;
                self.dirty.push(number);
            }
        }
        Ok(())
    }

    /// Writes what the sockets take.
    pub(crate) fn flush(&mut self) -> Result<(), Fault> {
        for number in self.dirty.drain(..) {
            let link = &mut self.links[number];
            link.is_dirty = false;
            link.write()?;
        }
        Ok(())
    }

    /// Turns until `handle` says that it has all.
    pub(crate) fn run_until(
        &mut self,
        mut handle: impl FnMut(usize, Packet<'_>, &mut Vec<u8>) -> Result<bool, Fault>,
    ) -> Result<(), Fault> {
        let mut is_over = false;
        let mut last = Instant::now();
        self.flush()?;
        while !is_over {
            let mut came = false;
            self.turn(Duration::from_millis(100), |link, packet, out| {
                came = true;
                is_over |= handle(link, packet, out)?;
                Ok(())
            })?;
            self.flush()?;
            let now = Instant::now();
            if came {
                last = now;
            } else if now - last > PATIENCE {
                return Err(Fault::Stalled(0));
            }
        }
        Ok(())
    }
}

impl Link {
    fn read(
        &mut self,
        scratch: &mut [u8],
        mut handle: impl FnMut(Packet<'_>, &mut Vec<u8>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        loop {
            let read = match self.stream.read(scratch) {
                Ok(0) => return Err(Fault::Closed),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            let bytes = &scratch[..read];
            if self.tail.is_empty() {
                let used = each_packet(bytes, |packet| handle(packet, &mut self.out))?;
                self.tail.extend_from_slice(&bytes[used..]);
            } else {
                self.tail.extend_from_slice(bytes);
                let used = each_packet(&self.tail, |packet| handle(packet, &mut self.out))?;
                self.tail.drain(..used);
            }
            // The socket is empty; it tells when it is not.
            if read < scratch.len() {
                return Ok(());
            }
        }
    }

    fn write(&mut self) -> Result<(), Fault> {
        while self.written < self.out.len() {
            match self.stream.write(&self.out[self.written..]) {
                Ok(written) => self.written += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        self.out.clear();
        self.written = 0;
        Ok(())
    }
}

/// Hands over the complete packets at the front and gives back their length.
fn each_packet(
    bytes: &[u8],
    mut handle: impl FnMut(Packet<'_>) -> Result<(), Fault>,
) -> Result<usize, Fault> {
    let mut rest = bytes;
    while let Some((packet, len)) = decode(rest, MAX_PACKET)? {
        handle(packet)?;
        rest = &rest[len..];
    }
    Ok(bytes.len() - rest.len())
}

/// A packet as it travels.
pub(crate) fn bytes(packet: &Packet<'_>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(packet.encoded_len());
    packet.encode(&mut bytes);
    bytes
}

/// A SUBSCRIBE as it travels.
pub(crate) fn subscribe(filters: &[String], qos: QoS) -> Vec<u8> {
    let filter = |filter| TopicFilter::new(filter).expect("the filters of the workloads are valid");
    let filters: Vec<_> = filters.iter().map(|text| (filter(text), qos)).collect();
    let packet = Subscribe::new(PacketId::MIN, &filters).expect("they fit into a packet");
    bytes(&Packet::Subscribe(packet))
}
