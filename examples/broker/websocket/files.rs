use std::io;
use std::path::{Component, Path, PathBuf};

use tokio::io::{AsyncWrite, AsyncWriteExt as _};

/// The largest file that is served. Pages and their pictures, no films: a file is read as a whole.
const MAX_FILE: u64 = 16 << 20;

/// Serves the file of a path, or says that there is none.
pub(super) async fn serve<T: AsyncWrite + Unpin>(
    stream: &mut T,
    folder: Option<&Path>,
    path: &str,
    head: bool,
) -> io::Result<()> {
    let file = folder.and_then(|folder| locate(folder, path));
    let Some(file) = file else { return refuse(stream, "404 Not Found").await };
    let read = tokio::task::spawn_blocking({
        let file = file.clone();
        move || std::fs::read(file)
    });
    let Ok(Ok(content)) = read.await else { return refuse(stream, "404 Not Found").await };
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {}\r\nContent-Length: {}\r\n\
         X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n",
        content_type(&file),
        content.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    if !head {
        stream.write_all(&content).await?;
    }
    stream.shutdown().await
}

/// Answers with a status line and nothing else.
pub(super) async fn refuse<T: AsyncWrite + Unpin>(stream: &mut T, status: &str) -> io::Result<()> {
    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

/// The file of a request's path. Only plain names lead to one: no `..`, and nothing outside of the
/// folder by a link either.
fn locate(folder: &Path, path: &str) -> Option<PathBuf> {
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
    let small =
        file.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.len() <= MAX_FILE);
    (file.starts_with(&root) && small).then_some(file)
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
