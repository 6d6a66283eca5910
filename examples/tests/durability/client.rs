use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::ledger::Ledger;
use crate::wire::{Connect, Packet};

/// A client that remembers what a client with a kept session has to.
pub(crate) trait Peer {
    fn name(&self) -> String;

    /// The CONNACK is there.
    fn handle_connack(&mut self, session_present: bool, ledger: &Ledger, out: &mut Vec<u8>);

    fn handle(&mut self, packet: &Packet, ledger: &Ledger, out: &mut Vec<u8>);
}

/// Connects, and talks until the broker is gone.
pub(crate) async fn converse<P: Peer + ?Sized>(address: SocketAddr, peer: &mut P, ledger: &Ledger) {
    let Ok(mut stream) = TcpStream::connect(address).await else { return };
    stream.set_nodelay(true).expect("nodelay can be set");
    let mut out = Connect::new(&peer.name()).keep_session().packet();
    let mut bytes = Vec::new();
    loop {
        if stream.write_all(&out).await.is_err() {
            // It may have said something before.
            out.clear();
        }
        out.clear();
        match stream.read_buf(&mut bytes).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let mut rest = bytes.as_slice();
        while let Some((packet, behind)) = split(rest) {
            rest = behind;
            if packet.first == 0x20 {
                assert_eq!(packet.body[1], 0, "accepted");
                peer.handle_connack(packet.body[0] == 1, ledger, &mut out);
            } else {
                peer.handle(&packet, ledger, &mut out);
            }
        }
        let used = bytes.len() - rest.len();
        bytes.drain(..used);
    }
}

/// The first packet of some bytes, if it is complete.
fn split(bytes: &[u8]) -> Option<(Packet, &[u8])> {
    let (&first, mut rest) = bytes.split_first()?;
    let mut length = 0;
    for shift in [0, 7, 14, 21] {
        let (&byte, behind) = rest.split_first()?;
        rest = behind;
        length |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    let (body, rest) = rest.split_at_checked(length)?;
    Some((Packet { first, body: body.to_vec() }, rest))
}

/// The packet id of an acknowledgement.
pub(crate) fn packet_id(packet: &Packet) -> u16 {
    u16::from_be_bytes([packet.body[0], packet.body[1]])
}
