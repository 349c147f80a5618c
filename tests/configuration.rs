//! The settings table of the README matches `--help`, and configuration errors are reported.
//! `make docs` updates the table.

#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    fmt::Write,
    fs,
    path::Path,
    process::{Command, Output},
};

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
fn help_shows_kind_range_and_default_of_each_setting() {
    let help = String::from_utf8(run(&["serve", "--help"], &[]).stdout).unwrap();
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    for line in [
        "--view-url-secs <SECONDS> TTL of the signed URLs in events and listings \
         [env: VIEW_URL_SECS=] [default: 3600] [possible values: 1-604800]",
        "--upload-max-bytes <BYTES> Maximum size of a photo \
         [env: UPLOAD_MAX_BYTES=] [default: 52428800] [possible values: 1-5368709120]",
        "--sqs-queue-url <URL> URL of the SQS queue that receives the bucket's events [env: SQS_QUEUE_URL=]",
        "[env: AUTH=] [default: on] [possible values: on, off]",
        "[env: LOG_FORMAT=] [default: json] [possible values: json, pretty]",
        "[env: DEMO_PAGE=] [default: false] [possible values: true, false]",
    ] {
        assert!(help.contains(line), "{line} is missing in: {help}");
    }
    assert!(!help.contains("[default: \"\"]"), "{help}");
}

#[test]
fn all_configuration_errors_are_reported_together_before_a_port_is_bound() {
    let output = run(
        &["serve", "--no-poller", "--slow-client-secs", "soon"],
        &[
            ("PORT", "abc"),
            ("BIND_ADDR", "localhost"),
            ("VIEW_URL_SECS", "-1"),
            ("AUTH_JWT_SECRET", "short"),
            ("AUTH_JWKS_URL", "keys.json"),
            ("S3_KEY_PREFIX", "no-slash"),
            ("UPLOAD_CONTENT_TYPES", "image/svg+xml"),
            ("DEMO_PAGE", "maybe"),
        ],
    );
    let names = [
        "AUTH_JWKS_URL",
        "AUTH_JWT_SECRET",
        "BIND_ADDR",
        "DEMO_PAGE",
        "PORT",
        "REDIS_URL",
        "S3_BUCKET",
        "S3_KEY_PREFIX",
        "SLOW_CLIENT_SECS",
        "SQS_QUEUE_URL",
        "UPLOAD_CONTENT_TYPES",
        "VIEW_URL_SECS",
    ];
    assert_eq!(invalid_settings(&output), names);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(!stderr.contains("short"), "contains a secret: {stderr}");
}

#[test]
fn an_error_names_the_variable_and_what_it_must_be() {
    for (command, variable, value, requirement) in [
        ("serve", "PORT", "", "must be set: the port to listen on"),
        ("dev", "PORT", "65536", "must be an integer from 0 to 65535"),
        ("dev", "SLOW_CLIENT_SECS", "3601", "must be an integer from 1 to 3600"),
        ("dev", "SLOW_CLIENT_SECS", "", "must be an integer from 1 to 3600"),
        ("dev", "MAX_MESSAGE_BYTES", "1023", "must be an integer from 1024 to 16777216"),
        ("dev", "REDIS_WAIT_MS", "0.5", "must be an integer from 1 to 2000"),
        ("dev", "INSPECT", "burn", "must be keep, delete, quarantine or off"),
        ("dev", "SHOW_UPLOADER", "yes", "must be true or false"),
        ("dev", "UPLOAD_NAME_SECRET", "short", "must have at least 32 bytes, this value has 5"),
        ("poll", "REDIS_URL", "", "must be set for poll"),
        ("doctor", "DOCTOR_WAIT_SECS", "0", "must be an integer from 1 to 3600"),
        ("redrive", "SQS_QUEUE_URL", "queue", "must be a URL"),
    ] {
        let output = run(&[command], &[(variable, value)]);
        assert_eq!(output.status.code(), Some(78), "{variable}={value}");
        let line = format!("\n  {variable} {requirement}");
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.contains(&line), "{line} is missing in: {stderr}");
    }
}

