//! Enforces the module structure of ARCHITECTURE.md: which module may use which, and which modules may use
//! each external crate.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// The modules of the crate, each with those that it may use. The order is topological.
const ALLOWED_DEPENDENCIES: &[(&str, &[&str])] = &[
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
    ("client_address", &[]),
    ("limit", &["auth", "client_address", "listener"]),
    ("protocol", &["limit", "feed", "log", "bucket", "auth"]),
    ("socketio", &["limit", "feed", "log", "bucket", "hub", "auth", "protocol", "listener"]),
    ("http", &["limit", "feed", "log", "bucket", "hub", "auth", "protocol", "listener"]),
    ("local", &["queue", "events"]),
    ("doctor", &["feed", "events", "log", "queue", "bucket"]),
    ("redrive", &["events", "queue"]),
];

/// Modules that compose the others and may use all of them.
const COMPOSITION_MODULES: &[&str] = &["app", "cli", "config", "telemetry", "lib", "main"];

/// External crates, each with the modules that may use it.
const ALLOWED_CRATE_USERS: &[(&str, &[&str])] = &[
    // `doctor` and `redrive` make calls that no server makes. Each is read in one place with its use.
    ("aws_sdk_sqs", &["queue", "redrive"]),
    ("aws_sdk_s3", &["bucket", "doctor"]),
    ("aws_sigv4", &["bucket"]),
    ("aws_lambda_events", &["events"]),
    ("socketioxide", &["socketio"]),
    // `protocol` encodes events to its string type.
    ("socketioxide_core", &["socketio", "protocol"]),
    ("engineioxide", &["socketio"]),
    ("axum", &["http", "listener", "app"]),
    ("s3s", &["local"]),
    ("s3s_fs", &["local"]),
    ("jsonwebtoken", &["auth"]),
    ("reqwest", &["auth", "doctor"]),
    ("governor", &["limit"]),
    // `doctor` tries the operations of the log on a key of its own.
    ("redis", &["log", "doctor"]),
    ("clap", &["config", "cli"]),
    ("imagesize", &["inspect"]),
    ("infer", &["inspect"]),
    ("exif", &["inspect"]),
    ("utoipa", &["feed", "protocol", "http"]),
];

#[test]
fn modules_use_only_the_modules_they_may_use() {
    let mut violations = Vec::new();
    for (module, text) in read_sources() {
        let Some((_, allowed)) = ALLOWED_DEPENDENCIES.iter().find(|(name, _)| *name == module) else {
            assert!(COMPOSITION_MODULES.contains(&module.as_str()), "{module} is missing from the table");
            continue;
        };
        for used in find_used_modules(&text) {
            if used != module && !allowed.contains(&used.as_str()) {
                violations.push(format!("{module} uses {used}"));
            }
        }
    }
    assert!(violations.is_empty(), "{violations:#?}");
}

#[test]
fn external_crates_are_used_only_in_their_modules() {
    let mut violations = Vec::new();
    for (module, text) in read_sources() {
        for (external, users) in ALLOWED_CRATE_USERS {
            if text.contains(&format!("{external}::")) && !users.contains(&module.as_str()) {
                violations.push(format!("{module} uses {external}"));
            }
        }
    }
    assert!(violations.is_empty(), "{violations:#?}");
}

#[test]
fn each_module_uses_only_modules_above_it_in_the_table() {
    let names: Vec<_> = ALLOWED_DEPENDENCIES.iter().map(|(name, _)| *name).collect();
    for (index, (module, allowed)) in ALLOWED_DEPENDENCIES.iter().enumerate() {
        for used in *allowed {
            assert!(names[..index].contains(used), "{module} uses {used}, which is below it");
        }
    }
}

/// The code of each source file, without comments and unit tests, with the name of its top-level module.
fn read_sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect_files(&root, &mut files);
    files.iter().map(|file| (top_level_module(&root, file), read_code(file))).collect()
}

fn collect_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
            files.push(path);
        }
    }
}

fn top_level_module(root: &Path, file: &Path) -> String {
    let path = file.strip_prefix(root).unwrap();
    let first = path.components().next().unwrap().as_os_str().to_string_lossy().into_owned();
    first.trim_end_matches(".rs").to_owned()
}

fn read_code(file: &Path) -> String {
    let text = fs::read_to_string(file).unwrap();
    let (code, tests) = text.split_once("#[cfg(test)]").unwrap_or((&text, ""));
    let tests_are_last = tests.lines().all(|line| !line.starts_with("use ") && !line.starts_with("pub "));
    assert!(tests_are_last, "{}: the code after the tests is not checked", file.display());
    code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// Finds the top-level modules after `crate::`, alone or in a group in braces.
fn find_used_modules(text: &str) -> BTreeSet<String> {
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
