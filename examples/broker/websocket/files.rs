use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Component, Path, PathBuf};

use tokio::io::{AsyncWrite, AsyncWriteExt as _};

/// Bytes of a file that a connection has in memory: they stay there for as long as nobody takes them.
const CHUNK: usize = 16 << 10;

/// Serves the file of a path, or says that there is none. Between two chunks it is not even open, so
/// that slow readers cost no descriptors.
pub(super) async fn serve<T: AsyncWrite + Unpin>(
    stream: &mut T,
    folder: Option<&Path>,
    path: &str,
    head: bool,
) -> io::Result<()> {
    let Some(folder) = folder.map(Path::to_owned) else {
        return refuse(stream, "404 Not Found").await;
    };
    let path = path.to_owned();
    let found = blocking(move || Ok(locate(&folder, &path))).await?;
    let Some((file, length)) = found else { return refuse(stream, "404 Not Found").await };
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {}\r\nContent-Length: {length}\r\n\
         X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n",
        content_type(&file),
    );
    stream.write_all(answer.as_bytes()).await?;
    let mut rest = if head { 0 } else { length };
    while rest > 0 {
        let chunk = blocking({
            let file = file.clone();
            move || read_at(&file, length - rest, rest)
        });
        let chunk = chunk.await?;
        if chunk.is_empty() {
            // It has become shorter. The reader sees that something is missing.
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        stream.write_all(&chunk).await?;
        rest -= chunk.len() as u64;
    }
    stream.shutdown().await
}

/// Away from the thread that serves clients.
async fn blocking<R: Send + 'static>(
    work: impl FnOnce() -> io::Result<R> + Send + 'static,
) -> io::Result<R> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

fn read_at(file: &Path, offset: u64, most: u64) -> io::Result<Vec<u8>> {
    let most = usize::try_from(most).map_or(CHUNK, |most| most.min(CHUNK));
    let mut chunk = vec![0; most];
    let length = File::open(file)?.read_at(&mut chunk, offset)?;
    chunk.truncate(length);
    Ok(chunk)
}

/// Answers with a status line and nothing else.
pub(super) async fn refuse<T: AsyncWrite + Unpin>(stream: &mut T, status: &str) -> io::Result<()> {
    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

/// The file of a request's path, and its length. Only plain names lead to one: no `..`, and nothing
/// outside of the folder by a link either.
fn locate(folder: &Path, path: &str) -> Option<(PathBuf, u64)> {
    let path = path.split(['?', '#']).next()?;
    let path = decode(path)?;
    let mut file = folder.canonicalize().ok()?;
    let root = file.clone();
    for component in Path::new(path.trim_start_matches('/')).components() {
        match component {
            Component::Normal(name) => file.push(name),
            _ => return None,
        }
    }
    let file = file.canonicalize().ok()?;
    let file = if file.is_dir() { file.join("index.html").canonicalize().ok()? } else { file };
    let metadata = file.metadata().ok()?;
    (file.starts_with(&root) && metadata.is_file()).then_some((file, metadata.len()))
}

/// Takes `%20` and the like out of a path.
fn decode(path: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        let byte = if byte == b'%' {
            let digit = |byte: u8| char::from(byte).to_digit(16);
            let (high, low) = (digit(rest.next()?)?, digit(rest.next()?)?);
            u8::try_from(high * 16 + low).ok()?
        } else {
            byte
        };
        bytes.push(byte);
    }
    String::from_utf8(bytes).ok().filter(|path| !path.contains('\0'))
}

fn content_type(file: &Path) -> &'static str {
    match file.extension().and_then(|extension| extension.to_str()) {
        Some("html" | "htm") => "text/html; charset=utf-8",
        Some("js" | "mjs") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("json") => "application/json",
        Some("txt" | "md") => "text/plain; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("jpg" | "jpeg") => "image/jpeg",
        Some("ico") => "image/x-icon",
        Some("woff2") => "font/woff2",
        Some("wasm") => "application/wasm",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_outside_of_the_folder_is_found() {
        let base = std::env::temp_dir().join(format!("files-{}", std::process::id()));
        let folder = base.join("public");
        std::fs::create_dir_all(folder.join("sub")).expect("a folder can be made");
        for file in ["public/index.html", "public/sub/a b.txt", "secret"] {
            std::fs::write(base.join(file), file).expect("a file can be written");
        }
        std::os::unix::fs::symlink(base.join("secret"), folder.join("link")).expect("a link");
        for (path, found) in [
            ("/", true),
            ("/index.html?x=1", true),
            ("/sub/a%20b.txt", true),
            ("/sub", false),
            ("/../secret", false),
            ("/sub/../../secret", false),
            ("/%2e%2e/secret", false),
            ("//secret", false),
            ("/link", false),
            ("/nothing", false),
            ("/%zz", false),
            ("/%00", false),
        ] {
            assert_eq!(locate(&folder, path).is_some(), found, "{path}");
        }
        std::fs::remove_dir_all(base).expect("a folder can be removed");
    }
}
