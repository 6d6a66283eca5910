use std::path::PathBuf;

/// Looks for something foreign that a test needs and says when the test is skipped.
///
/// # Panics
/// When it is missing and `MQTT_INTEROP=required` is set, as it is in CI.
pub(crate) fn required<T>(what: &str, found: Option<T>) -> Option<T> {
    if found.is_none() {
        let hint = "examples/tests/install-clients installs it";
        let required = std::env::var("MQTT_INTEROP").is_ok_and(|value| value == "required");
        assert!(!required, "{what} is missing and MQTT_INTEROP=required; {hint}");
        println!("skipped: {what} is not installed ({hint})");
    }
    found
}

/// A program of the search path. Debian puts servers where only root looks.
pub(crate) fn in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/usr/local/sbin")])
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
}

/// Where `tests/install-clients` puts what it installs: `target/interop`.
pub(crate) fn installed() -> PathBuf {
    crate::program::scratch().with_file_name("interop")
}
