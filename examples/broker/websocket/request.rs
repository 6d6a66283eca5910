use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::files;

/// Bytes of a request with its headers. Browsers send about 1 KiB.
const MAX_REQUEST: usize = 8192;

/// Headers of a request. Browsers send about 15.
const MAX_HEADERS: usize = 64;

/// Time for a file to be taken. It has a place that others may wait for.
const FILE_TIME: Duration = Duration::from_secs(60);

/// What a WebSocket listener offers.
#[derive(Clone, Debug, Default)]
pub struct Web {
    /// Pages that may connect; all, if there are none.
    pub origins: Vec<String>,
    /// The folder whose files are served.
    pub http_dir: Option<PathBuf>,
}

/// How a request was answered.
#[derive(Debug)]
pub enum Answer {
    /// With the handshake of a WebSocket. What was read beyond the request is its beginning.
    WebSocket(Vec<u8>),
    /// With a file or an error. The connection is over.
    Over,
}

/// What a request asks for.
#[derive(Debug)]
pub enum Wanted {
    /// A WebSocket.
    WebSocket {
        /// The answer to its key.
        accept: String,
        /// The subprotocol that was agreed.
        protocol: Option<&'static str>,
    },
    /// A file.
    File {
        /// Its path with what follows a question mark.
        path: String,
        /// Only the head of the answer is wanted.
        head: bool,
    },
}

/// Reads a request and answers it.
///
/// # Errors
/// When the connection fails, no complete request comes until the deadline, or a file is not taken
/// within a minute.
pub async fn answer<T>(stream: &mut T, web: &Web, deadline: Instant) -> io::Result<Answer>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let (request, length) = read_in_time(stream, deadline).await?;
    match parse(&request[..length], web) {
        Ok(Wanted::WebSocket { accept, protocol }) => {
            let protocol = protocol
                .map_or(String::new(), |name| format!("Sec-WebSocket-Protocol: {name}\r\n"));
            let head = format!(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Accept: {accept}\r\n{protocol}\r\n"
            );
            stream.write_all(head.as_bytes()).await?;
            stream.flush().await?;
            Ok(Answer::WebSocket(request[length..].to_vec()))
        }
        Ok(Wanted::File { path, head }) => {
            let file = files::serve(stream, web.http_dir.as_deref(), &path, head);
            timeout(FILE_TIME, file).await.map_err(late)??;
            Ok(Answer::Over)
        }
        Err(status) => {
            files::refuse(stream, status).await?;
            Ok(Answer::Over)
        }
    }
}

/// Reads a request without an answer to it: what it asks for, or the status line of a refusal.
///
/// # Errors
/// As [`answer`].
pub async fn read_request<T>(
    stream: &mut T,
    deadline: Instant,
) -> io::Result<Result<Wanted, &'static str>>
where
    T: AsyncRead + Unpin,
{
    let (request, length) = read_in_time(stream, deadline).await?;
    Ok(parse(&request[..length], &Web::default()))
}

async fn read_in_time<T: AsyncRead + Unpin>(
    stream: &mut T,
    deadline: Instant,
) -> io::Result<(Vec<u8>, usize)> {
    timeout_at(deadline, read_head(stream)).await.map_err(late)?
}

fn late(_: Elapsed) -> io::Error {
    io::ErrorKind::TimedOut.into()
}

/// Reads to the end of a request's headers. Returns what was read, and where they end.
async fn read_head<T: AsyncRead + Unpin>(stream: &mut T) -> io::Result<(Vec<u8>, usize)> {
    let mut request = Vec::with_capacity(1024);
    loop {
        if stream.read_buf(&mut request).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(at) = request.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            return Ok((request, at + 4));
        }
        if request.len() > MAX_REQUEST {
            return Err(io::Error::other("the request is too long"));
        }
    }
}

/// What is wanted, or the status line of a refusal.
fn parse(request: &[u8], web: &Web) -> Result<Wanted, &'static str> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    parsed.parse(request).map_err(|_| "400 Bad Request")?;
    let values = |name: &'static str| {
        let named = parsed.headers.iter().filter(move |h| h.name.eq_ignore_ascii_case(name));
        named.filter_map(|header| std::str::from_utf8(header.value).ok())
    };
    let has = |name, token: &str| {
        values(name)
            .flat_map(|value| value.split(','))
            .any(|t| t.trim().eq_ignore_ascii_case(token))
    };
    let method = parsed.method.unwrap_or_default();
    let path = parsed.path.unwrap_or_default().to_owned();
    if !has("Upgrade", "websocket") {
        return match method {
            "GET" => Ok(Wanted::File { path, head: false }),
            "HEAD" => Ok(Wanted::File { path, head: true }),
            _ => Err("405 Method Not Allowed"),
        };
    }
    if method != "GET" || !has("Connection", "upgrade") || !has("Sec-WebSocket-Version", "13") {
        return Err("400 Bad Request");
    }
    let origin = values("Origin").next();
    let welcome = |origin: &str| web.origins.iter().any(|o| o.eq_ignore_ascii_case(origin));
    if !web.origins.is_empty() && !origin.is_some_and(welcome) {
        return Err("403 Forbidden");
    }
    // MQTT-6.0.0-3: the client offers "mqtt". MQTT 3.1 had a name of its own, and some offer none.
    let protocol =
        ["mqtt", "mqttv3.1"].into_iter().find(|name| has("Sec-WebSocket-Protocol", name));
    if protocol.is_none() && values("Sec-WebSocket-Protocol").next().is_some() {
        return Err("400 Bad Request");
    }
    let key = values("Sec-WebSocket-Key").next().ok_or("400 Bad Request")?;
    Ok(Wanted::WebSocket { accept: derive_accept_key(key.as_bytes()), protocol })
}

#[cfg(test)]
mod tests {
    use super::*;

    const UPGRADE: &str = "GET /mqtt HTTP/1.1\r\nHost: h\r\nUpgrade: WebSocket\r\n\
        Connection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqtt\r\n\
        Origin: https://example.com\r\n\r\n";

    #[test]
    fn the_handshake_of_rfc_6455_is_answered() {
        match parse(UPGRADE.as_bytes(), &Web::default()) {
            Ok(Wanted::WebSocket { accept, protocol }) => {
                assert_eq!(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
                assert_eq!(protocol, Some("mqtt"));
            }
            _ => panic!("a WebSocket is wanted"),
        }
    }

    #[test]
    fn other_pages_than_those_named_are_refused() {
        let web = |origin: &str| Web { origins: vec![origin.into()], ..Web::default() };
        assert!(parse(UPGRADE.as_bytes(), &web("https://example.com")).is_ok());
        assert!(parse(UPGRADE.as_bytes(), &web("https://example.org")).is_err());
        let without = UPGRADE.replace("Origin: https://example.com\r\n", "");
        assert!(parse(without.as_bytes(), &web("https://example.com")).is_err());
        assert!(parse(without.as_bytes(), &Web::default()).is_ok());
    }

    #[test]
    fn requests_that_are_not_right_are_refused() {
        for (from, to) in [
            ("Version: 13", "Version: 8"),
            ("GET", "POST"),
            ("Sec-WebSocket-Key", "X-Key"),
            ("Protocol: mqtt", "Protocol: chat"),
            ("keep-alive, Upgrade", "keep-alive"),
            ("HTTP/1.1", "HTTP"),
        ] {
            assert!(parse(UPGRADE.replace(from, to).as_bytes(), &Web::default()).is_err(), "{to}");
        }
    }
}
