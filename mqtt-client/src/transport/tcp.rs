//! TCP, to whichever address of the host answers first.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{Timeouts, within};
use crate::endpoint::Endpoint;
use crate::error::{ConnectionError, Step};

/// How long one address is tried alone before the next one is tried beside it ("happy eyeballs",
/// RFC 8305, section 5).
const NEXT_ADDRESS_AFTER: Duration = Duration::from_millis(250);

pub(super) async fn open(to: &Endpoint, limits: &Timeouts) -> Result<TcpStream, ConnectionError> {
    let lookup = lookup_host((to.host.as_str(), to.port));
    let addresses = within(limits.resolve, Step::Resolve, lookup).await?;
    let addresses = interleaved(addresses.collect());
    let stream = within(limits.connect, Step::Connect, first_of(addresses)).await?;
    // A packet waits for no acknowledgement: batches are made before they are written.
    stream.set_nodelay(true).map_err(|error| ConnectionError::io(Step::Connect, error))?;
    Ok(stream)
}

/// Families in turn, beginning with the resolver's first choice.
fn interleaved(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv6() == first_is_v6);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut all = Vec::new();
    loop {
        let pair = [first.next(), second.next()];
        if pair == [None, None] {
            return all;
        }
        all.extend(pair.into_iter().flatten());
    }
}

async fn first_of(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut attempts = JoinSet::new();
    let mut last_error = None;
    let mut addresses = addresses.into_iter().peekable();
    loop {
        if let Some(address) = addresses.next() {
            attempts.spawn(TcpStream::connect(address));
        }
        let joined = match addresses.peek() {
            Some(_) => match timeout(NEXT_ADDRESS_AFTER, attempts.join_next()).await {
                Ok(joined) => joined,
                Err(_) => continue,
            },
            None => attempts.join_next().await,
        };
        match joined {
            Some(Ok(Ok(stream))) => return Ok(stream),
            Some(Ok(Err(error))) => last_error = Some(error),
            Some(Err(_)) => {}
            None if addresses.peek().is_some() => {}
            None => {
                let none = || io::Error::new(io::ErrorKind::NotFound, "the name has no address");
                return Err(last_error.unwrap_or_else(none));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns() {
        let parse = |text: &str| text.parse::<SocketAddr>().unwrap();
        let [a, b, c, v4] = ["[::1]:1", "[::2]:1", "[::3]:1", "127.0.0.1:1"].map(parse);
        assert_eq!(interleaved(vec![a, b, c, v4]), [a, v4, b, c]);
    }

    #[tokio::test]
    async fn a_dead_address_does_not_block_the_live_one() {
        let live = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        // A port on which nobody listens, and one that swallows what is sent to it, if routed.
        let refused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let silent = "192.0.2.1:1883".parse().unwrap();
        let addresses = vec![silent, refused, live.local_addr().unwrap()];
        let stream = timeout(Duration::from_secs(5), first_of(addresses)).await.unwrap().unwrap();
        assert_eq!(stream.peer_addr().unwrap(), live.local_addr().unwrap());
    }
}
