//! What the doctor found, for people and for machines.

use std::fmt::Write as _;

use serde::Serialize;

use super::mend;

/// How bad it is. The numbers are the exit codes, as monitoring plugins have them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok = 0,
    /// It works, but not as well as it could, or it can't be told.
    Warning = 1,
    /// Photos or their events don't get through.
    Failure = 2,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub check: &'static str,
    /// How it is.
    pub level: Level,
    /// What was found.
    pub found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
}

/// All that was looked at.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// In the order of looking.
    pub checks: Vec<Finding>,
}

impl Finding {
    /// As it should be.
    pub fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, level: Level::Ok, found: found.into(), mend: None }
    }

    /// It could be better.
    pub fn warning(check: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { check, level: Level::Warning, found: found.into(), mend: Some(mend.into()) }
    }

    /// It does not work.
    pub fn failure(check: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { check, level: Level::Failure, found: found.into(), mend: Some(mend.into()) }
    }

    /// Something else showed that it is as it should be.
    pub(super) fn settle(&mut self) {
        (self.level, self.mend) = (Level::Ok, None);
    }
}

impl Report {
    /// The worst of all.
    #[must_use]
    pub fn worst(&self) -> Level {
        self.checks.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok)
    }

    /// Lines for people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        for Finding { check, level, found, mend } in &self.checks {
            let level = format!("{level:?}").to_lowercase();
            let _ = writeln!(text, "{level:<8} {check:<18} {found}");
            if let Some(mend) = mend {
                let _ = writeln!(text, "{:<27} mend: {mend}", "");
            }
        }
        if self.checks.iter().filter_map(|found| found.mend.as_deref()).any(mend::deploys) {
            text.push_str(
                "If a deployment says that there is nothing to do, somebody changed something by hand: \
                 go back to what was deployed as infra/README.md says (its block \"drift\").\n",
            );
        }
        text
    }
}
