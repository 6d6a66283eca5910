//! What the tests share: a broker that follows a script, and ours.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mqtt_broker_core::{Broker, PeerInfo, serve_connection};
use mqtt_client::{Builder, Client, QoS, Reconnect};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

/// Nothing here takes longer unless it hangs.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// Delays that a test can wait for.
pub(crate) const QUICK: Reconnect = Reconnect {
    min: Duration::from_millis(1),
    max: Duration::from_millis(5),
    stable: Duration::from_secs(10),
    give_up_after: None,
    retry_refused: true,
};

/// The broker's ends of the connections that a client opens.
pub(crate) struct Listener(mpsc::UnboundedReceiver<DuplexStream>);

/// A client whose connections come out of the listener.
pub(crate) fn scripted() -> (Builder, Listener) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let builder = Client::builder("mqtt://scripted").client_id("c").connector(move |_| {
        let sender = sender.clone();
        async move {
            let (near, far) = duplex(1 << 20);
            sender.send(far).map_err(|_| io::Error::from(io::ErrorKind::ConnectionRefused))?;
            Ok(near)
        }
    });
    (builder, Listener(receiver))
}

impl Listener {
    /// The next connection.
    pub(crate) async fn accept(&mut self) -> Peer {
        let io = tokio::time::timeout(SOON, self.0.recv()).await.expect("no connection came");
        Peer { io: io.expect("the client is gone") }
    }

    /// The next connection, with CONNECT read and CONNACK sent.
    pub(crate) async fn welcome(&mut self, session_present: bool) -> Peer {
        let mut peer = self.accept().await;
        peer.read_connect().await;
        peer.send(&[0x20, 2, session_present.into(), 0]).await;
        peer
    }
}

/// A broker that does what the test says, byte by byte.
pub(crate) struct Peer {
    pub(crate) io: DuplexStream,
}

impl Peer {
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.io.write_all(bytes).await.unwrap();
    }

    /// The next bytes have to be these.
    #[track_caller]
    pub(crate) fn expect<'a>(&'a mut self, bytes: &'a [u8]) -> impl Future<Output = ()> + 'a {
        let caller = std::panic::Location::caller();
        async move {
            let mut got = vec![0; bytes.len()];
            let mut len = 0;
            while len < got.len() {
                let read = tokio::time::timeout(SOON, self.io.read(&mut got[len..])).await;
                let Ok(Ok(read @ 1..)) = read else {
                    panic!("{caller}: got {:02x?} and then no more, not {bytes:02x?}", &got[..len]);
                };
                len += read;
                assert_eq!(got[..len], bytes[..len], "{caller}: got {got:02x?}, not {bytes:02x?}");
            }
        }
    }

    /// One packet, whatever it is.
    pub(crate) async fn read_packet(&mut self) -> Vec<u8> {
        let mut packet = Vec::new();
        loop {
            let byte = tokio::time::timeout(SOON, self.io.read_u8()).await.expect("no packet came");
            packet.push(byte.expect("the client closed the connection"));
            match mqtt_codec::frame(&packet, mqtt_codec::MAX_PACKET).unwrap() {
                mqtt_codec::Frame::Complete { .. } => return packet,
                mqtt_codec::Frame::Incomplete { .. } => {}
            }
        }
    }

    pub(crate) async fn read_connect(&mut self) -> Vec<u8> {
        let packet = self.read_packet().await;
        assert_eq!(packet[0], 0x10, "MQTT-3.1.0-1: the first packet is CONNECT");
        packet
    }

    /// SUBSCRIBE of one filter, and SUBACK.
    pub(crate) async fn grant(&mut self, filter: &str, id: u8, qos: QoS) {
        let len = filter.len() as u8;
        let head = [0x82, 5 + len, 0, id, 0, len];
        self.expect(&[&head, filter.as_bytes(), &[qos.into()]].concat()).await;
        self.send(&[0x90, 3, 0, id, qos.into()]).await;
    }

    /// Nothing comes for a while.
    pub(crate) async fn expect_silence(&mut self) {
        let mut byte = [0];
        let read = self.io.read(&mut byte);
        if let Ok(read) = tokio::time::timeout(Duration::from_millis(20), read).await {
            panic!("{read:?} {byte:02x?} instead of silence");
        }
    }

    /// The client closes the connection, and sends nothing before.
    pub(crate) async fn expect_end(&mut self) {
        let mut rest = Vec::new();
        let end = tokio::time::timeout(SOON, self.io.read_to_end(&mut rest)).await;
        end.expect("the client did not close").unwrap();
        assert_eq!(rest, [0; 0]);
    }
}

/// Connections to a broker of ours in the same process, which a test can cut.
#[derive(Clone)]
pub(crate) struct Wire {
    pub(crate) broker: Broker,
    tasks: Arc<Mutex<VecDeque<tokio::task::JoinHandle<()>>>>,
}

impl Wire {
    pub(crate) fn new(broker: &Broker) -> Self {
        Self { broker: broker.clone(), tasks: Arc::default() }
    }

    /// A client of the broker.
    pub(crate) fn builder(&self, id: &str) -> Builder {
        let wire = self.clone();
        Client::builder("mqtt://wire").client_id(id).connector(move |_| {
            let wire = wire.clone();
            async move { Ok(wire.connect()) }
        })
    }

    /// A connection to the broker.
    pub(crate) fn connect(&self) -> DuplexStream {
        let (near, far) = duplex(64 << 10);
        let broker = self.broker.clone();
        let serving = tokio::spawn(async move {
            let peer = PeerInfo::from("127.0.0.1:1".parse::<std::net::SocketAddr>().unwrap());
            let _ = serve_connection(&broker, far, peer).await;
        });
        self.tasks.lock().unwrap().push_back(serving);
        near
    }

    /// Cuts every connection, without a word.
    pub(crate) fn cut(&self) {
        self.tasks.lock().unwrap().drain(..).for_each(|task| task.abort());
    }
}

/// A broker of ours at a TCP port of its own.
pub(crate) async fn listen(broker: &Broker) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(serve(listener, broker.clone()));
    port
}

/// Serves a broker for ever.
pub(crate) async fn serve(listener: TcpListener, broker: Broker) {
    while let Ok((socket, peer)) = listener.accept().await {
        let broker = broker.clone();
        tokio::spawn(async move { serve_connection(&broker, socket, peer).await });
    }
}

/// A port at which nobody listens.
pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Waits until somebody listens there.
pub(crate) fn wait_for_port(port: u16) {
    let begin = std::time::Instant::now();
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(begin.elapsed() < SOON, "nobody listens at port {port}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// An empty folder for one test.
pub(crate) fn scratch(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).unwrap();
    path
}
