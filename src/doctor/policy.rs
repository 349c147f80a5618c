//! Whether a queue's policy lets those in who hand over the events, and nobody else.
//!
//! What is known of their requests is compared with each statement; a condition on anything else is taken
//! to hold where it allows, and not to hold where it denies. See
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html>.

use serde_json::Value;

/// Who hands over events.
pub(super) struct Sender<'a> {
    /// `s3.amazonaws.com` and the like.
    pub(super) service: &'a str,
    /// On whose behalf; not known where a rule of EventBridge hands them over.
    pub(super) source: Option<&'a str>,
    /// The account of bucket and queue.
    pub(super) account: &'a str,
    /// The queue's ARN.
    pub(super) queue: &'a str,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Let in; these conditions, which would keep others out, are missing.
    Allowed { unbound: Vec<&'static str> },
    /// No statement lets them in.
    NotAllowed,
    /// The statement of this name keeps them out.
    Denied(String),
}

impl Sender<'_> {
    pub(super) fn judge(&self, policy: &Value) -> Verdict {
        let statements = list(&policy["Statement"]);
        let with = |effect: &str| -> Vec<&Value> {
            let meant = statements.iter().filter(|said| said["Effect"] == effect && self.is_meant(said));
            meant.copied().collect()
        };
        let denying =
            with("Deny").into_iter().find(|said| self.conditions(said).all(|holds| holds == Some(true)));
        if let Some(denying) = denying {
            return Verdict::Denied(denying["Sid"].as_str().unwrap_or("without a Sid").to_owned());
        }
        let mut allowing = with("Allow");
        allowing.retain(|said| self.conditions(said).all(|holds| holds != Some(false)));
        if allowing.is_empty() {
            return Verdict::NotAllowed;
        }
        let mut unbound = self.bounds();
        unbound.retain(|bound| allowing.iter().any(|said| !has_condition(said, bound)));
        Verdict::Allowed { unbound }
    }

    /// A bucket's ARN does not say whose bucket it is, those of topics and rules do.
    fn bounds(&self) -> Vec<&'static str> {
        match self.service {
            "s3.amazonaws.com" => vec!["aws:SourceArn", "aws:SourceAccount"],
            _ => vec!["aws:SourceArn"],
        }
    }

    fn is_meant(&self, statement: &Value) -> bool {
        let principal = &statement["Principal"];
        let who = principal == "*"
            || texts(&principal["AWS"]).any(|aws| aws == "*")
            || texts(&principal["Service"]).any(|service| service == self.service || service == "*");
        let what =
            texts(&statement["Action"]).any(|action| like(&action.to_ascii_lowercase(), "sqs:sendmessage"));
        let resource = &statement["Resource"];
        who && what && (resource.is_null() || texts(resource).any(|arn| like(arn, self.queue)))
    }

    /// Of each condition whether it holds; `None` where that is not known.
    fn conditions<'a>(&'a self, statement: &'a Value) -> impl Iterator<Item = Option<bool>> + 'a {
        conditions(statement).map(|(operator, key, values)| self.holds(operator, key, values))
    }

    fn holds(&self, operator: &str, key: &str, values: &Value) -> Option<bool> {
        let known = match key.to_ascii_lowercase().as_str() {
            "aws:sourcearn" => self.source?,
            "aws:sourceaccount" => self.account,
            // All of AWS's services speak TLS.
            "aws:securetransport" => "true",
            _ => return None,
        };
        let operator = operator.trim_end_matches("IfExists");
        let any = match operator {
            "StringEquals" | "StringNotEquals" => texts(values).any(|value| value == known),
            "Bool" => list(values).into_iter().any(|value| value == known || *value == (known == "true")),
            "StringEqualsIgnoreCase" | "StringNotEqualsIgnoreCase" => {
                texts(values).any(|value| value.eq_ignore_ascii_case(known))
            }
            "StringLike" | "StringNotLike" | "ArnLike" | "ArnNotLike" | "ArnEquals" | "ArnNotEquals" => {
                texts(values).any(|value| like(value, known))
            }
            _ => return None,
        };
        Some(any != operator.contains("Not"))
    }
}

/// Operator, key and values of each condition.
fn conditions(statement: &Value) -> impl Iterator<Item = (&str, &str, &Value)> {
    let operators = statement["Condition"].as_object().into_iter().flatten();
    operators.flat_map(|(operator, keys)| {
        let keys = keys.as_object().into_iter().flatten();
        keys.map(move |(key, values)| (operator.as_str(), key.as_str(), values))
    })
}

fn has_condition(statement: &Value, wanted: &str) -> bool {
    conditions(statement).any(|(_, key, _)| key.eq_ignore_ascii_case(wanted))
}

fn list(value: &Value) -> Vec<&Value> {
    match value {
        Value::Null => Vec::new(),
        Value::Array(values) => values.iter().collect(),
        value => vec![value],
    }
}

fn texts(value: &Value) -> impl Iterator<Item = &str> {
    list(value).into_iter().filter_map(Value::as_str)
}

