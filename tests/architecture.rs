//! The shape of the code, held by a test: uses go one way, every file says what it is for, and none grows
//! beyond what one can read at a sitting.

#![allow(clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Lines of a file, tests in it included.
const LINES_MAX: usize = 500;

/// What each top-level module may use of the others. `cli` joins everything.
const USES: [(&str, &[&str]); 10] = [
    ("smtp", &[]),
    ("track", &[]),
    ("clock", &[]),
    ("observe", &[]),
    ("report", &["track"]),
    ("store", &["track", "clock"]),
    ("hop", &["smtp", "track", "store", "clock", "observe"]),
    ("trail", &["report", "track", "clock"]),
    ("config", &["hop", "report", "smtp", "store", "track"]),
    (
        "cli",
        &[
            "clock", "config", "hop", "observe", "report", "smtp", "store", "track", "trail",
        ],
    ),
];

struct Source {
    /// Below `src`.
    path: PathBuf,
    text: String,
}

impl Source {
    /// The top-level module it belongs to; `lib` and `main` are nobody's.
    fn module(&self) -> String {
        let first = self.path.iter().next().expect("a path").to_string_lossy();
        first.trim_end_matches(".rs").to_owned()
    }

    /// Whether all of it is a test: such files may use what they like.
    fn is_test(&self) -> bool {
        let mut names = self.path.iter().map(|part| part.to_string_lossy());
        names.any(|n| n.trim_end_matches(".rs") == "tests" || n.ends_with("_tests.rs"))
    }

    /// Its code: no comments, nothing from its test module on, which is the last thing in a file.
    fn code(&self) -> String {
        let code = self
            .text
            .split("\n#[cfg(test)]\nmod ")
            .next()
            .unwrap_or_default();
        let lines = code
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"));
        lines.collect::<Vec<_>>().join("\n")
    }

    /// The top-level modules it uses: by their name in the crate, or as its own parents' neighbours.
    fn uses(&self) -> BTreeSet<String> {
        let code = self.code();
        let depth = self.path.iter().filter(|part| *part != "mod.rs").count();
        let up = "super::".repeat(depth);
        let paths = ["crate::", &up]
            .map(|root| code.split(root).skip(1).flat_map(names).collect::<Vec<_>>());
        paths
            .into_iter()
            .flatten()
            .filter(|name| name != "super")
            .collect()
    }
}

/// The first names of a path behind `crate::`: one, or those of a group.
fn names(path: &str) -> Vec<String> {
    let word = |text: &str| {
        let end = text
            .find(|c: char| !c.is_alphanumeric() && c != '_')
            .unwrap_or(text.len());
        text.get(..end).unwrap_or_default().to_owned()
    };
    let Some(group) = path.strip_prefix('{') else {
        return vec![word(path)];
    };
    let (mut found, mut depth, mut start) = (Vec::new(), 0, true);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => start = true,
            c if start && !c.is_whitespace() => {
                found.push(word(group.get(at..).unwrap_or_default()));
                start = false;
            }
            _ => {}
        }
    }
    found
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = fs::read_to_string(&path).expect("a source file");
                let path = path.strip_prefix(&root).expect("below src").to_owned();
                sources.push(Source { path, text });
            }
        }
    }
    assert!(sources.len() > 50, "the sources are found");
    sources
}

#[test]
fn uses_go_one_way() {
    let allowed: BTreeMap<&str, &[&str]> = USES.into();
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|s| !s.is_test()) {
        let module = source.module();
        if ["lib", "main"].contains(&module.as_str()) {
            continue;
        }
        let may = allowed.get(module.as_str()).copied().unwrap_or_default();
        for used in source.uses() {
            if used != module && !may.contains(&used.as_str()) {
                wrong.push(format!("src/{} uses {used}", source.path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_module_has_its_place() {
    let modules: BTreeSet<String> = sources().iter().map(Source::module).collect();
    let named = USES.map(|(module, _)| module.to_owned()).into_iter();
    let expected: BTreeSet<String> = named.chain(["lib", "main"].map(str::to_owned)).collect();
    assert_eq!(modules, expected, "USES says what each may use");
    let lib =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/src/lib.rs")).expect("lib.rs");
    for (module, _) in USES {
        assert!(
            lib.contains(&format!("\npub mod {module};")),
            "lib.rs does not name {module}"
        );
    }
}

#[test]
fn every_file_says_what_it_is_for() {
    let sources = sources();
    let silent = sources.iter().filter(|s| !s.text.starts_with("//!"));
    let silent: Vec<_> = silent.map(|s| &s.path).collect();
    assert!(silent.is_empty(), "no //! at the top: {silent:#?}");
}

#[test]
fn no_file_is_too_long() {
    let sources = sources();
    let lines = sources.iter().map(|s| (s.text.lines().count(), &s.path));
    let long: Vec<_> = lines.filter(|(lines, _)| *lines >= LINES_MAX).collect();
    assert!(long.is_empty(), "split these: {long:#?}");
}

#[test]
fn paths_are_understood() {
    assert_eq!(names("smtp::line::Line;"), ["smtp"]);
    assert_eq!(
        names("{clock::Clock, store::{Store, keys}, track};"),
        ["clock", "store", "track"]
    );
    assert_eq!(names("report)"), ["report"]);
    let source = Source {
        path: PathBuf::from("hop/x.rs"),
        text: "// crate::cli\nuse crate::smtp;\n#[cfg(test)]\nmod tests { use crate::trail; }"
            .to_owned(),
    };
    assert_eq!(source.uses(), BTreeSet::from(["smtp".to_owned()]));
    assert_eq!((source.module().as_str(), source.is_test()), ("hop", false));
    let source = Source {
        path: PathBuf::from("hop/mod.rs"),
        text: "use super::{cli, trail::Trails};".to_owned(),
    };
    assert_eq!(
        source.uses(),
        BTreeSet::from(["cli", "trail"].map(str::to_owned))
    );
}
