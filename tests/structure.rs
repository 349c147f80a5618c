//! The structure, held: which module may use which, and where each vendor's crate lives.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// From the pure to the outside: a module may use those named beside it, and nothing else of ours.
const MAY_USE: &[(&str, &[&str])] = &[
    ("feed", &[]),
    ("events", &["feed"]),
    ("log", &["feed"]),
    ("queue", &[]),
    ("bucket", &["feed"]),
    ("inspect", &[]),
    ("ingest", &["feed", "events", "log", "queue", "bucket", "inspect"]),
    ("hub", &["feed", "log"]),
    ("auth", &["feed"]),
    ("listener", &[]),
    ("limit", &["auth", "listener"]),
    ("wire", &["limit", "feed", "log", "bucket", "auth", "limit"]),
    ("socketio", &["limit", "feed", "log", "bucket", "hub", "auth", "limit", "wire", "listener"]),
    ("http", &["limit", "feed", "log", "bucket", "hub", "auth", "limit", "wire", "listener"]),
    ("local", &["queue", "events"]),
    ("doctor", &["feed", "events", "log", "queue", "bucket"]),
    ("redrive", &["events", "queue"]),
];

/// They put everything together.
const OUTSIDE: &[&str] = &["app", "cli", "config", "telemetry", "lib", "main"];

/// A vendor's crate and the modules that know it.
const HOMES: &[(&str, &[&str])] = &[
    ("aws_sdk_sqs", &["queue"]),
    ("aws_sdk_s3", &["bucket"]),
    ("aws_sigv4", &["bucket"]),
    ("aws_lambda_events", &["events"]),
    ("socketioxide", &["socketio"]),
    // Its string type is what `wire` encodes to.
    ("socketioxide_core", &["socketio", "wire"]),
    ("engineioxide", &["socketio"]),
    ("axum", &["http", "listener", "app"]),
    ("s3s", &["local"]),
    ("s3s_fs", &["local"]),
    ("jsonwebtoken", &["auth"]),
    ("reqwest", &["auth", "doctor"]),
    ("governor", &["limit"]),
    ("redis", &["log"]),
    ("clap", &["config", "cli"]),
    ("imagesize", &["inspect"]),
    ("infer", &["inspect"]),
    ("exif", &["inspect"]),
    ("utoipa", &["feed", "wire", "http"]),
];

#[test]
fn modules_use_only_what_they_may() {
    let mut wrong = Vec::new();
    for (module, text) in sources() {
        let Some((_, allowed)) = MAY_USE.iter().find(|(name, _)| *name == module) else {
            assert!(OUTSIDE.contains(&module.as_str()), "{module} has no place in the table");
            continue;
        };
        for used in used_modules(&text) {
            if used != module && !allowed.contains(&used.as_str()) {
                wrong.push(format!("{module} uses {used}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_vendor_crate_has_its_home() {
    let mut wrong = Vec::new();
    for (module, text) in sources() {
        for (vendor, homes) in HOMES {
            if text.contains(&format!("{vendor}::")) && !homes.contains(&module.as_str()) {
                wrong.push(format!("{module} uses {vendor}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_table_can_be_read_from_the_top() {
    let names: Vec<_> = MAY_USE.iter().map(|(name, _)| *name).collect();
    for (index, (module, allowed)) in MAY_USE.iter().enumerate() {
        for used in *allowed {
            assert!(names[..index].contains(used), "{module} uses {used}, which stands below it");
        }
    }
}

/// Each source file with the name of its module, code only: comments and tests are left out, which stand
/// at its end.
fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    files.iter().map(|file| (module_of(&root, file), code(file))).collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
            files.push(path);
        }
    }
}

fn module_of(root: &Path, file: &Path) -> String {
    let inside = file.strip_prefix(root).unwrap();
    let first = inside.components().next().unwrap().as_os_str().to_string_lossy().into_owned();
    first.trim_end_matches(".rs").to_owned()
}

fn code(file: &Path) -> String {
    let text = fs::read_to_string(file).unwrap();
    let (text, tests) = text.split_once("#[cfg(test)]").unwrap_or((&text, ""));
    let ends_with_tests = tests.lines().all(|line| !line.starts_with("use ") && !line.starts_with("pub "));
    assert!(ends_with_tests, "{}: tests stand before other code, which nobody looks at", file.display());
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// The top-level modules named after `crate::`, alone or in braces.
fn used_modules(text: &str) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 0;
            let mut word = String::new();
            for character in group.chars() {
                match character {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => word.clear(),
                    ':' if depth == 0 => {
                        used.extend(Some(word.trim().to_owned()).filter(|word| !word.is_empty()));
                        word.clear();
                    }
                    _ if depth == 0 => word.push(character),
                    _ => {}
                }
            }
        } else {
            let name = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_');
            used.insert(name.collect());
        }
    }
    used
}
