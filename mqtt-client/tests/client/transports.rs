//! TLS, WebSocket and Unix sockets.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mqtt_broker_core::{Broker, Config, serve_connection};
use mqtt_client::{Builder, Client, ConfigError, ConnectionError, QoS, Tls};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::net::{TcpListener, UnixListener};
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};

use crate::processes::Process;
use crate::support::{SOON, free_port, scratch, wait_for_port};

/// An authority, a certificate for `localhost` and one for a device, as files.
struct Certificates {
    folder: PathBuf,
}

impl Certificates {
    fn new(folder: &Path) -> Self {
        let write = |name: &str, text: String| std::fs::write(folder.join(name), text).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        // Authority and certificates have names of their own: OpenSSL takes a certificate whose
        // issuer has its own name for one that signed itself.
        params.distinguished_name.push(DnType::CommonName, "the authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        write("ca.pem", params.self_signed(&key).unwrap().pem());
        let issuer = Issuer::new(params, key);
        for (name, host) in [("server", "localhost"), ("device", "device-1")] {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
            params.distinguished_name.push(DnType::CommonName, host);
            let certificate = params.signed_by(&key, &issuer).unwrap();
            write(&format!("{name}.pem"), certificate.pem());
            write(&format!("{name}.key"), key.serialize_pem());
            std::fs::write(folder.join(format!("{name}.der")), certificate.der()).unwrap();
        }
        Self { folder: folder.to_owned() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// Our broker behind TLS that asks for a client certificate if `mutual`.
async fn serve_tls(certificates: &Certificates, mutual: bool) -> u16 {
    let read = |name| CertificateDer::from_pem_file(certificates.path(name)).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(read("ca.pem")).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let builder = match mutual {
        true => builder.with_client_cert_verifier(verifier.build().unwrap()),
        false => builder.with_no_client_auth(),
    };
    let key = PrivateKeyDer::from_pem_file(certificates.path("server.key")).unwrap();
    let mut config = builder.with_single_cert(vec![read("server.pem")], key).unwrap();
    config.alpn_protocols = vec![b"mqtt".to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let broker = Broker::new(Config::default(), ());
    tokio::spawn(async move {
        while let Ok((socket, peer)) = listener.accept().await {
            let (acceptor, broker) = (acceptor.clone(), broker.clone());
            tokio::spawn(async move {
                let Ok(tls) = acceptor.accept(socket).await else { return };
                let _ = serve_connection(&broker, tls, peer).await;
            });
        }
    });
    port
}

/// A message of 1 MB goes there and back.
async fn round_trip(builder: Builder) {
    round_trip_of(1_000_000, builder).await;
}

async fn round_trip_of(bytes: usize, builder: Builder) {
    let client = builder.connect().await.unwrap();
    let mut all = client.subscribe("#", QoS::AtLeastOnce).await.unwrap();
    let payload: Vec<u8> = (0..bytes).map(|n| (n % 251) as u8).collect();
    client.publish(("t", payload.clone())).await.unwrap().await.unwrap();
    let message = tokio::time::timeout(SOON, all.recv()).await.unwrap().unwrap();
    assert_eq!(message.payload(), payload);
    assert!(client.shutdown(SOON).await.is_empty());
}

#[tokio::test]
async fn tls_trusts_the_authority_that_it_is_given() {
    let certificates = Certificates::new(&scratch("tls"));
    let port = serve_tls(&certificates, false).await;
    let url = format!("mqtts://localhost:{port}");
    let ca = Tls::ca_file(certificates.path("ca.pem"));
    round_trip(Client::builder(&url).tls(ca.clone())).await;
    round_trip(Client::builder(&url).tls(ca.clone().alpn(["mqtt"]))).await;
    // Another name, which may be ignored at one's own risk.
    let by_address = format!("mqtts://127.0.0.1:{port}");
    let error = Client::builder(&by_address).tls(ca.clone()).connect().await.unwrap_err();
    assert!(
        matches!(&error, ConnectionError::Tls(why) if why.contains("not valid for")),
        "{error}"
    );
    round_trip(Client::builder(&by_address).tls(ca.clone().server_name("localhost"))).await;
    round_trip(Client::builder(&by_address).tls(ca.danger_accept_any_name())).await;
    // Another authority.
    let other = Certificates::new(&scratch("tls-other"));
    let other = Tls::ca_file(other.path("ca.pem"));
    for tls in [other.clone(), other.clone().danger_accept_any_name()] {
        let error = Client::builder(&url).tls(tls).connect().await.unwrap_err();
        assert!(matches!(&error, ConnectionError::Tls(_)) && error.is_lasting(), "{error}");
    }
    round_trip(Client::builder(&url).tls(other.danger_accept_any_certificate())).await;
}

#[tokio::test]
async fn tls_runs_over_whatever_is_dialed() {
    let certificates = Certificates::new(&scratch("tls-dialed"));
    let port = serve_tls(&certificates, false).await;
    let dial = move |to: mqtt_client::Endpoint| async move {
        assert_eq!((to.host.as_str(), to.port), ("localhost", 1));
        tokio::net::TcpStream::connect(("127.0.0.1", port)).await
    };
    let tls = Tls::ca_file(certificates.path("ca.pem"));
    round_trip(Client::builder("mqtts://localhost:1").tls(tls).dialer(dial)).await;
}

#[tokio::test]
async fn a_client_certificate_is_shown_as_pem_or_der() {
    let certificates = Certificates::new(&scratch("tls-mutual"));
    let port = serve_tls(&certificates, true).await;
    let url = format!("mqtts://localhost:{port}");
    let tls = Tls::ca_file(certificates.path("ca.pem"));
    assert!(Client::builder(&url).tls(tls.clone()).connect().await.is_err());
    for chain in ["device.pem", "device.der"] {
        let (chain, key) = (certificates.path(chain), certificates.path("device.key"));
        round_trip(Client::builder(&url).tls(tls.clone().client_certificate(chain, key))).await;
    }
}

#[tokio::test]
async fn a_file_that_cannot_be_used_is_named() {
    let folder = scratch("tls-files");
    std::fs::write(folder.join("empty.pem"), "-----BEGIN NOTHING-----\n").unwrap();
    for name in ["missing.pem", "empty.pem"] {
        let tls = Tls::ca_file(folder.join(name));
        let error = Client::builder("mqtts://localhost").tls(tls).start().unwrap_err();
        assert!(matches!(error, ConfigError::Tls(_)), "{error}");
        assert!(error.to_string().contains(name), "{error}");
    }
    let certificates = Certificates::new(&folder);
    let key =
        ["-----BEGIN ENCRYPTED PRIVATE KEY-----", "AAAA", "-----END ENCRYPTED PRIVATE KEY-----"];
    std::fs::write(folder.join("locked.key"), key.join("\n")).unwrap();
    let tls = Tls::system_roots();
    let tls = tls.client_certificate(certificates.path("device.pem"), folder.join("locked.key"));
    let error = Client::builder("mqtts://localhost").tls(tls).start().unwrap_err();
    assert!(error.to_string().ends_with("locked.key: there is no key without passphrase in it"));
}

// MQTT-6.0.0-3
#[tokio::test]
async fn a_websocket_offers_mqtt_with_path_and_headers_as_given() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen = tokio::spawn(async move {
        let (socket, _) = listener.accept().await.unwrap();
        let mut seen = None;
        #[allow(clippy::result_large_err, reason = "the signature is the library's")]
        let note = |request: &Request, mut response: Response| {
            let header = |name| request.headers().get(name).unwrap().to_str().unwrap().to_owned();
            seen = Some((
                request.uri().to_string(),
                header("Sec-WebSocket-Protocol"),
                header("X-Key"),
            ));
            let protocol = request.headers()["Sec-WebSocket-Protocol"].clone();
            response.headers_mut().insert("Sec-WebSocket-Protocol", protocol);
            Ok(response)
        };
        tokio_tungstenite::accept_hdr_async(socket, note).await.unwrap();
        seen.unwrap()
    });
    let url = format!("ws://127.0.0.1:{port}/a/b?c=d");
    let _client = Client::builder(&url).websocket_header("X-Key", "42").start().unwrap();
    let seen = tokio::time::timeout(SOON, seen).await.unwrap().unwrap();
    assert_eq!(seen, ("/a/b?c=d".to_owned(), "mqtt".to_owned(), "42".to_owned()));
}

#[tokio::test]
async fn mosquitto_is_reached_over_tls_and_websockets() {
    let folder = scratch("mosquitto-transports");
    let certificates = Certificates::new(&folder);
    let (tls, ws, wss) = (free_port(), free_port(), free_port());
    let file = |name| certificates.path(name).display().to_string();
    let (ca, cert, key) = (file("ca.pem"), file("server.pem"), file("server.key"));
    let files = format!("cafile {ca}\ncertfile {cert}\nkeyfile {key}\n");
    let config = format!(
        "listener {tls} 127.0.0.1\n{files}require_certificate true\n\
         listener {ws} 127.0.0.1\nprotocol websockets\n\
         listener {wss} 127.0.0.1\nprotocol websockets\n{files}"
    );
    let Some(_mosquitto) = Process::mosquitto(&folder, &config) else { return };
    [tls, ws, wss].into_iter().for_each(wait_for_port);
    let trust = Tls::ca_file(certificates.path("ca.pem"));
    let device = trust
        .clone()
        .client_certificate(certificates.path("device.pem"), certificates.path("device.key"));
    round_trip(Client::builder(&format!("mqtts://localhost:{tls}")).tls(device)).await;
    // Of a megabyte over a WebSocket, Mosquitto 2.0.11 sends nothing back.
    round_trip_of(100_000, Client::builder(&format!("ws://localhost:{ws}"))).await;
    let wss = format!("wss://localhost:{wss}/mqtt");
    round_trip_of(100_000, Client::builder(&wss).tls(trust)).await;
}

#[tokio::test]
async fn a_unix_socket_is_a_transport() {
    let path = scratch("unix").join("mqtt.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let broker = Broker::new(Config::default(), ());
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let broker = broker.clone();
            tokio::spawn(async move {
                let peer: SocketAddr = "127.0.0.1:1".parse().unwrap();
                let _ = serve_connection(&broker, socket, peer).await;
            });
        }
    });
    round_trip(Client::builder(&format!("unix:{}", path.display()))).await;
}
