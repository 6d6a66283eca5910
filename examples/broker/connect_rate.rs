//! How often somebody may connect.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// Seconds' worth of connections that may come at once: who was away comes back together.
const BURST: u32 = 10;

/// Addresses together may connect this much faster than one of them. A TLS handshake takes about a
/// millisecond, so that 20 x 50 a second are what one thread can do.
const ADDRESSES: u32 = 20;

/// Addresses to remember at a time, each of which was there within the last seconds. Beyond it only
/// the rate of all together counts.
const MAX_ADDRESSES: usize = 65_536;

/// Connection rates by address, and of all together.
///
/// Connections of this machine are not counted: they may be those of a proxy for everybody.
#[derive(Debug)]
pub struct ConnectRates {
    /// The time between two connections of an address.
    interval: Duration,
    addresses: HashMap<IpAddr, Schedule>,
    all: Schedule,
}

/// Who connects too often.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TooOften {
    /// One address.
    #[error("too many connections a second come from there")]
    Address,
    /// All together.
    #[error("too many connections a second come from everywhere")]
    All,
}

/// When the next connection would come if all came evenly: what is ahead of now is the burst.
#[derive(Clone, Copy, Debug)]
struct Schedule(Instant);

impl ConnectRates {
    /// Rates of `rate` connections a second for one address.
    pub fn new(rate: u32, now: Instant) -> Self {
        let interval = Duration::from_secs(1) / rate.max(1);
        Self { interval, addresses: HashMap::new(), all: Schedule(now) }
    }

    /// Counts a connection.
    ///
    /// # Errors
    /// When it comes too soon after others. It is not counted then.
    pub fn admit(&mut self, address: IpAddr, now: Instant) -> Result<(), TooOften> {
        if address.is_loopback() {
            return Ok(());
        }
        let all = self.all.next(self.interval / ADDRESSES, now).ok_or(TooOften::All)?;
        let address = network(address);
        if self.addresses.len() >= MAX_ADDRESSES {
            // Who is behind schedule is like somebody new.
            self.addresses.retain(|_, schedule| schedule.0 > now);
        }
        if self.addresses.len() < MAX_ADDRESSES || self.addresses.contains_key(&address) {
            let schedule = self.addresses.entry(address).or_insert(Schedule(now));
            *schedule = schedule.next(self.interval, now).ok_or(TooOften::Address)?;
        }
        self.all = all;
        Ok(())
    }
}

impl Schedule {
    /// The schedule after one more connection, if that may come.
    fn next(self, interval: Duration, now: Instant) -> Option<Self> {
        let per_second = Duration::from_secs(1).as_nanos() / interval.as_nanos().max(1);
        let burst = interval * u32::try_from(per_second).unwrap_or(u32::MAX) * BURST;
        let next = self.0.max(now) + interval;
        (next <= now + burst).then_some(Self(next))
    }
}

/// What one owner has: an IPv4 address, or an IPv6 network of 64 bits.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => {
            Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn admitted(rates: &mut ConnectRates, address: &str, attempts: usize, now: Instant) -> usize {
        let address = ip(address);
        (0..attempts).filter(|_| rates.admit(address, now).is_ok()).count()
    }

    #[test]
    fn an_address_has_a_burst_and_then_its_rate() {
        let start = Instant::now();
        let mut rates = ConnectRates::new(50, start);
        assert_eq!(admitted(&mut rates, "192.0.2.1", 1000, start), 500);
        assert_eq!(admitted(&mut rates, "192.0.2.2", 10, start), 10, "others do not suffer");
        let later = start + Duration::from_secs(2);
        assert_eq!(admitted(&mut rates, "192.0.2.1", 1000, later), 100);
        let much_later = start + Duration::from_secs(3600);
        assert_eq!(admitted(&mut rates, "192.0.2.1", 1000, much_later), 500);
        assert_eq!(admitted(&mut rates, "127.0.0.1", 100_000, start), 100_000);
        assert_eq!(admitted(&mut rates, "::1", 100_000, start), 100_000);
    }

    #[test]
    fn many_addresses_have_a_rate_together() {
        let start = Instant::now();
        let mut rates = ConnectRates::new(1, start);
        let admitted = (0..250_u8)
            .filter(|n| rates.admit(IpAddr::from([192, 0, 2, *n]), start).is_ok())
            .count();
        assert_eq!(admitted, 200);
        assert_eq!(rates.admit(ip("198.51.100.1"), start), Err(TooOften::All));
    }

    #[test]
    fn the_addresses_of_one_network_are_one() {
        let start = Instant::now();
        let mut rates = ConnectRates::new(1, start);
        let sum: usize =
            (0..20).map(|n| admitted(&mut rates, &format!("2001:db8::{n:x}"), 1, start)).sum();
        assert_eq!(sum, 10);
        assert_eq!(admitted(&mut rates, "2001:db8:0:1::1", 1, start), 1);
    }

    #[test]
    fn addresses_are_forgotten_in_time() {
        let start = Instant::now();
        let mut rates = ConnectRates::new(1000, start);
        for n in 0..200_000_u32 {
            let now = start + Duration::from_micros(u64::from(n) * 100);
            rates.admit(IpAddr::from(n.to_be_bytes()), now).expect("slow enough");
        }
        assert!(rates.addresses.len() <= MAX_ADDRESSES);
    }
}