#[test]
fn defaults_are_valid_and_an_empty_optional_variable_is_unset() {
    let required = ["AUTH_JWT_SECRET", "PORT", "S3_BUCKET", "SQS_QUEUE_URL"];
    assert_eq!(invalid_settings(&run(&["serve"], &[])), required);
    let command = Cli::command();
    let serve = command.find_subcommand("serve").unwrap();
    let optional = serve.get_arguments().filter(|argument| argument.get_default_values().is_empty());
    let empty: Vec<_> = optional.filter_map(|argument| Some((argument.get_env()?.to_str()?, ""))).collect();
    assert!(empty.contains(&("MAX_MESSAGE_BYTES", "")), "{empty:?}");
    assert_eq!(invalid_settings(&run(&["serve"], &empty)), required);
}

#[test]
fn an_invalid_command_line_has_its_own_exit_code() {
    for (arguments, code) in [
        (vec![], 64),
        (vec!["serve", "--no-such-flag"], 64),
        (vec!["doctor", "--no-such-flag"], 64),
        (vec!["token"], 64),
        (vec!["token", "--feed", "a/b"], 78),
        (vec!["--help"], 0),
        (vec!["doctor", "--help"], 0),
        (vec!["--version"], 0),
    ] {
        assert_eq!(run(&arguments, &[]).status.code(), Some(code), "{arguments:?}");
    }
}

/// Runs `photoshare` with only these environment variables.
fn run(arguments: &[&str], env: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_photoshare"));
    command.args(arguments).env_clear().envs(env.iter().copied()).output().unwrap()
}

/// Returns the sorted names of the settings that `output` reports as invalid.
fn invalid_settings(output: &Output) -> Vec<&str> {
    let stderr = std::str::from_utf8(&output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(78), "{stderr}");
    let errors = stderr.lines().filter_map(|line| line.strip_prefix("  "));
    let mut names: Vec<_> = errors.filter_map(|error| error.split_whitespace().next()).collect();
    names.sort_unstable();
    names
}

/// Renders a row for each setting: variable, commands, values, default, description.
fn render_table() -> String {
    let mut settings: BTreeMap<String, Vec<(String, Arg)>> = BTreeMap::new();
    for command in Cli::command().get_subcommands() {
        for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
            let Some(variable) = argument.get_env() else { continue };
            let commands = settings.entry(variable.to_string_lossy().into_owned()).or_default();
            commands.push((command.get_name().to_owned(), argument.clone()));
        }
    }
    let mut table =
        String::from("| variable | of | values | default | what |\n| --- | --- | --- | --- | --- |\n");
    for (variable, commands) in settings {
        let names: Vec<_> = commands.iter().map(|(command, _)| command.as_str()).collect();
        // The description of the first command: for later ones the setting may mean less.
        let (_, argument) = &commands[0];
        let values = render_values(argument);
        let help = argument.get_help().map(ToString::to_string).unwrap_or_default().replace('|', "\\|");
        let (names, default) = (names.join(", "), render_default(&commands));
        let _ = writeln!(table, "| `{variable}` | {names} | {values} | {default} | {help} |");
    }
    table
}

/// Renders the unit and the range of a number, the words of a choice, or the kind of another value.
fn render_values(argument: &Arg) -> String {
    let kind = argument.get_value_names().and_then(<[_]>::first).map(ToString::to_string).unwrap_or_default();
    let values: Vec<_> =
        argument.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect();
    match values.as_slice() {
        [] => kind,
        [range] => format!("{kind} {range}"),
        words => format!("`{}`", words.join("`, `")),
    }
}

/// Renders the default, for each command if it differs.
fn render_default(commands: &[(String, Arg)]) -> String {
    let default = |argument: &Arg| {
        let values = argument.get_default_values().iter().map(|value| value.to_string_lossy());
        let value = values.collect::<Vec<_>>().join(",");
        if value.is_empty() { "none".into() } else { format!("`{}`", value.replace(',', ", ")) }
    };
    let mut defaults: Vec<_> = commands.iter().map(|(_, argument)| default(argument)).collect();
    if defaults.iter().all(|default| *default == defaults[0]) {
        return defaults.remove(0);
    }
    let each = commands.iter().zip(&defaults).map(|((command, _), default)| format!("{command}: {default}"));
    each.collect::<Vec<_>>().join("; ")
}
