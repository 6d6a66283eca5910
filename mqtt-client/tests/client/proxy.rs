//! A TCP proxy that does to connections what bad networks and bad peers do.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::sleep;

/// How bytes are carried, and how connections end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Carry,
    /// Each piece so much later.
    Late(Duration),
    /// One byte at a time.
    ByteByByte,
    /// Nothing is read any more, from either side.
    StopReading,
    /// Everything is read, and nothing is carried.
    StopForwarding,
    /// Both sides get RST.
    Reset,
    /// Both sides get FIN.
    Finish,
    /// The broker gets FIN; what it sends is carried on.
    FinishUp,
    /// The client gets FIN; what it sends is carried on.
    FinishDown,
}

impl Mode {
    /// Those that end a connection, in one way or another.
    pub(crate) const ENDS: [Self; 4] =
        [Self::Reset, Self::Finish, Self::FinishUp, Self::FinishDown];
}

pub(crate) struct Proxy {
    pub(crate) port: u16,
    broker: u16,
    mode: watch::Sender<Mode>,
    /// Connections that were made, and bytes carried on the newest.
    progress: Arc<Mutex<(usize, usize)>>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Proxy {
    pub(crate) async fn start(broker: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mode = watch::Sender::new(Mode::Carry);
        let progress = Arc::default();
        let accepting = tokio::spawn(accept(listener, broker, mode.clone(), Arc::clone(&progress)));
        Self { port, broker, mode, progress, accepting }
    }

    pub(crate) fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    /// Carries bytes like this from now on.
    pub(crate) fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// Waits for a connection that was not there when `before` were, with some bytes carried.
    pub(crate) async fn connected(&self, before: usize) -> usize {
        loop {
            let (connections, bytes) = *self.progress.lock().unwrap();
            if connections > before && bytes > 0 {
                return connections;
            }
            sleep(Duration::from_millis(1)).await;
        }
    }

    /// Ends the connections there are; new ones are carried.
    pub(crate) async fn cut(&self, end: Mode) {
        self.set(end);
        tokio::task::yield_now().await;
        // Those that have not seen it see that there was a change.
        self.set(Mode::Carry);
    }

    /// Nobody listens any more, and the connections there are get RST.
    pub(crate) async fn refuse(&mut self) {
        self.accepting.abort();
        let _ = (&mut self.accepting).await;
        self.set(Mode::Reset);
    }

    /// Listens again, at the same port.
    pub(crate) async fn accept_again(&mut self) {
        self.set(Mode::Carry);
        let listener = TcpListener::bind(("127.0.0.1", self.port)).await.unwrap();
        let (mode, progress) = (self.mode.clone(), self.progress.clone());
        self.accepting = tokio::spawn(accept(listener, self.broker, mode, progress));
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(
    listener: TcpListener,
    broker: u16,
    mode: watch::Sender<Mode>,
    progress: Arc<Mutex<(usize, usize)>>,
) {
    while let Ok((client, _)) = listener.accept().await {
        let Ok(broker) = TcpStream::connect(("127.0.0.1", broker)).await else { continue };
        let mut now = progress.lock().unwrap();
        *now = (now.0 + 1, 0);
        drop(now);
        let connection = Connection::new(client, broker, mode.subscribe(), progress.clone());
        tokio::spawn(connection.run());
    }
}

/// One direction. What was read and not written stays in `held`, so that a change of the mode loses
/// and adds nothing.
struct Pipe {
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
    held: Vec<u8>,
    ended: bool,
}

impl Pipe {
    async fn carry(&mut self, mode: Mode) -> io::Result<usize> {
        if self.ended || mode == Mode::StopReading {
            std::future::pending::<()>().await;
        }
        if self.held.is_empty() && self.from.read_buf(&mut self.held).await? == 0 {
            self.ended = true;
            self.to.shutdown().await?;
            return Ok(0);
        }
        let most = match mode {
            Mode::StopForwarding => {
                self.held.clear();
                return Ok(0);
            }
            Mode::ByteByByte => 1,
            _ => self.held.len(),
        };
        if let Mode::Late(delay) = mode {
            sleep(delay).await;
        }
        let written = self.to.write(&self.held[..most]).await?;
        self.held.drain(..written);
        Ok(written)
    }
}

struct Connection {
    up: Pipe,
    down: Pipe,
    mode: watch::Receiver<Mode>,
    progress: Arc<Mutex<(usize, usize)>>,
}

impl Connection {
    fn new(
        client: TcpStream,
        broker: TcpStream,
        mode: watch::Receiver<Mode>,
        progress: Arc<Mutex<(usize, usize)>>,
    ) -> Self {
        for stream in [&client, &broker] {
            stream.set_nodelay(true).unwrap();
        }
        let (from_client, to_client) = client.into_split();
        let (from_broker, to_broker) = broker.into_split();
        let pipe = |from, to| Pipe { from, to, held: Vec::new(), ended: false };
        let (up, down) = (pipe(from_client, to_broker), pipe(from_broker, to_client));
        Self { up, down, mode, progress }
    }

    async fn run(mut self) {
        loop {
            let mode = *self.mode.borrow_and_update();
            match mode {
                Mode::Reset => {
                    for side in [self.up.to, self.down.to] {
                        side.as_ref().set_zero_linger().unwrap();
                        // Dropping it would send FIN first.
                        side.forget();
                    }
                    return;
                }
                Mode::Finish => return,
                Mode::FinishUp => {
                    self.up.ended = true;
                    let _ = self.up.to.shutdown().await;
                }
                Mode::FinishDown => {
                    self.down.ended = true;
                    let _ = self.down.to.shutdown().await;
                }
                _ => {}
            }
            let carried = tokio::select! {
                carried = self.up.carry(mode) => carried,
                carried = self.down.carry(mode) => carried,
                _ = self.mode.changed() => continue,
            };
            match carried {
                Ok(bytes) => self.progress.lock().unwrap().1 += bytes,
                Err(_) => return,
            }
            if self.up.ended && self.down.ended {
                return;
            }
        }
    }
}
