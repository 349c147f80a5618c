//! The settings table of the README matches `--help`, and configuration errors are reported.
//! `make docs` updates the table.

#![allow(clippy::unwrap_used)]

use std::{collections::BTreeMap, fmt::Write, fs, path::Path, process::Command};

use clap::{Arg, CommandFactory};
use photoshare_server::config::Cli;

const BEGIN: &str = "<!-- settings: written by `make docs` -->\n";
const END: &str = "<!-- settings: end -->\n";

#[test]
fn the_readme_describes_every_setting_as_help_does() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = fs::read_to_string(&path).unwrap();
    let (before, rest) = readme.split_once(BEGIN).expect("the README contains the begin marker");
    let (written, after) = rest.split_once(END).expect("the README contains the end marker");
    let table = render_table();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, format!("{before}{BEGIN}{table}{END}{after}")).unwrap();
    } else {
        assert!(written == table, "run `make docs`; the table should be:\n{table}");
    }
}

#[test]
fn all_configuration_errors_are_reported_together_before_a_port_is_bound() {
    let output = Command::new(env!("CARGO_BIN_EXE_photoshare"))
        .args(["serve"])
        .envs([("PORT", "abc"), ("VIEW_URL_SECS", "-1"), ("AUTH_JWT_SECRET", "short")])
        .envs([("S3_KEY_PREFIX", "no-slash"), ("UPLOAD_CONTENT_TYPES", "image/svg+xml")])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(78));
    let stderr = String::from_utf8(output.stderr).unwrap();
    for name in [
        "PORT",
        "VIEW_URL_SECS",
        "AUTH_JWT_SECRET",
        "S3_BUCKET",
        "SQS_QUEUE_URL",
        "S3_KEY_PREFIX",
        "UPLOAD_CONTENT_TYPES",
    ] {
        assert!(stderr.contains(&format!("\n  {name} ")), "{name} is missing in: {stderr}");
    }
    assert!(!stderr.contains("short"), "contains a secret: {stderr}");
}

#[test]
fn serve_without_a_port_reports_that_it_must_be_set() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_photoshare")).arg("serve").env_remove("PORT").output().unwrap();
    assert_eq!(output.status.code(), Some(78));
    assert!(String::from_utf8(output.stderr).unwrap().contains("PORT must be set"));
}

#[test]
fn an_invalid_command_line_has_its_own_exit_code() {
    for (arguments, code) in [
        (vec![], 64),
        (vec!["serve", "--no-such-flag"], 64),
        (vec!["doctor", "--no-such-flag"], 64),
        (vec!["token"], 64),
        (vec!["--help"], 0),
        (vec!["doctor", "--help"], 0),
        (vec!["--version"], 0),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_photoshare")).args(&arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
    }
}

/// Renders a row for each setting: variable, commands, default, description.
fn render_table() -> String {
    let mut rows: BTreeMap<String, (Vec<String>, Vec<String>, String)> = BTreeMap::new();
    for command in Cli::command().get_subcommands() {
        for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
            let Some(variable) = argument.get_env() else { continue };
            let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
            let row = rows.entry(variable.to_string_lossy().into_owned()).or_default();
            row.0.push(command.get_name().to_owned());
            row.1.push(render_default(argument));
            // The description of the first command: for later ones the setting may mean less.
            if row.2.is_empty() {
                row.2 = help.replace('|', "\\|");
            }
        }
    }
    let mut table = String::from("| variable | of | default | what |\n| --- | --- | --- | --- |\n");
    for (variable, (commands, mut defaults, help)) in rows {
        let commands_text = commands.join(", ");
        let distinct: std::collections::BTreeSet<_> = defaults.iter().collect();
        let default = if distinct.len() == 1 {
            defaults.remove(0)
        } else {
            let each =
                commands.iter().zip(&defaults).map(|(command, default)| format!("{command}: {default}"));
            each.collect::<Vec<_>>().join("; ")
        };
        let _ = writeln!(table, "| `{variable}` | {commands_text} | {default} | {help} |");
    }
    table
}

fn render_default(argument: &Arg) -> String {
    let values: Vec<_> = argument.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    let value = values.join(",");
    if value.is_empty() { "none".into() } else { format!("`{}`", value.replace(',', ", ")) }
}
