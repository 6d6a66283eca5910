use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use super::error::{ConfigError, Position, Reason};
use crate::lines::numbered;

/// One `option value` of a file.
pub(super) struct Line {
    pub(super) position: Position,
    pub(super) option: String,
    value: String,
}

/// The lines of a file with those of the files that it includes, each where it is included.
pub(super) fn read_lines(file: &Path) -> Result<Vec<Line>, ConfigError> {
    let mut lines = Vec::new();
    for line in split(file, &read(file)?) {
        if line.option != "include_dir" {
            lines.push(line);
            continue;
        }
        for included in included(&line).map_err(|reason| line.error(reason))? {
            for inner in split(&included, &read(&included)?) {
                if inner.option == "include_dir" {
                    return Err(inner.error(Reason::NestedInclude));
                }
                lines.push(inner);
            }
        }
    }
    Ok(lines)
}

/// The lines of a text that hold an option.
pub(super) fn split(file: &Path, text: &str) -> Vec<Line> {
    let file = Arc::new(file.to_owned());
    let line = |(line, text): (usize, &str)| {
        let (option, value) = text.split_once([' ', '\t']).unwrap_or((text, ""));
        Line {
            position: Position { file: Arc::clone(&file), line },
            option: option.to_owned(),
            value: value.trim().to_owned(),
        }
    };
    numbered(text).map(line).collect()
}

fn read(file: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(file).map_err(|error| {
        ConfigError::new(Position::start_of(file.to_owned()), Reason::Unreadable(error))
    })
}

/// The files of an `include_dir`: those that end in `.conf`, in the order of the alphabet. Capital
/// letters stand before their small ones: `A.conf`, `a.conf`, `B.conf`.
fn included(line: &Line) -> Result<Vec<PathBuf>, Reason> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(line.path()?)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "conf") {
            files.push(path);
        }
    }
    files.sort_by_cached_key(|file| (file.to_string_lossy().to_lowercase(), file.clone()));
    Ok(files)
}

impl Line {
    pub(super) fn error(&self, reason: Reason) -> ConfigError {
        ConfigError::new(self.position.clone(), reason)
    }

    /// The value as it is: all words of it.
    pub(super) fn text(&self) -> Result<String, Reason> {
        match self.value.as_str() {
            "" => Err(Reason::NoValue(self.option.clone())),
            value => Ok(value.to_owned()),
        }
    }

    pub(super) fn path(&self) -> Result<PathBuf, Reason> {
        self.text().map(PathBuf::from)
    }

    pub(super) fn words(&self) -> Result<Vec<String>, Reason> {
        let words = self.text()?;
        Ok(words.split([' ', '\t', ',']).filter(|w| !w.is_empty()).map(str::to_owned).collect())
    }

    pub(super) fn bool(&self) -> Result<bool, Reason> {
        match self.text()?.to_ascii_lowercase().as_str() {
            "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            _ => Err(self.invalid("true or false")),
        }
    }

    pub(super) fn number<T: FromStr>(&self, expected: &'static str) -> Result<T, Reason> {
        self.text()?.parse().map_err(|_| self.invalid(expected))
    }

    /// A number of something, where 0 is no limit.
    pub(super) fn limit(&self) -> Result<Option<usize>, Reason> {
        let limit = self.number("a number from 0 on")?;
        Ok((limit > 0).then_some(limit))
    }

    /// A number of something, where -1 is no limit.
    pub(super) fn limit_or_minus_1(&self) -> Result<Option<usize>, Reason> {
        if self.text()? == "-1" {
            return Ok(None);
        }
        self.number("a number from 0 on, or -1").map(Some)
    }

    /// Sets what can be given only once.
    pub(super) fn set<T>(&self, slot: &mut Option<T>, value: T) -> Result<(), Reason> {
        match slot.replace(value) {
            None => Ok(()),
            Some(_) => Err(Reason::Twice(self.option.clone())),
        }
    }

    pub(super) fn invalid(&self, expected: &'static str) -> Reason {
        Reason::Invalid { option: self.option.clone(), value: self.value.clone(), expected }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn included_files_have_the_order_of_the_manual() {
        let folder = std::env::temp_dir().join(format!("include-order-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder can be made");
        let names = ["00.conf", "01.conf", "A.conf", "a.conf", "B.conf", "b.conf"];
        for name in names.iter().rev() {
            std::fs::write(folder.join(name), "").expect("it can be written");
        }
        let text = format!("include_dir {}", folder.display());
        let line = &split(Path::new("f"), &text)[0];
        let files = included(line).expect("the folder can be read");
        assert_eq!(files, names.map(|name| folder.join(name)));
        let _ = std::fs::remove_dir_all(folder);
    }
}
