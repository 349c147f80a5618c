//! Checks whether the bucket's CORS rules let the pages of each origin upload.
//!
//! S3 evaluates the rules twice: the preflight matches the first rule that allows the origin, the method and
//! every requested header; the upload itself requests no headers and matches the first rule that allows the
//! origin and the method. See
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/cors.html#cors-eval-criteria>.

use super::{bucket::report_unreadable, remediation, report::Finding};
use crate::bucket::{Bucket, BucketError};

const CHECK: &str = "cors";
/// The headers that an upload may send.
const UPLOAD_HEADERS: [&str; 4] =
    ["content-type", "if-none-match", "x-amz-meta-filename", "x-amz-checksum-sha256"];

#[derive(Debug)]
struct CorsRule {
    /// Allowed origins, with at most one `*` each.
    origins: Vec<String>,
    methods: Vec<String>,
    /// Allowed request headers, with at most one `*` each.
    headers: Vec<String>,
    /// Response headers that scripts may read.
    exposed_headers: Vec<String>,
}

pub(super) async fn check_cors(bucket: &Bucket, origins: &[String]) -> Finding {
    let rules = match fetch_cors_rules(bucket).await {
        Ok(rules) => rules,
        Err(error) => return report_unreadable(CHECK, &error),
    };
    if origins.is_empty() {
        return Finding::ok(CHECK, "ALLOWED_ORIGINS is empty; native apps need no CORS");
    }
    let problems: Vec<_> = origins
        .iter()
        .filter_map(|origin| find_problem(&rules, origin).map(|problem| format!("{origin}: {problem}")))
        .collect();
    if problems.is_empty() {
        return Finding::ok(CHECK, format!("pages of {} may upload and read the ETag", origins.join(", ")));
    }
    let fix = remediation::deploy_photos_stack(&format!("\"AllowedOrigins={}\"", origins.join(",")));
    Finding::failure(CHECK, problems.join("; "), fix)
}

async fn fetch_cors_rules(bucket: &Bucket) -> Result<Vec<CorsRule>, BucketError> {
    let call = bucket.client().get_bucket_cors().bucket(bucket.name()).send().await;
    let response = match call.map_err(|error| bucket.call_error("GetBucketCors", &error)) {
        Err(error) if error.has_code("NoSuchCORSConfiguration") => return Ok(Vec::new()),
        response => response?,
    };
    let rules = response.cors_rules.unwrap_or_default().into_iter().map(|rule| CorsRule {
        origins: rule.allowed_origins,
        methods: rule.allowed_methods,
        headers: rule.allowed_headers.unwrap_or_default(),
        exposed_headers: rule.expose_headers.unwrap_or_default(),
    });
    Ok(rules.collect())
}

/// Returns why pages of `origin` can't upload.
fn find_problem(rules: &[CorsRule], origin: &str) -> Option<String> {
    if !rules.iter().any(|rule| matches_any(&rule.origins, origin)) {
        return Some("no rule names it".into());
    }
    ["PUT", "POST", "GET"].into_iter().find_map(|method| find_method_problem(rules, origin, method))
}

fn find_method_problem(rules: &[CorsRule], origin: &str, method: &str) -> Option<String> {
    let matching: Vec<_> = rules
        .iter()
        .filter(|rule| matches_any(&rule.origins, origin) && rule.methods.iter().any(|name| name == method))
        .collect();
    let Some(first) = matching.first() else {
        return Some(format!("{method} is not allowed"));
    };
    let headers: &[&str] = if method == "GET" { &[] } else { &UPLOAD_HEADERS };
    let refused_header =
        |rule: &CorsRule| headers.iter().find(|header| !matches_any(&rule.headers, header)).copied();
    if matching.iter().all(|rule| refused_header(rule).is_some()) {
        let header = refused_header(first).unwrap_or_default();
        return Some(format!("the header {header} is not allowed for {method}"));
    }
    let exposes_etag = first.exposed_headers.iter().any(|header| header.eq_ignore_ascii_case("etag"));
    (method == "PUT" && !exposes_etag)
        .then(|| "ETag is not exposed for PUT, which multipart uploads need".into())
}

fn matches_any(patterns: &[String], text: &str) -> bool {
    patterns.iter().any(|pattern| matches_pattern(pattern, text))
}

/// A pattern contains at most one `*`.
fn matches_pattern(pattern: &str, text: &str) -> bool {
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
        CorsRule { origins, methods: list(methods), headers: list(headers), exposed_headers: list(exposed) }
    }

    #[test]
    fn one_rule_must_allow_all_headers_and_the_first_must_expose_the_etag() {
        let methods = ["PUT", "POST", "GET"];
        let good = || rule(&methods, &["content-type", "if-none-match", "x-amz-*"], &["etag"]);
        for (rules, expected) in [
            (vec![good()], None),
            (vec![], Some("no rule")),
            (vec![rule(&methods, &["Content-Type"], &["ETag"]), good()], None),
            (vec![rule(&["GET"], &[], &[]), good()], None),
            (vec![rule(&methods, &["content-type"], &[]), good()], Some("ETag")),
            (vec![rule(&methods, &["*"], &[]), good()], Some("ETag")),
            (vec![rule(&methods, &["content-type"], &["ETag"])], Some("if-none-match")),
            (
                vec![
                    rule(&methods, &["content-type"], &["ETag"]),
                    rule(&methods, &["if-none-match"], &["ETag"]),
                ],
                Some("if-none-match"),
            ),
            (vec![rule(&["PUT", "GET"], &["*"], &["ETag"])], Some("POST")),
        ] {
            let problem = find_problem(&rules, ORIGIN);
            let as_expected = match (&problem, expected) {
                (None, None) => true,
                (Some(problem), Some(expected)) => problem.contains(expected),
                _ => false,
            };
            assert!(as_expected, "{rules:?}: {problem:?}");
        }
    }
}