/// Whether `text` is what `pattern` says, in which `*` is any text and `?` any character.
fn like(pattern: &str, text: &str) -> bool {
    let Some(first) = pattern.chars().next() else { return text.is_empty() };
    let rest = &pattern[first.len_utf8()..];
    match first {
        '*' => text.char_indices().any(|(at, _)| like(rest, &text[at..])) || like(rest, ""),
        '?' => text.chars().next().is_some_and(|any| like(rest, &text[any.len_utf8()..])),
        first => text.strip_prefix(first).is_some_and(|text| like(rest, text)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const S3: Sender<'_> = Sender {
        service: "s3.amazonaws.com",
        source: Some("arn:aws:s3:::photos"),
        account: "111122223333",
        queue: "arn:aws:sqs:eu-central-1:111122223333:events",
    };

    fn allow(condition: &Value) -> Value {
        json!({"Effect": "Allow", "Principal": {"Service": "s3.amazonaws.com"}, "Action": "sqs:SendMessage",
            "Resource": S3.queue, "Condition": condition})
    }

    fn deny(condition: &Value) -> Value {
        json!({"Sid": "No", "Effect": "Deny", "Principal": "*", "Action": "sqs:*", "Resource": "*",
            "Condition": condition})
    }

    fn bound() -> Value {
        json!({"StringEquals": {"aws:SourceAccount": S3.account}, "ArnEquals": {"aws:SourceArn": S3.source}})
    }

    fn judge(statements: &[Value]) -> Verdict {
        S3.judge(&json!({ "Statement": statements }))
    }

    #[test]
    fn conditions_on_source_and_account_must_hold() {
        let allowed = |unbound: &[&'static str]| Verdict::Allowed { unbound: unbound.to_vec() };
        let both = ["aws:SourceArn", "aws:SourceAccount"];
        for (condition, verdict) in [
            (bound(), allowed(&[])),
            (json!({}), allowed(&both)),
            (json!({"ArnLike": {"AWS:sourcearn": "arn:aws:s3:*:*:pho*"}}), allowed(&both[1..])),
            (json!({"StringEquals": {"aws:SourceAccount": ["1", S3.account]}}), allowed(&both[..1])),
            (json!({"StringEquals": {"aws:SourceAccount": "444455556666"}}), Verdict::NotAllowed),
            (json!({"ArnEquals": {"aws:SourceArn": "arn:aws:s3:::other"}}), Verdict::NotAllowed),
            (json!({"StringEquals": {"aws:SourceArn": "arn:aws:s3:::*"}}), Verdict::NotAllowed),
            (json!({"StringNotEquals": {"aws:SourceAccount": S3.account}}), Verdict::NotAllowed),
            (json!({"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}), allowed(&both)),
        ] {
            assert_eq!(judge(&[allow(&condition)]), verdict, "{condition}");
        }
    }

    #[test]
    fn a_second_statement_may_let_in_whom_the_first_does_not() {
        let other = allow(&json!({"ArnEquals": {"aws:SourceArn": "arn:aws:s3:::other"}}));
        assert_eq!(judge(&[other, allow(&bound())]), Verdict::Allowed { unbound: vec![] });
    }

    #[test]
    fn a_statement_that_denies_wins_where_it_is_meant() {
        let denied = || Verdict::Denied("No".into());
        let open = || Verdict::Allowed { unbound: vec![] };
        for (condition, verdict) in [
            (json!({}), denied()),
            (json!({"Bool": {"aws:SecureTransport": "false"}}), open()),
            (json!({"Bool": {"aws:SecureTransport": false}}), open()),
            (json!({"ArnNotEquals": {"aws:SourceArn": "arn:aws:s3:::other"}}), denied()),
            (json!({"ArnNotEquals": {"aws:SourceArn": S3.source}}), open()),
            (json!({"StringNotEqualsIfExists": {"aws:SourceAccount": "444455556666"}}), denied()),
            (json!({"StringNotEquals": {"aws:PrincipalOrgID": "o-1"}}), open()),
        ] {
            assert_eq!(judge(&[allow(&bound()), deny(&condition)]), verdict, "{condition}");
        }
    }

    #[test]
    fn a_statement_for_others_is_none() {
        for (field, value) in [
            ("Principal", json!({"Service": "sns.amazonaws.com"})),
            ("Action", json!(["sqs:ReceiveMessage"])),
            ("Resource", json!("arn:aws:sqs:eu-central-1:111122223333:other")),
        ] {
            let mut statement = allow(&bound());
            statement[field] = value;
            assert_eq!(judge(&[statement]), Verdict::NotAllowed, "{field}");
        }
        assert_eq!(S3.judge(&Value::Null), Verdict::NotAllowed);
    }

    #[test]
    fn a_rule_of_event_bridge_may_be_any() {
        let rules = Sender { service: "events.amazonaws.com", source: None, ..S3 };
        let mut statement = allow(&json!({"ArnEquals": {"aws:SourceArn": "arn:aws:events:::rule/photos"}}));
        statement["Principal"] = json!({"Service": "events.amazonaws.com"});
        let policy = json!({ "Statement": statement });
        assert_eq!(rules.judge(&policy), Verdict::Allowed { unbound: vec![] });
    }
}
