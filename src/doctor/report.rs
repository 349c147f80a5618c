//! The doctor's report, as lines for people and as JSON.

use std::fmt::Write as _;

use serde::Serialize;

use super::remediation;

/// Severity of a finding. The values are the exit codes of monitoring plugins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// The check passed.
    Ok = 0,
    /// The deployment works but could be improved, or the check could not be made.
    Warning = 1,
    /// Photos or their events are lost or refused.
    Failure = 2,
}

/// Result of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Name of the check.
    pub check: &'static str,
    /// Severity.
    pub level: Level,
    /// What the check found.
    pub found: String,
    /// How to fix it; `None` when the check passed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

/// Results of all checks.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// The findings, in the order of the checks.
    pub checks: Vec<Finding>,
}

impl Finding {
    /// A check that passed.
    pub fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, level: Level::Ok, found: found.into(), fix: None }
    }

    /// A check with a warning.
    pub fn warning(check: &'static str, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { check, level: Level::Warning, found: found.into(), fix: Some(fix.into()) }
    }

    /// A check that failed.
    pub fn failure(check: &'static str, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { check, level: Level::Failure, found: found.into(), fix: Some(fix.into()) }
    }

    /// Turns the finding into a passed check, after another check has shown that all is well.
    pub(super) fn resolve(&mut self) {
        (self.level, self.fix) = (Level::Ok, None);
    }
}

impl Report {
    /// Returns the level of the worst finding.
    #[must_use]
    pub fn worst_level(&self) -> Level {
        self.checks.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok)
    }

    /// Formats the report as lines for people.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for Finding { check, level, found, fix } in &self.checks {
            let level = format!("{level:?}").to_lowercase();
            let _ = writeln!(text, "{level:<8} {check:<18} {found}");
            if let Some(fix) = fix {
                let _ = writeln!(text, "{:<27} fix: {fix}", "");
            }
        }
        let mut fixes = self.checks.iter().filter_map(|finding| finding.fix.as_deref());
        if fixes.any(remediation::is_deployment) {
            text.push_str(
                "If a deployment reports no changes, the resource was changed outside CloudFormation: \
                 restore it as the section \"drift\" of infra/README.md describes.\n",
            );
        }
        text
    }
}

/// Formats an error and its sources. Some errors repeat their source's message, which appears once.
pub(super) fn format_with_sources(error: &dyn std::error::Error) -> String {
    let layers = std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string);
    let mut layers: Vec<_> = layers.collect();
    layers.dedup();
    layers.join(": ")
}
