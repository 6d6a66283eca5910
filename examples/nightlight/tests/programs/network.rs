use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// A network between clients and a broker, which can be cut: then nothing is refused or closed, and
/// nothing arrives. When it is mended, connections from before or during the cut are gone with what
/// was in them, as behind a router that has forgotten them.
pub(crate) struct Network {
    port: u16,
    /// Even while it works; cutting and mending each count one.
    phase: Arc<AtomicU32>,
}

/// How long a copying thread takes to notice a cut.
const LOOK: Duration = Duration::from_millis(5);

impl Network {
    /// A way to a broker's port.
    pub(crate) fn to(broker: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("there is a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let phase = Arc::new(AtomicU32::new(0));
        let network = Self { port, phase: phase.clone() };
        // It ends with the test's process.
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let phase = phase.clone();
                std::thread::spawn(move || carry(&client, broker, &phase));
            }
        });
        network
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn cut(&self) {
        assert_eq!(self.phase.fetch_add(1, Ordering::SeqCst) % 2, 0, "it is cut already");
    }

    pub(crate) fn mend(&self) {
        assert_eq!(self.phase.fetch_add(1, Ordering::SeqCst) % 2, 1, "it is not cut");
    }
}

fn carry(client: &TcpStream, broker: u16, phase: &AtomicU32) {
    let start = phase.load(Ordering::SeqCst);
    if start % 2 == 1 {
        // Accepted by nobody: it hangs until the network is mended, and is gone then.
        while phase.load(Ordering::SeqCst) == start {
            std::thread::sleep(LOOK);
        }
        return;
    }
    let Ok(broker) = TcpStream::connect((Ipv4Addr::LOCALHOST, broker)) else { return };
    std::thread::scope(|scope| {
        scope.spawn(|| copy(client, &broker, phase, start));
        copy(&broker, client, phase, start);
    });
}

fn copy(mut from: &TcpStream, mut to: &TcpStream, phase: &AtomicU32, start: u32) {
    from.set_read_timeout(Some(LOOK)).expect("a timeout can be set");
    let mut buffer = [0; 4096];
    loop {
        match phase.load(Ordering::SeqCst) - start {
            0 => {}
            1 => {
                std::thread::sleep(LOOK);
                continue;
            }
            _ => break,
        }
        match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => {
                // What was on its way when the network was cut is lost.
                if phase.load(Ordering::SeqCst) == start && to.write_all(&buffer[..read]).is_err() {
                    break;
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => break,
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
