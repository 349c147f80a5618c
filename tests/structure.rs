//! Enforces the module structure of ARCHITECTURE.md: which module may use which, which modules may use each
//! external crate, and that no two files use each other.

#![allow(clippy::unwrap_used)]

mod source_tree;

use std::collections::BTreeSet;

use source_tree::{SourceTree, find_cycles};

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
    ("client_address", &["listener"]),
    ("limit", &["auth", "client_address"]),
    ("protocol", &["limit", "feed", "log", "bucket", "auth"]),
    (
        "socketio",
        &["client_address", "limit", "feed", "log", "bucket", "hub", "auth", "protocol", "listener"],
    ),
    ("http", &["client_address", "limit", "feed", "log", "bucket", "hub", "auth", "protocol", "listener"]),
    ("local", &["queue", "events"]),
    ("doctor", &["feed", "events", "log", "queue", "bucket"]),
    ("redrive", &["events", "queue"]),
];

/// Modules that compose the others and may use all of them.
const COMPOSITION_MODULES: &[&str] = &["app", "cli", "config", "telemetry", "lib", "main"];

/// External crates, each with the modules that may use it.
const ALLOWED_CRATE_USERS: &[(&str, &[&str])] = &[
    // `doctor` and `redrive` make calls that no server makes, so they use the SDKs themselves.
    ("aws_sdk_sqs", &["queue", "redrive"]),
    ("aws_sdk_s3", &["bucket", "doctor"]),
    ("aws_sigv4", &["bucket"]),
    ("aws_lambda_events", &["events"]),
    ("socketioxide", &["socketio"]),
    // `protocol` encodes events to its string type.
    ("socketioxide_core", &["socketio", "protocol"]),
    ("engineioxide", &["socketio"]),
    ("axum", &["http", "listener", "app"]),
    ("hyper_util", &["listener"]),
    ("rustix", &["listener"]),
    ("s3s", &["local"]),
    ("s3s_fs", &["local"]),
    ("jsonwebtoken", &["auth"]),
    ("reqwest", &["auth", "doctor"]),
    ("governor", &["limit"]),
    // `doctor` tries the operations of the log on a key of its own.
    ("redis", &["log", "doctor"]),
    ("clap", &["config", "cli"]),
    ("infer", &["inspect"]),
    ("utoipa", &["protocol", "http"]),
];

#[test]
fn modules_use_only_the_modules_they_may_use() {
    let tree = SourceTree::read();
    let mut violations = BTreeSet::new();
    for source in tree.files() {
        let module = source.top_level_module();
        let Some((_, allowed)) = ALLOWED_DEPENDENCIES.iter().find(|(name, _)| *name == module) else {
            assert!(COMPOSITION_MODULES.contains(&module), "{module} is missing from the table");
            continue;
        };
        let used = tree.used_modules(source);
        let forbidden = used.iter().filter(|used| !allowed.contains(&used.as_str()));
        violations.extend(forbidden.map(|used| format!("{} uses {used}", source.name)));
    }
    assert!(violations.is_empty(), "{violations:#?}");
}

#[test]
fn external_crates_are_used_only_in_their_modules() {
    let tree = SourceTree::read();
    let mut violations = BTreeSet::new();
    for source in tree.files() {
        for (external, users) in ALLOWED_CRATE_USERS {
            if source.uses_crate(external) && !users.contains(&source.top_level_module()) {
                violations.insert(format!("{} uses {external}", source.name));
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

#[test]
fn no_file_uses_a_file_that_uses_it() {
    let uses = SourceTree::read().file_uses();
    let cycles = find_cycles(&uses);
    assert!(cycles.is_empty(), "{cycles:#?}");
}

#[test]
fn a_cycle_is_reported_with_the_names_that_cause_it() {
    let uses = |parent: &str| {
        let child = "use super::{Shared, other::Other as Renamed}; use crate::feed::Feed as _;";
        SourceTree::parse([
            ("lib.rs", "mod log; mod feed;"),
            ("feed.rs", "pub struct Feed;"),
            ("log/mod.rs", parent),
            ("log/child.rs", child),
            ("log/other.rs", "/* super::child::new */ pub struct Other(&'static str);"),
        ])
        .file_uses()
    };
    let shared = "mod child; mod other; pub struct Shared;";
    assert!(find_cycles(&uses(&format!("{shared} pub use child::Child;"))).is_empty(), "only a re-export");
    let in_tests = "#[cfg(test)] mod tests { use super::child::new; }";
    assert!(find_cycles(&uses(&format!("{shared} {in_tests}"))).is_empty(), "only in tests");
    for (use_of_child, names) in [
        ("pub use child::Child; fn f(child: Child) {}", "Child"),
        ("fn f() -> char { child::new::<'_'>('\"'); r#\"child::old\"# }", "new"),
        ("use child as other_name; fn f() { other_name::new(); self::child::old() }", "new, old"),
    ] {
        let expected =
            format!("log/child.rs uses Shared of log/mod.rs; log/mod.rs uses {names} of log/child.rs");
        assert_eq!(find_cycles(&uses(&format!("{shared} {use_of_child}"))), [expected].into());
    }
}
