//! Whether pages may upload.
//!
//! A preflight is answered by the first rule that lets origin, method and every header; the answer to the
//! upload itself, which asks for no headers, is marked by the first rule that lets origin and method. See
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/cors.html#cors-eval-criteria>.

use super::{Finding, bucket::unread, mend};
use crate::bucket::{BucketError, CorsRule};

const CHECK: &str = "cors";
/// All that an upload may have to send.
const HEADERS: [&str; 4] = ["content-type", "if-none-match", "x-amz-meta-filename", "x-amz-checksum-sha256"];

pub(super) fn examine(rules: &Result<Vec<CorsRule>, BucketError>, origins: &[String]) -> Finding {
    let rules = match rules {
        Ok(rules) => rules,
        Err(error) => return unread(CHECK, error),
    };
    if origins.is_empty() {
        return Finding::ok(CHECK, "no ALLOWED_ORIGINS: native apps need none");
    }
    let lacking = |origin: &String| lack(rules, origin).map(|lack| format!("{origin}: {lack}"));
    let lacks: Vec<_> = origins.iter().filter_map(lacking).collect();
    if lacks.is_empty() {
        return Finding::ok(CHECK, format!("pages of {} may upload and read ETag", origins.join(", ")));
    }
    let mend = mend::photos(&format!("\"AllowedOrigins={}\"", origins.join(",")));
    Finding::failure(CHECK, lacks.join("; "), mend)
}

/// What a page of `origin` lacks.
fn lack(rules: &[CorsRule], origin: &str) -> Option<String> {
    if !rules.iter().any(|rule| lists(&rule.origins, origin)) {
        return Some("no rule names it".into());
    }
    ["PUT", "POST", "GET"].into_iter().find_map(|method| lack_for(rules, origin, method))
}

fn lack_for(rules: &[CorsRule], origin: &str, method: &str) -> Option<String> {
    let lets =
        |rule: &&CorsRule| lists(&rule.origins, origin) && rule.methods.iter().any(|said| said == method);
    let letting: Vec<_> = rules.iter().filter(lets).collect();
    let Some(first) = letting.first() else {
        return Some(format!("{method} is not allowed"));
    };
    let headers: &[&str] = if method == "GET" { &[] } else { &HEADERS };
    let refused = |rule: &CorsRule| headers.iter().find(|header| !lists(&rule.headers, header)).copied();
    if letting.iter().all(|rule| refused(rule).is_some()) {
        let header = refused(first).unwrap_or_default();
        return Some(format!("the header {header} is not allowed for {method}"));
    }
    let exposes = first.exposed.iter().any(|exposed| exposed.eq_ignore_ascii_case("etag"));
    let lacks = method == "PUT" && !exposes;
    lacks.then(|| "ETag is not exposed for PUT, which multipart uploads need".into())
}

fn lists(patterns: &[String], text: &str) -> bool {
    patterns.iter().any(|pattern| matches(pattern, text))
}

/// There is one star at most.
fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.to_ascii_lowercase(), text.to_ascii_lowercase());
    match pattern.split_once('*') {
        None => pattern == text,
        Some((before, after)) => {
            text.len() + 1 >= pattern.len() && text.starts_with(before) && text.ends_with(after)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORIGIN: &str = "https://photos.example.com";

    fn rule(methods: &[&str], headers: &[&str], exposed: &[&str]) -> CorsRule {
        let list = |texts: &[&str]| texts.iter().map(ToString::to_string).collect();
        let origins = list(&["https://*.example.com"]);
        CorsRule { origins, methods: list(methods), headers: list(headers), exposed: list(exposed) }
    }

    #[test]
    fn one_rule_must_let_all_headers_and_the_first_must_expose_the_etag() {
        let all = ["PUT", "POST", "GET"];
        let good = || rule(&all, &["content-type", "if-none-match", "x-amz-*"], &["etag"]);
        for (rules, lacking) in [
            (vec![good()], None),
            (vec![], Some("no rule")),
            (vec![rule(&all, &["Content-Type"], &["ETag"]), good()], None),
            (vec![rule(&["GET"], &[], &[]), good()], None),
            (vec![rule(&all, &["content-type"], &[]), good()], Some("ETag")),
            (vec![rule(&all, &["*"], &[]), good()], Some("ETag")),
            (vec![rule(&all, &["content-type"], &["ETag"])], Some("if-none-match")),
            (
                vec![rule(&all, &["content-type"], &["ETag"]), rule(&all, &["if-none-match"], &["ETag"])],
                Some("if-none-match"),
            ),
            (vec![rule(&["PUT", "GET"], &["*"], &["ETag"])], Some("POST")),
        ] {
            let lack = lack(&rules, ORIGIN);
            let as_expected = match (&lack, lacking) {
                (None, None) => true,
                (Some(lack), Some(lacking)) => lack.contains(lacking),
                _ => false,
            };
            assert!(as_expected, "{rules:?}: {lack:?}");
        }
    }
}
